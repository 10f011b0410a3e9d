"""Solvers by name: each with the driver's part of its training."""

from __future__ import annotations

from dataclasses import fields

from sparkps.initializers import Zeros
from sparkps.mllib.solvers.descending import AdamWDriver, DescentDriver
from sparkps.mllib.solvers.driver import SolverDriver
from sparkps.mllib.solvers.fullbatch_driver import FullBatchDriver
from sparkps.mllib.solvers.irls import IrlsDriver
from sparkps.mllib.solvers.job import TrainingJob
from sparkps.mllib.solvers.minibatch import OPTIMIZERS
from sparkps.mllib.solvers.minibatch_driver import MiniBatchDriver
from sparkps.mllib.solvers.mixing import MixingDriver
from sparkps.mllib.solvers.normal_driver import NormalDriver
from sparkps.mllib.solvers.online_driver import OnlineDriver

#: Fields of a job that may differ between jobs of one grid.
_OF_ONE_FIT = {
    "max_iter", "tol", "l1", "l2", "standardization", "fit_intercept", "early_stopping_rounds", "validation_tol", "objective", "bounds",
}  # fmt: skip

#: By name of the solver.
DRIVERS: dict[str, type[SolverDriver]] = {
    "lbfgs": FullBatchDriver,
    "normal": NormalDriver,
    "irls": IrlsDriver,
    "gd": DescentDriver,
    "adamW": AdamWDriver,
    "mixing": MixingDriver,
    **dict.fromkeys(OPTIMIZERS, MiniBatchDriver),
    "online": OnlineDriver,
}


def grid_key(job: TrainingJob) -> str | None:
    """What jobs have in common that are trained on rows that are read once; None: this one is trained alone."""
    if not DRIVERS[job.solver].takes_grids or job.checkpoint_dir or job.objective.initializer != Zeros():
        return None
    common = [getattr(job, each.name) for each in fields(job) if each.name not in _OF_ONE_FIT]
    return repr((common, type(job.objective).__name__, sorted(vars(job.objective).items())))


__all__ = ["DRIVERS", "grid_key"]
