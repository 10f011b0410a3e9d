"""The node's side of the control plane: hello, heartbeats and the coordinator's commands (see `wire.messages.control`)."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket as net
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import zmq

from sparkps.errors import ProtocolError
from sparkps.lifeline import PLACE_TAKEN
from sparkps.log_forwarding import LogForwarder
from sparkps.ps_nodes.handlers.commands import command, welcome
from sparkps.ps_nodes.pulse import Pulse
from sparkps.secret import TierSecret
from sparkps.sockets import connect
from sparkps.wire.codec import decode, encode
from sparkps.wire.messages import control as c

if TYPE_CHECKING:
    from sparkps.ps_nodes.service import Service

log = logging.getLogger(__name__)

#: So many heartbeats without an answer are a silence, however short the deadline is.
MISSED = 4

#: Seconds after which a hello that was not answered is sent again, and after which a node that nobody has welcomed ends: whoever starts
#: nodes hears why, and starts another one.
HELLO_AGAIN, JOIN_LIMIT = 2.0, 60.0


class Origin(NamedTuple):
    """Who has started a node, and where."""

    #: As others know the machine; empty: by its own name.
    host: str = ""
    #: As in `NodeHello`.
    job: int = -1
    attempt: int = -1


class CoordinatorLink:
    """Connection to the coordinator. Owner: the node's I/O thread.

    Parameters
    ----------
    context : zmq.Context
    coordinator : str
        Its endpoint.
    endpoint : str
        Where this node answers clients.
    service : Service
        Carries out the commands.
    origin : Origin
        Who has started the node, and where.
    secret : TierSecret, optional
        Of the tier, where it asks for one.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        coordinator: str,
        endpoint: str,
        service: Service,
        origin: Origin,
        secret: TierSecret | None = None,
    ) -> None:
        self._secret = secret
        self.socket = context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 500)
        self.socket.setsockopt(zmq.ROUTING_ID, b"\x01" + secrets.token_bytes(c.ROUTING_ID_BYTES - 1))
        connect(self.socket, coordinator, secret)
        self._coordinator = coordinator
        self._endpoint = endpoint
        self._origin = origin
        self._service = service
        #: Sends what this process logs to the driver's log, where that is wanted.
        self._log: LogForwarder | None = None
        #: When the I/O thread last came round (seconds, monotonic).
        self.seen_at = time.monotonic()
        self._pulse = Pulse(context, coordinator, lambda: self.seen_at, secret)
        #: The first message, until it is answered, and when it is sent again.
        self._hello: list[Any] | None = None
        self._hello_at = 0.0
        #: Id that the coordinator gave; -1 before `Welcome`.
        self.node = -1
        #: The node must exit, with `status`.
        self.over = False
        self.status = 0
        #: The process that started this node is watched, and the node ends with it: a coordinator that is silent, or gone, is then
        #: no reason to give up the rows. Set before the node serves.
        self.outlives_coordinator = False
        self._seq = 0
        self._next_beat = 0.0
        self._heard_at = self._began = time.monotonic()
        #: The coordinator has been silent for longer than the deadline.
        self._is_silent = False

    def hello(self) -> None:
        """Say that the node can take requests; again, until it is welcome: a coordinator that dies loses what it has heard."""
        if self._hello is None:
            origin = self._origin
            hello = c.NodeHello(self._number(), self._endpoint, origin.host or net.gethostname(), os.getpid(), origin.job, origin.attempt)
            self._hello = encode(hello)
        self._hello_at = time.monotonic() + HELLO_AGAIN
        self.socket.send_multipart(self._hello)

    def heartbeat(self, now: float) -> None:
        """Send a heartbeat if it is due; without a life line, give up if the coordinator was silent too long."""
        settings = self._service.state.settings
        if self.node < 0 and now >= self._hello_at:
            if now - self._began > JOIN_LIMIT:
                self._give_up(now - self._began)
                return
            self.hello()
        if self.node >= 0 and now >= self._next_beat:
            self._next_beat = now + settings.heartbeat_interval
            # Nobody takes heartbeats from the queue to a coordinator that is gone, and it must not fill up.
            with contextlib.suppress(zmq.Again):
                self.socket.send_multipart(self._reporting(lambda r: c.Heartbeat(self._number(), self.node, r)), zmq.NOBLOCK)
        # It answers heartbeats, and so is heard as often as these are sent from here.
        patience = max(settings.heartbeat_deadline, MISSED * settings.heartbeat_interval)
        if now - self._heard_at > patience and not self._is_silent:
            self._is_silent = True
            self._fall_silent(now - self._heard_at)

    def _give_up(self, seconds: float) -> None:
        log.error(
            "the coordinator at %s must answer a node that wants to join. It has not for %.0f s: exit. This machine must reach the driver"
            " there, at any port; `spark.driver.host` says by which name or address.",
            self._coordinator,
            seconds,
        )
        self.over, self.status = True, 1

    def _fall_silent(self, seconds: float) -> None:
        if self.outlives_coordinator:
            log.warning("the coordinator was silent for %.1f s: this node goes on as long as its driver lives", seconds)
            return
        log.error("the coordinator was silent for %.1f s: exit", seconds)
        self.over, self.status = True, 1

    def receive(self) -> None:
        """Carry out what the coordinator sent."""
        while True:
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            self._hear()
            try:
                message, _ = decode(frames)
            except ProtocolError as error:
                log.warning("dropped a message of the coordinator: %s", error)
                continue
            self._take(message)

    def _hear(self) -> None:
        self._heard_at = time.monotonic()
        if self._is_silent:
            log.info("the coordinator is heard again")
        self._is_silent = False

    def _take(self, message: Any) -> None:
        _TAKEN.get(type(message), CoordinatorLink._command)(self, message)

    def _command(self, message: Any) -> None:
        service = self._service

        def done(error: BaseException | None, report: dict[str, Any] | None = None) -> None:
            service.io.post(lambda: self._done(message, error, report or {}))

        command(service.state, message, done)

    def _welcome(self, message: c.Welcome) -> None:
        if self.node >= 0:
            return  # the answer to a repetition
        self.node = message.node
        self._pulse.begin(self.node, message.settings.heartbeat_interval)  # to make all tables may take longer than the deadline
        welcome(self._service.state, message)
        if message.log_level:
            origin = f"node {message.node} on {net.gethostname()}"
            self._log = LogForwarder(self._coordinator, origin, message.log_level, self._secret).begin()
        log.info("node %d of tier %s at %s", self.node, message.tier_id, self._endpoint)

    def _alive(self, message: c.Alive) -> None:
        if not message.known:
            log.error("the coordinator has declared this node dead: exit")
            self.over, self.status = True, 1

    def _refused(self, message: c.Refused) -> None:
        log.error("the coordinator refused this node: %s", message.message)
        self.over, self.status = True, PLACE_TAKEN if "job" in message.attributes else 1

    def _stop(self, message: c.StopNode) -> None:
        self.over = True
        self._done(message, None)

    def _report(self, message: c.ReportNow) -> None:
        self.socket.send_multipart(self._reporting(lambda r: c.CommandDone(message.seq, self.node, None, r)))

    def _done(self, message: Any, error: BaseException | None, report: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Tell the coordinator, who tells the caller, what came of a command."""
        self._send(c.CommandDone(message.seq, self.node, None if error is None else c.Cause.of(error), dict(report)))

    def _reporting(self, make: Callable[[dict[str, Any]], c.ControlMessage]) -> list[Any]:
        """The frames of a message with a report; where it is larger than a message may be, without its details."""
        report = self._service.report()
        try:
            return encode(make(report))
        except ProtocolError as error:
            log.warning("the report of this node does not fit into a message: %s", error)
            return encode(make({name: value for name, value in report.items() if not isinstance(value, dict)}))

    def _number(self) -> int:
        self._seq += 1
        return self._seq

    def _send(self, message: c.ControlMessage) -> None:
        self.socket.send_multipart(encode(message))

    def say_goodbye(self, reason: str) -> None:
        """The node ends although nobody told it to: others need not find out."""
        if self.node >= 0 and not self.over:
            with contextlib.suppress(zmq.Again):
                self.socket.send_multipart(encode(c.NodeGone(self._number(), self._endpoint, reason)), zmq.NOBLOCK)

    def close(self) -> None:
        """Close the connection."""
        self._pulse.close()
        if self._log is not None:
            self._log.close()
        self.socket.close()


#: What the link itself takes of the coordinator; anything else is a command to the node (`handlers.commands`).
_TAKEN: dict[type[c.ControlMessage], Callable[[CoordinatorLink, Any], None]] = {
    c.Welcome: CoordinatorLink._welcome,
    c.Alive: CoordinatorLink._alive,
    c.Refused: CoordinatorLink._refused,
    c.StopNode: CoordinatorLink._stop,
    c.ReportNow: CoordinatorLink._report,
}
