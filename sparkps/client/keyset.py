"""Key sets: keys that the nodes know already, so that pulls and pushes carry values alone.

The *key caching* of Li et al., Scaling Distributed Machine Learning with the Parameter Server (OSDI 2014), section 5.1, with
the keys resolved to slots at the node.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike, NDArray

from sparkps.client.futures import Future
from sparkps.client.grouping import Grouping
from sparkps.client.items import Item, cut, keys_per_piece, sparse_item
from sparkps.client.session import Session
from sparkps.specs import TableSpec
from sparkps.wire import messages as m
from sparkps.wire.messages import Op, OpCode

if TYPE_CHECKING:
    from sparkps.client.tables import SparseTable

_next_id = itertools.count(secrets.randbits(40))

Array = NDArray[Any]


class Registration:
    """A key set as one session has registered it under one placement."""

    def __init__(self, session: Session, grouping: Grouping, spec: TableSpec, keyset: int) -> None:
        self.epoch = session.routing.epoch
        self.keyset = keyset
        self.grouping = grouping
        #: Chunks: node, first and last key in node-major order, and `Register.start`, the place within the node.
        self.chunks: list[tuple[int, int, int, int]] = []
        #: Nodes that hold it.
        self.nodes: set[int] = set()
        most = keys_per_piece(spec, len(grouping.keys), session.settings.chunk_bytes)
        for node, span in session.routing.spans:
            base = int(grouping.offsets[span[0]])
            for a, b in cut(grouping.offsets, span, most):
                self.chunks.append((node, a, b, a - base))

    def send(self, session: Session, spec: TableSpec) -> None:
        """Make the key set known to the nodes that do not hold it, and wait for their answer."""
        future: Future[None] = Future(
            session, f"registration of {len(self.grouping.keys)} keys of table {spec.name!r}", lambda: None
        )
        totals: dict[int, int] = {}
        for node, a, b, _ in self.chunks:
            totals[node] = totals.get(node, 0) + b - a
        missing = set(totals) - self.nodes
        for node, a, b, start in self.chunks:
            if node in missing:
                keys = self.grouping.keys[a:b]

                def make(
                    s: int, q: int, acked: int, epoch: int, start: int = start, total: int = totals[node]
                ) -> m.Message:
                    return m.Register(s, q, acked, epoch, spec.index, self.keyset, start, total)

                session.send(future, node, make, [keys], _done, up=keys.nbytes)
        future.result()
        self.nodes |= missing

    def forget(self, node: int, refusal: m.Message) -> None:
        """A node does not know the key set (any more), or the placement has changed."""
        if isinstance(refusal, m.UnknownKeySet) and refusal.keyset == self.keyset:
            self.nodes.discard(node)
        elif isinstance(refusal, m.WrongEpoch):
            self.epoch = -1

    def items(self, spec: TableSpec, code: OpCode, values: Array | None, out: Array | None) -> Iterator[Item]:
        """One item a chunk; `values` and `out` as for `items.sparse_items`."""
        for node, a, b, start in self.chunks:
            op = Op(code, spec.table, self.keyset, start)
            yield sparse_item(node, spec, op, self.grouping, values, out, a, b)


def _done(message: Any, arrays: list[Any]) -> None:
    """The chunk is registered."""


class KeySet:
    """Keys of a sparse table that its nodes know; made by `SparseTable.register`.

    Registering creates no rows. A key set belongs to the session that uses it; pickled, or used in another thread, it
    registers itself there. Registered for one table it may be used for every table of the same table group
    (`on`).

    Parameters
    ----------
    table : SparseTable
    keys : ndarray of shape (n,), int64

    Examples
    --------
    >>> ks = table.register(keys)            # doctest: +SKIP
    >>> ks.push(gradients); rows = ks.pull() # doctest: +SKIP
    """

    def __init__(self, table: SparseTable, keys: NDArray[Any], keyset: int | None = None) -> None:
        self.table = table
        #: The keys as given: rows and values are in this order.
        self.keys = keys
        self._id = next(_next_id) if keyset is None else keyset

    def __reduce__(self) -> tuple[Any, ...]:
        return KeySet, (self.table, self.keys)

    def __len__(self) -> int:
        return len(self.keys)

    def on(self, table: SparseTable) -> KeySet:
        """The same keys of another table of the same table group."""
        return KeySet(table, self.keys, self._id)

    def registration(self) -> Registration:
        """As this thread's session has it; registers where that is needed."""
        session = self.table.session()
        found: Registration | None = session.registered.get(self._id)
        if found is None or found.epoch != session.routing.epoch:
            grouping = Grouping.of(self.keys, session.routing)
            found = session.registered[self._id] = Registration(session, grouping, self.table.spec, self._id)
        found.send(session, self.table.spec)
        return found

    def pull(self, out: Array | None = None) -> Array:
        """Rows of the keys; see `SparseTable.pull`. With `out`, an (n, dim) array, they are put there."""
        return self.pull_async(out).result()

    def pull_async(self, out: Array | None = None) -> Future[Array]:
        """As `pull`, without waiting."""
        return self.table.pull_async(self, out)

    def push(self, grads: ArrayLike) -> None:
        """Gradients of the keys; see `SparseTable.push`."""
        self.table.push(self, grads)

    def push_async(self, grads: ArrayLike) -> Future[None]:
        """As `push`, without waiting."""
        return self.table.push_async(self, grads)

    def add(self, deltas: ArrayLike) -> None:
        """See `SparseTable.add`."""
        self.table.add(self, deltas)

    def assign(self, rows: ArrayLike) -> None:
        """See `SparseTable.assign`."""
        self.table.assign(self, rows)

    def drop(self) -> None:
        """Let the nodes forget the key set."""
        session = self.table.session()
        found: Registration | None = session.registered.pop(self._id, None)
        if found is not None:
            session.broadcast("drop of a key set", lambda s, q, a, e: m.Unregister(s, q, a, found.keyset)).result()
