"""Server functions as clients see them: names, arguments, and how the partials of the buckets become one result.

A call names one table (the handle's own) and further ones by argument; all must share a key index, or be dense with the same
shape. Each function gives one partial per bucket, and `combine` adds them in ascending bucket order, so that no result
depends on the placement. What runs at the node is in `ps_nodes.functions`.

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
==================== ================================= ======================================================================

Functions that write act on every row that the table has. Dots and sums accumulate in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.errors import InvalidInput
from sparkps.wire.messages import FunctionCall

#: Partials of one call from one node: bucket numbers (int32), then the function's arrays.
Part = Sequence[NDArray[Any]]

_REQUIRED = object()


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
    #: Plain arguments and their defaults.
    plain: Mapping[str, Any] = field(default_factory=dict)
    #: Whether it changes the first table.
    writes: bool = False


def _ordered(parts: Sequence[Part], array: int = 1) -> NDArray[Any]:
    """The partials of all nodes, in ascending bucket order."""
    buckets = np.concatenate([part[0] for part in parts])
    return np.asarray(np.concatenate([part[array] for part in parts])[np.argsort(buckets, kind="stable")])


def _total(_args: Mapping[str, Any], parts: Sequence[Part]) -> Any:
    partials = _ordered(parts)
    if len(partials) == 0:
        return np.zeros(partials.shape[1:]) if partials.ndim > 1 else 0.0
    total = np.add.accumulate(partials, axis=0)[-1]
    return total if total.ndim else total.item()


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
        FunctionSpec("gram", _total, table_lists=("left", "right")),
        FunctionSpec("topk", _top, arrays=2, plain={"k": _REQUIRED, "by": "value"}),
        FunctionSpec("fill", _nothing, arrays=0, plain={"value": _REQUIRED}, writes=True),
        FunctionSpec("scale", _nothing, arrays=0, plain={"alpha": _REQUIRED}, writes=True),
        FunctionSpec("axpy", _nothing, arrays=0, tables=("x",), plain={"alpha": _REQUIRED}, writes=True),
        FunctionSpec("copy", _nothing, arrays=0, tables=("source",), writes=True),
        FunctionSpec(
            "linear_combination",
            _nothing,
            arrays=0,
            table_lists=("tables",),
            plain={"coefficients": _REQUIRED},
            writes=True,
        ),
    )
}


def spec_of(name: str) -> FunctionSpec:
    """The specification of a function; a user's own gives one array, which is summed over the buckets."""
    return BUILT_IN.get(name) or FunctionSpec(name, _total, table_lists=("tables",))


def build_call(name: str, table: int, args: Mapping[str, Any], table_id: Callable[[Any], int]) -> FunctionCall:
    """The wire's form of ``table.call(name, **args)``.

    Parameters
    ----------
    name : str
        A built-in function, or one that the user has registered.
    table : int
        Id of the table that is called.
    args : mapping
        The caller's keyword arguments.
    table_id : callable
        Gives the id of a table from what the caller passed for it (a name or a handle).

    Returns
    -------
    FunctionCall

    Raises
    ------
    InvalidInput
        An argument is missing, unknown, or of the wrong kind.

    Examples
    --------
    >>> ids = {"g": 2}
    >>> build_call("axpy", 1, {"alpha": -0.5, "x": "g"}, ids.__getitem__)
    FunctionCall(function='axpy', tables=[1, 2], args={'alpha': -0.5})
    """
    spec, left = spec_of(name), dict(args)
    ids, plain = [table], {}
    for argument in spec.tables:
        ids.append(table_id(_take(spec, left, argument, _REQUIRED)))
    for argument in spec.table_lists:
        given = _take(spec, left, argument, () if argument == "right" or name not in BUILT_IN else _REQUIRED) or ()
        ids += [table_id(each) for each in given]
        plain[argument] = len(given)
    for argument, default in spec.plain.items():
        plain[argument] = _take(spec, left, argument, default)
    if left and name in BUILT_IN:
        raise InvalidInput(
            f"The arguments of {name!r} must be {_names(spec)}. Got {', '.join(sorted(left))}.", function=name
        )
    return FunctionCall(name, ids, _checked(spec, {**plain, **left}))


def combine(name: str, args: Mapping[str, Any], parts: Sequence[Part]) -> Any:
    """The result of a call.

    Parameters
    ----------
    name : str
        The function.
    args : mapping
        ``FunctionCall.args`` as sent.
    parts : sequence of sequences of ndarray
        For each node that was asked, in any order: bucket numbers (int32), then the function's arrays.

    Examples
    --------
    >>> combine("sum", {}, [[np.array([1]), np.array([2.5])], [np.array([0]), np.array([1.0])]])
    3.5
    """
    return spec_of(name).combine(args, parts)


def _take(spec: FunctionSpec, left: dict[str, Any], argument: str, default: Any) -> Any:
    value = left.pop(argument, default)
    if value is _REQUIRED:
        raise InvalidInput(
            f"{spec.name!r} must be called with {_names(spec)}. `{argument}` is missing.", function=spec.name
        )
    return value


def _names(spec: FunctionSpec) -> str:
    names = [*spec.tables, *spec.table_lists, *spec.plain]
    return ", ".join(f"`{name}`" for name in names) or "no arguments"


def _checked(spec: FunctionSpec, args: dict[str, Any]) -> dict[str, Any]:
    """`args` as plain values of the types that the function needs."""
    name = spec.name
    for argument in ("alpha", "value"):
        if argument in spec.plain:
            args[argument] = _number(name, argument, args[argument])
    if "coefficients" in spec.plain:
        args["coefficients"] = [_number(name, "coefficients", each) for each in args["coefficients"]]
        if len(args["coefficients"]) != args["tables"]:
            raise InvalidInput(
                f"{name!r} must get one coefficient per table. Got {len(args['coefficients'])} for {args['tables']} tables.",
                function=name,
            )
    if "k" in spec.plain:
        k = args["k"]
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
            raise InvalidInput(f"The `k` of 'topk' must be an int of at least 1. Got {k!r} instead.", function=name)
        args["k"] = int(k)
        if args["by"] not in ("value", "magnitude"):
            raise InvalidInput(
                f"The `by` of 'topk' must be value or magnitude. Got {args['by']!r} instead.", function=name
            )
    return args


def _number(name: str, argument: str, value: Any) -> float:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.number)) or not np.isfinite(value):
        raise InvalidInput(
            f"The `{argument}` of {name!r} must be finite numbers. Got {value!r} instead.", function=name
        )
    return float(value)


__all__ = ["BUILT_IN", "FunctionSpec", "Part", "build_call", "combine", "largest", "spec_of"]
