"""First weights: those that pyspark.ml draws from the same seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from sparkps.kernels.compiled import array, kernel

_U64, _F64 = types.uint64, types.float64

#: Half the width of the interval that weights are drawn from, times the root of the number of inputs: about where a sigmoid of inputs of
#: variance 1 is curved most (Bottou, Une approche théorique de l'apprentissage connexionniste, 1991).
_HALF_WIDTH = 2.4

_WORD, _LONG = (1 << 32) - 1, (1 << 64) - 1
_ARRAY_SEED = 0x3C074A61  # scala.util.hashing.MurmurHash3.arraySeed


@kernel(lambda _: (_U64, array(_F64)))
def _xorshift_doubles(state: int, out: Any) -> None:
    """Numbers in [0, 1): nextDouble of Spark's XORShiftRandom, of 26 and 27 bits."""
    s = np.uint64(state)
    for i in range(out.shape[0]):
        s ^= s << np.uint64(21)
        s ^= s >> np.uint64(35)
        s ^= s << np.uint64(4)
        high = s & np.uint64((1 << 26) - 1)
        s ^= s << np.uint64(21)
        s ^= s >> np.uint64(35)
        s ^= s << np.uint64(4)
        low = s & np.uint64((1 << 27) - 1)
        out[i] = np.float64((high << np.uint64(27)) + low) * (1.0 / (1 << 53))


def _rotated(word: int, by: int) -> int:
    return (word << by | word >> (32 - by)) & _WORD


def _murmur3(data: bytes, seed: int) -> int:
    """MurmurHash3 of 32 bits, of whole words."""
    found = seed
    for at in range(0, len(data), 4):
        word = int.from_bytes(data[at : at + 4], "little") * 0xCC9E2D51 & _WORD
        found ^= _rotated(word, 15) * 0x1B873593 & _WORD
        found = (_rotated(found, 13) * 5 + 0xE6546B64) & _WORD
    found ^= len(data)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        found = (found ^ found >> shift) * factor & _WORD
    return found ^ found >> 16


def _state_of(seed: int) -> int:
    """The first state of an XORShiftRandom: two hashes of the seed."""
    data = (seed & _LONG).to_bytes(8, "big")
    low = _murmur3(data, _ARRAY_SEED)
    return _murmur3(data, low) << 32 | low


def first_weights(sizes: Sequence[int], seed: int) -> NDArray[np.float64]:
    """Weights and biases of all layers, uniform in ±2.4/sqrt(inputs of the layer), in the order of `models.layers`.

    Parameters
    ----------
    sizes : sequence of int
        Values between the layers, those of the features first.
    seed : int

    Returns
    -------
    ndarray of shape (count_of(sizes),), float64

    Examples
    --------
    >>> first_weights([4, 5, 3], seed=7)[:2].round(4).tolist()    # as pyspark.ml 4.3 begins
    [-0.5235, -0.096]
    """
    ends = np.cumsum([(inputs + 1) * outputs for inputs, outputs in pairwise(sizes)])
    drawn = np.empty(int(ends[-1]))
    _xorshift_doubles(_state_of(seed), drawn)
    for part, inputs in zip(np.split(drawn, ends[:-1]), sizes, strict=False):
        part[:] = (part * (2 * _HALF_WIDTH) - _HALF_WIDTH) / math.sqrt(inputs)
    return drawn


__all__ = ["first_weights"]
