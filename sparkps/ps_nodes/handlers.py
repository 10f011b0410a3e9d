"""What a node does for each request: checks it, runs it against tables and groups, and answers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sparkps.config import NodeSettings
from sparkps.errors import Fenced, ProtocolError, SparkPSError, TierError, to_wire
from sparkps.ps_nodes import functions
from sparkps.ps_nodes.buffers import return_freed_memory
from sparkps.ps_nodes.calls import call
from sparkps.ps_nodes.clock_buffers import Write, write_all
from sparkps.ps_nodes.dispatch import INLINE_BYTES, UNKNOWN_BYTES
from sparkps.ps_nodes.groups import NodeGroup, Parked
from sparkps.ps_nodes.keysets import KeyChunk, NodeKeySet
from sparkps.ps_nodes.shards import Entry
from sparkps.ps_nodes.store import KeySetMissing, Store, Target, Use
from sparkps.specs import GroupSpec, check_group_spec, check_spec
from sparkps.wire import control as c
from sparkps.wire import messages as m
from sparkps.wire.buckets import mask_of
from sparkps.wire.codec import encode
from sparkps.wire.functions import spec_of
from sparkps.wire.placement import check_placement, primaries

if TYPE_CHECKING:
    from sparkps.ps_nodes.service import Service, Work

log = logging.getLogger(__name__)

#: Seconds that a user's function may take to be loaded: modules that it imports may be large.
LOADING_LIMIT = 20.0


@dataclass(frozen=True)
class Refused:
    """A request that cannot be understood, but whose session and number can."""

    session: int
    seq: int
    error: ProtocolError
    acked: int = 0


class Handlers:
    """The requests and commands of a node.

    Parameters
    ----------
    service : Service
        Sends the answers.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self.settings = NodeSettings()
        #: Placement epoch; 0 until the tier is complete.
        self.epoch = 0
        self._placement: list[list[int]] = []
        self._store: Store | None = None
        #: All buckets of this node, as bits.
        self.bucket_bits = 0
        self._groups: dict[int, NodeGroup] = {}

    # ---- requests ------------------------------------------------------------------------------------------------------

    def run(self, work: Work) -> None:
        """Carry one request out and answer it, unless it is parked. Any thread."""
        message = work.message
        try:
            if getattr(message, "epoch", self.epoch) != self.epoch:
                self._send_back(work, m.WrongEpoch(message.seq, self.epoch, self._placement))
            elif work.session.bars(message.seq) and _is_write(message):
                self._send_back(work, self._barred(message))
            else:
                REQUESTS[type(message)](self, work)
        except KeySetMissing as missing:
            self._send_back(work, m.UnknownKeySet(message.seq, missing.keyset))
        except SparkPSError as error:
            self.fail(work, error)
        except Exception as error:
            log.exception("request %s failed", type(message).__name__)
            self.fail(work, error)

    def answer_bytes(self, work: Work) -> int:
        """Bytes that the answer to a request will have, about; a function's work is unknown."""
        message = work.message
        if type(message) is m.Call:
            return UNKNOWN_BYTES
        if type(message) is m.Step and self._store is not None:
            return self._store.answer_bytes(message.ops, work.arrays, work.session.keysets)
        return 0

    def fail(self, work: Work, error: BaseException) -> None:
        self.service.answer(work, encode(m.Failed(work.message.seq, *to_wire(error))), record=_is_write(work.message))

    def _send_back(self, work: Work, refusal: m.Message) -> None:
        """Nothing was done, and the client will send the same work again in another form."""
        write = _is_write(work.message)
        self.service.answer(work, encode(refusal), record=write, bar=write)

    def _barred(self, message: Any) -> m.Message:
        """A write before this one was sent back, so this one is, too; whatever was wrong with that one."""
        keysets = [op.keyset for op in getattr(message, "ops", ()) if op.keyset != m.NO_KEYSET]
        if keysets:
            return m.UnknownKeySet(message.seq, keysets[0])
        return m.WrongEpoch(message.seq, self.epoch, self._placement)

    def done(self, work: Work, arrays: list[Any] | None = None, *, record: bool) -> None:
        frames = encode(m.Done(work.message.seq), arrays or [])
        self.service.answer(work, frames, record=record, plain=not arrays)

    # ---- pulls and writes ----------------------------------------------------------------------------------------------

    def _step(self, work: Work) -> None:
        message: m.Step = work.message
        tables = [op.table for op in message.ops]
        # Tables are dropped on the I/O thread alone: what ends there before it returns finds them as they are.
        inline = self.service.on_io_thread
        use = Use(self.store, []) if inline else self.store.use(tables)
        try:
            targets = self.store.targets(message.ops, work.arrays, work.session.keysets)
            writes = [target.values is not None for target in targets]
            if any(writes) and not all(writes):
                raise ProtocolError("The operations of a step must be all pulls or all writes. Got both.")
            if writes[0]:
                write = Write.of_targets(targets)
                if not (inline and self._written_at_once(work, write)):
                    use = self.store.use(tables) if inline else use
                    self.write(work, write, use)
                return
            if message.member is None or not self.waits(work, message.member):
                self._pull(work, targets)
            use.release()
        except BaseException:
            use.release()
            raise

    def _written_at_once(self, work: Work, write: Write) -> bool:
        """Whether this was a small write of a session that had nobody to wait for, and is done."""
        message: m.Step = work.message
        if message.member is not None or work.size > INLINE_BYTES:
            return False
        if not self.service.shards.write_at_once(work.session.id, _call_of(message), write.buckets, write.change):
            return False
        self.done(work, record=True)
        return True

    def _refused(self, work: Work) -> None:
        raise work.message.error

    def _pull(self, work: Work, targets: list[Target]) -> None:
        nbytes = sum([target.size * target.table.row_bytes for target in targets])
        if nbytes > self.settings.max_message_bytes:
            raise ProtocolError(
                f"The rows of a step must have at most {self.settings.max_message_bytes} bytes (`spark.sparkps.maxMessageBytes`)."
                f" Got a step for {nbytes} bytes."
            )
        self.done(work, [target.read() for target in targets], record=False)

    def write(self, work: Work, write: Write, use: Use, answer: list[Any] | None = None) -> None:
        """Change the shards once, and acknowledge it when that is done; the tables are in use until then."""

        def done(error: BaseException | None) -> None:
            try:
                if error is None:
                    self.done(work, answer, record=True)
                else:
                    self.fail(work, error)
            finally:
                use.release()  # the client need not wait for that

        member = work.message.member
        if member is None:
            self._write_of_session(work, write, done)
            return
        behind = self.group(member.group).write(
            member, write, done, lambda: self._parked(work, member), lambda: self.service.hold(work)
        )
        if behind:
            use.release()
            self.service.park(work, member.clock, behind, passes=False)

    def _write_of_session(self, work: Work, write: Write, done: Callable[[BaseException | None], None]) -> None:
        def make(new: dict[int, int]) -> Entry:
            parts = write.only(new)
            return Entry(write.shards, lambda: write_all(parts), lambda _, error: done(error))

        shards = self.service.shards
        entry = shards.order_once(work.session.id, _call_of(work.message), write.buckets, make)
        if entry is not None:
            shards.carry_out(entry)
        else:
            self.service.hold(work)

    def waits(self, work: Work, member: m.Member, *, passes: bool = True) -> bool:
        """Whether the request is now parked behind the group's clock; with `passes` later ones need not wait for it."""
        waiting = self.group(member.group).gate(member, lambda: self._parked(work, member))
        if waiting is None:
            return False
        self.service.park(work, member.clock, waiting, passes=passes)
        return True

    def _parked(self, work: Work, member: m.Member) -> Parked:
        return Parked(
            member,
            resume=lambda: self.service.resume(work),
            fail=lambda error: self.fail(work, error),
            since=self.service.now(),
        )

    # ---- key sets ------------------------------------------------------------------------------------------------------

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

        def keep() -> None:
            keysets = work.session.keysets
            keyset = keysets.get(message.keyset)
            if keyset is None or keyset.index_id != message.index:
                keyset = keysets[message.keyset] = NodeKeySet(message.index, message.total)
            keyset.add(message.start, chunk)

        self.service.post(keep)  # key sets are the I/O thread's; the answer follows on the same way
        self.done(work, record=True)

    def _unregister(self, work: Work) -> None:
        def forget() -> None:
            work.session.keysets.pop(work.message.keyset, None)

        self.service.post(forget)
        self.done(work, record=True)

    # ---- clocks --------------------------------------------------------------------------------------------------------

    def _tick(self, work: Work) -> None:
        message: m.Tick = work.message
        group = self.group(message.member.group)
        follow = group.tick(message.member, message.state, message.finish)
        if not message.finish:
            self.done(work, record=True)
            self._follow(group, follow)
            return
        self._follow(group, follow)
        # A rank that has finished may be looked at: what its finish closes is in the tables first.
        group.when_applied(lambda error: self.done(work, record=True) if error is None else self.fail(work, error))

    def _takeover(self, work: Work) -> None:
        group = self.group(work.message.member.group)
        standing = group.takeover(work.message.member)
        answer = m.TakenOver(
            work.message.seq, standing.clock, standing.state, standing.finished, group.spec.staleness
        )
        self.service.answer(work, encode(answer), record=True)

    def _settle(self, work: Work) -> None:
        group = self.group(work.message.member.group)
        follow = group.settle(work.message.member, work.message.state)
        self.done(work, record=True)
        self._follow(group, follow)

    def _follow(self, group: NodeGroup, follow: Callable[[], None] | None) -> None:
        """Close clocks and release what is parked: on the pool if it is much work."""
        if follow is None:
            return
        if group.heavy:
            self.service.pool.submit(follow)
            return
        try:
            follow()
        except Exception:  # the request itself was answered
            log.exception("what a tick of group %r brings about failed", group.spec.name)

    # ---- figures -------------------------------------------------------------------------------------------------------

    def _status(self, work: Work) -> None:
        self.service.answer(work, encode(m.StatusReport(work.message.seq, self.service.report())), record=False)

    def _export(self, work: Work) -> None:
        message: m.Export = work.message
        self.done(work, self.store.export(message.table, message.bucket, message.start, message.limit), record=False)

    # ---- commands of the coordinator -----------------------------------------------------------------------------------

    def welcome(self, welcome: c.Welcome) -> None:
        """The node is a member: take over all that exists."""
        self.service.node = welcome.node
        self.settings = welcome.settings
        self.service.sessions.ttl = welcome.settings.session_ttl
        if welcome.epoch:
            self._place(welcome.node, welcome.epoch, welcome.placement)
            for spec in welcome.tables:
                self.store.create(check_spec(spec))
            for group in welcome.groups:
                self._open_group(group)
        for name, blob in welcome.functions:
            self._register_function(name, blob, lambda error: log.error("a function is not known here: %s", error) if error else None)

    def command(self, message: Any, done: Callable[[BaseException | None], None]) -> None:
        """Carry a command out; `done` is told what it raised, or None, maybe later and from another thread."""
        try:
            if isinstance(message, c.CloseGroup):
                closed = self._groups.pop(message.group, None)
                if closed is not None:
                    closed.close(lambda: done(None))
                    return
            elif isinstance(message, c.RegisterFunction):
                self._register_function(message.name, message.blob, done)
                return
            else:
                self._command(message)
        except Exception as error:  # whatever it is, the coordinator tells the caller
            log.warning("command %s failed", type(message).__name__, exc_info=True)
            done(error)
            return
        done(None)

    def _command(self, message: Any) -> None:
        if isinstance(message, c.SetPlacement):
            self._place(self.service.node, message.epoch, message.placement)
        elif isinstance(message, c.CreateTable):
            self.store.create(check_spec(message.spec))
        elif isinstance(message, c.DropTable):
            gone = self.store.drop(message.table)
            if gone:
                self.service.sessions.forget_index(gone)
            return_freed_memory()
        elif isinstance(message, c.OpenGroup):
            self._open_group(message.spec)
        elif isinstance(message, c.FailGroup):
            if message.group in self._groups:
                self._groups[message.group].end(message.cause.exception())
        else:
            raise ProtocolError(f"A node must be sent commands. Got {type(message).__name__} instead.")

    def _register_function(self, name: str, blob: bytes, done: Callable[[BaseException | None], None]) -> None:
        """To load a user's function is to run code of the user's: on a thread of that kind, with a deadline."""

        def load() -> None:
            functions.register(name, blob)

        self.service.users.start(load, LOADING_LIMIT, lambda _, error: done(error), lambda: None, name=name)

    def _open_group(self, spec: GroupSpec) -> None:
        if spec.group not in self._groups:
            service = self.service
            self._groups[spec.group] = NodeGroup(
                check_group_spec(spec), self.store, service.shards, service.now, self.settings.buffer_bytes
            )

    def _place(self, node: int, epoch: int, placement: list[list[int]]) -> None:
        mine = [bucket for bucket, primary in enumerate(primaries(check_placement(placement))) if primary == node]
        if self._store is None:
            self._store = Store(mine)
            self.bucket_bits = mask_of(self._store.buckets)
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
        tables, groups = self._store.report(), list(self._groups.items())
        buffered = sum(group.nbytes() for _, group in groups)
        return {
            "rows": sum(table["rows"] for table in tables.values()),
            "bytes": sum(table["bytes"] for table in tables.values()) + self._store.index_bytes() + buffered,
            "buffered_bytes": buffered,
            "tables": tables,
            "groups": {str(number): group.report() for number, group in groups},
        }


#: How each request is carried out.
REQUESTS: dict[type[Any], Callable[[Handlers, Work], None]] = {
    Refused: Handlers._refused,
    m.Step: Handlers._step,
    m.Register: Handlers._register,
    m.Unregister: Handlers._unregister,
    m.Call: call,
    m.Tick: Handlers._tick,
    m.Takeover: Handlers._takeover,
    m.Settle: Handlers._settle,
    m.Status: Handlers._status,
    m.Export: Handlers._export,
}


def _call_of(message: Any) -> int:
    """Number of the call that a session's write is a piece of: its stamp."""
    call: int = message.call
    if call < 1:
        raise ProtocolError(f"A write must carry the number of its call, from 1. Got {call} instead.")
    return call


#: Server functions that change rows are writes; users' functions may.
def _is_write(message: Any) -> bool:
    if type(message) is m.Step:
        return any(op.code != m.OpCode.PULL for op in message.ops)
    if type(message) is m.Call:
        return any(spec_of(call.function).writes for call in message.calls)
    return type(message) is Refused  # it may have been one
