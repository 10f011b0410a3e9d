"""Key sets: keys that the nodes know already, so that pulls and pushes carry values alone.

The *key caching* of Li et al., Scaling Distributed Machine Learning with the Parameter Server (OSDI 2014), section 5.1, with
the keys resolved to slots at the node.
"""

from __future__ import annotations

import itertools
import secrets
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike, NDArray

from sparkps.client.futures import Future
from sparkps.client.grouping import Grouping
from sparkps.client.items import Item, cut, keys_per_piece, sparse_item
from sparkps.client.pieces import Piece
from sparkps.client.routing import Routing
from sparkps.client.session import Session
from sparkps.specs import TableSpec
from sparkps.wire.encodings import Encoding
from sparkps.wire.messages import data as m
from sparkps.wire.messages.base import DataMessage
from sparkps.wire.messages.data import Op, OpCode

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
        #: Keys of each node.
        self.totals: dict[int, int] = {}
        #: Nodes that hold it.
        self.nodes: set[int] = set()
        #: A node has refused it for its placement.
        self.stale = False
        most = keys_per_piece(spec, len(grouping.keys), session.settings.chunk_bytes)
        for node, span in session.routing.spans:
            base = int(grouping.offsets[span[0]])
            for a, b in cut(grouping.offsets, span, most):
                self.chunks.append((node, a, b, a - base))
                self.totals[node] = self.totals.get(node, 0) + b - a

    def send(self, session: Session, spec: TableSpec) -> None:
        """Make the key set known to the nodes that do not hold it, and wait for their answer."""
        missing = self.totals.keys() - self.nodes
        if not missing:
            return
        future: Future[None] = Future(
            session, f"registration of {len(self.grouping.keys)} keys of table {spec.name!r}", lambda: None
        )
        for node, a, b, start in self.chunks:
            if node in missing:
                session.send(self._piece(future, spec, node, start, self.grouping.keys[a:b]))
        future.result()
        self.nodes |= missing

    def _piece(self, future: Future[Any], spec: TableSpec, node: int, start: int, keys: Array) -> Piece:
        message = m.Register(self.epoch, spec.index, self.keyset, start, self.totals[node])

        def again(refusal: DataMessage, routing: Routing) -> list[Piece]:
            self.stale = True
            return []

        return Piece(future, node, message, [keys], up=keys.nbytes, again=again)

    def forget(self, node: int) -> None:
        """A node does not know the key set (any more)."""
        self.nodes.discard(node)

    def items(
        self, spec: TableSpec, code: OpCode, values: Array | None, out: Array | None, encoding: Encoding = Encoding.PLAIN
    ) -> Iterator[Item]:
        """One item a chunk; `values`, `out` and `encoding` as for `items.sparse_items`."""
        for node, a, b, start in self.chunks:
            op = Op(code, spec.table, self.keyset, start, encoding=encoding)
            yield sparse_item(node, spec, op, self.grouping, values, out, a, b, self.epoch)


class _Hold:
    """What all handles of one key set share: when the last of them is gone, so is this, and sessions and nodes forget the key set.

    Its finalizer runs on any thread and at any moment, so it takes no lock and sends nothing: the nodes are told with the
    session's next call.
    """

    def __init__(self, keyset: int) -> None:
        self.keyset = keyset
        #: Sessions that have registered it.
        self.sessions: list[weakref.ref[Session]] = []
        weakref.finalize(self, _let_go, keyset, self.sessions).atexit = False

    def note(self, session: Session) -> None:
        """A session registers the key set."""
        if all(known() is not session for known in self.sessions):
            self.sessions.append(weakref.ref(session))


def _let_go(keyset: int, sessions: list[weakref.ref[Session]]) -> None:
    for known in sessions:
        session = known()
        found = session.registered.pop(keyset, None) if session is not None else None
        if session is not None and found is not None:
            session.dropped.append((keyset, tuple(found.totals)))


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

    def __init__(self, table: SparseTable, keys: NDArray[Any], hold: _Hold | None = None) -> None:
        self.table = table
        #: The keys as given: rows and values are in this order.
        self.keys = keys
        self._hold = hold or _Hold(next(_next_id))

    def __reduce__(self) -> tuple[Any, ...]:
        return KeySet, (self.table, self.keys)

    def __len__(self) -> int:
        return len(self.keys)

    def on(self, table: SparseTable) -> KeySet:
        """The same keys of another table of the same table group."""
        return KeySet(table, self.keys, self._hold)

    def registration(self) -> Registration:
        """As this thread's session has it; registers where that is needed."""
        session, keyset = self.table.session(), self._hold.keyset
        while True:
            found: Registration | None = session.registered.get(keyset)
            if found is None or found.stale or found.epoch != session.routing.epoch:
                session.catch_up()  # once for the newest placement, not for each on the way there
                grouping = Grouping.of(self.keys, session.routing)
                found = session.registered[keyset] = Registration(session, grouping, self.table.spec, keyset)
                self._hold.note(session)
            found.send(session, self.table.spec)
            if not found.stale and found.epoch == session.routing.epoch:
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
        found: Registration | None = session.registered.pop(self._hold.keyset, None)
        if found is not None:
            session.broadcast("drop of a key set", m.Unregister(found.keyset)).result()
