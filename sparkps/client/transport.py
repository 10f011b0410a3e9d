"""Requests and answers between one thread and the nodes of a tier: connections, credits, retries, deadlines.

The calling thread does all the work, under the transport's lock; the network's own threads move the bytes. What is in flight,
and when it is due, is kept by `inflight`; what was refused, and when it may go again, by `order`: both are pure. What a
transport knows of time and connections comes from its `Network`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sparkps.client.everywhere import Everywhere
from sparkps.client.futures import Future
from sparkps.client.inflight import FILLER, Lane, PendingRequest, deadline_error
from sparkps.client.network import Network
from sparkps.client.order import RefusedPiece
from sparkps.client.pieces import Piece
from sparkps.client.sending import PLEA_SECONDS, Sender
from sparkps.errors import DeadlineExceeded, ProtocolError, SparkPSError, TierError, from_wire
from sparkps.plain import shown
from sparkps.wire.codec import decode
from sparkps.wire.messages import data as m
from sparkps.wire.messages.control import TierAddress

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


class Transport(Sender):
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
        #: Until when the sockets were looked at (seconds, the network's clock); owner of this and the next: `_lock`.
        self._looked_at = self.network.now()
        #: When the coordinator is asked again for a placement that requests wait for.
        self._next_plea = 0.0
        self.over: TierError | None = None
        #: Called now and then while a call waits; what it raises ends the call.
        self.check: Callable[[], None] | None = None

    # ---- waiting -------------------------------------------------------------------------------------------------------

    def poll(self) -> None:
        """Take in what has arrived, without waiting."""
        with self._lock:
            now = self.network.now()
            self._unseen(now)
            self._looked_at = now
            self._take_in(list(self._lanes.values()), _never)
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
        """Take answers in until `done`; first what has come, then what is due.

        All nodes are listened to: one that nothing is awaited of may say that the placement has changed. Only a small answer is looked
        for at its own node alone, as long as that is done without sleeping.
        """
        now = self.network.now()
        self._unseen(now)
        spun = False
        while not done():
            busy = [lane for lane in self._lanes.values() if lane.requests]
            until = max(now, min(deadline, self._next_due(now, busy)))
            spun = not spun and len(busy) == 1 and busy[0].bytes_under_way <= SMALL_BYTES
            if spun:
                until = min(until, now + SPIN_SECONDS)
                self.network.wait([self._channels[busy[0].node]], until - now, SPIN_SECONDS)
            else:
                self.network.wait(list(self._channels.values()), until - now)
            now = self.network.now()
            self._looked_at = now if now - until <= UNSEEN_SECONDS else until
            if not self._take_in(busy, done) and not spun:
                self._take_in([lane for lane in self._lanes.values() if not lane.requests], done)
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
        for each in self._everywhere:
            soonest = min(soonest, each.deadline)
        if self._is_stuck():
            soonest = min(soonest, self._next_plea)
        return min(soonest, self._refusals.next_due(now)) if self._refusals else soonest

    def _unseen(self, now: float) -> float:
        """Time in which nobody looked, if there was any: puts off all that is due by it."""
        since, self._looked_at = self._looked_at, now
        if now - since <= UNSEEN_SECONDS:
            return 0.0
        for lane in self._lanes.values():
            lane.unseen(since, now)
        self._refusals.unseen(now - since)
        for each in self._everywhere:
            each.deadline += now - since
        return now - since

    # ---- receiving -----------------------------------------------------------------------------------------------------

    def _take_in(self, lanes: Sequence[Lane], done: Callable[[], bool]) -> bool:
        """Take what lies in the sockets of these lanes until `done`, and send what that allows. Whether there was anything."""
        found = False
        for lane in lanes:
            channel = self._channels.get(lane.node)
            while channel is not None and (frames := channel.receive()) is not None:
                found = True
                self._handle(lane, frames)
                if done():
                    break
                channel = self._channels.get(lane.node)  # what came may have said that the node is gone
        if self._inquiries:
            self._hear_coordinator()
        if self._refusals or self.routing is not self._newest:
            self._send_again(self.network.now())
        return found

    def _handle(self, lane: Lane, frames: list[Any]) -> None:
        message, arrays = decode(frames)
        lane.heard(self._looked_at)
        kind = type(message)
        if kind is m.Parked:
            lane.park(message.seq, message.clock, message.waiting_for)
        elif kind is m.Ready:
            lane.opening = False
        elif kind is m.Placed:
            self._placed(lane.node, message)
        elif kind is m.AnotherTier:
            self.over = TierError(
                f"Tables must be used on their tier, {self.address.tier_id}. It has ended, and tier {shown(message.tier_id)} is in its"
                " place, as when it was started again: take the tables from that one (`PSContext`, `sparkps.connect`)."
            )
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
            elif kind is not _ANSWERS.get(type(piece.message), m.Done):
                raise ProtocolError(f"A node must answer a {type(piece.message).__name__} as such. Got {kind.__name__}.", node=node)
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
                DeadlineExceeded(f"The {refused.piece.what} must be carried out in time. It was not: {self._why(refused)}.")
            )
        for each in self._everywhere:
            if now >= each.deadline:
                each.fail(self._unplaced(each))
        if now >= self._next_plea and self._is_stuck():
            self._next_plea = now + PLEA_SECONDS
            self._ask_coordinator()

    # ---- errors --------------------------------------------------------------------------------------------------------

    def _deadline_error(self, request: PendingRequest, node: int, now: float) -> DeadlineExceeded:
        return deadline_error(request, node, self._endpoints[node], now - request.made_at)

    def _late(self, future: Future[Any], now: float, limit: float) -> DeadlineExceeded:
        """The wait for `future` has ended: names a request of its own."""
        for node, lane in self._lanes.items():
            for request in lane.requests.values():
                if request.piece is not FILLER and request.piece.future.whole is future:
                    return self._deadline_error(request, node, now)
        why = " A node has refused a part of it, which waits to be sent again." if self._refusals.awaited(future) else ""
        return DeadlineExceeded(f"The {future.what} must be answered within {limit:.0f} s. It was not.{why}")

    def _why(self, refused: RefusedPiece) -> str:
        node = refused.piece.node
        if node in self._dead:
            return f"node {node} is gone ({self._dead[node] or 'no heartbeat'}), and no placement without it has come"
        if refused.as_it_is:
            return f"node {node} has not heard of the placement yet, or restores a checkpoint"
        return f"node {node} refused it, and other writes that must be answered first were not"

    def _unplaced(self, each: Everywhere) -> DeadlineExceeded:
        gone = ", ".join(map(str, sorted(self._dead.keys() & set(self._newest.nodes))))
        return DeadlineExceeded(
            f"The {each.future.what} must reach all nodes of a placement in time. It did not: node(s) {gone} are gone, and no placement"
            " without them has come."
        )


#: What answers requests that are not answered by `Done`.
_ANSWERS: dict[type[Any], type[Any]] = {m.Takeover: m.TakenOver, m.Status: m.StatusReport}
_REFUSALS = frozenset({m.Failed, m.WrongEpoch, m.UnknownKeySet})


def _never() -> bool:
    """For `Transport._take_in`: there is no moment at which nobody waits any more."""
    return False


__all__ = ["Transport"]
