"""Which quasi-Newton method a full-batch training takes, and in which coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from sparkps.mllib.solvers.job import TrainingJob
from sparkps.mllib.solvers.lbfgs import Lbfgs
from sparkps.mllib.solvers.lbfgsb import LbfgsB
from sparkps.mllib.solvers.objective import CurvedObjective, LabelSums, Objective
from sparkps.mllib.solvers.owlqn import OwlQn
from sparkps.mllib.solvers.quasi_newton import QuasiNewton

#: Of so many features at most the steps are those of pyspark.ml.
FEW = 4096


def method_of(job: TrainingJob) -> type[QuasiNewton]:
    """That of a job: L-BFGS, unless there are bounds, an L1 norm, or a loss that is not smooth."""
    if job.bounds is not None:
        return LbfgsB
    return OwlQn if job.l1 > 0 or job.orthantwise else Lbfgs


@dataclass(frozen=True)
class Way:
    """How a full-batch training gets to the optimum."""

    #: Whether by steps of our choice: coordinates may be others, and a job of a grid begins where the one before it ended.
    is_free: bool
    #: See `scaling.scaling`; 0: coordinates are those of pyspark.ml.
    curvature: float
    #: The reason, in words.
    why: str


def way_of(job: TrainingJob, objective: Objective, sums: LabelSums, widths: NDArray[Any]) -> Way:
    """The way that the driver and every rank find by themselves.

    Parameters
    ----------
    job : TrainingJob
    objective : Objective
        Informed of the labels.
    sums : LabelSums
    widths : ndarray of shape (ranks,)
        Length of each rank's vectors; 0: it has none, or its rows have no length.
    """
    width = int(widths.max(initial=0))
    if not job.any_steps:
        return Way(False, 0.0, "the steps of pyspark.ml were asked for")
    if 0 < width <= FEW:
        return Way(False, 0.0, f"by the steps of pyspark.ml, for there are but {width} features")
    _, l2 = objective.penalties(job.l1, job.l2)
    if not l2 or job.standardization:
        return Way(True, 0.0, "in units of the features' deviations, in which the penalty is alike for all")
    if not isinstance(objective, CurvedObjective) or not sums.weight > 0:
        return Way(True, 0.0, "in units of the features' deviations, for it is not known how curved the loss is")
    return Way(True, objective.curvature(sums), "in units in which loss and penalty together are curved alike, which takes fewer steps")


__all__ = ["FEW", "Way", "method_of", "way_of"]
