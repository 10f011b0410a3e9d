"""What a node does for each request: checks it, runs it against tables and groups, and answers."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sparkps.config import NodeSettings
from sparkps.errors import Fenced, ProtocolError, SparkPSError, TierError, to_wire
from sparkps.ps_nodes import functions
from sparkps.ps_nodes.buffers import return_freed_memory
from sparkps.ps_nodes.dispatch import UNKNOWN_BYTES
from sparkps.ps_nodes.groups import NodeGroup, Parked
from sparkps.ps_nodes.keysets import KeyChunk, NodeKeySet
from sparkps.ps_nodes.sessions import NodeSession
from sparkps.ps_nodes.store import KeySetMissing, Store
from sparkps.wire import control as c
from sparkps.wire import messages as m
from sparkps.wire.codec import encode
from sparkps.wire.placement import primaries

if TYPE_CHECKING:
    from sparkps.ps_nodes.server import Node

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Work:
    """One request under way."""

    session: NodeSession
    message: Any
    arrays: list[Any]


class Handlers:
    """The requests and commands of a node.

    Parameters
    ----------
    node : Node
        Sends the answers.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self.settings = NodeSettings()
        #: Placement epoch; 0 until the tier is complete.
        self.epoch = 0
        self._placement: list[list[int]] = []
        self._store: Store | None = None
        self._groups: dict[int, NodeGroup] = {}

    # ---- requests ------------------------------------------------------------------------------------------------------

    def run(self, work: Work) -> None:
        """Carry one request out and answer it, unless it is parked. Any thread."""
        message = work.message
        try:
            if getattr(message, "epoch", self.epoch) != self.epoch:
                self._refuse(work, m.WrongEpoch(message.seq, self.epoch, self._placement))
                return
            REQUESTS[type(message)](self, work)
        except KeySetMissing as missing:
            self._refuse(work, m.UnknownKeySet(message.seq, missing.keyset))
        except SparkPSError as error:
            self._refuse(work, m.Failed(message.seq, *to_wire(error)))
        except Exception as error:
            log.exception("request %s failed", type(message).__name__)
            self._refuse(work, m.Failed(message.seq, *to_wire(error)))

    def size(self, work: Work) -> int:
        """Bytes that the answer to a request will have, about; a function's work is unknown."""
        message = work.message
        if type(message) is m.Call:
            return UNKNOWN_BYTES
        if type(message) is m.Step and self._store is not None:
            return self._store.answer_bytes(message.ops, work.arrays, work.session.keysets)
        return 0

    def _refuse(self, work: Work, refusal: m.Message) -> None:
        self._node.answer(work, encode(refusal), record=False)

    def _done(self, work: Work, arrays: list[Any] | None = None, *, record: bool) -> None:
        self._node.answer(work, encode(m.Done(work.message.seq), arrays or []), record=record)

    def _step(self, work: Work) -> None:
        message: m.Step = work.message
        targets = self.store.targets(message.ops, work.arrays, work.session.keysets)
        pulls = sum(target.values is None for target in targets)
        if 0 < pulls < len(targets):
            raise ProtocolError("The operations of a step must be all pulls or all writes. Got both.")
        if pulls:
            if message.member is None or not self._waits(work, message.member):
                self._done(work, [target.read() for target in targets], record=False)
            return
        if message.member is None:
            for target in targets:
                target.write()
        else:
            self.group(message.member.group).write(message.member, targets)
        self._done(work, record=True)

    def _waits(self, work: Work, member: m.Member) -> bool:
        """Whether the request is now parked behind the group's clock."""
        group = self.group(member.group)

        def parked() -> Parked:
            return Parked(
                member,
                resume=lambda: self.run(work),
                fail=lambda error: self._refuse(work, m.Failed(work.message.seq, *to_wire(error))),
                since=time.monotonic(),
            )

        waiting = group.gate(member, parked)
        if waiting:
            work.session.park(work.message.seq, member.clock, waiting)
        return bool(waiting)

    def _register(self, work: Work) -> None:
        message: m.Register = work.message
        if len(work.arrays) != 1:
            raise ProtocolError(f"A registration must bring one array of keys. Got {len(work.arrays)} instead.")
        keys = work.arrays[0]
        if keys.dtype != "int64" or keys.ndim != 1:
            raise ProtocolError(f"Registered keys must be int64 of shape (n,). Got {keys.dtype} of shape {keys.shape}.")
        chunk = KeyChunk(self.store.index(message.index), keys, registered=True)
        if not 0 <= message.start <= message.start + chunk.size <= message.total:
            raise ProtocolError(f"A chunk must lie in its key set of {message.total} keys. Got start {message.start}.")
        keyset = work.session.keysets.get(message.keyset)
        if keyset is None or keyset.index_id != message.index:
            keyset = work.session.keysets[message.keyset] = NodeKeySet(message.index, message.total)
        keyset.add(message.start, chunk)
        self._done(work, record=True)

    def _unregister(self, work: Work) -> None:
        work.session.keysets.pop(work.message.keyset, None)
        self._done(work, record=True)

    def _call(self, work: Work) -> None:
        message: m.Call = work.message
        if message.member is not None and self._waits(work, message.member):
            return
        arrays = functions.run(message.calls, self.store.tables, self.store.buckets)
        self._done(work, arrays, record=True)

    def _tick(self, work: Work) -> None:
        message: m.Tick = work.message
        group = self.group(message.member.group)
        follow = group.tick(message.member, message.state, message.finish)
        self._done(work, record=True)
        self._follow(group, follow)

    def _takeover(self, work: Work) -> None:
        standing = self.group(work.message.member.group).takeover(work.message.member)
        answer = m.TakenOver(work.message.seq, standing.clock, standing.state, standing.finished)
        self._node.answer(work, encode(answer), record=True)

    def _settle(self, work: Work) -> None:
        group = self.group(work.message.member.group)
        follow = group.settle(work.message.member, work.message.state)
        self._done(work, record=True)
        self._follow(group, follow)

    def _follow(self, group: NodeGroup, follow: Callable[[], None] | None) -> None:
        """Close clocks and release pulls: on the pool if it is much work."""
        if follow is None:
            return
        if group.heavy:
            self._node.dispatcher.background(follow)
        else:
            follow()

    def _status(self, work: Work) -> None:
        self._node.answer(work, encode(m.StatusReport(work.message.seq, self._node.report())), record=False)

    def _export(self, work: Work) -> None:
        message: m.Export = work.message
        self._done(work, self.store.export(message.table, message.bucket, message.start, message.limit), record=False)

    # ---- commands of the coordinator -----------------------------------------------------------------------------------

    def welcome(self, welcome: c.Welcome) -> None:
        """The node is a member: take over all that exists."""
        self.settings = welcome.settings
        self._node.sessions.ttl = welcome.settings.session_ttl
        if welcome.epoch:
            self._place(welcome.node, welcome.epoch, welcome.placement)
            for spec in welcome.tables:
                self.store.create(spec)
            for group in welcome.groups:
                self._groups[group.group] = NodeGroup(group, self.store)
        for name, blob in welcome.functions:
            functions.register(name, blob)

    def command(self, message: Any) -> None:
        """Carry a command out; what it raises goes back to the coordinator."""
        if isinstance(message, c.SetPlacement):
            self._place(self._node.control.node, message.epoch, message.placement)
        elif isinstance(message, c.CreateTable):
            self.store.create(message.spec)
        elif isinstance(message, c.DropTable):
            gone = self.store.drop(message.table)
            for group in list(self._groups.values()):
                group.forget_table(message.table)
            if gone:
                self._node.sessions.forget_index(gone)
            return_freed_memory()
        elif isinstance(message, c.RegisterFunction):
            functions.register(message.name, message.blob)
        elif isinstance(message, c.OpenGroup):
            self._groups.setdefault(message.spec.group, NodeGroup(message.spec, self.store))
        elif isinstance(message, c.FailGroup):
            if message.group in self._groups:
                self._groups[message.group].end(message.cause.exception())
        elif isinstance(message, c.CloseGroup):
            closed = self._groups.pop(message.group, None)
            if closed is not None:
                closed.end()
        else:
            raise ProtocolError(f"A node must be sent commands. Got {type(message).__name__} instead.")

    def _place(self, node: int, epoch: int, placement: list[list[int]]) -> None:
        mine = [bucket for bucket, primary in enumerate(primaries(placement)) if primary == node]
        if self._store is None:
            self._store = Store(mine)
        elif mine != self._store.buckets.tolist():
            raise TierError("The buckets of a running node must stay as they are: shards cannot move.", node=node)
        self._placement, self.epoch = placement, epoch

    # ---- state ---------------------------------------------------------------------------------------------------------

    @property
    def store(self) -> Store:
        """The tables."""
        if self._store is None:
            raise TierError("The tier must be complete before it takes requests: not all nodes have joined.")
        return self._store

    def group(self, group: int) -> NodeGroup:
        """The worker group of that id."""
        found = self._groups.get(group)
        if found is None:
            raise Fenced(f"Worker group {group} must be open. It has ended; its ranks must stop.", group=group)
        return found

    def report(self) -> dict[str, Any]:
        """Rows, bytes, tables and groups, as `wire.control.Heartbeat` describes."""
        if self._store is None:
            return {"rows": 0, "bytes": 0, "tables": {}, "groups": {}}
        tables = self._store.report()
        return {
            "rows": sum(table["rows"] for table in tables.values()),
            "bytes": sum(table["bytes"] for table in tables.values()) + self._store.index_bytes(),
            "tables": tables,
            "groups": {str(g): group.report() for g, group in list(self._groups.items())},
        }


#: How each request is carried out.
REQUESTS: dict[type[m.Message], Callable[[Handlers, Work], None]] = {
    m.Step: Handlers._step,
    m.Register: Handlers._register,
    m.Unregister: Handlers._unregister,
    m.Call: Handlers._call,
    m.Tick: Handlers._tick,
    m.Takeover: Handlers._takeover,
    m.Settle: Handlers._settle,
    m.Status: Handlers._status,
    m.Export: Handlers._export,
}
