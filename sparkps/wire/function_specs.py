"""The built-in server functions: names, arguments, and how the partials of the buckets become one result.

A call names one table (the handle's own) and further ones by argument; all must share a key index, or be dense with the same
shape. Each function gives one partial per bucket, and `combine` adds them in ascending bucket order, so that no result
depends on the placement. What runs at the node is in `ps_nodes.built_in`.

==================== ================================= ======================================================================
function             arguments                         result
==================== ================================= ======================================================================
sum, norm1, norm2                                      float: of all values of all rows
min, max                                               float; inf and -inf for a table without rows
nnz                                                    int: values other than 0
dot                  other                             float: sum of products with `other`
gram                 left, right=None                  ndarray (len(left), len(right)): all dot products; without `right`
                                                       those of `left` with itself
topk                 k, by="value" or "magnitude"      keys (k,), values (k,): largest first, ties by smaller key; with dim > 1
                                                       by the rows' Euclidean norm
fill                 value                             None; every value becomes `value`
scale                alpha                             None; w ← alpha·w
axpy                 alpha, x                          None; w ← w + alpha·x
copy                 source                            None; w ← source
linear_combination   tables, coefficients              None; w ← sum of coefficient·table, in one pass; w may be among them
column_dots          other                             ndarray (dim,): sum of products with `other`, each column apart (sparse)
column_axpy          alphas, x                         None; column k of w ← itself + alphas[k]·column k of x (sparse)
take_column          source, column                    None; w ← columns of source, which may have more than w, from number `column`
                                                       on, counted from 0 (sparse)
divide               divisor                           None; w ← w / divisor
add_squares          x, keep, weight                   None; w ← keep·w + weight·x², each value for itself
adaptive_step        mean, square, rate, first,        None; w ← w - (rate·(mean/first) / (sqrt(square/second) + epsilon) + decay·w):
                     second, epsilon, decay            a step of AdamW
weighted_norm1       weights                           float: sum of abs(w·weights)
weighted_gram        weights, left, right              ndarray (len(left), len(right)): sums of weights·left·right
product              other                             None; w ← w·other
opposed              other                             None; w ← w where its sign is the opposite of that of `other`, and 0
                                                       elsewhere
clip                 lower, upper                      None; w ← w, not below `lower` nor above `upper`
pseudo_gradient      gradient, point, weights          None; w ← derivative of least magnitude of f + sum of
                                                       abs(weights·point), where `gradient` is that of f
orthant_step         point, direction, guide, alpha    None; w ← point + alpha·direction, and 0 where that leaves the orthant
                                                       of `point` (of -`guide` where `point` is 0)
==================== ================================= ======================================================================

Functions that write act on every row that the table has. Dots and sums accumulate in float64.

Called by a rank of a worker group, functions wait for the group's clock as pulls do. Those above that write go through the
clock as the rank's pushes do, so that each counts once, also where a rank is lost and its successor calls again. A user's
function, called by a rank, may only read: what it would change nobody could tell from what its predecessor changed. Users'
functions write when they are called from outside the group, by the driver for one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.errors import FunctionFailed

#: Partials of one call from one node: bucket numbers (int32), then the function's arrays.
Part = Sequence[NDArray[Any]]

#: Default of an argument that must be given.
REQUIRED = object()


@dataclass(frozen=True)
class FunctionSpec:
    """What a client must know of a server function."""

    name: str
    #: Makes the result of the arguments and of the parts of all nodes.
    combine: Callable[[Mapping[str, Any], Sequence[Part]], Any]
    #: Arrays of a part after the bucket numbers.
    arrays: int = 1
    #: Arguments that name one table each, in order.
    tables: tuple[str, ...] = ()
    #: Arguments that hold a list of tables, in order.
    table_lists: tuple[str, ...] = ()
    #: Those of the lists that may be empty, or be left out.
    optional: tuple[str, ...] = ()
    #: Plain arguments and their defaults.
    plain: Mapping[str, Any] = field(default_factory=dict)
    #: Whether it changes the first table.
    writes: bool = False


def _ordered(parts: Sequence[Part]) -> NDArray[Any]:
    """The partials of all nodes, in ascending bucket order."""
    parts = [part for part in parts if len(part[0])] or parts[:1]  # a node without buckets knows no shape
    buckets = np.concatenate([part[0] for part in parts])
    return np.asarray(np.concatenate([part[1] for part in parts])[np.argsort(buckets, kind="stable")])


def _total(_args: Mapping[str, Any], parts: Sequence[Part]) -> Any:
    partials = _ordered(parts)
    if len(partials) == 0:
        return np.zeros(partials.shape[1:]) if partials.ndim > 1 else 0.0
    total = np.add.accumulate(partials, axis=0)[-1]
    return total if total.ndim else total.item()


def _users_total(name: str) -> Callable[[Mapping[str, Any], Sequence[Part]], Any]:
    """The sum of a user's partials, whose shapes only the nodes know."""

    def total(args: Mapping[str, Any], parts: Sequence[Part]) -> Any:
        shapes = {part[1].shape[1:] for part in parts if len(part[0])}
        if len(shapes) > 1:
            raise FunctionFailed(
                f"Function {name!r} must return numbers or arrays of one shape, on every bucket or on none. Got the shapes"
                f" {', '.join(map(str, sorted(shapes)))} from the nodes.",
                function=name,
            )
        return _total(args, parts)

    return total


def _count(args: Mapping[str, Any], parts: Sequence[Part]) -> int:
    return int(_total(args, parts))


def _root(args: Mapping[str, Any], parts: Sequence[Part]) -> float:
    return float(np.sqrt(_total(args, parts)))


def _least(_args: Mapping[str, Any], parts: Sequence[Part]) -> float:
    return float(np.min(_ordered(parts), initial=np.inf))


def _greatest(_args: Mapping[str, Any], parts: Sequence[Part]) -> float:
    return float(np.max(_ordered(parts), initial=-np.inf))


def _nothing(_args: Mapping[str, Any], _parts: Sequence[Part]) -> None:
    return None


def largest(keys: NDArray[np.int64], values: NDArray[np.float64], k: int, by: str) -> NDArray[np.intp]:
    """Places of the k largest values (by magnitude: absolute values), largest first, ties by smaller key."""
    order = np.lexsort((keys, -(np.abs(values) if by == "magnitude" else values)))
    return order[:k]


def _top(args: Mapping[str, Any], parts: Sequence[Part]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    keys = np.concatenate([part[1] for part in parts])
    values = np.concatenate([part[2] for part in parts])
    chosen = largest(keys, values, int(args["k"]), str(args["by"]))
    return keys[chosen], values[chosen]


def _needed(*names: str) -> dict[str, Any]:
    return dict.fromkeys(names, REQUIRED)


#: The functions that every node has.
BUILT_IN: dict[str, FunctionSpec] = {
    spec.name: spec
    for spec in (
        FunctionSpec("sum", _total),
        FunctionSpec("norm1", _total),
        FunctionSpec("norm2", _root),
        FunctionSpec("min", _least),
        FunctionSpec("max", _greatest),
        FunctionSpec("nnz", _count),
        FunctionSpec("dot", _total, tables=("other",)),
        FunctionSpec("column_dots", _total, tables=("other",)),
        FunctionSpec("gram", _total, table_lists=("left", "right"), optional=("right",)),
        FunctionSpec("topk", _top, arrays=2, plain={"k": REQUIRED, "by": "value"}),
        FunctionSpec("fill", _nothing, arrays=0, plain={"value": REQUIRED}, writes=True),
        FunctionSpec("scale", _nothing, arrays=0, plain={"alpha": REQUIRED}, writes=True),
        FunctionSpec("axpy", _nothing, arrays=0, tables=("x",), plain={"alpha": REQUIRED}, writes=True),
        FunctionSpec("column_axpy", _nothing, arrays=0, tables=("x",), plain={"alphas": REQUIRED}, writes=True),
        FunctionSpec("take_column", _nothing, arrays=0, tables=("source",), plain={"column": REQUIRED}, writes=True),
        FunctionSpec("copy", _nothing, arrays=0, tables=("source",), writes=True),
        FunctionSpec(
            "linear_combination",
            _nothing,
            arrays=0,
            table_lists=("tables",),
            plain={"coefficients": REQUIRED},
            writes=True,
        ),
        FunctionSpec("divide", _nothing, arrays=0, plain=_needed("divisor"), writes=True),
        FunctionSpec("add_squares", _nothing, arrays=0, tables=("x",), plain=_needed("keep", "weight"), writes=True),
        FunctionSpec(
            "adaptive_step",
            _nothing,
            arrays=0,
            tables=("mean", "square"),
            plain=_needed("rate", "first", "second", "epsilon", "decay"),
            writes=True,
        ),
        FunctionSpec("weighted_norm1", _total, tables=("weights",)),
        FunctionSpec("weighted_gram", _total, tables=("weights",), table_lists=("left", "right")),
        FunctionSpec("product", _nothing, arrays=0, tables=("other",), writes=True),
        FunctionSpec("opposed", _nothing, arrays=0, tables=("other",), writes=True),
        FunctionSpec("clip", _nothing, arrays=0, tables=("lower", "upper"), writes=True),
        FunctionSpec("pseudo_gradient", _nothing, arrays=0, tables=("gradient", "point", "weights"), writes=True),
        FunctionSpec(
            "orthant_step",
            _nothing,
            arrays=0,
            tables=("point", "direction", "guide"),
            plain=_needed("alpha"),
            writes=True,
        ),
    )
}


def spec_of(name: str) -> FunctionSpec:
    """The specification of a function; a user's own gives one array, which is summed over the buckets."""
    return BUILT_IN.get(name) or FunctionSpec(name, _users_total(name), table_lists=("tables",))


__all__ = ["BUILT_IN", "REQUIRED", "FunctionSpec", "Part", "largest", "spec_of"]
