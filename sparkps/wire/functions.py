"""Server functions as clients call them: what a call is made of, checked, and its result out of the partials.

The functions, and what each takes and gives, are in `function_specs`.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sparkps.errors import InvalidInput
from sparkps.plain import shown
from sparkps.specs import LARGEST_DIM, NUM_BUCKETS
from sparkps.wire.function_specs import BUILT_IN, REQUIRED, FunctionSpec, Part, spec_of
from sparkps.wire.messages.data import FunctionCall

#: Most tables of one call, the one that is called included.
MAX_TABLES = 256
#: Most bytes of the partials that a node answers to one request.
MAX_ANSWER_BYTES = 256 << 20
#: Largest `k` of ``topk``: keys and values of as many rows are an answer of the most bytes.
MAX_TOP = MAX_ANSWER_BYTES // 16

#: Plain arguments that are finite numbers.
_NUMBERS = frozenset(
    ("alpha", "value", "margin", "divisor", "keep", "weight", "rate", "first", "second", "epsilon", "decay"),
)


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
        ids.append(table_id(_take(spec, left, argument, REQUIRED)))
    for argument in spec.table_lists:
        optional = argument in spec.optional or name not in BUILT_IN
        given = _listed(name, argument, _take(spec, left, argument, () if optional else REQUIRED))
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


def check_allowed(name: str, allowed: bool) -> None:
    """Refuse a user's function where the tier takes none.

    Raises
    ------
    InvalidInput
    """
    if not allowed:
        raise InvalidInput(
            f"Functions of users must be allowed on a tier that takes them. {shown(name)} is one, and `spark.sparkps.allowFunctions` is"
            " false there: use the built-in functions, or start the tier with true.",
            function=shown(name),
            key="spark.sparkps.allowFunctions",
        )


def answer_bytes(call: FunctionCall) -> int:
    """Bytes of the partials of a checked call, at most; of a user's function, which nobody knows before it has run, 0."""
    if call.function in ("gram", "weighted_gram"):
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
    if value is REQUIRED:
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
        least = int(argument in ("left", "right") and argument not in spec.optional)
        args[argument] = _integer(name, argument, args[argument], least, MAX_TABLES - 1)
    for argument in spec.plain:
        if argument in _NUMBERS:
            args[argument] = _number(name, argument, args[argument])
    if "coefficients" in spec.plain:
        args["coefficients"] = _coefficients(name, args["coefficients"], args["tables"])
    if "alphas" in spec.plain:
        if not isinstance(args["alphas"], (list, tuple)):
            raise InvalidInput(f"The `alphas` of {name!r} must be a list. Got {_told(args['alphas'])} instead.", function=name)
        args["alphas"] = [_number(name, "alphas", each) for each in args["alphas"]]
    if "column" in spec.plain:
        args["column"] = _integer(name, "column", args["column"], 0, LARGEST_DIM - 1)
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


__all__ = ["BUILT_IN", "FunctionSpec", "Part", "answer_bytes", "build_call", "check", "check_allowed", "combine", "spec_of"]
