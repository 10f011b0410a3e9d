"""An operation on a sparse table: its keys come with it, or are a chunk of a key set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparkps.errors import InvalidInput
from sparkps.ps_nodes.tables.keysets import KeyChunk, KeySetMissing, NodeKeySet
from sparkps.ps_nodes.tables.sparse import SparseShards
from sparkps.ps_nodes.tables.targets import Array, check_values, turn_of
from sparkps.wire.buckets import bits_of
from sparkps.wire.encodings import Encoding, decoded, encoded, layout_of
from sparkps.wire.messages.data import NO_KEYSET, Op, OpCode

_INT64 = np.dtype(np.int64)

_WRITES = {OpCode.PUSH: SparseShards.push, OpCode.ADD: SparseShards.add, OpCode.ASSIGN: SparseShards.assign}


@dataclass(slots=True)
class SparseTarget:
    """A pull or write of the rows of some keys; see `targets.Target`."""

    code: OpCode
    table: SparseShards
    chunk: KeyChunk
    #: Of a write: (n, dim).
    values: Array | None
    #: How the rows of a pull are answered.
    encoding: Encoding = Encoding.PLAIN

    @classmethod
    def of(
        cls,
        code: OpCode,
        op: Op,
        table: SparseShards,
        arrays: Iterator[Array],
        keysets: Mapping[int, NodeKeySet],
        among: int,
        keep_keys: bool,
    ) -> SparseTarget:
        """An operation as it came, checked; see `operations.targets_of`.

        Raises
        ------
        InvalidInput, KeySetMissing
        StopIteration
            It has not brought its arrays.
        """
        if op.keyset == NO_KEYSET:
            chunk = KeyChunk(table.index, _checked_keys(next(arrays), table), among=among, keep_keys=keep_keys)
        else:
            keyset = keysets.get(op.keyset)
            found = keyset.chunks.get(op.start) if keyset is not None and keyset.index_id == table.spec.index else None
            if found is None or found.mask & ~among or not found.is_usable:
                raise KeySetMissing(op.keyset)
            chunk = found
        encoding = Encoding(op.encoding)
        if code == OpCode.PULL:
            return cls(code, table, chunk, None, encoding)
        return cls(code, table, chunk, _values(next(arrays), chunk.size, table, encoding))

    def shipped(self) -> tuple[Op, list[Array]]:
        """See `Target`."""
        assert self.values is not None
        return Op(self.code, self.table.spec.table), [self.chunk.shipped_keys(), self.values]

    @staticmethod
    def rows_asked(op: Op, table: SparseShards, arrays: Sequence[Array], keysets: Mapping[int, NodeKeySet], among: int) -> int:
        """Rows that a pull which is not checked yet asks for, at most."""
        if op.keyset == NO_KEYSET:
            return max([len(array) for array in arrays if array.ndim], default=0)
        keyset = keysets.get(op.keyset)
        chunk = keyset.chunks.get(op.start) if keyset is not None else None
        return chunk.size if chunk is not None else 0

    @property
    def size(self) -> int:
        """Keys."""
        return self.chunk.size

    @property
    def mask(self) -> int:
        """See `Target`."""
        return self.chunk.mask

    @property
    def nbytes(self) -> int:
        """See `Target`."""
        assert self.values is not None
        keys = None if self.chunk.registered else self.chunk.keys
        return self.values.nbytes + (0 if keys is None else keys.nbytes)

    @property
    def tables(self) -> list[SparseShards]:
        """See `Target`."""
        return [self.table]

    @property
    def changed(self) -> list[int]:
        """See `Target`."""
        return [self.table.order]

    @property
    def turn(self) -> tuple[int, int]:
        """See `Target`."""
        return turn_of(self.table, self.code)

    def read(self) -> Array:
        """See `Target`."""
        slots, keys = self.chunk.for_reading()
        return encoded(self.table.gather(keys, slots, self.chunk.runs), self.encoding)

    def write(self) -> None:
        """See `Target`."""
        assert self.values is not None
        _WRITES[self.code](self.table, self.chunk.for_writing(), self.chunk.runs, self.values)

    def only(self, buckets: int) -> list[SparseTarget]:
        """See `Target`."""
        if buckets == self.mask:
            return [self]
        assert self.values is not None
        kept = np.repeat(bits_of(buckets)[self.chunk.runs[0]], np.diff(self.chunk.runs[1]))
        return [SparseTarget(self.code, self.table, self.chunk.only(kept), np.ascontiguousarray(self.values[kept]))]

    def announce(self) -> None:
        """See `Target`."""
        self.chunk.announce()

    def prepare(self) -> None:
        """See `Target`."""
        self.chunk.for_writing()

    @staticmethod
    def write_sum(targets: Sequence[SparseTarget], clock: int) -> None:
        """See `Target`."""
        parts = [(t.chunk.for_writing(), t.chunk.runs, t.values) for t in targets if t.values is not None]
        targets[0].table.apply_sum(parts, targets[0].code, clock)


def _values(array: Array, count: int, table: SparseShards, encoding: Encoding) -> Array:
    """What a write carries, of the table's dtype (n, dim): from here on nothing knows how it came."""
    dim = table.spec.dim
    if encoding == Encoding.PLAIN:
        return check_values(array, (count, dim), table)
    dtype, shape = layout_of(encoding, count, dim)
    return decoded(check_values(array, shape, table, dtype), encoding)


def _checked_keys(keys: Array, table: SparseShards) -> NDArray[np.int64]:
    if keys.dtype != _INT64 or keys.ndim != 1:
        name = table.spec.name
        raise InvalidInput(
            f"The keys of table {name!r} must be int64 of shape (n,). Got {keys.dtype} of shape {keys.shape}.", table=name
        )
    return keys
