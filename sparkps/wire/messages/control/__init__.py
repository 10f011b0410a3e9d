"""The messages of the control plane (coordinator <-> nodes, driver and workers), as frozen msgspec structs.

All peers connect a DEALER socket to the coordinator's ROUTER and choose a random routing id (`ROUTING_ID_BYTES` bytes,
the first one not zero), in which clients say what tier they mean. ``(routing id, seq)`` names a request: the coordinator carries it
out once however often it arrives, and sends the same reply again. Fields have these meanings everywhere:

``seq``
    Number of a request within its connection, from 1; its reply echoes it. In a command from the coordinator to a
    node it is the command's id (a numbering of the coordinator's own), which `CommandDone` echoes.
``epoch``
    Version of the placement, from 1; 0 until all nodes of the tier have joined.
``placement``
    For each of the 256 buckets its replica set ``[primary, replica, ...]``, as node ids. Empty at epoch 0.

Any request may be answered by `Refused` instead of what its docstring says. Three conversations use these messages:

*A node* sends `NodeHello`, again under the same number until it gets `Welcome` with all tables, functions and groups that
exist; then it sends a `Heartbeat` every ``heartbeat_interval`` seconds, each answered by `Alive`, and carries out commands
(`CreateTable`, `DropTable`, `RegisterFunction`, `OpenGroup`, `FailGroup`, `CloseGroup`, `SetPlacement`, `CopyBuckets`, `HoldClocks`,
`WriteCheckpoint`, `ReleaseClocks`, `VerifyCheckpoint`, `LoadCheckpoint`, `TakeTokens`, `ReportNow`, `StopNode`), each answered by one
`CommandDone`. Commands reach a node once and in order; they are idempotent all the same, since a `Welcome` may already hold what a
command brings, and a coordinator that was started again sends what was under way once more. The first `SetPlacement` comes when all
nodes are there.

*A client* (driver or worker) sends `Attach` and gets the placement; it asks again when a node refuses its epoch or
does not answer. *A worker group* lives from `AdmitGroup` to `EndGroup`; its ranks lease, renew and finish in between.

All messages, and the values that they carry, are importable from here; a new one needs no line here.
"""

# ruff: noqa: F403 - so that a message is named in the module of its subject alone
from sparkps.wire.messages.base import ControlMessage as ControlMessage
from sparkps.wire.messages.control.checkpoints import *
from sparkps.wire.messages.control.groups import *
from sparkps.wire.messages.control.logs import *
from sparkps.wire.messages.control.nodes import *
from sparkps.wire.messages.control.tables import *
from sparkps.wire.messages.control.tier import *
from sparkps.wire.messages.control.tokens import *
from sparkps.wire.messages.control.values import *
