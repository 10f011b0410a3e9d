"""Layers of a multilayer perceptron after its first margins, in numpy alone: for workers, executors, and processes without Spark.

A layer from n to m has n·m weights, input after input, then m biases: pyspark.ml's order, whose matrices (m, n) are column-major.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from numpy.typing import NDArray

from sparkps.mllib.models.links import sigmoid

Array = NDArray[Any]


class Layer(NamedTuple):
    """An affine map: ``x @ weights + biases``."""

    #: float64 (inputs, outputs).
    weights: Array
    #: float64 (outputs,).
    biases: Array


def count_of(sizes: Sequence[int]) -> int:
    """Weights and biases of layers between so many values.

    Examples
    --------
    >>> count_of([4, 5, 3])    # 4·5 + 5 + 5·3 + 3
    43
    """
    return sum((inputs + 1) * outputs for inputs, outputs in pairwise(sizes))


def layers_of(flat: Array, sizes: Sequence[int]) -> list[Layer]:
    """The layers, as views.

    Parameters
    ----------
    flat : ndarray of shape (count_of(sizes),), float64
    sizes : sequence of int
        Values between the layers.

    Examples
    --------
    >>> import numpy as np
    >>> [layer] = layers_of(np.arange(6.0), [2, 2])
    >>> layer.weights.tolist(), layer.biases.tolist()
    ([[0.0, 1.0], [2.0, 3.0]], [4.0, 5.0])
    """
    found, at = [], 0
    for inputs, outputs in pairwise(sizes):
        middle, end = at + inputs * outputs, at + (inputs + 1) * outputs
        found.append(Layer(flat[at:middle].reshape(inputs, outputs), flat[middle:end]))
        at = end
    return found


def forward(margins: Array, layers: Sequence[Layer]) -> tuple[list[Array], Array]:
    """From the margins of the first layer to those of the last.

    Parameters
    ----------
    margins : ndarray of shape (n, outputs of the first layer), float64
    layers : sequence of Layer
        Those after the first.

    Returns
    -------
    activations : list of ndarray
        What each of `layers` is given: float64 (n, its inputs), in (0, 1).
    margins : ndarray of shape (n, classes), float64

    Examples
    --------
    >>> import numpy as np
    >>> inputs, outputs = forward(np.zeros((1, 2)), layers_of(np.array([1.0, 3.0, 0.25]), [2, 1]))
    >>> inputs[0].tolist(), outputs.tolist()
    ([[0.5, 0.5]], [[2.25]])
    """
    activations = []
    for layer in layers:
        activations.append(sigmoid(margins))
        margins = activations[-1] @ layer.weights + layer.biases
    return activations, margins


__all__ = ["Layer", "count_of", "forward", "layers_of"]
