"""What summaries have in common: a model, the rows that it scores, and the columns that say which is which."""

from __future__ import annotations

import uuid
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from sparkps.driver_bridge.input.scan import quoted

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from sparkps.mllib.summaries.drawing import SummaryFigure

#: Of a model without a weight column, `weightCol`: what pyspark.ml's summaries give then.
_NO_WEIGHTS = "weightCol"


class Summary:
    """Results of a model on the rows of a DataFrame. Nothing is computed before it is asked for, and nothing twice.

    It refers to a copy of the model and to the DataFrame, and keeps neither rows nor predictions.

    Parameters
    ----------
    model : Model
        A copy that nobody changes; see `summarized`.
    dataset : DataFrame
    """

    #: Params that name columns which the model must add for this summary, though its user has left them out.
    _needs: ClassVar[tuple[str, ...]] = ("predictionCol",)

    def __init__(self, model: Any, dataset: DataFrame) -> None:
        self._model = model
        self._dataset = dataset

    @classmethod
    def of(cls, model: Any, dataset: DataFrame, *more: Any) -> Any:
        """The summary of what `model` makes of `dataset`; later changes of the model do not change it."""
        return cls(summarized(model, cls._needs), dataset, *more)

    @cached_property
    def predictions(self) -> DataFrame:
        """DataFrame that the model's `transform` gives."""
        scored: DataFrame = self._model.transform(self._dataset)
        return scored

    @property
    def predictionCol(self) -> str:
        """Column of `predictions` with what is predicted."""
        return str(self._model.getPredictionCol())

    @property
    def labelCol(self) -> str:
        """Column of `predictions` with the label of each row."""
        return str(self._model.getLabelCol())

    @property
    def featuresCol(self) -> str:
        """Column of `predictions` with the features of each row."""
        return str(self._model.getFeaturesCol())

    @property
    def weightCol(self) -> str:
        """Column of `predictions` with the weight of each row, if it has one."""
        return self._weight_name or _NO_WEIGHTS

    # ---- rows for metrics ----------------------------------------------------------------------------------------------

    @property
    def _weight_name(self) -> str:
        """Empty: there is no weight column."""
        return str(self._model.getOrDefault("weightCol")) if self._model.isDefined("weightCol") else ""

    def _column(self, name: str) -> Column:
        from pyspark.sql import functions as sf

        return sf.col(quoted(name))

    @property
    def _label(self) -> Column:
        return self._column(self.labelCol).cast("double")

    @property
    def _weight(self) -> Column:
        """1 where the model has no weight column."""
        from pyspark.sql import functions as sf

        return self._column(self._weight_name).cast("double") if self._weight_name else sf.lit(1.0)

    @property
    def _rated(self) -> DataFrame:
        """The rows of `predictions` that have a label; those without are an error unless the model skips invalid rows."""
        from pyspark.sql import functions as sf

        if not self._model.hasParam("handleInvalid") or self._model.getOrDefault("handleInvalid") != "skip":
            return self.predictions
        label, weight = self._label, self._weight
        return self.predictions.where(label.isNotNull() & ~sf.isnan(label) & weight.isNotNull() & (weight >= 0) & ~sf.isnan(weight))

    # ---- plots ---------------------------------------------------------------------------------------------------------

    def _plots(self) -> dict[str, Any]:
        """By kind, the function that draws it on axes of matplotlib."""
        return {}

    def plot(self, kind: str | None = None, ax: Any = None, path: Any = None) -> SummaryFigure:
        """Draw what the summary has: in a notebook the figure shows itself. Needs matplotlib: ``pip install sparkps[plots]``.

        Parameters
        ----------
        kind : str, optional
            One of the kinds that this summary has, in the order of an overview:
            ``loss`` and ``seconds`` (objective and validation metrics over iterations or epochs, and over seconds) of a training; ``roc``,
            ``pr``, ``calibration`` of two classes; ``confusion`` of classes; ``residuals`` and ``predicted`` of a regression. None: all.
        ax : matplotlib.axes.Axes, optional
            Where to draw one kind; None: a new figure.
        path : str, path or binary file, optional
            Where the picture is written as well: PNG, or what the name's ending says.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ImportError
            There is no matplotlib.
        ValueError
            The summary has no such kind.

        Examples
        --------
        >>> model.summary.plot("roc", path="roc.png")                  # doctest: +SKIP
        >>> figure, png = model.summary.plot(), io.BytesIO()           # doctest: +SKIP
        >>> figure.savefig(png)                                        # doctest: +SKIP
        """
        from sparkps.mllib.summaries import drawing

        figure: SummaryFigure = drawing.draw(self._plots(), kind, ax, path, title=type(self._model).__name__)
        return figure


def summarized(model: Any, needs: tuple[str, ...]) -> Any:
    """A copy of `model` without its own summary, which adds all columns that `needs` names: new ones where the model adds none."""
    copied = model.copy()
    copied._summary = None  # else a summary would keep another alive, and a model its own tables
    for param in needs:
        if not copied.getOrDefault(param):
            copied.set(copied.getParam(param), f"{param.removesuffix('Col')}_{uuid.uuid4()}")
    return copied


__all__ = ["Summary", "summarized"]
