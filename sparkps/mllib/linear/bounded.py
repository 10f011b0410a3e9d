"""Classifiers whose coefficients and intercepts their user may keep between bounds."""

from __future__ import annotations

from typing import TypeVar

from sparkps.mllib.errors import InvalidParam
from sparkps.mllib.linear.classifiers import ProbabilisticModel
from sparkps.mllib.linear.families import FamilyClassifier
from sparkps.mllib.params.bounds import NAMES, BoundSetters
from sparkps.mllib.params.shared import FULL_BATCH_SOLVERS
from sparkps.mllib.solvers.bounds import Bounds

M = TypeVar("M", bound=ProbabilisticModel)


class BoundedClassifier(FamilyClassifier[M], BoundSetters):
    """A `FamilyClassifier` with Params for bounds.

    Under bounds the steps are those of pyspark.ml, too: see `solvers.lbfgsb`. As there, features are not centred where an
    intercept has a bound, and the solution is not shifted among outputs.
    """

    def _check(self) -> None:
        super()._check()
        self._check_bounds(self.getFitIntercept(), self.getElasticNetParam())
        if self._is_bounded and self._solver() not in FULL_BATCH_SOLVERS:
            raise InvalidParam(
                f"Bounds need solver='lbfgs'. Got {self.getSolver()!r} instead; clear the bounds, or set `solver`.", param="solver"
            )

    def _may_have_two(self) -> bool:
        return all(given is None or len(given) == 1 for given in map(self._array, NAMES))

    def _bounds(self, outputs: int) -> Bounds | None:
        """See `LinearEstimator`; the rows tell later whether the number of features is theirs."""
        if not self._is_bounded:
            return None
        matrices = [self._array(name) for name in NAMES[:2]]
        widths = [each.shape[1] for each in matrices if each is not None]
        lower, upper = self._bounds_on_coefficients(outputs, widths[0]) if widths else (None, None)
        return Bounds(lower, upper, *self._bounds_on_intercepts(outputs))


__all__ = ["BoundedClassifier"]
