"""Coefficients of a model with one number a feature: at the driver where they are few, else on the tier."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sparkps.client.frames import read_buckets
from sparkps.client.tables import SparseTable
from sparkps.mllib.data.keys import KeyMap
from sparkps.mllib.tables import drop_quietly
from sparkps.specs import NUM_BUCKETS

if TYPE_CHECKING:
    from pyspark import SparkContext

Array = NDArray[Any]

#: Coefficients of at most so many bytes (key and value) come to the driver.
LOCAL_BYTES = 64 << 20

#: Of a key and a value.
BYTES_PER_COEFFICIENT = 16


@dataclass
class LocalCoefficients:
    """Coefficients at the driver: those that are not 0. Picklable."""

    #: int64 (n,), ascending.
    keys: Array
    #: float64 (n,).
    values: Array

    def __post_init__(self) -> None:
        self._map: KeyMap | None = None
        #: What `broadcast` gave, and `in_jvm` with its SparkContext.
        self._broadcast: Any = None
        self._in_jvm: tuple[Any, Any] | None = None

    def __getstate__(self) -> tuple[Array, Array]:
        return self.keys, self.values

    def __setstate__(self, state: tuple[Array, Array]) -> None:
        self.keys, self.values = state
        self.__post_init__()

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
        """Positions of `keys` (int32, -1 for none), and the coefficients at the positions."""
        if self._map is None:
            self._map = KeyMap.of(self.keys)
        return self._map.find(keys), self.values


class TableCoefficients:
    """Coefficients that stay on the tier, dropped there when nobody refers to them any more. Picklable.

    Parameters
    ----------
    table : SparseTable
    owned : bool
        Whether this object drops the table.
    """

    def __init__(self, table: SparseTable, *, owned: bool = True) -> None:
        self.table = table
        if owned:
            weakref.finalize(self, drop_quietly, table).atexit = False

    def __reduce__(self) -> tuple[Any, ...]:
        return _borrow, (self.table,)

    def look_up(self, keys: Array) -> tuple[Array, Array]:
        """As `LocalCoefficients.look_up`; only the keys' own rows are pulled."""
        numbers = KeyMap()
        ids = numbers.number(keys)
        rows = self.table.pull(np.array(numbers.keys)) if len(numbers) else np.empty((0, 1))
        return ids, np.ascontiguousarray(rows[:, 0], np.float64)


def _borrow(table: SparseTable) -> TableCoefficients:
    return TableCoefficients(table, owned=False)


Coefficients = LocalCoefficients | TableCoefficients


def collect(table: SparseTable, limit: int = LOCAL_BYTES) -> Coefficients:
    """The coefficients of a table of one column: at the driver if they fit in `limit` bytes, else a handle.

    The table is the caller's to drop if they came to the driver.
    """
    if table.call("nnz") * BYTES_PER_COEFFICIENT > limit:
        return TableCoefficients(table)
    return brought_here(table)


def brought_here(table: SparseTable) -> LocalCoefficients:
    """All coefficients of a table of one column, at the driver."""
    parts = list(read_buckets(table, range(NUM_BUCKETS)))
    keys = np.concatenate([np.empty(0, np.int64), *(keys for keys, _ in parts)])
    values = np.concatenate([np.empty(0), *(rows[:, 0].astype(np.float64) for _, rows in parts)])
    keep = (values != 0) & (keys >= 0)
    order = np.argsort(keys[keep])
    return LocalCoefficients(keys[keep][order], values[keep][order])


__all__ = [
    "BYTES_PER_COEFFICIENT",
    "LOCAL_BYTES",
    "Coefficients",
    "LocalCoefficients",
    "TableCoefficients",
    "brought_here",
    "collect",
]
