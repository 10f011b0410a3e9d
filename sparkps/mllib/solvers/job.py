"""The description of one training: what the estimator asks for, and what the driver adds for the workers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from sparkps.consistency import Consistency
from sparkps.mllib.data.rows import Columns
from sparkps.mllib.params.shared import UNUSED
from sparkps.mllib.solvers.bounds import Bounds
from sparkps.mllib.solvers.names import TableNames
from sparkps.mllib.solvers.objective import Objective


@dataclass(frozen=True)
class TrainingJob:
    """Rows, objective, and how it is minimised: what an estimator asks for. Picklable."""

    #: The estimator's; for names of tables and messages.
    uid: str
    #: Where labels, features and weights are, and what happens with rows that are wrong.
    columns: Columns
    #: What is minimised; owns all that is particular to the model.
    objective: Objective
    #: A name in `drivers.DRIVERS`.
    solver: str
    #: Iterations of L-BFGS, or epochs.
    max_iter: int
    #: Of L-BFGS: ends when the objective or its gradient has become so small in comparison.
    tol: float
    #: Weights of the penalties l1·‖w‖₁ and ½·l2·‖w‖².
    l1: float
    l2: float
    #: Of L-BFGS: whether the penalty is on the scaled coefficients, or on those of the raw features.
    standardization: bool
    fit_intercept: bool
    #: Of mini-batch solvers: rate of the optimizer on the tier, and most rows of one rank in one step.
    step_size: float
    batch_size: int
    #: How far ranks may run ahead of each other; L-BFGS needs BSP.
    consistency: Consistency
    #: None: as many as the cluster runs at once.
    num_workers: int | None
    #: Whether a row's rank and place depend on the rows alone.
    deterministic: bool
    #: Of the order of mini-batches.
    seed: int
    #: Of full-batch solvers: whether of many features the optimum alone counts, by whatever steps; else they are those of pyspark.ml.
    any_steps: bool = False
    #: Of rows for validation: iterations without a better loss after which training ends (0: never), and what counts as better.
    early_stopping_rounds: int = 5
    validation_tol: float = 0.0
    #: Of full-batch solvers: bounds on coefficients and intercepts.
    bounds: Bounds | None = None
    #: Of full-batch solvers: whether the steps are those of OWL-QN also without L1, as pyspark.ml takes them for a loss that is not smooth.
    orthantwise: bool = False
    #: Of full-batch solvers: whether features are taken as they are, neither scaled nor centred.
    unscaled: bool = False
    #: Of full-batch solvers: whether every step is `step_size` times the gradient.
    fixed_steps: bool = False
    #: Where checkpoints of the training are written; empty: nowhere. And iterations from one to the next.
    checkpoint_dir: str = ""
    checkpoint_interval: int = 10
    #: Of gradient descent over all rows: share of the rows that an iteration takes, drawn anew for each.
    fraction: float = 1.0
    #: Of gradient descent with momentum: how much of the last step is in the next.
    momentum: float = 0.9
    #: See `FitJob`.
    gpus_per_worker: None = None

    @property
    def centred(self) -> bool:
        """Of full-batch solvers: whether features are centred, which moves the intercepts."""
        return self.fit_intercept and not self.unscaled and not (self.bounds is not None and self.bounds.on_intercepts)

    @property
    def chosen(self) -> bool:
        """Whether a penalty or bounds tell between solutions that are as good for the rows."""
        return self.l1 + self.l2 > 0 or self.bounds is not None

    @property
    def _way(self) -> str:
        """The solver, and what it makes of its name."""
        if self.fixed_steps:
            return f"{self.solver} (steps of {self.step_size})"
        return f"auto ({self.solver})" if self.any_steps else self.solver

    def described(self, num_workers: int) -> dict[str, str]:
        """What makes a fit another one: Params that it depends on, and its number of workers. Rows are compared by the ranks."""
        columns, objective, penalty = self.columns, self.objective, self.l1 + self.l2
        known: dict[str, Any] = {
            "loss": (type(objective).__name__, *_plain(objective)),
            "labelCol": f"{columns.label} - {columns.origin!r}" if columns.origin else columns.label,
            "featuresCol": columns.features if columns.raw is None else columns.raw.facts(),
            "weightCol": columns.weight,
            "offsetCol": columns.offset,
            "validationIndicatorCol": columns.validation,
            "numFeatures": columns.num_features,
            "handleInvalid": columns.handle_invalid,
            "solver": self._way,
            "maxIter": self.max_iter,
            "tol": self.tol,
            "regParam": penalty,
            "elasticNetParam": self.l1 / penalty if penalty else 0.0,
            "standardization": self.standardization,
            "fitIntercept": self.fit_intercept,
            "bounds": _digest(self.bounds),
            "stepSize": self.step_size,
            "batchSize": self.batch_size,
            "momentum": self.momentum if self.solver == "momentum" else "",
            "consistency": repr(self.consistency),
            "numWorkers": num_workers,
            "miniBatchFraction": self.fraction,
            "earlyStoppingRounds": self.early_stopping_rounds if columns.validation else 0,
            "validationTol": self.validation_tol if columns.validation else 0.0,
            "deterministic": self.deterministic,
            "seed": self.seed,
        }
        return {name: str(value) for name, value in known.items() if name not in UNUSED.get(self.solver, ())}


def _plain(objective: Any) -> list[tuple[str, Any]]:
    """Numbers and names that an objective was made with."""
    held = getattr(objective, "__dict__", {})
    return sorted((name, value) for name, value in held.items() if isinstance(value, (bool, int, float, str)))


def _digest(bounds: Bounds | None) -> str:
    """Bounds in few characters; empty: none."""
    if bounds is None:
        return ""
    given = [None if each is None else (each.shape, each.tolist()) for each in vars(bounds).values()]
    return hashlib.sha256(repr(given).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class RankJob:
    """A job, or a grid of jobs on the same rows, as the workers get it. Picklable."""

    jobs: tuple[TrainingJob, ...]
    #: The driver has made these tables.
    names: TableNames
    #: Bytes of rows that a rank keeps in memory, and the directory for the other rows: settings of the tier that trains.
    budget: int
    scratch: str
    #: The training may go on from a checkpoint; then the rank's rows must be those of that time.
    resumes: bool = False

    @property
    def job(self) -> TrainingJob:
        """The only job, or the first of them, which has the rows of all."""
        return self.jobs[0]


__all__ = ["RankJob", "TrainingJob"]
