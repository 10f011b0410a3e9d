"""What estimators share: the tier they run on, the columns they read, and the coefficients they end with."""

from __future__ import annotations

import logging
import time
import uuid
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from sparkps.client.frames import read_buckets
from sparkps.client.tables import DenseTable, SparseTable, Table
from sparkps.driver_bridge.input.scan import quoted
from sparkps.errors import DeadlineExceeded, InvalidInput, NodeUnreachable, SparkPSError
from sparkps.kernels import ahead
from sparkps.mllib.data.keys import KeyMap
from sparkps.mllib.data.rows import Columns
from sparkps.mllib.data.store import INTERCEPT_KEY
from sparkps.specs import NUM_BUCKETS

if TYPE_CHECKING:
    from pyspark import SparkContext
    from pyspark.sql import DataFrame, SparkSession

    from sparkps.driver_bridge.context import PSContext

log = logging.getLogger(__name__)

Array = NDArray[Any]

#: Coefficients of at most so many bytes (key and value) come to the driver.
LOCAL_BYTES = 64 << 20

_BYTES_PER_COEFFICIENT = 16


def context_of(spark: SparkSession) -> PSContext:
    """The current tier, or a new one from the session's settings that later fits share."""
    from sparkps.driver_bridge.context import PSContext

    return PSContext.get_or_create(spark)


def warm_kernels(*owners: str) -> None:
    """Compile the kernels that workers will call, once per machine, before they all do it at once.

    Parameters
    ----------
    *owners : str
        Packages and modules that declare them.
    """
    if ahead.is_warm(*owners):
        return
    log.warning("sparkps compiles the kernels of its estimators for this machine, once: some seconds.")
    began = time.monotonic()
    ahead.warm(*owners)
    log.warning("sparkps has compiled them in %.0f s.", time.monotonic() - began)


def select_rows(df: DataFrame, columns: Columns) -> DataFrame:
    """The columns that workers read, in the order of ``columns.names``.

    Raises
    ------
    InvalidInput
        A column is missing or of a type that cannot be read; names it.
    """
    from pyspark.sql import functions as sf
    from pyspark.sql.types import DoubleType, NumericType

    for name in columns.names:
        if name not in df.columns:
            raise InvalidInput(f"Column {name!r} must exist. The DataFrame has {', '.join(df.columns)}.", column=name)
    check_features_type(columns.features, df.schema[columns.features].dataType)
    doubles = {}
    for name in (columns.label, columns.weight) if columns.weight else (columns.label,):
        kind = df.schema[name].dataType
        if not isinstance(kind, NumericType):
            raise InvalidInput(f"Column {name!r} must be numeric. Got {kind.simpleString()} instead.", column=name)
        if not isinstance(kind, DoubleType):
            doubles[name] = sf.col(quoted(name)).cast("double").alias(name)
    if not doubles and df.columns == columns.names:
        return df  # planning a projection takes a third of a second in a JVM that has not planned any
    return df.select(*(doubles.get(name, sf.col(quoted(name))) for name in columns.names))


def check_features_type(name: str, kind: Any) -> None:
    """Raise unless a column of Spark type `kind` can hold features."""
    from pyspark.ml.linalg import VectorUDT
    from pyspark.sql.types import ArrayType, DecimalType, IntegralType, NumericType, StructType

    def is_array(of: Any, elements: type) -> bool:
        return isinstance(of, ArrayType) and isinstance(of.elementType, elements) and not isinstance(of.elementType, DecimalType)

    if isinstance(kind, VectorUDT) or is_array(kind, NumericType):
        return
    if isinstance(kind, StructType) and {"indices", "values"} <= set(kind.names):
        indices, values = (kind[part].dataType for part in ("indices", "values"))
        if is_array(indices, IntegralType) and is_array(values, NumericType):
            return
    raise InvalidInput(
        f"Column {name!r} must hold features: a vector, array<double>, or struct<indices: array<bigint>, values: array<float>>. Got"
        f" {kind.simpleString()} instead.",
        column=name,
    )


def new_prefix(uid: str) -> str:
    """A prefix of table names that no other fit has."""
    return f"{uid}.{uuid.uuid4().hex[:12]}"


class FitTables:
    """The tables of one fit, a context manager: what is not kept is dropped at its end, also after a failure or Ctrl-C.

    A model is not given up because its tables cannot be dropped, nor kept waiting once for each of them.

    Parameters
    ----------
    ps : PSContext
    """

    def __init__(self, ps: PSContext) -> None:
        self._ps = ps
        #: By name, what makes the table, and the table once it is known: an interrupt may come between.
        self._tables: dict[str, tuple[Callable[[], Table], Table | None]] = {}

    def sparse(self, name: str, **spec: Any) -> SparseTable:
        """As `PSContext.sparse_table`."""
        made = self._made(name, lambda: self._ps.sparse_table(name, **spec))
        assert isinstance(made, SparseTable)
        return made

    def dense(self, name: str, **spec: Any) -> DenseTable:
        """As `PSContext.dense_table`."""
        made = self._made(name, lambda: self._ps.dense_table(name, **spec))
        assert isinstance(made, DenseTable)
        return made

    def _made(self, name: str, make: Callable[[], Table]) -> Table:
        self._tables[name] = make, None
        table = make()
        self._tables[name] = make, table
        return table

    def keep(self, table: Table) -> None:
        """The table outlives the fit."""
        del self._tables[table.name]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for number, (make, table) in enumerate(self._tables.values()):
            if not _dropped(make, table):
                log.warning("%d tables of a fit stay on the tier until it ends", len(self._tables) - number)
                break


def _dropped(make: Callable[[], Table], table: Table | None) -> bool:
    """Drop a table; one whose creation was interrupted is asked for again, which finds it. Whether the coordinator answered."""
    try:
        return drop_quietly(make() if table is None else table)
    except SparkPSError as error:
        log.debug("a table was not made, nor dropped: %s", error)
        return not isinstance(error, (NodeUnreachable, DeadlineExceeded))


def drop_quietly(table: Table) -> bool:
    """Drop a table; a tier that is gone has dropped it already. Whether the coordinator answered."""
    try:
        table.drop()
    except SparkPSError as error:
        log.debug("table %s was not dropped: %s", table.name, error)
        return not isinstance(error, (NodeUnreachable, DeadlineExceeded))
    return True


# ---- coefficients ------------------------------------------------------------------------------------------------------


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
    if table.call("nnz") * _BYTES_PER_COEFFICIENT > limit:
        return TableCoefficients(table)
    return brought_here(table)


def brought_here(table: SparseTable) -> LocalCoefficients:
    """All coefficients of a table of one column, at the driver."""
    parts = list(read_buckets(table, range(NUM_BUCKETS)))
    keys = np.concatenate([np.empty(0, np.int64), *(keys for keys, _ in parts)])
    values = np.concatenate([np.empty(0), *(rows[:, 0].astype(np.float64) for _, rows in parts)])
    keep = (values != 0) & (keys != INTERCEPT_KEY)
    order = np.argsort(keys[keep])
    return LocalCoefficients(keys[keep][order], values[keep][order])


__all__ = [
    "LOCAL_BYTES", "Coefficients", "FitTables", "LocalCoefficients", "TableCoefficients", "brought_here", "check_features_type",
    "collect", "context_of", "drop_quietly", "new_prefix", "select_rows", "warm_kernels",
]  # fmt: skip
