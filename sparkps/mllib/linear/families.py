"""Classifiers of as many classes as there are: two with one margin, or several with a margin each.

How many there are is known from the label's metadata or by counting. Counting takes a pass of its own, so where two are likely the
rows are trained on as if there were two, until a rank meets a label that says otherwise.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self, TypeVar

from sparkps.driver_bridge.input.scan import check_input, quoted
from sparkps.errors import InvalidInput
from sparkps.mllib.data.selection import check_present
from sparkps.mllib.linear.binary import BinaryClassifier
from sparkps.mllib.linear.classifiers import ProbabilisticModel
from sparkps.mllib.linear.softmax import Softmax
from sparkps.mllib.params.shared import HasFamily
from sparkps.mllib.solvers.objective import Objective

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

log = logging.getLogger(__name__)

M = TypeVar("M", bound=ProbabilisticModel)

#: More classes than anybody has: a label that was taken for the number of a class.
_MOST_CLASSES = 1 << 20


class FamilyClassifier(BinaryClassifier[M], HasFamily):
    """Trains a model of two classes, or of several, as the Param `family` and the labels say."""

    def _fit_grid(self, dataset: DataFrame, estimators: Sequence[Self]) -> list[M]:
        for each in estimators:
            each._check()
        family = estimators[0].getFamily().lower()
        check_input(dataset)
        check_present(dataset, self._columns().names)  # before classes are counted, on which the shapes of other Params depend

        def trained(objective: Objective) -> list[M]:
            return self._trained(dataset, [(each, objective) for each in estimators])

        if family == "binomial":
            return trained(self._objective())
        classes = declared_classes(dataset, self.getLabelCol())
        if family == "auto" and classes <= 2 and (classes or self.getHandleInvalid() == "error") and self._may_have_two():
            try:
                return trained(self._objective())
            except InvalidInput as error:
                if not _is_further_class(error):
                    raise
                log.info("%s: labels are not 0 and 1 alone, the family is multinomial", self.uid)
        classes = classes or self._counted(dataset)
        return trained(self._of(family, classes))

    def _may_have_two(self) -> bool:
        """Whether the Params would do for two classes."""
        return True

    def _grid_key(self) -> str | None:
        found = super()._grid_key()
        return found and f"{found} {self.getFamily().lower()}"

    def _of(self, family: str, classes: int) -> Objective:
        return Softmax(classes) if family == "multinomial" or classes > 2 else self._objective()

    def _counted(self, dataset: DataFrame) -> int:
        name = self.getLabelCol()
        classes = counted_classes(dataset, name, self._columns().weight)
        if classes > _MOST_CLASSES:
            raise InvalidInput(
                f"Column {name!r}: the labels of classes must be below {_MOST_CLASSES}. Got {classes - 1}. Number the classes from 0, as"
                " pyspark.ml's StringIndexer does.",
                column=name,
            )
        return classes


def declared_classes(dataset: DataFrame, label: str) -> int:
    """The number of classes that the label's metadata tell, as StringIndexer writes them; 0: they tell none."""
    if label not in dataset.columns:
        return 0
    attributes = dataset.schema[label].metadata.get("ml_attr", {})
    return int(attributes.get("num_vals") or len(attributes.get("vals", ())))


def counted_classes(dataset: DataFrame, label: str, weight: str = "") -> int:
    """One more than the largest label of rows that weigh something, at least 1; wrong labels are for the ranks to find."""
    from pyspark.sql import functions as sf
    from pyspark.sql.types import NumericType

    if label not in dataset.columns or not isinstance(dataset.schema[label].dataType, NumericType):
        return 1
    value = sf.col(quoted(label)).cast("double")
    fine = (value >= 0) & (value % 1.0 == 0.0) & (value < float("inf"))
    if weight in dataset.columns and isinstance(dataset.schema[weight].dataType, NumericType):
        fine &= sf.col(quoted(weight)) != 0
    (largest,) = dataset.where(fine).agg(sf.max(value)).head() or (None,)
    return 1 if largest is None else int(largest) + 1


def _is_further_class(error: InvalidInput) -> bool:
    """Whether a row was refused for a label that numbers a class beyond the second."""
    label = error.attributes.get("label")
    return label is not None and float(label) >= 2 and float(label).is_integer()


__all__ = ["FamilyClassifier", "counted_classes", "declared_classes"]
