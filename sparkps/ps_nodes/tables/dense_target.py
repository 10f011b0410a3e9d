"""An operation on a dense table: it covers a range of buckets, as far as its sender means this node with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sparkps.errors import InvalidInput, ProtocolError
from sparkps.ps_nodes.tables.dense import DenseShards
from sparkps.ps_nodes.tables.keysets import NodeKeySet
from sparkps.ps_nodes.tables.targets import Array, check_values, turn_of
from sparkps.specs import NUM_BUCKETS
from sparkps.wire.buckets import bits_of, buckets_in
from sparkps.wire.messages.data import Op, OpCode

_WRITES = {OpCode.PUSH: DenseShards.push, OpCode.ADD: DenseShards.add, OpCode.ASSIGN: DenseShards.assign}


@dataclass(slots=True)
class DenseTarget:
    """A pull or write of the elements of some buckets; see `targets.Target`."""

    code: OpCode
    table: DenseShards
    #: Buckets whose elements it reads or writes, as bits: none without elements.
    mask: int
    #: Of a write: flat, the elements of these buckets in ascending order.
    values: Array | None

    @classmethod
    def of(
        cls,
        code: OpCode,
        op: Op,
        table: DenseShards,
        arrays: Iterator[Array],
        keysets: Mapping[int, NodeKeySet],
        among: int,
        keep_keys: bool,
    ) -> DenseTarget:
        """An operation as it came, checked; see `operations.targets_of`.

        Raises
        ------
        InvalidInput, ProtocolError
        StopIteration
            It has not brought its arrays.
        """
        if not 0 <= op.start < op.stop <= NUM_BUCKETS:
            raise ProtocolError(
                f"A bucket range must lie in [0, {NUM_BUCKETS}]. Got [{op.start}, {op.stop}).", table=table.spec.name
            )
        mask = table.filled_in(op.start, op.stop, among)
        if mask & ~table.held:
            away = list(buckets_in(mask & ~table.held))
            raise InvalidInput(f"Buckets must be on the node that they are sent to. Got {away}.", table=table.spec.name)
        pull, shape = code == OpCode.PULL, (table.elements(mask),)
        return cls(code, table, mask, None if pull else check_values(next(arrays), shape, table))

    def shipped(self) -> tuple[Op, list[Array]]:
        """See `Target`."""
        assert self.values is not None
        start, stop = (self.mask & -self.mask).bit_length() - 1, self.mask.bit_length()
        return Op(self.code, self.table.spec.table, start=max(start, 0), stop=max(stop, 1)), [self.values]

    @staticmethod
    def rows_asked(op: Op, table: DenseShards, arrays: Sequence[Array], keysets: Mapping[int, NodeKeySet], among: int) -> int:
        """Elements that a pull which is not checked yet asks for."""
        there = 0 <= op.start < op.stop <= NUM_BUCKETS
        return table.elements(table.filled_in(op.start, op.stop, among)) if there else 0

    @property
    def size(self) -> int:
        """Elements."""
        return self.table.elements(self.mask)

    @property
    def nbytes(self) -> int:
        """See `Target`."""
        assert self.values is not None
        return self.values.nbytes

    @property
    def tables(self) -> list[DenseShards]:
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

    @property
    def chunk(self) -> None:
        """See `Target`."""
        return None

    def read(self) -> Array:
        """See `Target`."""
        return self.table.gather(self.mask)

    def write(self) -> None:
        """See `Target`."""
        assert self.values is not None
        _WRITES[self.code](self.table, self.mask, self.values)

    def only(self, buckets: int) -> list[DenseTarget]:
        """See `Target`."""
        if buckets == self.mask:
            return [self]
        assert self.values is not None
        numbers, offsets = self.table.runs(self.mask)
        kept = np.repeat(bits_of(buckets)[numbers], np.diff(offsets))
        return [DenseTarget(self.code, self.table, buckets, self.values[kept])]

    def announce(self) -> None:
        """Nothing: all elements are there."""

    def prepare(self) -> None:
        """Nothing: all elements are there."""

    @staticmethod
    def write_sum(targets: Sequence[DenseTarget], clock: int) -> None:
        """See `Target`."""
        parts = [(t.mask, t.values) for t in targets if t.values is not None]
        targets[0].table.apply_sum(parts, targets[0].code, clock)
