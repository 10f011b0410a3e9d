"""Loss and gradient of field-aware factorization machines against their slow twin and finite differences."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from sparkps.errors import InvalidInput
from sparkps.mllib.coefficients import LocalCoefficients
from sparkps.mllib.data.features import Features
from sparkps.mllib.fm.field_aware import FieldAwareMachine, FieldAwareScorer
from sparkps.mllib.models.machines import fields_of
from sparkps.mllib.solvers.objective import by_column, located
from tests.naive_mllib import field_machine_margin
from tests.unit.mllib.fm.test_kernel import distinct, rows_of
from tests.unit.mllib.problems import KINDS, random_chunk

Array = np.ndarray[Any, Any]
STARTS = (0, 3, 8)
FEATURES, FACTORS = 12, 2


def machine(*, normal: bool, linear: bool = True) -> Any:
    made = FieldAwareMachine(FACTORS, "log", linear, 0.1, 0, starts=STARTS, normal=normal)
    return located(made, np.arange(FEATURES), np.empty(0, np.int32))


def evaluated(objective: Any, chunk: Any, w: Array, bias: float) -> tuple[float, float, Array]:
    state = np.stack([w, np.zeros_like(w)], axis=1)
    loss, derivatives = objective.loss_and_gradient([chunk], state, np.array([bias]))
    return loss, float(derivatives[0]), state[:, 1]


def coefficients(rng: np.random.Generator) -> Array:
    return rng.normal(size=(FEATURES, 1 + 3 * FACTORS)) * 0.5


@pytest.mark.parametrize(("values", "weighted"), KINDS)
@pytest.mark.parametrize("normal", [True, False])
def test_loss_is_that_of_all_pairs(values: str, weighted: bool, normal: bool) -> None:
    rng = np.random.default_rng(1)
    chunk = distinct(random_chunk(rng, 60, FEATURES, values, weighted=weighted), FEATURES)
    w, fields = coefficients(rng), fields_of(np.arange(FEATURES), STARTS).tolist()
    factors = w[:, 1:].reshape(FEATURES, 3, FACTORS)
    margins = [field_machine_margin(row, fields, w[:, 0], factors, 0.3, normal) for row in rows_of(chunk)]
    weights = chunk.weights if weighted else np.ones(60)
    expected = sum(v * math.log1p(math.exp(-m if y else m)) for v, m, y in zip(weights, margins, chunk.labels, strict=True))
    assert evaluated(machine(normal=normal), chunk, w, 0.3)[0] == pytest.approx(expected)


@pytest.mark.parametrize("normal", [True, False])
def test_gradient_by_finite_differences(normal: bool) -> None:
    rng = np.random.default_rng(2)
    chunk, w, h = random_chunk(rng, 60, FEATURES, "float64", weighted=True), coefficients(rng), 1e-6
    objective = machine(normal=normal)
    _, derivative, gradient = evaluated(objective, chunk, w, -0.2)
    for place in np.ndindex(w.shape):
        step = np.zeros_like(w)
        step[place] = h
        slope = (evaluated(objective, chunk, w + step, -0.2)[0] - evaluated(objective, chunk, w - step, -0.2)[0]) / (2 * h)
        assert gradient[place] == pytest.approx(slope, rel=1e-5, abs=1e-5)
    ahead, behind = (evaluated(objective, chunk, w, -0.2 + d)[0] for d in (h, -h))
    assert derivative == pytest.approx((ahead - behind) / (2 * h), rel=1e-5)


def test_where_columns_are_fields_it_is_told_them_and_not_where_they_start() -> None:
    rng = np.random.default_rng(5)
    chunk, w = random_chunk(rng, 40, FEATURES, "float64"), coefficients(rng)
    raw = FieldAwareMachine(FACTORS, "log", True, 0.1, 0, starts=(), columns=3)
    assert (raw.dim, by_column(raw), by_column(machine(normal=False))) == (1 + 3 * FACTORS, True, False)
    columns = fields_of(np.arange(FEATURES), STARTS)
    keys = np.arange(FEATURES)[::-1] * 7919
    found = evaluated(located(raw, keys, columns), chunk, w, 0.1)
    expected = evaluated(machine(normal=False), chunk, w, 0.1)
    assert found[0] == expected[0]
    np.testing.assert_array_equal(found[2], expected[2])
    unknown = np.where(np.arange(FEATURES) == 3, -1, columns).astype(np.int32)
    assert evaluated(located(raw, keys, unknown), chunk, w, 0.1)[0] != expected[0], "a key that no row has is in the first field"


def test_rows_without_columns_are_refused_where_these_are_fields() -> None:
    shared = {"rows": None, "intercept": 0.4, "linear": True, "starts": (), "factors": FACTORS, "normal": False}
    scorer = FieldAwareScorer(LocalCoefficients(np.arange(2), np.ones((2, 7))), **shared)  # type: ignore[arg-type]
    row = Features(np.array([0, 1], np.int32), np.array([1]), np.array([1.0]), np.zeros(1, np.int8), 0)
    with pytest.raises(InvalidInput, match="must be given rows of these"):
        scorer.scores(row)


def test_without_linear_coefficients_the_first_does_not_count() -> None:
    rng = np.random.default_rng(3)
    chunk, w = random_chunk(rng, 20, FEATURES, "ones"), coefficients(rng)
    found = evaluated(machine(normal=False, linear=False), chunk, w, 0.0)
    bare = w.copy()
    bare[:, 0] = 0.0
    assert found[0] == pytest.approx(evaluated(machine(normal=False), chunk, bare, 0.0)[0])
    assert not found[2][:, 0].any()


def test_scores_are_margins_and_features_without_coefficients_count_for_nothing() -> None:
    rng = np.random.default_rng(4)
    w = coefficients(rng)
    held = LocalCoefficients(np.arange(FEATURES - 1), w[: FEATURES - 1])
    shared = {"rows": None, "intercept": 0.4, "linear": True, "starts": STARTS, "factors": FACTORS, "normal": False}
    scorer = FieldAwareScorer(held, **shared)  # type: ignore[arg-type]
    row = Features(np.array([0, 3], np.int32), np.array([1, 5, FEATURES - 1]), np.array([1.0, 2.0, 9.0]), np.zeros(1, np.int8), 0)
    fields = fields_of(np.arange(FEATURES), STARTS).tolist()
    expected = field_machine_margin({1: 1.0, 5: 2.0}, fields, w[:, 0], w[:, 1:].reshape(FEATURES, 3, FACTORS), 0.4, False)
    assert scorer.scores(row)["raw"][0, 1] == pytest.approx(expected)
