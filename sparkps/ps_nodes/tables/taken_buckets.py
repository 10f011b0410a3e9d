"""What a checkpoint takes of a bucket: whole tables, or what has changed in them since an older one, where that is little."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.ps_nodes.tables.bucket_rows import BucketRows, TableRows

Array = NDArray[Any]

#: What has changed is taken alone if it has at most this share of the bytes of all of it, `OVERHEAD` bytes included.
MOST_CHANGED, OVERHEAD = 0.5, 1024


def is_little(changed: int, whole: int) -> bool:
    """Whether so many bytes are taken rather than the whole."""
    return changed + OVERHEAD <= MOST_CHANGED * whole


@dataclass(frozen=True, eq=False)
class TableChanges:
    """Rows of one table in one bucket that have changed or come since a checkpoint."""

    #: int32 (n,), ascending.
    slots: NDArray[np.int32]
    #: Steps of the optimizer's schedule so far.
    step: int
    #: Rows, then the planes of the optimizer's state: (n, dim) each.
    planes: tuple[Array, ...]


@dataclass(frozen=True, eq=False)
class TakenBucket:
    """What a checkpoint takes of a bucket."""

    #: Whole tables and indexes.
    whole: BucketRows
    #: By id of the table.
    tables: Mapping[int, TableChanges] = field(default_factory=dict)
    #: By id of the index: keys that have come, in slot order, int64 (n,).
    keys: Mapping[int, NDArray[np.int64]] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        changes = sum(each.slots.nbytes + sum(plane.nbytes for plane in each.planes) for each in self.tables.values())
        return self.whole.nbytes + changes + sum(keys.nbytes for keys in self.keys.values())

    @classmethod
    def joined(cls, bucket: int, parts: Iterable[TakenBucket]) -> TakenBucket:
        """One copy of what several have of a bucket."""
        keys: dict[int, NDArray[np.int64]] = {}
        tables: dict[int, TableRows] = {}
        changes: dict[int, TableChanges] = {}
        more: dict[int, NDArray[np.int64]] = {}
        for part in parts:
            keys.update(part.whole.keys)
            tables.update(part.whole.tables)
            changes.update(part.tables)
            more.update(part.keys)
        return cls(BucketRows(bucket, keys, tables), changes, more)


__all__ = ["TableChanges", "TakenBucket", "is_little"]
