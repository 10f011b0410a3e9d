"""Features out of columns, as in pyspark.ml.feature: what estimators do with `inputCols`, as a step of its own.

Examples
--------
>>> from sparkps.mllib.feature import FeatureHasher                                                  # doctest: +SKIP
>>> hasher = FeatureHasher(inputCols=["town", "price"], outputCol="features", hashing="fields")      # doctest: +SKIP
>>> LogisticRegression().fit(hasher.transform(df).cache())                                           # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from pyspark import keyword_only
from pyspark.ml import Transformer
from pyspark.ml.linalg import VectorUDT
from pyspark.ml.util import DefaultParamsReadable, DefaultParamsWritable
from pyspark.sql.types import ArrayType, DoubleType, LongType, StructField, StructType

from sparkps.driver_bridge.input.scan import quoted
from sparkps.errors import InvalidInput
from sparkps.mllib.data.hashed_columns import HashedColumns
from sparkps.mllib.data.raw_columns import RawColumns
from sparkps.mllib.data.selection import arrow_types
from sparkps.mllib.errors import InvalidColumn
from sparkps.mllib.models.outputs import check_outputs
from sparkps.mllib.models.persistence import EstimatorReader, EstimatorWriter
from sparkps.mllib.params.hashing import MURMUR3, VECTOR, HashingParams
from sparkps.mllib.training import KERNELS, warm_kernels

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_STRUCT = StructType([StructField("indices", ArrayType(LongType())), StructField("values", ArrayType(DoubleType()))])


class FeatureHasher(HashingParams, Transformer, DefaultParamsReadable["FeatureHasher"], DefaultParamsWritable):
    """Hashes columns to a column of features, which can be kept, and read by any estimator.

    With ``hashing="fields"`` the features are those that an estimator makes of its own ``inputCols``, ``crosses``, ``textCols``,
    ``ngrams``, ``categoricalCols``, ``numericCols`` and ``numFeatures`` (see `HasRawColumns`): a model trained on them is the same, to
    the last bit where `outputType` is ``struct``; vectors must ascend, so sums are rounded in another order. ``numFeatures=0`` leaves
    hashes at 63 bits. A null is no entry; a number that is not finite stays one, and estimators say what becomes of its row.

    With ``hashing="murmur3"`` they are those of pyspark.ml's FeatureHasher, index for index: it does the work, takes plain strings,
    booleans and numbers only, and an integer is an amount unless it is in ``categoricalCols``. That is what ``auto``, the default,
    comes to where nothing else is asked for, so that a program written for pyspark.ml gets what it got.

    Examples
    --------
    >>> hasher = FeatureHasher(inputCols=["town", "day"], crosses=[["town", "day"]], outputCol="features", numFeatures=0)
    >>> hasher.getHashing(), hasher.getOutputType()
    ('fields', 'struct')
    >>> hasher.transform(df).write.parquet("/data/hashed")                 # doctest: +SKIP

    References
    ----------
    Weinberger et al., Feature hashing for large scale multitask learning, ICML 2009, section 2.
    """

    _input_kwargs: dict[str, Any]

    @keyword_only
    def __init__(
        self,
        *,
        numFeatures: int = 1 << 18,
        inputCols: list[str] | None = None,
        outputCol: str | None = None,
        categoricalCols: list[str] | None = None,
        **ours: Any,
    ) -> None:
        super().__init__()
        self.setParams(**self._input_kwargs)

    @keyword_only
    def setParams(self, **params: Any) -> Self:
        """Sets Params by name."""
        given = {name: value for name, value in self._input_kwargs.items() if value is not None}
        if strange := [name for name in given if not self.hasParam(name)]:
            raise TypeError(f"{type(self).__name__} has no Param {strange[0]!r}")
        return self._set(**given)

    def write(self) -> EstimatorWriter:
        """The writer of the Params."""
        return EstimatorWriter(self)

    @classmethod
    def read(cls) -> Any:
        """The reader of the Params, an `EstimatorReader`."""
        return EstimatorReader(cls)

    def _transform(self, dataset: DataFrame) -> DataFrame:
        self._check()
        return self._by_pyspark(dataset) if self.getHashing() == MURMUR3 else self._by_fields(dataset)

    def _by_pyspark(self, dataset: DataFrame) -> DataFrame:
        from pyspark.ml.feature import FeatureHasher as SparkHasher

        known = ("numFeatures", "inputCols", "outputCol", "categoricalCols")
        hasher = SparkHasher(**{name: self.getOrDefault(name) for name in known if self.isDefined(name)})
        return hasher.transform(dataset)

    def _by_fields(self, dataset: DataFrame) -> DataFrame:
        from pyspark.sql import functions as sf

        raw, name = RawColumns(**self._raw_params(), buckets=self.getNumFeatures()), self.getOutputCol()
        try:
            raw = raw.resolved(arrow_types(dataset, raw.names))
        except InvalidInput as error:
            raise InvalidColumn(error.message, **error.attributes) from None
        check_outputs(dataset, {"outputCol": name})
        warm_kernels(KERNELS)
        vectors = self.getOutputType() == VECTOR
        arrow_udf: Any = getattr(sf, "arrow_udf")  # noqa: B009  # pyspark's stubs do not know it
        hashed = arrow_udf(HashedColumns(raw, vectors).__call__, VectorUDT() if vectors else _STRUCT)(*(quoted(each) for each in raw.names))
        return dataset.withColumn(name, hashed.alias(name, metadata={"ml_attr": {"num_attrs": raw.buckets}} if vectors else {}))


__all__ = ["FeatureHasher"]
