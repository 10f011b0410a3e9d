"""Classifiers that ask for particular columns: a history of items, or several labels."""

from __future__ import annotations

from typing import Any

from torch import nn

from sparkps.mllib.deep.columns import InputColumns
from sparkps.mllib.deep.zoo import interest, tasks
from sparkps.mllib.deep.zoo.estimators import ArchitectureClassifier, ArchitectureModel, TasksClassifier
from sparkps.mllib.deep.zoo.params import HasAttention, HasExperts, HasHistory, HasLevels
from sparkps.mllib.errors import InvalidParam


class DINModel(ArchitectureModel, HasHistory, HasAttention):
    """A fitted deep interest network."""

    _architecture = interest.DeepInterest


class DINClassifier(ArchitectureClassifier[DINModel], HasHistory, HasAttention):
    """What a row's target has to do with the history of its user (Zhou et al., Deep Interest Network, KDD 2018).

    `targetCol` and `historyCol` are of `categoricalCols`, the second one of arrays, and equal values are the same item.

    Examples
    --------
    >>> DINClassifier(categoricalCols=["user", "item", "seen"], targetCol="item", historyCol="seen").fit(df)    # doctest: +SKIP
    """

    _model = DINModel

    def _more(self) -> dict[str, Any]:
        for param in ("targetCol", "historyCol"):
            if self._named(param) not in self._listed("categoricalCols"):
                raise InvalidParam(f"The `{param}` must be one of `categoricalCols`. Got {self._named(param)!r}.", param=param)
        return super()._more()

    def _made_module(self, inputs: InputColumns) -> nn.Module:
        target, history = self._named("targetCol"), self._named("historyCol")
        kinds = dict(zip(inputs.categorical, inputs.kinds, strict=True))
        if target in inputs.bags or history not in inputs.bags or kinds.get(target) != kinds.get(history):
            raise InvalidParam(
                f"The `historyCol` must hold arrays of what the `targetCol` holds. Got {history!r} of {kinds.get(history)}"
                f" {'arrays' if history in inputs.bags else 'values'} and {target!r} of {kinds.get(target)}"
                f" {'arrays' if target in inputs.bags else 'values'}.",
                param="historyCol",
            )
        return super()._made_module(inputs)


class MMoEModel(ArchitectureModel, HasExperts):
    """A fitted mixture of experts."""

    _architecture = tasks.GatedExperts


class MMoEClassifier(TasksClassifier[MMoEModel]):
    """Several labels at once: experts that tasks share, and a gate for each (Ma et al., Multi-gate Mixture-of-Experts, KDD 2018).

    Examples
    --------
    >>> MMoEClassifier(categoricalCols=["user", "item"], labelCols=["clicked", "bought"]).fit(df)    # doctest: +SKIP
    """

    _model = MMoEModel


class PLEModel(ArchitectureModel, HasExperts, HasLevels):
    """A fitted model of progressive layered extraction."""

    _architecture = tasks.LayeredExtraction


class PLEClassifier(TasksClassifier[PLEModel], HasLevels):
    """Several labels at once: experts of each task beside shared ones (Tang et al., Progressive Layered Extraction, RecSys 2020)."""

    _model = PLEModel


__all__ = ["DINClassifier", "DINModel", "MMoEClassifier", "MMoEModel", "PLEClassifier", "PLEModel"]
