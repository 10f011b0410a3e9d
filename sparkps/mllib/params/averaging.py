"""Params of perceptrons."""

from __future__ import annotations

from typing import Any, Self

from pyspark.ml.param import Param, Params, TypeConverters


class HasAveraged(Params):
    """Whether a model is the average of its coefficients over the training."""

    averaged: Param[bool] = Param(
        Params._dummy(),
        "averaged",
        "whether the model has the average of the coefficients over the training, and not the last ones",
        typeConverter=TypeConverters.toBoolean,
    )

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._setDefault(averaged=True)

    def setAveraged(self, value: bool) -> Self:
        """Sets the value of `averaged`."""
        return self._set(averaged=value)

    def getAveraged(self) -> bool:
        """Gets the value of `averaged`."""
        return self.getOrDefault(self.averaged)


__all__ = ["HasAveraged"]
