"""The processes of a tier: found in `ps.status()`, and killed or stopped, each only while it is provably the one that was meant.

A process id may be given to another process as soon as its own has ended. So each process is named when it is found
(`sparkps.lifeline`), and looked at again before a signal is sent.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sparkps import lifeline
from sparkps.errors import DeadlineExceeded, InvalidInput

#: Seconds that waiting takes at most, unless said otherwise, and between two looks.
TIMEOUT, INTERVAL = 30.0, 0.02

#: Part of the command line of processes of each kind.
_NODE, _RELAYED_NODE = "sparkps.ps_nodes", "sparkps.testing.relayed_node"
_COORDINATOR, _WORKERS = "sparkps.driver_bridge.coordinator.server", "pyspark.daemon"


class HasStatus(Protocol):
    """A `PSContext`, or whatever else has its status."""

    def status(self) -> dict[str, Any]:
        """See `PSContext.status`."""


@dataclass(frozen=True)
class ProcessName:
    """A process, by a name that no other process ever has.

    Examples
    --------
    >>> here = ProcessName.of(os.getpid(), "this test")
    >>> here.runs
    True
    """

    pid: int
    #: As `lifeline.this_process` names it.
    name: str
    #: For messages.
    what: str

    @classmethod
    def of(cls, pid: int, what: str) -> ProcessName:
        """The process that has an id now.

        Raises
        ------
        InvalidInput
            None has it, or it has ended.
        """
        process = cls(pid, lifeline.name_of(pid), what)
        if not process.runs:
            raise InvalidInput(f"The process of {what} must run. Process {pid} does not, or not on this host.")
        return process

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return bool(self.name) and not lifeline.is_gone(self.name)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; never to another process that has its id by now.

        Raises
        ------
        InvalidInput
            It has ended.
        """
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            handle = -1
        with ExitStack() as stack:
            if handle >= 0:
                stack.callback(os.close, handle)
            if handle < 0 or not self.runs:
                raise InvalidInput(f"The process of {self.what} must run to be sent {number.name}. Process {self.pid} has ended.")
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, number)

    def kill(self, timeout: float = TIMEOUT) -> None:
        """As `kill -9`, and wait until it is gone."""
        self.send(signal.SIGKILL)
        wait_until(lambda: not self.runs, timeout, what=f"the end of {self.what} (process {self.pid})")

    @contextmanager
    def stopped(self) -> Iterator[ProcessName]:
        """It stands still (SIGSTOP) while the context lasts, and goes on (SIGCONT) at its end, whatever happens; unless it was killed."""
        self.send(signal.SIGSTOP)
        try:
            yield self
        finally:
            with suppress(InvalidInput):
                self.send(signal.SIGCONT)


def wait_until(
    condition: Callable[[], object], timeout: float = TIMEOUT, interval: float = INTERVAL, what: str = "the condition"
) -> float:
    """Wait for a condition; returns how many seconds it took.

    Raises
    ------
    DeadlineExceeded
        It was not true within `timeout` seconds; the message names `what`.

    Examples
    --------
    >>> wait_until(lambda: True) < 1.0
    True
    """
    began, pause = time.monotonic(), threading.Event()
    while not condition():
        if time.monotonic() - began > timeout:
            raise DeadlineExceeded(f"Within {timeout:g} s must come {what}. It has not.")
        pause.wait(interval)
    return time.monotonic() - began


# ---- nodes -------------------------------------------------------------------------------------------------------------


def node_process(ps: HasStatus, node: int) -> ProcessName:
    """The process of a node.

    Parameters
    ----------
    ps : PSContext
    node : int
        Its id, as `ps.status()["nodes"]` has it.
    """
    nodes = {one["id"]: one for one in ps.status()["nodes"]}
    if node not in nodes:
        raise InvalidInput(f"A node must be the id, an int, of one of the tier: {sorted(nodes)}. Got {node!r} instead.", node=node)
    if nodes[node]["state"] != "up":
        raise InvalidInput(f"Node {node} must be up. It is {nodes[node]['state']}.", node=node)
    return _checked(ProcessName.of(nodes[node]["pid"], f"node {node}"), _NODE, _RELAYED_NODE)


def nodes_up(ps: HasStatus) -> list[int]:
    """Ids of the nodes that are up, ascending."""
    return sorted(one["id"] for one in ps.status()["nodes"] if one["state"] == "up")


def kill_node(ps: HasStatus, node: int) -> ProcessName:
    """Kill a node with SIGKILL, and wait until its process is gone."""
    process = node_process(ps, node)
    process.kill()
    return process


@contextmanager
def stop_node(ps: HasStatus, node: int) -> Iterator[ProcessName]:
    """A node stands still while the context lasts, and goes on at its end, whatever happens.

    Examples
    --------
    >>> with stop_node(ps, 1):      # doctest: +SKIP
    ...     train()
    """
    with node_process(ps, node).stopped() as process:
        yield process


def continue_node(process: ProcessName) -> None:
    """Let a process go on that stands still, before the end of its context; nothing happens if it runs."""
    process.send(signal.SIGCONT)


# ---- the coordinator ---------------------------------------------------------------------------------------------------


def coordinator_process(ps: HasStatus) -> ProcessName:
    """The process of the coordinator."""
    status = ps.status().get("coordinator")
    pid = status.get("pid") if isinstance(status, dict) else None
    found = [pid] if pid else [one for one in children_of(os.getpid()) if _COORDINATOR in command_of(one)]
    if len(found) != 1:
        raise InvalidInput(f"One coordinator must be a child of this process. Got {len(found)} instead: {found}.")
    return _checked(ProcessName.of(found[0], "the coordinator"), _COORDINATOR)


def kill_coordinator(ps: HasStatus) -> ProcessName:
    """Kill the coordinator with SIGKILL, and wait until its process is gone."""
    process = coordinator_process(ps)
    process.kill()
    return process


# ---- workers -----------------------------------------------------------------------------------------------------------


def worker_processes(root: int | None = None) -> list[ProcessName]:
    """Spark's Python workers below a process, by default this one: `local[*]` runs its tasks in them. Their daemons are not among them."""
    parents = _parents()
    servers = [pid for pid in descendants_of(os.getpid() if root is None else root) if _WORKERS in command_of(pid)]
    daemons = [pid for pid in servers if _WORKERS not in command_of(parents.get(pid, 0))]
    forked = [pid for pid in servers if parents.get(pid) in daemons]
    names = []
    for pid in forked:
        with suppress(InvalidInput):  # it has ended meanwhile
            names.append(ProcessName.of(pid, "a Python worker"))
    return names


def kill_worker(pid: int) -> ProcessName:
    """Kill one of Spark's Python workers with SIGKILL.

    Parameters
    ----------
    pid : int
        As the worker said itself, as by `worker.report(pid=os.getpid())`: only it knows which rank it has.

    Raises
    ------
    InvalidInput
        It is none below this process.
    """
    found = {one.pid: one for one in worker_processes()}
    if pid not in found:
        raise InvalidInput(f"Process {pid} must be a Python worker of this driver. These are: {sorted(found)}.")
    found[pid].kill()
    return found[pid]


# ---- /proc -------------------------------------------------------------------------------------------------------------


def command_of(pid: int) -> list[str]:
    """Command line of a process; empty if it is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    return []


def children_of(pid: int) -> list[int]:
    """Children of a process, ascending."""
    return sorted(child for child, parent in _parents().items() if parent == pid)


def descendants_of(pid: int) -> list[int]:
    """Children of a process, their children, and so on, ascending."""
    parents, found = _parents(), {pid}
    more = True
    while more:
        below = {child for child, parent in parents.items() if parent in found} - found
        more = bool(below)
        found |= below
    return sorted(found - {pid})


def _parents() -> dict[int, int]:
    """Every process, and its parent."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError, ValueError, IndexError):
                # The second field is the name of the program, in parentheses, and may hold anything.
                found[int(entry.name)] = int((entry / "stat").read_bytes().rpartition(b")")[2].split()[1])
    return found


def _checked(process: ProcessName, *modules: str) -> ProcessName:
    """A process that runs one of some modules; whatever else has the id is left alone."""
    if not set(modules) & set(command_of(process.pid)):
        raise InvalidInput(
            f"Process {process.pid} must be {process.what}, which runs {modules[0]}. It runs {' '.join(command_of(process.pid))!r}."
        )
    return process


__all__ = [
    "ProcessName",
    "continue_node",
    "coordinator_process",
    "kill_coordinator",
    "kill_node",
    "kill_worker",
    "node_process",
    "nodes_up",
    "stop_node",
    "wait_until",
    "worker_processes",
]
