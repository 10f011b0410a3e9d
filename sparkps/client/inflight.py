"""Requests in flight from one session to one node: numbers, credits, retries and deadlines.

Pure: no socket and no clock inside; `now` is an argument in seconds. The shell (`transport`) sends what this module hands
out and feeds it the answers.

A request is sent once, and again after `RetryPolicy.first`, doubling up to `RetryPolicy.longest`, until its deadline. The
node runs it once however often it arrives, and runs the requests of a session in the order of their numbers: so no number
below one in flight may be left out, and a request that is given up leaves a *filler* in its place, which does nothing.
Credits bound the bytes that are in flight: those of requests (pushes) and those of the answers that pulls will bring are
counted apart, so a parked pull never keeps back the push it waits for.

Time in which nobody looked at the sockets counts for nothing: see `Lane.unseen`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from sparkps.errors import DeadlineExceeded

_NEVER = float("inf")

#: A node that has not answered for so long may be dead: the coordinator is asked. Then after pauses twice as long each, up to
#: `RetryPolicy.first` (seconds).
SILENCE = 0.25


class Purpose(Protocol):
    """What a request is for, as far as this module sees it."""

    #: Bytes of the request and of the answer expected, as counted against the credits.
    up: int
    down: int
    #: Whether it changes rows.
    write: bool

    @property
    def what(self) -> str:
        """What it is, for messages to people: "pull of table 'w'"."""

    def fail(self, error: BaseException) -> None:
        """The request will bring no answer."""


class _Filler:
    """What a filler is for: nothing."""

    up = down = 0
    write = False
    what = "place of a request that was given up"

    def fail(self, error: BaseException) -> None:
        """Nobody waits for it."""


#: `PendingRequest.piece` of all fillers.
FILLER = _Filler()


@dataclass(frozen=True)
class RetryPolicy:
    """When a request without an answer is sent again. Seconds."""

    first: float = 2.0
    longest: float = 15.0


@dataclass(slots=True)
class PendingRequest:
    """One request that a node has not answered yet."""

    #: Number within session and node.
    seq: int
    #: What goes on the wire; kept for sending again.
    frames: list[Any]
    piece: Any
    #: When it was sent for the first time (seconds, the shell's clock).
    sent_at: float
    #: Times at which it was made, is sent again, and is given up: as `sent_at`, but put off by what `Lane.unseen` is told.
    made_at: float
    resend_at: float
    deadline: float
    #: Current distance between two sends (seconds).
    pause: float
    #: Ranks whose tick a parked pull waits for, as the node last said, and the clock that it is parked at.
    waiting_for: list[int] = field(default_factory=list)
    clock: int = -1
    #: What its frames say of earlier ones: all up to this seq were answered.
    acked: int = 0


class Lane:
    """All requests in flight from one session to one node.

    Parameters
    ----------
    node : int
        The node's id, for error messages.
    push_credit, pull_credit : int
        Bytes that may be in flight. One request is always let through, however large.
    policy : RetryPolicy
        When to send again.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> push = SimpleNamespace(what="push", up=80, down=0, write=True)
    >>> lane = Lane(0, push_credit=100, pull_credit=100, policy=RetryPolicy())
    >>> seq = lane.next_seq()
    >>> _ = lane.add(seq, [b"..."], push, now=0.0, deadline=10.0)
    >>> lane.has_credit(up=80, down=0), lane.has_credit(up=0, down=80)
    (False, True)
    >>> lane.take(seq).piece.what, lane.acked
    ('push', 1)
    """

    def __init__(self, node: int, *, push_credit: int, pull_credit: int, policy: RetryPolicy) -> None:
        self.node = node
        self.push_credit = push_credit
        self.pull_credit = pull_credit
        self.policy = policy
        #: Requests by seq, ascending; owner: the session's lock.
        self.requests: dict[int, PendingRequest] = {}
        #: Every request with ``seq <= acked`` was answered or given up; never falls.
        self.acked = 0
        #: A `Hello` is under way: answers `UnknownSession` that come before `Ready` are to what was sent before it.
        self.opening = True
        #: Writes in flight, and pulls in flight.
        self.writes = 0
        self.pulls = 0
        self._fillers = 0
        self._last = 0
        self._up = 0
        self._down = 0
        #: No request is due before this time.
        self._next_due = _NEVER
        #: Pulls of which the node has said that they are parked: its silence about them means nothing.
        self._parked: set[int] = set()
        #: When the coordinator is to be asked about the node, and how long after that once more (seconds).
        self._ask_at, self._ask_pause = _NEVER, SILENCE

    # ---- numbers and credits -------------------------------------------------------------------------------------------

    def next_seq(self) -> int:
        """The number of the request that is added next."""
        return self._last + 1

    def has_credit(self, *, up: int, down: int) -> bool:
        """Whether a request of `up` bytes whose answer has `down` bytes may be sent now; it is a pull if it has any.

        One that has neither always may: a tick never waits behind the pushes that it follows.
        """
        if down:
            return self._down == 0 or self._down + down <= self.pull_credit
        return not up or self._up == 0 or self._up + up <= self.push_credit

    @property
    def bytes_under_way(self) -> int:
        """Bytes of requests and expected answers in flight, as counted against the credits."""
        return self._up + self._down

    # ---- coming and going ----------------------------------------------------------------------------------------------

    def add(self, seq: int, frames: list[Any], piece: Purpose, *, now: float, deadline: float) -> PendingRequest:
        """Note that a request is on its way; the caller sends ``frames``."""
        pause = self.policy.first
        request = PendingRequest(seq, frames, piece, now, now, now + pause, deadline, pause, acked=self.acked)
        if not self.requests or now + SILENCE < self._ask_at:
            self._ask_at, self._ask_pause = now + SILENCE, SILENCE
        self.requests[seq] = request
        self._last = seq
        self._count(piece, 1)
        self._next_due = min(self._next_due, request.resend_at, deadline)
        return request

    def take(self, seq: int) -> PendingRequest | None:
        """The request that an answer ends; None if it was answered before."""
        request = self.requests.pop(seq, None)
        if request is None:
            return None
        self._count(request.piece, -1)
        if self._parked:
            self._parked.discard(seq)
            if len(self._parked) == len(self.requests):
                self._ask_at = _NEVER
        if self._fillers and len(self.requests) == self._fillers:  # numbers above all that is in flight need no filler
            self.requests.clear()
            self._fillers = 0
        self.acked = next(iter(self.requests)) - 1 if self.requests else self._last
        return request

    def give_up(self, seq: int, frames: list[Any], now: float) -> None:
        """The request waits for no answer any more; `frames` do nothing, and take its place at the node."""
        request = self.requests[seq]
        self._count(request.piece, -1)
        self._parked.discard(seq)
        self.requests[seq] = self._filler(seq, frames, now)
        if len(self.requests) == self._fillers:
            self.requests.clear()
            self._fillers = 0
            self.acked = self._last

    def abandon(self) -> list[PendingRequest]:
        """The node is gone: all that it has not answered, in order of the numbers. The lane is not used any more."""
        found = [request for request in self.requests.values() if request.piece is not FILLER]
        self.requests.clear()
        return found

    def holes(self) -> list[int]:
        """Numbers below one in flight that were answered: a node that has forgotten the session must be given them again."""
        end = next(reversed(self.requests), 0)
        return [seq for seq in range(self.acked + 1, end) if seq not in self.requests]

    def fill(self, seq: int, frames: list[Any], now: float) -> None:
        """Put a filler into a hole."""
        self.requests[seq] = self._filler(seq, frames, now)
        self.requests = dict(sorted(self.requests.items()))

    def _filler(self, seq: int, frames: list[Any], now: float) -> PendingRequest:
        self._fillers += 1
        self._next_due = min(self._next_due, now)
        return PendingRequest(seq, frames, FILLER, now, now, now, _NEVER, self.policy.first, acked=self.acked)

    def _count(self, piece: Any, sign: int) -> None:
        if piece is FILLER:
            self._fillers += sign
        elif piece.write:
            self.writes += sign
        elif piece.down:
            self.pulls += sign
        if piece.down:
            self._down += sign * piece.down
        else:
            self._up += sign * piece.up

    # ---- what the node says --------------------------------------------------------------------------------------------

    def heard(self, now: float) -> None:
        """The node has sent something: it is there."""
        self._ask_at, self._ask_pause = now + SILENCE, SILENCE

    def park(self, seq: int, clock: int, waiting_for: list[int]) -> None:
        """The node says that a pull waits for the ticks of some ranks."""
        request = self.requests.get(seq)
        if request is not None:
            request.clock = clock
            request.waiting_for = waiting_for
            self._parked.add(seq)
            if len(self._parked) == len(self.requests):
                self._ask_at = _NEVER

    # ---- time ----------------------------------------------------------------------------------------------------------

    def unseen(self, since: float, now: float) -> None:
        """Nobody looked at the sockets from `since` to `now`: answers may have come, and the node is not to blame for the time."""
        soonest = _NEVER
        for request in self.requests.values():
            missed = now - max(since, request.made_at)
            if missed > 0:
                request.made_at += missed
                request.resend_at += missed
                request.deadline += missed
            soonest = min(soonest, request.resend_at, request.deadline)
        self._next_due = soonest
        self._ask_at += now - since

    def next_due(self) -> float:
        """Time of the next retry, deadline or question; infinite if nothing is in flight."""
        return min(self._next_due, self._ask_at) if self.requests else _NEVER

    def due(self, now: float) -> Iterator[PendingRequest]:
        """Requests to send again now, in order of their numbers."""
        if now < self._next_due:
            return
        soonest = _NEVER
        for request in self.requests.values():
            if request.resend_at <= now:
                request.pause = min(request.pause * 2, self.policy.longest)
                request.resend_at = now + request.pause
                if self._ask_at == _NEVER:
                    self._ask_at, self._ask_pause = now + SILENCE, SILENCE
                yield request
            soonest = min(soonest, request.resend_at, request.deadline)
        self._next_due = soonest

    def expired(self, now: float) -> list[PendingRequest]:
        """Requests whose deadline has passed; to be given up."""
        return [r for r in self.requests.values() if r.deadline <= now] if now >= self._next_due else []

    def is_silent(self, now: float) -> bool:
        """Whether the node has said nothing for so long that the coordinator is to be asked about it now."""
        if now < self._ask_at or not self.requests:
            return False
        self._ask_pause = max(SILENCE, min(2 * self._ask_pause, self.policy.first))
        self._ask_at = now + self._ask_pause
        return True

    def restart(self, now: float) -> list[PendingRequest]:
        """All that is in flight, in order of the numbers, to be sent again now."""
        for request in self.requests.values():
            request.pause = self.policy.first
            request.resend_at = now + request.pause
        return list(self.requests.values())


def deadline_error(request: PendingRequest, node: int, endpoint: str, waited: float) -> DeadlineExceeded:
    """What a caller is told when `request` met its deadline."""
    if request.waiting_for:
        ranks = ", ".join(map(str, request.waiting_for))
        return DeadlineExceeded(
            f"The {request.piece.what} at clock {request.clock} must be answered within {waited:.0f} s. Node {node} still waits for"
            f" the tick of rank(s) {ranks}. Raise `spark.sparkps.waitTimeout` if these ranks are only slow.",
            node=node,
            ranks=request.waiting_for,
            clock=request.clock,
        )
    return DeadlineExceeded(
        f"The {request.piece.what} must be answered within {waited:.0f} s. Node {node} at {endpoint} gave no answer;"
        " look at its log, or raise `spark.sparkps.requestTimeout`.",
        node=node,
    )
