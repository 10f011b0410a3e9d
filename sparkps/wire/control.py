"""Every message of the control plane (coordinator <-> nodes, driver and workers), as frozen msgspec structs in one registry.

All peers connect a DEALER socket to the coordinator's ROUTER and choose a random routing id (`ROUTING_ID_BYTES` bytes,
the first one not zero). ``(routing id, seq)`` names a request: the coordinator carries it out once however often it
arrives, and sends the same reply again. Fields have these meanings everywhere:

``seq``
    Number of a request within its connection, from 1; its reply echoes it. In a command from the coordinator to a
    node it is the command's id (a numbering of the coordinator's own), which `CommandDone` echoes.
``epoch``
    Version of the placement, from 1; 0 until all nodes of the tier have joined.
``placement``
    For each of the 256 buckets its replica set ``[primary, replica, ...]``, as node ids. Empty at epoch 0.

Any request may be answered by `Refused` instead of what its docstring says. Three conversations use these messages:

*A node* sends `NodeHello` and gets `Welcome` with all tables, functions and groups that exist; from then on it sends a
`Heartbeat` every ``heartbeat_interval`` seconds, each answered by `Alive`, and carries out commands
(`CreateTable`, `DropTable`, `RegisterFunction`, `OpenGroup`, `FailGroup`, `CloseGroup`, `SetPlacement`, `ReportNow`,
`StopNode`), each answered by one `CommandDone`. Commands reach a node once and in order; they are idempotent all the
same, since a `Welcome` may already hold what a command brings. The first `SetPlacement` comes when all nodes are there.

*A client* (driver or worker) sends `Attach` and gets the placement; it asks again when a node refuses its epoch or
does not answer. *A worker group* lives from `AdmitGroup` to `EndGroup`; its ranks lease, renew and finish in between: those
messages are in `group_messages`, and importable from here like all others.
"""

from __future__ import annotations

from typing import Any

from sparkps.config import ClientSettings, NodeSettings
from sparkps.specs import GroupSpec, TableSpec
from sparkps.wire.control_values import (
    MAX_PROGRESS,
    MAX_PROGRESS_BYTES,
    MAX_RECORDED_RESULT,
    ROUTING_ID_BYTES,
    Cause,
    ControlMessage,
    NodeInfo,
    RankReport,
    TierAddress,
)
from sparkps.wire.group_messages import (
    GROUP_MESSAGES,
    AdmitGroup,
    Admitted,
    EndGroup,
    FailRank,
    FinishRank,
    GroupReport,
    GroupState,
    Lease,
    Leased,
    Queued,
    Recorded,
    ReleaseRank,
    Renew,
    Renewed,
    Wait,
)
from sparkps.wire.messages import Message

# ---- client or driver -> coordinator -----------------------------------------------------------------------------------


class Attach(ControlMessage, tag=64):
    """Asks for the tier's nodes, placement and settings. Answer: `Attached`, once all nodes have joined.

    With `tier_id` the request is refused by a coordinator of another tier (a stale handle).
    """

    seq: int
    tier_id: str = ""


class CreateTable(ControlMessage, tag=65):
    """Creates a table, or finds the one that is the same. Answer: `TableCreated`, after every node has it.

    Refused with `TableMismatch` if the name is taken by another table. Also a command to a node, with both ids set in
    `spec`.
    """

    seq: int
    spec: TableSpec


class FindTable(ControlMessage, tag=66):
    """Looks a table up by name. Answer: `TableCreated`; refused with `UnknownTable`."""

    seq: int
    name: str


class DropTable(ControlMessage, tag=67):
    """Drops a table. Answer: `Accepted`, after every node has freed it; also if there is no such table any more.

    `table` is the id: a table of that name that was created later stays. Also a command to a node.
    """

    seq: int
    name: str
    table: int


class RegisterFunction(ControlMessage, tag=68):
    """Registers a user's server function, pickled by cloudpickle. Answer: `Accepted`, after every node has it.

    Replaces a function of that name. Also a command to a node.
    """

    seq: int
    name: str
    blob: bytes


class TierStatus(ControlMessage, tag=77):
    """Asks for the tier's status. Answer: `TierReport`. With `fresh` every node is asked first, within a second."""

    seq: int
    fresh: bool = True


class StopTier(ControlMessage, tag=78):
    """Stops nodes and coordinator. Answer: `Accepted`, after the nodes have confirmed `StopNode` (or did not in time)."""

    seq: int


class NodeGone(ControlMessage, tag=79):
    """The launcher has seen the exit of the node that it started at `endpoint`. Answer: `Accepted`."""

    seq: int
    endpoint: str
    reason: str


# ---- coordinator -> client or driver -----------------------------------------------------------------------------------


class Refused(ControlMessage, tag=96):
    """The request was refused or failed, and changed nothing. Answer to any request."""

    seq: int
    #: Name of the class in `sparkps.errors`, with its message and attributes.
    error: str
    message: str
    attributes: dict[str, Any] = {}


class Accepted(ControlMessage, tag=97):
    """Done, and there is nothing to tell."""

    seq: int


class Attached(ControlMessage, tag=98):
    """The tier as it is now."""

    seq: int
    tier_id: str
    epoch: int
    placement: list[list[int]]
    #: Every node that ever joined, dead ones included.
    nodes: list[NodeInfo]
    settings: ClientSettings


class TableCreated(ControlMessage, tag=99):
    """The table, with both ids set."""

    seq: int
    spec: TableSpec


class TierReport(ControlMessage, tag=107):
    """Status of the tier as plain values.

    ``state`` ("starting", "ready", "stopping"), ``epoch``, ``tier_id``, ``nodes`` (list of dict: id, endpoint, host, pid, state,
    reason, buckets, and the node's own report), ``tables`` (list of dict), ``groups`` (list of dict), ``garbage_frames``.
    """

    seq: int
    report: dict[str, Any]


# ---- node -> coordinator -----------------------------------------------------------------------------------------------


class NodeHello(ControlMessage, tag=112):
    """First message of a node, when it can take requests at `endpoint`. Answer: `Welcome`.

    A node process says hello under one routing id only: a restarted one is a new member.
    """

    seq: int
    endpoint: str
    host: str
    pid: int


class Heartbeat(ControlMessage, tag=113):
    """A node is alive. Answer: `Alive`. `report`: the node's own view of itself, plain values.

    The coordinator reads these keys of a report, all optional: ``rows`` and ``bytes`` (totals), ``tables`` ({table id as
    str: {rows, bytes}}), ``groups`` ({group id as str: {rank as str: {clock, staleness, waited_seconds}}}); it hands on
    the others as they are. A clock of -1 means that the rank has not ticked.
    """

    seq: int
    node: int
    report: dict[str, Any] = {}


class CommandDone(ControlMessage, tag=114):
    """A command was carried out, or `cause` says why not. `report` answers `ReportNow`, as in `Heartbeat`."""

    seq: int
    node: int
    cause: Cause | None = None
    report: dict[str, Any] = {}


# ---- coordinator -> node -----------------------------------------------------------------------------------------------


class Welcome(ControlMessage, tag=120):
    """The node is a member. Everything that exists so far is here; commands bring the rest."""

    seq: int
    #: Id of the node, from 0; never used twice.
    node: int
    tier_id: str
    epoch: int
    placement: list[list[int]]
    tables: list[TableSpec]
    #: (name, pickled function).
    functions: list[tuple[str, bytes]]
    groups: list[GroupSpec]
    settings: NodeSettings


class Alive(ControlMessage, tag=121):
    """The heartbeat was seen. Not `known`: the node was declared dead, and must exit."""

    seq: int
    known: bool = True


class SetPlacement(ControlMessage, tag=122):
    """Command: this placement holds from now on. Requests with another epoch get `WrongEpoch`."""

    seq: int
    epoch: int
    placement: list[list[int]]
    nodes: list[NodeInfo]


class OpenGroup(ControlMessage, tag=123):
    """Command: a worker group was admitted; its members' requests follow."""

    seq: int
    spec: GroupSpec


class FailGroup(ControlMessage, tag=124):
    """Command: the group failed. Parked pulls and every later request of its members fail with `cause`."""

    seq: int
    group: int
    cause: Cause


class CloseGroup(ControlMessage, tag=125):
    """Command: the group is over. Its clocks and buffers go; later requests of its members are fenced."""

    seq: int
    group: int


class ReportNow(ControlMessage, tag=126):
    """Command: answer with `CommandDone` and a report that is up to date."""

    seq: int


class StopNode(ControlMessage, tag=127):
    """Command: answer with `CommandDone`, finish what is under way, exit with status 0."""

    seq: int


#: All control-plane messages.
CONTROL_MESSAGES: tuple[type[Message], ...] = (
    Attach, CreateTable, FindTable, DropTable, RegisterFunction, TierStatus, StopTier, NodeGone,
    Refused, Accepted, Attached, TableCreated, TierReport,
    *GROUP_MESSAGES,
    NodeHello, Heartbeat, CommandDone,
    Welcome, Alive, SetPlacement, OpenGroup, FailGroup, CloseGroup, ReportNow, StopNode,
)  # fmt: skip

__all__ = [
    "CONTROL_MESSAGES",
    "MAX_PROGRESS",
    "MAX_PROGRESS_BYTES",
    "MAX_RECORDED_RESULT",
    "ROUTING_ID_BYTES",
    "Accepted",
    "AdmitGroup",
    "Admitted",
    "Alive",
    "Attach",
    "Attached",
    "Cause",
    "CloseGroup",
    "CommandDone",
    "ControlMessage",
    "CreateTable",
    "DropTable",
    "EndGroup",
    "FailGroup",
    "FailRank",
    "FindTable",
    "FinishRank",
    "GroupReport",
    "GroupState",
    "Heartbeat",
    "Lease",
    "Leased",
    "NodeGone",
    "NodeHello",
    "NodeInfo",
    "OpenGroup",
    "Queued",
    "RankReport",
    "Recorded",
    "Refused",
    "RegisterFunction",
    "ReleaseRank",
    "Renew",
    "Renewed",
    "ReportNow",
    "SetPlacement",
    "StopNode",
    "StopTier",
    "TableCreated",
    "TierAddress",
    "TierReport",
    "TierStatus",
    "Wait",
    "Welcome",
]
