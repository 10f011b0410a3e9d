"""Metrics of rows for validation: those of the loss's own margins, and the same whoever has the rows."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from sklearn import metrics as theirs

from sparkps.mllib.data.rows import Columns
from sparkps.mllib.data.store import Chunk
from sparkps.mllib.fm.field_aware import FieldAwareMachine
from sparkps.mllib.fm.objective import FactorizationMachine
from sparkps.mllib.linear.concomitant import ConcomitantHuber
from sparkps.mllib.linear.distributions import DISTRIBUTIONS
from sparkps.mllib.linear.likelihood import HalfDeviance
from sparkps.mllib.linear.losses.hinge import Hinge
from sparkps.mllib.linear.losses.logistic import Logistic
from sparkps.mllib.linear.losses.squared import Squared
from sparkps.mllib.linear.mean_links import MEAN_LINKS
from sparkps.mllib.linear.mixture import Mixture
from sparkps.mllib.linear.perceptron import PerceptronRule
from sparkps.mllib.linear.softmax import Softmax
from sparkps.mllib.metrics import MetricSet
from sparkps.mllib.solvers.fullbatch_driver import FitStanding
from sparkps.mllib.solvers.measured import metrics_of, parts_of
from sparkps.mllib.solvers.objective import MeasuredObjective, located
from sparkps.mllib.solvers.quasi_newton import SolverStanding
from tests.unit.mllib.problems import random_chunk

FEATURES, ROWS = 12, 300

#: Objectives whose loss is a metric: labels, the metric's name, and what it comes to with a mean loss.
LOSSES = {
    "logistic": (Logistic(), (0.0, 1.0), "logLoss", lambda loss: loss),
    "softmax": (Softmax(3), (0.0, 1.0, 2.0), "logLoss", lambda loss: loss),
    "mixture": (Mixture(4), (0.0, 1.0), "logLoss", lambda loss: loss),
    "machine": (FactorizationMachine(2, "log", True, 0.1, 0), (0.0, 1.0), "logLoss", lambda loss: loss),
    "machine without linear terms": (FactorizationMachine(2, "log", False, 0.1, 0), (0.0, 1.0), "logLoss", lambda loss: loss),
    "fields": (FieldAwareMachine(2, "log", True, 0.1, 0, (0, 5, 9), True), (0.0, 1.0), "logLoss", lambda loss: loss),
    "squared": (Squared(), (-1.0, 2.0, 5.0), "rmse", lambda loss: np.sqrt(2 * loss)),
    "squared in another unit": (Squared(unit=3.0), (-1.0, 2.0, 5.0), "rmse", lambda loss: 3 * np.sqrt(2 * loss)),
    "machine for regression": (FactorizationMachine(2, "square", True, 0.1, 0), (-1.0, 2.0), "rmse", np.sqrt),
    "gaussian": (HalfDeviance(DISTRIBUTIONS["gaussian"], MEAN_LINKS["log"]), (1.0, 2.0), "rmse", lambda loss: np.sqrt(2 * loss)),
}


def problem(objective, labels, weighted, offsets):
    """Rows, coefficients and intercepts."""
    rng = np.random.default_rng(7)
    chunk = random_chunk(rng, ROWS, FEATURES, "float32", weighted=weighted, labels=labels)
    if offsets:
        chunk = replace(chunk, offsets=rng.normal(size=ROWS))
    coefficients = rng.normal(size=(FEATURES, objective.dim)) * 0.3
    return chunk, coefficients, rng.normal(size=objective.outputs)


@pytest.mark.parametrize("offsets", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_what_is_measured_is_what_the_loss_sees(name, weighted, offsets):
    objective, labels, metric, expected = LOSSES[name]
    objective = located(objective, np.arange(FEATURES), np.empty(0, np.int32))
    chunk, coefficients, bias = problem(objective, labels, weighted, offsets)
    state = np.stack([coefficients, np.zeros_like(coefficients)], axis=1)
    loss, _ = objective.loss_and_gradient([chunk], state, bias)
    metrics = MetricSet.named(objective.metrics)
    found = metrics.values(parts_of(metrics, objective, [chunk], coefficients, bias))
    weight = chunk.weights.sum() if weighted else ROWS
    assert found[metric] == pytest.approx(float(expected(loss / weight)), rel=1e-9)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_metrics_are_those_of_all_rows_whoever_has_them(workers):
    objective = Logistic()
    chunk, coefficients, bias = problem(objective, (0.0, 1.0), weighted=True, offsets=True)
    metrics = MetricSet.named(objective.metrics)
    cuts = np.linspace(0, ROWS, workers + 1).astype(int)
    parts = sum(parts_of(metrics, objective, [chunk.rows(*span)], coefficients, bias) for span in pairwise(cuts))
    margins = objective.scores(chunk, coefficients, bias)
    found = metrics.values(parts)
    assert found["areaUnderROC"] == pytest.approx(theirs.roc_auc_score(chunk.labels, margins, sample_weight=chunk.weights), abs=1e-3)
    probabilities = 1 / (1 + np.exp(-margins))
    assert found["logLoss"] == pytest.approx(theirs.log_loss(chunk.labels, probabilities, sample_weight=chunk.weights), rel=1e-12)


def test_margins_without_probabilities_have_no_log_loss():
    chunk, coefficients, bias = problem(Hinge(), (0.0, 1.0), weighted=False, offsets=False)
    metrics = MetricSet.named(Hinge.metrics)
    found = metrics.values(parts_of(metrics, Hinge(), [chunk], coefficients, bias))
    assert list(found) == ["areaUnderROC", "accuracy"]
    assert found["accuracy"] == theirs.accuracy_score(chunk.labels, Hinge().scores(chunk, coefficients, bias) > 0)


def test_of_a_loss_with_a_scale_the_predictions_are_measured():
    chunk, coefficients, _ = problem(Squared(), (-1.0, 2.0), weighted=False, offsets=True)
    huber = ConcomitantHuber()
    scores = huber.scores(chunk, coefficients, np.array([0.5, 7.0]))
    np.testing.assert_array_equal(scores, Squared().scores(chunk, coefficients, np.array([0.5])))
    assert huber.metrics == ("rmse", "mae")


def test_of_counts_the_means_are_measured():
    counts = HalfDeviance(DISTRIBUTIONS["poisson"], MEAN_LINKS["log"])
    chunk, coefficients, bias = problem(counts, (0.0, 1.0, 4.0), weighted=False, offsets=True)
    metrics = MetricSet.named(counts.metrics)
    found = metrics.values(parts_of(metrics, counts, [chunk], coefficients, bias))
    means = np.exp(Squared().scores(chunk, coefficients, bias))
    assert found["rmse"] == pytest.approx(theirs.root_mean_squared_error(chunk.labels, means))
    assert found["mae"] == pytest.approx(theirs.mean_absolute_error(chunk.labels, means))


def test_what_measures_nothing_sends_nothing():
    assert not isinstance(PerceptronRule(True), MeasuredObjective)
    empty = MetricSet(())
    chunk = Chunk(np.ones(1), np.empty(0), np.array([0, 0], np.int32), np.empty(0, np.int32), np.empty(0))
    assert parts_of(empty, Logistic(), [chunk], np.zeros((1, 1)), np.zeros(1)).shape == (0,)


def test_only_rows_that_are_set_aside_are_measured(job):
    assert metrics_of(job(Columns("label", "features"))).size == 0
    found = metrics_of(job(Columns("label", "features", validation="aside")))
    assert [each.name for each in found.metrics] == ["areaUnderROC", "logLoss"]


@pytest.fixture
def job():
    from sparkps.consistency import BSP
    from sparkps.mllib.solvers.job import TrainingJob

    def of(columns):
        return TrainingJob("lr", columns, Logistic(), "lbfgs", 1, 0.0, 0.0, 0.0, True, True, 1.0, 1, BSP(), None, False, 0)

    return of


def test_a_fit_that_goes_on_knows_what_was_measured():
    standing = FitStanding(SolverStanding([0.7, 0.6], 2, []), [0.7, 0.65], {"areaUnderROC": [0.5, float("inf")]})
    assert FitStanding.decoded(standing.encoded()) == standing
