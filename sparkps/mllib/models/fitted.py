"""What every fitted model has: what it learned, how training went, its most important features, and where it is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

from pyspark.ml.util import MLWritable

from sparkps.mllib.coefficients import Coefficients
from sparkps.mllib.data.sources import FeatureSource, VectorColumn
from sparkps.mllib.models.persistence import ModelReader, ModelWriter, weights_of
from sparkps.mllib.models.transform import ScoringModel
from sparkps.mllib.summaries.evaluated import EvaluatedModel

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from sparkps.mllib.training import Trained


class FittedModel(ScoringModel, EvaluatedModel, MLWritable):
    """A fitted model.

    Its coefficients are at the driver where they take at most 64 MiB; else they stay on the tier for as long as the model or
    a copy of it is referred to, and scoring pulls the rows of each batch, but for those that a Python worker has already.

    Parameters
    ----------
    coefficients : Coefficients
    facts : dict
        What goes into the metadata of a saved model: ``intercepts`` (a list of floats, one for each output), ``numFeatures``, ``width``
        (length of vectors; 0: any), ``scalars`` (parameters without a feature), ``source`` (of raw
        columns, see `data.sources`), and what a family adds. JSON can hold it.
    """

    #: How models of this class predict, for `scoring.load_model`: "regression", "binary", "multinomial" or "side".
    _kind: ClassVar[str] = "regression"

    def __init__(self, coefficients: Coefficients, facts: dict[str, Any]) -> None:
        super().__init__()
        #: Where the coefficients are.
        self.coefficients_ = coefficients
        #: See above.
        self.facts_ = facts

    @classmethod
    def _of(cls, trained: Trained) -> Self:
        figures, solution = trained.figures, trained.solution
        facts: dict[str, Any] = {"numFeatures": figures.num_features, "width": figures.width}
        for name, values in (("intercepts", solution.intercepts), ("scalars", solution.scalars)):
            if len(values):
                facts[name] = [float(each) for each in values]
        return cls(trained.coefficients, facts)

    def _reads(self, source: FeatureSource) -> None:
        """Told what the training has read: raw columns are the model's own from then on, a column of features is named by its Param."""
        if not isinstance(source, VectorColumn):
            self.facts_["source"] = source.facts()

    @classmethod
    def _from_saved(cls, coefficients: Coefficients, facts: dict[str, Any]) -> Self:
        return cls(coefficients, facts)

    @property
    def numFeatures(self) -> int:
        """Number of features."""
        return int(self.facts_["numFeatures"])

    @property
    def weights(self) -> DataFrame:
        """Coefficients that are not 0, for any number of features.

        Returns
        -------
        DataFrame
            key bigint, weight double; of a model with several values a feature: key bigint, weights array<double>.
        """
        from pyspark.sql import SparkSession

        return weights_of(self.coefficients_, SparkSession.builder.getOrCreate())

    @property
    def link_(self) -> str:
        """What a margin means, by its name in `links.LINKS`; empty: it is the prediction."""
        return ""

    @property
    def kind_(self) -> str:
        """How the model predicts; see `_kind`."""
        return self._kind

    def write(self) -> ModelWriter:
        """The writer of this model."""
        return ModelWriter(self)

    @classmethod
    def read(cls) -> ModelReader:
        """The reader of models."""
        return ModelReader(cls)


__all__ = ["FittedModel"]
