"""Client sessions as a node sees them: the order of their requests, and the answers that they may ask for again.

The requests of a session run in the order of their numbers, whatever the order in which they arrive. That is what makes the
marks of shards enough to know a write that comes again (see `wire.marks`); a session itself remembers answers only.

Pure: no socket, no thread, time is an argument. Owner of everything here: the node's I/O thread.
"""

from __future__ import annotations

import bisect
from collections import OrderedDict, deque
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from sparkps.errors import TierError
from sparkps.ps_nodes.tables.keysets import NodeKeySet

#: A request may arrive so many numbers ahead of its turn; one that is further ahead counts as lost, and is sent again.
MOST_AHEAD = 1 << 16

#: Beyond so many sessions those without anything to lose are forgotten when they were silent for `IDLE` seconds.
MOST_SESSIONS, IDLE = 10_000, 60.0

#: Most sessions at once, and most on one connection: a client has one connection for each of its sessions. Others are refused.
MOST_OPEN, MOST_OF_CONNECTION = 1 << 16, 64

#: What an answer that is kept, or a request that waits, takes besides its arrays (bytes, about).
KEPT_BYTES = 1024

#: So many sessions that have ended are remembered by their id.
MOST_CLOSED = 100_000


class Verdict(Enum):
    """What a request is that has just arrived."""

    #: Never seen: it runs when its turn has come (see `NodeSession.in_turn`).
    NEW = "new"
    #: Its answer was not kept, since running it again does no harm: run it again.
    AGAIN = "again"
    #: Carried out before: send the recorded answer again.
    ANSWERED = "answered"
    #: Known, and waiting for its turn, running or parked.
    PENDING = "pending"
    #: The client has had its answer, or it is too far ahead: ignore it.
    STALE = "stale"


@dataclass(slots=True)
class NodeSession:
    """One client session."""

    id: int
    #: Where answers go: the routing id of the connection that the session last used.
    identity: bytes
    #: When it was last heard of (seconds, the server's clock).
    seen_at: float
    #: Every request with ``seq <= acked`` was answered, and its answer arrived.
    acked: int = 0
    #: The request whose turn is next: all before it have begun. > acked.
    next: int = 1
    #: Answers of requests that must not run twice, by seq > acked.
    answers: dict[int, list[Any]] = field(default_factory=dict)
    #: Bytes of these.
    answer_bytes: int = 0
    #: Requests that have arrived and have no answer yet; for a parked one its clock, the ranks waited for, and its bytes.
    pending: dict[int, tuple[int, list[int], int] | None] = field(default_factory=dict)
    #: Bytes of those that are parked.
    parked_bytes: int = 0
    #: Requests that came ahead of their turn, by seq > next, with their bytes.
    early: dict[int, tuple[Any, int]] = field(default_factory=dict)
    #: Bytes of requests that wait: in `early` and in `queue`.
    waiting_bytes: int = 0
    #: Bytes of requests that are under way and keep later ones back, and of those in `queue`.
    line_bytes: int = 0
    #: How many of those under way wait for others.
    held: int = 0
    #: Requests whose turn has come, but which wait for those before them to end; None: none ever did.
    queue: deque[Any] | None = None
    #: Requests that are under way and keep later ones back, and the call that they are pieces of.
    running: int = 0
    call: int = 0
    #: The dispatcher is beginning queued requests.
    starting: bool = False
    #: Writes that were refused, to be sent again under other numbers, ascending: a later one must not overtake them unless it was
    #: made when the client had heard of the refusal. Those that no request under way can have been made before are forgotten.
    refused: list[int] = field(default_factory=list)
    #: No recorded answer of a later request has content.
    firm: int = 0
    keysets: dict[int, NodeKeySet] = field(default_factory=dict)
    #: Room that these take at most, bytes.
    keyset_room: int = 0

    @property
    def kept_bytes(self) -> int:
        """Bytes of what is kept until the client acknowledges it, unregisters it, or is answered: bounded by who takes its requests."""
        return self.answer_bytes + self.parked_bytes + self.keyset_room

    @property
    def queued_bytes(self) -> int:
        """Bytes of requests that wait for their turn, with what each takes besides."""
        return self.waiting_bytes + KEPT_BYTES * (len(self.early) + (len(self.queue) if self.queue else 0))

    def arrive(self, seq: int, acked: int) -> Verdict:
        """Judge a request; a new one becomes pending."""
        if acked > self.acked:
            self.acknowledge(acked)
        if seq <= self.acked or seq >= self.next + MOST_AHEAD:
            return Verdict.STALE
        if seq in self.answers:
            return Verdict.ANSWERED
        if seq in self.pending:
            return Verdict.PENDING
        self.pending[seq] = None
        return Verdict.NEW if seq >= self.next else Verdict.AGAIN

    def acknowledge(self, acked: int) -> None:
        """The client has the answers up to `acked`, of a node's earlier memory of it, too."""
        if self.answers:
            few = acked - self.acked <= len(self.answers)
            for old in range(self.acked + 1, acked + 1) if few else list(self.answers):
                if old <= acked and (known := self.answers.pop(old, None)) is not None:
                    self.answer_bytes -= _answer_bytes(known)
        self.acked = acked
        if self.next <= acked:
            self.next = acked + 1
            for old in [seq for seq in self.early if seq <= acked]:
                self.pending.pop(old, None)
                self.waiting_bytes -= self.early.pop(old)[1]

    def hold(self, seq: int, work: Any, nbytes: int) -> None:
        """Keep a new request until its turn."""
        self.early[seq] = work, nbytes
        self.waiting_bytes += nbytes

    def in_turn(self) -> Iterator[Any]:
        """Requests that waited, and whose turn has come, in order."""
        while self.next in self.early:
            work, nbytes = self.early.pop(self.next)
            self.next += 1
            self.waiting_bytes -= nbytes
            yield work

    def forget(self, seq: int) -> None:
        """A new request is dropped as if it had been lost on its way."""
        self.pending.pop(seq, None)

    def answered(self, seq: int, frames: list[Any], *, record: bool, plain: bool = True) -> None:
        """A request was carried out; with `record` its answer is kept until the client has it.

        A `plain` answer says no more than the marks do: that the write is there.
        """
        self._no_more_pending(seq)
        if record and seq > self.acked:
            if (known := self.answers.get(seq)) is not None:
                self.answer_bytes -= _answer_bytes(known)
            self.answers[seq] = frames
            self.answer_bytes += _answer_bytes(frames)
            if not plain:
                self.firm = max(self.firm, seq)

    def park(self, seq: int, clock: int, waiting_for: list[int], nbytes: int = 0) -> None:
        """The request, of so many bytes, waits for the ticks of some ranks."""
        if seq in self.pending:
            self._no_more_pending(seq)
            nbytes += KEPT_BYTES + 8 * len(waiting_for)
            self.pending[seq] = clock, waiting_for, nbytes
            self.parked_bytes += nbytes

    def _no_more_pending(self, seq: int) -> None:
        parked = self.pending.pop(seq, None)
        if parked is not None:
            self.parked_bytes -= parked[2]

    def forget_keyset(self, number: int) -> None:
        """A key set is not needed any more; nothing if there is none."""
        found = self.keysets.pop(number, None)
        if found is not None:
            self.keyset_room -= found.room

    def forget_keysets(self) -> None:
        """None of them is of use any more."""
        self.keysets.clear()
        self.keyset_room = 0

    def bars(self, seq: int, acked: int) -> bool:
        """Whether a write must not run: one before it was refused, and the client did not know that when it made this one.

        What the client has said since does not count, for what is sent again is as it was.
        """
        before = bisect.bisect_left(self.refused, seq)
        return before > 0 and self.refused[before - 1] > acked

    def bar(self, seq: int) -> None:
        """A write was refused, and will be sent again under another number: later ones must not overtake it."""
        at = bisect.bisect_left(self.refused, seq)
        if self.refused[at : at + 1] != [seq]:
            self.refused.insert(at, seq)
        del self.refused[: bisect.bisect_right(self.refused, self.acked - MOST_AHEAD)]

    @property
    def early_bytes(self) -> int:
        """Bytes of requests that came ahead of their turn."""
        return sum([nbytes for _, nbytes in self.early.values()])

    @property
    def is_idle(self) -> bool:
        """Whether nothing is lost if the node forgets the session: nothing is under way, and no answer has content."""
        return not (self.pending or self.keysets) and self.firm <= self.acked

    def validate(self) -> None:
        """Check the invariants."""
        assert self.acked < self.next
        assert not self.answers.keys() & self.pending.keys(), "a request is pending or answered"
        assert all(seq > self.acked for seq in self.answers), "acknowledged answers are forgotten"
        assert all(seq > self.next for seq in self.early), "the request whose turn is next does not wait"
        assert self.early.keys() <= self.pending.keys()
        assert self.waiting_bytes >= sum(nbytes for _, nbytes in self.early.values())
        assert self.answer_bytes == sum(map(_answer_bytes, self.answers.values()))
        assert self.keyset_room == sum(keyset.room for keyset in self.keysets.values())
        assert self.parked_bytes == sum(parked[2] for parked in self.pending.values() if parked is not None)


def _answer_bytes(frames: list[Any]) -> int:
    if len(frames) == 1:
        return KEPT_BYTES
    return KEPT_BYTES + sum([memoryview(frame).nbytes for frame in frames[1:]])


class SessionTable:
    """All sessions of a node.

    Parameters
    ----------
    ttl : float
        A session that was silent for so long is forgotten (seconds); so long, too, its marks are kept after that.
    """

    def __init__(self, ttl: float = 3600.0) -> None:
        self.ttl = ttl
        #: By id, those heard of longest ago first.
        self.sessions: OrderedDict[int, NodeSession] = OrderedDict()
        #: Sessions that were forgotten without good-bye, whose marks are kept, and when, oldest first.
        self._forgotten: dict[int, float] = {}
        #: The last `MOST_CLOSED` sessions that said good-bye: a message of theirs that comes late opens nothing.
        self._closed: OrderedDict[int, None] = OrderedDict()
        #: By connection, how many sessions it has; no 0.
        self._of_connection: dict[bytes, int] = {}

    def check_room(self, session: int, identity: bytes) -> None:
        """Refuse a session that would be one too many.

        Raises
        ------
        TierError
        """
        if session in self.sessions:
            return
        if len(self.sessions) >= MOST_OPEN:
            raise TierError(
                f"A node must have at most {MOST_OPEN} sessions at once: one for each thread that uses a table. It has as many: close"
                " clients, or let them share sessions. Those that are silent are forgotten after a minute."
            )
        if self._of_connection.get(identity, 0) >= MOST_OF_CONNECTION:
            raise TierError(
                f"A connection must have at most {MOST_OF_CONNECTION} sessions. This one has as many: say good-bye to those that are over,"
                " or open another connection."
            )

    def _count(self, identity: bytes, number: int) -> None:
        left = self._of_connection.get(identity, 0) + number
        if left:
            self._of_connection[identity] = left
        else:
            del self._of_connection[identity]

    def open(self, session: int, identity: bytes, now: float, acked: int = 0) -> NodeSession | None:
        """The session of that id, made if it is new; its client has the answers up to `acked`. None: it has ended."""
        found = self.get(session, identity, now)
        if found is not None and acked > found.acked:  # a late repetition of a Hello may have opened it further back
            found.acknowledge(acked)
        if found is None and session not in self._closed:
            self._forgotten.pop(session, None)
            found = self.sessions[session] = NodeSession(session, identity, now, acked, acked + 1)
            self._count(identity, 1)
        return found

    def get(self, session: int, identity: bytes, now: float) -> NodeSession | None:
        """The session of that id, if it is open."""
        found = self.sessions.get(session)
        if found is not None:
            if found.identity != identity:
                self._count(found.identity, -1)
                self._count(identity, 1)
                found.identity = identity
            found.seen_at = now
            self.sessions.move_to_end(session)
        return found

    def close(self, session: int, now: float) -> bool:
        """Forget a session; what it has under way still runs. Whether its marks may go now; else `expire` says when."""
        found = self.sessions.pop(session, None)
        if found is not None:
            self._count(found.identity, -1)
        self._forgotten.pop(session, None)
        writing = found is not None and bool(found.pending)
        if writing:
            self._forgotten[session] = now
        self._closed[session] = None
        if len(self._closed) > MOST_CLOSED:
            self._closed.popitem(last=False)
        return not writing

    def forget_silent_keysets(self, before: float, nbytes: float) -> int:
        """Forget key sets of sessions that were silent since `before`, for longest first, until so many bytes are free; how many are."""
        freed = 0
        for session in self.sessions.values():
            if session.seen_at >= before or freed >= nbytes:
                break
            if not session.pending:
                freed += session.keyset_room
                session.forget_keysets()
        return freed

    def remember(self, sessions: Iterable[int], now: float) -> None:
        """Marks of these sessions have come from another node; of those that are not open here they are kept for `ttl`, as of any."""
        for session in sessions:
            if session not in self.sessions and session not in self._forgotten:
                self._forgotten[session] = now

    def expire(self, now: float, marked: Container[int] | None = None) -> list[int]:
        """Forget sessions that were silent too long and have nothing under way; those whose marks may be forgotten, too.

        With `marked`, the sessions that have marks here, others are not remembered: they have written nothing.
        """
        for session in self._silent(now):
            gone = self.sessions.pop(session)
            self._count(gone.identity, -1)
            if marked is None or session in marked:
                self._forgotten[session] = now
        over = []
        for session, since in self._forgotten.items():
            if now - since <= self.ttl:
                break
            over.append(session)
        for session in over:
            del self._forgotten[session]
        return over

    def _silent(self, now: float) -> list[int]:
        many = len(self.sessions) - MOST_SESSIONS
        silent: list[int] = []
        for session in self.sessions.values():
            age = now - session.seen_at
            if age <= self.ttl and (len(silent) >= many or age <= IDLE):
                break
            # What is only ahead of its turn has not begun: its client is gone, or sends it again.
            if session.is_idle if age <= self.ttl else len(session.pending) == len(session.early):
                silent.append(session.id)
        return silent

    def forget_index(self, index: int) -> None:
        """The index is gone, and with it all key sets on it."""
        for session in self.sessions.values():
            for number, keyset in list(session.keysets.items()):
                if keyset.index_id == index:
                    session.forget_keyset(number)

    def report(self) -> dict[str, int]:
        """What is kept for all of them, in bytes, as a node's report has it."""
        sessions = list(self.sessions.values())
        return {
            "keyset_bytes": self.keyset_bytes(),
            "answer_bytes": sum([session.answer_bytes for session in sessions]),
            "parked_bytes": sum([session.parked_bytes for session in sessions]),
            "waiting_bytes": sum([session.queued_bytes for session in sessions]),
        }

    def keyset_bytes(self) -> int:
        """Bytes of all key sets."""
        return sum(keyset.nbytes() for s in self.sessions.values() for keyset in s.keysets.values())
