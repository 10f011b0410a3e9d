"""Client sessions as a node sees them: which requests were carried out, and in what order the others run.

Pure: no socket, no thread, time is an argument.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from sparkps.ps_nodes.keysets import NodeKeySet


class Verdict(Enum):
    """What a request is that has just arrived."""

    #: Never seen: run it.
    NEW = "new"
    #: Carried out before: send the recorded answer again.
    ANSWERED = "answered"
    #: Known, still queued, running or parked.
    PENDING = "pending"
    #: The client has had its answer: ignore it.
    STALE = "stale"


@dataclass(slots=True)
class NodeSession:
    """One client session. Owner of all fields but the dispatcher's: the node's I/O thread."""

    id: int
    #: Where answers go: the routing id of the connection that the session last used.
    identity: bytes
    #: When it was last heard of (seconds, the server's clock).
    seen_at: float
    #: Every request with ``seq <= acked`` was answered, and its answer arrived.
    acked: int = 0
    #: Answers of requests that must not run twice, by seq > acked.
    answers: dict[int, list[Any]] = field(default_factory=dict)
    #: Requests that have arrived and have no answer yet; for a parked pull its clock and the ranks waited for.
    pending: dict[int, tuple[int, list[int]] | None] = field(default_factory=dict)
    #: Requests that wait for their turn; requests of one session run in order. Owner: the dispatcher's lock.
    queue: deque[Any] = field(default_factory=deque)
    #: Requests of this session that the pool works on now, and the call that they are pieces of. Owner: as `queue`.
    running: int = 0
    call: int = 0
    keysets: dict[int, NodeKeySet] = field(default_factory=dict)

    def arrive(self, seq: int, acked: int) -> Verdict:
        """Judge a request; a new one becomes pending."""
        if acked > self.acked:
            for old in (
                range(self.acked + 1, acked + 1) if acked - self.acked <= len(self.answers) else list(self.answers)
            ):
                if old <= acked:
                    self.answers.pop(old, None)
            self.acked = acked
        if seq <= self.acked:
            return Verdict.STALE
        if seq in self.answers:
            return Verdict.ANSWERED
        if seq in self.pending:
            return Verdict.PENDING
        self.pending[seq] = None
        return Verdict.NEW

    def answered(self, seq: int, frames: list[Any], *, record: bool) -> None:
        """A request was carried out; with `record` its answer is kept until the client has it."""
        self.pending.pop(seq, None)
        if record and seq > self.acked:
            self.answers[seq] = frames

    def park(self, seq: int, clock: int, waiting_for: list[int]) -> None:
        """The request waits for the ticks of some ranks."""
        if seq in self.pending:
            self.pending[seq] = clock, waiting_for

    def validate(self) -> None:
        """Check the invariants."""
        assert not self.answers.keys() & self.pending.keys(), "a request is pending or answered"
        assert all(seq > self.acked for seq in self.answers), "acknowledged answers are forgotten"


class SessionTable:
    """All sessions of a node.

    Parameters
    ----------
    ttl : float
        A session that was silent for so long is forgotten (seconds).
    """

    def __init__(self, ttl: float = 3600.0) -> None:
        self.ttl = ttl
        self.sessions: dict[int, NodeSession] = {}

    def open(self, session: int, identity: bytes, now: float) -> NodeSession:
        """The session of that id, made if it is new."""
        found = self.sessions.get(session)
        if found is None:
            found = self.sessions[session] = NodeSession(session, identity, now)
        found.identity, found.seen_at = identity, now
        return found

    def get(self, session: int, identity: bytes, now: float) -> NodeSession | None:
        """The session of that id, if it is open."""
        found = self.sessions.get(session)
        if found is not None:
            found.identity, found.seen_at = identity, now
        return found

    def close(self, session: int) -> None:
        """Forget a session; what it has under way still runs."""
        self.sessions.pop(session, None)

    def expire(self, now: float) -> int:
        """Forget sessions that were silent too long and have nothing under way; how many."""
        old = [s.id for s in self.sessions.values() if now - s.seen_at > self.ttl and not s.pending]
        for session in old:
            del self.sessions[session]
        return len(old)

    def forget_index(self, index: int) -> None:
        """The index is gone, and with it all key sets on it."""
        for session in self.sessions.values():
            session.keysets = {k: s for k, s in session.keysets.items() if s.index_id != index}
