"""Worker groups on a node: what their members ask for. Writes are buffered or applied, requests that must wait are parked.

What follows when clocks close, and the end of a group, are in `closing`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sparkps.errors import SparkPSError
from sparkps.ps_nodes.clock_buffers import Part, Write, write_all
from sparkps.ps_nodes.closing import ClosingGroup, ParkedRequest, as_cause
from sparkps.ps_nodes.memory_budget import MemoryBudget
from sparkps.ps_nodes.replication import shipping
from sparkps.ps_nodes.replication.copies import Copies, Places
from sparkps.ps_nodes.replication.replica_group import Share
from sparkps.ps_nodes.shards import Entry, Shards
from sparkps.ps_nodes.tables.directory import Tables
from sparkps.specs import GroupSpec
from sparkps.wire.buckets import union
from sparkps.wire.effects import Apply, Buffer, Standing
from sparkps.wire.marks import ShardMark
from sparkps.wire.messages import log as entries
from sparkps.wire.messages.data import Member

#: Called once, when a write may be acknowledged: with None, or with why it failed.
Done = Callable[[BaseException | None], None]


class NodeGroup(ClosingGroup):
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
        super().__init__(spec, tables, shards, now, copies, buckets)
        self._memory = memory

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
            waiting = [] if self._closes.busy else self._clock.ready(member)
            if not (waiting or self._closes.busy):
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
            self._fail(as_cause(error, f"A write of rank {member.rank} could not be taken"))
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
                self.end(as_cause(error, f"A write of rank {member.rank} could not be applied"))
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

    def _check(self) -> None:
        if self._cause is not None:
            raise self._cause
        if self._over is not None:
            raise self._over

    # ---- buckets that come and go ----------------------------------------------------------------------------------------

    def still(self) -> threading.Lock:
        """The lock under which the group decides: while it is held, nothing of it changes."""
        return self._lock

    def share_of(self, bucket: int) -> Share:
        """What the group has in a bucket: its logical time, and what is buffered. Under `still`."""
        kept = self._buffers.export(bucket)
        return Share(self.spec.group, self._clock.export_shard(bucket, {each.clock for each in kept}), kept)

    def give(self, bucket: int) -> Share:
        """A bucket goes to another primary, with all that the group has in it. Under `still`."""
        share = self.share_of(bucket)
        self._clock.remove_shard(bucket)
        self._buffers.remove(bucket)
        self._closes.leave(bucket)
        return share

    def hold(self, bucket: int) -> None:
        """A bucket begins here, empty. Under `still`."""
        self._clock.hold(bucket)

    def adopt(self, share: Share) -> Callable[[], None] | None:
        """A bucket comes; returns what must be run because of it, if anything. Under `still`."""
        self._buffers.adopt(share.clock.bucket, share.kept)
        return self._follow(self._clock.import_shard(share.clock))

    def marks_at(self, bucket: int, ticked: Sequence[int], marks: Iterable[ShardMark], tables: Iterable[int]) -> None:
        """A bucket was restored with what ranks had ticked and written there. Under `still`."""
        self._clock.marks_at(bucket, ticked, marks, tables)

    # ---- what it looks like --------------------------------------------------------------------------------------------

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


def _trimmed(histogram: list[int]) -> list[int]:
    """Without the empty bins at its end."""
    size = len(histogram)
    while size > 1 and not histogram[size - 1]:
        size -= 1
    return histogram[:size]

