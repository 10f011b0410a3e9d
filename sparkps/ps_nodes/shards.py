"""The one way in for changes of a node's shards.

Everything that changes rows is an `Entry`: a write of a session or of a rank, the sums of a clock that closes, a server function
that writes. An entry is *ordered*, then *carried out*, then *done*. The order of entries at each shard is fixed under one
lock, together with the decision that the entry counts (marks, clocks), and holds to the end: an entry is carried out when all
earlier ones with a shard of its own are done. So what an acknowledgement says is in the tables, also for a duplicate
of a write that is still being carried out, and a snapshot taken as an entry sees marks and rows that agree.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sparkps.errors import TierError
from sparkps.ps_nodes.replication.copies import NOWHERE, Copies, Places
from sparkps.ps_nodes.turns import ShardSet, Turns
from sparkps.wire.buckets import union
from sparkps.wire.marks import SessionMarks

log = logging.getLogger(__name__)

#: What an entry's change returns if it goes on elsewhere: `Shards.finish` follows.
LATER = object()


class Pool(Protocol):
    """Threads for work that takes time."""

    #: How many there are.
    threads: int

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run `function` on one of them; what it raises is logged."""


@dataclass(slots=True, eq=False)
class Entry:
    """One change of some shards."""

    #: What it changes, or whose changes it waits for, by the number in whose order that is done.
    shards: ShardSet
    #: Changes them, on any thread; its result goes to `done`.
    change: Callable[[], Any]
    #: Told the result, or what was raised, when the change is in the tables. On any thread; the shards are free by then.
    done: Callable[[Any, BaseException | None], None]
    #: Buckets that it changes and that are copied elsewhere: nodes that copy some get an entry each, in the order of the entries here.
    ships: int = 0
    #: Buckets in which it repeats what was done before: that must be kept by those who copy it, too.
    repeats: int = 0
    #: Where these entries go, to be filled by whoever has ordered this one. Owner: `Shards`.
    places: Places = NOWHERE
    #: It had to wait for its turn. Owner: `Shards`.
    waited: bool = field(default=False)


class Shards:
    """Order and exclusion of all changes on one node. Thread-safe.

    Parameters
    ----------
    pool : Pool
        Carries out entries that had to wait for their turn.
    copies : Copies, optional
        Where changes are shipped.
    """

    def __init__(self, pool: Pool, copies: Copies | None = None) -> None:
        self._pool = pool
        self._copies = copies
        self._lock = threading.Lock()
        #: Owner of this and all below: `_lock`.
        self._turns = Turns[Entry]()
        #: The buckets of which the node is the primary, as bits: writes of clients to others are refused. Changed under `_lock` and
        #: those of all groups.
        self.led = -1
        #: What sessions outside groups have written; ranks' marks are their group's.
        self.marks = SessionMarks()

    def order(self, entry: Entry) -> bool:
        """Give the entry its place; whether it is its turn: then `carry_out` must follow."""
        with self._lock:
            return self._enter(entry)

    def order_once(
        self, writer: int, stamp: int, tables: ShardSet, make: Callable[[dict[int, int]], Entry]
    ) -> tuple[Entry, bool]:
        """Order a session's write where it is new.

        Parameters
        ----------
        writer, stamp : int
            See `wire.marks`.
        tables : dict
            By table id, the buckets that it writes.
        make : callable
            From the same with the buckets in which it is new, the entry.

        Returns
        -------
        Entry
        bool
            Whether it is to be carried out now; else it waits for its turn.
        """
        with self._lock:
            self.check_led(tables)
            new = self._new(writer, stamp, tables)
            entry = make(new)
            if self._copies is not None and self._copies.active:
                entry.ships = union(new.values())
                entry.repeats = union(tables.values()) & ~entry.ships
            return entry, self._enter(entry)

    def write_at_once(
        self, writer: int, stamp: int, tables: ShardSet, change: Callable[[dict[int, int]], None]
    ) -> tuple[dict[int, int], Places] | None:
        """Carry out a session's small write where it is new, if nobody is changing any shard: where that was, and is shipped to.

        The lock is held meanwhile, so that the write needs no turn: whoever comes after it finds it done. Parameters are those of
        `order_once`; what `change` raises is raised. None: it was not carried out.
        """
        with self._lock:
            if not self._turns.is_idle:
                return None
            self.check_led(tables)
            new = self._new(writer, stamp, tables)
            change(new)
            copies = self._copies
            if copies is None or not copies.active:
                return new, NOWHERE
            fresh = union(new.values())
            return new, copies.reserve(fresh) + copies.latest(union(tables.values()) & ~fresh)

    def check_led(self, tables: ShardSet) -> None:
        """Raise unless the node leads all of these; under the lock that decides.

        Raises
        ------
        TierError
            The placement has changed since the request was looked at.
        """
        if self.led != -1 and union(tables.values()) & ~self.led:
            raise TierError("A write must go to the primary of its buckets. They have moved: it is sent again.")

    def _new(self, writer: int, stamp: int, tables: ShardSet) -> dict[int, int]:
        take, new = self.marks.take, {}
        for table, buckets in tables.items():
            new[table] = take(writer, stamp, table, buckets)
        return new

    def apply(self, entry: Entry) -> bool:
        """Order an entry, and carry it out when it is its turn: whether that was now, or will be later on the pool."""
        its_turn = self.order(entry)
        if its_turn:
            self.carry_out(entry)
        return its_turn

    def order_with(self, entry: Entry, look: Callable[[], None]) -> bool:
        """As `order`; `look` sees marks as they are between this entry and all before it."""
        with self._lock:
            look()
            return self._enter(entry)

    def order_at_once(self, entries: Sequence[Entry], look: Callable[[], None]) -> list[Entry]:
        """As `order_with`, of several entries between which there is no other; returns those whose turn it is."""
        with self._lock:
            look()
            return [entry for entry in entries if self._enter(entry)]

    def when_done(self, shards: ShardSet, then: Callable[[], None]) -> None:
        """Call `then` on the pool when all changes that have their place in these shards now are done.

        Each shard is waited for on its own: one that a user's function is busy with keeps no writers from the others.
        """
        left, lock = [len(shards) + 1], threading.Lock()

        def one(_: Any, __: BaseException | None) -> None:
            with lock:
                left[0] -= 1
                is_last = not left[0]
            if is_last:
                self._pool.submit(then)

        for table, buckets in shards.items():
            self.apply(Entry({table: buckets}, lambda: None, one))
        one(None, None)

    def still(self) -> threading.Lock:
        """The lock under which entries are ordered: while it is held no change counts anew."""
        return self._lock

    def _enter(self, entry: Entry) -> bool:
        if self._copies is not None and self._copies.active:
            entry.places = self._copies.reserve(entry.ships) + self._copies.latest(entry.repeats)
        if self._turns.enter(entry.shards, entry):
            return True
        entry.waited = True
        return False

    def carry_out(self, entry: Entry) -> None:
        """Change the shards. Whatever comes of it, those who wait for the entry's shards go on."""
        result, error = None, None
        try:
            result = entry.change()
        except BaseException as raised:  # told to whoever asked for the change
            error = raised
        if result is not LATER:
            self.finish(entry, result, error)

    def finish(self, entry: Entry, result: Any, error: BaseException | None) -> None:
        """The change is in the tables, or has failed."""
        with self._lock:
            following = self._turns.leave(entry.shards)
        for each in following:
            self._pool.submit(self.carry_out, each)
        try:
            entry.done(result, error)
        except Exception:
            log.exception("what came of a change could not be told")
        # Both know the entry, as a rule: what they hold, rows and tables among it, is free now, and not when cycles are looked for.
        entry.change, entry.done = _over, _is_told

    def forget(self, writer: int) -> Places:
        """A session will repeat nothing any more; returns where that is shipped to."""
        with self._lock:
            self.marks.forget(writer)
            return NOWHERE if self._copies is None else self._copies.reserve_everywhere()


def _over() -> None:
    """The change of an entry that is done."""


def _is_told(result: Any, error: BaseException | None) -> None:
    """Whom an entry tells that has told."""
