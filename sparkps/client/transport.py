"""Requests and answers between one thread and the nodes of a tier: connections, credits, retries, deadlines.

The calling thread does all the work, under the transport's lock; zmq's own threads move the bytes. What is in flight, and
when it is due, is kept by `inflight`, which is pure.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import zmq

from sparkps.client.channel import Channel
from sparkps.client.control import ControlClient
from sparkps.client.futures import Future
from sparkps.client.inflight import Lane, RetryPolicy, deadline_error
from sparkps.client.routing import Routing
from sparkps.errors import DeadlineExceeded, NodeUnreachable, ShardLost, SparkPSError, TierError, from_wire
from sparkps.wire import messages as m
from sparkps.wire.codec import decode, encode
from sparkps.wire.control import Attach, Attached, TierAddress

#: How long one blocking receive lasts before timers are looked at (milliseconds).
RECEIVE_MS = 100

#: An answer to requests of so few bytes is looked for without sleeping, for so long: waking up costs as much as the answer takes.
SMALL_BYTES, SPIN_SECONDS = 1 << 17, 500e-6

#: Given (session, seq, acked, epoch), the message of a request.
Make = Callable[[int, int, int, int], m.Message]

#: Called with the message and the arrays of an answer.
Sink = Callable[[Any, list[Any]], None]


class Transport:
    """Connections to all nodes of a tier, for one thread.

    Parameters
    ----------
    address : TierAddress
    control : ControlClient
        To the tier's coordinator.
    """

    def __init__(self, address: TierAddress, control: ControlClient) -> None:
        self.address = address
        self.control = control
        attached = control.request(Attach(0, address.tier_id))
        self.settings = attached.settings
        if self.settings.kernel_cache_dir:
            from sparkps.kernels import places

            places.look_first_in(self.settings.kernel_cache_dir)
        #: Random, so that no two sessions of a tier are alike.
        self.id = secrets.randbits(62) + 1
        self.pid = os.getpid()
        self.closed = False
        #: Seconds that calls spent waiting for answers.
        self.waited_seconds = 0.0
        #: Owner of all below: `_lock`.
        self._lock = threading.RLock()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        self._channels: dict[int, Channel] = {}
        self._lanes: dict[int, Lane] = {}
        self._poller = zmq.Poller()
        #: Nodes that the coordinator has declared dead, with the reason.
        self._dead: dict[int, str] = {}
        self._finalizer = weakref.finalize(self, _release, self._channels, self.id, self.pid)
        self._route(attached)

    @property
    def limit(self) -> float:
        """Seconds that a call may take."""
        limit: float = self.settings.request_timeout
        return limit

    # ---- placement -----------------------------------------------------------------------------------------------------

    def _route(self, attached: Attached) -> None:
        """Take over a placement; connects to nodes that are new."""
        endpoints = {info.node: info.endpoint for info in attached.nodes}
        self._dead = {info.node: info.reason for info in attached.nodes if info.state != "up"}
        self.routing = Routing.of(attached.epoch, attached.placement)
        for node in self.routing.nodes:
            if node not in self._channels:
                self._open(node, endpoints[node])

    def _open(self, node: int, endpoint: str) -> None:
        channel = Channel(self._context, endpoint)
        channel.socket.setsockopt(zmq.RCVTIMEO, RECEIVE_MS)
        channel.send(encode(m.Hello(self.id)))
        self._channels[node] = channel
        self._poller.register(channel.socket, zmq.POLLIN)
        self._lanes[node] = Lane(
            node,
            push_credit=self.settings.push_credit_bytes,
            pull_credit=self.settings.pull_credit_bytes,
            policy=RetryPolicy(self.settings.retry_initial, self.settings.retry_max),
        )

    def refresh(self) -> None:
        """Ask the coordinator for the placement as it is now."""
        self._route(self.control.request(Attach(0, self.address.tier_id)))

    # ---- sending -------------------------------------------------------------------------------------------------------

    def send(
        self,
        future: Future[Any],
        node: int,
        make: Make,
        arrays: list[Any],
        sink: Sink,
        *,
        up: int = 0,
        down: int = 0,
        again: Callable[[m.Message], None] | None = None,
    ) -> None:
        """Send one request, waiting for credit; its answer goes to `sink`, its failure to `future`.

        `again` is called with `WrongEpoch` or `UnknownKeySet`, and sends the same work anew; without it they are failures.

        Raises
        ------
        ShardLost
            The node is known to be dead.
        DeadlineExceeded
            No credit came free in time.
        """
        with self._lock:
            lane = self._lanes[node]
            if node in self._dead:
                raise self.lost(node)
            deadline = time.monotonic() + self.limit
            if not lane.has_credit(up=up, down=down):
                self._pump_until(lambda: lane.has_credit(up=up, down=down), deadline, future.what)
            seq = lane.next_seq()
            frames = encode(make(self.id, seq, lane.acked, self.routing.epoch), arrays)
            flight = _Flight(self, future, node, sink, again)
            lane.add(seq, frames, future, flight.answer, up=up, down=down, now=time.monotonic(), deadline=deadline)
            future.expect()
            self._channels[node].send(frames)

    def broadcast(self, what: str, make: Make, sink: Sink | None = None) -> Future[None]:
        """Send one request without arrays to every node."""
        future: Future[None] = Future(self, what, lambda: None)
        for node in self.routing.nodes:
            self.send(future, node, make, [], sink or _ignore)
        return future

    # ---- receiving -----------------------------------------------------------------------------------------------------

    def poll(self) -> None:
        """Take in what has arrived, without waiting."""
        with self._lock:
            for node in self._channels:
                self._drain(node)

    def wait(self, future: Future[Any], timeout: float | None) -> None:
        """Receive until `future` is settled."""
        began = time.monotonic()
        limit = self.limit if timeout is None else timeout
        with self._lock:
            try:
                self._pump_until(future.settled, began + limit, future.what)
            finally:
                self.waited_seconds += time.monotonic() - began

    def _pump_until(self, done: Callable[[], bool], deadline: float, what: str) -> None:
        while not done():
            self._pump()
            if done():
                return
            now = time.monotonic()
            self._timers(now)
            if now >= deadline and not done():
                raise self._late(what, now)

    def _pump(self) -> None:
        """Wait for an answer, at most `RECEIVE_MS`."""
        busy = [node for node, lane in self._lanes.items() if lane.requests]
        if len(busy) == 1:
            node = busy[0]
            channel = self._channels[node]
            if self._lanes[node].bytes_under_way <= SMALL_BYTES:
                channel.spin(SPIN_SECONDS)
            frames = channel.await_next()
            if frames is not None:
                self._handle(node, frames)
            return
        if self._poller.poll(RECEIVE_MS):
            for node in busy:
                self._drain(node)

    def _drain(self, node: int) -> None:
        channel = self._channels[node]
        while (frames := channel.receive()) is not None:
            self._handle(node, frames)

    def _handle(self, node: int, frames: list[zmq.Frame]) -> None:
        message, arrays = decode(frames)
        lane = self._lanes[node]
        if isinstance(message, m.Parked):
            lane.park(message.seq, message.clock, message.waiting_for)
            return
        request = lane.take(message.seq)
        if request is not None:
            request.sink(message, arrays)

    def _timers(self, now: float) -> None:
        for node, lane in self._lanes.items():
            if now < lane.next_due():
                continue
            for request in lane.expired(now):
                request.future.fail(deadline_error(request, node, self._channels[node].endpoint, now - request.made_at))
            silent = list(lane.due(now))
            if silent:
                self._look_after(node)
            for request in silent:
                if request.seq in lane.requests:
                    self._channels[node].send(request.frames)

    def _look_after(self, node: int) -> None:
        """A node is silent: ask the coordinator whether it is dead, and fail its requests at once if so."""
        try:
            self.refresh()
        except (NodeUnreachable, TimeoutError):
            return  # the coordinator is control plane only: training goes on without it
        if node in self._dead:
            lane = self._lanes[node]
            for seq in list(lane.requests):
                request = lane.take(seq)
                if request is not None:
                    request.future.fail(self.lost(node))

    def lost(self, node: int) -> ShardLost:
        """What a caller is told when a node is gone."""
        return ShardLost(
            f"Every bucket must have a live node. Node {node} is gone ({self._dead.get(node) or 'no heartbeat'}) and held the only"
            " replica of its buckets: its rows are lost. Start the tier again and train anew.",
            node=node,
        )

    def _late(self, what: str, now: float) -> DeadlineExceeded:
        for node, lane in self._lanes.items():
            for request in lane.requests.values():
                return deadline_error(request, node, self._channels[node].endpoint, now - request.made_at)
        return DeadlineExceeded(f"The {what} must be answered in time. It was not.")

    def close(self) -> None:
        """Say good-bye and close the connections. Requests in flight are given up."""
        with self._lock:
            self.closed = True
            self._finalizer()
            self._lanes.clear()


def _release(channels: dict[int, Channel], session: int, pid: int) -> None:
    """Close the connections; also when the transport's thread has ended without `Transport.close`."""
    if pid == os.getpid():  # a forked child has no right to its parent's sockets
        for channel in channels.values():
            channel.send(encode(m.Bye(session)))
            channel.close(linger=200)
    channels.clear()


class _Flight:
    """What to do with the answer of one request."""

    __slots__ = ("again", "future", "node", "sink", "transport")

    def __init__(
        self,
        transport: Transport,
        future: Future[Any],
        node: int,
        sink: Sink,
        again: Callable[[m.Message], None] | None,
    ) -> None:
        self.transport = transport
        self.future = future
        self.node = node
        self.sink = sink
        self.again = again

    def answer(self, message: Any, arrays: list[Any]) -> None:
        """The node has answered."""
        kind = type(message)
        try:
            if kind in _REFUSALS:
                self._refused(message)
            else:
                self.sink(message, arrays)
                self.future.arrived()
        except SparkPSError as error:
            self.future.fail(error)
        except Exception as error:  # a wrong answer must end the call, not the session
            self.future.fail(
                TierError(f"An answer must fit its request. Got {kind.__name__}: {type(error).__name__}: {error}")
            )

    def _refused(self, message: Any) -> None:
        if isinstance(message, m.Failed):
            raise from_wire(message.error, message.message, message.attributes)
        if isinstance(message, m.UnknownSession):
            raise self.transport.lost(self.node)
        if self.again is None:
            raise TierError(
                f"The request must fit the node's placement and key sets. Got {message} instead; make the call again."
            )
        self.again(message)
        self.future.arrived()


_REFUSALS = frozenset({m.Failed, m.WrongEpoch, m.UnknownKeySet, m.UnknownSession})


def _ignore(message: Any, arrays: list[Any]) -> None:
    """For answers that say nothing but that it was done."""
