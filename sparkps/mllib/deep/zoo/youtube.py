"""Recommendations in two steps: candidates out of all items, and a ranking of them (Covington, Adams, Sargin, RecSys 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch import nn

from sparkps.driver_bridge.input.scan import quoted
from sparkps.errors import InvalidInput
from sparkps.mllib.data.selection import arrow_types, check_present
from sparkps.mllib.deep.columns import InputColumns
from sparkps.mllib.deep.graph_formats import onnx_of, torchscript_of
from sparkps.mllib.deep.graphs import Scoring
from sparkps.mllib.deep.job import pickled
from sparkps.mllib.deep.losses import RowLoss, SampledSoftmaxLoss
from sparkps.mllib.deep.scoring import Held
from sparkps.mllib.deep.zoo.blocks import Spec
from sparkps.mllib.deep.zoo.catalogue import LOG_PROBABILITY, Catalogue, RecommenderReader, RecommenderWriter, arrays_of
from sparkps.mllib.deep.zoo.estimators import ArchitectureClassifier, ArchitectureEstimator, ArchitectureModel
from sparkps.mllib.deep.zoo.params import HasItems, HasWatchTime
from sparkps.mllib.deep.zoo.retrieval import Recommending, VectorScorer, as_lists, may_hold
from sparkps.mllib.deep.zoo.towers import TwoTowers, WatchTimeRanking, item_columns, user_columns
from sparkps.mllib.errors import InvalidColumn, InvalidParam
from sparkps.mllib.models.outputs import check_outputs
from sparkps.nn.tables import tables_of

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

#: Column that `recommendForUserSubset` adds, as in pyspark.ml.
RECOMMENDATIONS = "recommendations"


class YouTubeDNNRecommenderModel(ArchitectureModel, HasItems):
    """Vectors of users and items, whose dot products say which items a user is likely to choose.

    `transform` adds the vectors of users, `outputCol`, an array<float>, and reads their columns alone.
    """

    _architecture = TwoTowers
    #: A row for each item, of the columns that its tower reads; the first is the item.
    items_: pa.Table
    _vectors: NDArray[np.float32] | None = None
    _users_broadcast: Any = None
    _items_broadcast: Any = None

    @property
    def rank(self) -> int:
        """Numbers of a vector."""
        return int(self.getOrDefault("embeddingDim"))

    @property
    def itemFactors(self) -> DataFrame:
        """Vectors of all items: id, and features array<float>."""
        from pyspark.sql import SparkSession

        found: Any = pa.table({"id": self._items, "features": as_lists(self._item_vectors())})
        return SparkSession.active().createDataFrame(found)

    def recommendForUserSubset(self, dataset: DataFrame, numItems: int, excludeCol: str | None = None) -> DataFrame:
        """The best items of each row's user: those with the largest dot products of all, exactly.

        Parameters
        ----------
        dataset : DataFrame
            With the columns of users.
        numItems : int
            At most as many as there are items.
        excludeCol : str, optional
            A column of `dataset` that holds items, or arrays of them, which are not recommended to the row's user, as those of a history.
            A user to whom fewer than `numItems` are left gets these.

        Returns
        -------
        DataFrame
            The rows as they are, with ``recommendations``: an array of (`itemCol`, rating float), the best first.

        Raises
        ------
        InvalidParam
            `numItems` is not an int from 1 to the number of items.
        InvalidColumn
            A column is missing, or of another type than in the training; or the `excludeCol` is of another type than items.

        Examples
        --------
        >>> model.recommendForUserSubset(users, 10, excludeCol="seen").select("user", "recommendations.film")    # doctest: +SKIP
        """
        from pyspark.sql.pandas.types import from_arrow_type
        from pyspark.sql.types import ArrayType, FloatType, StructField, StructType

        if isinstance(numItems, bool) or not isinstance(numItems, int) or not 1 <= numItems <= len(self.items_):
            raise InvalidParam(
                f"The `numItems` must be an int from 1 to {len(self.items_)}, the number of items of the training. Got {numItems!r}.",
                param="numItems",
            )
        check_outputs(dataset, {"recommendations": RECOMMENDATIONS})
        more = [] if excludeCol is None else [self._excluded(dataset, excludeCol)]
        name, context = self.items_.column_names[0], dataset.sparkSession.sparkContext
        users = self._user_scorer(dataset)
        if self._items_broadcast is None or self._items_broadcast._sc is not context:
            self._items_broadcast = context.broadcast((self._items, self._item_vectors()))
        found = StructType([StructField(name, from_arrow_type(self._items.type)), StructField("rating", FloatType())])
        scorer = Recommending(users, self._items_broadcast, numItems, name, excludes=bool(more))
        return self._scored(dataset, scorer, ArrayType(found), RECOMMENDATIONS, more)

    def _excluded(self, dataset: DataFrame, name: str) -> Column:
        """A column of items that are not recommended."""
        from pyspark.sql import functions as sf

        got, items = arrow_types(dataset, [name])[name], self._items.type
        if not may_hold(got, items):
            raise InvalidColumn(
                f"The `excludeCol` must hold items, which are {items}, or arrays of them. Got {got} in {name!r}.", column=name
            )
        return sf.col(quoted(name))

    # ---- towers --------------------------------------------------------------------------------------------------------

    @property
    def _spec(self) -> Spec:
        return Spec.of(self.facts_["spec"])

    @property
    def _user_columns(self) -> InputColumns:
        return user_columns(self._columns, self._spec)

    def _tower(self, name: str) -> Held:
        tower = getattr(self.module, name)
        return Held(pickled(tower), {table: self.tables[table] for table in tables_of(tower)})

    @property
    def _items(self) -> pa.Array:
        return arrays_of(self.items_)[0]

    def _item_vectors(self) -> NDArray[np.float32]:
        """float32 (items, rank)."""
        if self._vectors is None:
            scorer = VectorScorer(self._tower("item"), item_columns(self._columns, self._spec))
            self._vectors = scorer.vectors(arrays_of(self.items_))
        return self._vectors

    def _user_scorer(self, dataset: DataFrame) -> VectorScorer:
        context = dataset.sparkSession.sparkContext
        if self._users_broadcast is None or self._users_broadcast._sc is not context:
            self._users_broadcast = context.broadcast(self._tower("user"))
        return VectorScorer(self._users_broadcast, self._user_columns)

    def _transform(self, dataset: DataFrame) -> DataFrame:
        from pyspark.sql.types import ArrayType, FloatType

        check_outputs(dataset, {"outputCol": self.getOrDefault("outputCol")})
        return self._scored(dataset, self._user_scorer(dataset), ArrayType(FloatType()), self.getOrDefault("outputCol"))

    def _scored(self, dataset: DataFrame, scorer: Any, kind: Any, name: str, more: Sequence[Column] = ()) -> DataFrame:
        """The rows with a column that `scorer` makes of the columns of users, and of `more`."""
        from pyspark.sql import functions as sf

        columns = self._user_columns
        columns.check_types(dataset)
        dataset, read = self._readable(dataset, columns)
        arrow_udf: Any = getattr(sf, "arrow_udf")  # noqa: B009  # pyspark's stubs do not know it
        scored: Column = arrow_udf(scorer.__call__, kind)(*read, *more)
        return dataset.withColumn(name, scored)

    def _tower_scoring(self, tower: str) -> Scoring:
        if tower not in ("user", "item"):
            raise InvalidInput(f"The `tower` must be 'user' or 'item'. Got {tower!r}.")
        columns = self._user_columns if tower == "user" else item_columns(self._columns, self._spec)
        return replace(super()._scoring(), held=self._tower(tower), columns=columns, names={"raw": "vector"})

    def to_torchscript(self, path: Any = None, *, tower: str = "user") -> Any:
        """A tower as TorchScript, "user" or "item", which gives ``vector`` (n, rank); see `TorchModel.to_torchscript`."""
        return torchscript_of(self._tower_scoring(tower), path)

    def to_onnx(self, path: Any = None, *, tower: str = "user") -> Any:
        """A tower as an ONNX graph, "user" or "item", which gives ``vector`` (n, rank); see `TorchModel.to_onnx`."""
        return onnx_of(self._tower_scoring(tower), path)

    # ---- saving --------------------------------------------------------------------------------------------------------

    def write(self) -> RecommenderWriter:
        """The writer of this model."""
        return RecommenderWriter(self)

    @classmethod
    def read(cls) -> RecommenderReader:
        """The reader of models."""
        return RecommenderReader(cls)


class YouTubeDNNRecommender(ArchitectureEstimator[YouTubeDNNRecommenderModel], HasItems):
    """Finds candidates among very many items (Covington et al., Deep Neural Networks for YouTube Recommendations, RecSys 2016, section 3).

    Each row is an item, of `itemCol`, that its user has chosen, and what was known of the user then: `categoricalCols`, arrays such as a
    history among them, and `numericCols`. An item may have columns of its own, `itemCategoricalCols` and `itemNumericCols`. The other
    items of a worker's batch are those that were not chosen; `logQCorrection` makes up for how often each is among them (Yi et al.,
    RecSys 2019, section 3; here from how often it comes in all rows). So a larger `batchSize` is nearer to the softmax over all items,
    and with several workers each has the items of its own rows: rows of one item should not all be at one of them.

    Columns that hold items should be `historyCols`, too: they have the embeddings of items, so that the same rows tell what an item is
    and what it says of those who have chosen it. A row's own item must not be in its history.

    Examples
    --------
    >>> made = YouTubeDNNRecommender(    # doctest: +SKIP
    ...     categoricalCols=["country", "seen"], itemCol="film", historyCols=["seen"], maxIter=3
    ... )
    >>> made.fit(df).recommendForUserSubset(users, 50, excludeCol="seen")    # doctest: +SKIP
    """

    _model = YouTubeDNNRecommenderModel

    def _labels(self) -> tuple[str, ...]:
        return (LOG_PROBABILITY,)

    def _row_loss(self) -> RowLoss:
        return SampledSoftmaxLoss(bool(self.getOrDefault("logQCorrection")))

    def _more(self) -> dict[str, Any]:
        users, history = self._listed("categoricalCols"), self._listed("historyCols")
        if wrong := [each for each in history if each not in users or history.count(each) > 1]:
            raise InvalidParam(
                f"The `historyCols` must be some of `categoricalCols`, each once. Got {wrong[0]!r} in {', '.join(history)}.",
                param="historyCols",
            )
        return super()._more()

    def _made_module(self, inputs: InputColumns) -> nn.Module:
        kinds, item = dict(zip(inputs.categorical, inputs.kinds, strict=True)), self._named("itemCol")
        for name in self._listed("historyCols"):
            if kinds[name] != kinds[item]:
                raise InvalidColumn(
                    f"Column {name!r} of the `historyCols` must hold items, as {item!r} does, or arrays of them. Got {kinds[name]} values,"
                    f" where items are {kinds[item]} ones: cast one of them.",
                    column=name,
                )
        return super()._made_module(inputs)

    def _inputs(self, dataset: DataFrame) -> InputColumns:
        users, item = super()._inputs(dataset), self._named("itemCol")
        if not item:
            raise InvalidParam("The `itemCol` must name the column of the items. It is empty.", param="itemCol")
        return replace(
            users,
            categorical=(*users.categorical, item, *self._listed("itemCategoricalCols")),
            numeric=(*users.numeric, *self._listed("itemNumericCols")),
        )

    def _fit(self, dataset: DataFrame) -> YouTubeDNNRecommenderModel:
        self._check()
        items = item_columns(self._inputs(dataset).resolved_in(dataset), self._spec())
        if self._validation:
            check_present(dataset, [self._validation])
        catalogue = Catalogue.of(dataset, items, self._validation, skip=self._invalid() == "skip")
        model = super()._fit(catalogue.with_probabilities(dataset))
        model.items_ = catalogue.items
        return model


class YouTubeDNNModel(ArchitectureModel, HasWatchTime):
    """A fitted ranking by watch time; `watchTimeCol`, where it is set, is what is expected."""

    _architecture = WatchTimeRanking

    def _transform(self, dataset: DataFrame) -> DataFrame:
        from pyspark.ml.functions import vector_to_array
        from pyspark.sql import functions as sf

        scored, name = super()._transform(dataset), self._given("watchTimeCol")
        if not name:
            return scored
        if not (raw := self._given("rawPredictionCol")):
            raise InvalidParam("The `watchTimeCol` is made of the `rawPredictionCol`, which must be set.", param="watchTimeCol")
        check_outputs(scored, {"watchTimeCol": name})
        return scored.withColumn(name, sf.exp(vector_to_array(sf.col(quoted(raw)))[1]))

    def _given(self, param: str) -> str:
        return str(self.getOrDefault(param) or "") if self.isDefined(param) else ""

    def evaluate(self, dataset: DataFrame) -> Any:
        """See `EvaluatedModel.evaluate`; rows with label 0 weigh 1."""
        return super().evaluate(weighed(dataset, self.getLabelCol(), self._given("weightCol")))


class YouTubeDNNClassifier(ArchitectureClassifier[YouTubeDNNModel], HasWatchTime):
    """Ranks candidates by the time that they will be watched (Covington et al., RecSys 2016, section 4): weighted logistic regression.

    Rows of label 1 weigh what `weightCol` says, the time watched; those of label 0 weigh 1, whatever it says. So the odds, ``exp`` of the
    margin, which `watchTimeCol` has, are close to the expected time. Numbers go in with their squares and square roots.

    Examples
    --------
    >>> YouTubeDNNClassifier(categoricalCols=["film", "seen"], weightCol="seconds", watchTimeCol="expected").fit(df)    # doctest: +SKIP
    """

    _model = YouTubeDNNModel

    def _check(self) -> None:
        super()._check()
        if (classes := self.getOrDefault("numClasses")) != 2:
            raise InvalidParam(f"The `numClasses` of {type(self).__name__} must be 2: watched, or not. Got {classes}.", param="numClasses")

    def _fit(self, dataset: DataFrame) -> YouTubeDNNModel:
        return super()._fit(weighed(dataset, self.getLabelCol(), self._named("weightCol")))


def weighed(df: DataFrame, label: str, weight: str) -> DataFrame:
    """Rows whose `weight` is 1 where their label is 0; as they are where `weight` is empty."""
    from pyspark.sql import functions as sf

    if not weight:
        return df
    check_present(df, [label, weight])
    return df.withColumn(weight, sf.when(sf.col(quoted(label)) == 0, 1.0).otherwise(sf.col(quoted(weight))))


__all__ = ["YouTubeDNNClassifier", "YouTubeDNNModel", "YouTubeDNNRecommender", "YouTubeDNNRecommenderModel", "weighed"]
