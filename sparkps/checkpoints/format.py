"""What lies in the files of a checkpoint: segments, each the content of one bucket in one table, index, or its logical time.

A segment of a table or of an index is a complete Arrow IPC stream of one batch, so that any Arrow reader takes it from the place
that the manifest names:

- table: column ``row`` and, in slot order, ``state_1`` ... for the optimizer's state, each a list of `dim` values a row. Rows
  of bfloat16 are uint16, the upper halves of float32;
- index: column ``key``, int64, in slot order; the first rows of its tables are those of its first keys.

Where little of a bucket has changed since an older checkpoint, its segment there stays, and a segment of changes lies over it, whose
name has a ``+`` behind:

- table: column ``slot``, int32, ascending, before the others: rows in place of those in these slots, or behind the last one;
- index: column ``key``: keys behind those that there were.

A segment of logical time is one msgpack map: ``header``, and ``arrays`` with dtype, shape and bytes of each. What has no rows has
no bytes. Arrays become chunks of a segment as they are, without a copy.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sparkps.arrow import numbers
from sparkps.checkpoints.files import Buffer
from sparkps.errors import CheckpointDamaged, CheckpointError
from sparkps.specs import TableSpec

Array = NDArray[Any]

#: Name of the segment with a bucket's logical time.
LOGICAL = "logical"
#: msgpack holds no longer bytes.
_LONGEST = (1 << 32) - 1
#: dtypes of logical arrays, by kind.
_KINDS = frozenset("biuf")
_DTYPE = re.compile(rf"[<>|][{''.join(sorted(_KINDS))}]\d{{1,2}}")


@dataclass(frozen=True, eq=False)
class TableRecord:
    """One table in one bucket."""

    #: Rows, then the optimizer's state: each ndarray of shape (n, dim), as `TableSpec.plane_dtypes` says, in slot order.
    planes: tuple[Array, ...]
    #: Of the optimizer's schedule.
    step: int = 0


@dataclass(frozen=True, eq=False)
class TableChange:
    """What has changed of one table in one bucket since an older checkpoint."""

    #: Which rows: ndarray of shape (n,), int32, ascending.
    slots: NDArray[np.int32]
    #: These rows, and the step.
    rows: TableRecord


@dataclass(frozen=True, eq=False)
class BucketRecord:
    """All, or what has changed, of one bucket at the moment of a checkpoint's cut."""

    bucket: int
    #: By index id: keys in slot order, ndarray of shape (n,), int64.
    indexes: Mapping[int, NDArray[np.int64]] = field(default_factory=dict)
    #: By table id.
    tables: Mapping[int, TableRecord] = field(default_factory=dict)
    #: Clocks, marks, fences, open buffers: any plain value that msgpack carries. None: not part of this record.
    logical_header: Any = None
    logical_arrays: Sequence[Array] = ()
    #: By table id, in place of an entry in `tables`.
    changes: Mapping[int, TableChange] = field(default_factory=dict)
    #: By index id, in place of an entry in `indexes`: keys behind those of the older checkpoint.
    more_keys: Mapping[int, NDArray[np.int64]] = field(default_factory=dict)


def table_segment(table: int) -> str:
    """Name of the segments of a table.

    Examples
    --------
    >>> table_segment(7), index_segment(3)
    ('t7', 'i3')
    """
    return f"t{table}"


def index_segment(index: int) -> str:
    """Name of the segments of a key index."""
    return f"i{index}"


# ---- to bytes ------------------------------------------------------------------------------------------------------------


def encode_table(spec: TableSpec, record: TableRecord, compression: str = "") -> list[Buffer]:
    """Chunks of a table's segment; none if it has no rows.

    Raises
    ------
    CheckpointError
        The planes do not fit the table.
    """
    return _encode_rows(spec, record, None, compression)


def encode_changes(spec: TableSpec, change: TableChange, compression: str = "") -> list[Buffer]:
    """Chunks of a segment of a table's changes; none if there are none. Errors are those of `encode_table`."""
    return _encode_rows(spec, change.rows, change.slots, compression)


def _encode_rows(spec: TableSpec, record: TableRecord, slots: NDArray[np.int32] | None, compression: str) -> list[Buffer]:
    rows = len(record.planes[0]) if record.planes else -1
    for plane, dtype in zip(record.planes, spec.plane_dtypes(len(record.planes)), strict=False):
        if plane.shape != (rows, spec.dim) or plane.dtype != np.dtype(dtype):
            raise CheckpointError(
                f"The planes of table {spec.name!r} must be of one length, {spec.dim} wide and {dtype}. Got shape {plane.shape}"
                f" and {plane.dtype} instead.",
                table=spec.name,
            )
    if rows < 0:
        raise CheckpointError(f"A record of table {spec.name!r} must hold its rows. Got no planes.", table=spec.name)
    names = ["row", *(f"state_{number}" for number in range(1, len(record.planes)))]
    columns = [_lists(plane, spec.dim) for plane in record.planes]
    if slots is not None:
        names, columns = ["slot", *names], [_column(slots), *columns]
    return _stream(names, columns, compression) if rows else []


def encode_index(keys: NDArray[np.int64], compression: str = "") -> list[Buffer]:
    """Chunks of an index's segment; none if it has no keys."""
    return _stream(["key"], [_column(np.asarray(keys, np.int64))], compression) if len(keys) else []


def encode_logical(header: Any, arrays: Sequence[Array]) -> list[Buffer]:
    """Chunks of a segment of logical time."""
    stored = [np.asarray(each) for each in arrays]
    for each in stored:
        if each.dtype.kind not in _KINDS or each.nbytes > _LONGEST:
            raise CheckpointError(
                f"An array of a bucket's logical time must hold numbers, at most {_LONGEST:,} bytes. Got {each.nbytes:,} bytes of"
                f" {each.dtype} instead: close clocks, that is tick, before so much is pushed."
            )
    described = [{"dtype": each.dtype.str, "shape": each.shape, "data": each.tobytes()} for each in stored]
    return [msgspec.msgpack.encode({"header": header, "arrays": described})]


def _stream(names: list[str], columns: list[pa.Array], compression: str) -> list[Buffer]:
    batch = pa.RecordBatch.from_arrays(columns, names)
    sink = _Chunks()
    options = pa.ipc.IpcWriteOptions(compression=compression or None)
    with pa.ipc.new_stream(pa.PythonFile(sink, "w"), batch.schema, options=options) as writer:
        writer.write_batch(batch)
    return sink.taken()


class _Chunks:
    """What an Arrow writer writes, kept as it is: headers come as bytes, columns as buffers that hold on to their arrays."""

    closed = False

    def __init__(self) -> None:
        self._chunks: list[Buffer] = []
        self._small: list[bytes] = []
        self._size = 0

    def write(self, data: Buffer) -> int:
        """The next bytes."""
        if isinstance(data, bytes):
            self._small.append(data)
        else:
            self._flush_small()
            self._chunks.append(data)
        self._size += len(data)
        return len(data)

    def _flush_small(self) -> None:
        if self._small:
            self._chunks.append(b"".join(self._small))
            self._small = []

    def tell(self) -> int:
        """Bytes so far; Arrow aligns its buffers by it."""
        return self._size

    def flush(self) -> None:
        """Arrow asks for it; nothing is held back."""

    def close(self) -> None:
        """As `flush`."""

    def taken(self) -> list[Buffer]:
        """All that was written."""
        self._flush_small()
        return self._chunks


def _column(values: Array) -> pa.Array:
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), values.size, [None, pa.py_buffer(np.ascontiguousarray(values))])


def _lists(plane: Array, dim: int) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(_column(plane.reshape(-1)), dim)


# ---- from bytes ----------------------------------------------------------------------------------------------------------


def decode_table(spec: TableSpec, data: Buffer, rows: int, step: int, planes: int) -> TableRecord:
    """The record of a segment; its arrays are views of `data`, and cannot be written.

    Parameters
    ----------
    spec : TableSpec
    data : buffer
    rows, step : int
        As the manifest says.
    planes : int
        Rows and planes of state of the table: what a segment without bytes does not tell.

    Raises
    ------
    CheckpointDamaged
        It is not a segment of this table.
    """
    if not rows:
        return TableRecord(tuple(np.empty((0, spec.dim), dtype) for dtype in spec.plane_dtypes(planes)), step)
    return TableRecord(_planes(spec, _batch(data).columns, rows, planes), step)


def decode_changes(spec: TableSpec, data: Buffer, rows: int, step: int, planes: int) -> TableChange:
    """What a segment of changes holds; see `decode_table`."""
    if not rows:
        return TableChange(np.empty(0, np.int32), decode_table(spec, data, 0, step, planes))
    first, *columns = _batch(data).columns
    if first.type != pa.int32() or len(first) != rows:
        raise _not("changes of a table", f"{len(first)} times {first.type}, not {rows} slots")
    return TableChange(numbers(first), TableRecord(_planes(spec, columns, rows, planes), step))


def changed(base: TableRecord, change: TableChange) -> TableRecord:
    """A table with its changes.

    Raises
    ------
    CheckpointDamaged
        They lie over another one.
    """
    slots, count = change.slots, len(base.planes[0])
    come = int(np.searchsorted(slots, count))
    behind = np.arange(count, count + len(slots) - come)
    if len(slots) and (slots[0] < 0 or (np.diff(slots) <= 0).any() or not np.array_equal(slots[come:], behind)):
        raise _not("changes of a table", f"slots up to {slots[-1]} over {count} rows")
    planes = []
    for before, own in zip(base.planes, change.rows.planes, strict=True):
        plane = np.concatenate([before, own[come:]])
        plane[slots[:come]] = own[:come]
        planes.append(plane)
    return TableRecord(tuple(planes), change.rows.step)


def _planes(spec: TableSpec, columns: Sequence[pa.Array], rows: int, planes: int) -> tuple[Array, ...]:
    if len(columns) != planes:
        raise _not("a table", f"{len(columns)} planes instead of {planes}")
    found = []
    for column, dtype in zip(columns, spec.plane_dtypes(planes), strict=True):
        kind = column.type
        if not pa.types.is_fixed_size_list(kind) or kind.list_size != spec.dim or len(column) != rows:
            raise _not("a table", f"a column of {len(column)} times {kind}, not {rows} rows of {spec.dim}")
        found.append(_values(column.values, dtype).reshape(rows, spec.dim))
    return tuple(found)


def _values(values: pa.Array, dtype: str) -> Array:
    if values.type != pa.from_numpy_dtype(np.dtype(dtype)):
        raise _not("a table", f"values of {values.type}, not {dtype}")
    return numbers(values).view(dtype)


def decode_index(data: Buffer, rows: int) -> NDArray[np.int64]:
    """The keys of a segment: a view of `data`."""
    if not rows:
        return np.empty(0, np.int64)
    column = _batch(data).column(0)
    if column.type != pa.int64() or len(column) != rows:
        raise _not("an index", f"{len(column)} times {column.type}, not {rows} keys")
    return numbers(column)


def decode_logical(data: Buffer) -> tuple[Any, list[Array]]:
    """Header and arrays of a segment of logical time."""
    try:
        found = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _not("logical time", str(error)) from None
    return found.header, [_array(each) for each in found.arrays]


class _StoredArray(msgspec.Struct):
    dtype: str
    shape: tuple[int, ...]
    data: bytes


class _Logical(msgspec.Struct):
    header: Any
    arrays: list[_StoredArray]


#: Made once, while the module is imported by one thread: msgspec finds out at the first decoding what a class has, and a thread that
#: decodes at the same time would meet it half known, which ends the process.
_decoder = msgspec.msgpack.Decoder(_Logical)


def _array(stored: _StoredArray) -> Array:
    try:
        dtype = np.dtype(stored.dtype if _DTYPE.fullmatch(stored.dtype) else "O")
        if dtype.kind not in _KINDS or math.prod(stored.shape) * dtype.itemsize != len(stored.data):
            raise ValueError(f"{len(stored.data)} bytes of {dtype} in shape {stored.shape}")
        return np.frombuffer(stored.data, dtype).reshape(stored.shape)
    except (TypeError, ValueError) as error:
        raise _not("logical time", str(error)) from None


def _batch(data: Buffer) -> pa.RecordBatch:
    try:
        with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
            return reader.read_next_batch()
    except (pa.ArrowException, StopIteration, OSError) as error:
        raise _not("Arrow data", str(error)) from None


def _not(what: str, why: str) -> CheckpointDamaged:
    return CheckpointDamaged(f"A segment of a checkpoint must be {what} as it was written. Got {why}.", why=why)


__all__ = [
    "LOGICAL", "BucketRecord", "TableChange", "TableRecord", "changed", "decode_changes", "decode_index", "decode_logical",
    "decode_table", "encode_changes", "encode_index", "encode_logical", "encode_table", "index_segment", "table_segment",
]  # fmt: skip
