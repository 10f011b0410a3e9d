"""A node without sockets, threads and clock: messages of clients in, answers out.

One thread, the *I/O thread*, calls `receive`, `look_around` and `run_posted`, and owns sessions and dispatcher. Work runs on it
or on the pool; whatever a pool's thread has to tell is *posted*, and told by the I/O thread.
"""

from __future__ import annotations

import logging
import os
import socket as net
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sparkps.errors import ProtocolError, to_wire
from sparkps.ps_nodes.dispatch import Dispatcher
from sparkps.ps_nodes.handlers import REQUESTS, Handlers, Refused
from sparkps.ps_nodes.sessions import NodeSession, SessionTable, Verdict
from sparkps.ps_nodes.shards import Pool, Shards
from sparkps.ps_nodes.user_functions import UserThreads
from sparkps.wire import messages as m
from sparkps.wire.codec import decode, encode, request_of

log = logging.getLogger(__name__)

#: Seconds between two warnings of messages that were dropped.
WARN_EVERY = 10.0


@dataclass(slots=True, eq=False)
class Work:
    """One request under way. Owner of what changes: the I/O thread."""

    session: NodeSession
    message: Any
    arrays: list[Any]
    #: Bytes of the request.
    nbytes: int
    #: Bytes of the request or of its answer, whichever are more.
    size: int
    #: When it arrived (seconds, the node's clock).
    since: float
    #: Later requests of its session wait for it.
    in_line: bool = field(default=False)
    #: It waits for others itself, so that nobody must wait for its bytes to be worked off.
    held: bool = field(default=False)

    @property
    def call(self) -> int:
        """Number of the call that it is a piece of; 0: it runs alone."""
        return int(self.message.call) if type(self.message) is m.Step else 0


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
        Called, from any thread, when something was posted: `run_posted` must follow soon.
    """

    def __init__(
        self,
        send: Callable[[bytes, list[Any]], None],
        pool: Pool,
        now: Callable[[], float],
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self.now = now
        self.pool = pool
        #: Id that the coordinator gave; -1 before `Welcome`.
        self.node = -1
        #: Frames that were no message, and messages that no node takes.
        self.dropped = 0
        self.sessions = SessionTable()
        self.shards = Shards(pool)
        self.users = UserThreads()
        self.handlers = Handlers(self)
        self.dispatcher = Dispatcher(pool, self.handlers.run)
        self._send = send
        self._wake = wake
        #: What pool threads have told. Any thread appends; owner of the rest: the I/O thread.
        self.posted: deque[Callable[[], None]] = deque()
        self._io_thread = threading.get_ident()
        self._next_warning = 0.0

    def on_this_thread(self) -> None:
        """The calling thread is the I/O thread from now on."""
        self._io_thread = threading.get_ident()

    @property
    def on_io_thread(self) -> bool:
        """Whether the caller is the I/O thread."""
        return threading.get_ident() == self._io_thread

    # ---- messages ------------------------------------------------------------------------------------------------------

    def receive(self, identity: bytes, frames: Sequence[Any]) -> m.Message | None:
        """Take one message; returns it unless it was none."""
        nbytes = sum(map(len, frames))
        most = self.handlers.settings.max_message_bytes
        try:
            if nbytes > most:
                raise ProtocolError(
                    f"A message must have at most {most} bytes (`spark.sparkps.maxMessageBytes`). Got {nbytes} instead."
                )
            message, arrays = decode(frames)
            self._take(identity, message, arrays, nbytes)
        except ProtocolError as error:
            self._drop(identity, frames, error)
            return None
        return message  # type: ignore[no-any-return]  # decode gives a message

    def _take(self, identity: bytes, message: Any, arrays: list[Any], nbytes: int) -> None:
        kind = type(message)
        if kind in REQUESTS:
            self._request(identity, message, arrays, nbytes)
        elif kind is m.Hello:
            session = self.sessions.open(message.session, identity, self.now(), max(0, message.seq))
            if session is not None:
                self._send(identity, encode(m.Ready(self.node, self.handlers.epoch)))
                for due in session.in_turn():
                    self.dispatcher.submit(due)
        elif kind is m.Bye:
            if self.sessions.close(message.session, self.now()):
                self.shards.forget(message.session)
        else:
            raise ProtocolError(f"A node must be sent requests. Got {kind.__name__} instead.")

    def _request(self, identity: bytes, message: Any, arrays: list[Any], nbytes: int) -> None:
        now = self.now()
        session = self.sessions.get(message.session, identity, now)
        if session is None:
            self._send(identity, encode(m.UnknownSession(message.seq)))
            return
        verdict = session.arrive(message.seq, message.acked)
        if verdict is Verdict.NEW or verdict is Verdict.AGAIN:
            work = Work(session, message, arrays, nbytes, 0, now)
            work.size = max(nbytes, self.handlers.answer_bytes(work))
            if verdict is Verdict.AGAIN:
                self.dispatcher.again(work)
            elif message.seq == session.next:
                session.next += 1
                self.dispatcher.submit(work)
            elif self._has_room(session, nbytes):
                session.hold(message.seq, work, nbytes)
            else:
                session.forget(message.seq)
        elif verdict is Verdict.ANSWERED:
            self._send(identity, session.answers[message.seq])
        elif verdict is Verdict.PENDING:
            parked = session.pending.get(message.seq)
            if parked is not None:
                self._send(identity, encode(m.Parked(message.seq, *parked)))
        if session.early:
            for due in session.in_turn():
                self.dispatcher.submit(due)

    def _has_room(self, session: NodeSession, nbytes: int) -> bool:
        """Whether a request may wait for those before it; clients keep within their credits, which are less."""
        return session.waiting_bytes + nbytes <= self.handlers.settings.session_bytes

    def _drop(self, identity: bytes, frames: Sequence[Any], error: ProtocolError) -> None:
        """Count what cannot be understood; a peer that at least speaks sparkps is told why."""
        self.dropped += 1
        now = self.now()
        if now >= self._next_warning:
            self._next_warning = now + WARN_EVERY
            log.warning("dropped %d messages so far; the last: %s", self.dropped, error)
        session, seq = request_of(frames)
        if session in self.sessions.sessions:  # it has its turn like others, or those behind it would wait for it
            self._request(identity, Refused(session, seq, error), [], 0)
        elif frames and bytes(memoryview(getattr(frames[0], "buffer", frames[0]))[:3]) == b"SPS":
            self._send(identity, encode(m.Failed(seq, *to_wire(error))))

    # ---- answers -------------------------------------------------------------------------------------------------------

    def post(self, tell: Callable[[], None]) -> None:
        """Have `tell` called by the I/O thread: now if this is it, else soon."""
        if self.on_io_thread:
            tell()
            return
        self.posted.append(tell)
        self._wake()

    def run_posted(self) -> None:
        """Call what was posted."""
        while self.posted:
            try:
                self.posted.popleft()()
            except Exception:
                log.exception("what a thread of the pool had to tell could not be told")

    def answer(self, work: Work, frames: list[Any], *, record: bool, plain: bool = False, bar: bool = False) -> None:
        """Send the answer to a request; from any thread, once.

        Parameters
        ----------
        work : Work
        frames : list
        record : bool
            The request must not run twice: the answer is kept until the client has it.
        plain : bool
            The answer says no more than that a write is in the tables.
        bar : bool
            The request is a write that will be sent again under another number: later ones must not overtake it.
        """

        if self.on_io_thread:
            self._answer(work, frames, record=record, plain=plain, bar=bar)
        else:
            self.post(lambda: self._answer(work, frames, record=record, plain=plain, bar=bar))

    def _answer(self, work: Work, frames: list[Any], *, record: bool, plain: bool, bar: bool) -> None:
        session, seq = work.session, work.message.seq
        if bar:
            session.bar(seq)
        session.answered(seq, frames, record=record, plain=plain)
        try:
            self._send(session.identity, frames)
        finally:
            self.dispatcher.ended(work)

    def park(self, work: Work, clock: int, waiting_for: list[int], *, passes: bool) -> None:
        """A request waits for ranks; with `passes` later requests of its session need not wait for it."""

        def tell() -> None:
            work.session.park(work.message.seq, clock, waiting_for)
            if passes:
                self.dispatcher.ended(work)
            else:
                self.dispatcher.hold(work)

        self.post(tell)

    def hold(self, work: Work) -> None:
        """A request waits for others, and keeps back those behind it in its session."""
        self.post(lambda: self.dispatcher.hold(work))

    def resume(self, work: Work) -> None:
        """Run a parked request again; from any thread."""
        self.post(lambda: self.dispatcher.again(work))

    # ---- timers and figures --------------------------------------------------------------------------------------------

    def look_around(self) -> None:
        """Time has passed."""
        for session in self.sessions.expire(self.now()):
            self.shards.forget(session)

    def report(self) -> dict[str, Any]:
        """The node's view of itself, as heartbeats and `Status` carry it."""
        own = {
            "node": self.node,
            "host": net.gethostname(),
            "pid": os.getpid(),
            "sessions": len(self.sessions.sessions),
            "dropped_messages": self.dropped,
            "queued_bytes": self.dispatcher.queued_bytes,
            "keyset_bytes": self.sessions.keyset_bytes(),
        }
        return {**own, **self.handlers.report()}

    def close(self) -> None:
        """The node ends."""
        self.users.close()
