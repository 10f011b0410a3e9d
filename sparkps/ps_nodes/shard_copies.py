"""What a user's function gets of a table, and what becomes of what it writes.

A function works on copies. The rows of a bucket in all tables of a call are copied at one moment, under the bucket's lock, so
that keys and rows always agree, and no lock is held while user code runs. What the function has changed is found by comparing
bytes and kept aside; the tables change when the function has succeeded on all buckets, or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.errors import DeadlineExceeded, FunctionFailed, InvalidInput, ProtocolError
from sparkps.kernels import rows, vectors
from sparkps.kernels.compiled import words_of
from sparkps.ps_nodes.tables.directory import Table
from sparkps.ps_nodes.user_functions import past_deadline, raised
from sparkps.wire.codec import DTYPES, MAX_DIMENSIONS
from sparkps.wire.functions import MAX_ANSWER_BYTES

Buckets = NDArray[np.int32]

#: Room for rows that come while a bucket's copy is made ready.
_SPARE = 64


class Shard:
    """One bucket of the tables of a call, as a user's function sees it: keys and rows of one moment.

    Parameters
    ----------
    bucket : int
    tables : sequence of tables
        Each once; the first is the one that was called.
    read_only : bool
        Whether the function may not write rows.
    """

    def __init__(self, bucket: int, tables: Sequence[Table], read_only: bool) -> None:
        #: Number of the bucket.
        self.bucket = bucket
        self._read_only = read_only
        self._table_of = {table.spec.name: table for table in tables}
        self._first = tables[0].spec.name
        #: Rows as they were; never written.
        self._before = dict(zip(self._table_of, copy_rows(bucket, tables), strict=True))
        #: Copies that the function may write, of the tables whose rows it has asked for.
        self._after: dict[str, NDArray[Any]] = {}
        count = len(self._before[self._first])
        self._keys = tables[0].keys_of(bucket)[:count]  # slots never move: what came later is behind
        self._keys.flags.writeable = False

    @property
    def keys(self) -> NDArray[np.int64]:
        """Keys of the bucket's rows (of a dense table: positions): ndarray of shape (count,), int64."""
        return self._keys

    def rows(self, table: str | None = None) -> NDArray[Any]:
        """Rows of a table of the call, by default of the one that was called.

        Parameters
        ----------
        table : str, optional

        Returns
        -------
        ndarray of shape (count, dim)
            A copy. What the function writes into it in place is written to the table when the function has returned on all
            buckets. For a rank of a worker group it cannot be written.
        """
        name = self._first if table is None else table
        if name not in self._table_of:
            raise InvalidInput(
                f"A server function may read the tables of its call only, {sorted(self._table_of)}. Got {table!r}; name it in `tables`."
            )
        if self._read_only:
            return self._before[name][:]
        if name not in self._after:
            self._after[name] = self._before[name].copy()
        return self._after[name][:]

    def changes(self) -> list[Change]:
        """The rows that the function has changed."""
        found = []
        for name, after in self._after.items():
            bits = np.dtype(f"u{after.itemsize}")  # as bytes: NaN equals itself, and -0.0 is not 0.0
            differ = after.view(bits) != self._before[name].view(bits)
            if differ.any():
                slots = np.flatnonzero(differ.any(axis=1)).astype(np.int32)
                found.append(Change(self._table_of[name], self.bucket, slots, after[slots]))
        return found


@dataclass(frozen=True)
class Change:
    """Rows of one table in one bucket that a function has changed."""

    table: Table
    bucket: int
    #: Ascending: ndarray of shape (n,), int32; of a dense table places in the bucket.
    slots: NDArray[np.int32]
    #: ndarray of shape (n, dim).
    values: NDArray[Any]


@dataclass(frozen=True)
class Outcome:
    """What a user's function gave, before any table has changed."""

    #: The answer: buckets (int32), and the partials of the buckets, stacked.
    arrays: list[NDArray[Any]]
    #: Ascending by bucket; one for each table and bucket in which a row differs.
    changes: list[Change]

    def commit(self) -> None:
        """Write what the function changed. The caller has held the buckets against other writers since before it began."""
        for table in {id(change.table): change.table for change in self.changes}.values():
            _write(table, [change for change in self.changes if change.table is table])


def compute(
    name: str,
    function: Callable[..., Any],
    args: Mapping[str, Any],
    tables: Sequence[Table],
    buckets: Buckets,
    read_only: bool,
) -> Outcome:
    """Run a user's function on one bucket after the other; no table changes.

    Parameters
    ----------
    name : str
        Of the function, for messages.
    function : callable
        ``function(shard, **args)``, giving a number, an array of one shape for all buckets, or None.
    args : mapping
    tables : sequence of tables
        Each once; the first is the one that was called.
    buckets : ndarray of shape (b,), int32
    read_only : bool
        Whether the function may not write rows.

    Raises
    ------
    FunctionFailed
        The function raised, or gave what cannot be answered.
    DeadlineExceeded
        Nobody waits for it any more (`user_functions.past_deadline`).
    """
    partials: list[NDArray[Any] | None] = []
    changes: list[Change] = []
    for bucket in buckets.tolist():
        if past_deadline():
            raise DeadlineExceeded(f"Function {name!r} must return in time. It got to bucket {bucket}.", function=name)
        shard = Shard(bucket, tables, read_only)
        try:
            partial = function(shard, **args)
            partials.append(None if partial is None else _partial(name, partial, len(buckets)))
        except BaseException as error:
            raise _failure(name, error, shard, tables[0].spec.name, read_only) from error
        changes += shard.changes()
    return Outcome([buckets, _stacked(name, partials)], changes)


def copy_rows(bucket: int, tables: Sequence[Table]) -> list[NDArray[Any]]:
    """Rows of tables in one bucket at one moment: read-only ndarrays of shape (count, dim), one count for all."""
    first = tables[0]
    # Dense tables have a lock each; everybody takes several in this order.
    locks = np.unique(np.array([table.lock_heads.ctypes.data for table in tables], np.int64))
    described = np.array([[table.heads.ctypes.data, table.spec.dim * table.plane_dtypes[0].itemsize] for table in tables], np.int64)
    most = int(first.sizes(np.array([bucket], np.int32))[0]) // first.spec.dim
    while True:
        copies = [np.empty((most, table.spec.dim), table.plane_dtypes[0]) for table in tables]
        targets = np.array([copy.ctypes.data for copy in copies], np.int64)
        count = vectors.copy_bucket(described, locks, bucket, most, targets)
        if count <= most:
            break
        most = count + count // 8 + _SPARE
    found = [table.values_of(copy) for table, copy in zip(tables, copies, strict=True)]
    for each in found:
        each.flags.writeable = False
    return [each[:count] for each in found]


def checked_rows(table: Table, slots: NDArray[Any], values: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[Any]]:
    """Slots and rows of a change that another node has sent, if they can be one of this table; where the slots are, `check_slots` says.

    Raises
    ------
    ProtocolError
    """
    expected = np.dtype(table.dtype), (len(slots) if slots.ndim == 1 else -1, table.spec.dim)
    if slots.dtype != np.int32 or slots.ndim != 1 or (values.dtype, values.shape) != expected or (np.diff(slots) <= 0).any():
        raise ProtocolError(
            f"Changed rows of table {table.spec.name!r} must be ascending int32 slots and as many rows of {table.spec.dim} {table.dtype}."
            f" Got {slots.dtype} of shape {slots.shape} and {values.dtype} of shape {values.shape}.",
            table=table.spec.name,
        )
    return slots, values


def check_slots(changes: Sequence[Change]) -> None:
    """Whether all slots of some changes are there; when it is their turn, for rows may have come before.

    Raises
    ------
    ProtocolError
    """
    for change in changes:
        there = int(change.table.sizes(np.array([change.bucket], np.int32))[0]) // change.table.spec.dim
        if len(change.slots) and not 0 <= int(change.slots[0]) <= int(change.slots[-1]) < there:
            raise ProtocolError(
                f"Changed rows must be in slots [0, {there}) of bucket {change.bucket}. Got {int(change.slots[0])} to"
                f" {int(change.slots[-1])}.",
                table=change.table.spec.name,
                bucket=change.bucket,
            )


def _write(table: Table, changes: Sequence[Change]) -> None:
    """Write rows of one table, in one kernel call for all buckets; FTRL goes on from them."""
    buckets = np.array([change.bucket for change in changes], np.int32)
    offsets = np.cumsum([0, *(len(change.slots) for change in changes)]).astype(np.int64)
    slots = np.concatenate([change.slots for change in changes])
    values = np.concatenate([change.values for change in changes])
    where = table.heads, table.lock_heads, buckets, offsets, slots
    words = words_of(table.spec.stored)
    table.changing_rows(slots, (buckets, offsets))
    rows.scatter.of(table.spec.stored)(*where, values, 0, words)
    if table.rule.dual:  # of the rows that were written only: a row that is 0 may have a dual that is not
        kernel = rows.rebase_duals.of(table.spec.stored)
        kernel(*where, table.steps.at(buckets), table.spec.dim, values[:0].reshape(-1), words)


# ---- results -----------------------------------------------------------------------------------------------------------


def _partial(name: str, given: Any, buckets: int) -> NDArray[Any]:
    """What a function gave for one bucket as an array of its own that can be sent; bools and small ints as int64."""
    array = np.asarray(given)
    if array.dtype not in DTYPES.values() and array.dtype.kind in "biuf" and array.dtype.itemsize <= 8:
        array = array.astype(np.float64 if array.dtype.kind == "f" or array.dtype == np.uint64 else np.int64)
    if array.dtype not in DTYPES.values() or array.ndim >= MAX_DIMENSIONS:
        raise FunctionFailed(
            f"Function {name!r} must return numbers, or arrays of numbers with fewer than {MAX_DIMENSIONS} dimensions. Got"
            f" {type(given).__name__} of dtype {str(array.dtype)[:80]} and {array.ndim} dimensions.",
            function=name,
        )
    if array.nbytes * buckets > MAX_ANSWER_BYTES:
        raise FunctionFailed(
            f"Function {name!r} must return at most {MAX_ANSWER_BYTES // buckets} bytes for each of {buckets} buckets. Got"
            f" {array.nbytes}; return less, or read the rows with `export` or `pull`.",
            function=name,
        )
    return array.copy()


def _stacked(name: str, partials: Sequence[NDArray[Any] | None]) -> NDArray[Any]:
    """One array for all buckets; zeros if the function gave nothing."""
    given = [partial for partial in partials if partial is not None]
    if not given:
        return np.zeros(len(partials))
    if len(given) != len(partials) or len({(each.shape, each.dtype) for each in given}) > 1:
        raise FunctionFailed(
            f"Function {name!r} must return numbers or arrays of one shape and dtype, on every bucket or on none.",
            function=name,
        )
    return np.stack(given)


def _failure(name: str, error: BaseException, shard: Shard, table: str, read_only: bool) -> FunctionFailed:
    where = f" on bucket {shard.bucket}"
    failed = error if isinstance(error, FunctionFailed) else raised(name, error, where)
    if read_only and isinstance(error, ValueError) and "read-only" in failed.message:
        failed = FunctionFailed(
            f"Function {name!r} must only read rows where a rank of a worker group calls it: what it changes could not be counted"
            f" once if the rank is lost. It wrote{where}. Write with `push`, `add` or `assign`, or call it from the driver."
        )
    failed.attributes.update(function=name, table=table, bucket=shard.bucket)
    return failed
