"""What the coordinator's handlers work on: the state of the tier, its parts, and the ways out. Pure."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from sparkps.config import Settings
from sparkps.driver_bridge.coordinator.catalog import Catalog
from sparkps.driver_bridge.coordinator.clock import Clock
from sparkps.driver_bridge.coordinator.commands import Commands, Then
from sparkps.driver_bridge.coordinator.connections import Connections
from sparkps.driver_bridge.coordinator.leases import Groups
from sparkps.driver_bridge.coordinator.load import LoadMeter
from sparkps.driver_bridge.coordinator.log_book import LogBook
from sparkps.driver_bridge.coordinator.moves import Moves
from sparkps.driver_bridge.coordinator.node_registry import NodeRegistry, described
from sparkps.driver_bridge.coordinator.placing import Placing
from sparkps.driver_bridge.coordinator.rebalance import Rebalance
from sparkps.driver_bridge.coordinator.states import TRANSITIONS, Event, Refusal, TierState
from sparkps.driver_bridge.coordinator.status import tier_status, told
from sparkps.driver_bridge.coordinator.usage import Usage
from sparkps.errors import ShardLost, SparkPSError, TierError
from sparkps.wire.messages import control as c

log = logging.getLogger(__name__)

#: A message and the routing id of the connection that it goes to.
Outgoing = tuple[bytes, c.ControlMessage]



@dataclass
class ScalingRequest:
    """A request to make the tier larger or smaller that is under way."""

    #: What it is, for messages.
    what: str
    #: Connection and number of the request.
    sender: bytes
    seq: int
    #: Seconds that it may take, and when they are over.
    limit: float
    deadline: float


@dataclass(frozen=True)
class LastCheckpoint:
    """The newest checkpoint of the tier."""

    url: str
    id: str
    #: By worker group: the last clock in it.
    clocks: dict[str, int]
    nbytes: int
    seconds: float

    def report(self) -> dict[str, Any]:
        """As `PSContext.status()` has it."""
        return {"url": self.url, "id": self.id, "clocks": self.clocks, "bytes": self.nbytes, "seconds": self.seconds}


#: Share of a client's deadline that nodes have for a command, so that the client hears of those that have not answered.
COMMAND_SHARE = 0.8


class Core:
    """State, parts and outgoing messages of one tier. Owner: the coordinator's thread.

    Parameters
    ----------
    tier_id : str
    settings : Settings
    """

    def __init__(self, tier_id: str, settings: Settings) -> None:
        #: Process ids of all that were the coordinator of this tier, this one last; filled by the shell.
        self.processes: list[int] = []
        #: What the shell knows of connections, as a node reports it of its own.
        self.figures: Callable[[], dict[str, int]] = dict
        #: Random; tells this tier from an earlier one at the same endpoint.
        self.tier_id = tier_id
        self.settings = settings
        #: Changed by `enter` alone, as `states.TRANSITIONS` says.
        self.state = TierState.STARTING
        #: Who is there, and who holds which bucket.
        self.nodes = NodeRegistry(settings.num_nodes, settings.node.heartbeat_deadline, settings.replication)
        #: How nodes learn of the newest placement, and how replication and balance are restored.
        self.placing = Placing()
        self.moves = Moves()
        #: What each bucket weighs when leads are balanced; empty: all the same. Who looks at the load, and decides on that.
        self.weights: list[int] = []
        self.meter = LoadMeter()
        self.rebalance = Rebalance()
        #: Nodes that have not taken the newest placement, to be told again.
        self.unplaced: set[int] = set()
        #: Those among them that have no copy of buckets that they were to lead, and these buckets.
        self.lacking: dict[int, list[int]] = {}
        #: By bucket, the node that has died last of those that had a copy.
        self.bereft: dict[int, int] = {}
        #: How many nodes there shall be; what `ps.scale` sets, and restarts aim for.
        self.wanted_nodes = settings.num_nodes
        #: The request that changes that; one at a time.
        self.scaling: ScalingRequest | None = None
        #: Nodes that are up, and that `ps.drain` was asked to let go.
        self.retiring: set[int] = set()
        #: Nodes that are up, and shall hold no buckets any more; follows from who is up (see `handlers.scaling.choose`).
        self.draining: set[int] = set()
        #: Nodes that were drained and told to stop, and have not answered.
        self.leaving: set[int] = set()
        #: The checkpoint that is being taken or restored, a `handlers.checkpoints.Operation`; and the last one that is complete.
        self.checkpointing: Any = None
        self.last_checkpoint: LastCheckpoint | None = None
        #: Requests wait at the nodes, since a checkpoint is being restored; why no row can be read, since one was not restored to the
        #: end. Not both. Nodes hear of them with the newest placement.
        self.is_restoring = False
        self.torn = ""
        #: Buckets whose rows are not there until a checkpoint is restored, though they have primaries; and buckets that begin empty in
        #: a placement that not all nodes have confirmed, which while one is restored are among those.
        self.hollow: set[int] = set()
        self.anew: set[int] = set()
        #: Which tables and functions there are.
        self.catalog = Catalog()
        #: Worker groups, their queue, and who has which rank.
        self.groups = Groups(settings.workers.lease_ttl)
        #: What nodes were told to do, and have not answered.
        self.commands = Commands()
        #: When tables were used last.
        self.usage = Usage()
        #: Somebody wishes that whoever has started the tier ends it (see `messages.control.AskToStop`).
        self.is_asked_to_stop = self.is_to_be_discarded = False
        #: Requests wait at the nodes, since the tier is about to end; who waits until all nodes know, or know that it is open again.
        self.is_closed = False
        self.closing: list[tuple[bytes, int]] = []
        #: How often it could not be ended as somebody had asked, and why not the last time.
        self.refused_ends, self.why_not_ended = 0, ""
        #: What processes of the tier have logged, where the driver wants it.
        self.log_book = LogBook()
        #: Delegation tokens that nodes use, by service; and the services whose token ends soon, for good, as the shell has found.
        self.tokens: dict[str, c.NodeToken] = {}
        self.due_tokens: set[str] = set()
        #: What was asked last on every connection.
        self.connections = Connections()
        self.clock = Clock()
        #: Frames that were no message, and messages that no coordinator takes; counted by the shell, too.
        self.garbage = 0
        #: Connection of every node that ever joined, by id; the same ids as in `nodes`.
        self.node_at: dict[int, bytes] = {}
        #: `Attach` requests that came before all nodes had joined, to be answered then; empty unless the tier is starting.
        self.attaching: list[tuple[bytes, c.Attach]] = []
        #: By connection, the number of its question for the tier's status: those whom nodes are reporting for, and the next ones.
        self.asked: dict[bytes, int] = {}
        self.asking: dict[bytes, int] = {}
        #: What the event that is being handled has led to, in order; empty between two events.
        self._out: list[Outgoing] = []

    # ---- state ---------------------------------------------------------------------------------------------------------

    def enter(self, event: Event) -> None:
        """Go to the state that `event` leads to.

        Raises
        ------
        TierError
            It may not happen now (see `states`).
        """
        outcome = TRANSITIONS[event][self.state]
        if isinstance(outcome, Refusal):
            raise self.refusal(outcome)
        if outcome is not self.state:
            log.info("the tier is %s", outcome)
        self.state = outcome

    def refusal(self, why: Refusal) -> SparkPSError:
        """The error that says what must hold, and does not."""
        up, all_nodes = len(self.nodes.up()), self.settings.num_nodes
        match why:
            case Refusal.STARTING:
                return TierError(f"All {all_nodes} nodes of the tier must have joined. {up} have: the tier is starting.")
            case Refusal.LOST:
                return self.buckets_lost()
            case Refusal.STOPPING:
                return TierError("The tier must be running. It is being stopped.")
            case Refusal.NOT_STARTING:
                return TierError(f"The tier must be starting when its buckets are placed. It is {self.state}.")
            case Refusal.NOT_STOPPING:
                return TierError(f"The tier must be stopping when its nodes exit. It is {self.state}.")

    def buckets_lost(self) -> ShardLost:
        """What whoever needs all buckets is told where some are lost."""
        lost = self.nodes.lost()
        if lost:
            return node_lost(lost[0])
        why = self.torn or "A checkpoint is being restored, since nodes had died with the last copies of some"
        return ShardLost(f"Every bucket must hold its rows. {why}. Restore a checkpoint (`ps.restore`), or wait until one is.")

    # ---- out -----------------------------------------------------------------------------------------------------------

    def send(self, receiver: bytes, message: c.ControlMessage) -> None:
        """Send a message that answers no request."""
        self._out.append((receiver, message))

    def reply(self, sender: bytes, reply: c.ControlMessage) -> None:
        """Answer a request."""
        self.connections.keep(sender, reply)
        self.send(sender, reply)

    def accept(self, sender: bytes, seq: int, cause: c.Cause | None) -> None:
        """Answer a request that was carried out, or that failed with a cause."""
        self.reply(sender, c.Accepted(seq) if cause is None else refused(seq, cause.exception()))

    def command(
        self,
        what: str,
        make: Callable[[int], c.ControlMessage],
        then: Then,
        limit: float = 0.0,
        nodes: Collection[int] | None = None,
    ) -> int:
        """Send a command to nodes; returns its number.

        Parameters
        ----------
        what : str
            Begins the message at the deadline.
        make : callable
            Makes the message of the command's number.
        then : callable
            Called when all have answered, or will not any more.
        limit : float
            Seconds that they have; 0: somewhat less than clients wait.
        nodes : collection of int, optional
            Who gets it; default: every node that is up.
        """
        nodes = self.nodes.up() if nodes is None else nodes
        limit = limit or self.settings.control_timeout * COMMAND_SHARE
        number = self.commands.start(what, nodes, then, self.clock.now, limit)
        if nodes:
            message = self.commands.under_way[number].message = make(number)
            for node in nodes:
                self.send(self.node_at[node], message)
        return number

    def flush(self) -> list[Outgoing]:
        """What is to be sent."""
        out, self._out = self._out, []
        return out

    @property
    def restores(self) -> bool:
        """Whether a checkpoint is being restored."""
        return self.checkpointing is not None and isinstance(self.checkpointing.message, c.RestoreCheckpoint)

    # ---- nodes ---------------------------------------------------------------------------------------------------------

    def heard(self, node: int, report: dict[str, Any]) -> bool:
        """A node is alive, and may have said how it is; False if it was declared dead before, or is none of ours."""
        known = self.nodes.heartbeat(node, report, self.clock.now)
        if known and report:
            self.usage.heard(node, self.nodes.nodes[node].report.get("tables", {}), self.clock.now)
        return known

    # ---- questions -----------------------------------------------------------------------------------------------------

    def going(self) -> list[int]:
        """Nodes that are up, and shall not stay."""
        return sorted(self.draining | self.retiring)

    def report(self) -> dict[str, Any]:
        """Status of the tier as plain values, see `status.tier_status`."""
        own: dict[str, Any] = {"tier_id": self.tier_id, "state": self.state.value, "garbage_frames": self.garbage}
        own["connections"] = len(self.connections)
        plan: dict[str, Any] = {"num_nodes": self.wanted_nodes, "draining": self.going(), "moving": self.moves.status()}
        if self.processes:
            own["coordinator"] = {"pid": self.processes[-1], "restarts": len(self.processes) - 1, **self.figures()}
        plan["checkpoint"] = None if self.last_checkpoint is None else self.last_checkpoint.report()
        plan["rebalance"] = self.rebalance.status(self.settings.rebalance)
        plan["scaling"] = None if self.scaling is None else self.scaling.what
        plan["restoring"] = self.is_restoring
        plan["asked_to_stop"] = self.is_asked_to_stop
        plan["ending"] = {
            "closed": self.is_closed, "discard": self.is_to_be_discarded, "refused": self.refused_ends, "why": self.why_not_ended,
        }  # fmt: skip
        plan["settings"] = told(self.settings)
        found = tier_status(self.nodes, self.catalog, self.groups, self.usage, self.clock.now)
        return {**own, **plan, **found, "lost_buckets": len(self.hollow.union(self.nodes.lost_buckets()))}

    def validate(self) -> None:
        """Check the invariants of all parts."""
        self.nodes.validate()
        self.catalog.validate()
        self.groups.validate()
        assert set(self.node_at) == set(self.nodes.nodes)
        assert (self.placing.epoch, self.placing.placement) == (self.nodes.epoch, self.nodes.placement)
        self.moves.validate(self.nodes.placement)
        assert len(self.weights) in (0, len(self.nodes.placement))
        assert min(self.weights, default=1) >= 1
        assert self.draining | self.retiring <= set(self.nodes.up())
        assert all(command.waiting for command in self.commands.under_way.values())
        assert self.state is TierState.STARTING or not self.attaching
        assert self.state is not TierState.READY or not self.nodes.lost(), "buckets are lost: the tier is degraded"
        assert self.state is not TierState.READY or not (self.hollow or self.torn), "what is torn is degraded"
        assert self.state is not TierState.DEGRADED or self.nodes.lost() or self.hollow
        assert not self.is_restoring or self.anew <= self.hollow
        assert not (self.is_restoring and self.torn)
        if self.state not in (TierState.STOPPING, TierState.STOPPED):
            up = set(self.nodes.up())
            self.placing.validate(up)
            for row in self.nodes.placement:
                assert row[0] not in up or up.issuperset(row), "who is gone holds nothing, unless nobody else does"
        assert not self._out, "what an event has led to was sent"


#: What is done with a message of a connection: the answer, or None where one follows later, or none is waited for.
Handler = Callable[[Core, bytes, Any], c.ControlMessage | None]
#: By the class of the message.
Handlers = dict[type[c.ControlMessage], Handler]


def node_lost(info: c.NodeInfo) -> ShardLost:
    """What whoever needs the buckets of a dead node is told."""
    return ShardLost(
        f"Every bucket must be on a node that is alive. The buckets of {described(info)} are lost, since it died: {info.reason}."
        " Restore a checkpoint (`ps.restore`), or stop the PSContext and start a new one.",
        node=info.node,
        endpoint=info.endpoint,
    )


def refused(seq: int, error: BaseException) -> c.Refused:
    """The answer to a request that failed."""
    cause = c.Cause.of(error)
    return c.Refused(seq, cause.error, cause.message, cause.attributes)


def nothing(cause: c.Cause | None, reports: dict[int, dict[str, Any]]) -> None:
    """What follows a command that nobody waits for."""


__all__ = ["Core", "Handler", "Handlers", "LastCheckpoint", "Outgoing", "ScalingRequest", "node_lost", "nothing", "refused"]
