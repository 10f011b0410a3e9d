"""Setters of the Params that estimators and models of the linear family share, as pyspark.ml has them."""

from __future__ import annotations

from typing import Self

from pyspark.ml.param.shared import HasFeaturesCol, HasPredictionCol

from sparkps.mllib.params.momentum import HasMomentum
from sparkps.mllib.params.shared import HasCheckpoints, HasNumFeatures, LinearParams, ProbabilisticParams
from sparkps.mllib.params.stopping import HasEarlyStopping


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


class LinearSetters(LinearParams, HasNumFeatures, HasCheckpoints, HasEarlyStopping, HasMomentum):
    """Setters of what training takes, for estimators."""

    def setLabelCol(self, value: str) -> Self:
        """Sets the value of `labelCol`."""
        return self._set(labelCol=value)

    def setWeightCol(self, value: str) -> Self:
        """Sets the value of `weightCol`."""
        return self._set(weightCol=value)

    def setMaxIter(self, value: int) -> Self:
        """Sets the value of `maxIter`."""
        return self._set(maxIter=value)

    def setRegParam(self, value: float) -> Self:
        """Sets the value of `regParam`."""
        return self._set(regParam=value)

    def setElasticNetParam(self, value: float) -> Self:
        """Sets the value of `elasticNetParam`."""
        return self._set(elasticNetParam=value)

    def setTol(self, value: float) -> Self:
        """Sets the value of `tol`."""
        return self._set(tol=value)

    def setFitIntercept(self, value: bool) -> Self:
        """Sets the value of `fitIntercept`."""
        return self._set(fitIntercept=value)

    def setStandardization(self, value: bool) -> Self:
        """Sets the value of `standardization`."""
        return self._set(standardization=value)

    def setAggregationDepth(self, value: int) -> Self:
        """Sets the value of `aggregationDepth`."""
        return self._set(aggregationDepth=value)

    def setMaxBlockSizeInMB(self, value: float) -> Self:
        """Sets the value of `maxBlockSizeInMB`."""
        return self._set(maxBlockSizeInMB=value)

    def setSolver(self, value: str) -> Self:
        """Sets the value of `solver`."""
        return self._set(solver=value)

    def setStepSize(self, value: float) -> Self:
        """Sets the value of `stepSize`."""
        return self._set(stepSize=value)

    def setSeed(self, value: int) -> Self:
        """Sets the value of `seed`."""
        return self._set(seed=value)

    def setBatchSize(self, value: int) -> Self:
        """Sets the value of `batchSize`."""
        return self._set(batchSize=value)

    def setNumWorkers(self, value: int) -> Self:
        """Sets the value of `numWorkers`."""
        return self._set(numWorkers=value)

    def setConsistency(self, value: str) -> Self:
        """Sets the value of `consistency`."""
        return self._set(consistency=value)

    def setStaleness(self, value: int) -> Self:
        """Sets the value of `staleness`."""
        return self._set(staleness=value)

    def setNumFeatures(self, value: int) -> Self:
        """Sets the value of `numFeatures`."""
        return self._set(numFeatures=value)

    def setHandleInvalid(self, value: str) -> Self:
        """Sets the value of `handleInvalid`."""
        return self._set(handleInvalid=value)

    def setDeterministic(self, value: bool) -> Self:
        """Sets the value of `deterministic`."""
        return self._set(deterministic=value)

    def setCheckpointDir(self, value: str) -> Self:
        """Sets the value of `checkpointDir`."""
        return self._set(checkpointDir=value)

    def setCheckpointInterval(self, value: int) -> Self:
        """Sets the value of `checkpointInterval`."""
        return self._set(checkpointInterval=value)


__all__ = ["ColumnSetters", "LinearSetters", "PredictionSetters"]
