"""Nodes of a tier: who joined, who is alive, who holds which bucket. Pure: time is an argument (seconds, monotonic)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import msgspec

from sparkps.config import MOST_NODES
from sparkps.driver_bridge.coordinator.plan import initial
from sparkps.driver_bridge.coordinator.reports import checked_report
from sparkps.errors import InvalidInput, TierError
from sparkps.plain import shown
from sparkps.wire.messages.control import NodeInfo
from sparkps.wire.placement import Placement, check_placement

#: Most nodes that ever join a tier: everybody is told of all of them, those that are gone included.
MOST_JOINED = 1 << 14

#: Most characters of a node's endpoint, and of the name of its host.
LONGEST_ENDPOINT, LONGEST_HOST = 1024, 256

#: Seconds that a node has at least for its first heartbeat: to be told of all tables, and load their kernels, may take some.
JOINING = 10.0


@dataclass
class NodeRecord:
    """One node, from its hello on."""

    info: NodeInfo
    #: When the node was last heard.
    heard_at: float
    #: Its latest report, plain values.
    report: dict[str, Any] = field(default_factory=dict)
    #: A heartbeat has come.
    has_beaten: bool = False
    #: When that came.
    reported_at: float = 0.0


class NodeRegistry:
    """Failure detector and placement. Owner: the coordinator's thread.

    Parameters
    ----------
    num_nodes : int
        The tier is complete, and gets its first placement, when so many nodes are up. More may join later: they hold nothing at first.
    deadline : float
        Seconds of silence after which a node is dead. Death is final: a node that comes back is told to exit.
    replication : int
        Copies of each bucket.
    """

    def __init__(self, num_nodes: int, deadline: float, replication: int = 1) -> None:
        self.num_nodes = num_nodes
        self.deadline = deadline
        self.replication = replication
        #: By id, in the order of joining; ids are 0, 1, 2 ... and never used twice.
        self.nodes: dict[int, NodeRecord] = {}
        #: 0 until the tier is complete.
        self.epoch = 0
        self.placement: Placement = []

    # ---- events --------------------------------------------------------------------------------------------------------

    def join(self, endpoint: str, host: str, pid: int, now: float, job: int = -1, attempt: int = -1) -> NodeInfo:
        """A new node says hello; the tier may be complete now (see `epoch`).

        Raises
        ------
        TierError
            Another node that is up has this endpoint, or runs for this job of the launcher.
        """
        _check_hello(endpoint, host, pid, job, attempt)
        if len(self.nodes) >= MOST_JOINED or len(self.up()) >= MOST_NODES:
            raise TierError(
                f"A tier must have at most {MOST_NODES} nodes at a time, and {MOST_JOINED} in its life. It has {len(self.up())}, of"
                f" {len(self.nodes)} that have joined: start another tier."
            )
        if any(state.info.endpoint == endpoint for state in self._up()):
            raise TierError(f"A node's endpoint must be its own. Got {endpoint}, which another node has.")
        rival = next((state.info for state in self._up() if state.info.job == job >= 0), None)
        if rival is not None:
            must = f"A job of the launcher has one node at a time. Attempt {attempt} must wait: {described(rival)} is up."
            raise TierError(must, node=rival.node, job=job)
        node = len(self.nodes)
        self.nodes[node] = NodeRecord(NodeInfo(node, endpoint, host, pid, job=job, attempt=attempt), now)
        members = self.up()
        if not self.epoch and len(members) == self.num_nodes:
            self.epoch, self.placement = 1, initial(self.hosts(), self.replication)
        return self.nodes[node].info

    def place(self, placement: Placement) -> None:
        """A new placement holds, under the next epoch."""
        self.epoch, self.placement = self.epoch + 1, placement

    def heartbeat(self, node: int, report: dict[str, Any], now: float) -> bool:
        """A node is alive; False if it was declared dead before, or is none of ours."""
        state = self.nodes.get(node)
        if state is None or state.info.state != "up":
            return False
        state.heard_at, state.has_beaten = now, True
        if report:  # those of a busy node have none
            state.report, state.reported_at = checked_report(report), now
        return True

    def die(self, node: int, reason: str) -> NodeInfo:
        """A node that was up is dead."""
        return self._set(self.nodes[node], "dead", reason)

    def leave(self, node: int) -> None:
        """A node is told to stop: it counts no more."""
        if node in self.nodes and self.nodes[node].info.state == "up":
            self._set(self.nodes[node], "left", "")

    def shift(self, seconds: float) -> None:
        """So much time counts for nobody: the coordinator itself did not run."""
        for state in self.nodes.values():
            state.heard_at += seconds

    # ---- questions -----------------------------------------------------------------------------------------------------

    def up(self) -> list[int]:
        """Ids of the nodes that are up."""
        return [state.info.node for state in self._up()]

    def hosts(self) -> dict[int, str]:
        """Where the nodes that are up run."""
        return {state.info.node: state.info.host for state in self._up()}

    def at(self, endpoint: str, attempt: int = -1) -> NodeInfo | None:
        """The node that is up at an endpoint, or was started by an attempt at one of the launcher's jobs."""
        up = (state.info for state in self._up())
        return next((info for info in up if info.endpoint == endpoint or info.attempt == attempt >= 0), None)

    def infos(self) -> list[NodeInfo]:
        """Every node that ever joined."""
        return [state.info for state in self.nodes.values()]

    def silent(self, now: float) -> dict[int, str]:
        """Nodes that were silent for too long, and that in words."""
        late = {state.info.node: now - state.heard_at for state in self._up() if now - state.heard_at > self._patience(state)}
        return {node: f"it was silent for {seconds:.1f} s" for node, seconds in late.items()}

    def lost(self) -> list[NodeInfo]:
        """Dead nodes with which the last copies of buckets went."""
        leaders = {row[0] for row in self.placement}
        return [s.info for s in self.nodes.values() if s.info.state == "dead" and s.info.node in leaders]

    def lost_buckets(self) -> list[int]:
        """Buckets of which no node that is up has a copy."""
        up = set(self.up())
        return [bucket for bucket, row in enumerate(self.placement) if row[0] not in up]

    def under_replicated(self) -> int:
        """Number of buckets with fewer copies than there shall be."""
        up = set(self.up())
        return sum(len(up.intersection(row)) < self.replication for row in self.placement)

    def copies(self) -> Counter[int]:
        """Number of buckets of which each node has a copy, those that it leads included."""
        return Counter(node for row in self.placement for node in row)

    def buckets(self) -> Counter[int]:
        """Number of buckets of which each node is the primary."""
        return Counter(row[0] for row in self.placement)

    def validate(self) -> None:
        """Check the invariants that the fields' comments state."""
        assert list(self.nodes) == list(range(len(self.nodes))), "ids follow the order of joining"
        assert all(node == state.info.node for node, state in self.nodes.items())
        assert bool(self.epoch) == bool(self.placement)
        if self.placement:
            check_placement(self.placement)
            assert {n for row in self.placement for n in row} <= set(self.nodes)
        endpoints = [state.info.endpoint for state in self._up()]
        assert len(set(endpoints)) == len(endpoints)

    def _patience(self, state: NodeRecord) -> float:
        """Seconds of silence that a node may have; one that has just joined, and holds nothing, keeps nobody waiting."""
        is_new = not state.has_beaten and not any(state.info.node in row for row in self.placement)
        return max(self.deadline, JOINING) if is_new else self.deadline

    def _up(self) -> list[NodeRecord]:
        return [state for state in self.nodes.values() if state.info.state == "up"]

    def _set(self, node: NodeRecord, to: str, reason: str) -> NodeInfo:
        node.info = msgspec.structs.replace(node.info, state=to, reason=reason)
        return node.info


def _check_hello(endpoint: str, host: str, pid: int, job: int, attempt: int) -> None:
    """Refuse what a node cannot say of itself with `InvalidInput`."""
    text = 0 < len(endpoint) <= LONGEST_ENDPOINT and 0 < len(host) <= LONGEST_HOST and "\0" not in endpoint + host
    if not (text and 0 <= pid < 1 << 31 and -1 <= job < 1 << 31 and -1 <= attempt < 1 << 63):
        raise InvalidInput(
            f"A node must say where it is in at most {LONGEST_ENDPOINT} characters, its host in {LONGEST_HOST}, and give a process id and"
            f" numbers of a job and an attempt. Got {shown(endpoint)}, {shown(host)}, {pid}, {job} and {attempt}."
        )


def described(info: NodeInfo) -> str:
    """A node in an error message."""
    return f"node {info.node} ({info.endpoint}, process {info.pid} on {info.host})"


__all__ = ["NodeRecord", "NodeRegistry", "described"]
