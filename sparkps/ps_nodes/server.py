"""The node process's I/O shell: sockets in, requests to the handlers, answers out. One thread owns all sockets."""

from __future__ import annotations

import contextlib
import logging
import os
import socket as net
import threading
import time
from collections import deque
from typing import Any

import zmq

from sparkps import sockets
from sparkps.errors import ProtocolError, to_wire
from sparkps.ps_nodes.control import ControlLink
from sparkps.ps_nodes.dispatch import Dispatcher
from sparkps.ps_nodes.handlers import REQUESTS, Handlers, Work
from sparkps.ps_nodes.sessions import NodeSession, SessionTable, Verdict
from sparkps.wire import messages as m
from sparkps.wire.codec import decode, encode

log = logging.getLogger(__name__)

#: The data socket is not read while so many bytes of requests wait for their turn.
MOST_QUEUED_BYTES = 512 << 20
#: Answers below this size are copied into the socket's own memory.
ZERO_COPY_BYTES = 1 << 16
#: Messages taken from the data socket before other sockets are looked at.
BURST = 64
#: After a request of so few bytes outside a worker group the next one is looked for without sleeping, for so long: a client that
#: waits for each answer sends it at once.
SMALL_BYTES, SPIN_SECONDS = 1 << 17, 500e-6
#: Longest wait for something to happen (milliseconds).
IDLE_MS = 500


class Node:
    """One parameter-server node.

    Parameters
    ----------
    coordinator : str
        Endpoint of the coordinator.
    bind : str
        Endpoint to bind for clients; ``tcp://host:0`` takes a free port.
    threads : int
        Threads for large requests.
    parent : int
        Process to live with: the node exits when it is gone. 0: none.
    """

    def __init__(self, coordinator: str, bind: str, threads: int, parent: int = 0) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._data = self._context.socket(zmq.ROUTER)
        self._data.setsockopt(zmq.LINGER, 500)
        self._data.setsockopt(zmq.SNDHWM, 0)
        self._data.setsockopt(zmq.ROUTER_HANDOVER, 1)
        self._data.copy_threshold = ZERO_COPY_BYTES
        self._data.bind(bind)
        endpoint = self._data.getsockopt_string(zmq.LAST_ENDPOINT)
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        #: Answers of the pool's threads, to be sent by the I/O thread.
        self._outbox: deque[tuple[NodeSession, list[Any]]] = deque()
        self._io_thread = 0
        self._parent = parent
        self._stopping = False
        #: How long to look for the next request before going to sleep, in seconds.
        self._patience = 0.0
        #: The process that started the node is gone, and that is why the node ends.
        self.orphaned = False
        #: Frames that were no message, and messages that no node takes.
        self.dropped = 0
        self._next_warning = 0.0
        self.sessions = SessionTable()
        self.handlers = Handlers(self)
        self.dispatcher = Dispatcher(threads, self.handlers.run)
        self.control = ControlLink(self._context, coordinator, endpoint, self.handlers, self.report)

    # ---- the loop ------------------------------------------------------------------------------------------------------

    def serve(self) -> int:
        """Run until told to stop; returns the exit status."""
        self._io_thread = threading.get_ident()
        aside = zmq.Poller()
        aside.register(self.control.socket, zmq.POLLIN)
        aside.register(self._wake, zmq.POLLIN)
        everything = zmq.Poller()
        for socket, events in aside.sockets:
            everything.register(socket, events)
        everything.register(self._data, zmq.POLLIN)
        self.control.hello()
        looked_at = 0.0
        while not self._stopping and not self.control.over:
            full = self.dispatcher.queued_bytes > MOST_QUEUED_BYTES
            ready = dict(aside.poll(20) if full else everything.poll(IDLE_MS))
            if self._data in ready:
                self._receive()
            if self._wake in ready:
                self._send_outbox()
            if self.control.socket in ready:
                self.control.receive()
            now = time.monotonic()
            if now - looked_at > IDLE_MS / 1000:
                looked_at = now
                self._look_around(now)
        self._close()
        return self.control.status

    def stop(self, orphaned: bool = False) -> None:
        """End the loop; callable from any thread and from a signal handler."""
        # A driver that stops its tier hangs up on nodes that were told to exit before.
        self.orphaned |= orphaned and not self.control.over
        self._stopping = True
        os.eventfd_write(self._wake, 1)

    def _look_around(self, now: float) -> None:
        self.sessions.expire(now)
        self.control.heartbeat(now)
        if self._parent and os.getppid() != self._parent:
            log.info("the process that started this node is gone: exit")
            self.stop(orphaned=True)

    def _close(self) -> None:
        self.dispatcher.close()
        self._send_outbox()
        self._data.close()
        self.control.close()
        self._context.term()

    # ---- requests ------------------------------------------------------------------------------------------------------

    def _receive(self) -> None:
        for _ in range(BURST):
            identity, *frames = sockets.receive(self._data)
            self._take(identity.bytes, frames)
            patience = self._patience
            if not sockets.is_readable(self._data) and not (
                patience and sockets.spin(self._data, patience, unless=self._outbox)
            ):
                return

    def _take(self, identity: bytes, frames: list[zmq.Frame]) -> None:
        nbytes = sum(len(frame) for frame in frames)
        try:
            if nbytes > self.handlers.settings.max_message_bytes:
                raise ProtocolError(
                    f"A message must have at most {self.handlers.settings.max_message_bytes} bytes (`spark.sparkps.maxMessageBytes`)."
                    f" Got {nbytes} instead."
                )
            message, arrays = decode(frames)
        except ProtocolError as error:
            self._drop(identity, frames, error)
            return
        kind = type(message)
        quick = kind is m.Step and message.member is None and nbytes <= SMALL_BYTES
        self._patience = SPIN_SECONDS if quick else 0.0
        if kind is m.Hello:
            self.sessions.open(message.session, identity, time.monotonic())
            self._send(identity, encode(m.Ready(self.control.node, self.handlers.epoch)))
        elif kind is m.Bye:
            self.sessions.close(message.session)
        elif kind in REQUESTS:
            self._request(identity, message, arrays, nbytes)
        else:
            self._drop(identity, frames, ProtocolError(f"A node must be sent requests. Got {kind.__name__} instead."))

    def _request(self, identity: bytes, message: Any, arrays: list[Any], nbytes: int) -> None:
        session = self.sessions.get(message.session, identity, time.monotonic())
        if session is None:
            self._send(identity, encode(m.UnknownSession(message.seq)))
            return
        verdict = session.arrive(message.seq, message.acked)
        if verdict is Verdict.NEW:
            work = Work(session, message, arrays)
            size = max(nbytes, self.handlers.size(work))
            self.dispatcher.submit(session, work, size, getattr(message, "call", 0))
        elif verdict is Verdict.ANSWERED:
            self._send(identity, session.answers[message.seq])
        elif verdict is Verdict.PENDING:
            parked = session.pending.get(message.seq)
            if parked is not None:
                self._send(identity, encode(m.Parked(message.seq, *parked)))

    def _drop(self, identity: bytes, frames: list[zmq.Frame], error: ProtocolError) -> None:
        """Count what cannot be understood; a peer that at least speaks sparkps is told why."""
        self.dropped += 1
        now = time.monotonic()
        if now >= self._next_warning:
            self._next_warning = now + 10
            log.warning("dropped %d messages so far; the last: %s", self.dropped, error)
        if frames and bytes(frames[0].buffer[:3]) == b"SPS":
            self._send(identity, encode(m.Failed(0, *to_wire(error))))

    # ---- answers -------------------------------------------------------------------------------------------------------

    def answer(self, work: Work, frames: list[Any], *, record: bool) -> None:
        """Send the answer to a request; from any thread."""
        work.session.answered(work.message.seq, frames, record=record)
        if threading.get_ident() == self._io_thread:
            self._send(work.session.identity, frames)
            return
        self._outbox.append((work.session, frames))
        os.eventfd_write(self._wake, 1)

    def _send_outbox(self) -> None:
        with contextlib.suppress(BlockingIOError):  # nobody woke us
            os.eventfd_read(self._wake)
        while self._outbox:
            session, frames = self._outbox.popleft()
            self._send(session.identity, frames)

    def _send(self, identity: bytes, frames: list[Any]) -> None:
        sockets.send(self._data, [identity, *frames])

    def report(self) -> dict[str, Any]:
        """The node's view of itself, as heartbeats and `Status` carry it."""
        own = {
            "node": self.control.node,
            "host": net.gethostname(),
            "pid": os.getpid(),
            "sessions": len(self.sessions.sessions),
            "dropped_messages": self.dropped,
            "queued_bytes": self.dispatcher.queued_bytes,
        }
        return {**own, **self.handlers.report()}
