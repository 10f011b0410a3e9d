"""What a linear model adds to a DataFrame, and who computes it: a UDF of ours, or pyspark.ml's own model in the JVM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pyspark.ml import Model
from pyspark.ml.linalg import VectorUDT

from sparkps.driver_bridge.input.scan import quoted
from sparkps.errors import InvalidInput
from sparkps.mllib.coefficients import Coefficients, LocalCoefficients
from sparkps.mllib.data.selection import check_features_type
from sparkps.mllib.linear.outputs import check_outputs, has_valid_features, never_null, output, struct_of
from sparkps.mllib.linear.scoring import LinearScorer
from sparkps.mllib.params.setters import PredictionSetters
from sparkps.mllib.params.shared import LinearParams

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

#: Models of at most so many features are scored by pyspark.ml's own code where the features are its vectors.
LARGEST_IN_SPARK = 1 << 23


class LinearTransformer(Model, LinearParams, PredictionSetters):
    """The `transform` of linear models. As it is here, what is predicted is the margin."""

    #: By Param that names a column, the part of what was predicted that the column has; see `outputs`.
    _parts: ClassVar[Mapping[str, str]] = {"predictionCol": "prediction"}
    #: Whether `toSpark` gives a model of pyspark.ml, which scores vectors of Spark in our place.
    _scored_in_spark: ClassVar[bool] = False
    #: Of classifiers; else 0.
    _num_classes: ClassVar[int] = 0

    coefficients_: Coefficients
    facts_: dict[str, Any]

    def _scorer(self, held: Any) -> LinearScorer:
        """The function of the UDF, with the coefficients `held`: themselves, or a broadcast variable of them."""
        return LinearScorer(held, self.facts_["intercept"], self.getFeaturesCol(), self._width)

    @property
    def _width(self) -> int:
        """Length that vectors must have; 0: any."""
        return int(self.facts_.get("width", 0))

    def _transform(self, dataset: DataFrame) -> DataFrame:
        from pyspark.sql import functions as sf

        name = self.getFeaturesCol()
        if name not in dataset.columns:
            raise InvalidInput(
                f"Column {name!r} must exist. The DataFrame has {', '.join(dataset.columns)}.", column=name
            )
        kind = dataset.schema[name].dataType
        check_features_type(name, kind)
        names = {param: self.getOrDefault(param) for param in self._parts}
        check_outputs(dataset, names)
        features = sf.col(quoted(name))
        if self.getHandleInvalid() == "skip":
            dataset = dataset.where(has_valid_features(features, kind, self._width))
        if self._suits_spark(kind, [name, *names.values()]):
            dataset = dataset.where(never_null(features, name))
            in_spark: DataFrame = self.toSpark().transform(dataset)
            return in_spark
        # True of every row. Spark 4.3 hands a UDF the columns of a columnar scan (Parquet) as they are, and fails where one of
        # them is a vector; a filter in between runs row by row.
        dataset = dataset.where(features.isNull() | features.isNotNull())
        scored = self._scored(dataset, features)
        added = [output(self._parts[param], scored, column, self._num_classes) for param, column in names.items() if column]
        return dataset.select("*", *added)

    def toSpark(self) -> Any:
        """The same model of pyspark.ml, where there is one and the coefficients fit in a vector."""
        raise NotImplementedError(f"{type(self).__name__} has none in pyspark.ml")

    def _suits_spark(self, kind: Any, names: list[str]) -> bool:
        """Whether pyspark.ml's own model scores features of that type: vectors as long as those it was trained on.

        It does so in the JVM, where they are. All else it cannot score, or would send to every task as a dense vector; nor does it
        quote the names of columns.
        """
        local = isinstance(self.coefficients_, LocalCoefficients)
        plain = all(not name or name.isidentifier() for name in names)
        fits = self._width == int(self.facts_["numFeatures"]) <= LARGEST_IN_SPARK
        return self._scored_in_spark and local and plain and fits and isinstance(kind, VectorUDT)

    def _scored(self, dataset: DataFrame, features: Column) -> Column:
        """A struct of all that is predicted of a row."""
        from pyspark.sql import functions as sf

        held: Any = self.coefficients_
        if isinstance(held, LocalCoefficients):
            held = held.broadcast(dataset.sparkSession.sparkContext)
        arrow_udf: Any = getattr(sf, "arrow_udf")  # noqa: B009  # pyspark's stubs do not know it
        scored: Column = arrow_udf(self._scorer(held).__call__, struct_of(self._parts.values()))(features)
        return scored


__all__ = ["LARGEST_IN_SPARK", "LinearTransformer"]
