"""Factorization machines in numpy alone give what the compiled kernels give, of any form of rows."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy import sparse

from sparkps.errors import InvalidInput
from sparkps.mllib.coefficients import LocalCoefficients
from sparkps.mllib.data.features import Features
from sparkps.mllib.data.raw_columns import RawColumns
from sparkps.mllib.data.raw_plain import rows_with_fields
from sparkps.mllib.fm.field_aware import FieldAwareScorer
from sparkps.mllib.fm.scoring import MachineClassifierScorer
from sparkps.mllib.models.links import mixture
from sparkps.mllib.models.saved import Coefficients, SavedLinearModel, SavedMachine

STARTS, FACTORS = (0, 5, 9), 2
RNG = np.random.default_rng(8)
ROWS = RNG.normal(size=(40, 12)) * (RNG.random((40, 12)) < 0.5)
KEYS = np.array([0, 1, 3, 4, 6, 8, 9, 11])  # some features have no coefficients
ROWS[7, 2] = np.inf


def values_of(dim: int) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(len(KEYS), dim))


def features() -> Features:
    rows = sparse.csr_matrix(ROWS)
    return Features(rows.indptr.astype(np.int32), rows.indices.astype(np.int64), rows.data, np.zeros(40, np.int8), 0)


def check(model: SavedMachine, scorer: Any) -> None:
    """The model says what the scorer says."""
    expected = scorer.scores(features())
    plain = sparse.csr_matrix(ROWS)
    triple = (plain.indptr, plain.indices.astype(np.int64), plain.data)
    for rows in (ROWS, plain, plain.tocoo(), triple):
        np.testing.assert_allclose(model.decision_function(rows), expected["raw"][:, 1], rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(model.predict_proba(rows), expected["probability"], rtol=1e-10, atol=1e-12)
        np.testing.assert_array_equal(model.predict(rows), expected["prediction"])


@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize("thresholds", [None, [0.9, 0.1]])
def test_a_machine_scores_as_its_kernel(linear: bool, thresholds: Any) -> None:
    values = values_of(4)
    model = SavedMachine(Coefficients(KEYS, values), 0.3, link="sigmoid", kind="machine", thresholds=thresholds, linear=linear)
    check(model, MachineClassifierScorer(LocalCoefficients(KEYS, values), None, intercept=0.3, linear=linear, thresholds=thresholds))  # type: ignore[arg-type]


@pytest.mark.parametrize("normal", [True, False])
@pytest.mark.parametrize("linear", [True, False])
def test_a_field_aware_machine_scores_as_its_kernel(normal: bool, linear: bool) -> None:
    values, finite = values_of(1 + 3 * FACTORS), ROWS[7].copy()
    ROWS[7, 2] = 2.0  # the kernel divides by the squares of all values
    shared: dict[str, Any] = {"linear": linear, "factors": FACTORS, "starts": STARTS, "normal": normal}
    model = SavedMachine(Coefficients(KEYS, values), -0.2, link="sigmoid", kind="field machine", **shared)
    check(model, FieldAwareScorer(LocalCoefficients(KEYS, values), None, intercept=-0.2, **shared))  # type: ignore[arg-type]
    ROWS[7] = finite


def test_a_machine_for_numbers_predicts_its_margin() -> None:
    model = SavedMachine(Coefficients(np.array([1]), np.array([[2.0, 1.0]])), 0.5, kind="machine")
    assert model.predict(([1], [3.0])).tolist() == [6.5]
    assert model.predict([[7.0, 0.0], [7.0, 1.0]]).tolist() == [0.5, 2.5]


def test_columns_that_are_fields_are_known_by_their_names() -> None:
    source = RawColumns(("town", "day"), crosses=(("town", "day"),), kinds=("string", "integer"))
    columns = {"town": ["Oslo", None, "Lima"], "day": [3, 4, None]}
    indptr, keys, _, fields = rows_with_fields(source, columns)
    assert (indptr.tolist(), fields.tolist()) == ([0, 3, 4, 5], [0, 1, 2, 1, 0])
    told = source.read([pa.array(columns["town"]), pa.array(columns["day"])], fields=True)
    np.testing.assert_array_equal(told.indices, keys)
    np.testing.assert_array_equal(told.fields, fields)
    distinct, values = np.unique(keys), np.random.default_rng(1).normal(size=(5, 1 + 3 * FACTORS))
    model = SavedMachine(Coefficients(distinct, values), 0.1, link="sigmoid", kind="field machine", raw=source, factors=FACTORS)
    scorer = FieldAwareScorer(
        LocalCoefficients(distinct, values), None, intercept=0.1, linear=True, starts=(), factors=FACTORS, normal=False  # type: ignore[arg-type]
    )
    np.testing.assert_allclose(model.decision_function(columns), scorer.scores(told)["raw"][:, 1], rtol=1e-12)
    with pytest.raises(InvalidInput, match="must be raw columns by their names"):
        model.predict(ROWS)


def test_a_mixture_has_odds_of_its_probabilities() -> None:
    values = np.random.default_rng(2).normal(size=(len(KEYS), 4))
    model = SavedLinearModel(Coefficients(KEYS, values), np.array([0.0, 0.1, -0.3, 0.4]), link="mixture", kind="mixture", threshold=0.4)
    rows = np.nan_to_num(ROWS, posinf=1.0)
    table = np.zeros((12, 4))
    table[KEYS] = values
    p = mixture(rows @ table + model.intercept)
    np.testing.assert_allclose(model.predict_proba(rows), p, rtol=1e-12)
    np.testing.assert_allclose(model.decision_function(rows), np.log(p[:, 1] / p[:, 0]), rtol=1e-9)
    np.testing.assert_array_equal(model.predict(rows), p[:, 1] > 0.4)


def test_nothing_compiled_is_imported() -> None:
    code = "import sys, sparkps.mllib.models.saved; print([name for name in ('pyspark', 'numba') if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=50)
    assert ran.stdout.strip() == "[]"
