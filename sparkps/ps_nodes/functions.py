"""Server functions at the node: what runs on each bucket next to the data.

The built-in ones pass over memory once per call, all buckets in one kernel. A user's function gets one `Shard` after the
other. Names, arguments and the way partials become a result are in `wire.functions`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cloudpickle
import numpy as np
from numpy.typing import NDArray

from sparkps.errors import FunctionFailed, InvalidInput, UnknownTable
from sparkps.kernels import layout, lookup, vectors
from sparkps.ps_nodes.dense import DenseTable
from sparkps.ps_nodes.sparse import SparseTable
from sparkps.wire.functions import BUILT_IN, largest
from sparkps.wire.messages import FunctionCall

Table = SparseTable | DenseTable
Arrays = list[NDArray[Any]]
Buckets = NDArray[np.int32]

_users: dict[str, Callable[..., Any]] = {}
_users_lock = threading.Lock()


class Shard:
    """One bucket of the tables of a call, as a user's function sees it.

    Its bucket is locked while the function runs, so that rows may be read and changed in place.
    """

    def __init__(self, bucket: int, tables: Sequence[Table]) -> None:
        #: Number of the bucket.
        self.bucket = bucket
        self._tables = {table.spec.name: table for table in tables}
        self._first = tables[0]
        self._keys = self._first.keys_of(bucket)

    @property
    def keys(self) -> NDArray[np.int64]:
        """Keys of the bucket's rows (of a dense table: positions): ndarray of shape (count,), int64."""
        return self._keys

    def rows(self, table: str | None = None) -> NDArray[Any]:
        """Rows of a table of the call, by default of the one that was called: ndarray of shape (count, dim), a view."""
        if table is None:
            return self._first.rows_of(self.bucket)
        if table not in self._tables:
            raise InvalidInput(
                f"A server function may read the tables of its call only, {sorted(self._tables)}. Got {table!r}; name it in `tables`."
            )
        return self._tables[table].rows_of(self.bucket)


def register(name: str, blob: bytes) -> None:
    """Make a user's function known under `name`, in place of an older one.

    Parameters
    ----------
    name : str
        Not the name of a built-in function.
    blob : bytes
        The function as cloudpickle gives it: ``fn(shard, **arguments)``, returning a number, an array of one shape for all
        buckets, or None.
    """
    if name in BUILT_IN:
        raise InvalidInput(f"A function must not have a built-in's name. Got {name!r}; choose another.", function=name)
    try:
        function = cloudpickle.loads(blob)
    except Exception as error:
        raise FunctionFailed(
            f"Function {name!r} must be importable on the nodes. Unpickling it raised {type(error).__name__}: {error}",
            function=name,
        ) from error
    with _users_lock:
        _users[name] = function


def run(calls: Sequence[FunctionCall], tables: Mapping[int, Table], buckets: Sequence[int] | Buckets) -> Arrays:
    """Carry out calls one after the other.

    Parameters
    ----------
    calls : sequence of FunctionCall
    tables : mapping
        All tables of the node by id.
    buckets : sequence of int
        The buckets to work on, ascending.

    Returns
    -------
    list of ndarray
        For each call: the buckets (int32), then the arrays of its partials (`FunctionSpec.arrays`).

    Raises
    ------
    UnknownTable, InvalidInput
        Before anything is changed.
    FunctionFailed
        A user's function raised.
    """
    found = [(call, _tables_of(call, tables)) for call in calls]
    where = np.asarray(buckets, np.int32)
    arrays: Arrays = []
    for call, operands in found:
        if call.function in BUILT_IN:
            arrays += [where, *_RUNNERS[call.function](operands, call.args, where)]
        else:
            arrays += [where, _run_user(_users[call.function], call, operands, where)]
    return arrays


def _tables_of(call: FunctionCall, tables: Mapping[int, Table]) -> list[Table]:
    """The tables of a call, checked; all of them share an index, or are dense and of one shape."""
    if call.function not in BUILT_IN and call.function not in _users:
        known = ", ".join(sorted([*BUILT_IN, *_users]))
        raise InvalidInput(f"A server function must be one of {known}. Got {call.function!r}.", function=call.function)
    operands = []
    for table_id in call.tables:
        if table_id not in tables:
            raise UnknownTable(
                f"Table {table_id} must exist on the tier. It was dropped, or never created.", table=table_id
            )
        operands.append(tables[table_id])
    if not operands:
        raise InvalidInput(f"{call.function!r} must be called on a table. Got none.", function=call.function)
    first = operands[0]
    for other in operands[1:]:
        if not _aligned(first, other):
            raise InvalidInput(
                f"The tables of {call.function!r} must be sparse, of one group and dim, or dense and of one shape. Got"
                f" {first.spec.name!r} and {other.spec.name!r}; create them with the same `group`.",
                function=call.function,
                table=other.spec.name,
            )
    return operands


def _aligned(first: Table, other: Table) -> bool:
    if isinstance(first, SparseTable) and isinstance(other, SparseTable):
        return first.index is other.index and first.spec.dim == other.spec.dim
    return isinstance(first, DenseTable) and isinstance(other, DenseTable) and first.spec.shape == other.spec.shape


# ---- built-in functions ------------------------------------------------------------------------------------------------


def _described(tables: Sequence[Table]) -> NDArray[np.int64]:
    """The tables as the kernels want them: address of the pointer table, bytes per value."""
    return np.array([[table.heads.ctypes.data, table.dtype.itemsize] for table in tables], np.int64)


def _reduced(kind: int) -> Callable[[list[Table], Mapping[str, Any], Buckets], Arrays]:
    def runner(tables: list[Table], _args: Mapping[str, Any], buckets: Buckets) -> Arrays:
        first, out = tables[0], np.empty(len(buckets))
        vectors.reduce_buckets(kind, _described(tables[:1]), first.lock_heads, buckets, first.sizes(buckets), out)
        return [out]

    return runner


def _gram(left: Sequence[Table], right: Sequence[Table], buckets: Buckets) -> NDArray[np.float64]:
    """Dot products of `left` with `right`, or with itself if there is no `right`: (b, l, r)."""
    out = np.empty((len(buckets), len(left), len(right) or len(left)))
    first = left[0]
    tables = _described([*left, *right])
    vectors.gram_buckets(tables, len(left), int(not right), first.lock_heads, buckets, first.sizes(buckets), out)
    return out


def _run_dot(tables: list[Table], _args: Mapping[str, Any], buckets: Buckets) -> Arrays:
    return [_gram(tables[:1], tables[1:2], buckets).reshape(-1)]


def _run_gram(tables: list[Table], args: Mapping[str, Any], buckets: Buckets) -> Arrays:
    count = int(args["left"])
    left, right = tables[1 : 1 + count], tables[1 + count :]
    if not left:
        raise InvalidInput("`left` of 'gram' must name at least one table. Got none.", function="gram")
    return [_gram(left, right, buckets)]


def _run_top(tables: list[Table], args: Mapping[str, Any], buckets: Buckets) -> Arrays:
    k, by, table = int(args["k"]), str(args["by"]), tables[0]
    keys, values = [np.empty(0, np.int64)], [np.empty(0)]
    for bucket in buckets.tolist():
        rows = table.rows_of(bucket)
        dim_is_one = rows.shape[1] == 1
        measure = (
            rows[:, 0].astype(np.float64) if dim_is_one else np.sqrt(np.square(rows, dtype=np.float64).sum(axis=1))
        )
        bucket_keys = table.keys_of(bucket)[: len(measure)]
        if len(measure) > 4 * k:
            size = np.abs(measure) if by == "magnitude" else measure
            kept = np.flatnonzero(
                size >= np.partition(size, len(size) - k)[len(size) - k]
            )  # all ties stay: keys decide
            measure, bucket_keys = measure[kept], bucket_keys[kept]
        chosen = largest(bucket_keys, measure, k, by)
        keys.append(bucket_keys[chosen])
        values.append(measure[chosen])
    all_keys, all_values = np.concatenate(keys), np.concatenate(values)
    chosen = largest(all_keys, all_values, k, by)
    return [all_keys[chosen], all_values[chosen]]


def _combine(
    target: Table, terms: Sequence[Table], coefficients: Sequence[float], buckets: Buckets, constant: float = 0.0
) -> Arrays:
    """target = constant, or the sum of coefficient times table."""
    weights = np.array(coefficients, np.float64)
    tables = _described([target, *terms])
    vectors.combine_buckets(tables, weights, constant, target.lock_heads, buckets, target.sizes(buckets))
    target.written(buckets)
    return []


def _run_fill(tables: list[Table], args: Mapping[str, Any], buckets: Buckets) -> Arrays:
    return _combine(tables[0], [], [], buckets, float(args["value"]))


def _run_scale(tables: list[Table], args: Mapping[str, Any], buckets: Buckets) -> Arrays:
    return _combine(tables[0], tables[:1], [float(args["alpha"])], buckets)


def _run_axpy(tables: list[Table], args: Mapping[str, Any], buckets: Buckets) -> Arrays:
    return _combine(tables[0], tables[:2], [1.0, float(args["alpha"])], buckets)


def _run_copy(tables: list[Table], _args: Mapping[str, Any], buckets: Buckets) -> Arrays:
    return _combine(tables[0], tables[1:2], [1.0], buckets)


def _run_linear_combination(tables: list[Table], args: Mapping[str, Any], buckets: Buckets) -> Arrays:
    return _combine(tables[0], tables[1:], args["coefficients"], buckets)


_RUNNERS: dict[str, Callable[[list[Table], Mapping[str, Any], Buckets], Arrays]] = {
    "sum": _reduced(layout.SUM),
    "norm1": _reduced(layout.NORM1),
    "norm2": _reduced(layout.SQUARES),
    "min": _reduced(layout.MIN),
    "max": _reduced(layout.MAX),
    "nnz": _reduced(layout.NONZERO),
    "dot": _run_dot,
    "gram": _run_gram,
    "topk": _run_top,
    "fill": _run_fill,
    "scale": _run_scale,
    "axpy": _run_axpy,
    "copy": _run_copy,
    "linear_combination": _run_linear_combination,
}


# ---- users' functions --------------------------------------------------------------------------------------------------


def _run_user(function: Callable[..., Any], call: FunctionCall, tables: list[Table], buckets: Buckets) -> NDArray[Any]:
    """A user's function on each bucket: its results stacked, one for each bucket; an empty array if it returns None."""
    args = {name: value for name, value in call.args.items() if name != "tables"}
    partials = []
    for bucket in buckets.tolist():
        try:
            partials.append(_run_locked(function, bucket, tables, args))
        except Exception as error:
            raise FunctionFailed(
                f"Function {call.function!r} raised {type(error).__name__} on bucket {bucket}: {error}",
                function=call.function,
                bucket=bucket,
                table=tables[0].spec.name,
            ) from error
    for table in tables:
        table.written(buckets)
    given = [np.asarray(partial) for partial in partials if partial is not None]
    if not given:
        return np.zeros(len(buckets))
    if len(given) != len(partials) or len({(each.shape, each.dtype) for each in given}) > 1:
        raise FunctionFailed(
            f"Function {call.function!r} must return numbers or arrays of one shape and dtype, on every bucket or on none.",
            function=call.function,
            table=tables[0].spec.name,
        )
    return np.stack(given)


def _run_locked(function: Callable[..., Any], bucket: int, tables: list[Table], args: Mapping[str, Any]) -> Any:
    shard = Shard(bucket, tables)
    only = np.array([bucket], np.int32)
    lookup.lock_buckets(tables[0].lock_heads, only)
    try:
        return function(shard, **args)
    finally:
        lookup.unlock_buckets(tables[0].lock_heads, only)
