"""The logical time of one group in the buckets of one node, which come and go.

Pure, as all of a group's clock: no lock, no time, no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from sparkps.errors import ProtocolError
from sparkps.specs import INFINITE_CLOCK, NUM_BUCKETS, UNBOUNDED, GroupSpec, RankStart
from sparkps.wire.buckets import mask_of
from sparkps.wire.effects import RELEASE, Buckets, Close, DropAbove, Effect, ShardClock
from sparkps.wire.fences import Fences
from sparkps.wire.marks import MAX_CLOCK, RankMarks, stamp_of
from sparkps.wire.stored_states import StoredStates
from sparkps.wire.vector_clock import VectorClocks


def check_shard_clock(shard: ShardClock, bucket: int, spec: GroupSpec) -> None:
    """Refuse logical time of a bucket that cannot be that of a group's ranks; before anything is made of it.

    Raises
    ------
    ProtocolError
    """
    ranks = spec.num_ranks
    by_rank = (shard.ticked, shard.incarnations, shard.finished_at, shard.states, shard.pushed, shard.settled)
    marks = [(mark.rank, mark.stamp) for mark in shard.marks]
    if (
        shard.bucket != bucket
        or any(len(each) != ranks for each in by_rank)
        or not all(-1 <= clock < MAX_CLOCK or clock == INFINITE_CLOCK for clock in shard.ticked)
        or not all(-1 <= clock < MAX_CLOCK for clock in (*shard.finished_at, *shard.pushed, *shard.open_clocks))
        or not all(0 <= incarnation <= INFINITE_CLOCK for incarnation in shard.incarnations)
        or not all(0 <= rank < ranks and 0 <= stamp < stamp_of(MAX_CLOCK, 0) for rank, stamp in marks)
        or not all(0 <= rank < ranks and -1 <= clock < MAX_CLOCK for rank, clock, _ in shard.kept_states)
    ):
        raise ProtocolError(
            f"Logical time of bucket {bucket} must be that of the {ranks} ranks of group {spec.name!r}, with clocks in [-1, {MAX_CLOCK})."
            " Got other ranks or clocks.",
            group=spec.group,
            bucket=bucket,
        )


class ShardTimes:
    """Vector clocks, fences, marks and stored states, and how a bucket brings its own along. `clock.GroupClock` has the rules.

    Parameters
    ----------
    spec : GroupSpec
        The group as it was admitted.
    buckets : iterable of int
        Buckets whose time it keeps, at first; `hold` and `import_shard` bring others.
    """

    def __init__(self, spec: GroupSpec, buckets: Iterable[int] = ()) -> None:
        self.spec = spec
        #: int32, ascending: row i of the vector clocks is bucket ``buckets[i]``.
        self.buckets: Buckets = np.unique(np.fromiter(buckets, np.int32))
        #: int32 (V,): row of each bucket, -1 if it is not here.
        self._row = self._rows_by_bucket()
        #: The buckets as bits.
        self._held = mask_of(self.buckets)
        ranks = spec.num_ranks
        self._ticks = VectorClocks(len(self.buckets), ranks)
        self._marks = RankMarks()
        self._fences = Fences(spec)
        self._states = StoredStates(ranks, keeps=spec.staleness == 0)
        #: By rank: clock of its last tick if it has finished, else -1.
        self._finished_at = [-1] * ranks
        #: BSP: clocks with buffered pushes that are not closed on every row; all above the lowest floor.
        self._open: set[int] = set()
        #: BSP, by rank: no push is buffered above this clock.
        self._pushed = [-1] * ranks
        self._begin_at(spec.start)

    def _begin_at(self, start: Sequence[RankStart]) -> None:
        """The group continues an earlier one."""
        for rank, begun in enumerate(start):
            if begun.clock >= 0 or begun.finished:
                self._finished_at[rank] = begun.clock if begun.finished else -1
                self._states.store(rank, begun.clock, begun.state)
                self._ticks.raise_to(rank, INFINITE_CLOCK if begun.finished else begun.clock)

    def _rows(self, buckets: Buckets) -> NDArray[np.int32]:
        """Rows of `buckets`, all of which must be here."""
        rows: NDArray[np.int32] = self._row[buckets]
        if rows.size and rows.min() < 0:
            raise ProtocolError(
                f"The buckets of a request must be this node's. Got {buckets} instead.", group=self.spec.group
            )
        return rows

    def _rows_by_bucket(self) -> NDArray[np.int32]:
        rows = np.full(NUM_BUCKETS, -1, np.int32)
        rows[self.buckets] = np.arange(len(self.buckets), dtype=np.int32)
        return rows

    # ---- shards that move ----------------------------------------------------------------------------------------------

    def hold(self, bucket: int) -> None:
        """A new bucket, in which nobody has written: it has the ticks that all others have."""
        self._insert(bucket, list(self._ticks.low))

    def export_shard(self, bucket: int, buffered: Iterable[int] = ()) -> ShardClock:
        """All logical time of one bucket, to be imported elsewhere; `remove_shard` once it is.

        Parameters
        ----------
        bucket : int
        buffered : iterable of int
            Clocks of which writes to the bucket are still buffered, though their close may be due.
        """
        row = int(self._rows(np.array([bucket], np.int32))[0])
        still_open = {clock for clock in self._open if clock > self._ticks.floor[row]}
        return ShardClock(
            bucket,
            self._ticks.ticked[row].tolist(),
            list(self._fences.incarnation),
            list(self._finished_at),
            list(self._states.latest),
            list(self._pushed),
            sorted(still_open.union(buffered)),
            self._marks.export(bucket),
            list(self._fences.settled),
            self._states.export(),
        )

    def import_shard(self, shard: ShardClock) -> tuple[Effect, ...]:
        """A bucket arrives, its buffered pushes with it: the caller has them before it carries out what this returns.

        A shard that is behind gets the ticks that all shards here have, one that is ahead keeps its own. A clock without any shard
        takes over the time of this one. Of two incarnations of a rank the higher one counts; what a lower one has left above its
        last tick, there or here, is dropped if the higher one has settled, and else when it does. It has settled if it had where it
        comes from; where both have the same one, if it had on both sides.

        Returns
        -------
        tuple of Effect
            `DropAbove`, then the closes of clocks that are due in the bucket, then `Release` if pulls may be ready.
        """
        effects = list[Effect]()
        for rank, incarnation in enumerate(shard.incarnations):
            effects += self._meet(rank, incarnation, shard)
        for rank, highest in enumerate(shard.ticked):
            if highest > self._ticks.high[rank]:
                self._states.store(rank, highest if shard.finished_at[rank] < 0 else shard.finished_at[rank], shard.states[rank])
        self._states.adopt(shard.kept_states)
        self._finished_at = [max(pair) for pair in zip(self._finished_at, shard.finished_at, strict=True)]
        floor = self._insert(shard.bucket, shard.ticked)
        self._marks.adopt(shard.bucket, shard.marks)
        for effect in effects:
            if isinstance(effect, DropAbove):
                self._marks.rewind(effect.rank, stamp_of(effect.clock + 1, 0), effect.buckets or 0)
        effects += [Close(clock, 1 << shard.bucket) for clock in sorted(shard.open_clocks) if clock <= floor]
        self._open.update(clock for clock in shard.open_clocks if clock > floor)
        if self.spec.staleness != UNBOUNDED:
            effects.append(RELEASE)
        return tuple(effects)

    def _meet(self, rank: int, incarnation: int, shard: ShardClock) -> list[Effect]:
        """The fences of a rank here and of a shard that comes become one; drops what the lower of two incarnations left above."""
        mine = self._fences.incarnation[rank]
        settled = self._fences.settled[rank] if mine > incarnation else shard.settled[rank]
        self._fences.adopt(rank, incarnation, shard.settled[rank])
        here, there = self._pushed[rank], shard.pushed[rank]
        self._pushed[rank] = max(here, there)
        last = max(self._ticks.low[rank], shard.ticked[rank])  # what one has ticked both have all of
        left = there if mine > incarnation else here
        if mine == incarnation or left <= last or not settled:  # who has not settled will say itself from where on
            return []
        self._pushed[rank] = max(last, here if mine > incarnation else there)
        return [DropAbove(rank, last, 1 << shard.bucket if mine > incarnation else self._held)]

    def _insert(self, bucket: int, ticked: list[int]) -> int:
        """One more bucket, with these ticks; returns its floor."""
        if self._held >> bucket & 1:
            raise ProtocolError(f"Bucket {bucket} must come once. It is here.", group=self.spec.group, bucket=bucket)
        row = int(np.searchsorted(self.buckets, bucket))
        self._set_buckets(np.insert(self.buckets, row, bucket))
        return self._ticks.insert_row(row, ticked)

    def _set_buckets(self, buckets: Buckets) -> None:
        self.buckets = buckets
        self._row = self._rows_by_bucket()
        self._held = mask_of(buckets)

    def remove_shard(self, bucket: int) -> None:
        """A bucket has moved away; what is parked or buffered for it is the caller's, and so are closes that are not carried out."""
        row = int(self._rows(np.array([bucket], np.int32))[0])
        self._set_buckets(np.delete(self.buckets, row))
        self._marks.remove(bucket)
        self._ticks.delete_row(row)
        self._open = {clock for clock in self._open if clock > self._ticks.lowest and self._held}
        if not self._held:
            self._pushed = [-1] * self.spec.num_ranks

    def validate(self) -> None:
        """Asserts the invariants written at the fields."""
        self._ticks.validate()
        self._marks.validate()
        assert (np.diff(self.buckets) > 0).all()
        assert all(clock > self._ticks.lowest for clock in self._open), (self._open, self._ticks.lowest)
        assert not self._open or self.spec.staleness == 0
        for rank, high in enumerate(self._ticks.high):
            assert (high == INFINITE_CLOCK) == (self._finished_at[rank] >= 0), rank
            began = bool(self.spec.start)
            assert self._fences.incarnation[rank] or (not self._fences.settled[rank] and (began or self._states.latest[rank] is None)), rank
            assert high == INFINITE_CLOCK or high < MAX_CLOCK, rank
