"""All that a node holds of one bucket, as a value that goes to another node or into a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.errors import ProtocolError
from sparkps.specs import NUM_BUCKETS

Array = NDArray[Any]

_INT64 = np.dtype(np.int64)


@dataclass(frozen=True, eq=False)
class TableRows:
    """One table in one bucket."""

    #: Id of its index; 0: a dense table.
    index: int
    #: Steps of the optimizer's schedule so far.
    step: int
    #: Rows in slot order, then the planes of the optimizer's state: (count, dim) each, of a dense table (elements,).
    planes: tuple[Array, ...]


@dataclass(frozen=True, eq=False)
class BucketRows:
    """Keys, rows, optimizer state and steps of one bucket in all tables; see `Tables.copy_bucket`."""

    bucket: int
    #: By id of the index: the bucket's keys in slot order, int64 (count,).
    keys: Mapping[int, NDArray[np.int64]]
    #: By id of the table.
    tables: Mapping[int, TableRows]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self.arrays())

    def header(self) -> dict[str, Any]:
        """What `of` needs besides the arrays, as plain msgpack values."""
        tables = [[number, each.index, each.step, len(each.planes)] for number, each in self.tables.items()]
        return {"bucket": self.bucket, "indexes": list(self.keys), "tables": tables}

    def arrays(self) -> list[Array]:
        """Keys of each index, then the planes of each table, in the order of the header; C-contiguous."""
        planes = [plane for table in self.tables.values() for plane in table.planes]
        return [np.ascontiguousarray(array) for array in (*self.keys.values(), *planes)]

    @classmethod
    def of(cls, header: Mapping[str, Any], arrays: Sequence[Array]) -> BucketRows:
        """The value that had this `header` and these `arrays`.

        Raises
        ------
        ProtocolError
            They do not fit each other.

        Examples
        --------
        >>> rows = BucketRows(3, {}, {7: TableRows(0, 5, (np.zeros(2),))})
        >>> BucketRows.of(rows.header(), rows.arrays()).tables[7].step
        5
        """
        try:
            bucket, indexes, tables = header["bucket"], header["indexes"], header["tables"]
            left = iter(arrays)
            keys = {index: next(left) for index in indexes}
            made = {
                number: TableRows(index, step, tuple([next(left) for _ in range(planes)]))
                for number, index, step, planes in tables
            }
            complete = next(left, None) is None
        except (KeyError, TypeError, ValueError, StopIteration):
            complete = False
        if not complete:
            raise ProtocolError(f"A bucket's header must name all of its arrays. Got {header!r} for {len(arrays)} arrays.")
        rows = cls(bucket, keys, made)
        rows.check()
        return rows

    def check(self) -> None:
        """What must hold between the parts.

        Raises
        ------
        ProtocolError
        """
        numbers = [self.bucket, *self.keys, *self.tables, *(n for t in self.tables.values() for n in (t.index, t.step))]
        whole = all(type(number) is int for number in numbers) and 0 <= self.bucket < NUM_BUCKETS
        if not (
            whole
            and all(keys.dtype == _INT64 and keys.ndim == 1 for keys in self.keys.values())
            and all(self._fits(table) for table in self.tables.values())
        ):
            raise ProtocolError(f"The rows of a bucket must be those of its keys. Got {self.header()!r}.", bucket=self.bucket)

    def _fits(self, table: TableRows) -> bool:
        """Whether a table's planes are alike, and as long as its keys are many."""
        shapes = {plane.shape for plane in table.planes}
        if len(shapes) != 1 or len({plane.dtype for plane in table.planes[1:]}) > 1 or table.step < 0:
            return False
        (shape,) = shapes
        if table.index == 0:
            return len(shape) == 1
        return len(shape) == 2 and table.index in self.keys and shape[0] == len(self.keys[table.index])
