"""Requests and answers between one thread and the nodes of a tier: connections, credits, retries, deadlines.

The calling thread does all the work, under the transport's lock; the network's own threads move the bytes. What is in flight,
and when it is due, is kept by `inflight`; what was refused, and when it may go again, by `order`: both are pure. What a
transport knows of time and connections comes from its `Network`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sparkps.client.futures import Future
from sparkps.client.inflight import FILLER, Lane, PendingRequest, deadline_error
from sparkps.client.links import Links
from sparkps.client.network import Network
from sparkps.client.order import Refusals, RefusedPiece
from sparkps.client.pieces import Piece, Sink, ignore
from sparkps.errors import DeadlineExceeded, SparkPSError, TierError, from_wire
from sparkps.wire.codec import decode, encode
from sparkps.wire.messages import data as m
from sparkps.wire.messages.control import Attach, TierAddress

if TYPE_CHECKING:
    from sparkps.client.control import ControlClient

#: Longest wait for answers before anything else is looked at, also while the coordinator's answer is looked for (seconds).
LOOK_EVERY, LOOK_EVERY_ASKING = 1.0, 0.05

#: Seconds between two calls of `Transport.check` while a call waits.
CHECK_EVERY = 0.1

#: Two looks at the sockets that are further apart leave time in which nobody looked (seconds); it counts for nothing.
UNSEEN_SECONDS = 0.1

#: A node that has an older placement than the session is asked again after so long (seconds).
LAG_SECONDS = 0.05

#: An answer to requests of so few bytes is looked for without sleeping, for so long: waking up costs as much as the answer takes.
SMALL_BYTES, SPIN_SECONDS = 1 << 17, 500e-6


class Transport(Links):
    """Requests to all nodes of a tier, and their answers, for one thread.

    Parameters
    ----------
    address : TierAddress
    control : ControlClient
        To the tier's coordinator. Used for its `request` and `ask` alone.
    network : Network, optional
        By default zmq.
    """

    def __init__(self, address: TierAddress, control: ControlClient, network: Network | None = None) -> None:
        super().__init__(address, control, network)
        #: What nodes have refused for now; owner of this and the next: `_lock`.
        self._refusals = Refusals()
        #: Until when the sockets were looked at (seconds, the network's clock).
        self._looked_at = self.network.now()
        #: Why no call can be answered any more: the tier has ended. Set by any thread, once.
        self.over: TierError | None = None
        #: Called now and then while a call waits; what it raises ends the call.
        self.check: Callable[[], None] | None = None

    @property
    def limit(self) -> float:
        """Seconds that a call may take."""
        limit: float = self.settings.request_timeout
        return limit

    # ---- placement -----------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Ask the coordinator for the placement as it is now, and wait for its answer."""
        with self._lock:
            self._heed(self.control.request(Attach(0, self.address.tier_id)))
            self._send_again(self.network.now())

    def catch_up(self) -> None:
        """Wait until new calls are cut by the newest placement that is known."""
        with self._lock:
            self._send_again(self.network.now())
            if self.routing is not self._newest:
                late = DeadlineExceeded("The writes in flight must be answered before the placement changes. They were not.")
                self._pump_until(lambda: self.routing is self._newest, self.network.now() + self.limit, lambda _: late)

    # ---- sending -------------------------------------------------------------------------------------------------------

    def send(self, piece: Piece) -> None:
        """Send one request, waiting for credit, and behind writes that were refused; its answer goes to its sink and future.

        Raises
        ------
        ShardLost
            The node is known to be dead.
        DeadlineExceeded
            It could not be sent in time.
        """
        with self._lock:
            node = piece.node
            if self.over is not None:
                raise self.over
            if self.closed:
                raise _closed(piece.what)
            if node in self._dead:
                raise self.lost(node)
            lane = self._lanes[node]
            now = self.network.now()
            deadline = now + self.limit
            if not self._may_send(piece, lane):
                self._pump_until(lambda: self._may_send(piece, lane), deadline, lambda at: self._held_up(piece, lane, at))
                if node in self._dead:
                    raise self.lost(node)
                now = self.network.now()
                deadline = now + self.limit
            self._transmit(piece, lane, now, deadline)

    def _may_send(self, piece: Piece, lane: Lane) -> bool:
        return lane.has_credit(up=piece.up, down=piece.down) and not (piece.write and self._refusals.writes)

    def _transmit(self, piece: Piece, lane: Lane, now: float, deadline: float) -> None:
        seq = lane.next_seq()
        frames = encode(piece.message, piece.arrays, (self.id, seq, lane.acked))
        lane.add(seq, frames, piece, now=now, deadline=deadline)
        piece.future.expect()
        self._channels[lane.node].send(frames)

    def broadcast(self, what: str, message: m.Request, sink: Sink = ignore) -> Future[None]:
        """Send one request without arrays to every node."""
        future: Future[None] = Future(self, what, lambda: None)
        self.tell_all(future, message, sink)
        return future

    def tell_all(self, future: Future[Any], message: m.Request, sink: Sink = ignore) -> None:
        """As `broadcast`, for a future that is there."""
        with self._lock:
            for node in self.routing.nodes:
                self.send(Piece(future, node, message, [], sink))

    # ---- waiting -------------------------------------------------------------------------------------------------------

    def poll(self) -> None:
        """Take in what has arrived, without waiting."""
        with self._lock:
            now = self.network.now()
            self._unseen(now)
            self._looked_at = now
            self._take_in([lane for lane in self._lanes.values() if lane.requests], _never)
            self._timers(now)

    def wait(self, future: Future[Any], timeout: float | None) -> None:
        """Receive until `future` is settled."""
        began = self.network.now()
        limit = self.limit if timeout is None else timeout
        with self._lock:
            try:
                self._pump_until(future.settled, began + limit, lambda now: self._late(future, now, limit))
            finally:
                self.waited_seconds += self.network.now() - began

    def await_pulls(self) -> None:
        """Wait until every pull of this session is answered."""
        with self._lock:
            limit = self.limit

            def late(now: float) -> DeadlineExceeded:
                for lane in self._lanes.values():
                    for request in lane.requests.values():
                        if request.piece.down and not request.piece.write:
                            return self._deadline_error(request, lane.node, now)
                return DeadlineExceeded(f"The pulls of a clock must be answered within {limit:.0f} s, before its tick. They were not.")

            self._pump_until(self._no_pull, self.network.now() + limit, late)

    def _no_pull(self) -> bool:
        return not self._refusals.pulls and not any(lane.pulls for lane in self._lanes.values())

    def _pump_until(
        self, done: Callable[[], bool], deadline: float, late: Callable[[float], DeadlineExceeded]
    ) -> None:
        """Take answers in until `done`; first what has come, then what is due."""
        now = self.network.now()
        self._unseen(now)
        while not done():
            busy = [lane for lane in self._lanes.values() if lane.requests]
            until = max(now, min(deadline, self._next_due(now, busy)))
            small = len(busy) == 1 and busy[0].bytes_under_way <= SMALL_BYTES
            channels = [self._channels[lane.node] for lane in busy]
            self.network.wait(channels, until - now, SPIN_SECONDS if small else 0.0)
            now = self.network.now()
            self._looked_at = now if now - until <= UNSEEN_SECONDS else until
            self._take_in(busy, done)
            if done():
                return
            if self.over is not None:
                raise self.over
            if self.check is not None:
                self.check()
            deadline += self._unseen(now)  # this process itself was stopped
            self._timers(now)
            self._look_for_sockets(busy, now)
            if now >= deadline and not done():
                raise late(now)

    def _next_due(self, now: float, busy: Sequence[Lane]) -> float:
        checking = LOOK_EVERY if self.check is None else CHECK_EVERY
        soonest = now + (LOOK_EVERY_ASKING if self._inquiries else checking)
        for lane in busy:
            soonest = min(soonest, lane.next_due())
        return min(soonest, self._refusals.next_due(now)) if self._refusals else soonest

    def _unseen(self, now: float) -> float:
        """Time in which nobody looked, if there was any: puts off all that is due by it."""
        since, self._looked_at = self._looked_at, now
        if now - since <= UNSEEN_SECONDS:
            return 0.0
        for lane in self._lanes.values():
            lane.unseen(since, now)
        self._refusals.unseen(now - since)
        return now - since

    # ---- receiving -----------------------------------------------------------------------------------------------------

    def _take_in(self, busy: Sequence[Lane], done: Callable[[], bool]) -> None:
        """Take what lies in the sockets of these lanes until `done`, and send what that allows."""
        for lane in busy:
            channel = self._channels[lane.node]
            while (frames := channel.receive()) is not None:
                self._handle(lane, frames)
                if done():
                    break
        if self._inquiries:
            self._hear_coordinator()
        if self._refusals or self.routing is not self._newest:
            self._send_again(self.network.now())

    def _handle(self, lane: Lane, frames: list[Any]) -> None:
        message, arrays = decode(frames)
        lane.heard()
        kind = type(message)
        if kind is m.Parked:
            lane.park(message.seq, message.clock, message.waiting_for)
        elif kind is m.Ready:
            lane.opening = False
        elif kind is m.UnknownSession:
            if message.seq in lane.requests and not lane.opening:
                self._reopen(lane.node, lane)
        else:
            request = lane.take(message.seq)
            if request is not None and request.piece is not FILLER:
                self._answer(lane.node, request, message, arrays)

    def _answer(self, node: int, request: PendingRequest, message: Any, arrays: list[Any]) -> None:
        piece: Piece = request.piece
        kind = type(message)
        try:
            if kind in _REFUSALS:
                self._refused(node, request, message)
            else:
                piece.sink(message, arrays)
                piece.future.arrived()
        except SparkPSError as error:
            piece.fail(error)
        except Exception as error:  # a wrong answer must end the call, not the session
            piece.fail(
                TierError(f"An answer must fit its request. Got {kind.__name__}: {type(error).__name__}: {error}")
            )
        except BaseException as error:  # an interrupt while the answer is taken in
            piece.fail(error)
            raise

    # ---- refusals ------------------------------------------------------------------------------------------------------

    def _refused(self, node: int, request: PendingRequest, message: Any) -> None:
        """Keep a refused piece until it may go again; raises what is final."""
        if isinstance(message, m.Failed):
            raise from_wire(message.error, message.message, message.attributes)
        piece: Piece = request.piece
        lags = isinstance(message, m.WrongEpoch) and message.epoch < piece.epoch
        if piece.again is None and not lags:
            raise TierError(
                f"The request must fit the node's placement and key sets. Got {message} instead; make the call again."
            )
        if isinstance(message, m.WrongEpoch) and not lags:
            self._learn(message)
        now = self.network.now()
        refused = RefusedPiece(piece, message, lags, now + LAG_SECONDS if lags else now, request.deadline)
        self._refusals.add(refused, node, request.seq)

    def _send_again(self, now: float) -> None:
        """Send what was refused, if it may go; the placement changes when no write is in flight."""
        writing = any(lane.writes for lane in self._lanes.values())
        if not writing:
            self.routing = self._newest
        for refused in self._refusals.ready(now, writing=writing, acked=lambda node: self._lanes[node].acked):
            piece = refused.piece
            try:
                pieces = [piece] if refused.as_it_is or piece.again is None else piece.again(refused.refusal, self._newest)
                for part in pieces:
                    if part.node in self._dead:
                        raise self.lost(part.node)
                    self._transmit(part, self._lanes[part.node], now, refused.deadline)
                piece.future.arrived()
            except Exception as error:
                piece.fail(error)

    def _reopen(self, node: int, lane: Lane) -> None:
        """The node has forgotten this session: open it again, and give it again what is in flight.

        Shards know a write that they have already for as long as the node had remembered the session; an older one must not
        be sent again.
        """
        now = self.network.now()
        for request in list(lane.requests.values()):
            late = now - request.sent_at > self.settings.session_ttl
            if late and request.piece.write and not request.piece.lasting:
                lane.give_up(request.seq, self._nothing(request.seq), now)
                request.piece.fail(self._uncertain(request, node, now))
        for seq in lane.holes():
            lane.fill(seq, self._nothing(seq), now)
        self._hello(node)
        for request in lane.restart(now):
            self._channels[node].send(request.frames)

    def _nothing(self, seq: int) -> list[Any]:
        """A request that does nothing, to take a number at a node."""
        return encode(m.Unregister(m.NO_KEYSET), (), (self.id, seq, 0))

    def _uncertain(self, request: PendingRequest, node: int, now: float) -> TierError:
        ttl = self.settings.session_ttl
        return TierError(
            f"The {request.piece.what} must be answered within {ttl:.0f} s of its first sending. It was not: {now - request.sent_at:.0f} s"
            f" have passed, and node {node} has forgotten what this client sent (`spark.sparkps.sessionTtl`). It may or may not"
            " have been applied; to send it again could apply it twice.",
            node=node,
        )

    # ---- time ----------------------------------------------------------------------------------------------------------

    def _timers(self, now: float) -> None:
        """Send again what is due, give up what is late, and ask the coordinator about nodes that are silent."""
        for node, lane in list(self._lanes.items()):
            if now < lane.next_due():
                continue
            for request in lane.expired(now):
                lane.give_up(request.seq, self._nothing(request.seq), now)
                request.piece.fail(self._deadline_error(request, node, now))
            for number, request in enumerate(lane.due(now)):
                if number == 0 and (lane.opening or lane.acked > request.acked):
                    self._hello(node)  # what is sent again is sent as it was, and does not say what was answered since
                self._channels[node].send(request.frames)
            if lane.is_silent(now):
                self._ask_coordinator()
        for refused in self._refusals.expired(now):
            refused.piece.fail(
                DeadlineExceeded(f"The {refused.piece.what} must be carried out in time. It was not: {_why(refused)}.")
            )

    # ---- errors --------------------------------------------------------------------------------------------------------

    def _deadline_error(self, request: PendingRequest, node: int, now: float) -> DeadlineExceeded:
        return deadline_error(request, node, self._endpoints[node], now - request.made_at)

    def _late(self, future: Future[Any], now: float, limit: float) -> DeadlineExceeded:
        """The wait for `future` has ended: names a request of its own."""
        for node, lane in self._lanes.items():
            for request in lane.requests.values():
                if request.piece is not FILLER and request.piece.future is future:
                    return self._deadline_error(request, node, now)
        why = " A node has refused a part of it, which waits to be sent again." if self._refusals.awaited(future) else ""
        return DeadlineExceeded(f"The {future.what} must be answered within {limit:.0f} s. It was not.{why}")

    def _held_up(self, piece: Piece, lane: Lane, now: float) -> DeadlineExceeded:
        """`piece` could not be sent in time: names who did not answer."""
        for request in lane.requests.values():
            if bool(request.piece.down) == bool(piece.down) and request.piece is not FILLER:
                cause = self._deadline_error(request, lane.node, now)
                return DeadlineExceeded(
                    f"The {piece.what} must be sent within {self.limit:.0f} s. It waits for room behind an earlier request. {cause}",
                    **cause.attributes,
                )
        return DeadlineExceeded(
            f"The {piece.what} must be sent within {self.limit:.0f} s. It waits behind writes that a node has refused for now."
        )

_REFUSALS = frozenset({m.Failed, m.WrongEpoch, m.UnknownKeySet})


def _closed(what: str) -> TierError:
    return TierError(f"A session must be open for a {what}. It was closed: make a new one, or use a handle in another thread.")


def _never() -> bool:
    """For `Transport._take_in`: there is no moment at which nobody waits any more."""
    return False


def _why(refused: RefusedPiece) -> str:
    if refused.as_it_is:
        return f"node {refused.piece.node} has not heard of the placement yet"
    return f"node {refused.piece.node} refused it, and other writes that must be answered first were not"


__all__ = ["Transport"]
