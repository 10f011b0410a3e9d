"""Setters of the Params that estimators and models of the linear family share, as pyspark.ml has them."""

from __future__ import annotations

from typing import Self

from pyspark.ml.param.shared import HasFeaturesCol, HasPredictionCol

from sparkps.mllib.params.momentum import HasMomentum
from sparkps.mllib.params.shared import LinearParams, ProbabilisticParams
from sparkps.mllib.params.stopping import HasEarlyStopping
from sparkps.mllib.params.training import TrainingSetters


class PredictionSetters(HasFeaturesCol, HasPredictionCol):
    """Setters of the columns that every estimator and model has."""

    def setFeaturesCol(self, value: str) -> Self:
        """Sets the value of `featuresCol`."""
        return self._set(featuresCol=value)

    def setPredictionCol(self, value: str) -> Self:
        """Sets the value of `predictionCol`."""
        return self._set(predictionCol=value)


class ColumnSetters(PredictionSetters, ProbabilisticParams):
    """Setters of the columns of a probabilistic classifier, for estimators and models."""

    def setRawPredictionCol(self, value: str) -> Self:
        """Sets the value of `rawPredictionCol`."""
        return self._set(rawPredictionCol=value)

    def setProbabilityCol(self, value: str) -> Self:
        """Sets the value of `probabilityCol`."""
        return self._set(probabilityCol=value)


class LinearSetters(LinearParams, TrainingSetters, HasEarlyStopping, HasMomentum):
    """Setters of what training takes, for estimators."""

    def setElasticNetParam(self, value: float) -> Self:
        """Sets the value of `elasticNetParam`."""
        return self._set(elasticNetParam=value)

    def setStandardization(self, value: bool) -> Self:
        """Sets the value of `standardization`."""
        return self._set(standardization=value)

    def setAggregationDepth(self, value: int) -> Self:
        """Sets the value of `aggregationDepth`."""
        return self._set(aggregationDepth=value)

    def setMaxBlockSizeInMB(self, value: float) -> Self:
        """Sets the value of `maxBlockSizeInMB`."""
        return self._set(maxBlockSizeInMB=value)


__all__ = ["ColumnSetters", "LinearSetters", "PredictionSetters"]
