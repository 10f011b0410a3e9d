"""What a rank's lost incarnations have left applied: the rule that makes SSP and ASP exactly-once per shard.

With updates applied on arrival, a worker that dies inside a clock leaves some of that clock's pushes applied, on some
shards. Its successor computes the clock again and pushes again; a shard then takes just what it does not have yet.

A *stamp* is a push's place in its rank's history, (clock, ordinal) as one integer. The *mark* of (shard, rank) is the stamp of
the last push that the shard applied. When a new incarnation takes over, marks become *barriers*: its pushes at or below
the barrier of a shard are duplicates there. Inside one incarnation, duplicates are removed by (session, seq) before they get
here, so that several operations of one push may share a stamp; those on one shard must come in one request.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

#: Pushes of one rank within one clock stay below ``2**ORDINAL_BITS``.
ORDINAL_BITS = 20
#: Clocks of a rank that is not finished stay below this.
MAX_CLOCK = 1 << 42
#: The mark of a shard to which a rank has not pushed.
NO_MARK = -1


def stamp_of(clock: int, ordinal: int) -> int:
    """(clock, ordinal) as one integer, in the same order."""
    return (clock << ORDINAL_BITS) | ordinal


class ShardMarks(msgspec.Struct, frozen=True):
    """Marks and barriers of one bucket and table, by rank: what moves with a shard."""

    table: int
    marks: list[int]
    barriers: list[int]


class Watermarks:
    """Marks and barriers of one group on one node's shards.

    Parameters
    ----------
    num_rows : int
        Number of buckets of this node; they are named by their row here.
    num_ranks : int
        Members of the group.
    """

    def __init__(self, num_rows: int, num_ranks: int) -> None:
        self._shape = (num_rows, num_ranks)
        #: table -> int64 (rows, ranks): stamp of the last applied push, `NO_MARK` if none; never falls.
        self._marks: dict[int, NDArray[np.int64]] = {}
        #: table -> int64 (rows, ranks): the marks as the last takeover of each rank found them; <= the mark.
        self._barriers: dict[int, NDArray[np.int64]] = {}
        #: Highest barrier of each rank, over all tables and rows: a push above it needs no look at them.
        self._highest = [NO_MARK] * num_ranks

    def apply(self, table: int, rank: int, rows: NDArray[np.int32] | None, stamp: int) -> NDArray[np.bool_] | None:
        """Decides which rows take a push, and marks them.

        Parameters
        ----------
        table, rank : int
            Whose shards are pushed to, and by whom.
        rows : ndarray of shape (n,), int32, without repetition, or None
            Rows of the buckets that the push reaches; None for all.
        stamp : int
            See `stamp_of`.

        Returns
        -------
        ndarray of shape (n,), bool, or None
            True where the push is to be applied; None if it is everywhere.
        """
        fresh = self._fresh(table, rank, rows, stamp) if stamp <= self._highest[rank] else None
        marks = self._marks.get(table)
        if marks is None:
            marks = self._marks[table] = np.full(self._shape, NO_MARK, np.int64)
        if rows is None and fresh is None:
            column = marks[:, rank]
            np.maximum(column, stamp, out=column)
            return None
        taken = np.arange(self._shape[0], dtype=np.int32) if rows is None else rows
        taken = taken if fresh is None else taken[fresh]
        marks[taken, rank] = np.maximum(marks[taken, rank], stamp)
        return fresh

    def _fresh(self, table: int, rank: int, rows: NDArray[np.int32] | None, stamp: int) -> NDArray[np.bool_] | None:
        barriers = self._barriers.get(table)
        if barriers is None:
            return None
        column = barriers[:, rank]
        fresh: NDArray[np.bool_] = (column if rows is None else column[rows]) < stamp
        return None if fresh.all() else fresh

    def raise_barriers(self, rank: int) -> None:
        """A new incarnation takes over: what `rank` has pushed so far will not be applied again."""
        for table, marks in self._marks.items():
            if table not in self._barriers:
                self._barriers[table] = np.full(self._shape, NO_MARK, np.int64)
            self._barriers[table][:, rank] = marks[:, rank]
            self._highest[rank] = max(self._highest[rank], int(marks[:, rank].max(initial=NO_MARK)))

    def forget(self, table: int) -> None:
        """The table was dropped."""
        self._marks.pop(table, None)
        self._barriers.pop(table, None)

    def export_row(self, row: int) -> list[ShardMarks]:
        """Marks and barriers of one bucket, in all tables."""
        none = [NO_MARK] * self._shape[1]
        return [
            ShardMarks(
                table, marks[row].tolist(), self._barriers[table][row].tolist() if table in self._barriers else none
            )
            for table, marks in self._marks.items()
        ]

    def insert_row(self, row: int, shards: list[ShardMarks]) -> None:
        """A bucket arrives, with the marks that it was exported with; rows from `row` on move down."""
        for arrays in (self._marks, self._barriers):
            for table in arrays:
                arrays[table] = np.insert(arrays[table], row, NO_MARK, axis=0)
        self._shape = (self._shape[0] + 1, self._shape[1])
        for shard in shards:
            for arrays, values in ((self._marks, shard.marks), (self._barriers, shard.barriers)):
                arrays.setdefault(shard.table, np.full(self._shape, NO_MARK, np.int64))[row] = values
            self._highest = [max(pair) for pair in zip(self._highest, shard.barriers, strict=True)]

    def delete_row(self, row: int) -> None:
        """A bucket leaves; rows after `row` move up."""
        for arrays in (self._marks, self._barriers):
            for table in arrays:
                arrays[table] = np.delete(arrays[table], row, axis=0)
        self._shape = (self._shape[0] - 1, self._shape[1])

    def validate(self) -> None:
        """Asserts the invariants written at the fields."""
        for table, marks in self._marks.items():
            assert marks.shape == self._shape, (table, marks.shape, self._shape)
            assert marks.min(initial=NO_MARK) >= NO_MARK, table
        for table, barriers in self._barriers.items():
            assert barriers.shape == self._shape, (table, barriers.shape, self._shape)
            assert (barriers <= self._marks[table]).all(), table
            assert (barriers.max(axis=0, initial=NO_MARK) <= np.array(self._highest)).all(), table
