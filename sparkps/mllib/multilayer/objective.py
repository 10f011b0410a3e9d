"""What multilayer perceptrons minimise: the softmax loss behind sigmoid layers, by back-propagation (Rumelhart et al., Nature 1986)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from sparkps.initializers import Initializer, Zeros
from sparkps.mllib.data import kernels
from sparkps.mllib.data.labels import ClassLabels
from sparkps.mllib.data.store import Chunk
from sparkps.mllib.errors import InvalidParam
from sparkps.mllib.models.layers import Layer, count_of, forward, layers_of
from sparkps.mllib.multilayer import kernel
from sparkps.mllib.multilayer.initial import first_weights
from sparkps.mllib.solvers.objective import LabelSums, Start

Array = NDArray[Any]

#: Rows whose activations are in memory at a time.
_ROWS = 4096


class OutputLabels(ClassLabels):
    """Labels that the last layer has an output for."""

    def advice(self, label: float) -> str:
        """See `LabelRule`."""
        if label >= 0 and label == int(label):
            return "The last of `layers` must be the number of classes, which are numbered from 0."
        return super().advice(label)


@dataclass(frozen=True, eq=False)
class MultilayerPerceptron:
    """The `Objective` of a multilayer perceptron; made by `of`. Picklable.

    Its margins are those of the first layer. The tables have a row of its weights for each feature, the first biases are the intercepts,
    and the weights and biases of all later layers are parameters without a feature.

    Examples
    --------
    >>> objective = MultilayerPerceptron.of([4, 5, 3], seed=7)
    >>> objective.outputs, objective.scalars, objective.described
    (5, 18, '4-5-3 from seed 7')
    """

    #: Values between the layers: features, those of hidden layers, classes.
    sizes: tuple[int, ...]
    seed: int
    #: float64 (count,): where training begins, in the order of `models.layers`; None: it is drawn.
    initial: Array | None
    #: What makes it another one, in words.
    described: str

    #: See `Objective`. Labels are not counted.
    classes: ClassVar[int] = 0
    initializer: ClassVar[Initializer] = Zeros()
    kernels: ClassVar[tuple[str, ...]] = (kernel.__name__,)
    metrics: ClassVar[tuple[str, ...]] = ("logLoss", "accuracy")

    @classmethod
    def of(cls, sizes: Sequence[int], seed: int, initial: Array | None = None) -> Self:
        """The objective of layers between so many values.

        Parameters
        ----------
        sizes : sequence of int
        seed : int
            Of the first weights.
        initial : ndarray of shape (count_of(sizes),), float64, optional
            The first weights; None: drawn by `first_weights`.
        """
        begins = f"seed {seed}" if initial is None else f"weights {hashlib.sha256(initial.tobytes()).hexdigest()[:16]}"
        return cls(tuple(sizes), seed, initial, f"{'-'.join(map(str, sizes))} from {begins}")

    @property
    def features(self) -> int:
        """See `WholeObjective`."""
        return self.sizes[0]

    @property
    def outputs(self) -> int:
        """See `Objective`: outputs of the first layer."""
        return self.sizes[1]

    @property
    def dim(self) -> int:
        """See `Objective`."""
        return self.sizes[1]

    @cached_property
    def scalars(self) -> int:
        """See `Objective`: weights and biases of the layers after the first."""
        return count_of(self.sizes[1:])

    @property
    def label_rule(self) -> OutputLabels:
        """See `Objective`."""
        return OutputLabels(self.sizes[-1])

    def check_width(self, width: int, declared: int) -> None:
        """See `WholeObjective`."""
        if width and width != self.features:
            raise InvalidParam(
                f"The first of `layers` must be the number of features, {width}. Got {self.features} instead.",
                param="layers",
            )
        if not width and declared != self.features:
            raise InvalidParam(
                f"The `numFeatures` must be the first of `layers`, {self.features}, where features are no vectors. Got {declared} instead.",
                param="numFeatures",
            )

    def informed(self, sums: LabelSums) -> Self:
        """See `Objective`."""
        return self

    def penalties(self, l1: float, l2: float) -> tuple[float, float]:
        """See `Objective`."""
        return l1, l2

    def start(self, sums: LabelSums) -> Start:
        """See `Objective`: the same whatever labels are, as in pyspark.ml."""
        flat = first_weights(self.sizes, self.seed) if self.initial is None else self.initial
        (first,) = layers_of(flat, self.sizes[:2])
        return Start(first.biases, scalars=flat[count_of(self.sizes[:2]) :], rows=first.weights)

    def published(self, rows: Array, *, penalised: bool) -> Array:
        """See `Objective`: as it is."""
        return rows

    def scores(self, chunk: Chunk, rows: Array, bias: Array) -> Array:
        """See `MeasuredObjective`: margins of the classes."""
        later = self._later(bias)
        found = [forward(self._margins(part, rows, bias), later)[1] for part in _parts(chunk)]
        return np.concatenate([np.empty((0, self.sizes[-1])), *found])

    def loss_and_gradient(self, chunks: Iterable[Chunk], state: Array, bias: Array) -> tuple[float, Array]:
        """See `Objective`.

        Examples
        --------
        >>> chunk = Chunk(np.array([1.0]), np.empty(0), np.array([0, 1], np.int32), np.zeros(1, np.int32), np.array([2.0]))
        >>> state = np.zeros((1, 2, 2))                          # one feature, two classes, no layer between
        >>> loss, derivatives = MultilayerPerceptron.of([1, 2], seed=0).loss_and_gradient([chunk], state, np.zeros(2))
        >>> round(loss, 6), derivatives.tolist(), state[0, 1].tolist()
        (0.693147, [0.5, -0.5], [1.0, -1.0])
        """
        rows, later = np.ascontiguousarray(state[:, 0]), self._later(bias)
        derivatives = np.zeros(len(bias))
        by_margins, by_later = derivatives[: self.outputs], layers_of(derivatives[self.outputs :], self.sizes[1:])
        total = 0.0
        for part in (part for chunk in chunks for part in _parts(chunk)):
            activations, margins = forward(self._margins(part, rows, bias), later)
            loss, slopes = _softmax_loss(margins, part)
            total += loss
            for layer, by_layer, given in zip(reversed(later), reversed(by_later), reversed(activations), strict=True):
                by_layer.weights[:] += given.T @ slopes
                by_layer.biases[:] += slopes.sum(axis=0)
                slopes = (slopes @ layer.weights.T) * given * (1.0 - given)
            by_margins += slopes.sum(axis=0)
            back = kernel.add_to_gradient.of(part.values.dtype)
            back(part.indptr, part.ids, part.values, np.ascontiguousarray(slopes), state)
        return total, derivatives

    def _later(self, bias: Array) -> list[Layer]:
        """Layers after the first."""
        return layers_of(bias[self.outputs :], self.sizes[1:])

    def _margins(self, chunk: Chunk, rows: Array, bias: Array) -> Array:
        """Of the first layer."""
        margins, biases = np.empty((len(chunk), self.outputs)), np.ascontiguousarray(bias[: self.outputs])
        kernels.margins_of_many.of(chunk.values.dtype)(chunk.indptr, chunk.ids, chunk.values, rows, biases, margins)
        return margins


def _parts(chunk: Chunk) -> Iterator[Chunk]:
    for start in range(0, len(chunk), _ROWS):
        yield chunk.rows(start, min(start + _ROWS, len(chunk)))


def _softmax_loss(margins: Array, chunk: Chunk) -> tuple[float, Array]:
    """Weighted sum of -log p of the rows' labels, and its derivatives by the margins, (n, classes)."""
    at, labels = np.arange(len(chunk)), chunk.labels.astype(np.int64)
    apart = margins - margins.max(axis=1, keepdims=True)
    slopes = np.exp(apart)
    sums = slopes.sum(axis=1)
    losses = np.log(sums) - apart[at, labels]
    slopes /= sums[:, None]
    slopes[at, labels] -= 1.0
    if not len(chunk.weights):
        return float(losses.sum()), slopes
    return float(losses @ chunk.weights), slopes * chunk.weights[:, None]


__all__ = ["MultilayerPerceptron", "OutputLabels"]
