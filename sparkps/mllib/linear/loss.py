"""What a loss of a linear model is: all that training and scoring must know of it. Losses are found by name.

A loss is one module: its labels, its kernel, where training starts, and what its margins mean. Training, solvers and models
know none by name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from importlib import import_module
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from sparkps.initializers import Initializer, Zeros
from sparkps.kernels.compiled import Kernel
from sparkps.mllib.data.labels import LabelRule
from sparkps.mllib.data.store import Chunk
from sparkps.mllib.linear.margins import margins_of
from sparkps.mllib.models.links import LINKS
from sparkps.mllib.solvers.objective import LabelSums, Start

#: Where losses are looked for: the module of the loss's name.
HOME = "sparkps.mllib.linear.losses"

#: The losses of all modules imported so far.
_registered: dict[str, type[Loss]] = {}


class Loss(ABC):
    """A loss that depends on a row's margin m = b + Σ x·w and its label alone: the `Objective` of linear models. Picklable.

    A subclass registers itself: ``class Logistic(Loss, name="logistic")``.
    """

    #: Its name; that of its module, too, for those in `HOME`.
    name: ClassVar[str] = ""
    #: What labels must be.
    label_rule: ClassVar[LabelRule]
    #: Made by `loss_kernel.fused`.
    kernel: ClassVar[Kernel]
    #: Made by `row_by_row.row_by_row`; None: this loss cannot be learned row by row.
    online: ClassVar[Kernel | None] = None
    #: What margins mean, by its name in `links.LINKS`; empty: they are predictions.
    link: ClassVar[str] = ""
    #: See `Objective`: one margin a row, and one coefficient a feature.
    outputs: ClassVar[int] = 1
    dim: ClassVar[int] = 1
    scalars: ClassVar[int] = 0
    classes: ClassVar[int] = 0
    initializer: ClassVar[Initializer] = Zeros()
    #: Whether it depends on label - margin alone.
    of_residuals: ClassVar[bool] = False
    #: See `MeasuredObjective`: of rows for validation, besides their loss.
    metrics: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, *, name: str = "", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if name:
            cls.name = name
            _registered[name] = cls

    @property
    def kernels(self) -> tuple[str, ...]:
        """See `Objective`."""
        return (self.kernel.module,)

    def informed(self, sums: LabelSums) -> Self:
        """See `Objective`; most losses need to know nothing."""
        return self

    def penalties(self, l1: float, l2: float) -> tuple[float, float]:
        """See `Objective`; most losses take them as they are."""
        return l1, l2

    @abstractmethod
    def start(self, sums: LabelSums) -> Start:
        """See `Objective`."""

    def published(self, rows: NDArray[Any], *, penalised: bool) -> NDArray[Any]:
        """See `Objective`: as it is."""
        return rows

    def loss_and_gradient(
        self, chunks: Iterable[Chunk], state: NDArray[Any], bias: NDArray[Any]
    ) -> tuple[float, NDArray[Any]]:
        """See `Objective`.

        Examples
        --------
        >>> chunk = Chunk(np.array([1.0]), np.empty(0), np.array([0, 1], np.int32), np.zeros(1, np.int32), np.array([2.0]))
        >>> state = np.zeros((1, 2, 1))
        >>> loss, derivatives = loss_named("logistic")().loss_and_gradient([chunk], state, np.zeros(1))
        >>> round(loss, 12), derivatives.tolist(), state[0, 1].tolist()    # the loss is log(2)
        (0.69314718056, [-0.5], [-1.0])
        """
        totals, pairs = np.zeros(2), state.reshape(len(state), 2)
        for chunk in chunks:
            self.kernel.of(chunk.values.dtype)(
                chunk.indptr, chunk.ids, chunk.values, chunk.labels, chunk.weights, chunk.offsets, pairs, float(bias[0]), totals
            )
        return float(totals[0]), totals[1:]

    def scores(self, chunk: Chunk, rows: NDArray[Any], bias: NDArray[Any]) -> NDArray[Any]:
        """See `MeasuredObjective`: the margins."""
        return margins_of(chunk, np.ascontiguousarray(rows[:, 0]), float(bias[0]))

    def probabilities(self, margins: NDArray[Any]) -> NDArray[Any]:
        """Of label 1 at each margin, float64 (n,); for losses whose margins mean one.

        Examples
        --------
        >>> loss_named("logistic")().probabilities(np.array([0.0])).tolist()
        [0.5]
        """
        if not self.link:
            raise NotImplementedError(f"margins of {self.name} are no probabilities")
        return LINKS[self.link](margins)


def loss_named(name: str) -> type[Loss]:
    """The loss of that name; one of `HOME` is imported if need be.

    Raises
    ------
    KeyError
        No module of that name declares one.
    """
    if name not in _registered:
        try:
            import_module(f"{HOME}.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"{HOME}.{name}":
                raise
            raise KeyError(f"no loss {name!r}, and no module of that name in {HOME}") from error
    return _registered[name]


__all__ = ["HOME", "Loss", "loss_named"]
