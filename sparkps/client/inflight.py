"""Requests in flight from one session to one node: numbers, credits, retries and deadlines.

Pure: no socket and no clock inside; `now` is an argument in seconds. The shell (`session`) sends what this module hands
out and feeds it the answers.

A request is sent once, and again after `RetryPolicy.first`, doubling up to `RetryPolicy.longest`, until its deadline. The
node runs it once however often it arrives. Credits bound the bytes that are in flight: those of requests (pushes) and
those of the answers that pulls will bring are counted apart, so a parked pull never keeps back the push it waits for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from sparkps.errors import DeadlineExceeded

#: Called with the answer's message and arrays.
Sink = Callable[[Any, list[Any]], None]


class Outcome(Protocol):
    """The call that a request belongs to, as far as this module sees it."""

    #: What it is, for messages to people: "pull of table 'w'".
    what: str

    def fail(self, error: BaseException) -> None:
        """The request will bring no answer."""


@dataclass(frozen=True)
class RetryPolicy:
    """When a request without an answer is sent again. Seconds."""

    first: float = 2.0
    longest: float = 15.0


@dataclass(slots=True)
class Request:
    """One request that a node has not answered yet."""

    #: Number within session and node.
    seq: int
    #: What goes on the wire; kept for sending again.
    frames: list[Any]
    #: The call that it belongs to.
    future: Outcome
    sink: Sink
    #: Bytes of the request and of the answer expected, as counted against the credits.
    up: int
    down: int
    #: Times at which it was made, is sent again, and is given up (seconds, the shell's clock).
    made_at: float
    resend_at: float
    deadline: float
    #: Current distance between two sends (seconds).
    pause: float
    #: Ranks whose tick a parked pull waits for, as the node last said, and the clock that it is parked at.
    waiting_for: list[int] = field(default_factory=list)
    clock: int = -1


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
    >>> push = SimpleNamespace(what="push", fail=print)
    >>> lane = Lane(0, push_credit=100, pull_credit=100, policy=RetryPolicy())
    >>> seq = lane.next_seq()
    >>> _ = lane.add(seq, [b"..."], push, lambda m, a: None, up=80, down=0, now=0.0, deadline=10.0)
    >>> lane.has_credit(up=80, down=0), lane.has_credit(up=0, down=80)
    (False, True)
    >>> lane.take(seq).future.what, lane.acked
    ('push', 1)
    """

    def __init__(self, node: int, *, push_credit: int, pull_credit: int, policy: RetryPolicy) -> None:
        self.node = node
        self.push_credit = push_credit
        self.pull_credit = pull_credit
        self.policy = policy
        #: Requests by seq, in the order they were made; owner: the session's lock.
        self.requests: dict[int, Request] = {}
        #: Every request with ``seq <= acked`` was answered.
        self.acked = 0
        self._last = 0
        self._up = 0
        self._down = 0
        #: No request is due before this time.
        self._next_due = float("inf")

    def next_seq(self) -> int:
        """A new number; it must be added next."""
        self._last += 1
        return self._last

    def has_credit(self, *, up: int, down: int) -> bool:
        """Whether a request of `up` bytes whose answer has `down` bytes may be sent now; it is a pull if it has any."""
        if down:
            return self._down == 0 or self._down + down <= self.pull_credit
        return self._up == 0 or self._up + up <= self.push_credit

    def add(
        self,
        seq: int,
        frames: list[Any],
        future: Outcome,
        sink: Sink,
        *,
        up: int,
        down: int,
        now: float,
        deadline: float,
    ) -> Request:
        """Note that a request is on its way; the caller sends ``frames``."""
        pause = self.policy.first
        request = Request(seq, frames, future, sink, up, down, now, now + pause, deadline, pause)
        self.requests[seq] = request
        self._up += up if not down else 0
        self._down += down
        self._next_due = min(self._next_due, request.resend_at, deadline)
        return request

    def take(self, seq: int) -> Request | None:
        """The request that an answer ends; None if it was answered before."""
        request = self.requests.pop(seq, None)
        if request is None:
            return None
        self._up -= request.up if not request.down else 0
        self._down -= request.down
        self.acked = next(iter(self.requests)) - 1 if self.requests else self._last
        return request

    def park(self, seq: int, clock: int, waiting_for: list[int]) -> None:
        """The node says that a pull waits for the ticks of some ranks."""
        request = self.requests.get(seq)
        if request is not None:
            request.clock = clock
            request.waiting_for = waiting_for

    @property
    def bytes_under_way(self) -> int:
        """Bytes of requests and expected answers in flight, as counted against the credits."""
        return self._up + self._down

    def next_due(self) -> float:
        """Time of the next retry or deadline; infinite if nothing is in flight."""
        return self._next_due if self.requests else float("inf")

    def due(self, now: float) -> Iterator[Request]:
        """Requests to send again now. Those past their deadline are found by `expired`."""
        if now < self._next_due:
            return
        soonest = float("inf")
        for request in self.requests.values():
            if request.resend_at <= now:
                request.pause = min(request.pause * 2, self.policy.longest)
                request.resend_at = now + request.pause
                yield request
            soonest = min(soonest, request.resend_at, request.deadline)
        self._next_due = soonest

    def expired(self, now: float) -> list[Request]:
        """Takes out and returns the requests whose deadline has passed."""
        late = [r.seq for r in self.requests.values() if r.deadline <= now]
        return [r for seq in late if (r := self.take(seq)) is not None]


def deadline_error(request: Request, node: int, endpoint: str, waited: float) -> DeadlineExceeded:
    """What a caller is told when `request` met its deadline."""
    if request.waiting_for:
        ranks = ", ".join(map(str, request.waiting_for))
        return DeadlineExceeded(
            f"The {request.future.what} at clock {request.clock} must be answered within {waited:.0f} s. Node {node} still waits for"
            f" the tick of rank(s) {ranks}. Raise `spark.sparkps.waitTimeout` if these ranks are only slow.",
            node=node,
            ranks=request.waiting_for,
            clock=request.clock,
        )
    return DeadlineExceeded(
        f"The {request.future.what} must be answered within {waited:.0f} s. Node {node} at {endpoint} gave no answer;"
        " look at its log, or raise `spark.sparkps.requestTimeout`.",
        node=node,
    )
