"""Messages about checkpoints: driver <-> coordinator <-> nodes. Rows go from nodes to files, and never through one of these."""

from __future__ import annotations

import msgspec

from sparkps.specs import GroupSpec, TableSpec
from sparkps.wire.messages.base import ControlMessage


class TableInto(msgspec.Struct, frozen=True, array_like=True):
    """Where a table of a checkpoint goes: ids there, and on the tier."""

    old_table: int
    old_index: int
    table: int
    index: int


# ---- driver -> coordinator --------------------------------------------------------------------------------------------


class TakeCheckpoint(ControlMessage, frozen=True, tag=82):
    """Have all nodes write their buckets. Answer: `CheckpointWritten`; the manifest is for the driver to write.

    Refused with `CheckpointError` and the attribute ``again`` where a placement was changing: nothing counts, and it can be tried again.
    """

    seq: int
    url: str
    #: Id of the checkpoint.
    checkpoint: str
    #: Id of an older one at that URL from which what has not changed is taken over; empty: none.
    base: str = ""


class CheckpointTaken(ControlMessage, frozen=True, tag=83):
    """Its manifest is written: it is the tier's last checkpoint. Answer: `Accepted`."""

    seq: int
    url: str
    checkpoint: str
    #: By worker group: the last clock in it.
    clocks: dict[str, int]
    nbytes: int
    seconds: float


class RestoreCheckpoint(ControlMessage, frozen=True, tag=84):
    """Have all nodes load a checkpoint. Answer: `Accepted`, when all can be read and written again.

    First nodes see whether all of it is sound: before that nothing is changed. Then tables that are not there are created, buckets that
    were lost with their nodes begin anew on nodes that are up, and all is loaded; meanwhile requests wait. If that fails the tier is
    degraded, and no row can be read or written until a checkpoint is restored. Refused with ``again`` as `TakeCheckpoint`.
    """

    seq: int
    url: str
    checkpoint: str
    #: As they were when it was taken, with the ids that they had then.
    tables: list[TableSpec]
    #: A group that was admitted to go on from there and has not begun, and its id in the checkpoint: what its ranks had written beyond
    #: their ticks is known again. 0: none.
    group: int = 0
    old_group: int = 0


# ---- coordinator -> driver --------------------------------------------------------------------------------------------


class CheckpointWritten(ControlMessage, frozen=True, tag=108):
    """All nodes have written."""

    seq: int
    tier_id: str
    tables: list[TableSpec]
    #: Worker groups that were open.
    groups: list[GroupSpec]
    #: Of each node, a `checkpoints.parts.NodePart`, encoded.
    parts: list[bytes]


# ---- coordinator -> node ----------------------------------------------------------------------------------------------


class HoldClocks(ControlMessage, frozen=True, tag=115):
    """Command: BSP groups close no clock that is not due yet. Reports ``clocks``: by group id as str, the highest that is closed or due.

    Until `WriteCheckpoint` or `ReleaseClocks`, or a few seconds have passed, or the placement has changed.
    """

    seq: int


class WriteCheckpoint(ControlMessage, frozen=True, tag=117):
    """Command: write all buckets that the node leads. Reports ``part``: a `checkpoints.parts.NodePart`, encoded."""

    seq: int
    url: str
    checkpoint: str
    tables: list[TableSpec]
    #: BSP: by group id as str, the clock of the cut.
    clocks: dict[str, int]
    #: The placement that must hold until all is copied.
    epoch: int
    #: See `TakeCheckpoint`.
    base: str = ""


class ReleaseClocks(ControlMessage, frozen=True, tag=118):
    """Command: a checkpoint was given up. Clocks close again."""

    seq: int


class VerifyCheckpoint(ControlMessage, frozen=True, tag=109):
    """Command: see whether the files of a checkpoint can be read, and are as they were written. Nothing is changed."""

    seq: int
    url: str
    checkpoint: str
    #: Nodes that share the work.
    nodes: list[int]


class LoadCheckpoint(ControlMessage, frozen=True, tag=119):
    """Command: load all buckets that the node leads; see `RestoreCheckpoint`."""

    seq: int
    url: str
    checkpoint: str
    tables: list[TableInto]
    group: int
    old_group: int
    epoch: int
