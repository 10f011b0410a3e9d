"""Simulated time: events in order of their times, and processes that run blocking code between them.

A process is a greenlet. It runs until it waits; then the events go on, until one of them wakes it or its time is over. So the
real client, which blocks, runs on one thread, and what happens is a function of the events alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

try:
    from greenlet import getcurrent, greenlet
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError("sparkps.testing.simulation needs greenlet: pip install 'sparkps[testing]'.") from missing


class Killed(BaseException):
    """Thrown into a process that ends here: whatever it still does as it unwinds reaches nobody."""


class Clockwork:
    """The time, and what is to happen.

    Examples
    --------
    >>> clockwork = Clockwork()
    >>> clockwork.after(2.0, print, "second")
    >>> clockwork.after(1.0, print, "first")
    >>> clockwork.run(until=10.0)
    first
    second
    >>> clockwork.now
    2.0
    """

    def __init__(self) -> None:
        #: Simulated seconds.
        self.now = 0.0
        #: (time, number, event, arguments); events of one time happen in the order in which they were asked for.
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = itertools.count().__next__
        self._halted = False

    def at(self, time: float, event: Callable[..., None], *args: Any) -> None:
        """Let something happen at `time`."""
        heappush(self._events, (time, self._number(), event, args))

    def after(self, seconds: float, event: Callable[..., None], *args: Any) -> None:
        """Let something happen `seconds` from now."""
        heappush(self._events, (self.now + seconds, self._number(), event, args))

    def run(self, until: float, done: Callable[[], bool] | None = None) -> None:
        """Let everything happen up to a time, or until `done`, or until somebody calls `halt`."""
        events, pop = self._events, heappop
        self._halted = False
        while events and events[0][0] <= until and not self._halted:
            if done is not None and done():
                return
            self.now, _, event, args = pop(events)
            event(*args)

    def halt(self) -> None:
        """Nothing more happens in this `run`."""
        self._halted = True


class Process:
    """Blocking code in simulated time.

    Parameters
    ----------
    clockwork : Clockwork
    name : str
        For traces and messages to people.
    body : callable
        Its code; takes the process. It begins at the next event.
    ended : callable
        Told of it when it has come to its end, at the next event.
    delay : float
        Seconds until it begins.
    """

    def __init__(
        self,
        clockwork: Clockwork,
        name: str,
        body: Callable[[Process], None],
        ended: Callable[[Process], None] = lambda process: None,
        delay: float = 0.0,
    ) -> None:
        self.name = name
        #: Ended from outside.
        self.dead = False
        #: Has come to its end, by itself or by being killed.
        self.ended = False
        #: Stands still until `go_on`.
        self.stopped = False
        #: What it raised.
        self.error: Exception | None = None
        self._clockwork = clockwork
        self._body = body
        self._tell = ended
        #: What runs it, from its beginning to its end.
        self._greenlet: Any = None
        #: Number of waits so far: a wake-up that was meant for an earlier one is none for this.
        self._waits = 0
        self._asleep = self._light = False
        #: What would have happened in it while it stood still.
        self._missed: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        clockwork.after(delay, self._begin)

    def _begin(self) -> None:
        if self.stopped:
            self._missed.append((self._begin, ()))
            return
        self._greenlet = _spare.pop() if _spare and _spare[-1].parent is getcurrent() else greenlet(_serve)
        self._greenlet.switch(self)

    def _run(self) -> None:
        try:
            if not self.dead:
                self._body(self)
        except Killed:
            pass
        except Exception as error:
            self.error = error
        self.ended, self._greenlet = True, None
        self._clockwork.at(self._clockwork.now, self._tell, self)

    def pause(self, seconds: float, light: bool = False) -> None:
        """Wait; called by the process itself. A `light` sleeper can be woken before its time is over."""
        if self.dead:
            raise Killed
        self._waits += 1
        self._asleep, self._light = True, light
        self._clockwork.after(seconds if seconds > 0.0 else 0.0, self._resume, self._waits)
        self._greenlet.parent.switch()
        if self.dead:
            raise Killed

    def wake(self) -> None:
        """End a light sleep, at the next event."""
        if self._asleep and self._light:
            self._light = False
            self._clockwork.at(self._clockwork.now, self._resume, self._waits)

    def do(self, event: Callable[..., None], *args: Any) -> None:
        """Let something happen in the process: now, when it goes on after a stop, or never if it is dead."""
        if self.stopped:
            self._missed.append((self.do, (event, *args)))
        elif not self.dead:
            event(*args)

    def stop(self) -> None:
        """As SIGSTOP: let the process stand still until `go_on`. It cannot stop itself."""
        self.stopped = not self.dead

    def go_on(self) -> None:
        """As SIGCONT: what has come meanwhile happens at the next event."""
        self.stopped, missed = False, self._missed
        self._missed = []
        for event, args in missed:
            self._clockwork.at(self._clockwork.now, event, *args)

    def kill(self) -> None:
        """End the process where it stands; called by itself, it does not return."""
        self.dead = True
        self.go_on()
        if getcurrent() is self._greenlet:
            raise Killed
        if self._asleep and not self.ended:
            self._resume(self._waits)

    def _resume(self, wait: int) -> None:
        if self.stopped:
            self._missed.append((self._resume, (wait,)))
        elif self._asleep and wait == self._waits:
            self._asleep = False
            self._greenlet.switch()


#: Greenlets that have run processes to their ends, and can run others: to make one costs more than most processes do.
_spare: list[greenlet] = []


def _serve(process: Process) -> None:
    """The life of a greenlet: one process after the other."""
    me = getcurrent()
    while True:
        me.process = process
        process._run()
        me.process = None
        _spare.append(me)
        process = me.parent.switch()


def running() -> Process | None:
    """The process whose code is running; None between processes."""
    return getattr(getcurrent(), "process", None)
