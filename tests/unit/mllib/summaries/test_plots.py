"""Curves of a training without Spark: what is written beside them."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from sparkps.mllib.summaries import plots
from sparkps.mllib.summaries.history import TrainingHistory


@pytest.mark.parametrize("unit", ["iteration", "epoch"])
@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_steps_are_named_as_the_history_names_them_at_integers(unit, count):
    ax = Figure().add_subplot()
    losses = [1.0 / each for each in range(1, count + 1)]
    plots.loss(ax, TrainingHistory(losses, count, "done", rows=1, validation=losses, unit=unit))
    assert (ax.get_xlabel(), ax.get_title()) == (unit, f"Loss over {unit}s")
    low, high = ax.get_xlim()
    ticks = [float(each) for each in ax.get_xticks() if low <= each <= high]
    assert ticks
    assert all(each.is_integer() for each in ticks)
