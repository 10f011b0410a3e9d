"""Built-in server functions at the node: each passes over memory once, all buckets in one kernel.

A runner gets the tables of a call in their order, its plain arguments and the buckets to work on, and gives the arrays of its
partials. Names, arguments and the way partials become a result are in `wire.function_specs`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.kernels import layout, lookup, vectors
from sparkps.kernels.elementwise import ELEMENTWISE
from sparkps.ps_nodes.tables.directory import Table
from sparkps.wire.function_specs import BUILT_IN, largest

Arrays = list[NDArray[Any]]
Buckets = NDArray[np.int32]

def _described(tables: Sequence[Table]) -> NDArray[np.int64]:
    """The tables as the kernels want them: address of the pointer table, bytes per value."""
    return np.array([[table.heads.ctypes.data, table.dtype.itemsize] for table in tables], np.int64)


def _elements(tables: Sequence[Table], buckets: Buckets) -> NDArray[np.int64]:
    """How many values of each bucket the kernels may go over: those that all of the tables have room for.

    Every table of an index has room for all its keys; one that has left it stays as it was.
    """
    rooms = (table.heads[buckets, layout.ROOM] * table.spec.dim for table in tables)
    elements = tables[0].sizes(buckets)
    for room in rooms:
        elements = np.minimum(elements, room)
    return elements


def _reduced(kind: int) -> Callable[[list[Table], Mapping[str, Any], Buckets], Arrays]:
    def runner(tables: list[Table], _args: Mapping[str, Any], buckets: Buckets) -> Arrays:
        first, out = tables[:1], np.empty(len(buckets))
        vectors.reduce_buckets(
            kind, _described(first), tables[0].lock_heads, buckets, _elements(first, buckets), out
        )
        return [out]

    return runner


def _gram(left: Sequence[Table], right: Sequence[Table], buckets: Buckets) -> NDArray[np.float64]:
    """Dot products of `left` with `right`, or with itself if there is no `right`: (b, l, r)."""
    out = np.empty((len(buckets), len(left), len(right) or len(left)))
    tables = [*left, *right]
    where = left[0].lock_heads, buckets, _elements(tables, buckets)
    vectors.gram_buckets(_described(tables), len(left), int(not right), *where, out)
    return out


def _run_dot(tables: list[Table], _args: Mapping[str, Any], buckets: Buckets) -> Arrays:
    return [_gram(tables[:1], tables[1:2], buckets).reshape(-1)]


def _run_gram(tables: list[Table], args: Mapping[str, Any], buckets: Buckets) -> Arrays:
    count = args["left"]
    return [_gram(tables[1 : 1 + count], tables[1 + count :], buckets)]


def _run_top(tables: list[Table], args: Mapping[str, Any], buckets: Buckets) -> Arrays:
    k, by, table = args["k"], args["by"], tables[0]
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
    weights, tables = np.array(coefficients, np.float64), [target, *terms]
    target.changing(buckets)
    vectors.combine_buckets(
        _described(tables), weights, constant, target.lock_heads, buckets, _elements(tables, buckets)
    )
    target.written(buckets)
    return []


def _run_column_dots(tables: list[Table], _args: Mapping[str, Any], buckets: Buckets) -> Arrays:
    out = np.empty((len(buckets), tables[0].spec.dim))
    vectors.column_dots_buckets(_described(tables), tables[0].lock_heads, buckets, _elements(tables, buckets), out)
    return [out]


def _run_column_axpy(tables: list[Table], args: Mapping[str, Any], buckets: Buckets) -> Arrays:
    target = tables[0]
    target.changing(buckets)
    alphas = np.array(args["alphas"], np.float64)
    vectors.column_axpy_buckets(_described(tables), alphas, target.lock_heads, buckets, _elements(tables, buckets))
    target.written(buckets)
    return []


def _run_fill(tables: list[Table], args: Mapping[str, Any], buckets: Buckets) -> Arrays:
    return _combine(tables[0], [], [], buckets, args["value"])


def _run_scale(tables: list[Table], args: Mapping[str, Any], buckets: Buckets) -> Arrays:
    return _combine(tables[0], tables[:1], [args["alpha"]], buckets)


def _run_axpy(tables: list[Table], args: Mapping[str, Any], buckets: Buckets) -> Arrays:
    return _combine(tables[0], tables[:2], [1.0, args["alpha"]], buckets)


def _run_copy(tables: list[Table], _args: Mapping[str, Any], buckets: Buckets) -> Arrays:
    if tables[0].spec.storage:
        return _copy_as_they_lie(tables[0], tables[1], buckets)
    return _combine(tables[0], tables[1:2], [1.0], buckets)


def _copy_as_they_lie(target: Table, source: Table, buckets: Buckets) -> Arrays:
    """Rows in 16 bits; who calls keeps other writers from the buckets, and the locks keep readers."""
    target.changing(buckets)
    for bucket in np.split(buckets, len(buckets)) if len(buckets) else ():
        lookup.lock_buckets(target.lock_heads, bucket)
        try:
            into, rows = (table.plane_of(int(bucket[0]), 0) for table in (target, source))
            count = min(len(into), len(rows))
            into[:count] = rows[:count]
        finally:
            lookup.unlock_buckets(target.lock_heads, bucket)
    target.written(buckets)
    return []


def _run_take_column(tables: list[Table], args: Mapping[str, Any], buckets: Buckets) -> Arrays:
    target, source = tables[:2]
    rows = target.sizes(buckets)
    for table in (target, source):
        rows = np.minimum(rows, table.heads[buckets, layout.ROOM])
    target.changing(buckets)
    width, dim = target.spec.dim, source.spec.dim
    vectors.take_column_buckets(_described(tables), args["column"], width, dim, target.lock_heads, buckets, rows)
    target.written(buckets)
    return []


def _run_linear_combination(tables: list[Table], args: Mapping[str, Any], buckets: Buckets) -> Arrays:
    return _combine(tables[0], tables[1:], args["coefficients"], buckets)


def _run_weighted_norm1(tables: list[Table], _args: Mapping[str, Any], buckets: Buckets) -> Arrays:
    out = np.empty(len(buckets))
    vectors.weighted_norm1_buckets(
        _described(tables), tables[0].lock_heads, buckets, _elements(tables, buckets), out
    )
    return [out]


def _run_weighted_gram(tables: list[Table], args: Mapping[str, Any], buckets: Buckets) -> Arrays:
    used = tables[1:]  # the table that is called is the first on the left
    out = np.empty((len(buckets), args["left"], args["right"]))
    where = used[0].lock_heads, buckets, _elements(used, buckets)
    vectors.weighted_gram_buckets(_described(used), args["left"], *where, out)
    return [out]


def _elementwise(name: str) -> Callable[[list[Table], Mapping[str, Any], Buckets], Arrays]:
    numbers = tuple(BUILT_IN[name].plain)

    def runner(tables: list[Table], args: Mapping[str, Any], buckets: Buckets) -> Arrays:
        target, values = tables[0], np.array([args[number] for number in numbers], np.float64)
        target.changing(buckets)
        ELEMENTWISE[name](_described(tables), values, target.lock_heads, buckets, _elements(tables, buckets))
        target.written(buckets)
        return []

    return runner


#: By name of the function.
RUNNERS: dict[str, Callable[[list[Table], Mapping[str, Any], Buckets], Arrays]] = {
    "sum": _reduced(layout.SUM),
    "norm1": _reduced(layout.NORM1),
    "norm2": _reduced(layout.SQUARES),
    "min": _reduced(layout.MIN),
    "max": _reduced(layout.MAX),
    "nnz": _reduced(layout.NONZERO),
    "dot": _run_dot,
    "gram": _run_gram,
    "column_dots": _run_column_dots,
    "column_axpy": _run_column_axpy,
    "topk": _run_top,
    "fill": _run_fill,
    "scale": _run_scale,
    "axpy": _run_axpy,
    "copy": _run_copy,
    "take_column": _run_take_column,
    "linear_combination": _run_linear_combination,
    "weighted_norm1": _run_weighted_norm1,
    "weighted_gram": _run_weighted_gram,
    **{name: _elementwise(name) for name in ELEMENTWISE},
}

__all__ = ["RUNNERS"]
