"""A session: one thread's conversation with the nodes of a tier.

The calling thread does all the work (send, receive, retry), under the session's lock; zmq's own threads move the bytes. A
session may be *bound* to a rank of a worker group; its calls then carry the rank's logical time, and the nodes hold
pulls back until the group's consistency allows them.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import zmq
from numpy.typing import NDArray

from sparkps.client.channel import Channel
from sparkps.client.control import ControlClient
from sparkps.client.futures import Future
from sparkps.client.inflight import Lane, Request, RetryPolicy, deadline_error
from sparkps.client.items import Item, pack
from sparkps.client.membership import Membership
from sparkps.client.routing import Routing
from sparkps.errors import NodeUnreachable, ShardLost, SparkPSError, TierError, from_wire
from sparkps.wire import messages as m
from sparkps.wire.codec import decode, encode
from sparkps.wire.control import Attach, Attached, TierAddress

#: How long one blocking receive lasts before timers are looked at (milliseconds).
RECEIVE_MS = 100

#: A request that is cheap to make anew: given (session, seq, acked, epoch), the message.
Make = Callable[[int, int, int, int], m.Message]


class Session:
    """One thread's conversation with the nodes of a tier. Use `connect` to get one.

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
            from sparkps.kernels import compiled

            compiled.use_cache_dir(self.settings.kernel_cache_dir)
        #: Random, so that no two sessions of a tier are alike.
        self.id = secrets.randbits(62) + 1
        self.pid = os.getpid()
        self._lock = threading.RLock()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        self._channels: dict[int, Channel] = {}
        self._lanes: dict[int, Lane] = {}
        self._poller = zmq.Poller()
        #: Number of calls so far.
        self._calls = 0
        #: The rank that this session speaks for, if any.
        self.member: Membership | None = None
        #: Seconds that calls of this session spent waiting for answers.
        self.waited_seconds = 0.0
        #: Writes and ticks that nobody has waited for yet.
        self._unfinished: list[Future[Any]] = []
        #: Key sets that the nodes know, by id; owner: `keyset`.
        self.registered: dict[int, Any] = {}
        self.closed = False
        self._route(attached)

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
        sink: Callable[[Any, list[Any]], None],
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

    @property
    def limit(self) -> float:
        """Seconds that a call may take: longer for a rank, whose pulls wait for other ranks."""
        limit: float = self.settings.wait_timeout if self.member else self.settings.request_timeout
        return limit

    def broadcast(self, what: str, make: Make, sink: Callable[[Any, list[Any]], None] | None = None) -> Future[None]:
        """Send one request without arrays to every node."""
        future: Future[None] = Future(self, what, lambda: None)
        for node in self.routing.nodes:
            self.send(future, node, make, [], sink or _ignore)
        return future

    def steps(self, future: Future[Any], items: Iterable[Item]) -> None:
        """Send the items of one call, as many as fit in one request per node, under the membership if there is one.

        All requests of a call share one ordinal: how a call is cut must not matter to what a shard has of it.
        """
        batches = list(pack(items, self.settings.chunk_bytes))
        writes = any(item.values is not None for _, batch in batches for item in batch)
        member = self.member.wire(write=writes) if self.member else None
        self._calls += 1
        for node, batch in batches:
            self._step(future, node, batch, member, self._calls)

    def _step(self, future: Future[Any], node: int, batch: list[Item], member: m.Member | None, call: int) -> None:
        ops = [item.op for item in batch]
        pulls = [item for item in batch if item.values is None]

        def make(session: int, seq: int, acked: int, epoch: int) -> m.Message:
            return m.Step(session, seq, acked, epoch, ops, member, call)

        def deliver(_: Any, arrays: list[Any]) -> None:
            for item, rows in zip(pulls, arrays, strict=True):
                item.deliver(rows)

        def again(refusal: m.Message) -> None:
            if isinstance(refusal, m.WrongEpoch):
                self.refresh()
            for registration in self.registered.values():
                registration.forget(node, refusal)
            others = [other for item in batch for other in item.reroute(self.routing)]
            for other, part in pack(others, self.settings.chunk_bytes):
                self._step(future, other, part, member, call=0)

        arrays = [array for item in batch for array in item.arrays()]
        up, down = sum(array.nbytes for array in arrays), sum(item.down for item in pulls)
        self.send(future, node, make, arrays, deliver, up=up, down=down, again=again)

    def remember(self, future: Future[Any]) -> None:
        """`flush` waits for this write."""
        self._unfinished = [f for f in self._unfinished if not f.settled() or f._error is not None]
        self._unfinished.append(future)

    def flush(self) -> None:
        """Wait until every write of this session was acknowledged; raises the first failure."""
        unfinished, self._unfinished = self._unfinished, []
        for future in unfinished:
            future.result()

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
            try:
                self._handle(node, self._channels[node].socket.recv_multipart(copy=False))
            except zmq.Again:
                return
            self._drain(node)
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
                _fail(request, deadline_error(request, node, self._channels[node].endpoint, now - request.made_at))
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
                    _fail(request, self.lost(node))

    def lost(self, node: int) -> ShardLost:
        """What a caller is told when a node is gone."""
        return ShardLost(
            f"Every bucket must have a live node. Node {node} is gone ({self._dead.get(node) or 'no heartbeat'}) and held the only"
            " replica of its buckets: its rows are lost. Start the tier again and train anew.",
            node=node,
        )

    def _late(self, what: str, now: float) -> TimeoutError:
        for node, lane in self._lanes.items():
            for request in lane.requests.values():
                return deadline_error(request, node, self._channels[node].endpoint, now - request.made_at)
        return TimeoutError(what)

    # ---- membership ----------------------------------------------------------------------------------------------------

    def takeover(self, group: int, rank: int, incarnation: int) -> tuple[int, bytes | None]:
        """Become `rank` of `group`: fence older incarnations, find where they stopped, and go on from there.

        Returns
        -------
        clock : int
            The first clock of this incarnation: one more than the highest that the rank ticked on any shard.
        state : bytes or None
            What was stored with that tick.
        """
        asking = Membership(group, rank, incarnation, clock=-1)
        best: list[m.TakenOver] = []
        self.broadcast(
            f"takeover of rank {rank}",
            lambda s, q, a, e: m.Takeover(s, q, a, asking.wire(write=False)),
            lambda message, _: best.append(message),
        ).result()
        latest = max(best, key=lambda answer: answer.clock)
        settled = Membership(group, rank, incarnation, clock=latest.clock)
        self.broadcast(
            f"settling of rank {rank}",
            lambda s, q, a, e: m.Settle(s, q, a, settled.wire(write=False), latest.state),
        ).result()
        if latest.finished:  # a node that the finish did not reach must hear of it, or other ranks wait there for ever
            self.broadcast(
                f"finish of rank {rank}",
                lambda s, q, a, e: m.Tick(s, q, a, settled.wire(write=False), latest.state, True),
            ).result()
        self.member = Membership(group, rank, incarnation, clock=latest.clock + 1)
        return self.member.clock, latest.state

    def tick(self, state: bytes | None = None, *, finish: bool = False) -> None:
        """The current clock is done: wait until its pushes are acknowledged, then tell every node.

        Parameters
        ----------
        state : bytes, optional
            The worker's own state at this clock; a successor gets it back.
        finish : bool
            The rank's function has returned: its clock becomes infinite. Waits for the nodes' answer.
        """
        member = self.member
        if member is None:
            raise TierError("A session must be bound to a rank of a worker group to tick. Got one outside any group.")
        self.flush()
        at = member.wire(write=False)
        future = self.broadcast(
            f"tick {member.clock} of rank {member.rank}", lambda s, q, a, e: m.Tick(s, q, a, at, state, finish)
        )
        if finish:
            future.result()
            self.member = None
        else:
            self.remember(future)
            member.advance()

    def finish(self, state: bytes | None = None) -> None:
        """The rank's function has returned; see `tick`."""
        self.tick(state, finish=True)

    def leave(self) -> None:
        """Speak for no rank any more, without telling the nodes (after a failure)."""
        self.member = None
        self._unfinished = []

    # ---- several tables at once ----------------------------------------------------------------------------------------

    def pull(self, wanted: Sequence[Any]) -> list[NDArray[Any]]:
        """Read several tables in one request per node; see `tables.pull_together`."""
        from sparkps.client.tables import pull_together

        return pull_together(self, wanted)

    def push(self, what: Sequence[tuple[Any, ...]], code: m.OpCode = m.OpCode.PUSH) -> Future[None]:
        """Write several tables in one request per node; see `tables.write_together`."""
        from sparkps.client.tables import write_together

        return write_together(self, code, what)

    # ---- the end -------------------------------------------------------------------------------------------------------

    def node_reports(self) -> dict[int, dict[str, Any]]:
        """What each node says of itself, by node id."""
        reports: dict[int, dict[str, Any]] = {}

        def take(message: Any, _: list[Any]) -> None:
            reports[message.report["node"]] = message.report

        self.broadcast("status", lambda s, q, a, e: m.Status(s, q, a), take).result()
        return reports

    def close(self) -> None:
        """Say good-bye and close the connections. Requests in flight are given up."""
        with self._lock:
            if self.closed:
                return
            self.closed = True
            for channel in self._channels.values():
                if self.pid == os.getpid():
                    channel.send(encode(m.Bye(self.id)))
                    channel.socket.close(linger=200)
            self._channels.clear()
            self._lanes.clear()


class _Flight:
    """What to do with the answer of one request."""

    __slots__ = ("again", "future", "node", "session", "sink")

    def __init__(
        self,
        session: Session,
        future: Future[Any],
        node: int,
        sink: Callable[[Any, list[Any]], None],
        again: Callable[[m.Message], None] | None,
    ) -> None:
        self.session = session
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
            raise self.session.lost(self.node)
        if self.again is None:
            raise TierError(
                f"The request must fit the node's placement and key sets. Got {message} instead; make the call again."
            )
        self.again(message)
        self.future.arrived()


_REFUSALS = frozenset({m.Failed, m.WrongEpoch, m.UnknownKeySet, m.UnknownSession})


def _fail(request: Request, error: SparkPSError) -> None:
    request.future.fail(error)


def _ignore(message: Any, arrays: list[Any]) -> None:
    """For answers that say nothing but that it was done."""


_local = threading.local()


def connect(address: TierAddress) -> Session:
    """This thread's session with a tier, made at the first call.

    Parameters
    ----------
    address : TierAddress

    Returns
    -------
    Session
        Of this thread and process: a forked child gets one of its own.
    """
    sessions: dict[str, Session] = _local.__dict__.setdefault("sessions", {})
    session = sessions.get(address.tier_id)
    if session is None or session.closed or session.pid != os.getpid():
        session = sessions[address.tier_id] = Session(address, ControlClient.of(address))
    return session


def disconnect(address: TierAddress) -> None:
    """Close this thread's session with a tier, if there is one."""
    session = _local.__dict__.get("sessions", {}).pop(address.tier_id, None)
    if session is not None:
        session.close()


__all__ = ["Session", "connect", "disconnect"]
