"""Messages about the tier as a whole: driver, workers and launcher <-> coordinator."""

from __future__ import annotations

from typing import Any

from sparkps.config import ClientSettings
from sparkps.wire.messages.base import ControlMessage
from sparkps.wire.messages.control.values import NodeInfo

# ---- client or driver -> coordinator ----------------------------------------------------------------------------------


class Attach(ControlMessage, frozen=True, tag=64):
    """Asks for the tier's nodes, placement and settings. Answer: `Attached`, once all nodes have joined.

    With `tier_id` the request is refused by a coordinator of another tier (a stale handle).
    """

    seq: int
    tier_id: str = ""


class TierStatus(ControlMessage, frozen=True, tag=77):
    """Asks for the tier's status. Answer: `TierReport`. With `fresh` every node is asked first, within a second."""

    seq: int
    fresh: bool = True


class StopTier(ControlMessage, frozen=True, tag=78):
    """Stops nodes and coordinator. Answer: `Accepted`, after the nodes have confirmed `StopNode` (or did not in time)."""

    seq: int


class AskToStop(ControlMessage, frozen=True, tag=90):
    """Somebody else than who has started the tier wishes that it ends. Answer: `Accepted`, at once.

    The tier goes on. `TierReport` says so from then on, and who has started it ends it in order, as with a last checkpoint; with
    `discard` without one.
    """

    seq: int
    discard: bool = False


class CloseTier(ControlMessage, frozen=True, tag=91):
    """Whoever has started the tier is about to end it: from the answer on no row is written, and nothing is made, until it ends.

    Requests for rows wait, so that the last checkpoint has all that was ever acknowledged. Answer: `Accepted`, when all nodes know it.
    With `why` it is opened again instead, since it could not be ended as somebody has asked (`AskToStop`): `TierReport` says why.
    """

    seq: int
    why: str = ""


class NodeGone(ControlMessage, frozen=True, tag=79):
    """The launcher has seen the exit of the node that it started at `endpoint`, or for `attempt` of a job. Answer: `Accepted`."""

    seq: int
    endpoint: str
    reason: str
    attempt: int = -1


class ScaleTier(ControlMessage, frozen=True, tag=80):
    """There shall be `num_nodes` nodes. Answer: `Accepted`, when so many are up and every bucket is where it shall be.

    Missing nodes are started by whoever sends this; of those that are too many the youngest give up their buckets and are told to
    stop. Refused with `DeadlineExceeded` after `seconds`; what was begun goes on then.
    """

    seq: int
    num_nodes: int
    seconds: float


class DrainNode(ControlMessage, frozen=True, tag=81):
    """A node shall give up its buckets, and stop; there shall be one node less then. Otherwise as `ScaleTier`."""

    seq: int
    node: int
    seconds: float


# ---- coordinator -> client or driver ----------------------------------------------------------------------------------


class Refused(ControlMessage, frozen=True, tag=96):
    """The request was refused or failed, and changed nothing. Answer to any request."""

    seq: int
    #: Name of the class in `sparkps.errors`, with its message and attributes.
    error: str
    message: str
    attributes: dict[str, Any] = {}


class Accepted(ControlMessage, frozen=True, tag=97):
    """Done, and there is nothing to tell."""

    seq: int


class Attached(ControlMessage, frozen=True, tag=98):
    """The tier as it is now."""

    seq: int
    tier_id: str
    epoch: int
    placement: list[list[int]]
    #: Every node that ever joined, dead ones included.
    nodes: list[NodeInfo]
    settings: ClientSettings


class TierReport(ControlMessage, frozen=True, tag=107):
    """Status of the tier as plain values.

    ``state`` ("starting", "ready", "degraded", "stopping"), ``epoch``, ``tier_id``, ``nodes`` (list of dict: id, endpoint, host, pid,
    state, reason, buckets, copies, and the node's own report), ``tables`` (list of dict), ``groups`` (list of dict),
    ``garbage_frames``, and what else the coordinator's `status.tier_status` lists.
    """

    seq: int
    report: dict[str, Any]
