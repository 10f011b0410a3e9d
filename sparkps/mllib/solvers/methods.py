"""Which method a full-batch training takes, and in which coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from sparkps.mllib.solvers.fixed_steps import FixedSteps
from sparkps.mllib.solvers.job import TrainingJob
from sparkps.mllib.solvers.lbfgs import Lbfgs
from sparkps.mllib.solvers.lbfgsb import LbfgsB
from sparkps.mllib.solvers.moments import MOST_FEATURES
from sparkps.mllib.solvers.objective import CurvedObjective, LabelSums, Objective
from sparkps.mllib.solvers.owlqn import OwlQn
from sparkps.mllib.solvers.quasi_newton import QuasiNewton

#: What gradients are multiplied by, squared, to be those by standardized features: in these pyspark.ml measures whether they are small.
MEASURE = "u"

#: A loss that is less curved is as good as straight.
_LEAST_CURVATURE = 1e-12


def method_of(job: TrainingJob) -> type[QuasiNewton]:
    """That of a job: L-BFGS, unless steps are fixed, or there are bounds, an L1 norm, or a loss that is not smooth."""
    if job.fixed_steps:
        return FixedSteps
    if job.bounds is not None:
        return LbfgsB
    return OwlQn if job.l1 > 0 or job.orthantwise else Lbfgs


@dataclass(frozen=True)
class Way:
    """How a full-batch training gets to the optimum."""

    #: See `scaling.scaling`; 0: by the steps of pyspark.ml.
    curvature: float
    #: The reason, in words.
    why: str


def may_be_curved(job: TrainingJob) -> bool:
    """Whether the rows may say that the steps are others than those of pyspark.ml: see `way_of`."""
    return job.any_steps and job.bounds is None and not job.standardization and job.l2 > 0.0


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
    width = job.columns.num_features or int(widths.max(initial=0))
    curvature = objective.curvature(sums) if isinstance(objective, CurvedObjective) and sums.weight > 0 else 0.0
    against = {
        f"there are but {width} features": 0 < width <= MOST_FEATURES,
        "there are bounds": job.bounds is not None,
        "there is no L2 that would weigh on some features more than on others": not job.l2 > 0.0 or job.standardization,
        "it is not known how curved the loss is": not curvature > _LEAST_CURVATURE,
    }
    for why, holds in against.items():
        if holds or not job.any_steps:
            return Way(0.0, f"by the steps of pyspark.ml: {why}")
    return Way(curvature, "in units in which loss and penalty together are curved alike, which takes fewer steps")


__all__ = ["MEASURE", "Way", "may_be_curved", "method_of", "way_of"]
