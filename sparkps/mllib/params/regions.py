"""Params of mixtures of logistic regressions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Self

from pyspark.ml.param import Param, Params, TypeConverters


class HasRegions(Params):
    """How many regions a mixture has, and how its coefficients begin."""

    numRegions: Param[int] = Param(
        Params._dummy(), "numRegions", "number of regions, each with a linear model of its own (>= 1)", typeConverter=TypeConverters.toInt
    )
    initStd: Param[float] = Param(
        Params._dummy(), "initStd", "standard deviation of the first coefficients (> 0)", typeConverter=TypeConverters.toFloat
    )

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._setDefault(numRegions=4, initStd=0.1)

    def setNumRegions(self, value: int) -> Self:
        """Sets the value of `numRegions`."""
        return self._set(numRegions=value)

    def getNumRegions(self) -> int:
        """Gets the value of `numRegions`."""
        return self.getOrDefault(self.numRegions)

    def setInitStd(self, value: float) -> Self:
        """Sets the value of `initStd`."""
        return self._set(initStd=value)

    def getInitStd(self) -> float:
        """Gets the value of `initStd`."""
        return self.getOrDefault(self.initStd)


#: What must hold of these Params, in words and as a test.
RANGES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "numRegions": ("an int in [1, 4096]", lambda v: 1 <= v <= 4096),
    "initStd": ("a float in (0, inf)", lambda v: 0 < v < math.inf),
}

__all__ = ["RANGES", "HasRegions"]
