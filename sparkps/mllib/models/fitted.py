"""What every fitted model has: what it learned, how training went, its most important features, and where it is kept."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from pyspark.ml.util import MLWritable

from sparkps.mllib.coefficients import Coefficients, LocalCoefficients
from sparkps.mllib.data.sources import FeatureSource, RawColumns, VectorColumn
from sparkps.mllib.models.importance import FeatureWeight, draw_features, names_among, names_in, top_features
from sparkps.mllib.models.persistence import ModelReader, ModelWriter, weights_of
from sparkps.mllib.models.transform import ScoringModel
from sparkps.mllib.summaries.evaluated import EvaluatedModel

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from sparkps.mllib.summaries.drawing import SummaryFigure
    from sparkps.mllib.training import Trained


class FittedModel(ScoringModel, EvaluatedModel, MLWritable):
    """A fitted model.

    Its coefficients are at the driver where they take at most 64 MiB; else they stay on the tier for as long as the model or
    a copy of it is referred to, and scoring pulls the rows of each batch, but for those that a Python worker has already.

    Parameters
    ----------
    coefficients : Coefficients, optional
        By default there are none: as with pyspark.ml's models, one that has learned nothing can be made.
    facts : dict, optional
        What goes into the metadata of a saved model: ``intercepts`` (a list of floats, one for each output), ``numFeatures``, ``width``
        (length of vectors; 0: any), ``scalars`` (parameters without a feature), ``source`` (of raw
        columns, see `data.sources`), ``names`` (of features, in the order of their indices), and what a family adds. JSON can hold it.
    """

    #: How models of this class predict, for `scoring.load_model`: one of its `KINDS`.
    _kind: ClassVar[str] = "regression"

    def __init__(self, coefficients: Coefficients | None = None, facts: dict[str, Any] | None = None) -> None:
        super().__init__()
        #: Where the coefficients are.
        self.coefficients_ = coefficients if coefficients is not None else LocalCoefficients(np.empty(0, np.int64), np.empty((0, 1)))
        #: See above.
        self.facts_ = facts if facts is not None else {"numFeatures": 0, "width": 0, "intercepts": [0.0]}

    @classmethod
    def _of(cls, trained: Trained) -> Self:
        figures, solution = trained.figures, trained.solution
        facts: dict[str, Any] = {"numFeatures": figures.num_features, "width": figures.width}
        for name, values in (("intercepts", solution.intercepts), ("scalars", solution.scalars)):
            if len(values):
                facts[name] = [float(each) for each in values]
        return cls(trained.coefficients, facts)

    def _reads(self, source: FeatureSource, schema: Any = None) -> None:
        """Told what the training has read, and of which schema.

        Raw columns are the model's own from then on; a column of features is named by its Param, and the names of its elements are kept.
        """
        if not isinstance(source, VectorColumn):
            self.facts_["source"] = source.facts()
        elif schema is not None and source.name in schema.names and (names := names_in(schema[source.name].metadata)):
            self.facts_["names"] = names

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

    def top_features(self, k: int = 20, dataset: DataFrame | None = None) -> list[FeatureWeight]:
        """The features that weigh most: of a model on the tier its nodes choose them, and no other row comes to the driver.

        Parameters
        ----------
        k : int
            How many.
        dataset : DataFrame, optional
            Of a model of raw columns, rows that tell which values its keys are the hashes of. Without it they have no names.

        Returns
        -------
        list of FeatureWeight
            ``key``, ``name``, ``weight`` and ``weights``, the largest magnitude first. What is large depends on the scale of a feature:
            compare features that vary alike, or standardized ones.

        Raises
        ------
        InvalidInput
            `k` is no int of at least 1.

        Examples
        --------
        >>> [(each.name, each.weight) for each in model.top_features(2)]    # doctest: +SKIP
        [('age', 1.7), ('income', -0.4)]
        """
        found = top_features(self.coefficients_, k, dict(enumerate(self.facts_.get("names", ()))))
        source = self._rows.source
        if dataset is None or not isinstance(source, RawColumns):
            return found
        self._rows.check(dataset)
        names = names_among(dataset, source, [each.key for each in found])
        return [each._replace(name=names.get(each.key, each.name)) for each in found]

    def plot_features(self, k: int = 20, dataset: DataFrame | None = None, *, ax: Any = None, path: Any = None) -> SummaryFigure:
        """Draw `top_features`: in a notebook the figure shows itself. Needs matplotlib: ``pip install sparkps[plots]``.

        Parameters
        ----------
        k : int
        dataset : DataFrame, optional
            See `top_features`.
        ax : matplotlib.axes.Axes, optional
            Where to draw; None: a new figure.
        path : str, path or binary file, optional
            Where the picture is written as well: PNG, or what the name's ending says.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ImportError
            There is no matplotlib.
        InvalidInput
            `k` is no int of at least 1.

        Examples
        --------
        >>> model.plot_features(10, path="features.png")    # doctest: +SKIP
        """
        from sparkps.mllib.summaries import drawing

        picture = partial(draw_features, features=self.top_features(k, dataset))
        figure: SummaryFigure = drawing.draw({"features": picture}, "features", ax, path, title=type(self).__name__)
        return figure

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
