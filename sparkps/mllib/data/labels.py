"""Which labels an objective can be trained on, and what to do about the others. An objective chooses its rule."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class LabelRule(Protocol):
    """What labels must be. Picklable."""

    @property
    def must(self) -> str:
        """What must hold, in words that follow the column's name in a message."""

    def wrong(self, labels: Array) -> Array:
        """bool (n,): which of the labels, float64 (n,), cannot be trained on. Null ones are refused before."""

    def advice(self, label: float) -> str:
        """What to do about a row with the wrong `label`; empty: what helps with any wrong row."""


class FiniteLabels:
    """Any number, for regression.

    Examples
    --------
    >>> FiniteLabels().wrong(np.array([-1.5, np.nan, np.inf])).tolist()
    [False, True, True]
    """

    must = "a label must be finite"

    def wrong(self, labels: Array) -> Array:
        """See `LabelRule`."""
        return ~np.isfinite(labels)

    def advice(self, label: float) -> str:
        """See `LabelRule`."""
        return ""


@dataclass(frozen=True)
class RangeLabels:
    """Numbers of a range, for quantities that cannot be others.

    Examples
    --------
    >>> RangeLabels(0.0, above=True).wrong(np.array([0.0, 2.5, np.inf])).tolist()
    [True, False, True]
    >>> RangeLabels(0.0, 1.0).must
    'a label must be a number in [0, 1]'
    """

    low: float
    high: float = math.inf
    #: Whether `low` itself is wrong.
    above: bool = False

    @property
    def must(self) -> str:
        """See `LabelRule`."""
        return f"a label must be a number in {'(' if self.above else '['}{self.low:g}, {self.high:g}{']' if self.high < math.inf else ')'}"

    def wrong(self, labels: Array) -> Array:
        """See `LabelRule`."""
        low = labels > self.low if self.above else labels >= self.low
        found: Array = ~(low & (labels <= self.high) & np.isfinite(labels))
        return found

    def advice(self, label: float) -> str:
        """See `LabelRule`."""
        return ""


class BinaryLabels:
    """0 or 1, for classifiers with two classes.

    Examples
    --------
    >>> BinaryLabels().wrong(np.array([0.0, 1.0, -1.0, np.nan])).tolist()
    [False, False, True, True]
    """

    must = "a label must be 0 or 1"

    def wrong(self, labels: Array) -> Array:
        """See `LabelRule`."""
        found: Array = (labels != 0.0) & (labels != 1.0)
        return found

    def advice(self, label: float) -> str:
        """Never to skip the rows of a class."""
        if label == -1:
            return "If the labels are -1 and 1, map -1 to 0."
        if not math.isfinite(label):
            return ""
        if label != int(label):
            return "Labels of classes are whole numbers; where they are quantities, it takes a regression."
        return "For more than two classes wrap the estimator in pyspark.ml's OneVsRest; if the labels are two others, map them to 0 and 1."


#: More classes than this are taken for a mistake, where their number is not known: a model has a vector for each.
MOST_CLASSES = 1 << 20


@dataclass(frozen=True)
class ClassLabels:
    """Whole numbers from 0, for classifiers with any number of classes.

    Parameters
    ----------
    classes : int, optional
        Their number K: labels are 0 to K - 1. None: not known yet, and at most `MOST_CLASSES`.

    Examples
    --------
    >>> ClassLabels(3).wrong(np.array([0.0, 2.0, 3.0, 0.5, -1.0, np.nan])).tolist()
    [False, False, True, True, True, True]
    >>> ClassLabels(3).must
    'a label must be a whole number from 0 to 2'
    """

    classes: int | None = None

    @property
    def must(self) -> str:
        """See `LabelRule`."""
        if self.classes is None:
            return f"a label must be a whole number from 0, below {MOST_CLASSES}"
        return f"a label must be a whole number from 0 to {self.classes - 1}"

    def wrong(self, labels: Array) -> Array:
        """See `LabelRule`."""
        inside = (labels >= 0) & (labels < (self.classes or MOST_CLASSES))
        found: Array = ~inside | (np.floor(labels) != labels)
        return found

    def advice(self, label: float) -> str:
        """Never to skip the rows of a class."""
        if not math.isfinite(label):
            return ""
        if label != int(label):
            return "Labels of classes are whole numbers; where they are quantities, it takes a regression."
        if label == -1:
            return "If the labels are -1 and 1, map -1 to 0."
        return "Number the classes from 0 without gaps, as pyspark.ml's StringIndexer does."


__all__ = ["MOST_CLASSES", "BinaryLabels", "ClassLabels", "FiniteLabels", "LabelRule", "RangeLabels"]
