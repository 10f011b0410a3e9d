"""Requests on their way to the nodes of a tier: cut by the newest placement, within credit, and again where a node refused them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from sparkps.client.everywhere import Everywhere
from sparkps.client.futures import Future
from sparkps.client.inflight import FILLER, deadline_error
from sparkps.client.links import Links
from sparkps.client.order import GONE, RefusedPiece
from sparkps.client.pieces import Piece, Sink, ignore
from sparkps.errors import DeadlineExceeded, SparkPSError, TierError
from sparkps.wire.codec import encode
from sparkps.wire.messages import data as m
from sparkps.wire.messages.control import Attach

#: The coordinator is asked so often for a placement that requests wait for (seconds).
PLEA_SECONDS = 0.075

#: A session that knows of buckets that are lost asks the coordinator so often whether they were restored, and waits so long for its
#: answer (seconds).
HOPE_SECONDS, HOPE_LIMIT = 0.05, 1.0


class Sender(Links):
    """What a thread sends to the nodes of a tier; see `transport.Transport`, which waits and receives."""

    #: Why no call can be answered any more: the tier has ended. Set by any thread, once.
    over: TierError | None

    @property
    def limit(self) -> float:
        """Seconds that a call may take."""
        limit: float = self.settings.request_timeout
        return limit

    @abstractmethod
    def poll(self) -> None:
        """Take in what has arrived, without waiting."""

    @abstractmethod
    def wait(self, future: Future[Any], timeout: float | None) -> None:
        """Receive until `future` is settled."""

    @abstractmethod
    def _pump_until(self, done: Callable[[], bool], deadline: float, late: Callable[[float], DeadlineExceeded]) -> None:
        """Take answers in until `done`."""

    # ---- placement -----------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Ask the coordinator for the placement as it is now, and wait for its answer."""
        with self._lock:
            self._heed(self.control.request(Attach(0, self.address.tier_id)))
            self._send_again(self.network.now())

    def catch_up(self) -> None:
        """Wait until new calls are cut by the newest placement that is known, and all its nodes are there."""
        with self._lock:
            self._send_again(self.network.now())
            if not self._is_current():
                late = DeadlineExceeded("The writes in flight must be answered before the placement changes. They were not.")
                self._pump_until(self._is_current, self.network.now() + self.limit, lambda _: late)

    def _is_current(self) -> bool:
        return self.routing is self._newest and not self._is_stuck()

    def hope(self) -> None:
        """Before a call: what a node held alone may have been restored since it was lost, and nobody may have told this session.

        Not within a call, whose other rows may be those of before.
        """
        now = self.network.now()
        if now >= self._next_hope and any(node in self._dead and self._is_lost(node) for node in self._newest.nodes):
            with suppress(SparkPSError):
                self._heed(self.control.request(Attach(0, self.address.tier_id), timeout=HOPE_LIMIT))
            self._next_hope = self.network.now() + HOPE_SECONDS

    # ---- sending -------------------------------------------------------------------------------------------------------

    def send(self, piece: Piece) -> None:
        """Send one request, waiting for credit, and behind writes that were refused; its answer goes to its sink and future.

        One to a node that is gone waits for the placement without it.

        Raises
        ------
        ShardLost
            The node is gone, and no other has what it held.
        DeadlineExceeded
            It could not be sent in time.
        """
        with self._lock:
            self._check_open(piece.what)
            now = self.network.now()
            deadline = now + self.limit
            if not self._may_send(piece):
                self._pump_until(lambda: self._may_send(piece), deadline, lambda at: self._held_up(piece, at))
                now = self.network.now()
                deadline = now + self.limit
            for part in self._up_to_date(piece):
                if part.node in self._dead:
                    self._hold_back(part, now, deadline)
                else:
                    self._transmit(part, now, deadline)

    def _check_open(self, what: str) -> None:
        if self.over is not None:
            raise self.over
        if self.closed:
            raise TierError(f"A session must be open for a {what}. It was closed: make a new one, or use a handle in another thread.")

    def _may_send(self, piece: Piece) -> bool:
        if piece.node in self._dead:  # as much as one request may wait for a new placement
            waiting = self._refusals.writes if piece.write else self._refusals.pulls
            return not waiting or self._is_lost(piece.node)
        lane = self._lanes[piece.node]
        return lane.has_credit(up=piece.up, down=piece.down) and not (piece.write and self._refusals.writes)

    def _up_to_date(self, piece: Piece) -> list[Piece]:
        """A write as the placement has it by which others are on their way now; it was cut before, and has waited for room.

        To where its rows were it must not go: the next write would be at the new place before it, and it would count as known there.
        """
        if piece.again is None or not (piece.write and 0 < piece.epoch < self.routing.epoch):
            return [piece]
        return piece.again(GONE, self.routing)

    def _hold_back(self, piece: Piece, now: float, deadline: float) -> None:
        """A request to a node that is gone: as if that had refused it."""
        if piece.again is None or self._is_lost(piece.node):
            raise self._gone(piece.what, piece.node)
        piece.future.expect()
        self._refusals.add(RefusedPiece(piece, GONE, False, now, deadline))
        self._send_again(now)

    def _transmit(self, piece: Piece, now: float, deadline: float) -> None:
        lane = self._lanes[piece.node]
        seq = lane.next_seq()
        frames = encode(piece.message, piece.arrays, (self.id, seq, lane.acked))
        lane.add(seq, frames, piece, now=now, deadline=deadline)
        piece.future.expect()
        self._channels[lane.node].send(frames)

    def broadcast(self, what: str, message: m.Request, sink: Sink = ignore) -> Future[None]:
        """Send one request without arrays to every node; the answers that the sink gets are those of all nodes of one placement."""
        future: Future[None] = Future(self, what, lambda: None)
        self.tell_all(future, message, sink)
        return future

    def tell_all(self, future: Future[Any], message: m.Request, sink: Sink = ignore) -> None:
        """As `broadcast`, for a future that is there."""
        with self._lock:
            self._check_open(future.what)
            each = Everywhere(future, message, sink, self.network.now() + self.limit)
            future.expect()
            self.hope()
            self._everywhere = [*(other for other in self._everywhere if not other.over), each]
            try:
                self._go_round(each)
            except BaseException:
                each.over = True
                raise

    def _go_round(self, each: Everywhere) -> None:
        """Send a request to all nodes of the newest placement, if it has not gone there yet and all of them are there."""
        newest = self._newest
        gone = [node for node in each.needs(newest) if node in self._dead]
        for node in gone:
            if self._is_lost(node):
                raise self.lost(node)
        if newest.epoch > each.epoch and not gone:
            now = self.network.now()
            for piece in each.begin(newest):
                self._transmit(piece, now, each.deadline)

    def _renew(self) -> None:
        for each in self._everywhere:
            if each.over:
                continue  # to do it once more could undo what came after it
            try:
                self._go_round(each)
            except SparkPSError as error:
                each.fail(error)
        self._everywhere = [each for each in self._everywhere if not each.over]

    # ---- what was refused ----------------------------------------------------------------------------------------------

    def _send_again(self, now: float) -> None:
        """Send what was refused, if it may go; the placement changes when no write is in flight."""
        writing = any(lane.writes for lane in self._lanes.values())
        if not writing:
            self.routing = self._newest
        found = self._refusals.ready(now, writing=writing, acked=lambda node: self._lanes[node].acked)
        for number, refused in enumerate(found):
            piece = refused.piece
            try:
                parts = self._cut_anew(refused)
                if parts is None:  # and neither can the writes behind it
                    self._refusals.put_back(found[number:] if piece.write else [refused], now + PLEA_SECONDS)
                    if piece.write:
                        return
                    continue
                for part in parts:
                    self._transmit(part, now, refused.deadline)
                piece.future.arrived()
            except Exception as error:
                piece.fail(error)

    def _cut_anew(self, refused: RefusedPiece) -> list[Piece] | None:
        """What goes in place of a refused piece; None while the placement that it needs is not known.

        Raises
        ------
        ShardLost
        """
        piece, newest = refused.piece, self._newest
        if piece.again is None or (refused.as_it_is and piece.epoch >= newest.epoch and piece.node not in self._dead):
            return [piece]
        if isinstance(refused.refusal, m.WrongEpoch) and not refused.as_it_is and refused.refusal.epoch > newest.epoch:
            return None
        parts = piece.again(refused.refusal, newest)
        gone = [part.node for part in parts if part.node in self._dead]
        for node in gone:
            if self._is_lost(node):
                raise self.lost(node)
        return None if gone else parts

    def _held_up(self, piece: Piece, now: float) -> DeadlineExceeded:
        """`piece` could not be sent in time: names who did not answer."""
        lane = self._lanes.get(piece.node)
        for request in lane.requests.values() if lane is not None else ():
            if bool(request.piece.down) == bool(piece.down) and request.piece is not FILLER:
                cause = deadline_error(request, piece.node, self._endpoints[piece.node], now - request.made_at)
                return DeadlineExceeded(
                    f"The {piece.what} must be sent within {self.limit:.0f} s. It waits for room behind an earlier request. {cause}",
                    **cause.attributes,
                )
        behind = "writes that a node has refused for now" if lane is not None else f"others for node {piece.node}, which is gone"
        return DeadlineExceeded(f"The {piece.what} must be sent within {self.limit:.0f} s. It waits behind {behind}.")


__all__ = ["PLEA_SECONDS", "Sender"]
