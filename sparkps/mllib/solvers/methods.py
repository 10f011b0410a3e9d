"""Which quasi-Newton method a full-batch training takes."""

from __future__ import annotations

from sparkps.mllib.solvers.job import TrainingJob
from sparkps.mllib.solvers.lbfgs import Lbfgs
from sparkps.mllib.solvers.lbfgsb import LbfgsB
from sparkps.mllib.solvers.owlqn import OwlQn
from sparkps.mllib.solvers.quasi_newton import QuasiNewton


def method_of(job: TrainingJob) -> type[QuasiNewton]:
    """That of a job: L-BFGS, unless there are bounds, an L1 norm, or a loss that is not smooth."""
    if job.bounds is not None:
        return LbfgsB
    return OwlQn if job.l1 > 0 or job.orthantwise else Lbfgs


__all__ = ["method_of"]
