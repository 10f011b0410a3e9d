"""Which way a full-batch training takes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sparkps.consistency import BSP
from sparkps.mllib.data.rows import Columns
from sparkps.mllib.linear.concomitant import ConcomitantHuber
from sparkps.mllib.linear.losses.hinge import Hinge
from sparkps.mllib.linear.losses.logistic import Logistic
from sparkps.mllib.linear.losses.squared import Squared
from sparkps.mllib.linear.softmax import Softmax
from sparkps.mllib.solvers.bounds import Bounds
from sparkps.mllib.solvers.job import TrainingJob
from sparkps.mllib.solvers.methods import Way, may_be_curved, method_of, way_of
from sparkps.mllib.solvers.moments import MOST_FEATURES as FEW
from sparkps.mllib.solvers.objective import LabelSums

JOB = TrainingJob(
    uid="fit", columns=Columns("label", "features", "", 0, "error"), objective=Logistic(), solver="lbfgs", max_iter=10, tol=1e-6, l1=0.0,
    l2=0.1, standardization=False, fit_intercept=True, step_size=1.0, batch_size=10, consistency=BSP(), num_workers=None,
    deterministic=False, seed=0, any_steps=True,
)  # fmt: skip
SUMS = LabelSums(10.0, 4.0, 4.0, 10.0, np.array([6.0, 3.0, 1.0]))


def way(objective: Any = None, widths: tuple[float, ...] = (FEW + 1.0, 0.0), **more: Any) -> Way:
    """That of a job like `JOB`."""
    job = replace(JOB, **more)
    return way_of(job, objective or job.objective, SUMS, np.array(widths))


@pytest.mark.parametrize(
    ("widths", "is_curved"),
    [((FEW, 0.0), False), ((3.0, 3.0), False), ((0.0, 3.0), False), ((FEW + 1.0,), True), ((0.0, FEW + 1.0), True), ((0.0, 0.0), True)],
)
def test_steps_are_those_of_pyspark_where_features_are_known_to_be_few(widths: tuple[float, ...], is_curved: bool) -> None:
    assert (way(widths=widths).curvature > 0.0) == is_curved
    assert ("steps of pyspark.ml" in way(widths=widths).why) != is_curved
    assert way(widths=widths, any_steps=False).curvature == 0.0


@pytest.mark.parametrize(("declared", "is_curved"), [(30, False), (FEW + 1, True)])
def test_a_number_of_features_that_is_declared_is_known(declared: int, is_curved: bool) -> None:
    found = way(widths=(0.0, 0.0), columns=replace(JOB.columns, num_features=declared))
    assert (found.curvature > 0.0) == is_curved


@pytest.mark.parametrize(
    "more", [{"standardization": True}, {"l2": 0.0}, {"l2": 0.0, "l1": 1.0}, {"bounds": Bounds(np.zeros((1, 3)))}], ids=str
)
def test_coordinates_are_those_of_pyspark_where_no_penalty_is_more_for_some(more: dict[str, Any]) -> None:
    assert way(**more).curvature == 0.0
    assert not may_be_curved(replace(JOB, **more))
    assert may_be_curved(JOB)


def test_without_weight_or_with_one_label_there_is_no_curvature() -> None:
    for sums in (LabelSums(0.0, 0.0, 0.0, 0.0, np.zeros(0)), LabelSums(4.0, 4.0, 4.0, 4.0), LabelSums(4.0, 0.0, 0.0, 4.0)):
        assert way_of(JOB, JOB.objective, sums, np.array([0.0])).curvature == 0.0


def test_how_curved_losses_are() -> None:
    found = [way(each).curvature for each in (Logistic(), Squared(), Hinge(), Softmax(3))]
    assert found == pytest.approx([0.12, 1.0, 0.25, 0.5 * (0.6 * 0.4 + 0.3 * 0.7 + 0.1 * 0.9) / 3])
    assert way(ConcomitantHuber(1.35)).curvature == 0.0


def test_what_is_not_smooth_or_bounded_has_a_method_of_its_own() -> None:
    methods = [method_of(replace(JOB, **more)) for more in ({}, {"l1": 0.1}, {"orthantwise": True}, {"bounds": Bounds(np.zeros((1, 3)))})]
    assert [each.title for each in methods] == ["L-BFGS", "OWL-QN", "OWL-QN", "L-BFGS-B"]
