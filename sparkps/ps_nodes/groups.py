"""Worker groups on a node: the shell around `wire.clock.GroupClock` that buffers writes, applies closes and parks requests."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sparkps.errors import CheckpointError, Fenced, SparkPSError
from sparkps.plain import name_of, text_of
from sparkps.ps_nodes.clock_buffers import ClockBuffers, Kept, Part, Write, write_all
from sparkps.ps_nodes.memory_budget import MemoryBudget
from sparkps.ps_nodes.replication import shipping
from sparkps.ps_nodes.replication.copies import Copies, Place, Places
from sparkps.ps_nodes.shards import Entry, Shards
from sparkps.ps_nodes.tables.directory import Tables
from sparkps.specs import GroupSpec, RankStart
from sparkps.wire.buckets import buckets_in, packed
from sparkps.wire.clock import GroupClock
from sparkps.wire.effects import Apply, Buffer, Close, DropAbove, Effect, Release, ShardClock, Standing
from sparkps.wire.marks import ShardMark
from sparkps.wire.messages import log as entries
from sparkps.wire.messages.data import Member

log = logging.getLogger(__name__)

#: Closes that touch more rows run on the pool.
HEAVY_ROWS = 1 << 14

#: Called once: with None, or with why the group ended first.
Then = Callable[[SparkPSError | None], None]

#: Called once, when a write may be acknowledged: with None, or with why it failed.
Done = Callable[[BaseException | None], None]


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


class NodeGroup:
    """One worker group on this node. Thread-safe.

    Parameters
    ----------
    spec : GroupSpec
    tables : Tables
    shards : Shards
        Takes what its members write.
    now : callable
        The node's clock, in seconds.
    memory : MemoryBudget
        Says above how many bytes of writes of open clocks a rank that is ahead of others is held back.
    copies : Copies
        Where all that is accepted is shipped.
    buckets : int
        The buckets of which this node is the primary, as bits.
    """

    def __init__(
        self,
        spec: GroupSpec,
        tables: Tables,
        shards: Shards,
        now: Callable[[], float],
        memory: MemoryBudget,
        copies: Copies,
        buckets: int,
    ) -> None:
        self.spec = spec
        self._shards = shards
        self._copies = copies
        self._now = now
        self._memory = memory
        self._lock = threading.Lock()
        #: Owner of this and all below: `_lock`.
        self._clock = GroupClock(spec, buckets_in(buckets))
        #: BSP: writes of clocks that are not closed.
        self._buffers = ClockBuffers(tables)
        self._parked: list[ParkedRequest] = []
        #: Closes that are due, in order, and whether somebody is applying them.
        self._closes: deque[Close] = deque()
        self._closing = False
        #: A checkpoint is being taken: closes of later clocks wait, though they are due.
        self._last_clock: int | None = None
        #: A close has come that waits for that: who applies closes has stopped.
        self._has_stopped = False
        #: Called when the clock of the checkpoint is closed.
        self._when_cut: Then | None = None
        #: Called when no close is due.
        self._when_applied: list[Then] = []
        #: Why the group ended, if it did; and where that is still to be shipped to.
        self._cause: SparkPSError | None = None
        self._ends: Places = ()
        #: Seconds that pulls of each rank were parked.
        self.waited = [0.0] * spec.num_ranks

    # ---- requests of members -------------------------------------------------------------------------------------------

    def gate(self, member: Member, parked: Callable[[], ParkedRequest]) -> list[int] | None:
        """Whether a pull has to wait.

        Returns
        -------
        list of int, or None
            None: answer it now. Otherwise the ranks waited for, none where only closes are still being applied; what
            `parked` gives is kept, and resumed or failed later.
        """
        with self._lock:
            self._check()
            # Closes that are due but not applied yet belong before the pull: their ranks have all ticked.
            waiting = [] if self._closing else self._clock.ready(member)
            if not (waiting or self._closing):
                return None
            self._parked.append(parked())
            return waiting

    def write(
        self,
        member: Member,
        write: Write,
        done: Done,
        parked: Callable[[], ParkedRequest],
        waits: Callable[[], None],
        meanwhile: Callable[[], None],
    ) -> list[int]:
        """A member's write: kept until its clock closes (BSP), or applied now; `done` follows when it may be acknowledged.

        The caller has the tables in use until then. `waits` is called if others are changing the same shards, `meanwhile` when the
        write is done here, and nodes that copy its buckets have still to say that they have it.

        Returns
        -------
        list of int
            Usually empty. In BSP, of a rank that is far ahead: the ranks that must tick before the write is taken; what
            `parked` gives is kept, as by `gate`.
        """
        entry, its_turn, new = None, False, dict[int, int]()
        try:
            with self._lock:
                self._check()
                self._shards.check_led(write.buckets)
                if self.spec.staleness or self.acts_at_once(member):
                    entry, its_turn, new = self._ordered(member, write, done, meanwhile)
                    places = entry.places
                elif behind := self._too_far_ahead(member, write):
                    self._parked.append(parked())
                    return behind
                else:
                    new = self._keep(member, write)
                    places = self._places(write.buckets, new)
        finally:
            self._end_if_failed()
        if places:
            shipping.ship_write(self._copies, places, write, new, 0, 0, member)
        if entry is None:
            self._copies.when_kept(places, lambda: done(None), meanwhile)
        elif its_turn:
            self._shards.carry_out(entry)
        else:
            waits()
        return []

    def _places(self, buckets: dict[int, int], new: dict[int, int]) -> Places:
        """Where a write goes that is new in some of its buckets; where it is a duplicate, what it repeats must be kept, too."""
        if not self._copies.active:
            return ()
        every, fresh = union(buckets.values()), union(new.values())
        return self._copies.reserve(fresh) + self._copies.latest(every & ~fresh)

    def _too_far_ahead(self, member: Member, write: Write) -> list[int]:
        """Ranks that must tick before the node keeps more of this one."""
        full = self._buffers.nbytes + write.nbytes > self._memory.buffer_room
        return self._clock.ahead(member) if full else []

    def _ordered(
        self, member: Member, write: Write, done: Done, meanwhile: Callable[[], None]
    ) -> tuple[Entry, bool, dict[int, int]]:
        """A write's entry, whether it is its turn, and where the write is new."""
        try:
            entry, new = self._entry(member, write, done, meanwhile)
            return entry, self._shards.order(entry), new
        except SparkPSError:
            raise  # the clock has refused it, and marked nothing
        except BaseException as error:  # marks may say already that it is there
            self._fail(_as_cause(error, f"A write of rank {member.rank} could not be taken"))
            raise

    @property
    def is_synchronous(self) -> bool:
        """Whether what ranks write is kept until its clock closes: BSP."""
        return self.spec.staleness == 0

    def acts_at_once(self, member: Member) -> bool:
        """Whether it is the driver-side solver: it reads what it writes in the same clock, and has no successor."""
        return member.rank >= self.spec.num_workers

    def _keep(self, member: Member, write: Write) -> dict[int, int]:
        new = {}
        for table, buckets in write.buckets.items():
            verdict = self._clock.write(member, table, buckets)
            if isinstance(verdict, Buffer):
                self._buffers.keep(verdict.clock, member, write.narrowed(table, verdict.buckets))
                new[table] = verdict.buckets
        return new

    def _entry(
        self, member: Member, write: Write, done: Done, meanwhile: Callable[[], None]
    ) -> tuple[Entry, dict[int, int]]:
        parts: list[Part] = []
        new = {}
        for table, buckets in write.buckets.items():
            verdict = self._clock.write(member, table, buckets, at_once=True)
            if isinstance(verdict, Apply):
                parts += write.narrowed(table, verdict.buckets)
                new[table] = verdict.buckets

        def finished(_: Any, error: BaseException | None) -> None:
            if error is not None:  # the marks say that it is there
                self.end(_as_cause(error, f"A write of rank {member.rank} could not be applied"))
                done(error)
            else:
                self._copies.when_kept(entry.places, lambda: done(None), meanwhile)

        # A duplicate, too, waits for its turn: what it repeats may still be on its way into the tables.
        every, fresh = union(write.buckets.values()), union(new.values())
        entry = Entry(write.shards, lambda: write_all(parts), finished, fresh, every & ~fresh)
        return entry, new

    def call(self, member: Member, table: int, buckets: int, make: Callable[[int], Entry]) -> tuple[Entry, bool, int]:
        """A solver's call that reads and writes: its entry, whether it is its turn, and the buckets in which it is new.

        The marks of `table` decide; `make` gives the entry for the buckets in which it is new.
        """
        with self._lock:
            self._check()
            self._shards.check_led({table: buckets})
            verdict = self._clock.write(member, table, buckets, at_once=True)
            new = verdict.buckets if isinstance(verdict, Apply) else 0
            entry = make(new)
            return entry, self._shards.order(entry), new

    def tick(self, member: Member, state: bytes | None, finish: bool) -> tuple[Callable[[], None] | None, Places]:
        """A rank's clock is done; returns what must be run because of it, if anything, and where it is shipped to."""
        with self._lock:
            self._check()
            follow = self._with_cut(self._follow(self._clock.tick(member, state, finish)))
            places = self._copies.reserve_everywhere()
        self._ship(places, lambda: entries.ShipTick(member, state, finish))
        return follow, places

    def takeover(self, member: Member) -> tuple[Standing, Places]:
        """A new incarnation asks what its rank has done."""
        with self._lock:
            self._check()
            standing = self._clock.takeover(member)
            places = self._copies.reserve_everywhere()
        self._ship(places, lambda: entries.ShipTakeover(member))
        return standing, places

    def settle(self, member: Member, state: bytes | None) -> tuple[Callable[[], None] | None, Places]:
        """After a takeover; see `GroupClock.settle`. Returns the same as `tick`."""
        with self._lock:
            self._check()
            follow = self._with_cut(self._follow(self._clock.settle(member, state)))
            places = self._copies.reserve_everywhere()
        self._ship(places, lambda: entries.ShipSettle(member, state))
        return follow, places

    def _ship(self, places: Places, make: Callable[[], entries.LogEntry]) -> None:
        if places:
            self._copies.ship(places, lambda _: (make(), []))

    def when_applied(self, then: Then) -> None:
        """Call `then` when every close that is due now is in the tables."""
        with self._lock:
            cause = self._cause
            if cause is None and self._closing:
                self._when_applied.append(then)
                return
        then(cause)

    def _check(self) -> None:
        if self._cause is not None:
            raise self._cause

    # ---- effects -------------------------------------------------------------------------------------------------------

    def _follow(self, effects: Sequence[Effect]) -> Callable[[], None] | None:
        released = False
        for effect in effects:
            if isinstance(effect, DropAbove):
                self._buffers.drop_above(effect.rank, effect.clock, effect.buckets)
                released = True  # there may be room for writes that were held back
            elif isinstance(effect, Close):
                self._closes.append(effect)
            elif isinstance(effect, Release):
                released = True
        if self._closes and not self._closing:
            self._closing = True
            return self._apply_closes
        return self._release if released and not self._closing else None

    @property
    def heavy(self) -> bool:
        """Whether the closes that are due touch more than a few rows."""
        with self._lock:
            return sum(self._buffers.size(close.clock) for close in self._closes) > HEAVY_ROWS

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
            if not self._closes or self._cause is not None:
                self._closing = False
                return None
            if self._last_clock is not None and self._closes[0].clock > self._last_clock:
                self._has_stopped = True
                return None
            close = self._closes.popleft()
            try:
                entry = self._entry_of(close)
                return entry, self._shards.order(entry), close
            except BaseException as error:
                self._closing = False
                self._fail(_as_cause(error, f"Clock {close.clock} could not be closed"))
                return None

    def _entry_of(self, close: Close) -> Entry:
        """What the close of a clock changes."""
        clock = close.clock
        closed = self._buffers.take(clock, close.buckets)

        def done(_: Any, error: BaseException | None) -> None:
            closed.release()
            if error is not None:
                self.end(_as_cause(error, f"Clock {clock} could not be closed"))
            if entry.waited:
                self._apply_closes()

        entry = Entry(closed.shards, lambda: closed.apply(clock), done, union(closed.shards.values()))
        return entry

    # ---- checkpoints -----------------------------------------------------------------------------------------------------

    def stop_closing(self) -> int:
        """BSP: no clock is closed after the highest one that is, or is due, until `cut_at` or `go_on`; that clock."""
        with self._lock:
            self._last_clock = self._clock.pin()
            return self._last_clock

    def cut_at(self, clock: int, then: Then) -> None:
        """Close clocks up to `clock`, and call `then` when that one is closed here; later ones wait until `go_on`."""
        with self._lock:
            if self._last_clock is None or clock < self._last_clock:
                raise CheckpointError(
                    f"A cut must be at a clock after which none is closed. Got {clock} for group {self.spec.name!r}.", again=True
                )
            self._last_clock, self._when_cut = clock, then
            resume, self._has_stopped = self._has_stopped, False
        if resume:
            self._apply_closes()
        else:
            self._reach_cut()

    def _with_cut(self, follow: Callable[[], None] | None) -> Callable[[], None] | None:
        """A cut may be where nobody has written anything."""
        if self._when_cut is None:
            return follow

        def both() -> None:
            if follow is not None:
                follow()
            self._reach_cut()

        return both

    def _reach_cut(self) -> None:
        """See whether the clock of a checkpoint is closed."""
        with self._lock:
            then, clock = self._when_cut, self._last_clock
            if then is None or clock is None or not self._is_closed(clock):
                return
            self._when_cut, cause = None, self._cause
        then(cause)

    def _is_closed(self, clock: int) -> bool:
        """Whether all that belongs to a clock has its place before whatever comes now, or never will have."""
        return self._cause is not None or (
            self._clock.has_ticked(clock) and not any(close.clock <= clock for close in self._closes)
        )

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
            if self._last_clock is None:
                return
            then, self._last_clock, self._when_cut = self._when_cut, None, None
            resume, self._has_stopped = self._has_stopped, False
            self._clock.unpin()
        if then is not None:
            then(CheckpointError("A checkpoint must be complete before clocks go on. It was given up.", again=True))
        if resume:
            self._apply_closes()

    def marks_at(self, bucket: int, ticked: Sequence[int], marks: Iterable[ShardMark], tables: Iterable[int]) -> None:
        """A bucket was restored with what ranks had ticked and written there. Under `still`."""
        self._clock.marks_at(bucket, ticked, marks, tables)

    @property
    def is_going_on(self) -> bool:
        """Whether it has neither failed nor ended."""
        return self._cause is None

    # ---- buckets that come and go ----------------------------------------------------------------------------------------

    def still(self) -> threading.Lock:
        """The lock under which the group decides: while it is held, nothing of it changes."""
        return self._lock

    def share_of(self, bucket: int) -> tuple[int, ShardClock, list[Kept]]:
        """What the group has in a bucket: its logical time, and what is buffered. Under `still`."""
        kept = self._buffers.export(bucket)
        return self.spec.group, self._clock.export_shard(bucket, {each.clock for each in kept}), kept

    def give(self, bucket: int) -> tuple[ShardClock, list[Kept]]:
        """A bucket goes to another primary, with all that the group has in it. Under `still`."""
        _, shard, kept = self.share_of(bucket)
        self._clock.remove_shard(bucket)
        self._buffers.remove(bucket)
        left = [Close(close.clock, close.buckets & ~(1 << bucket)) for close in self._closes]
        self._closes = deque(close for close in left if close.buckets)
        return shard, kept

    def hold(self, bucket: int) -> None:
        """A bucket begins here, empty. Under `still`."""
        self._clock.hold(bucket)

    def adopt(self, shard: ShardClock, kept: Sequence[Kept]) -> Callable[[], None] | None:
        """A bucket comes; returns what must be run because of it, if anything. Under `still`."""
        self._buffers.adopt(shard.bucket, kept)
        return self._follow(self._clock.import_shard(shard))

    def refuse_parked(self) -> None:
        """The placement has changed: what is parked runs again, and is refused."""
        with self._lock:
            waiting, self._parked = self._parked, []
        for parked in waiting:
            parked.resume()

    def _applied(self) -> None:
        with self._lock:
            then, self._when_applied = ([], self._when_applied) if self._closing else (self._when_applied, [])
            cause = self._cause
        for each in then:
            each(cause)
        self._release()

    def _release(self) -> None:
        with self._lock:
            if self._closing:
                return  # whoever applies the closes releases what is parked behind them
            waiting, self._parked = self._parked, []
            now = self._now()
            # The pieces of one call are parked side by side: a rank has waited as long as the first of them.
            for rank, since in _first(waiting).items():
                self.waited[rank] += now - since
        for parked in waiting:
            parked.resume()

    # ---- the end -------------------------------------------------------------------------------------------------------

    def end(self, cause: SparkPSError) -> None:
        """The group has failed: what is parked is told so, buffers go."""
        with self._lock:
            reason = self._fail(cause)
            waiting, self._parked = self._parked, []
            then, self._when_applied = self._when_applied, []
            if self._when_cut is not None:
                then, self._when_cut = [*then, self._when_cut], None
            ends, self._ends = self._ends, ()
        self._ship(ends, lambda: entries.ShipEnd(self.spec.group))
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
        """The group is over: what is due is applied first, then `done` is called; later requests are fenced."""

        def over(_: SparkPSError | None) -> None:
            self.end(Fenced(f"Worker group {self.spec.name!r} has ended; its ranks must stop.", group=self.spec.group))
            done()

        self.when_applied(over)

    @property
    def num_parked(self) -> int:
        """Requests that wait for ranks."""
        return len(self._parked)

    def nbytes(self) -> int:
        """Bytes of writes that wait for their clock."""
        return self._buffers.nbytes

    def report(self) -> dict[str, dict[str, Any]]:
        """Clock, staleness and waiting time of each rank."""
        with self._lock:
            clock = self._clock
            each = zip(clock.clocks, clock.finished, clock.max_staleness, clock.histograms, self.waited, strict=True)
            return {
                str(rank): {
                    "clock": at,
                    "finished": finished,
                    "staleness": staleness,
                    "staleness_histogram": _trimmed(histogram),
                    "waited_seconds": round(waited, 6),
                }
                for rank, (at, finished, staleness, histogram, waited) in enumerate(each)
            }


def union(masks: Iterable[int]) -> int:
    """All buckets of some sets."""
    found = 0
    for mask in masks:
        found |= mask
    return found


def _trimmed(histogram: list[int]) -> list[int]:
    """Without the empty bins at its end."""
    size = len(histogram)
    while size > 1 and not histogram[size - 1]:
        size -= 1
    return histogram[:size]


def _as_cause(error: BaseException, what: str) -> SparkPSError:
    log.error("%s", what, exc_info=error)
    return error if isinstance(error, SparkPSError) else SparkPSError(f"{what}: {name_of(error)}: {text_of(error)}")


def _first(waiting: Sequence[ParkedRequest]) -> dict[int, float]:
    """When each rank began to wait."""
    since: dict[int, float] = {}
    for parked in waiting:
        rank = parked.member.rank
        since[rank] = min(parked.since, since.get(rank, parked.since))
    return since
