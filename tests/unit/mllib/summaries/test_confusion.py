"""Metrics of classes, beside scikit-learn's."""

from __future__ import annotations

import collections

import numpy as np
import pytest
from sklearn import metrics as theirs

from sparkps.mllib.summaries.confusion import Confusion


def counted(labels, predictions, weights):
    cells = collections.Counter()
    for label, prediction, weight in zip(labels, predictions, weights, strict=True):
        cells[label, prediction] += weight
    return Confusion.of([(*cell, weight) for cell, weight in cells.items()])


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_metrics_are_those_of_scikit_learn(classes, beta):
    rng = np.random.default_rng(classes)
    labels, predictions = rng.integers(0, classes, (2, 300)).astype(float)
    predictions = np.where(rng.random(300) < 0.6, labels, predictions)
    weights = rng.exponential(size=300)
    found = counted(labels, predictions, weights)
    p, r, f, _ = theirs.precision_recall_fscore_support(labels, predictions, beta=beta, sample_weight=weights)
    np.testing.assert_allclose((found.precision, found.recall, found.f_measure(beta)), (p, r, f), rtol=1e-12)
    assert found.accuracy == pytest.approx(theirs.accuracy_score(labels, predictions, sample_weight=weights))
    for name, value in (("precision", found.precision), ("recall", found.recall), ("fbeta", found.f_measure(beta))):
        score = {"precision": theirs.precision_score, "recall": theirs.recall_score, "fbeta": theirs.fbeta_score}[name]
        extra = {"beta": beta} if name == "fbeta" else {}
        expected = score(labels, predictions, average="weighted", sample_weight=weights, **extra)
        assert found.mean(value) == pytest.approx(expected)
    np.testing.assert_allclose(
        found.false_positive_rate,
        [weights[(predictions == c) & (labels != c)].sum() / weights[labels != c].sum() for c in range(classes)],
    )


def test_a_class_that_is_never_predicted_has_no_precision():
    found = Confusion.of([(0.0, 0.0, 2.0), (1.0, 0.0, 1.0)])
    assert (found.precision.tolist(), found.f_measure().tolist()[1]) == ([2 / 3, 0.0], 0.0)


def test_a_class_that_is_only_predicted_is_no_label():
    found = Confusion.of([(0.0, 3.0, 2.0), (1.0, 1.0, 2.0)])
    assert (found.labels.tolist(), found.recall.tolist(), found.accuracy) == ([0.0, 1.0], [0.0, 1.0], 0.5)


def test_one_label_alone_has_no_false_positive_rate():
    found = Confusion.of([(1.0, 1.0, 2.0)])
    assert np.isnan(found.false_positive_rate).tolist() == [True]
    assert (found.accuracy, found.recall.tolist()) == (1.0, [1.0])
