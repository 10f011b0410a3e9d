"""Params of classifiers whose margin has a sign and no probability."""

from __future__ import annotations

from typing import Any, Self

from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import HasRawPredictionCol


class HasMarginThreshold(HasRawPredictionCol):
    """Where the margin divides the classes, and its column."""

    threshold: Param[float] = Param(
        Params._dummy(),
        "threshold",
        "The threshold in binary classification applied to the linear model prediction.  This threshold can be any real number, where Inf"
        " will make all predictions 0.0 and -Inf will make all predictions 1.0.",
        typeConverter=TypeConverters.toFloat,
    )

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._setDefault(threshold=0.0)

    def setRawPredictionCol(self, value: str) -> Self:
        """Sets the value of `rawPredictionCol`."""
        return self._set(rawPredictionCol=value)

    def setThreshold(self, value: float) -> Self:
        """Sets the value of `threshold`."""
        return self._set(threshold=value)

    def getThreshold(self) -> float:
        """Gets the value of `threshold`."""
        return self.getOrDefault(self.threshold)


__all__ = ["HasMarginThreshold"]
