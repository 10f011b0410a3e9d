"""Linear classifiers that learn from streams, too."""

from __future__ import annotations

from typing import Any, TypeVar

from pyspark.sql import SparkSession

from sparkps.errors import InvalidInput
from sparkps.mllib.linear.binary import BinaryClassifier
from sparkps.mllib.linear.live import LiveCoefficients, LiveModel
from sparkps.mllib.params.exporting import HasExport
from sparkps.mllib.streaming.learner import StreamLearner
from sparkps.mllib.tables import context_of

M = TypeVar("M", bound=LiveModel)


class StreamClassifier(BinaryClassifier[M], HasExport):
    """Trains a `LiveModel` in mini-batches, on DataFrames or on streams."""

    def learner(self, checkpointDir: str, spark: SparkSession | None = None) -> StreamLearner[M]:
        """What learns from a stream, to be given to ``foreachBatch``.

        Parameters
        ----------
        checkpointDir : str
            URL of a directory of this model alone. After each batch the tier's tables are kept there, with the batch's number; a learner
            that finds something there goes on from it. Use a directory of the same durability as the query's ``checkpointLocation``,
            and give both up together.
        spark : SparkSession, optional
            Default: the active one.

        Returns
        -------
        StreamLearner
            Its ``model`` learns on.
        """
        self._check()
        if not checkpointDir or not isinstance(checkpointDir, str):
            raise InvalidInput(f"The `checkpointDir` must be the URL of a directory. Got {checkpointDir!r} instead.")
        if self._validation:
            raise InvalidInput(
                "A stream is learned from all of its rows: `validationIndicatorCol` must not be set.", param="validationIndicatorCol"
            )
        job = self.copy({self.maxIter: 1, self.checkpointDir: ""})._job(self._objective())
        columns = ("inputCols", "crosses", "textCols", "ngrams", "categoricalCols", "numericCols")
        learned = ("solver", "stepSize", "regParam", "elasticNetParam", "fitIntercept", "numFeatures")
        params = {name: str(getattr(self, f"get{name[0].upper()}{name[1:]}")()) for name in learned}
        params.update({name: str(self.getOrDefault(name)) for name in columns if self.isDefined(name)})
        ps = context_of(spark or SparkSession.builder.getOrCreate())

        def make(coefficients: LiveCoefficients, facts: dict[str, Any]) -> M:
            model = self._model(coefficients, facts)
            model._resetUid(self.uid)
            made: M = self._copyValues(model)
            return made

        return StreamLearner(ps, job, checkpointDir, params, LiveCoefficients, make, self._export)

    def _export(self, model: M, epoch: int) -> None:
        place = self.getExportDir() if self.isDefined(self.exportDir) else ""
        if place and (epoch + 1) % self.getExportInterval() == 0:
            model.write().overwrite().save(f"{place.rstrip('/')}/batch-{epoch}")


__all__ = ["StreamClassifier"]
