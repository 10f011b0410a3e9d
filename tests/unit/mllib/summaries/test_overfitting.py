"""What is said of a fit by its histories of training and validation."""

from __future__ import annotations

import math

from sparkps.mllib.summaries.overfitting import overfitting

FALLING = [0.7, 0.5, 0.4, 0.3, 0.2, 0.1]


def test_a_fit_that_generalizes_is_not_reported():
    assert overfitting(FALLING, [0.7, 0.6, 0.55, 0.52, 0.51, 0.505]) is None


def test_a_validation_loss_that_rises_while_the_objective_falls_is_reported():
    said = overfitting(FALLING, [0.6, 0.5, 0.45, 0.5, 0.7, 9.0], metric="logLoss")
    assert said is not None
    assert "from iteration 3 of 6 on: the validation logLoss was best there, 0.45, and ended at 9" in said
    assert "maxIter=3" in said


def test_the_start_is_not_an_iteration():
    losses = [0.6, 0.5, 0.45, 0.5, 0.7, 9.0]
    assert "iteration 3 of 6" in str(overfitting([0.69, *FALLING], losses))
    assert "iteration 2 of 5" in str(overfitting(FALLING, losses, iterations=5))
    assert "iteration 0 of 5" in str(overfitting(FALLING, [0.1, *losses[1:]], iterations=5))


def test_a_metric_that_should_be_large_is_turned_round():
    rising, falling = [0.7, 0.75, 0.8, 0.81, 0.82, 0.83], [0.7, 0.8, 0.82, 0.8, 0.78, 0.7]
    assert overfitting(FALLING, rising, larger_is_better=True) is None
    assert "best there, 0.82," in str(overfitting(FALLING, falling, larger_is_better=True))


def test_wavering_within_the_tolerance_is_not_reported():
    wavering = [0.5, 0.499, 0.5, 0.4995, 0.501, 0.502]
    assert overfitting(FALLING, wavering) is None
    assert overfitting(FALLING, wavering, tolerance=0.001) is not None


def test_divergence_is_not_overfitting():
    assert overfitting([0.5, 0.4, 0.9], [0.5, 0.4, 0.9]) is None


def test_a_metric_that_is_no_number_any_more_is_the_worst():
    assert overfitting(FALLING, [0.5, 0.4, 0.4, 0.4, 0.4, math.nan]) is not None
    assert overfitting(FALLING, [math.nan, 0.5, 0.4, 0.4, 0.4, 0.4]) is None


def test_too_little_to_tell_is_not_reported():
    for training, validation in (([], []), ([0.5], [0.5]), (FALLING, []), (FALLING, [0.5])):
        assert overfitting(training, validation) is None


def test_epochs_are_called_so_and_have_a_remedy_of_their_own():
    said = overfitting([0.5, 0.4, 0.3], [0.52, 0.5, 0.6], unit="epoch", remedy="Set more dropout")
    assert "from epoch 2 of 3 on" in said
    assert said.endswith("Set more dropout, or train for maxIter=2 epochs.")
    assert "regParam" not in said
