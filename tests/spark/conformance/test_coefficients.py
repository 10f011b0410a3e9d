"""Coefficients of LogisticRegression are those of pyspark.ml over a grid of Params, on dense and sparse rows.

Those of pyspark.ml are kept in `tests/harness/golden_logistic.json`; a few are computed again, so that the file cannot rot.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from pyspark.ml.classification import LogisticRegression as SparkLogisticRegression

from sparkps.mllib.classification import LogisticRegression
from tests.harness.cases import cases
from tests.harness.golden_logistic import CONVERGED, FILE, PROBLEMS, frame_of, grid, key_of, result_of

GOLDEN = json.loads(FILE.read_text())


@pytest.fixture(scope="module", params=PROBLEMS, ids=lambda problem: f"{problem[1]}-of-{problem[0]}")
def problem(request):
    return request.param


@pytest.mark.parametrize(("weighted", "sparse"), cases([(True, True)], long=[(False, False), (False, True), (True, False)]))
def test_coefficients_are_pysparks(spark, ps, problem, weighted, sparse):
    classes, family = problem
    lr = LogisticRegression(family=family, **CONVERGED, **({"weightCol": "weight"} if weighted else {}))
    fits = [{lr.getParam(name): value for name, value in params.items()} for params in grid()]
    models = dict(lr.fitMultiple(frame_of(spark, classes, sparse), fits))
    wrong = []
    for place, (params, expected) in enumerate(zip(grid(), GOLDEN[key_of(*problem, weighted)], strict=True)):
        found, expected = np.array(result_of(models[place])), np.array(expected)
        error = np.abs(found - expected).max() / np.abs(expected).max()
        if error > 1e-6:
            wrong.append(f"{params}: off by {error:.1g} of the largest")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("place", cases([9], long=[0, 18]))
def test_the_file_has_what_pyspark_gives(spark, problem, place):
    classes, family = problem
    model = SparkLogisticRegression(family=family, **CONVERGED, **grid()[place]).fit(frame_of(spark, classes, True))
    np.testing.assert_allclose(result_of(model), GOLDEN[key_of(*problem, False)][place], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("params", [{}, {"regParam": 0.01}, {"regParam": 0.1, "elasticNetParam": 0.5}], ids=str)
def test_with_pysparks_defaults_coefficients_come_within_a_thousandth(spark, ps, problem, params):
    """Both stop where `tol` says, by their own paths."""
    classes, family = problem
    frame = frame_of(spark, classes, True)
    ours, theirs = (cls(family=family, **params).fit(frame) for cls in (LogisticRegression, SparkLogisticRegression))
    found, expected = (np.array(result_of(model)) for model in (ours, theirs))
    assert np.abs(found - expected).max() <= 1e-3 * np.abs(expected).max()
