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
column_dots          other                             ndarray (dim,): sum of products with `other`, each column apart (sparse)
column_axpy          alphas, x                         None; column k of w ← itself + alphas[k]·column k of x (sparse)
divide               divisor                           None; w ← w / divisor
add_squares          x, keep, weight                   None; w ← keep·w + weight·x², each value for itself
adaptive_step        mean, square, rate, first,        None; w ← w - (rate·(mean/first) / (sqrt(square/second) + epsilon) + decay·w):
                     second, epsilon, decay            a step of AdamW
==================== ================================= ======================================================================

Functions that write act on every row that the table has. Dots and sums accumulate in float64.

Called by a rank of a worker group, functions wait for the group's clock as pulls do. Those above that write go through the
clock as the rank's pushes do, so that each counts once, also where a rank is lost and its successor calls again. A user's
function, called by a rank, may only read: what it would change nobody could tell from what its predecessor changed. Users'
functions write when they are called from outside the group, by the driver for one.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.errors import FunctionFailed, InvalidInput
from sparkps.specs import NUM_BUCKETS
from sparkps.wire.messages.data import FunctionCall

#: Partials of one call from one node: bucket numbers (int32), then the function's arrays.
Part = Sequence[NDArray[Any]]

#: Most tables of one call, the one that is called included.
MAX_TABLES = 256
#: Most bytes of the partials that a node answers to one request.
MAX_ANSWER_BYTES = 256 << 20
#: Largest `k` of ``topk``: keys and values of as many rows are an answer of the most bytes.
MAX_TOP = MAX_ANSWER_BYTES // 16

_REQUIRED = object()

#: Plain arguments that are finite numbers.
_NUMBERS = frozenset(
    ("alpha", "value", "divisor", "keep", "weight", "rate", "first", "second", "epsilon", "decay"),
)


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
    return dict.fromkeys(names, _REQUIRED)


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
        FunctionSpec("gram", _total, table_lists=("left", "right")),
        FunctionSpec("topk", _top, arrays=2, plain={"k": _REQUIRED, "by": "value"}),
        FunctionSpec("fill", _nothing, arrays=0, plain={"value": _REQUIRED}, writes=True),
        FunctionSpec("scale", _nothing, arrays=0, plain={"alpha": _REQUIRED}, writes=True),
        FunctionSpec("axpy", _nothing, arrays=0, tables=("x",), plain={"alpha": _REQUIRED}, writes=True),
        FunctionSpec("column_axpy", _nothing, arrays=0, tables=("x",), plain={"alphas": _REQUIRED}, writes=True),
        FunctionSpec("copy", _nothing, arrays=0, tables=("source",), writes=True),
        FunctionSpec(
            "linear_combination",
            _nothing,
            arrays=0,
            table_lists=("tables",),
            plain={"coefficients": _REQUIRED},
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
    )
}


def spec_of(name: str) -> FunctionSpec:
    """The specification of a function; a user's own gives one array, which is summed over the buckets."""
    return BUILT_IN.get(name) or FunctionSpec(name, _users_total(name), table_lists=("tables",))


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
    ids: list[int] = [table]
    plain: dict[str, Any] = {}
    for argument in spec.tables:
        ids.append(table_id(_take(spec, left, argument, _REQUIRED)))
    for argument in spec.table_lists:
        optional = argument == "right" or name not in BUILT_IN
        given = _listed(name, argument, _take(spec, left, argument, () if optional else _REQUIRED))
        ids += [table_id(each) for each in given]
        plain[argument] = len(given)
    for argument, default in spec.plain.items():
        plain[argument] = _take(spec, left, argument, default)
    for argument in ("coefficients", "alphas"):
        if argument in plain:
            plain[argument] = _listed(name, argument, plain[argument])
    return check(FunctionCall(name, ids, {**plain, **left}))


def check(call: FunctionCall) -> FunctionCall:
    """A call whose tables and arguments fit its function; what comes back has plain values of the types that it needs.

    A client checks what it builds, a node what it gets: counts, sizes and indexes that it works with are among the arguments.

    Parameters
    ----------
    call : FunctionCall
        From anywhere; its fields are of their types, the arguments may be anything.

    Returns
    -------
    FunctionCall

    Raises
    ------
    InvalidInput
        An argument is missing, unknown, or of the wrong kind; or the tables are too few or too many.

    Examples
    --------
    >>> check(FunctionCall("scale", [1], {"alpha": 2})).args
    {'alpha': 2.0}
    """
    spec = spec_of(call.function)
    if len(call.tables) > MAX_TABLES:
        raise InvalidInput(
            f"A server function must be called on at most {MAX_TABLES} tables. Got {len(call.tables)} for {_told(spec.name)}.",
            function=spec.name,
        )
    if spec.name not in BUILT_IN:
        return call
    _check_names(spec, call.args)
    args = _checked(spec, dict(call.args))
    needed = 1 + len(spec.tables) + sum(args[argument] for argument in spec.table_lists)
    if len(call.tables) != needed:
        raise InvalidInput(
            f"{spec.name!r} must be called on {needed} tables with these arguments. Got {len(call.tables)}.",
            function=spec.name,
        )
    return FunctionCall(call.function, call.tables, args)


def answer_bytes(call: FunctionCall) -> int:
    """Bytes of the partials of a checked call, at most; of a user's function, which nobody knows before it has run, 0."""
    if call.function == "gram":
        left, right = call.args["left"], call.args["right"]
        return int(NUM_BUCKETS * 8 * left * (right or left))
    if call.function == "topk":
        return int(16 * call.args["k"])
    return NUM_BUCKETS * 8 if call.function in BUILT_IN else 0


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


def _listed(name: str, argument: str, value: Any) -> list[Any]:
    """`value` as a list; None stands for an empty one."""
    if value is None:
        return []
    try:
        if isinstance(value, (str, bytes)):
            raise TypeError
        return list(value)
    except TypeError:
        raise InvalidInput(
            f"The `{argument}` of {name!r} must be a list. Got {_told(value)} instead.", function=name
        ) from None


def _names(spec: FunctionSpec) -> str:
    names = [*spec.tables, *spec.table_lists, *spec.plain]
    return ", ".join(f"`{name}`" for name in names) or "no arguments"


def _check_names(spec: FunctionSpec, args: Mapping[str, Any]) -> None:
    """What a call carries besides tables: how many each list has, and the plain arguments."""
    expected = {*spec.table_lists, *spec.plain}
    if args.keys() == expected:
        return
    strange, missing = sorted(args.keys() - expected), sorted(expected - args.keys())
    got = f"Got {', '.join(name[:40] for name in strange[:8])}." if strange else f"`{missing[0]}` is missing."
    raise InvalidInput(f"The arguments of {spec.name!r} must be {_names(spec)}. {got}", function=spec.name)


def _checked(spec: FunctionSpec, args: dict[str, Any]) -> dict[str, Any]:
    """`args` as plain values of the types that the function needs."""
    name = spec.name
    for argument in spec.table_lists:
        args[argument] = _integer(name, argument, args[argument], int(argument == "left"), MAX_TABLES - 1)
    for argument in spec.plain:
        if argument in _NUMBERS:
            args[argument] = _number(name, argument, args[argument])
    if "coefficients" in spec.plain:
        args["coefficients"] = _coefficients(name, args["coefficients"], args["tables"])
    if "alphas" in spec.plain:
        if not isinstance(args["alphas"], (list, tuple)):
            raise InvalidInput(f"The `alphas` of {name!r} must be a list. Got {_told(args['alphas'])} instead.", function=name)
        args["alphas"] = [_number(name, "alphas", each) for each in args["alphas"]]
    if "k" in spec.plain:
        args["k"] = _integer(name, "k", args["k"], 1, MAX_TOP)
        if not isinstance(args["by"], str) or args["by"] not in ("value", "magnitude"):
            raise InvalidInput(
                f"The `by` of 'topk' must be value or magnitude. Got {_told(args['by'])} instead.", function=name
            )
    return args


def _coefficients(name: str, values: Any, count: int) -> list[float]:
    if not isinstance(values, (list, tuple)) or len(values) != count:
        got = f"{len(values)} for {count} tables" if isinstance(values, (list, tuple)) else _told(values)
        raise InvalidInput(f"{name!r} must get one coefficient per table. Got {got}.", function=name)
    return [_number(name, "coefficients", each) for each in values]


def _integer(name: str, argument: str, value: Any, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not least <= value <= most:
        raise InvalidInput(
            f"The `{argument}` of {name!r} must be an int of at least {least} and at most {most}. Got {_told(value)} instead.",
            function=name,
        )
    return int(value)


def _number(name: str, argument: str, value: Any) -> float:
    number = math.nan
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:  # an int beyond float64
            number = math.inf
    if not math.isfinite(number):
        raise InvalidInput(
            f"The `{argument}` of {name!r} must be finite numbers. Got {_told(value)} instead.", function=name
        )
    return number


def _told(value: Any) -> str:
    """A value in a message: short, whatever it is."""
    try:
        return reprlib.repr(value)
    except ValueError:  # an int of thousands of digits
        return f"{type(value).__name__} without end"


__all__ = ["BUILT_IN", "FunctionSpec", "Part", "answer_bytes", "build_call", "check", "combine", "largest", "spec_of"]
