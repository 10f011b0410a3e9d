"""Setters of the Params that most estimators take for their training, whatever their family."""

from __future__ import annotations

from typing import Self

from pyspark.ml.param.shared import (
    HasFitIntercept,
    HasLabelCol,
    HasMaxIter,
    HasRegParam,
    HasSeed,
    HasSolver,
    HasStepSize,
    HasTol,
    HasWeightCol,
)

from sparkps.mllib.params.shared import (
    HasBatchSize,
    HasCheckpoints,
    HasConsistency,
    HasDeterministic,
    HasHandleInvalid,
    HasNumFeatures,
    HasNumWorkers,
)


class RowSetters(HasLabelCol, HasWeightCol, HasNumFeatures, HasHandleInvalid, HasDeterministic):
    """Setters of where rows are, and what they must be."""

    def setLabelCol(self, value: str) -> Self:
        """Sets the value of `labelCol`."""
        return self._set(labelCol=value)

    def setWeightCol(self, value: str) -> Self:
        """Sets the value of `weightCol`."""
        return self._set(weightCol=value)

    def setNumFeatures(self, value: int) -> Self:
        """Sets the value of `numFeatures`."""
        return self._set(numFeatures=value)

    def setHandleInvalid(self, value: str) -> Self:
        """Sets the value of `handleInvalid`."""
        return self._set(handleInvalid=value)

    def setDeterministic(self, value: bool) -> Self:
        """Sets the value of `deterministic`."""
        return self._set(deterministic=value)


class SolverSetters(HasMaxIter, HasRegParam, HasTol, HasFitIntercept, HasSolver, HasStepSize, HasSeed):
    """Setters of what is minimised, and how."""

    def setMaxIter(self, value: int) -> Self:
        """Sets the value of `maxIter`."""
        return self._set(maxIter=value)

    def setRegParam(self, value: float) -> Self:
        """Sets the value of `regParam`."""
        return self._set(regParam=value)

    def setTol(self, value: float) -> Self:
        """Sets the value of `tol`."""
        return self._set(tol=value)

    def setFitIntercept(self, value: bool) -> Self:
        """Sets the value of `fitIntercept`."""
        return self._set(fitIntercept=value)

    def setSolver(self, value: str) -> Self:
        """Sets the value of `solver`."""
        return self._set(solver=value)

    def setStepSize(self, value: float) -> Self:
        """Sets the value of `stepSize`."""
        return self._set(stepSize=value)

    def setSeed(self, value: int) -> Self:
        """Sets the value of `seed`."""
        return self._set(seed=value)


class WorkerSetters(HasBatchSize, HasNumWorkers, HasConsistency, HasCheckpoints):
    """Setters of how many workers step how, and of their checkpoints."""

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

    def setCheckpointDir(self, value: str) -> Self:
        """Sets the value of `checkpointDir`."""
        return self._set(checkpointDir=value)

    def setCheckpointInterval(self, value: int) -> Self:
        """Sets the value of `checkpointInterval`."""
        return self._set(checkpointInterval=value)


class TrainingSetters(RowSetters, SolverSetters, WorkerSetters):
    """All of them."""


__all__ = ["RowSetters", "SolverSetters", "TrainingSetters", "WorkerSetters"]
