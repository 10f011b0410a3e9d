"""Rows in fewer bytes than float32 has: how they are written for the way between clients and nodes, and read at its end.

========== ============================== ======================================================================================
name       array of n rows of dim values  error of a value x
========== ============================== ======================================================================================
float16    float16 (n, dim)               ``|x| / 2048`` at most, or 3e-8 where that is more; beyond 65,504 it is cut to that
bfloat16   uint16 (n, dim): the upper     ``|x| / 256`` at most; beyond 3.39e38 it is cut to that
           half of a float32
int8       uint8 (n, 4 + dim): a float32  ``m / 254`` at most, m the largest absolute value of the row
           scale, and int8 multiples of it
========== ============================== ======================================================================================

All of them round to the nearest, ties to even. NaN and infinities come out as they went in, but for int8, where a row that has one of them
comes out as NaN.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

#: Largest number of float16.
_LARGEST_HALF = 65504.0
#: Bits of float32 without the sign: of the largest bfloat16, of the least number that would be rounded up beyond it, of infinity, and
#: of a NaN; all that is above infinity is NaN.
_LARGEST_BRAIN, _ROUNDS_UP = np.uint32(0x7F7F0000), np.uint32(0x7F7F8000)
_INFINITY, _NOT_A_NUMBER = np.uint32(0x7F800000), np.uint32(0x7FC00000)
_UNSIGNED = np.uint32(0x7FFFFFFF)
#: Bytes of the scale of a row of int8.
SCALE_BYTES = 4
#: Multiples of the scale go from -127 to 127.
_STEPS = np.float32(127.0)
#: Largest scale, of which so many multiples are still a number.
_LARGEST_SCALE = np.nextafter(np.finfo(np.float32).max / _STEPS, np.float32(0.0))


class Encoding(IntEnum):
    """How the values of an operation are written; numbers are never given a new meaning."""

    PLAIN = 0  # as the table has them
    FLOAT16 = 1
    BFLOAT16 = 2
    INT8 = 3


#: By the name that users give.
NAMED = {"float32": Encoding.PLAIN, "float16": Encoding.FLOAT16, "bfloat16": Encoding.BFLOAT16, "int8": Encoding.INT8}

#: dtype of the array of each encoding but `PLAIN`.
_DTYPES: dict[Encoding, np.dtype[Any]] = {
    Encoding.FLOAT16: np.dtype("<f2"),
    Encoding.BFLOAT16: np.dtype("<u2"),
    Encoding.INT8: np.dtype("u1"),
}


def layout_of(encoding: Encoding, rows: int, dim: int) -> tuple[np.dtype[Any], tuple[int, int]]:
    """dtype and shape of so many rows in an encoding other than `PLAIN`.

    Examples
    --------
    >>> layout_of(Encoding.INT8, 10, 16)
    (dtype('uint8'), (10, 20))
    """
    return _DTYPES[encoding], (rows, dim + (SCALE_BYTES if encoding == Encoding.INT8 else 0))


def row_bytes(encoding: Encoding, dim: int, plain: int) -> int:
    """Bytes of one row of `dim` values, which has `plain` bytes in the table."""
    if encoding == Encoding.PLAIN:
        return plain
    dtype, (_, width) = layout_of(encoding, 1, dim)
    return dtype.itemsize * width


def encoded(rows: Array, encoding: Encoding) -> Array:
    """Rows for the way.

    Parameters
    ----------
    rows : ndarray of shape (n, dim), float32, C-contiguous
    encoding : Encoding

    Returns
    -------
    ndarray
        As `layout_of` says; of `PLAIN` the rows themselves.

    Examples
    --------
    >>> rows = np.array([[1.0, -0.5, 0.25]], np.float32)
    >>> decoded(encoded(rows, Encoding.BFLOAT16), Encoding.BFLOAT16).tolist()
    [[1.0, -0.5, 0.25]]
    """
    if encoding == Encoding.PLAIN:
        return rows
    return _ENCODERS[encoding](rows)


def decoded(array: Array, encoding: Encoding) -> Array:
    """The rows, float32 (n, dim), of what `encoded` gave; the caller has checked dtype and shape by `layout_of`."""
    if encoding == Encoding.PLAIN:
        return array
    return _DECODERS[encoding](array)


def _to_half(rows: Array) -> Array:
    with np.errstate(over="ignore"):
        found = rows.astype("<f2")
    beyond = np.isinf(found)
    if beyond.any():
        cut = beyond & np.isfinite(rows)
        found[cut] = np.copysign(_LARGEST_HALF, rows[cut])
    return found


def _of_half(array: Array) -> Array:
    return array.astype(np.float32)


def _to_brain(rows: Array) -> Array:
    bits = np.ascontiguousarray(rows, np.float32).view(np.uint32)
    rounded = bits >> np.uint32(16)
    rounded &= np.uint32(1)
    rounded += np.uint32(0x7FFF)  # half of the last place, and a little less where that is even already
    rounded += bits
    size = bits & _UNSIGNED
    beyond = size >= _ROUNDS_UP
    if beyond.any():
        size = size[beyond]
        special = np.where(size < _INFINITY, _LARGEST_BRAIN, np.where(size == _INFINITY, _INFINITY, _NOT_A_NUMBER))
        rounded[beyond] = bits[beyond] & ~_UNSIGNED | special
    rounded >>= np.uint32(16)
    return rounded.astype("<u2")


def _of_brain(array: Array) -> Array:
    bits = array.astype(np.uint32)
    bits <<= np.uint32(16)
    return bits.view(np.float32)


def _to_bytes(rows: Array) -> Array:
    made = np.empty((len(rows), SCALE_BYTES + rows.shape[1]), np.uint8)
    scales = np.abs(rows).max(axis=1, initial=np.float32(0.0)) / _STEPS
    scales = np.where(np.isinf(scales), scales, np.minimum(scales, _LARGEST_SCALE))
    made[:, :SCALE_BYTES] = scales.astype("<f4")[:, None].view(np.uint8)
    with np.errstate(all="ignore"):  # rows that are not finite become NaN by their scale, whatever stands behind it
        steps = np.rint(rows / np.where(scales > 0, scales, np.float32(1.0))[:, None])
        steps = np.nan_to_num(steps, nan=0.0, posinf=0.0, neginf=0.0)
    np.clip(steps, -_STEPS, _STEPS, out=steps)
    made[:, SCALE_BYTES:] = steps.astype(np.int8).view(np.uint8)
    return made


def _of_bytes(array: Array) -> Array:
    scales = np.ascontiguousarray(array[:, :SCALE_BYTES]).view("<f4")
    found = array[:, SCALE_BYTES:].view(np.int8).astype(np.float32)
    with np.errstate(invalid="ignore"):  # 0 times an infinite scale
        found *= scales
    return found


_ENCODERS = {Encoding.FLOAT16: _to_half, Encoding.BFLOAT16: _to_brain, Encoding.INT8: _to_bytes}
_DECODERS = {Encoding.FLOAT16: _of_half, Encoding.BFLOAT16: _of_brain, Encoding.INT8: _of_bytes}

__all__ = ["NAMED", "SCALE_BYTES", "Encoding", "decoded", "encoded", "layout_of", "row_bytes"]
