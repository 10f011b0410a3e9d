"""What must hold of a node's own records: between any two of its messages, and when all that it was asked for is over.

What it remembers of requests, buffers and tables in use is freed by many hands: an answer, a clock that closes, a takeover, a
group that fails, a session that ends. What one of them forgets is no wrong result, but stays for ever, or counts against a bound.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from sparkps.ps_nodes.clock_buffers import PART_BYTES
from sparkps.ps_nodes.groups import NodeGroup
from sparkps.ps_nodes.service import Service
from sparkps.ps_nodes.sessions import NodeSession, SessionTable
from sparkps.wire.buckets import buckets_in


class RememberedSessions(SessionTable):
    """Sessions of a node that are not lost from sight when the node forgets them: their requests may still be under way."""

    def __init__(self) -> None:
        super().__init__()
        #: By identity, with those that were forgotten.
        self.all: dict[int, NodeSession] = {}

    def open(self, session: int, identity: bytes, now: float, acked: int = 0) -> NodeSession | None:
        """As of any node."""
        found = super().open(session, identity, now, acked)
        if found is not None:
            self.all[id(found)] = found
        return found


def validate(node: Service, groups: Iterable[NodeGroup]) -> None:
    """Asserts the invariants of all state machines of a node, and what must hold between them. On its I/O thread."""
    queued = 0
    assert isinstance(node.state.sessions, RememberedSessions)
    for session in node.state.sessions.all.values():
        session.validate()
        _validate_line(session)
        queued += 0 if session.held else session.line_bytes
    assert node.dispatcher.queued_bytes == queued, "what is queued is what sessions that can go on have in line"
    for group in groups:
        group._clock.validate()
        group._buffers.validate()
        group._closes.validate()
        _validate_buffers(group)
    node.state.shards._turns.validate()
    node.state.shards.marks.validate()
    tables = node.state.tables
    assert all(users > 0 for users in tables._users.values()), "tables that nobody uses are not among those in use"
    assert tables._leaving.keys() <= tables._users.keys(), "a dropped table is kept for those who use it"


def _validate_line(session: NodeSession) -> None:
    early = sum(nbytes for _, nbytes in session.early.values())
    queued = sum(work.nbytes for work in session.queue or ())
    assert session.waiting_bytes == early + queued, "what waits is ahead of its turn, or queued"
    assert session.line_bytes >= queued, "what is queued is in line"
    assert 0 <= session.held <= session.running, "what waits for others is under way"
    assert session.running or not session.queue, "nothing is queued behind nothing"
    begun = [seq for seq, parked in session.pending.items() if parked is None and seq not in session.early]
    working = session.running - session.held
    assert working <= len(begun) - len(session.queue or ()), "what is parked behind a clock keeps nobody back, or is held itself"


def _validate_buffers(group: NodeGroup) -> None:
    parts = [part for kept in group._buffers._parts.values() for _, part in kept]
    assert group._buffers.nbytes == sum(part.nbytes + PART_BYTES for part in parts), "a buffer's bytes are those of its parts"


def check_at_rest(node: Service, groups: Iterable[NodeGroup]) -> None:
    """Asserts that nothing is left of what was asked: clients have ended, groups are closed, and no message is on its way.

    A request ahead of its turn stays with its session, as its client may still send those before it: until the session is
    forgotten (see `check_forgotten`).
    """
    groups = list(groups)
    validate(node, groups)
    where = f"node {node.state.node} is at rest"
    assert not node.io.posted, f"{where}: nothing is posted"
    assert not node.state.dropped, f"{where}: every message was understood"
    assert not node.dispatcher.queued_bytes, f"{where}: nothing is queued, not {node.dispatcher.queued_bytes} bytes"
    for session in node.state.sessions.all.values():  # type: ignore[attr-defined]  # see `validate`
        under_way = session.running, session.held, session.line_bytes, session.starting
        assert not any(under_way), f"{where}: nothing of session {session.id} is under way, not {under_way}"
        left = session.pending.keys() - session.early.keys()
        assert not left, f"{where}: all that session {session.id} has begun was answered, but {sorted(left)} was not"
    for group in groups:
        _check_ended(where, group)
    turns = node.state.shards._turns
    taken = turns._busy, turns._waiting, turns._wanted
    assert not any(taken), f"{where}: nobody has a shard, or waits for one, not {taken}"
    tables = node.state.tables
    assert not tables._users, f"{where}: no table is in use, by id and users {tables._users}"
    assert not tables._leaving, f"{where}: every dropped table was freed, but {list(tables._leaving)} were not"


def _check_ended(where: str, group: NodeGroup) -> None:
    name = group.spec.name
    buffered = group._buffers.nbytes
    assert not buffered, f"{where}: nothing is buffered of {name}, not {buffered} bytes"
    assert not group._buffers._parts, f"{where}: no part of a write of {name} is kept"
    assert not group._parked, f"{where}: nothing of {name} is parked, but {group._parked}"
    closing = group._closes.busy, len(group._closes), len(group._when_applied)
    assert not any(closing), f"{where}: no clock of {name} is being closed, and nobody waits for one, not {closing}"


def check_copies(node: Service, tier: Any) -> None:
    """Asserts that a node's copies hold, bit for bit, what their primaries hold, and that nothing of their logs is under way."""
    state, where = node.state, f"node {node.state.node} is at rest"
    nbytes = state.copies.nbytes()
    assert not nbytes, f"{where}: its replicas have acknowledged all that it shipped, but for {nbytes} bytes"
    for follower in state.followers:
        assert not follower.broken, f"{where}: what node {follower.source} shipped could be carried out"
        assert not follower._waiting, f"{where}: all that node {follower.source} shipped was carried out"
        assert not follower.holds, f"{where}: no function of node {follower.source} has its turn"
        for group in follower.groups.values():
            assert not group.buffers.nbytes, f"{where}: nothing is buffered for node {follower.source}"
        primary = tier.nodes[follower.source].state
        for bucket in buckets_in(follower.held):
            for number, table in primary.tables.by_id.items():
                ours = state.tables.by_id[number]
                for plane in range(table.rule.planes):
                    theirs, mine = table.plane_of(bucket, plane), ours.plane_of(bucket, plane)
                    same = theirs.tobytes() == mine.tobytes() and table.keys_of(bucket).tolist() == ours.keys_of(bucket).tolist()
                    assert same, f"{where}: bucket {bucket} of table {number} is {mine.tolist()}, not {theirs.tolist()}"


def check_forgotten(node: Service) -> None:
    """Asserts that a node has nothing left of its sessions: their clients are silent for longer than it remembers anybody."""
    where = f"node {node.state.node} after all sessions' time"
    left = list(node.state.sessions.sessions)
    assert not left, f"{where}: every session is forgotten, but {left}"
    assert not node.state.sessions._forgotten, f"{where}: nobody's marks are kept"
    assert not len(node.state.shards.marks), f"{where}: no session has marks: {list(node.state.shards.marks._marks)}"


class _Errors(logging.Handler):
    """Keeps what is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it, unless it is the coordinator's, who tells of nodes that die."""
        if "coordinator" in record.name:
            return
        error = record.exc_info[1] if record.exc_info else None
        self.said.append(f"{record.getMessage()}: {error!r}" if error is not None else record.getMessage())


@contextmanager
def no_error_logged() -> Iterator[None]:
    """Asserts that meanwhile nothing was logged as an error: that is where a node puts what it can tell nobody."""
    log, errors = logging.getLogger("sparkps"), _Errors()
    log.addHandler(errors)
    try:
        yield
    finally:
        log.removeHandler(errors)
    assert not errors.said, f"an error was logged: {errors.said[0]}"
