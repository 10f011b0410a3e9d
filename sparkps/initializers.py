"""First values of rows: what a row is before anybody has written to it.

A row's first value is a function of the table's seed and of the row's key alone, so that it depends on no order, no node
and no placement. Every initializer comes down to one of three laws (`Law`), which the node's kernels evaluate.

Examples
--------
>>> from sparkps.initializers import Uniform
>>> Uniform(-0.01, 0.01)
Uniform(low=-0.01, high=0.01)
"""

from __future__ import annotations

import math
import operator
from enum import IntEnum
from typing import NamedTuple

import msgspec

from sparkps.errors import ConfigError
from sparkps.plain import shown

#: Whole numbers stay at or below this: a float64 holds all of them, and so does a message.
_LARGEST_INT = 1 << 53


class LawKind(IntEnum):
    """The three laws that the kernels know."""

    CONSTANT = 0  # a
    UNIFORM = 1  # [a, b)
    NORMAL = 2  # mean a, standard deviation b


class Law(NamedTuple):
    """How one value of a row is drawn: a kind and its two parameters."""

    kind: LawKind
    a: float
    b: float


class _Initializer(msgspec.Struct, frozen=True, tag=True):
    """Base of all initializers."""

    def _require(self, holds: bool, field: str, must: str) -> None:
        if not holds:
            got = shown(getattr(self, field))
            raise ConfigError(f"The `{field}` of {type(self).__name__} must be {must}. Got {got} instead.", field=field)

    def _require_finite(self, *fields: str) -> None:
        for field in fields:
            self._require(_is_finite(getattr(self, field)), field, "a finite number")


class Zeros(_Initializer, frozen=True):
    """Every value is 0."""

    def law(self, fan_in: int, fan_out: int) -> Law:
        """The law of a table whose rows have these fans."""
        return Law(LawKind.CONSTANT, 0.0, 0.0)


class Constant(_Initializer, frozen=True):
    """Every value is `value`."""

    value: float

    def __post_init__(self) -> None:
        self._require_finite("value")

    def law(self, fan_in: int, fan_out: int) -> Law:
        """The law of a table whose rows have these fans."""
        return Law(LawKind.CONSTANT, float(self.value), 0.0)


class Uniform(_Initializer, frozen=True):
    """Uniform in [low, high)."""

    low: float = -0.01
    high: float = 0.01

    def __post_init__(self) -> None:
        self._require_finite("low", "high")
        self._require(self.low <= self.high, "high", f"at least `low` ({self.low!r})")

    def law(self, fan_in: int, fan_out: int) -> Law:
        """The law of a table whose rows have these fans."""
        return Law(LawKind.UNIFORM, float(self.low), float(self.high))


class Normal(_Initializer, frozen=True):
    """Normal with the given mean and standard deviation."""

    mean: float = 0.0
    std: float = 0.01

    def __post_init__(self) -> None:
        self._require_finite("mean", "std")
        self._require(self.std >= 0, "std", "at least 0")

    def law(self, fan_in: int, fan_out: int) -> Law:
        """The law of a table whose rows have these fans."""
        return Law(LawKind.NORMAL, float(self.mean), float(self.std))


class Xavier(_Initializer, frozen=True):
    """Uniform in ±gain·sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio, AISTATS 2010).

    The fans default to the extents of a dense table's first and last axis, and to `dim` for a sparse table.
    """

    gain: float = 1.0
    fan_in: int | None = None
    fan_out: int | None = None

    def __post_init__(self) -> None:
        self._require_finite("gain")
        self._require(self.gain > 0, "gain", "greater than 0")
        self._require(_is_fan(self.fan_in), "fan_in", _FAN)
        self._require(_is_fan(self.fan_out), "fan_out", _FAN)

    def law(self, fan_in: int, fan_out: int) -> Law:
        """The law of a table whose rows have these fans."""
        fans = (self.fan_in or fan_in) + (self.fan_out or fan_out)
        bound = self.gain * math.sqrt(6.0 / fans)
        return Law(LawKind.UNIFORM, -bound, bound)


class He(_Initializer, frozen=True):
    """Normal with mean 0 and standard deviation gain·sqrt(2 / fan_in) (He et al., ICCV 2015).

    The fan defaults to the extent of a dense table's first axis, and to `dim` for a sparse table.
    """

    gain: float = 1.0
    fan_in: int | None = None

    def __post_init__(self) -> None:
        self._require_finite("gain")
        self._require(self.gain > 0, "gain", "greater than 0")
        self._require(_is_fan(self.fan_in), "fan_in", _FAN)

    def law(self, fan_in: int, fan_out: int) -> Law:
        """The law of a table whose rows have these fans."""
        return Law(LawKind.NORMAL, 0.0, self.gain * math.sqrt(2.0 / (self.fan_in or fan_in)))


#: What a table's ``init`` may be.
Initializer = Zeros | Constant | Uniform | Normal | Xavier | He


def _is_finite(value: object) -> bool:
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) <= _LARGEST_INT
    return isinstance(value, float) and math.isfinite(value)


_FAN = f"None or an int in [1, {_LARGEST_INT}]"


def _is_fan(value: object) -> bool:
    """Whether `value` is None or such an int, be it one of numpy's."""
    if value is None or isinstance(value, bool):
        return value is None
    try:
        return 1 <= operator.index(value) <= _LARGEST_INT  # type: ignore[arg-type]
    except TypeError:
        return False


__all__ = ["Constant", "He", "Initializer", "Law", "LawKind", "Normal", "Uniform", "Xavier", "Zeros"]
