"""Operators that torch's exporter to ONNX lacks, or gets wrong, in ONNX's own of opset 18; integers are int64 throughout."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

#: Of the operators.
OPSET = 18


def _integer(g: Any, value: int) -> Any:
    return g.op("Constant", value_t=torch.tensor(value, dtype=torch.int64))


def _constant_of(value: Any) -> int:
    from torch.onnx import symbolic_helper

    return int(symbolic_helper._maybe_get_const(value, "i"))


def _right_shift(g: Any, bits: Any, by: Any) -> Any:
    """Towards minus infinity, as an arithmetic shift does: ONNX shifts no signed numbers, and its division is towards zero."""
    size = 1 << _constant_of(by)
    low = g.op("BitwiseAnd", bits, _integer(g, size - 1))
    return g.op("Div", g.op("Sub", bits, low), _integer(g, size)).setType(bits.type())


def _exclusive_or(g: Any, left: Any, right: Any) -> Any:
    return g.op("BitwiseXor", left, right).setType(left.type())


def _index_add(g: Any, into: Any, dim: Any, index: Any, values: Any, alpha: Any = None) -> Any:
    """Torch's own is wrong where an index comes twice."""
    if _constant_of(dim) != 0:
        raise ValueError(f"Only rows can be added up, dim=0. Got dim={_constant_of(dim)}.")
    places = g.op("Unsqueeze", index, g.op("Constant", value_t=torch.tensor([1])))
    return g.op("ScatterND", into, places, values, reduction_s="add").setType(into.type())


def _scatter_reduce(g: Any, into: Any, dim: Any, index: Any, values: Any, reduce: Any, include_self: Any = None) -> Any:
    """Torch's own makes a branch of it, whose shapes are wrong."""
    from torch.onnx import symbolic_helper

    kind = {"amax": "max", "amin": "min", "sum": "add", "prod": "mul"}.get(symbolic_helper._get_const(reduce, "s", "reduce"))
    if not kind or not _constant_of(include_self):
        raise ValueError("scatter_reduce must be of amax, amin, sum or prod, with what is there.")
    return g.op("ScatterElements", into, index, values, axis_i=_constant_of(dim), reduction_s=kind).setType(into.type())


def _search(g: Any, ordered: Any, keys: Any, *_: Any) -> Any:
    """The number of ordered keys below each, by halves: as many look-ups as their number has bits."""
    from torch.onnx import symbolic_helper

    count = symbolic_helper._get_tensor_sizes(ordered)[0]
    last, one = _integer(g, count - 1), _integer(g, 1)
    found = g.op("Sub", keys, keys)
    for bit in reversed(range(count.bit_length())):
        further = g.op("Add", found, _integer(g, 1 << bit))
        before = g.op("Sub", further, one)
        is_below = g.op("Less", g.op("Gather", ordered, g.op("Min", before, last), axis_i=0), keys)
        inside = g.op("LessOrEqual", before, last)
        found = g.op("Where", g.op("And", inside, is_below), further, found)
    return found.setType(keys.type())


_OPERATORS: dict[str, Callable[..., Any]] = {
    "aten::bitwise_right_shift": _right_shift,
    "aten::bitwise_xor": _exclusive_or,
    "aten::index_add": _index_add,
    "aten::scatter_reduce": _scatter_reduce,
    "aten::searchsorted": _search,
}


@contextmanager
def known_to_onnx() -> Iterator[None]:
    """Within it, torch's exporter knows these operators."""
    for name, operator in _OPERATORS.items():
        torch.onnx.register_custom_op_symbolic(name, operator, OPSET)
    try:
        yield
    finally:
        for name in _OPERATORS:
            torch.onnx.unregister_custom_op_symbolic(name, OPSET)


__all__ = ["OPSET", "known_to_onnx"]
