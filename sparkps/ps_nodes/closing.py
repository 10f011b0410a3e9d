"""A worker group on a node, from its clocks to its tables: closes that are due are applied, what is parked goes on, the group ends.

`groups.NodeGroup` adds what its members ask for.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sparkps.errors import CheckpointError, Fenced, GroupError, SparkPSError
from sparkps.plain import name_of, text_of
from sparkps.ps_nodes.clock_buffers import ClockBuffers
from sparkps.ps_nodes.due_closes import DueCloses, Then
from sparkps.ps_nodes.replication.copies import Copies, Place, Places
from sparkps.ps_nodes.shards import Entry, Shards
from sparkps.ps_nodes.tables.directory import Tables
from sparkps.specs import GroupSpec, RankStart
from sparkps.wire.buckets import buckets_in, packed, union
from sparkps.wire.clock import GroupClock
from sparkps.wire.effects import Close, DropAbove, Effect, Release
from sparkps.wire.messages import log as entries
from sparkps.wire.messages.data import Member

log = logging.getLogger(__name__)

#: Closes that touch more rows run on the pool.
HEAVY_ROWS = 1 << 14


@dataclass(slots=True)
class ParkedRequest:
    """A request that waits for the clock."""

    member: Member
    #: Runs the request again, or hands it to whoever does.
    resume: Callable[[], None]
    #: Told the first cause if the group ends before.
    fail: Callable[[SparkPSError], None]
    #: When it was parked (seconds, the node's clock).
    since: float


class ClosingGroup:
    """The clocks of a group, and what follows from them. Thread-safe.

    Parameters
    ----------
    spec : GroupSpec
    tables : Tables
    shards : Shards
        Takes what a close changes.
    now : callable
        The node's clock, in seconds.
    copies : Copies
        Where closes and the end are shipped.
    buckets : int
        The buckets of which this node is the primary, as bits.
    """

    def __init__(
        self, spec: GroupSpec, tables: Tables, shards: Shards, now: Callable[[], float], copies: Copies, buckets: int
    ) -> None:
        self.spec = spec
        self._shards = shards
        self._copies = copies
        self._now = now
        self._lock = threading.Lock()
        #: Owner of this and all below: `_lock`.
        self._clock = GroupClock(spec, buckets_in(buckets))
        #: BSP: writes of clocks that are not closed.
        self._buffers = ClockBuffers(tables)
        self._parked: list[ParkedRequest] = []
        self._closes = DueCloses(spec.name)
        #: Called when no close is due.
        self._when_applied: list[Then] = []
        #: Why the group ended, if it did; and where that is still to be shipped to.
        self._cause: SparkPSError | None = None
        self._ends: Places = ()
        #: What whoever asks for more is told while the last closes are applied; None: it goes on.
        self._over: Fenced | None = None
        #: Seconds that pulls of each rank were parked.
        self.waited = [0.0] * spec.num_ranks

    # ---- effects -------------------------------------------------------------------------------------------------------

    def _follow(self, effects: Sequence[Effect]) -> Callable[[], None] | None:
        """Under the lock: what the clock has said; returns what must be run because of it without the lock, if anything."""
        released = False
        for effect in effects:
            if isinstance(effect, DropAbove):
                self._buffers.drop_above(effect.rank, effect.clock, effect.buckets)
                released = True  # there may be room for writes that were held back
            elif isinstance(effect, Close):
                self._closes.add(effect)
            elif isinstance(effect, Release):
                released = True
        if self._closes.begin():
            return self._apply_closes
        return self._release if released and not self._closes.busy else None

    @property
    def heavy(self) -> bool:
        """Whether the closes that are due touch more than a few rows."""
        with self._lock:
            return sum(map(self._buffers.size, self._closes.clocks())) > HEAVY_ROWS

    def _apply_closes(self) -> None:
        """Apply what is due, clock by clock; goes on elsewhere where others are changing the same buckets."""
        while (ordered := self._order_next_close()) is not None:
            entry, its_turn, close = ordered
            if entry.places:
                self._ship_close(entry, close)
            if not its_turn:
                return
            self._shards.carry_out(entry)
        self._end_if_failed()
        self._reach_cut()
        self._applied()

    def _ship_close(self, entry: Entry, close: Close) -> None:
        def make(place: Place) -> tuple[entries.LogEntry, list[Any]]:
            return entries.ShipClose(self.spec.group, close.clock, packed(entry.ships & place.buckets)), []

        self._copies.ship(entry.places, make)

    def _order_next_close(self) -> tuple[Entry, bool, Close] | None:
        """The next close takes its place: no moment is between its leaving the buffers and that."""
        with self._lock:
            if self._cause is not None:
                self._closes.give_up()
                return None
            close = self._closes.next()
            if close is None:
                return None
            try:
                entry = self._entry_of(close)
                return entry, self._shards.order(entry), close
            except BaseException as error:
                self._closes.give_up()
                self._fail(as_cause(error, f"Clock {close.clock} could not be closed"))
                return None

    def _entry_of(self, close: Close) -> Entry:
        """What the close of a clock changes."""
        clock = close.clock
        closed = self._buffers.take(clock, close.buckets)

        def done(_: Any, error: BaseException | None) -> None:
            closed.release()
            if error is not None:
                self.end(as_cause(error, f"Clock {clock} could not be closed"))
            if entry.waited:
                self._apply_closes()

        entry = Entry(closed.shards, lambda: closed.apply(clock), done, union(closed.shards.values()))
        return entry

    # ---- what waits ----------------------------------------------------------------------------------------------------

    def when_applied(self, then: Then) -> None:
        """Call `then` when every close that is due now is in the tables."""
        with self._lock:
            cause = self._cause
            if cause is None and self._closes.busy:
                self._when_applied.append(then)
                return
        then(cause)

    def _applied(self) -> None:
        with self._lock:
            then, self._when_applied = ([], self._when_applied) if self._closes.busy else (self._when_applied, [])
            cause = self._cause
        for each in then:
            each(cause)
        self._release()

    def _release(self) -> None:
        with self._lock:
            if self._closes.busy:
                return  # whoever applies the closes releases what is parked behind them
            waiting, self._parked = self._parked, []
            now = self._now()
            # The pieces of one call are parked side by side: a rank has waited as long as the first of them.
            for rank, since in _first(waiting).items():
                self.waited[rank] += now - since
        for parked in waiting:
            parked.resume()

    def refuse_parked(self) -> None:
        """The placement has changed: what is parked runs again, and is refused."""
        with self._lock:
            waiting, self._parked = self._parked, []
        for parked in waiting:
            parked.resume()

    @property
    def num_parked(self) -> int:
        """Requests that wait for ranks."""
        return len(self._parked)

    def nbytes(self) -> int:
        """Bytes of writes that wait for their clock."""
        return self._buffers.nbytes

    # ---- checkpoints -----------------------------------------------------------------------------------------------------

    def stop_closing(self) -> int:
        """BSP: no clock is closed after the highest one that is, or is due, until `cut_at` or `go_on`; that clock."""
        with self._lock:
            clock = self._clock.pin()
            self._closes.stop_after(clock)
            return clock

    def cut_at(self, clock: int, then: Then) -> None:
        """Close clocks up to `clock`, and call `then` when that one is closed here; later ones wait until `go_on`."""
        with self._lock:
            resume = self._closes.cut_at(clock, then)
        if resume:
            self._apply_closes()
        else:
            self._reach_cut()

    def _with_cut(self, follow: Callable[[], None] | None) -> Callable[[], None] | None:
        """A cut may be where nobody has written anything."""
        if self._closes.when_cut is None:
            return follow

        def both() -> None:
            if follow is not None:
                follow()
            self._reach_cut()

        return both

    def _reach_cut(self) -> None:
        """See whether the clock of a checkpoint is closed: all that belongs to it has its place, or never will have."""
        with self._lock:
            cause = self._cause
            then = self._closes.reach_cut(lambda clock: cause is not None or self._clock.has_ticked(clock))
        if then is not None:
            then(cause)

    def starts_after(self, clock: int) -> list[RankStart | None]:
        """Where each rank goes on after a cut at `clock`; None: not known here."""
        with self._lock:
            return self._clock.starts_after(clock)

    def starts_now(self) -> list[RankStart | None]:
        """SSP and ASP: where each rank goes on from what is here now; None: not every bucket is there. Under `still`."""
        return self._clock.starts_now()

    def go_on(self) -> None:
        """The checkpoint has what it needs, or was given up: clocks close again."""
        with self._lock:
            if not self._closes.are_held:
                return
            then, resume = self._closes.go_on()
            self._clock.unpin()
        if then is not None:
            then(CheckpointError("A checkpoint must be complete before clocks go on. It was given up.", again=True))
        if resume:
            self._apply_closes()

    # ---- the end -------------------------------------------------------------------------------------------------------

    @property
    def is_going_on(self) -> bool:
        """Whether it has neither failed nor ended."""
        return self._cause is None

    def end(self, cause: SparkPSError) -> None:
        """The group has failed: what is parked is told so, buffers go."""
        with self._lock:
            reason = self._fail(cause)
            waiting, self._parked = self._parked, []
            then, self._when_applied = self._when_applied, []
            if (when_cut := self._closes.take_when_cut()) is not None:
                then = [*then, when_cut]
            ends, self._ends = self._ends, ()
        self._ship(ends, lambda: entries.ShipEnd(self.spec.group, reason is not self._over))
        for parked in waiting:
            parked.fail(reason)
        for each in then:
            each(reason)

    def _end_if_failed(self) -> None:
        """After something failed under the lock."""
        if self._cause is not None:
            self.end(self._cause)

    def _fail(self, cause: SparkPSError) -> SparkPSError:
        """Under the lock: nothing is taken or applied any more; the first cause. `end` must follow."""
        if self._cause is None:
            self._cause = cause
            self._ends = self._copies.reserve_everywhere()
        self._buffers.clear()
        self._closes.clear()
        return self._cause

    def close(self, done: Callable[[], None]) -> None:
        """The group is over: what is due is applied first, then `done` is called; requests are fenced from now on."""
        fenced = Fenced(f"Worker group {self.spec.name!r} has ended; its ranks must stop.", group=self.spec.group)
        with self._lock:
            self._over = self._over or fenced

        def over(_: SparkPSError | None) -> None:
            self.end(self._over or fenced)
            done()

        self.when_applied(over)

    def end_when_applied(self, node: int) -> None:
        """The group has ended at a node whose buckets come here: nobody can go on, when what is due here is applied."""
        cause = GroupError(f"Worker group {self.spec.name!r} must go on at every node. It has ended at node {node}.", group=self.spec.group)
        self.when_applied(lambda _: self.end(cause))

    def _ship(self, places: Places, make: Callable[[], entries.LogEntry]) -> None:
        if places:
            self._copies.ship(places, lambda _: (make(), []))


def as_cause(error: BaseException, what: str) -> SparkPSError:
    """Why a group ends because of an error; logs it."""
    log.error("%s", what, exc_info=error)
    return error if isinstance(error, SparkPSError) else SparkPSError(f"{what}: {name_of(error)}: {text_of(error)}")


def _first(waiting: Sequence[ParkedRequest]) -> dict[int, float]:
    """When each rank began to wait."""
    since: dict[int, float] = {}
    for parked in waiting:
        rank = parked.member.rank
        since[rank] = min(parked.since, since.get(rank, parked.since))
    return since


__all__ = ["HEAVY_ROWS", "ClosingGroup", "ParkedRequest", "as_cause"]
