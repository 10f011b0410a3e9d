"""What a node holds, and what it knows of the tier: all that requests and commands work on. No sockets, no answers."""

from __future__ import annotations

import os
import socket as net
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.config import NodeSettings
from sparkps.errors import Fenced, TierError
from sparkps.ps_nodes.groups import NodeGroup
from sparkps.ps_nodes.io_thread import IoThread
from sparkps.ps_nodes.sessions import SessionTable
from sparkps.ps_nodes.shards import Pool, Shards
from sparkps.ps_nodes.tables.directory import Tables
from sparkps.ps_nodes.user_functions import UserThreads
from sparkps.specs import GroupSpec, check_group_spec
from sparkps.wire.buckets import bits_of, buckets_in
from sparkps.wire.placement import Placement, check_placement, primaries


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
    """

    def __init__(self, io: IoThread, pool: Pool, now: Callable[[], float]) -> None:
        self.io = io
        self.pool = pool
        self.now = now
        self.settings = NodeSettings()
        #: Id that the coordinator gave; -1 before `Welcome`.
        self.node = -1
        #: Placement epoch; 0 until the tier is complete.
        self.epoch = 0
        self.placement: Placement = []
        self._tables: Tables | None = None
        #: The buckets of which this node is the primary, as bits.
        self.bucket_bits = 0
        #: Worker groups that are open, by id.
        self.groups: dict[int, NodeGroup] = {}
        self.sessions = SessionTable()
        self.shards = Shards(pool)
        self.users = UserThreads()
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

    @property
    def buckets(self) -> NDArray[np.int32]:
        """The buckets of which this node is the primary, ascending."""
        return np.flatnonzero(bits_of(self.bucket_bits)).astype(np.int32)

    def place(self, epoch: int, placement: Placement) -> None:
        """Take over a placement; the first one says which buckets are this node's."""
        mine = [bucket for bucket, primary in enumerate(primaries(check_placement(placement))) if primary == self.node]
        if self._tables is None:
            self._tables = Tables(mine, self.io.post)
            self.bucket_bits = self._tables.held
        elif mine != list(buckets_in(self.bucket_bits)):
            raise TierError("The buckets of a running node must stay as they are: shards cannot move.", node=self.node)
        self.placement, self.epoch = placement, epoch

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
        """A worker group was admitted; a second call does nothing."""
        if spec.group not in self.groups:
            self.groups[spec.group] = NodeGroup(
                check_group_spec(spec), self.tables, self.shards, self.now, self.settings.buffer_bytes
            )

    # ---- figures -------------------------------------------------------------------------------------------------------

    def report(self, queued_bytes: int) -> dict[str, Any]:
        """The node's view of itself, as `Heartbeat` and `StatusReport` carry it."""
        own = {
            "node": self.node,
            "host": net.gethostname(),
            "pid": os.getpid(),
            "sessions": len(self.sessions.sessions),
            "dropped_messages": self.dropped,
            "queued_bytes": queued_bytes,
            "keyset_bytes": self.sessions.keyset_bytes(),
        }
        return {**own, **self._held()}

    def _held(self) -> dict[str, Any]:
        """Rows, bytes, tables and groups."""
        if self._tables is None:
            return {"rows": 0, "bytes": 0, "tables": {}, "groups": {}}
        tables, groups = self._tables.report(), list(self.groups.items())
        buffered = sum(group.nbytes() for _, group in groups)
        return {
            "rows": sum(table["rows"] for table in tables.values()),
            "bytes": sum(table["bytes"] for table in tables.values()) + self._tables.index_bytes() + buffered,
            "buffered_bytes": buffered,
            "tables": tables,
            "groups": {str(number): group.report() for number, group in groups},
        }
