"""What one operation of a step is, once it was checked against its table: it cannot be refused any more.

`sparse_target` and `dense_target` are the two kinds; this is what they have in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sparkps.errors import InvalidInput
from sparkps.ps_nodes.tables.keysets import KeyChunk
from sparkps.specs import TableSpec
from sparkps.wire.messages.data import Op, OpCode

Array = NDArray[Any]

#: In which order the sums of a clock are written to a table.
_ORDER = {OpCode.ASSIGN: 0, OpCode.ADD: 1, OpCode.PUSH: 2}


class TableShards(Protocol):
    """What both kinds of tables have, as far as an operation on them needs it."""

    spec: TableSpec
    order: int
    dtype: np.dtype[Any]
    #: Bytes of one row, or element, as it comes and goes; and of one with its optimizer's state, as it lies.
    row_bytes: int
    key_bytes: int


class Target(Protocol):
    """One operation on one table."""

    @property
    def table(self) -> Any:
        """The table."""

    #: Of a write: what it carries; None for a pull.
    values: Array | None

    @property
    def size(self) -> int:
        """Keys, or elements of a dense table."""

    @property
    def chunk(self) -> KeyChunk | None:
        """Its keys, some of which may be new; None: a dense table's elements are all there."""

    @property
    def mask(self) -> int:
        """Buckets of this node that it touches, as bits."""

    @property
    def nbytes(self) -> int:
        """Bytes that a write keeps while it is buffered."""

    @property
    def tables(self) -> Sequence[Any]:
        """The table, as a list."""

    @property
    def changed(self) -> Sequence[int]:
        """Number in whose order a write changes the table (`SparseShards.order`), as a list."""

    @property
    def turn(self) -> tuple[int, int]:
        """Writes of one clock with the same turn become one change (`write_sum`); turns ascend."""

    def read(self) -> Array:
        """The rows of a pull."""

    def write(self) -> None:
        """Apply at once: a push, add or assign outside BSP."""

    def only(self, buckets: int) -> Sequence[Target]:
        """The same write in those of its buckets that are among `buckets` (bits)."""

    def shipped(self) -> tuple[Op, list[Array]]:
        """A write as an operation with its arrays, for other nodes: keys and values; `mask` goes beside it, as `among` there."""

    def announce(self) -> None:
        """It is kept, or waits: new rows that it will make are counted from now on, whether there is room or not."""

    def prepare(self) -> None:
        """Find or make the rows of a write: what needs memory is done before anything is changed."""

    @staticmethod
    def write_sum(targets: Sequence[Any], clock: int) -> None:
        """Apply writes of one turn once: their sum, in the order given (of assigns the last value of a row stays)."""


def turn_of(table: TableShards, code: OpCode) -> tuple[int, int]:
    """See `Target.turn`: table by table, the assigns, then the adds, then the gradients."""
    return table.spec.table, _ORDER[code]


def check_values(values: Array, shape: tuple[int, ...], table: TableShards, dtype: np.dtype[Any] | None = None) -> Array:
    """What a write of that shape, and dtype where it is not the table's, carries.

    Raises
    ------
    InvalidInput
        Another dtype or shape.
    """
    dtype = table.dtype if dtype is None else dtype
    if values.dtype != dtype or values.shape != shape:
        name = table.spec.name
        raise InvalidInput(
            f"The values for table {name!r} must be {dtype} of shape {shape}. Got {values.dtype} of shape {values.shape}.",
            table=name,
        )
    return values
