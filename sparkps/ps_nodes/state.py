"""What a node holds, and what it knows of the tier: all that requests and commands work on. No sockets, no answers."""

from __future__ import annotations

import os
import socket as net
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sparkps.config import NodeSettings
from sparkps.errors import Fenced, OutOfNodeMemory, TierError
from sparkps.host_memory import UNLIMITED
from sparkps.ps_nodes.checkpointing.cuts import Cut
from sparkps.ps_nodes.closed import Serving
from sparkps.ps_nodes.groups import NodeGroup
from sparkps.ps_nodes.io_thread import IoThread
from sparkps.ps_nodes.load import Load
from sparkps.ps_nodes.memory_budget import OF_A_SESSION, OF_SESSIONS, MemoryBudget
from sparkps.ps_nodes.replication.answers import Answers
from sparkps.ps_nodes.replication.copies import Copies
from sparkps.ps_nodes.replication.followers import Followers
from sparkps.ps_nodes.sessions import NodeSession, SessionTable
from sparkps.ps_nodes.shards import Pool, Shards
from sparkps.ps_nodes.tables.directory import Tables
from sparkps.ps_nodes.user_functions import UserThreads
from sparkps.secret import TierSecret
from sparkps.specs import GroupSpec, check_group_spec
from sparkps.wire.messages.control import NodeInfo
from sparkps.wire.messages.log import ShipForget
from sparkps.wire.placement import Placement

if TYPE_CHECKING:
    from sparkps.ps_nodes.checkpointing.writing import Writing

#: So many groups are remembered by their specification, or all that are open.
MOST_SPECS = 1000

#: However many sessions there are, so many bytes are kept for each.
LEAST_OF_A_SESSION = 1 << 20
#: Where all sessions have more than their share, key sets go of those that were silent for so long (seconds): who still lives registers
#: them again.
SILENT_SECONDS = 60.0


class UnderWay:
    """Counts what is under way. Owner: the I/O thread."""

    def __init__(self) -> None:
        self._count = 0
        self._waiting: list[Callable[[], None]] = []

    def begun(self) -> None:
        """One more."""
        self._count += 1

    def ended(self) -> None:
        """One less."""
        self._count -= 1
        if not self._count:
            waiting, self._waiting = self._waiting, []
            for then in waiting:
                then()

    def when_none(self, then: Callable[[], None]) -> None:
        """Call `then` when there is none: now, if so."""
        if self._count:
            self._waiting.append(then)
        else:
            then()


class ServerState:
    """Settings, placement, tables, groups and sessions of a node.

    Parameters
    ----------
    io : IoThread
        Owns the sessions.
    pool : Pool
        Threads for requests that take time.
    now : callable
        Seconds, monotonic.
    send : callable
        Sends frames to the node of an id. On the I/O thread.
    memory : MemoryBudget, optional
        By default without a limit.
    """

    def __init__(
        self,
        io: IoThread,
        pool: Pool,
        now: Callable[[], float],
        send: Callable[[int, list[Any]], None],
        memory: MemoryBudget | None = None,
    ) -> None:
        self.io = io
        self.pool = pool
        self.now = now
        self.settings = NodeSettings()
        #: The tier that it is a node of; "" until the coordinator has said so.
        self.tier_id = ""
        #: Of the tier; None: it has none. What is to be unpickled here must be signed with it.
        self.secret: TierSecret | None = None
        #: Id of the tier, for which it must be signed; "" before `Welcome`.
        self.tier_id = ""
        #: Id that the coordinator gave; -1 before `Welcome`.
        self.node = -1
        #: Placement epoch; 0 until the tier is complete.
        self.epoch = 0
        self.placement: Placement = []
        #: Buckets that were given up, and of which not all is known to have reached their new primaries, as bits.
        self.handing = 0
        #: Placements on their way, the first of which is being taken over.
        self.placing: list[Any] = []
        #: Tells all sessions of the placement. Set by `service`.
        self.tell_sessions: Callable[[], None] = lambda: None
        #: Whether requests are carried out under it.
        self.serving = Serving()
        #: Every node that ever joined, by id.
        self.nodes: dict[int, NodeInfo] = {}
        self._tables: Tables | None = None
        #: The buckets of which this node is the primary, as bits.
        self.bucket_bits = 0
        #: BSP groups whose clocks wait for a checkpoint. Owner: the I/O thread.
        self.cut: Cut | None = None
        #: A checkpoint that is being written. Set by the I/O thread.
        self.writing: Writing | None = None
        #: Worker groups that are open, or close what is due before they end, by id. Owner: the I/O thread; changed under `shards.still`.
        self.groups: dict[int, NodeGroup] = {}
        #: Those that were ever open, the last ones: what other nodes ship of them may come later than their end.
        self.group_specs: dict[int, GroupSpec] = {}
        self.sessions = SessionTable()
        #: What other nodes copy of this one, and what this one copies of others.
        self.copies = Copies(io, now, send)
        self.followers = Followers(self)
        self.answers = Answers()
        self.shards = Shards(pool, self.copies)
        self.users = UserThreads()
        #: Users' functions that are being loaded.
        self.loading = UnderWay()
        self.load = Load()
        self.memory = MemoryBudget() if memory is None else memory
        #: Bytes that are kept for one session at most; and, where less than what is set, bytes of its requests that wait for their turn.
        self.most_kept, self.most_waiting = self.memory_of_session, UNLIMITED
        self.memory.copied_by = lambda node: self.copies.copied_by(node)[0]
        self.memory.queues += [self._buffered, self.copies.nbytes, self.followers.nbytes, self._kept_aside]
        #: Why the node must end at once, empty: it need not. It was declared dead, or cannot say any more what it holds.
        self.must_end = ""
        #: Figures of whoever owns the sockets, for the report. Set by it.
        self.figures: Callable[[], dict[str, int]] = dict
        #: Frames that were no message, and messages that no node takes.
        self.dropped = 0

    @property
    def is_complete(self) -> bool:
        """Whether all nodes of the tier have joined, so that there is a placement."""
        return self._tables is not None

    @property
    def tables(self) -> Tables:
        """The tables."""
        if self._tables is None:
            raise TierError("The tier must be complete before it takes requests: not all nodes have joined.")
        return self._tables

    def begin(self) -> None:
        """The tier is complete: there may be tables from now on."""
        if self._tables is None:
            self._tables = Tables((), self.io.post, self.memory.growth)
            self.memory.begin(self._tables)

    # ---- worker groups -------------------------------------------------------------------------------------------------

    def group(self, group: int) -> NodeGroup:
        """The worker group of that id.

        Raises
        ------
        Fenced
        """
        found = self.groups.get(group)
        if found is None:
            raise Fenced(f"Worker group {group} must be open. It has ended; its ranks must stop.", group=group)
        return found

    def open_group(self, spec: GroupSpec) -> None:
        """A worker group was admitted; a second call does nothing.

        Raises
        ------
        InvalidInput
            It is none that can be; nothing is known of it then.
        """
        self.group_specs[spec.group] = check_group_spec(spec)  # also for copies of buckets, which make a clock by it
        # Not those of groups that are open, however old: a copy that begins without one would leave out what the group has written.
        over = (group for group in list(self.group_specs) if group != spec.group and group not in self.groups)
        while len(self.group_specs) > MOST_SPECS and (oldest := next(over, None)) is not None:
            del self.group_specs[oldest]
        if spec.group in self.groups:
            return
        self.memory.set_buffers(self.settings.buffer_bytes)
        made = NodeGroup(spec, self.tables, self.shards, self.now, self.memory, self.copies, self.bucket_bits)
        with self.shards.still():  # a copy of a bucket that is begun knows it, or is begun before anybody speaks in it
            self.groups[spec.group] = made

    def close_group(self, group: int, done: Callable[[], None] = lambda: None) -> None:
        """A worker group is over: what is due is applied, wherever its buckets are by then; `done` is called when it is there."""
        closed = self.groups.get(group)
        if closed is None:
            done()
            return

        def over() -> None:
            with self.shards.still():
                if self.groups.get(group) is closed:
                    del self.groups[group]
            done()

        closed.close(lambda: self.io.post(over))

    def forget(self, session: int) -> None:
        """A session will repeat nothing any more."""
        self.answers.forget(session)
        places = self.shards.forget(session)
        self.copies.ship(places, lambda _: (ShipForget(session), []))

    # ---- memory --------------------------------------------------------------------------------------------------------

    def share_memory(self) -> None:
        """The nodes of this host share what there is, as long as they are up."""
        mine = self.nodes.get(self.node)
        together = [info for info in self.nodes.values() if mine is not None and info.host == mine.host and info.state == "up"]
        self.memory.node = self.node
        self.memory.set_limit(self.settings.node_memory, len(together))
        self._share_among_sessions()

    def look_at_memory(self) -> None:
        """Count what there is. On the I/O thread."""
        sessions = self.sessions.sessions.values()
        self.memory.sampled = self.sessions.keyset_bytes() + sum([s.early_bytes + (s.line_bytes if s.held else 0) for s in sessions])
        self._share_among_sessions()
        for node in self.memory.full_nodes - set(self.copies.targets()):
            self.memory.hear(node, False)
        self.memory.measure()

    @property
    def memory_of_session(self) -> int:
        """Bytes that may be kept for one session, as long as all together leave room for it."""
        return self.settings.session_memory or int(OF_A_SESSION * self.memory.limit)

    def _share_among_sessions(self) -> None:
        """A session may have what is set; where all of them have more than their share of the node, each may have an equal part."""
        sessions = self.sessions.sessions.values()
        self.most_kept, self.most_waiting = self.memory_of_session, UNLIMITED
        most = OF_SESSIONS * self.memory.limit
        total = sum([session.kept_bytes + session.waiting_bytes for session in sessions])
        if total > most:
            total -= self.sessions.forget_silent_keysets(self.now() - SILENT_SECONDS, total - most)
        if total > most:
            each = max(LEAST_OF_A_SESSION, int(OF_SESSIONS * self.memory.limit) // len(sessions))
            self.most_kept, self.most_waiting = min(self.most_kept, each), min(self.most_waiting, each)

    def check_kept(self, session: NodeSession, more: int = 0, what: str = "more") -> None:
        """Whether so many bytes more may be kept for a session.

        Raises
        ------
        OutOfNodeMemory
        """
        if session.kept_bytes + more <= self.most_kept:
            return
        raise OutOfNodeMemory(
            f"Node {self.node} must not keep more than {self.most_kept >> 10} KiB for one session (`spark.sparkps.sessionMemory`). It keeps"
            f" {session.keyset_room >> 10} KiB for key sets, {session.answer_bytes >> 10} KiB of answers that were not acknowledged and"
            f" {session.parked_bytes >> 10} KiB of requests that wait for other ranks; it was asked for {what}. Unregister key sets that"
            " are not needed, wait for answers, or set more.",
            node=self.node,
            limit=self.most_kept,
            key="spark.sparkps.sessionMemory",
        )

    def _kept_aside(self) -> int:
        writing = self.writing
        return 0 if writing is None else writing.nbytes

    def _buffered(self) -> int:
        return sum([group.nbytes() for group in list(self.groups.values())])

    # ---- figures -------------------------------------------------------------------------------------------------------

    def report(self, queued_bytes: int) -> dict[str, Any]:
        """The node's view of itself, as `Heartbeat` and `StatusReport` carry it."""
        own = {
            "node": self.node,
            "host": net.gethostname(),
            "pid": os.getpid(),
            "sessions": len(self.sessions.sessions),
            "dropped_messages": self.dropped,
            "parked": sum([group.num_parked for group in list(self.groups.values())]),
            "queued_bytes": queued_bytes,
            "requests": self.load.requests,
            **self.sessions.report(),
            **self.figures(),
            **self.memory.report(),
            "silent_replicas": self.copies.silent(self.settings.heartbeat_deadline),
        }
        return {**own, **self._held()}

    def _held(self) -> dict[str, Any]:
        """Rows, bytes, tables and groups."""
        if self._tables is None:
            return {"rows": 0, "bytes": 0, "tables": {}, "groups": {}}
        tables, groups = self._tables.report(self.bucket_bits), list(self.groups.items())
        buffered = sum(group.nbytes() for _, group in groups) + self.copies.nbytes() + self.followers.nbytes()
        return {
            "rows": sum(table["rows"] for table in tables.values()),
            "bytes": sum(table["bytes"] for table in tables.values()) + self._tables.index_bytes() + buffered,
            "buffered_bytes": buffered,
            "tables": tables,
            "load": self.load.report(self.bucket_bits, list(self._tables.by_id.values())),
            "groups": {str(number): group.report() for number, group in groups},
        }
