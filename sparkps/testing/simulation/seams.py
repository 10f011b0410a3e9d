"""Where the simulation reaches into client and node, beyond what they are given: what is random, sizes, and threads.

A thread of a node's pool is a greenlet, as a client is. It gives way to others where a real one may: before it changes shards or
reads them, and before what it has to tell is told by the I/O thread.
"""

from __future__ import annotations

import itertools
import random
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

from sparkps.client import keyset, routing, transport
from sparkps.ps_nodes import closing, dispatch, io_thread, sessions, shards
from sparkps.ps_nodes.handlers import calls, rows
from sparkps.ps_nodes.replication import handover
from sparkps.testing.simulation.clockwork import Clockwork, Process, running
from sparkps.testing.simulation.hosts import Host
from sparkps.wire.buckets import unpacked
from sparkps.wire.placement import Placement, check_placement, node_order

#: What `threading.get_ident` says on an I/O thread, and on a pool's.
_IO, _POOL = 1, 2


@dataclass(frozen=True)
class Sizes:
    """What counts as large in a node, so that small data takes the ways of large data; None: as it is."""

    #: Requests of more bytes run on the pool.
    inline_bytes: int | None = None
    #: Closes of more rows run on the pool.
    heavy_rows: int | None = None
    #: Above so many sessions a node forgets those that lose nothing by it, when they were silent for so long (seconds).
    most_sessions: int | None = None
    idle: float | None = None


AS_IT_IS = Sizes()

#: Seconds after which a client that waits looks around though nothing is due. A real one looks more often: it may be interrupted,
#: and nobody wakes it when the coordinator has answered.
LOOK_EVERY = 10.0


class PoolThread(Process):
    """Work on a node's pool."""

    def __init__(
        self,
        clockwork: Clockwork,
        body: Callable[[Process], None],
        ended: Callable[[Process], None],
        wait: Callable[[], float],
    ) -> None:
        super().__init__(clockwork, "pool", body, ended, delay=wait())
        #: How long it gives way (simulated seconds).
        self.wait = wait


class SimulatedPool:
    """A node's threads.

    Parameters
    ----------
    clockwork : Clockwork
    rng : random.Random or None
        Chooses when work begins, and how long it gives way; without it nothing waits.
    longest : float
        Longest wait of a thread (simulated seconds).
    host : Host
        The process that the threads are of.
    """

    def __init__(self, clockwork: Clockwork, rng: random.Random | None, longest: float, host: Host) -> None:
        self.threads = 3
        self._clockwork = clockwork
        self._rng = rng
        self._longest = longest
        self._host = host

    @property
    def busy(self) -> int:
        """Pieces of work that have not ended."""
        return len(self._host.threads)

    def wait(self) -> float:
        """Seconds until a thread goes on."""
        return self._rng.random() * self._longest if self._rng else 0.0

    def submit(self, function: Callable[..., Any], *args: Any) -> None:
        """Run it on a thread."""
        if self._host.dead:
            return

        def body(_: Process) -> None:
            try:
                function(*args)
            finally:
                if thread in running_here:
                    running_here.remove(thread)

        thread, running_here = PoolThread(self._clockwork, body, _worked, self.wait), self._host.threads
        running_here.append(thread)


def _worked(thread: Process) -> None:
    assert thread.error is None, f"what runs on a node's pool tells whom it concerns, and raises nothing: {thread.error!r}"


def _give_way() -> None:
    """If this is a thread of a pool, others may run now."""
    thread = running()
    if isinstance(thread, PoolThread):
        thread.pause(thread.wait())


def _giving_way(method: Callable[..., Any]) -> Callable[..., Any]:
    def first_others(*args: Any) -> Any:
        _give_way()
        return method(*args)

    return first_others


def _get_ident() -> int:
    return _POOL if isinstance(running(), PoolThread) else _IO


#: The order of a placement: a tier of a few nodes has one, and every session would work it out again.
_node_order = lru_cache(maxsize=64)(node_order)

#: Placements that were found to be in order, by identity.
_placements: dict[int, Placement] = {}


def _checked_once(placement: Placement, nodes: Iterable[int] | None = None) -> Placement:
    """As `check_placement`: the few placements of the simulated tiers are the same objects in all schedules."""
    if id(placement) not in _placements:
        _placements[id(placement)] = check_placement(placement, nodes)
    return placement


@contextmanager
def determined(seed: int, sizes: Sizes, used: Collection[int]) -> Iterator[None]:
    """While it lasts, all that client and node draw follows from the seed, and threads are simulated ones.

    Nodes hold those of their buckets that are `used` alone: empty ones would cost more than all that happens.
    """

    def sets_used(placement: Placement) -> list[tuple[int, ...]]:
        return [tuple(row) if bucket in used else (-1,) for bucket, row in enumerate(placement)]

    def unpacked_used(data: bytes) -> int:
        return unpacked(data) & mask

    mask = sum(1 << bucket for bucket in used)
    changes: list[tuple[Any, str, Any]] = [
        (calls, "unpacked", unpacked_used),
        (secrets, "randbits", random.Random(f"ids {seed}").getrandbits),
        (keyset, "_next_id", itertools.count(1)),
        (handover, "replica_sets", sets_used),
        (handover, "check_placement", _checked_once),
        (routing, "node_order", _node_order),
        (transport, "LOOK_EVERY", LOOK_EVERY),
        (transport, "LOOK_EVERY_ASKING", LOOK_EVERY),
        (io_thread, "threading", SimpleNamespace(get_ident=_get_ident)),
        (shards.Shards, "carry_out", _giving_way(shards.Shards.carry_out)),
        (rows, "_pull", _giving_way(rows._pull)),
    ]
    given = [
        (dispatch, "INLINE_BYTES", sizes.inline_bytes),
        (closing, "HEAVY_ROWS", sizes.heavy_rows),
        (sessions, "MOST_SESSIONS", sizes.most_sessions),
        (sessions, "IDLE", sizes.idle),
    ]
    changes += [change for change in given if change[2] is not None]
    before = [(where, name, getattr(where, name)) for where, name, _ in changes]
    for where, name, value in changes:
        setattr(where, name, value)
    try:
        yield
    finally:
        for where, name, value in before:
            setattr(where, name, value)
