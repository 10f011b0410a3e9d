"""One operation on one table at one node, small enough for one request: the unit that a session packs and sends.

A call on a table becomes items, each for one node and at most about `chunk_bytes` long, cut at bucket borders. Items know
their arrays on the wire, where an answer goes, and how to become other items when the placement has changed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.client.grouping import Grouping
from sparkps.client.routing import Routing
from sparkps.errors import ProtocolError
from sparkps.specs import NUM_BUCKETS, TableSpec
from sparkps.wire import encodings
from sparkps.wire.encodings import Encoding
from sparkps.wire.hashing import buckets_of
from sparkps.wire.messages.data import NO_KEYSET, Op, OpCode
from sparkps.wire.placement import dense_range

Array = NDArray[Any]

#: Pieces of a large call, at least, and the bytes below which cutting costs more than it brings.
PIECES, SMALLEST_PIECE = 4, 1 << 18


@dataclass(frozen=True, slots=True)
class Span:
    """The distinct keys [begin, end) of a grouping with a `source`."""

    grouping: Grouping
    begin: int
    end: int


@dataclass(slots=True)
class Item:
    """One `Op` with its arrays."""

    node: int
    spec: TableSpec
    op: Op
    #: Keys of a sparse table (also those that a key set stands for), grouped by bucket; None for a dense one.
    keys: Array | None
    #: What a write carries; None for a pull.
    values: Array | None
    #: Where the rows of a pull go: a view, or with `span` the rows of a whole call, of which these keys have theirs; None: the
    #: answer's own array is kept in `answer`.
    out: Array | None
    span: Span | None = None
    #: The rows of a pull, as they came.
    answer: Array | None = None
    #: Of the placement that it was cut by.
    epoch: int = 0

    @property
    def size(self) -> int:
        """Keys, or elements of a dense table."""
        if self.keys is not None:
            return len(self.keys)
        return dense_range(self.spec.size, self.op.stop - 1)[1] - dense_range(self.spec.size, self.op.start)[0]

    @property
    def up(self) -> int:
        """Bytes on the way to the node."""
        return sum(array.nbytes for array in self.arrays())

    @property
    def down(self) -> int:
        """Bytes on the way back."""
        if self.values is not None:
            return 0
        return self.size * encodings.row_bytes(Encoding(self.op.encoding), self.spec.dim, row_bytes(self.spec))

    def arrays(self) -> list[Array]:
        """What goes on the wire, in the order that `Op` says."""
        arrays = [] if self.keys is None or self.op.keyset != NO_KEYSET else [self.keys]
        return arrays if self.values is None else [*arrays, self.values]

    def deliver(self, rows: Array) -> None:
        """Take the answer of a pull.

        Raises
        ------
        ProtocolError
            It is not written as it was asked for.
        """
        self._check(rows)
        if self.op.encoding:
            rows = encodings.decoded(rows, Encoding(self.op.encoding))
        if self.out is None:
            self.answer = rows
        elif self.span is not None:
            self.span.grouping.deliver(rows, self.span.begin, self.span.end, self.out)
        else:
            self.out[...] = rows.reshape(self.out.shape)

    def _check(self, rows: Array) -> None:
        """Whether rows are as many, and written, as they were asked for: kernels that move them look at nothing."""
        encoding, dtype = self.op.encoding, np.dtype(self.spec.dtype)
        shape: tuple[int, ...] = (self.size,) if self.keys is None else (self.size, self.spec.dim)
        if encoding:
            dtype, shape = encodings.layout_of(Encoding(encoding), self.size, self.spec.dim)
        if rows.dtype != dtype or rows.shape != shape:
            raise ProtocolError(
                f"The rows of table {self.spec.name!r} must come as {Encoding(encoding).name}, {dtype} of shape {shape}. Got {rows.dtype}"
                f" of {rows.shape}.",
                table=self.spec.name,
            )

    def reroute(self, routing: Routing) -> Iterator[Item]:
        """The same work by another placement, with the keys on the wire."""
        if self.out is None and self.values is None:
            self.out = self.answer = np.empty((self.size, self.spec.dim), self.spec.dtype)
        if self.keys is None:
            yield from self._reroute_dense(routing)
            return
        buckets = buckets_of(self.keys)
        borders = [0, *(np.flatnonzero(np.diff(buckets)) + 1).tolist(), len(buckets)]
        op = Op(self.op.code, self.spec.table, encoding=self.op.encoding)
        for a, b in itertools.pairwise(borders):
            if b > a:
                part = Item(routing.primaries[buckets[a]], self.spec, op, self.keys[a:b], *self._part(a, b))
                part.epoch = routing.epoch
                if self.span is not None:
                    begin = self.span.begin
                    part.out, part.span = self.out, Span(self.span.grouping, begin + a, begin + b)
                yield part

    def _reroute_dense(self, routing: Routing) -> Iterator[Item]:
        base = dense_range(self.spec.size, self.op.start)[0]
        for node, start, stop in routing.bucket_runs(NUM_BUCKETS, self.op.start, self.op.stop):
            first, last = dense_range(self.spec.size, start)[0], dense_range(self.spec.size, stop - 1)[1]
            if last > first:
                op = Op(self.op.code, self.spec.table, start=start, stop=stop)
                yield Item(node, self.spec, op, None, *self._part(first - base, last - base), epoch=routing.epoch)

    def _part(self, a: int, b: int) -> tuple[Array | None, Array | None]:
        return (None if self.values is None else self.values[a:b]), (None if self.out is None else self.out[a:b])


def row_bytes(spec: TableSpec) -> int:
    """Bytes of one row."""
    return spec.dim * np.dtype(spec.dtype).itemsize


def keys_per_piece(spec: TableSpec, count: int, chunk_bytes: int) -> int:
    """Keys of one piece of a call of `count` keys: their request and their rows are each at most about `chunk_bytes`.

    A call of some size is cut into `PIECES` at least, so that the node works on the first while the others are on their way.
    """
    row = row_bytes(spec)
    limit = min(chunk_bytes, max(SMALLEST_PIECE, count * (8 + row) // PIECES))
    return max(1, limit // max(8, row))


def cut(offsets: NDArray[np.int64], span: tuple[int, int], most: int) -> Iterator[tuple[int, int]]:
    """Pieces of at most `most` keys (more only if one bucket has more), cut at bucket borders.

    Parameters
    ----------
    offsets : ndarray of shape (NUM_BUCKETS + 1,), int64
        ``offsets[p]`` is the first key of the bucket at position p of the node-major order.
    span : tuple of int
        The positions of one node, [first, last).
    most : int
        Keys.

    Yields
    ------
    tuple of int
        First and last key of a piece that is not empty.

    Examples
    --------
    >>> list(cut(np.array([0, 3, 4, 9, 9, 12]), (0, 5), 6))
    [(0, 4), (4, 9), (9, 12)]
    """
    first, last = span
    begin, end = int(offsets[first]), int(offsets[last])
    mine = offsets[first : last + 1]
    while end - begin > most:
        stop = int(mine[int(np.searchsorted(mine, begin + most, side="right")) - 1])
        if stop <= begin:  # one bucket alone is larger
            stop = int(mine[int(np.searchsorted(mine, begin, side="right"))])
        yield begin, stop
        begin = stop
    if end > begin:
        yield begin, end


def sparse_items(
    routing: Routing,
    spec: TableSpec,
    code: OpCode,
    grouping: Grouping,
    values: Array | None,
    out: Array | None,
    most: int,
    encoding: Encoding = Encoding.PLAIN,
) -> Iterator[Item]:
    """Items of a call whose keys are on the wire.

    Parameters
    ----------
    values : ndarray of shape (n or u, dim), or None
        Of a write: what `Grouping.combine` gave, in that `encoding`. Each item takes its part when it is asked for, not before: the first
        are on their way while the last are prepared.
    out : ndarray of shape (n or u, dim), or None
        Of a pull: the rows of the call where the grouping has a `source`, those of its distinct keys otherwise.
    """
    op = Op(code, spec.table, encoding=encoding)
    for node, span in routing.spans:
        for a, b in cut(grouping.offsets, span, most):
            yield sparse_item(node, spec, op, grouping, values, out, a, b, routing.epoch)


def sparse_item(
    node: int,
    spec: TableSpec,
    op: Op,
    grouping: Grouping,
    values: Array | None,
    out: Array | None,
    a: int,
    b: int,
    epoch: int,
) -> Item:
    """The item for the distinct keys [a, b); see `sparse_items`."""
    part = None if values is None else grouping.piece(values, a, b)
    if out is None or grouping.source is None:
        return Item(node, spec, op, grouping.keys[a:b], part, None if out is None else out[a:b], epoch=epoch)
    return Item(node, spec, op, grouping.keys[a:b], part, out, Span(grouping, a, b), epoch=epoch)


def dense_items(
    routing: Routing, spec: TableSpec, code: OpCode, values: Array | None, out: Array | None, chunk_bytes: int
) -> Iterator[Item]:
    """Items of a call on a dense table; `values` and `out` are flat, of all elements."""
    most = max(1, chunk_bytes // max(1, spec.size * row_bytes(spec) // NUM_BUCKETS))
    for node, start, stop in routing.bucket_runs(most):
        first, last = dense_range(spec.size, start)[0], dense_range(spec.size, stop - 1)[1]
        if last > first:
            part = (None if values is None else values[first:last]), (None if out is None else out[first:last])
            yield Item(node, spec, Op(code, spec.table, start=start, stop=stop), None, *part, epoch=routing.epoch)


def pack(items: Iterable[Item], chunk_bytes: int) -> Iterator[tuple[int, list[Item]]]:
    """Puts items of one node together: one request for as many as fit in `chunk_bytes`."""
    waiting: dict[int, tuple[list[Item], int]] = {}
    for item in items:
        size = max(item.up, item.down)
        have, weight = waiting.get(item.node, ([], 0))
        if have and weight + size > chunk_bytes:
            yield item.node, have
            have, weight = [], 0
        have.append(item)
        waiting[item.node] = have, weight + size
    for node, (have, _) in waiting.items():
        yield node, have
