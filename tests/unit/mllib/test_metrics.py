"""Metrics of all workers' rows: what parts add up to, beside scikit-learn's metric of all rows at once."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from sklearn import metrics as theirs

from sparkps.mllib.metrics import METRICS, AreaUnderROC, MeanLogLoss, MetricSet


def rows(seed: int, n: int = 4000, spread: float = 1.5, shift: float = 0.0):
    rng = np.random.default_rng(seed)
    margins = spread * rng.normal(size=n) + shift
    labels = (rng.random(n) < 1 / (1 + np.exp(-margins))).astype(float)
    return margins, labels, rng.exponential(size=n)


EXPECTED = {
    "areaUnderROC": lambda m, y, w: theirs.roc_auc_score(y, m, sample_weight=w),
    "logLoss": lambda m, y, w: theirs.log_loss(y, 1 / (1 + np.exp(-m)), sample_weight=w),
    "accuracy": lambda m, y, w: theirs.accuracy_score(y, m > 0, sample_weight=w),
    "rmse": lambda m, y, w: theirs.root_mean_squared_error(y, m, sample_weight=w),
    "mse": lambda m, y, w: theirs.mean_squared_error(y, m, sample_weight=w),
    "mae": lambda m, y, w: theirs.mean_absolute_error(y, m, sample_weight=w),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", METRICS)
def test_parts_of_workers_add_up_to_the_metric_of_all_rows(name, weighted):
    margins, labels, weights = rows(3)
    metric = MetricSet.named([name])
    total = np.zeros(metric.size)
    for part in np.array_split(np.arange(len(margins)), [10, 11, 11, 3000]):  # one worker has no rows
        total += metric.parts(margins[part], labels[part], weights[part] if weighted else np.empty(0))
    expected = EXPECTED[name](margins, labels, weights if weighted else None)
    tolerance = 1e-4 if name == "areaUnderROC" else 1e-12
    assert metric.values(total)[name] == pytest.approx(expected, abs=tolerance)


def test_counts_of_rows_without_weights_do_not_depend_on_who_has_them():
    margins, labels, _ = rows(8)
    metric = MetricSet.named(["areaUnderROC", "accuracy"])
    whole = metric.parts(margins, labels)
    halves = metric.parts(margins[::2], labels[::2]) + metric.parts(margins[1::2], labels[1::2])
    np.testing.assert_array_equal(whole, halves)


@pytest.mark.parametrize("outputs", [2, 5])
def test_log_loss_and_accuracy_of_several_classes(outputs):
    rng = np.random.default_rng(1)
    margins, labels = rng.normal(size=(500, outputs)) * 30, rng.integers(0, outputs, 500).astype(float)
    found = MetricSet.named(["logLoss", "accuracy"])
    values = found.values(found.parts(margins, labels))
    scaled = np.exp(margins - margins.max(axis=1, keepdims=True))
    p = (scaled / scaled.sum(axis=1, keepdims=True))[np.arange(500), labels.astype(int)]
    assert values["logLoss"] == pytest.approx(-np.log(p).mean(), rel=1e-12)
    assert values["accuracy"] == theirs.accuracy_score(labels, margins.argmax(axis=1))


def test_margins_of_one_column_are_those_of_two_classes():
    margins, labels, weights = rows(5)
    metric = MetricSet.named(METRICS)
    np.testing.assert_array_equal(metric.parts(margins[:, None], labels, weights), metric.parts(margins, labels, weights))


@pytest.mark.parametrize(
    ("spread", "shift"), [(1.0, 0.0), (0.3, -3.0), (1e-3, 0.0), (1e-4, 5.0), (1e3, 0.0), (1e6, 1e6), (1e9, 0.0), (0.0, 1.0)]
)
def test_binned_auc_is_within_its_bound(spread, shift):
    rng = np.random.default_rng(2)
    noise = rng.normal(size=3000)
    margins = spread * noise + shift
    labels = (rng.random(3000) < 1 / (1 + np.exp(-noise))).astype(float)
    metric = AreaUnderROC()
    parts = metric.parts(margins, labels)
    error = abs(metric.value(parts) - theirs.roc_auc_score(labels, margins))
    assert error <= metric.error_bound(parts) + 1e-12
    assert metric.error_bound(parts) <= 0.5
    largest = min((side / side.sum()).max() for side in np.split(parts, 2))
    assert metric.error_bound(parts) <= 0.5 * largest + 1e-12


@pytest.mark.parametrize(("spread", "shift"), [(1.0, 0.0), (0.3, -3.0), (10.0, 0.0), (0.01, 0.0)])
def test_binned_auc_of_usual_margins_is_off_by_less_than_3e_4(spread, shift):
    rng = np.random.default_rng(4)
    noise = rng.normal(size=20_000)
    labels = (rng.random(20_000) < 1 / (1 + np.exp(-noise))).astype(float)
    metric = AreaUnderROC()
    parts = metric.parts(spread * noise + shift, labels)
    assert metric.value(parts) == pytest.approx(theirs.roc_auc_score(labels, noise), abs=3e-4)
    assert metric.error_bound(parts) < 0.02


def test_bins_are_in_the_order_of_margins_and_as_wide_as_they_say():
    margins = np.sort(np.concatenate([s * np.geomspace(1e-5, 1e5, 20_001) for s in (-1.0, 1.0)]))
    bins = AreaUnderROC.bins(margins)
    assert (np.diff(bins) >= 0).all()
    same = np.diff(bins) == 0
    allowed = AreaUnderROC.RELATIVE_WIDTH * (np.abs(margins[1:]) + 2**-10)
    assert (np.diff(margins)[same] <= allowed[same] * (1 + 1e-9)).all()
    assert AreaUnderROC.bins(np.array([-np.inf, -1e300, -0.0, 0.0, 1e300, np.inf])).tolist() == [
        0, 0, AreaUnderROC.HALF, AreaUnderROC.HALF, 2 * AreaUnderROC.HALF - 1, 2 * AreaUnderROC.HALF - 1
    ]  # fmt: skip


def test_rows_that_say_nothing_give_no_number():
    metric = MetricSet.named(METRICS)
    nothing = metric.values(metric.parts(np.empty(0), np.empty(0)))
    assert all(math.isnan(value) for value in nothing.values())
    one_class = AreaUnderROC()
    parts = one_class.parts(np.array([1.0, 2.0]), np.ones(2))
    assert math.isnan(one_class.value(parts))
    assert math.isnan(one_class.error_bound(parts))
    assert math.isnan(MeanLogLoss().value(MeanLogLoss().parts(np.ones(2), np.ones(2), np.zeros(2))))


def test_large_margins_do_not_overflow():
    metric = MeanLogLoss()
    margins = np.array([1e4, -1e4, 800.0])
    assert metric.value(metric.parts(margins, np.array([1.0, 0.0, 0.0]))) == pytest.approx(800.0 / 3)
    assert metric.value(metric.parts(np.array([[1e4, 0.0, -1e4]]), np.array([2.0]))) == 2e4


def test_a_set_is_picklable_and_a_name_that_is_none_is_told():
    metric = pickle.loads(pickle.dumps(MetricSet.named(["rmse"])))
    assert [each.name for each in metric.metrics] == ["rmse"]
    with pytest.raises(KeyError, match="nothing"):
        MetricSet.named(["nothing"])


def test_margins_that_are_no_numbers_count_nowhere() -> None:
    margins, labels = np.array([2.0, np.nan, -1.0, np.inf, -np.inf]), np.array([1.0, 1.0, 0.0, 1.0, 0.0])
    metric = AreaUnderROC()
    kept = ~np.isnan(margins)
    assert metric.parts(margins, labels).tolist() == metric.parts(margins[kept], labels[kept]).tolist()
    weights = np.arange(1.0, 6.0)
    assert metric.parts(margins, labels, weights).sum() == weights.sum() - 2.0
