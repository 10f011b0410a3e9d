"""The messages of the data plane (client <-> node), as frozen msgspec structs.

A message is metadata only; arrays travel beside it, in the order that its docstring gives (see `codec`). A `Request` is sent
with its *numbers* around it, which the client's transport gives to it when it sends it:

``session``
    Random 63-bit id of one client session (one thread of one process). A node keeps de-duplication state per session.
``seq``
    Number of the request within its session and node, from 1, without gaps per node. A node runs the requests of a session in
    the order of their numbers, whatever the order in which they arrive; one that comes again is answered again.
``acked``
    Every request of this session with ``seq <= acked`` has been answered and will not be sent again.

Fields have these meanings everywhere:

``seq``
    Of an answer: that of the request.
``epoch``
    The placement epoch that the client partitioned by, or by which it knows all nodes that it sends the request to; a node with
    another one answers `WrongEpoch`.
``call``
    Number of the call, ascending within the session, that the request is a piece of. Pieces of one call touch different
    shards. Outside groups it is the stamp by which a shard knows a write that it has already (see `marks`).
``member``
    Who asks, for requests under a worker group's clock; ``None`` for requests outside any group.

Keys always arrive grouped by bucket, buckets ascending, without duplicates; values in the order of the keys.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import msgspec

from sparkps.wire.messages.base import DataMessage
from sparkps.wire.messages.control.values import NodeInfo

#: ``Op.keyset`` of an operation whose keys are on the wire.
NO_KEYSET = -1


class OpCode(IntEnum):
    """What one `Op` of a `Step` does."""

    PULL = 0  # read rows
    PUSH = 1  # gradients: the table's optimizer applies them
    ADD = 2  # rows += values
    ASSIGN = 3  # rows = values


class Member(msgspec.Struct, frozen=True, array_like=True):
    """A rank's place in its group's logical time."""

    #: Group id, > 0, given by the coordinator.
    group: int
    #: 0 .. num_ranks-1; the driver-side solver, if any, is the last rank.
    rank: int
    #: Numbered by the coordinator from 1; nodes fence lower ones.
    incarnation: int
    #: The rank's logical time, from 0.
    clock: int
    #: Number of this push within (rank, clock), from 0: orders the sum of a rank's pushes. Pulls: 0.
    ordinal: int = 0


class Op(msgspec.Struct, frozen=True, array_like=True):
    """One operation on one table.

    Arrays, in this order: keys (int64 (n,)) if sparse and ``keyset == NO_KEYSET``; values ((n, dim) of the table's dtype, or as
    `encoding` says) if not a pull. With a key set, ``start`` names one chunk of it, as it was registered. A dense table has no keys: the
    operation covers this node's buckets in [start, stop), values are their elements, concatenated.
    """

    code: int
    table: int
    keyset: int = NO_KEYSET
    #: `Register.start` of the chunk of the key set; or the range of bucket numbers of a dense table.
    start: int = 0
    stop: int = 0
    #: `wire.encodings.Encoding` of the values of a push, or of the rows that a pull is answered with; of sparse float32 tables only.
    encoding: int = 0


class FunctionCall(msgspec.Struct, frozen=True, array_like=True):
    """One server function on one or more tables that share an index; `args` holds plain msgpack values."""

    function: str
    tables: list[int]
    args: dict[str, Any] = {}


class Request(DataMessage, frozen=True, array_like=True):
    """Base of what a node answers, and is sent with session, seq and acked around it."""


# ---- client -> node ----------------------------------------------------------------------------------------------------


class Hello(DataMessage, frozen=True, tag=1):
    """Opens a session at a node, or opens it again where the node has forgotten it. Answer: `Ready`, or `AnotherTier`.

    ``seq`` is what the client has: every request with a number up to it was answered.
    """

    session: int
    seq: int = 0
    #: The tier that the client's tables are on: one that was started again at the same endpoints has other tables under their ids.
    tier_id: str = ""


class Step(Request, frozen=True, tag=2):
    """Pulls, or pushes/adds/assigns, of any number of tables: one request per node for a whole step.

    Pulls and writes are never mixed. Arrays: those of each `Op` in order. Answer: `Done` with one array per pull, parked
    until the group's clock allows it.
    """

    epoch: int
    ops: list[Op]
    member: Member | None = None
    call: int = 0


class Register(Request, frozen=True, tag=3):
    """Registers keys [start, start + n) of a key set of `total` keys at this node. Arrays: keys. Answer: `Done`.

    Keys are resolved to slots as soon as they exist; registering creates no rows.
    """

    epoch: int
    #: Id of the table group whose index the keys live in (`TableSpec.index`).
    index: int
    keyset: int
    start: int
    total: int


class Unregister(Request, frozen=True, tag=4):
    """Forgets a key set. Answer: `Done`, also if there is none."""

    keyset: int


class Call(Request, frozen=True, tag=5):
    """Runs server functions one after the other on every bucket of this node. Answer: `Done`.

    Arrays of the answer: for each function call in order: buckets (int32 (b,)) and the partials that the function gives
    (see `ps_nodes.functions`).
    """

    epoch: int
    calls: list[FunctionCall]
    member: Member | None = None
    call: int = 0
    #: Seconds after its arrival at which nobody waits for the answer any more; functions of users end then.
    limit: float = 60.0
    #: The buckets to run on, as `wire.buckets` writes sets; empty: all of which the node is the primary.
    buckets: bytes = b""


class Tick(Request, frozen=True, tag=6):
    """``member.clock`` is done: every push up to it was acknowledged. Sent to every node. Answer: `Done`.

    With ``finish`` the rank's clock becomes infinite: its function has returned.
    """

    member: Member
    state: bytes | None = None
    finish: bool = False
    epoch: int = 0


class Takeover(Request, frozen=True, tag=7):
    """A new incarnation asks what the rank has done, and fences the older ones. Answer: `TakenOver`."""

    member: Member
    epoch: int = 0


class Settle(Request, frozen=True, tag=8):
    """After a takeover: the rank's clock is ``member.clock`` (-1: none) on every shard; drops its pushes above. Answer: `Done`."""

    member: Member
    state: bytes | None = None
    epoch: int = 0


class Status(Request, frozen=True, tag=9):
    """Asks for a node's own view of itself. Answer: `StatusReport`."""



class Export(Request, frozen=True, tag=10):
    """Reads keys and rows of one bucket. Answer: `Done` with keys (int64 (m,)) and rows ((m, dim)), in slot order.

    A dense table's keys are element positions.
    """

    epoch: int
    table: int
    bucket: int
    start: int = 0
    #: At most this many rows; fewer mean that the bucket ends here.
    limit: int = 1 << 62


class Bye(DataMessage, frozen=True, tag=11):
    """Ends a session: its key sets and de-duplication state go. No answer."""

    session: int
    seq: int = 0


# ---- node -> client ----------------------------------------------------------------------------------------------------


class Ready(DataMessage, frozen=True, tag=32):
    """A session is open. ``node`` is the node's id: its attempt."""

    node: int
    epoch: int
    seq: int = 0


class Done(DataMessage, frozen=True, tag=33):
    """The request was carried out, now or at an earlier arrival. Arrays as the request says."""

    seq: int


class Failed(DataMessage, frozen=True, tag=34):
    """The request was refused or failed, and changed nothing."""

    seq: int
    #: Name of the class in `sparkps.errors`, with its message and attributes.
    error: str
    message: str
    attributes: dict[str, Any] = {}


class WrongEpoch(DataMessage, frozen=True, tag=35):
    """Partition again by `placement` and send again; nothing was done."""

    seq: int
    epoch: int
    #: Replica set of each bucket: [primary, replica, ...], as node ids.
    placement: list[list[int]]


class Placed(DataMessage, frozen=True, tag=41):
    """Answers nothing: the placement has changed, and the node tells its sessions, so that who waits for a dead node need not."""

    epoch: int
    placement: list[list[int]]
    #: Every node that ever joined, as the coordinator said; what was sent to one that is not "up" is not answered any more.
    nodes: list[NodeInfo]


class UnknownKeySet(DataMessage, frozen=True, tag=36):
    """The node does not know the key set; register it again and send the request again. Nothing was done."""

    seq: int
    keyset: int


class UnknownSession(DataMessage, frozen=True, tag=37):
    """The node has no such session (it restarted, or forgot it after a long silence). Nothing was done."""

    seq: int


class AnotherTier(DataMessage, frozen=True, tag=57):
    """The node is of another tier than the session: nothing that the session asks is for it."""

    tier_id: str


class Parked(DataMessage, frozen=True, tag=38):
    """A pull waits for the group's clock; sent when a request that is parked arrives again."""

    seq: int
    clock: int
    #: Ranks whose tick is missing.
    waiting_for: list[int]


class TakenOver(DataMessage, frozen=True, tag=39):
    """Highest clock that the rank ticked on any shard of this node (-1: none), and the state stored with it."""

    seq: int
    clock: int
    state: bytes | None = None
    finished: bool = False
    #: Bound of the group (`GroupSpec.staleness`).
    staleness: int = 0


class StatusReport(DataMessage, frozen=True, tag=40):
    """A node's own view of itself, as plain values (see `ps_nodes.state`)."""

    seq: int
    report: dict[str, Any]
