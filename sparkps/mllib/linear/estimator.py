"""What estimators of linear models share besides: losses by name, grids, and where full-batch solvers begin."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from sparkps.driver_bridge.spark.python_workers import want
from sparkps.mllib.errors import InvalidParam
from sparkps.mllib.fitting import FittingEstimator
from sparkps.mllib.linear.grids import grid_fits
from sparkps.mllib.linear.loss import HOME, loss_named
from sparkps.mllib.linear.model import LinearModel
from sparkps.mllib.params.setters import LinearSetters
from sparkps.mllib.params.shared import FULL_BATCH_SOLVERS, MINI_BATCH_SOLVERS, UNUSED
from sparkps.mllib.solvers.bounds import Bounds
from sparkps.mllib.solvers.drivers import grid_key
from sparkps.mllib.solvers.job import TrainingJob
from sparkps.mllib.solvers.objective import Objective
from sparkps.mllib.training import Trained, train_grid

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

M = TypeVar("M", bound=LinearModel)

want(HOME)


class LinearEstimator(FittingEstimator[M], LinearSetters):
    """Trains a linear model with a loss.

    A subclass names its loss and its model; it may add Params with what must hold of them. Its ``__init__``, a `keyword_only`
    one, ends with ``self._take(self._input_kwargs)``.
    """

    #: Name of the loss that is minimised.
    _loss: ClassVar[str]
    #: Names that users give solvers, and those of their drivers.
    _solvers: ClassVar[Mapping[str, str]] = {"auto": "lbfgs", **{name: name for name in (*FULL_BATCH_SOLVERS, *MINI_BATCH_SOLVERS)}}
    #: Whether full-batch training takes the steps of OWL-QN also without L1, as pyspark.ml does for a loss that is not smooth.
    _orthantwise: ClassVar[bool] = False

    def fitMultiple(self, dataset: DataFrame, paramMaps: Sequence[Any]) -> Iterator[tuple[int, M]]:
        """Models of several settings, by their places; with a full-batch solver the rows are read once for all of them.

        Parameters
        ----------
        dataset : DataFrame
        paramMaps : sequence of dict
            What each model has other than this estimator.
        """
        estimators = [self.copy(each) for each in paramMaps]

        def fit(places: list[int]) -> list[M]:
            alike = [estimators[place] for place in places]
            return alike[0]._fit_grid(dataset, alike)  # what they have in common may be other than what this estimator has

        return grid_fits([each._grid_key() for each in estimators], fit)

    def _grid_key(self) -> str | None:
        """What fits that are done together have in common; None: this one is done alone."""
        try:
            self._check()
        except Exception:  # it will be raised when its turn comes
            return None
        return grid_key(self._job(self._objective()))

    def _fit(self, dataset: DataFrame) -> M:
        (model,) = self._fit_grid(dataset, [self])
        return model

    def _fit_grid(self, dataset: DataFrame, estimators: Sequence[Self]) -> list[M]:
        """Models of estimators with one `_grid_key`, this one's own among them or of copies of it."""
        for each in estimators:
            each._check()
        return self._trained(dataset, [(each, each._objective()) for each in estimators])

    def _trained(self, dataset: DataFrame, fits: Sequence[tuple[Self, Objective]]) -> list[M]:
        """Models of estimators with the objectives that fit the rows."""
        jobs = [estimator._job(objective) for estimator, objective in fits]
        return [each._made(dataset, trained) for (each, _), trained in zip(fits, self._train_all(dataset, jobs), strict=True)]

    def _train_all(self, dataset: DataFrame, jobs: Sequence[TrainingJob]) -> list[Trained]:
        """What the jobs of a grid come to."""
        return train_grid(dataset, jobs)

    # ---- checks --------------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        super()._check()
        self._check_l1(self._solver())

    def _unused(self, solver: str) -> Iterable[str]:
        return UNUSED.get(solver, UNUSED["lbfgs"])

    def _check_l1(self, solver: str) -> None:
        """Raise where there is a penalty of L1 that the driver of that name makes no use of."""
        if self.getElasticNetParam() > 0 and self.getRegParam() > 0 and solver in ("sgd", "momentum", "adagrad", "adam"):
            raise InvalidParam(
                f"L1 needs solver='lbfgs', 'ftrl' or 'online': with solver={solver!r} the `elasticNetParam` must be 0. Got"
                f" {self.getElasticNetParam()!r} instead.",
                param="elasticNetParam",
            )

    # ---- the job -------------------------------------------------------------------------------------------------------

    def _solver(self) -> str:
        """Name of the driver that the Param `solver` asks for."""
        return self._solvers[self.getSolver()]

    def _objective(self) -> Objective:
        """What is minimised; of a loss with parameters of its own, to be made of the Params."""
        return loss_named(self._loss)()

    def _bounds(self, outputs: int) -> Bounds | None:
        """Bounds on a model of so many outputs; of an estimator that has Params for them."""
        return None

    def _penalties(self) -> tuple[float, float]:
        l1 = self.getRegParam() * self.getElasticNetParam()
        return l1, self.getRegParam() - l1

    def _job(self, objective: Objective, **more: Any) -> TrainingJob:
        bounds = self._bounds(objective.outputs)
        return super()._job(
            objective,
            standardization=self.getStandardization(),
            bounds=bounds,
            any_steps=self.getSolver() == "auto",
            orthantwise=self._orthantwise,
            **more,
        )


__all__ = ["LinearEstimator"]
