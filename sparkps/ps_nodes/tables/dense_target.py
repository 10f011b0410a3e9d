"""An operation on a dense table: it covers a range of buckets, as far as this node has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sparkps.errors import ProtocolError
from sparkps.ps_nodes.tables.dense import DenseShards
from sparkps.ps_nodes.tables.keysets import NodeKeySet
from sparkps.ps_nodes.tables.targets import Array, check_values, turn_of
from sparkps.specs import NUM_BUCKETS
from sparkps.wire.buckets import buckets_in
from sparkps.wire.messages.data import Op, OpCode

_WRITES = {OpCode.PUSH: DenseShards.push, OpCode.ADD: DenseShards.add, OpCode.ASSIGN: DenseShards.assign}


@dataclass(slots=True)
class DenseTarget:
    """A pull or write of the elements of some buckets; see `targets.Target`."""

    code: OpCode
    table: DenseShards
    #: First bucket of the range, and the one past its last.
    start: int
    stop: int
    #: Of a write: flat.
    values: Array | None

    @classmethod
    def of(
        cls, code: OpCode, op: Op, table: DenseShards, arrays: Iterator[Array], keysets: Mapping[int, NodeKeySet]
    ) -> DenseTarget:
        """An operation as it came, checked.

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
        pull, shape = code == OpCode.PULL, (table.elements(op.start, op.stop),)
        return cls(code, table, op.start, op.stop, None if pull else check_values(next(arrays), shape, table))

    @staticmethod
    def rows_asked(op: Op, table: DenseShards, arrays: Sequence[Array], keysets: Mapping[int, NodeKeySet]) -> int:
        """Elements that a pull which is not checked yet asks for."""
        return table.elements(op.start, op.stop) if 0 <= op.start < op.stop <= NUM_BUCKETS else 0

    @property
    def size(self) -> int:
        """Elements."""
        return self.table.elements(self.start, self.stop)

    @property
    def mask(self) -> int:
        """See `Target`."""
        return self.table.mask_in(self.start, self.stop)

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
        return [self.table.spec.table]

    @property
    def turn(self) -> tuple[int, int]:
        """See `Target`."""
        return turn_of(self.table, self.code)

    def read(self) -> Array:
        """See `Target`."""
        return self.table.gather(self.start, self.stop)

    def write(self) -> None:
        """See `Target`."""
        assert self.values is not None
        _WRITES[self.code](self.table, self.start, self.stop, self.values)

    def only(self, buckets: int) -> list[DenseTarget]:
        """See `Target`: one target a bucket."""
        if buckets == self.mask:
            return [self]
        assert self.values is not None
        targets, at = [], 0
        for bucket in buckets_in(self.mask):
            size = self.table.elements(bucket, bucket + 1)
            if buckets >> bucket & 1:
                targets.append(DenseTarget(self.code, self.table, bucket, bucket + 1, self.values[at : at + size]))
            at += size
        return targets

    def prepare(self) -> None:
        """Nothing: all elements are there."""

    @staticmethod
    def write_sum(targets: Sequence[DenseTarget], clock: int) -> None:
        """See `Target`."""
        parts = [(t.start, t.stop, t.values) for t in targets if t.values is not None]
        targets[0].table.apply_sum(parts, targets[0].code, clock)
