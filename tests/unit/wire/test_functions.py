"""Server functions at the client: what a call is made of, and how partials become a result."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from sparkps.errors import FunctionFailed, InvalidInput
from sparkps.wire.codec import MAX_ARRAY_BYTES, MAX_FRAMES
from sparkps.wire.functions import (
    BUILT_IN,
    MAX_ANSWER_BYTES,
    MAX_TABLES,
    answer_bytes,
    build_call,
    check,
    combine,
    spec_of,
)
from sparkps.wire.messages.data import FunctionCall

IDS = {"a": 1, "b": 2, "c": 3}

#: Right arguments of every built-in function.
RIGHT: dict[str, dict[str, Any]] = {
    **{name: {} for name in ("sum", "norm1", "norm2", "min", "max", "nnz")},
    "dot": {"other": "b"},
    "column_dots": {"other": "b"},
    "column_axpy": {"alphas": np.array([1, 2]), "x": "b"},
    "gram": {"left": ["a", "b"], "right": ["c"]},
    "topk": {"k": np.int64(3)},
    "fill": {"value": 1},
    "scale": {"alpha": np.float32(0.5)},
    "axpy": {"alpha": -1, "x": "b"},
    "copy": {"source": "b"},
    "take_column": {"source": "b", "column": np.int64(2)},
    "linear_combination": {"tables": ["b", "c"], "coefficients": np.array([1, 2])},
    "divide": {"divisor": 3},
    "add_squares": {"x": "b", "keep": 0.999, "weight": 0.001},
    "adaptive_step": {"mean": "b", "square": "c", "rate": 1, "first": 0.1, "second": 0.001, "epsilon": 1e-8, "decay": 0},
    "weighted_norm1": {"weights": "b"},
    "weighted_gram": {"weights": "c", "left": ["a"], "right": ["a", "b"]},
    "product": {"other": "b"},
    "opposed": {"other": "b"},
    "clip": {"lower": "b", "upper": "c"},
    "pseudo_gradient": {"gradient": "b", "point": "c", "weights": "b"},
    "orthant_step": {"point": "a", "direction": "b", "guide": "c", "alpha": np.float64(0.5)},
}


def test_every_function_can_be_called_and_is_plain_on_the_wire() -> None:
    assert RIGHT.keys() == BUILT_IN.keys()
    for name, args in RIGHT.items():
        call = build_call(name, 1, args, IDS.__getitem__)
        assert check(call) == call
        assert {type(value) for value in call.args.values()} <= {int, float, str, list}
        assert answer_bytes(call) <= MAX_ANSWER_BYTES


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("scale", {"alpha": 10**400}, "must be finite"),
        ("scale", {"alpha": 10**5000}, "must be finite numbers. Got int"),
        ("scale", {"alpha": np.complex128(1)}, "must be finite"),
        ("scale", {"alpha": np.bool_(True)}, "must be finite"),
        ("linear_combination", {"tables": ["a"], "coefficients": 1.0}, "`coefficients` .* must be a list"),
        ("linear_combination", {"tables": ["a"], "coefficients": "1"}, "must be a list"),
        ("linear_combination", {"tables": "a", "coefficients": [1]}, "`tables` .* must be a list"),
        ("column_axpy", {"alphas": 1.0, "x": "b"}, "`alphas` .* must be a list"),
        ("column_axpy", {"alphas": [1.0, math.nan], "x": "b"}, "`alphas` .* must be finite"),
        ("gram", {"left": []}, "at least 1"),
        ("gram", {"left": 3}, "must be a list"),
        ("gram", {"left": ["a"] * 256}, "at most 256 tables"),
        ("gram", {"left": ["a"] * 200, "right": ["b"] * 56}, "at most 256 tables"),
        ("weighted_gram", {"weights": "a", "left": ["a"]}, "`right` is missing"),
        ("weighted_gram", {"weights": "a", "left": ["a"], "right": []}, "at least 1"),
        ("orthant_step", {"point": "a", "direction": "b", "guide": "c", "alpha": np.inf}, "must be finite"),
        ("clip", {"lower": "b"}, "`upper` is missing"),
        ("topk", {"k": 1 << 24 | 1}, "at most 16777216"),
        ("topk", {"k": 3, "by": 7}, "value or magnitude"),
        ("topk", {"k": 3, "by": np.array(["value"])}, "value or magnitude"),
    ],
)
def test_what_a_node_would_refuse_is_refused_at_the_client(name: str, args: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        build_call(name, 1, args, IDS.__getitem__)


def test_largest_answers_fit_into_one_array() -> None:
    largest = build_call("gram", 1, {"left": [1] * (MAX_TABLES - 1)}, int)
    assert answer_bytes(largest) == 256 * 8 * 255 * 255
    assert answer_bytes(build_call("topk", 1, {"k": 1 << 24}, int)) == MAX_ANSWER_BYTES < MAX_ARRAY_BYTES
    assert max(1 + spec.arrays for spec in BUILT_IN.values()) * 1024 < MAX_FRAMES


def test_a_node_without_buckets_does_not_disturb_a_sum() -> None:
    nothing, some = [np.zeros(0, np.int32), np.zeros(0)], [np.array([1, 0]), np.array([[1.0, 2.0], [3.0, 4.0]])]
    assert combine("mine", {}, [nothing, some]).tolist() == [4.0, 6.0]
    assert combine("mine", {}, [some, nothing]).tolist() == [4.0, 6.0]
    assert combine("mine", {}, [nothing]) == 0.0


def test_nodes_that_give_partials_of_different_shapes_are_told_apart() -> None:
    parts = [[np.array([0]), np.zeros((1, 2))], [np.array([1]), np.zeros((1, 3))]]
    with pytest.raises(FunctionFailed, match=r"'mine' must return .* of one shape.*\(2,\), \(3,\)"):
        combine("mine", {}, parts)


def test_a_users_function_may_be_called_on_many_tables_but_not_on_any_number() -> None:
    call = FunctionCall("mine", [1] * 256, {"tables": 255, "anything": {"nested": [None]}})
    assert check(call) == call
    with pytest.raises(InvalidInput, match="at most 256 tables"):
        check(FunctionCall("mine", [1] * 257, {"tables": 256}))
    assert not spec_of("mine").writes
