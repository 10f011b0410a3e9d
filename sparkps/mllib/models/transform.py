"""What a model adds to a DataFrame, and who computes it: a UDF of ours, or pyspark.ml's own model in the JVM."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pyspark.ml import Model
from pyspark.ml.linalg import SparseVector, Vector, VectorUDT

from sparkps.driver_bridge.input.scan import quoted
from sparkps.errors import InvalidInput
from sparkps.mllib.coefficients import Coefficients, LocalCoefficients
from sparkps.mllib.data.features import Features
from sparkps.mllib.data.sources import VectorColumn, source_of
from sparkps.mllib.errors import InvalidColumn
from sparkps.mllib.models.outputs import check_outputs, never_null, output, struct_of
from sparkps.mllib.models.scoring import Scorer
from sparkps.mllib.models.source import ScoredRows

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

log = logging.getLogger(__name__)

#: Models of at most so many coefficients are scored by pyspark.ml's own code where the features are its vectors.
LARGEST_IN_SPARK = 1 << 23


class ScoringModel(Model):
    """The `transform` of a model, and what it predicts of one vector; a family says how by its `Scorer`.

    It has the Params ``featuresCol``, ``handleInvalid`` and those of `_parts`; it may have ``offsetCol``.
    """

    #: By Param that names a column, the part of what was predicted that the column has; see `outputs`.
    _parts: ClassVar[Mapping[str, str]] = {"predictionCol": "prediction"}
    #: Whether `toSpark` gives a model of pyspark.ml, which scores vectors of Spark in our place; and whether that adds offsets, too.
    _scored_in_spark: ClassVar[bool] = False
    _offset_in_spark: ClassVar[bool] = False

    coefficients_: Coefficients
    facts_: dict[str, Any]

    @abstractmethod
    def _scorer(self, held: Any, **of: Any) -> Scorer:
        """The function of the UDF.

        Parameters
        ----------
        held : object
            The coefficients, or a broadcast variable of them.
        **of
            Further arguments of any scorer: `rows`, `wanted` and `offset`.
        """

    def toSpark(self) -> Any:
        """The same model of pyspark.ml, where there is one and the coefficients fit in a vector.

        Raises
        ------
        NotImplementedError
            pyspark.ml has no such model.
        """
        raise NotImplementedError(f"pyspark.ml has no model like a {type(self).__name__}: use this one's `transform`")

    # ---- where rows are ------------------------------------------------------------------------------------------------

    @property
    def _width(self) -> int:
        """Length that vectors must have; 0: any."""
        return int(self.facts_.get("width", 0))

    @property
    def _rows(self) -> ScoredRows:
        """What reads rows: the raw columns that the model was trained on, or the column of features that its Param names."""
        raw = self.facts_.get("source")
        return ScoredRows(source_of(raw) if raw else VectorColumn(self.getOrDefault("featuresCol")), self._width)

    @property
    def _offset(self) -> str:
        """Name of the column that is added to margins; empty: there is none."""
        named = self.hasParam("offsetCol") and self.isDefined("offsetCol")
        return str(self.getOrDefault("offsetCol") or "") if named else ""

    @property
    def _classes(self) -> int:
        """Number of classes; 0 for a model that is no classifier."""
        return 0

    # ---- a DataFrame ---------------------------------------------------------------------------------------------------

    def _transform(self, dataset: DataFrame) -> DataFrame:
        rows, names = self._rows, self._output_names()
        rows.check(dataset)
        self._check_offset(dataset)
        check_outputs(dataset, names)
        if not names:
            log.warning("%s adds no column: none of %s is set", self.uid, ", ".join(self._parts))
            return dataset
        if self.getOrDefault("handleInvalid") == "skip":
            dataset = dataset.where(rows.valid(dataset))
        if self._suits_spark(dataset, rows, names):
            from pyspark.sql import functions as sf

            dataset = dataset.where(never_null(sf.col(quoted(rows.names[0])), rows.names[0]))
            in_spark: DataFrame = self.toSpark().transform(dataset)
            return in_spark
        return self._scored_here(dataset, rows, names)

    def _output_names(self) -> dict[str, str]:
        """Names of the columns to add, by Param; without those that are not wished."""
        given = {param: self.getOrDefault(param) for param in self._parts if self.isDefined(param)}
        return {param: name for param, name in given.items() if name}

    def _check_offset(self, dataset: DataFrame) -> None:
        from pyspark.sql.types import NumericType

        if not self._offset:
            return
        if self._offset not in dataset.columns or not isinstance(dataset.schema[self._offset].dataType, NumericType):
            raise InvalidColumn(
                f"The `offsetCol` must name a numeric column. Got {self._offset!r}; the DataFrame has {', '.join(dataset.columns)}.",
                param="offsetCol",
                column=self._offset,
            )

    def _suits_spark(self, dataset: DataFrame, rows: ScoredRows, names: Mapping[str, str]) -> bool:
        """Whether pyspark.ml's own model scores these rows: vectors as long as those it was trained on.

        It does so in the JVM, where they are. All else it cannot score, or would send to every task as a dense vector; nor does it
        quote the names of columns.
        """
        if not self._scored_in_spark or not isinstance(self.coefficients_, LocalCoefficients):
            return False
        if not isinstance(rows.source, VectorColumn) or (self._offset and not self._offset_in_spark):
            return False
        plain = all(name.isidentifier() for name in (rows.source.name, *names.values()))
        many = int(self.facts_["numFeatures"])
        fits = self._width == many and many * self.coefficients_.dim <= LARGEST_IN_SPARK
        return plain and fits and isinstance(dataset.schema[rows.source.name].dataType, VectorUDT)

    def _scored_here(self, dataset: DataFrame, rows: ScoredRows, names: Mapping[str, str]) -> DataFrame:
        from pyspark.sql import functions as sf

        read = [sf.col(quoted(name)) for name in (*rows.names, *([self._offset] if self._offset else ()))]
        # True of every row. Spark 4.3 hands a UDF the columns of a columnar scan (Parquet) as they are, and fails where one of
        # them is a vector; a filter in between runs row by row.
        dataset = dataset.where(read[0].isNull() | read[0].isNotNull())
        held: Any = self.coefficients_
        if isinstance(held, LocalCoefficients):
            held = held.broadcast(dataset.sparkSession.sparkContext)
        wanted = [self._parts[param] for param in names]
        arrow_udf: Any = getattr(sf, "arrow_udf")  # noqa: B009  # pyspark's stubs do not know it
        scorer = self._scorer(held, rows=rows, wanted=wanted, offset=self._offset)
        scored: Column = arrow_udf(scorer.__call__, struct_of(wanted))(*read)
        return dataset.select("*", *(output(self._parts[param], scored, name, self._classes) for param, name in names.items()))

    # ---- one vector ----------------------------------------------------------------------------------------------------

    def predict(self, value: Vector) -> float:
        """Prediction of one vector, or array of numbers.

        Raises
        ------
        InvalidInput
            The vector has not as many elements as those that the model was trained on.
        """
        return float(self._part_of(value, "prediction")[0])

    def _part_of(self, value: Any, part: str) -> NDArray[Any]:
        """A part of what is predicted of one vector: the first row of its array."""
        scorer = self._scorer(self.coefficients_, rows=self._rows)
        return np.atleast_1d(scorer.scores(row_of(value, self._width))[part][0])


def row_of(value: Any, width: int = 0) -> Features:
    """One vector of pyspark, or array of numbers, as a row.

    Raises
    ------
    InvalidInput
        It is none, or it has not `width` elements.
    """
    if isinstance(value, SparseVector):
        length, keys, entries = len(value), value.indices.astype(np.int64), np.asarray(value.values, np.float64)
    else:
        try:
            entries = np.asarray(value.toArray() if isinstance(value, Vector) else value, np.float64)
        except (TypeError, ValueError):
            entries = np.empty((0, 0))
        if entries.ndim != 1:
            raise InvalidInput(f"What is scored must be a vector of pyspark.ml.linalg, or an array of numbers. Got {value!r} instead.")
        length, keys = len(entries), np.arange(len(entries), dtype=np.int64)
    if width and length != width:
        raise InvalidInput(f"A vector must have {width} elements, as those of the training had. Got {length} instead.")
    return Features(np.array([0, len(keys)], np.int32), keys, entries, np.zeros(1, np.int8), length)


__all__ = ["LARGEST_IN_SPARK", "ScoringModel", "row_of"]
