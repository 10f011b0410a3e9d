"""Messages between the coordinator and the nodes; `CreateTable`, `DropTable` and `RegisterFunction` are commands, too."""

from __future__ import annotations

from typing import Any

from sparkps.config import NodeSettings
from sparkps.specs import GroupSpec, TableSpec
from sparkps.wire.messages.base import ControlMessage
from sparkps.wire.messages.control.tokens import NodeToken
from sparkps.wire.messages.control.values import Cause, NodeInfo

# ---- node -> coordinator ----------------------------------------------------------------------------------------------


class NodeHello(ControlMessage, frozen=True, tag=112):
    """First message of a node, when it can take requests at `endpoint`. Answer: `Welcome`.

    A node process says hello under one routing id only: a restarted one is a new member.
    """

    seq: int
    endpoint: str
    host: str
    pid: int
    #: The launcher's job that runs the node, and which attempt at it this is; -1: the launcher has no jobs. Of one job only one node is
    #: a member at a time.
    job: int = -1
    attempt: int = -1


class Heartbeat(ControlMessage, frozen=True, tag=113):
    """A node is alive. Answer: `Alive`. `report`: the node's own view of itself, plain values.

    The coordinator reads these keys of a report, all optional: ``silent_replicas`` (ids of nodes that hold copies of its buckets, and
    have not acknowledged anything for longer than the heartbeat deadline), ``rows`` and ``bytes`` (totals), ``load``
    ({``buckets``: those that it leads, ``bytes``, ``requests``: the bytes of the rows of each of them, and its share of the requests
    since the node began}), ``tables`` ({table id as str: {rows, bytes}}), ``groups`` ({group id as str: {rank as str: {clock,
    staleness, waited_seconds}}}); it hands on the others as they are, such as ``requests`` (steps and calls so far).
    A clock of -1 means that the rank has not ticked.
    """

    seq: int
    node: int
    report: dict[str, Any] = {}


class CommandDone(ControlMessage, frozen=True, tag=114):
    """A command was carried out, or `cause` says why not. `report` answers `ReportNow`, as in `Heartbeat`, and what other commands say."""

    seq: int
    node: int
    cause: Cause | None = None
    report: dict[str, Any] = {}


# ---- coordinator -> node ----------------------------------------------------------------------------------------------


class Welcome(ControlMessage, frozen=True, tag=120):
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
    #: Every node that ever joined.
    nodes: list[NodeInfo] = []
    #: What the node logs at this level or above it sends to the coordinator, for the driver's log; empty: nothing.
    log_level: str = ""
    #: Delegation tokens for the file systems that the tier uses.
    tokens: list[NodeToken] = []


class Alive(ControlMessage, frozen=True, tag=121):
    """The heartbeat was seen. Not `known`: the node was declared dead, and must exit."""

    seq: int
    known: bool = True


class SetPlacement(ControlMessage, frozen=True, tag=122):
    """Command: this placement holds from now on. Requests with another epoch get `WrongEpoch`.

    A node leads what its copies became primary of, lets go of copies that are not in it, and takes nothing more from nodes that
    are not "up". It is done when all that it took for buckets that it leads no more lies at their new primaries: so those that give
    up buckets are told first, and the others when these are done. Epochs may be left out. One that the node has taken already (a
    coordinator that was started again repeats itself) is confirmed as the first time, and changes nothing: copies may have come since.
    """

    seq: int
    epoch: int
    placement: list[list[int]]
    nodes: list[NodeInfo]
    #: Buckets of which nobody has a copy any more: their primaries begin them empty, and a checkpoint fills them.
    anew: list[int] = []
    #: A checkpoint is being restored under it: who asks for rows, or writes, is told to ask again.
    is_restoring: bool = False
    #: Why no row can be read or written under it; empty: they can.
    torn: str = ""
    #: By table, the buckets that were lost and that no checkpoint has brought back, as `wire.buckets` writes sets.
    missing: dict[int, bytes] = {}


class CopyBuckets(ControlMessage, frozen=True, tag=116):
    """Command to the primary of some buckets: make copies of them on `target`.

    Done when these have caught up; from then on whatever the primary acknowledges lies there, too, until a placement says otherwise:
    the primary then tells the target to let go of them. The primary may never have heard of a target that has joined since the last
    placement: `nodes` says where it is.
    """

    seq: int
    buckets: list[int]
    target: int
    nodes: list[NodeInfo] = []


class OpenGroup(ControlMessage, frozen=True, tag=123):
    """Command: a worker group was admitted; its members' requests follow."""

    seq: int
    spec: GroupSpec


class FailGroup(ControlMessage, frozen=True, tag=124):
    """Command: the group failed. Parked pulls and every later request of its members fail with `cause`."""

    seq: int
    group: int
    cause: Cause


class CloseGroup(ControlMessage, frozen=True, tag=125):
    """Command: the group is over. Its clocks and buffers go; later requests of its members are fenced."""

    seq: int
    group: int


class ReportNow(ControlMessage, frozen=True, tag=126):
    """Command: answer with `CommandDone` and a report that is up to date."""

    seq: int


class StopNode(ControlMessage, frozen=True, tag=127):
    """Command: answer with `CommandDone`, finish what is under way, exit with status 0."""

    seq: int
