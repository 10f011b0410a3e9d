"""Which fits are done together, on rows that are read once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sparkps.mllib.fm.objective import FactorizationMachine
from sparkps.mllib.linear.softmax import Softmax
from sparkps.mllib.solvers.bounds import Bounds
from sparkps.mllib.solvers.drivers import grid_key
from tests.unit.mllib.solvers.test_methods import JOB


def test_fits_that_differ_in_how_they_are_minimised_share_their_rows() -> None:
    more = {"l1": 0.3, "l2": 0.0, "tol": 0.5, "fit_intercept": False, "standardization": True, "max_iter": 3}
    assert grid_key(JOB) is not None
    assert grid_key(JOB) == grid_key(replace(JOB, **more)) == grid_key(replace(JOB, bounds=Bounds(np.zeros((1, 3)))))


def test_fits_of_other_rows_or_losses_do_not() -> None:
    assert grid_key(replace(JOB, columns=replace(JOB.columns, label="l"))) != grid_key(JOB)
    assert grid_key(replace(JOB, objective=Softmax(3))) != grid_key(replace(JOB, objective=Softmax(4)))


def test_a_fit_with_checkpoints_or_a_start_by_chance_is_alone() -> None:
    assert grid_key(replace(JOB, checkpoint_dir="/somewhere")) is None
    assert grid_key(replace(JOB, objective=FactorizationMachine(2, "log", True, 0.1, 0))) is None
