"""Coefficients of a model, a row of numbers a feature: at the driver where they are few, else on the tier."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sparkps.client.frames import read_buckets
from sparkps.client.tables import SparseTable
from sparkps.mllib.data.hot_rows import hot_rows_of
from sparkps.mllib.data.keys import KeyMap
from sparkps.mllib.tables import drop_quietly
from sparkps.specs import NUM_BUCKETS
from sparkps.wire.function_specs import largest

if TYPE_CHECKING:
    from pyspark import SparkContext

Array = NDArray[Any]

#: Coefficients of at most so many bytes (keys and values) come to the driver.
LOCAL_BYTES = 64 << 20

#: Buckets that the driver reads at a time.
_BUCKETS_AT_ONCE = 32


def bytes_of(rows: int, dim: int) -> int:
    """Bytes of the keys and values of `rows` rows of `dim` float64."""
    return rows * 8 * (1 + dim)


@dataclass
class LocalCoefficients:
    """Coefficients at the driver: the rows that are not all 0. Picklable."""

    #: int64 (n,), ascending.
    keys: Array
    #: float64 (n, dim).
    values: Array

    def __post_init__(self) -> None:
        assert self.values.ndim == 2, "a row of values a key"
        self._map: KeyMap | None = None
        #: What `broadcast` gave, and `in_jvm` with its SparkContext.
        self._broadcast: Any = None
        self._in_jvm: tuple[Any, Any] | None = None

    def __getstate__(self) -> tuple[Array, Array]:
        return self.keys, self.values

    def __setstate__(self, state: tuple[Array, Array]) -> None:
        self.keys, self.values = state
        self.__post_init__()

    @property
    def dim(self) -> int:
        """Values of a key."""
        return int(self.values.shape[1])

    def broadcast(self, context: SparkContext) -> Any:
        """A broadcast variable of these coefficients; one for all uses, since each leaves a file until Spark stops."""
        held = self._broadcast
        if held is None or held._sc is not context:
            held = self._broadcast = context.broadcast(self)
        return held

    def in_jvm(self, context: SparkContext, matrix: Callable[[], Any]) -> Any:
        """What `matrix` makes of these coefficients, as an object of the JVM; made and brought there once."""
        from pyspark.ml.common import _py2java

        if self._in_jvm is None or self._in_jvm[0] is not context:
            self._in_jvm = context, _py2java(context, matrix())
        return self._in_jvm[1]

    def look_up(self, keys: Array) -> tuple[Array, Array]:
        """Positions of `keys` (int32, -1 for none), and the rows at the positions, float64 (m, dim)."""
        if self._map is None:
            self._map = KeyMap.of(self.keys)
        return self._map.find(keys), self.values

    def top(self, k: int) -> tuple[Array, Array]:
        """Keys and rows of the `k` largest rows, the largest first: by magnitude, or Euclidean norm."""
        chosen = largest(self.keys, np.linalg.norm(self.values, axis=1), k, "magnitude")
        return self.keys[chosen], self.values[chosen]


class TableCoefficients:
    """Coefficients that stay on the tier, dropped there when nobody refers to them any more. Picklable.

    Parameters
    ----------
    table : SparseTable
        Rows of negative keys are no features.
    owned : bool
        Whether this object drops the table.
    max_age : float, optional
        Seconds for which a process may use a row that it has pulled. None: for ever, as suits a model that is final; 0: every look-up
        pulls, as suits one that learns while it serves.
    """

    def __init__(self, table: SparseTable, *, owned: bool = True, max_age: float | None = None) -> None:
        self.table = table
        self.max_age = max_age
        if owned:
            weakref.finalize(self, drop_quietly, table).atexit = False

    def __reduce__(self) -> tuple[Any, ...]:
        return _borrow, (self.table, self.max_age)

    @property
    def dim(self) -> int:
        """Values of a key."""
        return self.table.dim

    def look_up(self, keys: Array) -> tuple[Array, Array]:
        """As `LocalCoefficients.look_up`; only the keys' own rows are pulled, and those not that this process has from before."""
        numbers = KeyMap()
        ids = numbers.number(keys)
        distinct = np.array(numbers.keys)
        if not len(distinct):
            return ids, np.empty((0, self.dim))
        if self.max_age == 0:
            return ids, np.ascontiguousarray(self.table.pull(distinct), np.float64)
        return ids, hot_rows_of(self.table, self.dim, self.max_age).look_up(distinct, self.table.pull)

    def top(self, k: int) -> tuple[Array, Array]:
        """As `LocalCoefficients.top`; the nodes choose, and only `k` rows come here."""
        # No feature, but maybe among the largest: the intercept, and the parameters with keys below it, few of most models.
        asked = k + _FEW_PARAMETERS
        while True:
            every, sizes = self.table.call("topk", k=asked, by="magnitude")
            keys = every[(every >= 0) & (sizes != 0)][:k]
            if len(keys) == k or len(every) < asked or not sizes.all():
                break
            asked *= 2
        return keys, np.asarray(self.table.pull(keys), np.float64) if len(keys) else np.empty((0, self.dim))


#: Rows of a model's table that belong to no feature, of all models but those of several layers.
_FEW_PARAMETERS = 16


def _borrow(table: SparseTable, max_age: float | None) -> TableCoefficients:
    return TableCoefficients(table, owned=False, max_age=max_age)


Coefficients = LocalCoefficients | TableCoefficients


def collect(table: SparseTable, limit: int = LOCAL_BYTES) -> Coefficients:
    """The coefficients of a table: at the driver if they fit in `limit` bytes, else a handle.

    The table is the caller's to drop if they came to the driver.
    """
    fewest = -(-table.call("nnz") // table.dim)
    if bytes_of(fewest, table.dim) <= limit:
        found = _within(table, limit)
        if found is not None:
            return found
    return TableCoefficients(table)


def brought_here(table: SparseTable) -> LocalCoefficients:
    """All coefficients of a table, at the driver."""
    return _sorted(list(_features(table)), table.dim)


def _within(table: SparseTable, limit: int) -> LocalCoefficients | None:
    """All coefficients, unless they take more than `limit` bytes."""
    parts, rows = [], 0
    for part in _features(table):
        parts.append(part)
        rows += len(part[0])
        if bytes_of(rows, table.dim) > limit:
            return None
    return _sorted(parts, table.dim)


def _features(table: SparseTable) -> Iterator[tuple[Array, Array]]:
    """Keys and rows of the features whose rows are not all 0, in pieces."""
    for first in range(0, NUM_BUCKETS, _BUCKETS_AT_ONCE):
        for keys, rows in read_buckets(table, range(first, min(first + _BUCKETS_AT_ONCE, NUM_BUCKETS))):
            keep = (keys >= 0) & rows.any(axis=1)
            yield keys[keep], rows[keep].astype(np.float64)


def _sorted(parts: list[tuple[Array, Array]], dim: int) -> LocalCoefficients:
    keys = np.concatenate([np.empty(0, np.int64), *(keys for keys, _ in parts)])
    values = np.concatenate([np.empty((0, dim)), *(rows for _, rows in parts)])
    order = np.argsort(keys)
    return LocalCoefficients(keys[order], values[order])


__all__ = [
    "LOCAL_BYTES",
    "Coefficients",
    "LocalCoefficients",
    "TableCoefficients",
    "brought_here",
    "bytes_of",
    "collect",
]
