"""The processes of nodes in simulated time: they can be killed, and stopped for a while.

A client is blocking code and runs as a greenlet (`clockwork.Process`). A node is a loop that takes one event after the other; its
process is a gate that all its events go through.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sparkps.testing.simulation.clockwork import Clockwork, Process


class Host:
    """The process of a node.

    Parameters
    ----------
    clockwork : Clockwork
    name : str
        For traces, partitions and messages to people.

    Examples
    --------
    >>> clockwork = Clockwork()
    >>> host = Host(clockwork, "node 0")
    >>> host.stop()
    >>> host.do(print, "late")
    >>> host.go_on()
    >>> clockwork.run(until=1.0)
    late
    >>> host.kill()
    >>> host.do(print, "never")
    """

    def __init__(self, clockwork: Clockwork, name: str) -> None:
        self.name = name
        #: Was killed.
        self.dead = False
        #: Nothing happens in it until it goes on; what has come meanwhile waits, as in the buffers of its sockets.
        self.stopped = False
        #: A node's process has no end of its own.
        self.ended = False
        #: What the node does when a connection that it has opened has a message for it.
        self.on_wake: Callable[[], None] = lambda: None
        #: Its threads that have not ended.
        self.threads: list[Process] = []
        self._clockwork = clockwork
        self._waiting: list[tuple[Callable[..., None], tuple[Any, ...]]] = []

    def do(self, event: Callable[..., None], *args: Any) -> None:
        """Let something happen in the process: now, when it goes on, or never if it is dead."""
        if self.stopped:
            self._waiting.append((event, args))
        elif not self.dead:
            event(*args)

    def wake(self) -> None:
        """A connection that the node has opened has a message for it."""
        self.do(self.on_wake)

    def stop(self) -> None:
        """As SIGSTOP: it stands still, threads and all, until `go_on`."""
        self.stopped = not self.dead
        for thread in self.threads:
            thread.stop()

    def go_on(self) -> None:
        """As SIGCONT: whatever has come meanwhile happens at the next event."""
        if not self.stopped:
            return
        self.stopped, waiting = False, self._waiting
        self._waiting = []
        for thread in self.threads:
            thread.go_on()
        for event, args in waiting:
            self._clockwork.at(self._clockwork.now, self.do, event, *args)

    def kill(self) -> None:
        """As SIGKILL: it does nothing any more, and nothing that is sent to it is taken."""
        self.dead, self.stopped, self._waiting = True, False, []
        threads, self.threads = self.threads, []
        for thread in threads:
            thread.kill()


__all__ = ["Host"]
