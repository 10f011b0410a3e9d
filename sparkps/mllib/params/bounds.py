"""Params that keep coefficients and intercepts between bounds, as pyspark.ml's LogisticRegression has them."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pyspark.ml.linalg import Matrix, Vector
from pyspark.ml.param import Param, Params, TypeConverters

from sparkps.mllib.errors import InvalidParam

_COEFFICIENTS = (
    "The {} bounds on coefficients if fitting under bound constrained optimization. The bound matrix must be compatible with the shape"
    " (1, number of features) for binomial regression, or (number of classes, number of features) for multinomial regression."
)

NAMES = ("lowerBoundsOnCoefficients", "upperBoundsOnCoefficients", "lowerBoundsOnIntercepts", "upperBoundsOnIntercepts")


class HasBounds(Params):
    """Lower and upper bounds on coefficients, matrices (outputs, features), and on intercepts, vectors (outputs,)."""

    lowerBoundsOnCoefficients: Param[Matrix] = Param(
        Params._dummy(), "lowerBoundsOnCoefficients", _COEFFICIENTS.format("lower"), typeConverter=TypeConverters.toMatrix
    )
    upperBoundsOnCoefficients: Param[Matrix] = Param(
        Params._dummy(), "upperBoundsOnCoefficients", _COEFFICIENTS.format("upper"), typeConverter=TypeConverters.toMatrix
    )
    lowerBoundsOnIntercepts: Param[Vector] = Param(
        Params._dummy(),
        "lowerBoundsOnIntercepts",
        "The lower bounds on intercepts if fitting under bound constrained optimization. The bounds vector size must beequal with 1 for"
        " binomial regression, or the number oflasses for multinomial regression.",
        typeConverter=TypeConverters.toVector,
    )
    upperBoundsOnIntercepts: Param[Vector] = Param(
        Params._dummy(),
        "upperBoundsOnIntercepts",
        "The upper bounds on intercepts if fitting under bound constrained optimization. The bound vector size must be equal with 1 for"
        " binomial regression, or the number of classes for multinomial regression.",
        typeConverter=TypeConverters.toVector,
    )

    def getLowerBoundsOnCoefficients(self) -> Matrix:
        """Gets the value of `lowerBoundsOnCoefficients`."""
        return self.getOrDefault(self.lowerBoundsOnCoefficients)

    def getUpperBoundsOnCoefficients(self) -> Matrix:
        """Gets the value of `upperBoundsOnCoefficients`."""
        return self.getOrDefault(self.upperBoundsOnCoefficients)

    def getLowerBoundsOnIntercepts(self) -> Vector:
        """Gets the value of `lowerBoundsOnIntercepts`."""
        return self.getOrDefault(self.lowerBoundsOnIntercepts)

    def getUpperBoundsOnIntercepts(self) -> Vector:
        """Gets the value of `upperBoundsOnIntercepts`."""
        return self.getOrDefault(self.upperBoundsOnIntercepts)

    @property
    def _is_bounded(self) -> bool:
        """Whether any bound is set."""
        return any(self.isSet(name) for name in NAMES)

    def _check_bounds(self, fit_intercept: bool, elastic_net: float) -> None:
        """Raise unless the bounds, before the number of features is known, can be trained under.

        Parameters
        ----------
        fit_intercept : bool
            Whether there are intercepts.
        elastic_net : float
            Share of the L1 penalty, which no solver minimises under bounds.

        Raises
        ------
        InvalidParam
        """
        if not self._is_bounded:
            return
        if elastic_net != 0:
            raise InvalidParam(
                f"Under bounds the `elasticNetParam` must be 0: there is L2 regularization alone. Got {elastic_net!r}.",
                param="elasticNetParam",
            )
        if not fit_intercept and any(self.isSet(name) for name in NAMES[2:]):
            raise InvalidParam(
                "Bounds on intercepts must not be set where `fitIntercept` is False. Clear them, or fit an intercept.",
                param="lowerBoundsOnIntercepts",
            )
        for of in ("Coefficients", "Intercepts"):
            low, high = (self._array(f"{side}BoundsOn{of}") for side in ("lower", "upper"))
            if low is not None and high is not None and not (low.shape == high.shape and (low <= high).all()):
                raise InvalidParam(
                    f"`lowerBoundsOn{of}` must be less than or equal to `upperBoundsOn{of}`, and of their shape. Got {low.tolist()} and"
                    f" {high.tolist()}.",
                    param=f"lowerBoundsOn{of}",
                )

    def _array(self, name: str) -> NDArray[Any] | None:
        """Values of a Param as an array, float64; None: it is not set."""
        if not self.isSet(name):
            return None
        return np.asarray(self.getOrDefault(name).toArray(), np.float64)

    def _bounds_on_coefficients(self, outputs: int, features: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Lower and upper bounds, each float64 (outputs, features), infinite where there are none.

        Raises
        ------
        InvalidParam
            They are of another shape.
        """
        low, high = (self._shaped(name, (outputs, features), sign) for name, sign in zip(NAMES[:2], (-1, 1), strict=True))
        return low, high

    def _bounds_on_intercepts(self, outputs: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Lower and upper bounds, each float64 (outputs,), infinite where there are none; raises as `_bounds_on_coefficients`."""
        low, high = (self._shaped(name, (outputs,), sign) for name, sign in zip(NAMES[2:], (-1, 1), strict=True))
        return low, high

    def _shaped(self, name: str, shape: tuple[int, ...], sign: int) -> NDArray[Any]:
        found = self._array(name)
        if found is None:
            return np.full(shape, sign * np.inf)
        if found.shape != shape:
            of = "(1 or number of classes, number of features)" if len(shape) == 2 else "1 or the number of classes"
            raise InvalidParam(f"The shape of `{name}` must be {of}, here {shape}. Got {found.shape} instead.", param=name)
        return found


class BoundSetters(HasBounds):
    """Setters of the bounds, for estimators."""

    def setLowerBoundsOnCoefficients(self, value: Matrix) -> Self:
        """Sets the value of `lowerBoundsOnCoefficients`."""
        return self._set(lowerBoundsOnCoefficients=value)

    def setUpperBoundsOnCoefficients(self, value: Matrix) -> Self:
        """Sets the value of `upperBoundsOnCoefficients`."""
        return self._set(upperBoundsOnCoefficients=value)

    def setLowerBoundsOnIntercepts(self, value: Vector) -> Self:
        """Sets the value of `lowerBoundsOnIntercepts`."""
        return self._set(lowerBoundsOnIntercepts=value)

    def setUpperBoundsOnIntercepts(self, value: Vector) -> Self:
        """Sets the value of `upperBoundsOnIntercepts`."""
        return self._set(upperBoundsOnIntercepts=value)


__all__ = ["NAMES", "BoundSetters", "HasBounds"]
