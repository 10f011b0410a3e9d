"""A worker whose process is killed in the middle of a fit changes nothing about the model."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from sparkps import PSContext
from sparkps.mllib.classification import LogisticRegression
from sparkps.mllib.solvers import fullbatch_driver, minibatch_driver, online_driver
from tests.harness.cases import cases
from tests.harness.fit_rows import fit_rows
from tests.harness.held_rank import Held, disturbed_by

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(300)]

#: The clock in which the worker is killed: an evaluation of L-BFGS, and the third step of four in an epoch of mini-batches.
CLOCK = 19

#: Solver -> the module of its driver and the train function there, and the estimator that is fitted with it; one reads files of the
#: user's, the others staged ones.
FITS: dict[str, tuple[ModuleType, str, dict[str, Any]]] = {
    "lbfgs": (fullbatch_driver, "FullBatchTask", {"maxIter": 15, "tol": 0.0, "standardization": False}),
    "adagrad": (minibatch_driver, "MiniBatchTask", {"maxIter": 8, "batchSize": 50, "deterministic": True}),
    "online": (online_driver, "OnlineTask", {"maxIter": 8, "batchSize": 50, "regParam": 0.01, "deterministic": True}),
}


@pytest.fixture(scope="module")
def ps(spark: SparkSession) -> Iterator[PSContext]:
    """A tier that gives the ranks of lost workers to others after a second."""
    spark.conf.set("spark.sparkps.leaseTtl", "1s")
    with PSContext(spark, num_nodes=2) as context:
        yield context
    spark.conf.unset("spark.sparkps.leaseTtl")


@pytest.fixture(scope="module")
def rows(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> DataFrame:
    """400 rows: a fit takes a moment."""
    return fit_rows(spark, tmp_path_factory.mktemp("rows"), 400)


@pytest.mark.parametrize("solver", FITS)
def test_killed_worker_leaves_the_same_model(
    ps: PSContext, rows: DataFrame, monkeypatch: pytest.MonkeyPatch, solver: str
) -> None:
    module, name, params = FITS[solver]
    estimator = LogisticRegression(solver=solver, numWorkers=2, **params)
    undisturbed = estimator.fit(rows)
    made = getattr(module, name)
    monkeypatch.setattr(module, name, lambda rank_job: Held(made(rank_job), CLOCK))
    disturbed = disturbed_by(ps, CLOCK, lambda: estimator.fit(rows))
    assert disturbed.coefficients == undisturbed.coefficients
    assert disturbed.intercept == undisturbed.intercept
    assert disturbed.summary.objectiveHistory == undisturbed.summary.objectiveHistory
    assert ps.status()["groups"] == []
    assert ps.status()["tables"] == []


@pytest.mark.parametrize("clock", cases([5], long=[8, 9, 10]))
def test_worker_killed_between_the_fits_of_a_grid(ps: PSContext, rows: DataFrame, monkeypatch: pytest.MonkeyPatch, clock: int) -> None:
    """In one of these clocks a rank takes its solution for the model, and tells of the next fit's coordinates."""
    estimator = LogisticRegression(maxIter=2, tol=0.0, standardization=False, numWorkers=2)
    maps = [{estimator.regParam: each} for each in (0.1, 0.001)]
    undisturbed = dict(estimator.fitMultiple(rows, maps))
    made = fullbatch_driver.FullBatchTask
    monkeypatch.setattr(fullbatch_driver, "FullBatchTask", lambda rank_job: Held(made(rank_job), clock))
    disturbed = disturbed_by(ps, clock, lambda: dict(estimator.fitMultiple(rows, maps)))
    for number, model in undisturbed.items():
        assert disturbed[number].summary.objectiveHistory == model.summary.objectiveHistory
        assert disturbed[number].coefficients == model.coefficients
        assert disturbed[number].intercept == model.intercept
