"""Arrow columns from Python values and back, without `pyarrow.array` and `to_numpy`: those import pandas, half a second a worker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def int_column(values: Sequence[int], kind: pa.DataType) -> pa.Array:
    """A column of integers of a fixed width.

    Examples
    --------
    >>> int_column([1, 2], pa.int32()).to_pylist()
    [1, 2]
    """
    data = np.asarray(values, dtype=f"i{kind.bit_width // 8}")
    return pa.Array.from_buffers(kind, len(data), [None, pa.py_buffer(data.tobytes())])


def bytes_column(values: Sequence[bytes | None], kind: pa.DataType) -> pa.Array:
    """A column of strings (encoded as UTF-8) or bytes, with nulls.

    Examples
    --------
    >>> bytes_column([b"ab", None, b""], pa.string()).to_pylist()
    ['ab', None, '']
    """
    lengths = [len(value or b"") for value in values]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    valid = np.packbits(np.array([value is not None for value in values], bool), bitorder="little")
    buffers = [
        pa.py_buffer(part) for part in (valid.tobytes(), offsets.tobytes(), b"".join(value or b"" for value in values))
    ]
    return pa.Array.from_buffers(kind, len(values), buffers)


def numbers(column: pa.Array) -> NDArray[Any]:
    """Elements of a column of integers or floats: a view, whatever it holds where an element is null.

    Examples
    --------
    >>> numbers(int_column([1, 2, 3], pa.int16())[1:]).tolist()
    [2, 3]
    """
    kind = column.type
    dtype = np.dtype(f"{'f' if pa.types.is_floating(kind) else 'i'}{kind.bit_width // 8}")
    if not len(column):
        return np.empty(0, dtype)
    values: NDArray[Any] = np.frombuffer(column.buffers()[1], dtype)
    return values[column.offset : column.offset + len(column)]


def valid(column: pa.Array) -> NDArray[np.bool_]:
    """bool (n,): whether each element is not null.

    Examples
    --------
    >>> valid(bytes_column([b"ab", None], pa.string())).tolist()
    [True, False]
    """
    bits = column.buffers()[0]
    if bits is None or not column.null_count:
        return np.full(len(column), column.type != pa.null())
    each = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")
    return each[column.offset : column.offset + len(column)].astype(bool)


__all__ = ["bytes_column", "int_column", "numbers", "valid"]
