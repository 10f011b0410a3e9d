"""A worker group's logical time on one node: when a pull may be answered, when a push counts, when a clock closes.

The rules (Ho et al., *More effective distributed ML via a stale synchronous parallel parameter server*, NIPS 2013, with
one vector clock per shard):

- **tick** c of a rank says: every push of mine up to clock c is acknowledged, everywhere. A shard keeps the highest tick of
  each rank; the lowest of these is its *floor*.
- A **pull** at clock c waits until the floor of all its shards is >= c - s - 1. BSP is s = 0, in ASP nothing waits.
- BSP: a **push** is buffered per (clock, rank). When the floor reaches c, clock c *closes*: its buffers are applied, once, in
  rank order. In SSP and ASP a push is applied on arrival. Every push counts once per shard (see `marks`).
- A rank that **finishes** has ticked every clock.
- **takeover** by a new incarnation fences the older ones at this node. The rank's clock is the highest that any shard of any
  node has; **settle** brings all shards there (by the meaning of a tick they have all that it covers) and drops what was
  buffered above, for the new incarnation does that again.

A node hands the requests of one incarnation to the clock in the order in which they were made.

`GroupClock` is pure: no lock, no time, no I/O. Events are method calls; each returns what to do, in order. A request that
breaks the rules raises and changes nothing: `Fenced` for an incarnation that does not have its rank, else `ProtocolError`.
What it knows of each bucket, and how that moves, is in `shard_times`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from sparkps.errors import ProtocolError
from sparkps.specs import INFINITE_CLOCK, UNBOUNDED, GroupSpec, RankStart
from sparkps.wire.buckets import buckets_in, mask_of
from sparkps.wire.effects import RELEASE, Apply, Buckets, Buffer, Close, DropAbove, Duplicate, Effect, Standing, Verdict
from sparkps.wire.fences import about
from sparkps.wire.marks import MAX_CLOCK, ShardMark, stamp_of
from sparkps.wire.messages.data import Member
from sparkps.wire.shard_times import ShardTimes

#: Largest staleness with a histogram bin of its own; larger ones share the last bin.
MAX_STALENESS_BIN = 64

_DUPLICATE = Duplicate()


class GroupClock(ShardTimes):
    """The rules for what members of one worker group ask of one node.

    Parameters
    ----------
    spec : GroupSpec
        The group as it was admitted.
    buckets : iterable of int
        Buckets whose time it keeps, at first; `hold` and `import_shard` bring others.

    Examples
    --------
    >>> clock = GroupClock(GroupSpec(group=1, name="g", num_ranks=1, num_workers=1, staleness=0), range(2))
    >>> clock.takeover(Member(group=1, rank=0, incarnation=1, clock=-1))
    Standing(clock=-1, state=None, finished=False)
    >>> clock.settle(Member(group=1, rank=0, incarnation=1, clock=-1))
    ()
    >>> now = Member(group=1, rank=0, incarnation=1, clock=0)
    >>> clock.ready(now), clock.write(now, table=1, buckets=0b11)
    ([], Buffer(clock=0, buckets=3))
    >>> clock.tick(now)
    (Close(clock=0, buckets=3), Release())
    """

    def __init__(self, spec: GroupSpec, buckets: Iterable[int] = ()) -> None:
        super().__init__(spec, buckets)
        bins = 1 + (MAX_STALENESS_BIN if spec.staleness == UNBOUNDED else min(spec.staleness, MAX_STALENESS_BIN))
        #: By rank, then staleness: pulls answered.
        self._histogram = [[0] * bins for _ in range(spec.num_ranks)]
        self._max_staleness = [0] * spec.num_ranks

    # ---- pulls and pushes ----------------------------------------------------------------------------------------------

    def ready(self, member: Member, buckets: Buckets | None = None) -> list[int]:
        """Ranks whose tick a pull waits for; empty: answer it now (its staleness is counted by this call).

        Parameters
        ----------
        member : Member
            Who pulls, and at which clock.
        buckets : ndarray of shape (n,), int32, or None
            What it reads; None for all buckets of the node.

        Raises
        ------
        Fenced, ProtocolError
        """
        rank, bound = self._fences.speaker(member), self.spec.staleness
        if bound == 0 and member.clock <= self._ticks.high[rank]:
            raise ProtocolError(
                f"A pull of rank {rank} must be answered before its clock is ticked, or it would see the next one. It has ticked"
                f" {self._ticks.high[rank]}. Got a pull at clock {member.clock} instead.",
                **about(member),
            )
        rows = None if buckets is None or self._ticks.uniform else self._rows(buckets)
        # The member itself has ticked up to clock - 1: if the lowest is below that, it is another's.
        staleness = max(0, member.clock - 1 - self._ticks.floor_of(rows))
        if staleness > bound != UNBOUNDED:
            return self._ticks.behind(rows, member.clock - bound - 1)
        histogram = self._histogram[rank]
        histogram[min(staleness, len(histogram) - 1)] += 1
        if staleness > self._max_staleness[rank]:
            self._max_staleness[rank] = staleness
        return []

    def write(self, member: Member, table: int, buckets: int, *, at_once: bool = False) -> Verdict:
        """What to do with a write to one table. It counts as buffered or applied from this call on.

        Parameters
        ----------
        member : Member
            Who writes, at which clock, with which ordinal. Requests that together are one write share an ordinal; what goes to
            one shard comes in one request.
        table : int
            Id of the table: a shard is a table's data in a bucket.
        buckets : int
            What it writes, one bit per bucket.
        at_once : bool
            Apply it now, in BSP too: for a member without successors, whose writes need not be repeated.

        Returns
        -------
        Buffer, Apply or Duplicate
            Buffer in BSP, else one of the others.

        Raises
        ------
        Fenced, ProtocolError
        """
        rank, clock = self._fences.speaker(member), member.clock
        if clock <= self._ticks.high[rank]:
            raise ProtocolError(
                f"A write of rank {rank} must be for a clock after its last tick, {self._ticks.high[rank]}. Got clock {clock} instead.",
                **about(member),
            )
        if buckets & ~self._held:
            raise ProtocolError(
                f"The buckets of a request must be this node's. Got {list(buckets_in(buckets & ~self._held))} as well.",
                **about(member),
            )
        fresh = self._marks.take(rank, stamp_of(clock, member.ordinal), table, buckets)
        if not fresh:
            return _DUPLICATE
        if self.spec.staleness or at_once:
            return Apply(fresh)
        self._open.add(clock)
        if clock > self._pushed[rank]:
            self._pushed[rank] = clock
        return Buffer(clock, fresh)

    def ahead(self, member: Member) -> list[int]:
        """Ranks for which a write of `member` has to be kept longer than for its own tick; empty: its clock may close next."""
        self._fences.speaker(member)
        if member.clock <= self._ticks.lowest + 1:
            return []
        return [rank for rank in self._ticks.behind(None, member.clock - 1) if rank != member.rank]

    # ---- ticks ---------------------------------------------------------------------------------------------------------

    def tick(
        self, member: Member, state: bytes | None = None, finish: bool = False, *, followed: bool = False
    ) -> tuple[Effect, ...]:
        """The rank's clock ``member.clock`` is done; with `finish` so is the rank.

        A tick that all shards have is a retry and does nothing. `state` replaces the stored one; a finish without one keeps it.
        With `followed` another node has taken the tick, whose shards may have come by ticks that these have not heard of.

        Returns
        -------
        tuple of Effect
            The closes that are due, then `Release` if pulls may be ready.

        Raises
        ------
        Fenced
        ProtocolError
            It is not the clock after the rank's last tick.
        """
        rank, clock, low = self._fences.speaker(member), member.clock, self._ticks.low[member.rank]
        if clock <= low and not (finish and clock == low):
            return ()
        if not followed and (clock > low + 1 or (finish and clock < self._pushed[rank])):
            raise ProtocolError(
                f"A tick of rank {rank} must be for the clock after its last one, {low}, and a last tick for its last push"
                f" ({self._pushed[rank]}). Got clock {clock} instead.",
                **about(member),
            )
        if clock > self._ticks.high[rank] or (finish and state is not None):
            self._states.store(rank, clock, self._states.latest[rank] if finish and state is None else state)
        if finish:
            self._finished_at[rank] = max(clock, self._finished_at[rank])
        return self._raise_to(rank, INFINITE_CLOCK if finish else clock)

    def takeover(self, member: Member) -> Standing:
        """A new incarnation of a rank fences the older ones and asks what they did. `settle` must follow.

        The incarnation that has the rank may ask again; that changes nothing, also after it has settled.

        Raises
        ------
        Fenced
            A newer incarnation has the rank.
        ProtocolError
        """
        rank = member.rank
        self._fences.take(member)
        return Standing(self._last_tick(rank), self._states.latest[rank], self._finished_at[rank] >= 0)

    def settle(self, member: Member, state: bytes | None = None) -> tuple[Effect, ...]:
        """The rank's clock is ``member.clock``: the highest `Standing` of all nodes (-1: none), with its state.

        An incarnation that has settled here may do so again, as another node may have been in its way: what it has written since
        stays.

        Returns
        -------
        tuple of Effect
            `DropAbove` if something may be buffered above, then as for `tick`.

        Raises
        ------
        Fenced
        ProtocolError
            This node has a higher tick.
        """
        rank, clock = self._fences.holder(member), member.clock
        if clock < self._last_tick(rank):
            raise ProtocolError(
                f"Rank {rank} must settle at the highest clock that a node reported; this one reported {self._last_tick(rank)}."
                f" Got clock {clock} instead.",
                **about(member),
            )
        dropped: tuple[Effect, ...] = ()
        if self._pushed[rank] > clock and not self._fences.settled[rank]:
            self._pushed[rank] = clock
            self._marks.rewind(rank, stamp_of(clock + 1, 0))
            dropped = (DropAbove(rank, clock),)
        self._fences.settled[rank] = True
        if clock > self._ticks.high[rank]:
            self._states.store(rank, clock, state)
        return dropped + self._raise_to(rank, clock) if clock > self._ticks.low[rank] else dropped

    def _last_tick(self, rank: int) -> int:
        return self._finished_at[rank] if self._finished_at[rank] >= 0 else self._ticks.high[rank]

    def _raise_to(self, rank: int, clock: int) -> tuple[Effect, ...]:
        self._marks.forget_below(rank, stamp_of(clock + 1, 0))
        before = self._ticks.raise_to(rank, clock)
        return () if before is None else self._after_rise(before)

    def _after_rise(self, before: NDArray[np.int64]) -> tuple[Effect, ...]:
        """What closes by a rise of the floors, clock by clock."""
        ticks, effects = self._ticks, list[Effect]()
        for clock in sorted(self._open):
            closing = ticks.rising(before, clock)
            if closing is None:
                effects.append(Close(clock, self._held))
            elif closing.any():
                effects.append(Close(clock, mask_of(self.buckets[closing])))
        if self._open:
            self._open = {clock for clock in self._open if clock > ticks.lowest}
        self._states.forget_below(self._ticks.lowest)
        if self.spec.staleness != UNBOUNDED:
            effects.append(RELEASE)
        return tuple(effects)

    # ---- checkpoints ---------------------------------------------------------------------------------------------------

    def pin(self) -> int:
        """Keep what ranks store from the highest floor of all buckets on, until `unpin`; that floor. BSP."""
        self._states.pinned = self._ticks.lowest
        highest = int(self._ticks.floor.max(initial=self._ticks.lowest))
        return highest if highest < INFINITE_CLOCK else max(self._finished_at)

    def unpin(self) -> None:
        """The checkpoint is over."""
        self._states.pinned = None
        self._states.forget_below(self._ticks.lowest)

    def has_ticked(self, clock: int) -> bool:
        """Whether every rank has ticked `clock` on every bucket."""
        return self._ticks.lowest >= clock

    def starts_after(self, clock: int) -> list[RankStart | None]:
        """Where each rank goes on after `clock`, which all have ticked; None: not known here."""
        return [self._states.start_after(rank, clock, at) for rank, at in enumerate(self._finished_at)]

    def starts_now(self) -> list[RankStart | None]:
        """Where each rank goes on after its last tick; None: not every bucket has it."""
        low, high, states = self._ticks.low, self._ticks.high, self._states.latest
        return [
            RankStart(self._last_tick(rank), at >= 0, states[rank]) if low[rank] == high[rank] else None
            for rank, at in enumerate(self._finished_at)
        ]

    def marks_at(self, bucket: int, ticked: Sequence[int], marks: Iterable[ShardMark], tables: Iterable[int]) -> None:
        """A bucket was restored, in which ranks had ticked more than they go on from: what they wrote until then is there.

        Parameters
        ----------
        bucket : int
        ticked : sequence of int
            By rank: highest tick there.
        marks : iterable of ShardMark
            Of what came after these.
        tables : iterable of int
            All that were restored.
        """
        self._marks.remove(bucket)
        for rank, highest in enumerate(ticked):
            if highest > self._ticks.high[rank]:
                until = stamp_of(min(highest, MAX_CLOCK - 1) + 1, 0) - 1
                self._marks.adopt(bucket, [ShardMark(rank, table, until) for table in tables])
        self._marks.adopt(bucket, list(marks))

    # ---- what it looks like --------------------------------------------------------------------------------------------

    @property
    def clocks(self) -> list[int]:
        """Highest tick of each rank, -1 if none; of a finished rank the one with which it finished."""
        return [self._last_tick(rank) for rank in range(self.spec.num_ranks)]

    @property
    def finished(self) -> list[bool]:
        """Whether each rank has finished."""
        return [clock >= 0 for clock in self._finished_at]

    @property
    def max_staleness(self) -> list[int]:
        """Highest staleness, in clocks, of any pull answered to each rank."""
        return list(self._max_staleness)

    @property
    def histograms(self) -> list[list[int]]:
        """For each rank, how many pulls were answered at staleness 0, 1, 2 ...; the last bin is that or more."""
        return [list(bins) for bins in self._histogram]

    def validate(self) -> None:
        """Asserts the invariants written at the fields."""
        super().validate()
        for rank, most in enumerate(self._max_staleness):
            assert most <= self.spec.staleness or self.spec.staleness == UNBOUNDED, rank
