"""Params of field-aware factorization machines."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Self

from pyspark.ml.param import Param, Params, TypeConverters

from sparkps.mllib.params.factorization import RANGES as FACTOR_RANGES
from sparkps.mllib.params.factorization import SOLVERS as FACTOR_SOLVERS
from sparkps.mllib.params.factorization import FactorParams
from sparkps.mllib.params.shared import OPTIMIZER_SOLVERS

#: Step size of each solver where `stepSize` is not set.
STEP_SIZES = {"sgd": 0.3, "momentum": 0.03, "adagrad": 0.1, "adam": 0.01, "ftrl": 0.3}

#: Most fields: a feature has factors for each.
MOST_FIELDS = 4096

#: Solvers, with the Params that have no meaning for each.
SOLVERS: dict[str, tuple[str, ...]] = {name: FACTOR_SOLVERS[name] for name in OPTIMIZER_SOLVERS}


class FieldParams(FactorParams):
    """Params of field-aware machines and of their models: those of factorization machines, and where fields are."""

    fieldStarts: Param[list[int]] = Param(
        Params._dummy(),
        "fieldStarts",
        "index of the first feature of each field, ascending from 0: field i has the features from its start to below that of the next; not"
        " set with inputCols, each of which is a field",
        typeConverter=TypeConverters.toListInt,
    )
    normalizeRows: Param[bool] = Param(
        Params._dummy(),
        "normalizeRows",
        "whether the sum over pairs of features is divided by the sum of squares of a row's values, as libffm does",
        typeConverter=TypeConverters.toBoolean,
    )

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._setDefault(factorSize=4, initStd=0.1, solver="adagrad", maxIter=10, normalizeRows=False)

    def setFieldStarts(self, value: list[int]) -> Self:
        """Sets the value of `fieldStarts`."""
        return self._set(fieldStarts=value)

    def getFieldStarts(self) -> list[int]:
        """Gets the value of `fieldStarts`."""
        return self.getOrDefault(self.fieldStarts)

    def setNormalizeRows(self, value: bool) -> Self:
        """Sets the value of `normalizeRows`."""
        return self._set(normalizeRows=value)

    def getNormalizeRows(self) -> bool:
        """Gets the value of `normalizeRows`."""
        return self.getOrDefault(self.normalizeRows)


def _ascends(starts: list[int]) -> bool:
    return starts[:1] == [0] and all(a < b for a, b in pairwise(starts))


#: What must hold of these Params, in words and as a test.
RANGES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **FACTOR_RANGES,
    "fieldStarts": (f"ints ascending from 0, at most {MOST_FIELDS} of them", lambda v: _ascends(list(v)) and len(v) <= MOST_FIELDS),
}

__all__ = ["MOST_FIELDS", "RANGES", "SOLVERS", "STEP_SIZES", "FieldParams"]
