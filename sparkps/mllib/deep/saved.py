"""Saved deep models in plain Python: scored with torch, without Spark, Java or a tier. `sparkps.mllib.scoring.load_model` reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.errors import InvalidInput
from sparkps.mllib.data.graph_inputs import graph_inputs
from sparkps.mllib.deep.graph_formats import inputs_of
from sparkps.mllib.deep.graphs import Scoring
from sparkps.mllib.deep.model import TorchModel
from sparkps.mllib.deep.persistence import assembled
from sparkps.mllib.deep.rows import LocalTable
from sparkps.nn.tables import EmbeddingTable

Array = NDArray[Any]

#: Where the classes of models are that need no pickle.
_OURS = "sparkps.mllib.deep."


class SavedDeepModel:
    """A saved deep model, its embeddings in memory.

    Rows are columns by their names: a mapping to sequences, a table of pyarrow, or a DataFrame of pandas (see
    `sparkps.mllib.scoring.graph_inputs`). Scores are those of `transform`.

    Parameters
    ----------
    model : TorchModel
        With its rows at hand.

    Attributes
    ----------
    name, uid : str
        Class and id of the model that was saved.

    Examples
    --------
    >>> model = load_model("out/deep")                                                              # doctest: +SKIP
    >>> model.predict_proba({"town": ["Oslo"], "seen": [["a", "b"]], "price": [3.5]})[:, 1]         # doctest: +SKIP
    array([0.71])
    """

    def __init__(self, model: TorchModel) -> None:
        self.model, self.name, self.uid = model, type(model).__name__, str(model.uid)

    def __repr__(self) -> str:
        return f"<{self.name} {self.uid} of columns {', '.join(self.columns)}>"

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it reads."""
        return self._scoring().columns.names

    def decision_function(self, rows: Any) -> Array:
        """What the module gives for each row, float64 (n,), or (n, outputs) of several: of two classes the logarithm of the odds of 1."""
        scoring = self._scoring()
        margins = self._margins(scoring, rows)
        return margins[:, 0] if margins.shape[1] == 1 else margins

    def predict_proba(self, rows: Any) -> Array:
        """Probabilities, float64 (n, classes), or (n, tasks).

        Raises
        ------
        InvalidInput
            The model has none; or a row is wrong.
        """
        return self._part("probability", rows)

    def predict(self, rows: Any) -> Array:
        """What is predicted of each row, float64 (n,): a label, or a number; errors are those of `predict_proba`."""
        return self._part("prediction", rows)

    def vectors(self, rows: Any, tower: str = "user") -> Array:
        """Of a recommender, vectors of users, or of items with ``tower="item"``: float64 (n, rank)."""
        if not hasattr(self.model, "_tower_scoring"):
            raise InvalidInput(f"A model must have towers to give vectors. {self.name} has none: use `predict`.")
        return self._margins(self._scoring(tower), rows)

    def _scoring(self, tower: str = "user") -> Scoring:
        of_tower = getattr(self.model, "_tower_scoring", None)
        found: Scoring = self.model._scoring() if of_tower is None else of_tower(tower)
        return found

    def _part(self, part: str, rows: Any) -> Array:
        scoring = self._scoring()
        found = scoring.loss.parts(self._margins(scoring, rows), scoring.thresholds)
        if part not in found:
            raise InvalidInput(f"A model must give a {part}, by its loss. That of {self.name} gives {', '.join(found)}.")
        return np.asarray(found[part])

    @staticmethod
    def _margins(scoring: Scoring, rows: Any) -> Array:
        return scoring.held.outputs(inputs_of(graph_inputs(scoring.columns.facts(), rows), scoring.columns), scoring.loss)


def loaded(
    metadata: Mapping[str, Any], read: Callable[[str], bytes], rows: Callable[[str], tuple[Array, Array]], *, trusted: bool
) -> SavedDeepModel:
    """A model out of what was saved of it.

    Parameters
    ----------
    metadata : mapping
        As Spark writes them.
    read : callable
        From a file's name below the model's path to what it holds.
    rows : callable
        From a table's name to its keys, (n,), and their rows, one after the other.
    trusted : bool
        Whether a pickle may be read.

    Raises
    ------
    InvalidInput
        It is no model of ours, or a pickle that is not `trusted`.
    """
    name = str(metadata["class"])
    where, _, short = name.rpartition(".")
    cls: Any = getattr(import_module(where), short, None) if name.startswith(_OURS) else None
    if not (isinstance(cls, type) and issubclass(cls, TorchModel)):
        raise InvalidInput(f"A deep model must be of a class of {_OURS.rstrip('.')}. Got {name!r}; load it with its own class.")
    if cls._is_pickled and not trusted:
        raise InvalidInput(
            f"A {short} is loaded from a pickle, which is a program: its origin must be trusted. Got trusted=False; set trusted=True where"
            " it is."
        )

    def held(table: EmbeddingTable) -> LocalTable:
        keys, flat = rows(table.name)
        return LocalTable(table, keys, np.asarray(flat, np.float32).reshape(-1, table.dim))

    return SavedDeepModel(assembled(cls, metadata, read, held))


__all__ = ["SavedDeepModel", "loaded"]
