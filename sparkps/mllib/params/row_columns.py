"""Params that name columns of rows, besides label, features and weight."""

from __future__ import annotations

from typing import Self

from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import HasValidationIndicatorCol


class HasOffsetCol(Params):
    """What is added to each row's margin, with a coefficient of 1."""

    offsetCol: Param[str] = Param(
        Params._dummy(),
        "offsetCol",
        "The offset column name. If this is not set or empty, we treat all instance offsets as 0.0",
        typeConverter=TypeConverters.toString,
    )

    def setOffsetCol(self, value: str) -> Self:
        """Sets the value of `offsetCol`."""
        return self._set(offsetCol=value)

    def getOffsetCol(self) -> str:
        """Gets the value of `offsetCol`."""
        return self.getOrDefault(self.offsetCol)

    @property
    def _offset(self) -> str:
        """Name of the column; empty: there is none."""
        return self.getOffsetCol() if self.isDefined(self.offsetCol) else ""


class HasValidationCol(HasValidationIndicatorCol):
    """Which rows are set aside: they are measured on, and not trained on.

    The column is boolean. A row where it is null is wrong (see `handleInvalid`). Where it is true of no row, a warning says so and
    nothing is measured; where it is true of all, there is nothing to train on, which is an error.
    """

    def setValidationIndicatorCol(self, value: str) -> Self:
        """Sets the value of `validationIndicatorCol`."""
        return self._set(validationIndicatorCol=value)

    @property
    def _validation(self) -> str:
        """Name of the column; empty: there is none."""
        return self.getValidationIndicatorCol() if self.isDefined(self.validationIndicatorCol) else ""


__all__ = ["HasOffsetCol", "HasValidationCol"]
