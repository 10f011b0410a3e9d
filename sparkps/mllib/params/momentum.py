"""Params of gradient descent with momentum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from pyspark.ml.param import Param, Params, TypeConverters


class HasMomentum(Params):
    """How much of the last step is in the next; of estimators."""

    momentum: Param[float] = Param(
        Params._dummy(),
        "momentum",
        "of solver momentum: how much of the last step is in the next, in [0, 1); steps go 1 / (1 - momentum) times as far as those of sgd",
        typeConverter=TypeConverters.toFloat,
    )

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._setDefault(momentum=0.9)

    def setMomentum(self, value: float) -> Self:
        """Sets the value of `momentum`."""
        return self._set(momentum=value)

    def getMomentum(self) -> float:
        """Gets the value of `momentum`."""
        return self.getOrDefault(self.momentum)


#: What must hold of these Params, in words and as a test.
RANGES: dict[str, tuple[str, Callable[[Any], bool]]] = {"momentum": ("a float in [0, 1)", lambda v: 0 <= v < 1)}

__all__ = ["RANGES", "HasMomentum"]
