"""Params of a transformer that hashes columns: what it makes of them, and how."""

from __future__ import annotations

from typing import Any, Self

from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import HasOutputCol

from sparkps.mllib.errors import InvalidParam
from sparkps.mllib.params.raw_columns import HasRawColumns
from sparkps.mllib.params.shared import HasNumFeatures, check_params

#: Hashes: those of the estimators, and those of pyspark.ml.
FIELDS, MURMUR3 = "fields", "murmur3"

#: Forms of the output.
STRUCT, VECTOR = "struct", "vector"

#: Most elements of a vector of Spark.
LARGEST_VECTOR = (1 << 31) - 1

#: What pyspark.ml's own hasher cannot do.
_OURS = ("crosses", "textCols", "numericCols", "ngrams")

_RANGES = {
    "hashing": (f"one of auto, {FIELDS}, {MURMUR3}", lambda v: v in ("auto", FIELDS, MURMUR3)),
    "outputType": (f"one of auto, {STRUCT}, {VECTOR}", lambda v: v in ("auto", STRUCT, VECTOR)),
}


class HashingParams(HasRawColumns, HasNumFeatures, HasOutputCol):
    """Columns that are hashed, and the column of features that comes of them."""

    hashing: Param[str] = Param(
        Params._dummy(),
        "hashing",
        f"{FIELDS}: as the estimators hash their own inputCols; {MURMUR3}: as pyspark.ml's FeatureHasher does; auto: {MURMUR3} where"
        f" nothing is set that pyspark.ml does not know, else {FIELDS}",
        typeConverter=TypeConverters.toString,
    )
    outputType: Param[str] = Param(
        Params._dummy(),
        "outputType",
        f"{VECTOR}; {STRUCT}: struct<indices: array<bigint>, values: array<double>>, for any number of features; auto: {VECTOR} where"
        f" numFeatures is in [1, 2^31), else {STRUCT}",
        typeConverter=TypeConverters.toString,
    )

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._setDefault(numFeatures=1 << 18, hashing="auto", outputType="auto")

    def setNumFeatures(self, value: int) -> Self:
        """Sets the value of `numFeatures`."""
        return self._set(numFeatures=value)

    def setOutputCol(self, value: str) -> Self:
        """Sets the value of `outputCol`."""
        return self._set(outputCol=value)

    def setHashing(self, value: str) -> Self:
        """Sets the value of `hashing`."""
        return self._set(hashing=value)

    def setOutputType(self, value: str) -> Self:
        """Sets the value of `outputType`."""
        return self._set(outputType=value)

    def getHashing(self) -> str:
        """Gets the value of `hashing`; of auto, what it comes to."""
        given = self.getOrDefault(self.hashing)
        return given if given != "auto" else FIELDS if self._beyond_pyspark() else MURMUR3

    def getOutputType(self) -> str:
        """Gets the value of `outputType`; of auto, what it comes to."""
        given = self.getOrDefault(self.outputType)
        return given if given != "auto" else VECTOR if self._fits_a_vector else STRUCT

    @property
    def _fits_a_vector(self) -> bool:
        return 0 < self.getNumFeatures() <= LARGEST_VECTOR

    def _beyond_pyspark(self) -> str:
        """A Param whose value pyspark.ml's hasher does not know, or has no room for; empty: there is none."""
        unknown = [name for name in _OURS if self.isSet(name)]
        if self.getOrDefault(self.outputType) == STRUCT:
            unknown.append("outputType")
        return next(iter(unknown), "" if self._fits_a_vector else "numFeatures")

    def _check(self) -> None:
        """Raise unless the Params can be hashed with."""
        check_params(self, **_RANGES)
        if not self._has_raw_columns:
            raise InvalidParam("The `inputCols` must name the columns to hash. They are not set.", param="inputCols")
        beyond = self._beyond_pyspark()
        if self.getHashing() == MURMUR3 and beyond:
            raise InvalidParam(
                f"hashing={MURMUR3!r} must be used with Params and values of pyspark.ml's FeatureHasher alone. Got `{beyond}` ="
                f" {self.getOrDefault(beyond)!r}; set hashing={FIELDS!r}.",
                param=beyond,
            )
        if self.getOutputType() == VECTOR and not self._fits_a_vector:
            raise InvalidParam(
                f"The `numFeatures` must be in [1, 2^31) where outputType={VECTOR!r}. Got {self.getNumFeatures()}; set"
                f" outputType={STRUCT!r}.",
                param="numFeatures",
            )


__all__ = ["FIELDS", "LARGEST_VECTOR", "MURMUR3", "STRUCT", "VECTOR", "HashingParams"]
