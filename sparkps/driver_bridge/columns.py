"""Small Arrow columns from Python values and back, without `pyarrow.array` and `to_numpy`: those import pandas, half a second a worker."""

from __future__ import annotations

from collections.abc import Sequence

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


def int32_values(column: pa.Array) -> NDArray[np.int32]:
    """Values of an int32 column without nulls: a view."""
    values: NDArray[np.int32] = np.frombuffer(column.buffers()[1], np.int32)[
        column.offset : column.offset + len(column)
    ]
    return values


__all__ = ["bytes_column", "int32_values", "int_column"]
