"""Params of the known architectures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self, TypeVar

from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import HasOutputCol

from sparkps.mllib.deep.params import an_optimizer

P = TypeVar("P", bound=type[Params])


def param(name: str, doc: str, converter: Callable[[Any], Any]) -> Any:
    """A Param."""
    return Param(Params._dummy(), name, doc, typeConverter=converter)


def with_accessors(cls: P) -> P:
    """Gives a class of Params the methods ``setX`` and ``getX`` of each Param that its body declares.

    Examples
    --------
    >>> sorted(name for name in vars(HasAttention) if name[:3] in ("get", "set"))
    ['getAttentionUnits', 'setAttentionUnits']
    """
    for name in [name for name, value in vars(cls).items() if isinstance(value, Param)]:
        title = name[0].upper() + name[1:]
        setattr(cls, f"set{title}", _setter(name))
        setattr(cls, f"get{title}", _getter(name))
    return cls


def _setter(name: str) -> Callable[[Any, Any], Any]:
    def set_value(self: Any, value: Any) -> Any:
        return self._set(**{name: value})

    set_value.__doc__ = f"Sets the value of `{name}`."
    return set_value


def _getter(name: str) -> Callable[[Any], Any]:
    def get_value(self: Any) -> Any:
        return self.getOrDefault(name)

    get_value.__doc__ = f"Gets the value of `{name}`."
    return get_value


@with_accessors
class ArchitectureParams(Params):
    """Params that all of them have."""

    embeddingDim: Param[int] = param("embeddingDim", "numbers of an embedding (>= 1)", TypeConverters.toInt)
    hiddenUnits: Param[list[int]] = param("hiddenUnits", "units of the hidden layers", TypeConverters.toListInt)
    dropout: Param[float] = param("dropout", "share of hidden units that a step leaves out, in [0, 1)", TypeConverters.toFloat)
    initStd: Param[float] = param("initStd", "standard deviation of first embeddings", TypeConverters.toFloat)
    embeddingOptimizer: Param[Any] = param(
        "embeddingOptimizer",
        "of embeddings and linear terms, one of sparkps.optim, which runs on the nodes; Adam(1e-3) if not set",
        an_optimizer,
    )

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._setDefault(embeddingDim=16, hiddenUnits=[128, 64], dropout=0.0, initStd=0.01)


@with_accessors
class HasNumClasses(Params):
    """Number of classes."""

    numClasses: Param[int] = param("numClasses", "number of classes, whose labels are 0, 1, ... (>= 2)", TypeConverters.toInt)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._setDefault(numClasses=2)


@with_accessors
class HasAttention(Params):
    """Units of an attention network."""

    #: By Param, its name in `Spec.more`.
    _special = {"attentionUnits": "attention"}

    attentionUnits: Param[int] = param("attentionUnits", "units of the attention network (>= 1)", TypeConverters.toInt)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._setDefault(attentionUnits=16)


@with_accessors
class HasProducts(Params):
    """Kind of products."""

    #: By Param, its name in `Spec.more`.
    _special = {"outerProducts": "outer"}

    outerProducts: Param[bool] = param(
        "outerProducts",
        "whether products are the outer ones of the sum of all fields, or the inner ones of pairs",
        TypeConverters.toBoolean,
    )

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._setDefault(outerProducts=False)


@with_accessors
class HasCrosses(Params):
    """Cross layers."""

    #: By Param, its name in `Spec.more`.
    _special = {"crossLayers": "cross", "crossRank": "rank"}

    crossLayers: Param[int] = param("crossLayers", "number of cross layers (>= 1)", TypeConverters.toInt)
    crossRank: Param[int] = param("crossRank", "rank of the matrix of a cross layer, or 0 for a full one", TypeConverters.toInt)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._setDefault(crossLayers=2, crossRank=0)


@with_accessors
class HasFeatureMaps(Params):
    """Layers of compressed interactions."""

    #: By Param, its name in `Spec.more`.
    _special = {"featureMaps": "cin"}

    featureMaps: Param[list[int]] = param("featureMaps", "feature maps of each layer of interactions", TypeConverters.toListInt)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._setDefault(featureMaps=[16, 16])


@with_accessors
class HasBottom(Params):
    """Layers for numbers."""

    #: By Param, its name in `Spec.more`.
    _special = {"bottomUnits": "bottom"}

    bottomUnits: Param[list[int]] = param("bottomUnits", "units of the hidden layers that numbers go through", TypeConverters.toListInt)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._setDefault(bottomUnits=[64])


@with_accessors
class HasHistory(Params):
    """A target and a history of such."""

    #: By Param, its name in `Spec.more`.
    _special = {"targetCol": "target", "historyCol": "history"}

    targetCol: Param[str] = param("targetCol", "one of categoricalCols: the item that the row is about", TypeConverters.toString)
    historyCol: Param[str] = param(
        "historyCol", "one of categoricalCols, of arrays: items like that of targetCol that came before", TypeConverters.toString
    )


@with_accessors
class HasExperts(Params):
    """Experts of several tasks."""

    #: By Param, its name in `Spec.more`.
    _special = {"numExperts": "experts", "towerUnits": "tower"}

    labelCols: Param[list[str]] = param("labelCols", "label columns, one for each task, of 0 and 1", TypeConverters.toListString)
    numExperts: Param[int] = param(
        "numExperts", "number of experts: all of them, or those of each task and the shared ones", TypeConverters.toInt
    )
    towerUnits: Param[list[int]] = param("towerUnits", "units of each task's own hidden layers", TypeConverters.toListInt)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._setDefault(numExperts=4, towerUnits=[32])


@with_accessors
class HasLevels(Params):
    """Layers of experts."""

    #: By Param, its name in `Spec.more`.
    _special = {"numLevels": "levels"}

    numLevels: Param[int] = param("numLevels", "layers of experts (>= 1)", TypeConverters.toInt)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._setDefault(numLevels=2)


@with_accessors
class HasItems(HasOutputCol):
    """Items that are recommended, and how they are learned."""

    #: By Param, its name in `Spec.more`.
    _special = {
        "itemCol": "item", "itemCategoricalCols": "categories", "itemNumericCols": "numbers", "historyCols": "history",
        "normalizeVectors": "normalize", "temperature": "temperature",
    }  # fmt: skip

    itemCol: Param[str] = param("itemCol", "column of the item that a row's user has chosen", TypeConverters.toString)
    itemCategoricalCols: Param[list[str]] = param(
        "itemCategoricalCols",
        "further columns of the item, of categories or arrays of these",
        TypeConverters.toListString,
    )
    itemNumericCols: Param[list[str]] = param(
        "itemNumericCols", "further columns of the item, of numbers", TypeConverters.toListString
    )
    historyCols: Param[list[str]] = param(
        "historyCols",
        "those of categoricalCols that hold items, or arrays of them, as what the user chose before: they have the embeddings of itemCol",
        TypeConverters.toListString,
    )
    normalizeVectors: Param[bool] = param(
        "normalizeVectors", "whether vectors of users and items are divided by their lengths", TypeConverters.toBoolean
    )
    temperature: Param[float] = param(
        "temperature", "what dot products are divided by in the softmax (> 0)", TypeConverters.toFloat
    )
    logQCorrection: Param[bool] = param(
        "logQCorrection",
        "whether the softmax makes up for items that come often being often among the others of a batch",
        TypeConverters.toBoolean,
    )

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._setDefault(
            itemCol="item", itemCategoricalCols=[], itemNumericCols=[], historyCols=[], normalizeVectors=True, temperature=0.1,
            logQCorrection=True, outputCol="vector",
        )  # fmt: skip

    def setOutputCol(self, value: str) -> Self:
        """Sets the value of `outputCol`."""
        return self._set(outputCol=value)


@with_accessors
class HasWatchTime(Params):
    """Expected times."""

    watchTimeCol: Param[str] = param(
        "watchTimeCol",
        "column to add: the time that is expected, which is the odds; none where it is not set",
        TypeConverters.toString,
    )


def _units(values: Any) -> bool:
    return all(each >= 1 for each in values)


#: What must hold of them, in words and as a test.
RANGES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "embeddingDim": ("an int >= 1", lambda v: v >= 1),
    "hiddenUnits": ("ints >= 1, at least one", lambda v: len(v) > 0 and _units(v)),
    "dropout": ("a float in [0, 1)", lambda v: 0 <= v < 1),
    "initStd": ("a float in [0, inf)", lambda v: 0 <= v < float("inf")),
    "numClasses": ("an int >= 2", lambda v: v >= 2),
    "attentionUnits": ("an int >= 1", lambda v: v >= 1),
    "crossLayers": ("an int >= 1", lambda v: v >= 1),
    "crossRank": ("an int >= 0", lambda v: v >= 0),
    "featureMaps": ("ints >= 1, at least one", lambda v: len(v) > 0 and _units(v)),
    "bottomUnits": ("ints >= 1", _units),
    "numExperts": ("an int >= 1", lambda v: v >= 1),
    "towerUnits": ("ints >= 1", _units),
    "numLevels": ("an int >= 1", lambda v: v >= 1),
    "temperature": ("a float in (0, inf)", lambda v: 0 < v < float("inf")),
}


__all__ = [
    "RANGES", "ArchitectureParams", "HasAttention", "HasBottom", "HasCrosses", "HasExperts", "HasFeatureMaps", "HasHistory", "HasItems",
    "HasLevels", "HasNumClasses", "HasProducts", "HasWatchTime", "with_accessors",
]  # fmt: skip
