"""Numbers that lie in 16 bits and are worked with as float32: how kernels read and write the rows of a table.

Kernels know how rows lie by the type of their pointer: float32 and float64 as they are, bfloat16 (the upper half of a float32) as uint16,
and float16 (IEEE 754) as int16. What is beyond the largest number is cut to that, as on the way (`sparkps.wire.encodings`).

A step of an optimizer is often less than half of the last place of such a number, and rounding to the nearest would lose it for ever. So
what a step gives is rounded up or down at random, up with the probability of what is cut off, so that the mean is right (*stochastic
rounding*: Gupta et al., *Deep Learning with Limited Numerical Precision*, ICML 2015, section 3; for embeddings: Zhang, Yang and Yuen,
*Training with Low-precision Embedding Tables*, 2018, as in FBGEMM's table-batched embeddings). The random bits are a hash of the bucket
and its number of steps, of the column, and of the value, and of nothing that depends on where a row lies: replicas, and whoever does the
same steps again, get the same rows bit for bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from sparkps.kernels.compiled import chosen_by_type, inlined
from sparkps.kernels.hashing import mix
from sparkps.specs import NUM_BUCKETS

#: In place of random bits: round to the nearest, ties to even.
NEAREST = -1

_GOLDEN, _ODD, _HALF_WORD = np.uint32(0x9E3779B1), np.uint32(0x85EBCA6B), np.uint32(16)
_UPPER = np.uint64(32)
#: Of float32: the bits without the sign, and those of infinity, above which is NaN; of the least normal float16.
_SIZE, _INFINITY, _LEAST_NORMAL = np.uint32(0x7FFFFFFF), np.uint32(0x7F800000), np.uint32(0x38800000)
#: Of 16 bits: the sign; of each kind the largest number, infinity, and a NaN.
_SIGN = np.uint32(0x8000)
_LARGEST_BRAIN, _INFINITE_BRAIN, _NO_BRAIN = np.uint32(0x7F7F), np.uint32(0x7F80), np.uint32(0x7FC0)
_LARGEST_HALF, _INFINITE_HALF, _NO_HALF = np.uint32(0x7BFF), np.uint32(0x7C00), np.uint32(0x7E00)
#: float32 has this many bits more behind the point than float16, and exponents that are so much larger.
_CUT, _BIAS, _HALF_ONE = np.uint32(13), np.uint32(112 << 23), np.uint32(1 << 10)
#: What float16 are multiples of below its least normal number.
_TINIEST = 2.0**-24


@inlined
def salt_of(bucket: int, step: int) -> np.int64:
    """What random bits depend on in one step of a bucket; to be added to the number of the column."""
    return np.int64(mix(np.int64(step) * NUM_BUCKETS + np.int64(bucket)) >> _UPPER)


@inlined
def _random_bits(salt: int, bits: np.uint32) -> np.uint32:
    """16 random bits for the float32 of these bits: over the steps, whose salts are random, independent and uniform."""
    h = np.uint32((np.uint32(salt) * _GOLDEN) ^ bits)
    h = np.uint32((h ^ (h >> _HALF_WORD)) * _ODD)
    return np.uint32(h >> _HALF_WORD)


@inlined
def _without(bits: np.uint32, cut: np.uint32, noise: int) -> np.uint32:
    """`bits` without the last `cut`, rounded: by 16 random bits, or to the nearest."""
    if noise < 0:
        half = np.uint32((np.uint32(1) << np.uint32(cut - np.uint32(1))) - np.uint32(1))
        return np.uint32(np.uint32(bits + half + ((bits >> cut) & np.uint32(1))) >> cut)
    return np.uint32(np.uint32(bits + (np.uint32(noise) >> np.uint32(_HALF_WORD - cut))) >> cut)


@inlined
def _to_brain(bits: np.uint32, noise: int) -> np.uint32:
    size = np.uint32(bits & _SIZE)
    found = min(_without(size, _HALF_WORD, noise), _LARGEST_BRAIN)
    found = found if size < _INFINITY else (_INFINITE_BRAIN if size == _INFINITY else _NO_BRAIN)
    return np.uint32(found | ((bits >> _HALF_WORD) & _SIGN))


@inlined
def _of_brain(word: np.uint16) -> np.float32:
    return np.uint32(np.uint32(word) << _HALF_WORD).view(np.float32)


@inlined
def _multiples(size: np.uint32, noise: int) -> np.uint32:
    """Below the least normal float16: multiples of its tiniest number."""
    exact = np.float64(np.uint32(size).view(np.float32)) / _TINIEST
    return np.uint32(np.int32(np.rint(exact) if noise < 0 else np.floor(exact + np.float64(noise) / 65536.0)))


@inlined
def _to_half(bits: np.uint32, noise: int) -> np.uint32:
    size = np.uint32(bits & _SIZE)
    found = min(_without(np.uint32(size - _BIAS), _CUT, noise), _LARGEST_HALF)
    found = found if size >= _LEAST_NORMAL else _multiples(min(size, _LEAST_NORMAL), noise)
    found = found if size < _INFINITY else (_INFINITE_HALF if size == _INFINITY else _NO_HALF)
    return np.uint32(found | ((bits >> _HALF_WORD) & _SIGN))


@inlined
def _of_half(word: np.int16) -> np.float32:
    bits = np.uint32(np.uint16(word))
    size = np.uint32(bits & np.uint32(_SIGN - np.uint32(1)))
    tiny = np.float32(np.float32(np.int32(size)) * np.float32(_TINIEST)).view(np.uint32)
    found = np.uint32((size << _CUT) + _BIAS) if size >= _HALF_ONE else tiny
    found = found if size < _INFINITE_HALF else np.uint32((size << _CUT) | _INFINITY)
    return np.uint32(found | ((bits & _SIGN) << _HALF_WORD)).view(np.float32)


def load(rows: Any, place: Any) -> Any:
    """``rows[place]`` as the table's dtype has it."""


def store(rows: Any, place: Any, value: Any, salt: Any) -> None:
    """``rows[place] = value``; in 16 bits rounded at random by what `salt_of` gives for the column, or to the nearest (`NEAREST`)."""


def stored(words: Any, value: Any) -> Any:
    """What `value` is when it was rounded to the nearest and stored where rows lie as `words` says."""


@chosen_by_type(load)
def _load(rows: Any, place: Any) -> Any:
    if rows.dtype == types.uint16:
        return lambda rows, place: _of_brain(rows[place])
    if rows.dtype == types.int16:
        return lambda rows, place: _of_half(rows[place])
    return lambda rows, place: rows[place]


def _random_store(word: Any, rounded: Any) -> Any:
    def stored(rows: Any, place: int, value: float, salt: int) -> None:
        bits = np.float32(value).view(np.uint32)
        rows[place] = word(rounded(bits, NEAREST if salt < 0 else np.int64(_random_bits(salt, bits))))

    return stored


_STORES = {types.uint16: _random_store(np.uint16, _to_brain), types.int16: _random_store(np.int16, _to_half)}


@chosen_by_type(store)
def _store(rows: Any, place: Any, value: Any, salt: Any) -> Any:
    if rows.dtype in _STORES:
        return _STORES[rows.dtype]

    def as_it_is(rows: Any, place: int, value: float, salt: int) -> None:
        rows[place] = value

    return as_it_is


@chosen_by_type(stored)
def _stored(words: Any, value: Any) -> Any:
    if words.dtype == types.uint16:
        return lambda words, value: _of_brain(np.uint16(_to_brain(np.float32(value).view(np.uint32), NEAREST)))
    if words.dtype == types.int16:
        return lambda words, value: _of_half(np.int16(_to_half(np.float32(value).view(np.uint32), NEAREST)))
    return lambda words, value: value


__all__ = ["NEAREST", "load", "salt_of", "store", "stored"]
