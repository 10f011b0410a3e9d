"""Params of a training that ends when rows for validation say so."""

from __future__ import annotations

from typing import Any, Self

from pyspark.ml.param import Param, Params, TypeConverters


class HasEarlyStopping(Params):
    """When training ends before `maxIter`, by rows that `validationIndicatorCol` sets aside; the model is that of the best iteration."""

    earlyStoppingRounds: Param[int] = Param(
        Params._dummy(),
        "earlyStoppingRounds",
        "iterations (epochs of a mini-batch solver) without a better validation loss after which training ends, or 0 to go on; ignored if"
        " validationIndicatorCol is not set",
        typeConverter=TypeConverters.toInt,
    )
    validationTol: Param[float] = Param(
        Params._dummy(),
        "validationTol",
        "a validation loss counts as better that is less than the best one by more than this fraction of it",
        typeConverter=TypeConverters.toFloat,
    )

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._setDefault(earlyStoppingRounds=5, validationTol=0.0)

    def setEarlyStoppingRounds(self, value: int) -> Self:
        """Sets the value of `earlyStoppingRounds`."""
        return self._set(earlyStoppingRounds=value)

    def getEarlyStoppingRounds(self) -> int:
        """Gets the value of `earlyStoppingRounds`."""
        return self.getOrDefault(self.earlyStoppingRounds)

    def setValidationTol(self, value: float) -> Self:
        """Sets the value of `validationTol`."""
        return self._set(validationTol=value)

    def getValidationTol(self) -> float:
        """Gets the value of `validationTol`."""
        return self.getOrDefault(self.validationTol)


__all__ = ["HasEarlyStopping"]
