"""A node without sockets, threads and clock: messages of clients in, answers out.

One thread, the *I/O thread*, calls `receive`, `look_around` and `run_posted`, and owns sessions and dispatcher. Work runs on it
or on the pool; whatever a pool's thread has to tell is *posted*, and told by the I/O thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from sparkps.errors import ProtocolError, SparkPSError, TierError, to_wire
from sparkps.ps_nodes.checkpointing import cuts
from sparkps.ps_nodes.dispatch import Dispatcher
from sparkps.ps_nodes.handlers import requests
from sparkps.ps_nodes.handlers.table import REQUESTS
from sparkps.ps_nodes.io_thread import IoThread
from sparkps.ps_nodes.memory_budget import MemoryBudget
from sparkps.ps_nodes.replication.follower import Follower
from sparkps.ps_nodes.replies import SessionReplies
from sparkps.ps_nodes.sessions import NodeSession, Verdict
from sparkps.ps_nodes.shards import Pool
from sparkps.ps_nodes.state import ServerState
from sparkps.ps_nodes.work import Unreadable, Work
from sparkps.wire.codec import Numbers, decode, decode_request, encode, request_of
from sparkps.wire.messages import data as m
from sparkps.wire.messages.base import Message
from sparkps.wire.messages.log import LogEntry, NotKept, NotShipped, Shipped

log = logging.getLogger(__name__)

#: Seconds between two warnings of messages that were dropped.
WARN_EVERY = 10.0


_REFUSED_BEFORE = TierError("A write that was refused must be made anew. It came again.")


def _gives_back(message: Any) -> bool:
    """Whether a request frees what is kept."""
    return type(message) in (m.Unregister, m.Tick)


class Service:
    """What a node does with messages of clients.

    Parameters
    ----------
    send : callable
        Sends the frames of an answer to the connection of that routing id. On the I/O thread.
    pool : Pool
        Threads for requests that take time.
    now : callable
        Seconds, monotonic.
    wake : callable
        Called, from any thread, when something was posted: `IoThread.run_posted` must follow soon.
    send_to_node : callable
        Sends frames to the node of an id, with its endpoint. On the I/O thread.
    memory : MemoryBudget, optional
        By default without a limit.
    """

    def __init__(
        self,
        send: Callable[[bytes, list[Any]], None],
        pool: Pool,
        now: Callable[[], float],
        wake: Callable[[], None] = lambda: None,
        send_to_node: Callable[[int, str, list[Any]], None] = lambda node, endpoint, frames: None,
        memory: MemoryBudget | None = None,
    ) -> None:
        self.io = IoThread(wake)
        self._send_to_node = send_to_node
        self.state = ServerState(self.io, pool, now, self._ship, memory)
        self.state.tell_sessions = self._tell_sessions
        self.dispatcher = Dispatcher(pool, partial(requests.run, self.state))
        self.state.memory.queues.append(lambda: self.dispatcher.queued_bytes)
        self._replies = SessionReplies(self.io, self.dispatcher, send)
        self._send = send
        self._next_warning = 0.0
        #: Connection of each node whose log is followed, and what it was told last.
        self._heard_from: dict[int, bytes] = {}
        self._told: dict[int, Message] = {}

    # ---- messages ------------------------------------------------------------------------------------------------------

    def receive(self, identity: bytes, frames: Sequence[Any]) -> Message | None:
        """Take one message; returns it unless it was none."""
        nbytes = sum(map(len, frames))
        most = self.state.settings.max_message_bytes
        try:
            if nbytes > most:
                raise ProtocolError(
                    f"A message must have at most {most} bytes (`spark.sparkps.maxMessageBytes`). Got {nbytes} instead."
                )
            numbers, message, arrays = decode_request(frames)
            if isinstance(message, LogEntry):
                self._take_entry(identity, numbers, message, arrays, nbytes)
            else:
                self._take(identity, numbers, message, arrays, nbytes)
        except ProtocolError as error:
            self._drop(identity, frames, error)
            return None
        except Exception:  # a fault of ours that a message has found: it must not cost all others their node
            self.state.dropped += 1
            log.exception("a message could not be taken")
            return None
        taken: Message = message
        return taken

    def _take(self, identity: bytes, numbers: Numbers, message: Any, arrays: list[Any], nbytes: int) -> None:
        kind = type(message)
        if kind in REQUESTS:
            self._request(identity, numbers, message, arrays, nbytes)
        elif kind is m.Hello:
            if message.session < 1:
                raise ProtocolError(f"A session must have a number, from 1. Got {message.session} instead.")
            if message.tier_id and self.state.tier_id and message.tier_id != self.state.tier_id:
                self._send(identity, encode(m.AnotherTier(self.state.tier_id)))
                return
            try:
                self.state.sessions.check_room(message.session, identity)
            except TierError as error:
                self._send(identity, encode(m.Failed(0, *to_wire(error))))
                return
            session = self.state.sessions.open(message.session, identity, self.state.now(), max(0, message.seq))
            if session is not None:
                self._send(identity, encode(m.Ready(self.state.node, self.state.epoch)))
                for due in session.in_turn():
                    self.dispatcher.submit(due)
        elif kind is m.Bye:
            if self.state.sessions.close(message.session, self.state.now()):
                self.state.forget(message.session)
        else:
            raise ProtocolError(f"A node must be sent requests. Got {kind.__name__} instead.")

    # ---- other nodes ---------------------------------------------------------------------------------------------------

    def _take_entry(self, identity: bytes, numbers: Numbers, message: LogEntry, arrays: list[Any], nbytes: int) -> None:
        source, number, generation = numbers
        answer = self.state.followers.take(source, generation, number, message, arrays, nbytes)
        if source in self.state.nodes:
            self._heard_from[source] = identity
        if answer is not None:
            self._told[source] = answer
            self._send(identity, encode(answer))

    def _acknowledge(self, follower: Follower) -> None:
        """What was not acknowledged on arrival, because too much waited, may be by now."""
        answer = self.state.followers.acknowledgement(follower)
        identity = self._heard_from.get(follower.source)
        if answer is not None and identity is not None and self._told.get(follower.source) != answer:
            self._told[follower.source] = answer
            self._send(identity, encode(answer))

    def hear_node(self, node: int, frames: Sequence[Any]) -> None:
        """A node answers to what was shipped to it. On the I/O thread."""
        try:
            message, _ = decode(frames)
            if isinstance(message, (Shipped, NotKept)) and message.node != node:
                raise ProtocolError(f"A node must answer for itself. Got an answer of node {message.node}.")
        except ProtocolError as error:
            log.warning("dropped a message of node %d: %s", node, error)
            return
        if isinstance(message, Shipped):
            self.state.memory.hear(node, message.full)
            self.state.copies.acknowledged(node, message.generation, message.seq)
        elif isinstance(message, NotKept):
            self.state.copies.not_kept(node, message.generation)
        elif isinstance(message, NotShipped) and message.epoch > self.state.epoch:
            self.state.must_end = f"node {node} has heard, by epoch {message.epoch}, that this node is dead"

    def _ship(self, node: int, frames: list[Any]) -> None:
        info = self.state.nodes.get(node)
        if info is not None:
            self._send_to_node(node, info.endpoint, frames)

    def _tell_sessions(self) -> None:
        """The placement has changed."""
        state = self.state
        frames = encode(m.Placed(state.epoch, state.placement, list(state.nodes.values())))
        for session in list(state.sessions.sessions.values()):
            self._send(session.identity, frames)

    # ---- requests ------------------------------------------------------------------------------------------------------

    def _request(self, identity: bytes, numbers: Numbers, message: Any, arrays: list[Any], nbytes: int) -> None:
        number, seq, acked = numbers
        if seq < 1:
            raise ProtocolError(f"A request must carry its number in its session, from 1. Got {seq} instead.")
        now = self.state.now()
        session = self.state.sessions.get(number, identity, now)
        if session is None:
            self._send(identity, encode(self._unknown(number, identity, seq)))
            return
        verdict = session.arrive(seq, acked)
        if verdict is Verdict.NEW and session.kept_bytes > self.state.most_kept and not _gives_back(message):
            self._refuse(session, seq)
        elif verdict is Verdict.NEW or verdict is Verdict.AGAIN:
            work = Work(session, seq, acked, message, arrays, nbytes, 0, now, self._replies)
            work.size = max(nbytes, requests.answer_bytes(self.state, work))
            if verdict is Verdict.AGAIN and work.is_write:  # it was refused by `_refuse`: later ones may be there
                self._answer_refused(session, seq, _REFUSED_BEFORE)
            elif verdict is Verdict.AGAIN:
                self.dispatcher.again(work)
            elif seq == session.next and (not session.queue or self._has_room(session, nbytes)):
                session.next += 1
                self.dispatcher.submit(work)
            elif seq > session.next and self._has_room(session, nbytes):
                session.hold(seq, work, nbytes)
            else:
                session.forget(seq)
        elif verdict is Verdict.ANSWERED:
            self._send(identity, session.answers[seq])
        elif verdict is Verdict.PENDING:
            parked = session.pending.get(seq)
            if parked is not None:
                self._send(identity, encode(m.Parked(seq, parked[0], parked[1])))
        if session.early:
            for due in session.in_turn():
                self.dispatcher.submit(due)

    def _has_room(self, session: NodeSession, nbytes: int) -> bool:
        """Whether a request may wait for those before it; clients keep within their credits, which are less."""
        return session.queued_bytes + nbytes <= min(self.state.settings.session_bytes, self.state.most_waiting)

    def _unknown(self, session: int, identity: bytes, seq: int) -> m.UnknownSession | m.Failed:
        """What the sender of a request is told whose session is not open: to open it, unless there are too many."""
        try:
            self.state.sessions.check_room(session, identity)
        except TierError as error:
            return m.Failed(seq, *to_wire(error))
        return m.UnknownSession(seq)

    def _refuse(self, session: NodeSession, seq: int) -> None:
        """A session for which too much is kept makes another request: in its turn it is refused, without an answer that is kept."""
        if seq != session.next:
            session.forget(seq)  # it comes again
            return
        session.next += 1
        try:
            self.state.check_kept(session)
        except SparkPSError as error:
            self._answer_refused(session, seq, error)

    def _answer_refused(self, session: NodeSession, seq: int, error: SparkPSError) -> None:
        session.forget(seq)
        self._send(session.identity, encode(m.Failed(seq, *to_wire(error))))

    def _drop(self, identity: bytes, frames: Sequence[Any], error: ProtocolError) -> None:
        """Count what cannot be understood; a peer that at least speaks sparkps is told why."""
        self.state.dropped += 1
        now = self.state.now()
        if now >= self._next_warning:
            self._next_warning = now + WARN_EVERY
            log.warning("dropped %d messages so far; the last: %s", self.state.dropped, error)
        session, seq = request_of(frames)
        if seq and session in self.state.sessions.sessions:  # it has its turn like others, or those behind it would wait for it
            acked = self.state.sessions.sessions[session].acked
            self._request(identity, (session, seq, acked), Unreadable(error), [], 0)
        elif frames and bytes(memoryview(getattr(frames[0], "buffer", frames[0]))[:3]) == b"SPS":
            self._send(identity, encode(m.Failed(seq, *to_wire(error))))

    # ---- timers and figures --------------------------------------------------------------------------------------------

    def look_around(self) -> None:
        """Time has passed."""
        state = self.state
        for session in state.sessions.expire(state.now(), state.shards.marks):
            state.forget(session)
        state.copies.flush()
        state.look_at_memory()
        cuts.look_around(state)
        if state.writing is not None:
            state.writing.look_around()
        for follower in state.followers:
            self._acknowledge(follower)

    def report(self) -> dict[str, Any]:
        """The node's view of itself, as heartbeats carry it."""
        return self.state.report(self.dispatcher.queued_bytes)

    def close(self) -> None:
        """The node ends."""
        self.state.users.close()
