"""A node without sockets, threads and clock: messages of clients in, answers out.

One thread, the *I/O thread*, calls `receive`, `look_around` and `run_posted`, and owns sessions and dispatcher. Work runs on it
or on the pool; whatever a pool's thread has to tell is *posted*, and told by the I/O thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from sparkps.errors import ProtocolError, to_wire
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
        taken: Message = message
        return taken

    def _take(self, identity: bytes, numbers: Numbers, message: Any, arrays: list[Any], nbytes: int) -> None:
        kind = type(message)
        if kind in REQUESTS:
            self._request(identity, numbers, message, arrays, nbytes)
        elif kind is m.Hello:
            if message.session < 1:
                raise ProtocolError(f"A session must have a number, from 1. Got {message.session} instead.")
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
        except ProtocolError as error:
            log.warning("dropped a message of node %d: %s", node, error)
            return
        if isinstance(message, Shipped):
            self.state.memory.hear(message.node, message.full)
            self.state.copies.acknowledged(message.node, message.generation, message.seq)
        elif isinstance(message, NotKept):
            self.state.copies.not_kept(message.node, message.generation)
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
            self._send(identity, encode(m.UnknownSession(seq)))
            return
        verdict = session.arrive(seq, acked)
        if verdict is Verdict.NEW or verdict is Verdict.AGAIN:
            work = Work(session, seq, acked, message, arrays, nbytes, 0, now, self._replies)
            work.size = max(nbytes, requests.answer_bytes(self.state, work))
            if verdict is Verdict.AGAIN:
                self.dispatcher.again(work)
            elif seq == session.next:
                session.next += 1
                self.dispatcher.submit(work)
            elif self._has_room(session, nbytes):
                session.hold(seq, work, nbytes)
            else:
                session.forget(seq)
        elif verdict is Verdict.ANSWERED:
            self._send(identity, session.answers[seq])
        elif verdict is Verdict.PENDING:
            parked = session.pending.get(seq)
            if parked is not None:
                self._send(identity, encode(m.Parked(seq, *parked)))
        if session.early:
            for due in session.in_turn():
                self.dispatcher.submit(due)

    def _has_room(self, session: NodeSession, nbytes: int) -> bool:
        """Whether a request may wait for those before it; clients keep within their credits, which are less."""
        return session.waiting_bytes + nbytes <= self.state.settings.session_bytes

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
        for session in state.sessions.expire(state.now()):
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
