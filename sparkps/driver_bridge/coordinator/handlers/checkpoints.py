"""Checkpoints are taken: nodes write what they lead, all under one placement. The driver writes the manifest.

One is taken, or restored (see `restoring`), at a time. While one is under way no bucket is moved. A node that dies ends it at once, for
what it held must be copied anew, whatever those that still write wait for; the driver tries again.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Any

from sparkps.driver_bridge.coordinator.core import Core, Handlers, LastCheckpoint, nothing, refused
from sparkps.driver_bridge.coordinator.reports import clocks_of, part_of
from sparkps.driver_bridge.coordinator.states import TierState
from sparkps.errors import CheckpointError, InvalidInput
from sparkps.plain import shown
from sparkps.specs import INFINITE_CLOCK, MAX_RANKS
from sparkps.wire.messages import control as c

log = logging.getLogger(__name__)

#: Most characters of a checkpoint's URL, and of its id.
LONGEST_URL, LONGEST_ID = 4096, 256

#: Seconds that nodes have to say where their clocks are, and to write or load their buckets.
HOLD_LIMIT, FILES_LIMIT = 5.0, 3600.0


@dataclass
class Operation:
    """A checkpoint that is being taken or restored."""

    message: c.TakeCheckpoint | c.RestoreCheckpoint
    #: Connection of who asked for it.
    sender: bytes
    #: The placement under which it counts.
    epoch: int
    #: Number of the command that nodes are carrying out for it, whose answers do not count once it is given up.
    command: int = 0


# ---- taking one --------------------------------------------------------------------------------------------------------


def take(core: Core, sender: bytes, message: c.TakeCheckpoint) -> None:
    """Find the cut, then have all nodes write."""
    check_names(message.url, message.checkpoint)
    check_names(message.url, message.base or message.checkpoint)
    operation = Operation(message, sender, core.nodes.epoch)
    begin(core, operation)

    def held(cause: c.Cause | None, reports: dict[int, dict[str, Any]]) -> None:
        _held(core, message, cause, reports)

    operation.command = core.command("Holding clocks for a checkpoint", c.HoldClocks, held, HOLD_LIMIT)


def begin(core: Core, operation: Operation) -> None:
    """Nothing else is taken or restored from now on.

    Raises
    ------
    CheckpointError
        Something is, or buckets are being moved.
    """
    if core.checkpointing is not None:
        raise CheckpointError("Only one checkpoint may be taken or restored at a time. Another one is: wait until it is done.", again=True)
    if not core.placing.is_settled(core.nodes.up()):
        raise again("Buckets are being moved")
    core.checkpointing = operation


def _held(core: Core, message: c.TakeCheckpoint, cause: c.Cause | None, reports: dict[int, dict[str, Any]]) -> None:
    operation = still(core, message)
    if operation is None:
        return
    if cause is not None or core.nodes.epoch != operation.epoch:
        give_up(core, operation, cause)
        return
    clocks: dict[str, int] = {}
    for report in reports.values():
        for group, clock in clocks_of(report).items():
            clocks[group] = max(clock, clocks.get(group, clock))
    specs = core.catalog.complete()
    if core.catalog.missing:
        lacking = [spec.name for spec in core.catalog.tables.values() if spec not in specs]
        log.warning("checkpoint %s is without tables %s: rows of them are lost", message.checkpoint, lacking)
    groups = [group.spec for group in core.groups.running.values()]

    def written(cause: c.Cause | None, reports: dict[int, dict[str, Any]]) -> None:
        operation = still(core, message)
        if operation is None:
            return
        if cause is not None or core.nodes.epoch != operation.epoch:
            give_up(core, operation, cause)
            return
        core.checkpointing = None
        parts = [part for report in reports.values() if (part := part_of(report)) is not None]
        if len(parts) < len(reports):  # a replay: no journal has them
            core.reply(operation.sender, refused(message.seq, again("The coordinator was started again")))
            return
        core.reply(operation.sender, c.CheckpointWritten(message.seq, core.tier_id, specs, groups, parts))

    epoch = operation.epoch
    operation.command = core.command(
        f"Writing checkpoint {message.checkpoint}",
        lambda seq: c.WriteCheckpoint(seq, message.url, message.checkpoint, specs, clocks, epoch, message.base),
        written,
        FILES_LIMIT,
    )


def still(core: Core, message: c.TakeCheckpoint | c.RestoreCheckpoint) -> Operation | None:
    """The operation that a request began, unless it was given up."""
    operation = core.checkpointing
    return operation if operation is not None and operation.message is message else None


def give_up(core: Core, operation: Operation, cause: c.Cause | None = None) -> None:
    """It has failed, and may be tried again if the placement has changed. What was written does not count."""
    core.checkpointing = None
    core.commands.drop(operation.command)
    is_changed = cause is None or core.nodes.epoch != operation.epoch
    error = again("It has changed") if is_changed else cause.exception()  # type: ignore[union-attr]
    log.warning("checkpoint %s is given up: %s", operation.message.checkpoint, error)
    if isinstance(operation.message, c.TakeCheckpoint):
        core.command("Releasing clocks", c.ReleaseClocks, nothing)
    core.reply(operation.sender, refused(operation.message.seq, error))


def interrupted(core: Core) -> None:
    """A coordinator that was started again does not know what nodes have written: one that was being taken is to be taken again."""
    operation = core.checkpointing
    if operation is not None and isinstance(operation.message, c.TakeCheckpoint):
        give_up(core, operation, c.Cause.of(again("The coordinator was started again")))


def again(why: str) -> CheckpointError:
    """The error of one that may be tried again."""
    return CheckpointError(f"The placement must stay as it is while a checkpoint is taken or restored. {why}: try again.", again=True)


def taken(core: Core, sender: bytes, message: c.CheckpointTaken) -> c.ControlMessage:
    """The manifest is written."""
    check_names(message.url, message.checkpoint)
    possible = all(len(group) <= LONGEST_ID and -1 <= clock <= INFINITE_CLOCK for group, clock in message.clocks.items())
    if not (possible and len(message.clocks) <= MAX_RANKS and 0 <= message.nbytes < 1 << 63 and 0 <= message.seconds < math.inf):
        raise InvalidInput(
            f"A checkpoint must have clocks of at most {MAX_RANKS} groups, a size and a time. Got {len(message.clocks)} clocks,"
            f" {message.nbytes} bytes and {message.seconds} s."
        )
    core.last_checkpoint = LastCheckpoint(message.url, message.checkpoint, dict(message.clocks), message.nbytes, message.seconds)
    return c.Accepted(message.seq)


def check_names(url: str, checkpoint: str) -> None:
    """Refuse names of a checkpoint that are none: they become names of files.

    Raises
    ------
    InvalidInput
    """
    plain = checkpoint.isprintable() and not set(checkpoint) & set("/\\")
    if not (0 < len(url) <= LONGEST_URL and url.isprintable() and 0 < len(checkpoint) <= LONGEST_ID and plain and checkpoint[0] != "."):
        raise InvalidInput(
            f"A checkpoint must be at a URL of 1 to {LONGEST_URL} characters, and have an id of 1 to {LONGEST_ID} without slashes. Got"
            f" {shown(url)} and {shown(checkpoint)}."
        )


# ---- both --------------------------------------------------------------------------------------------------------------


def go_on(core: Core) -> None:
    """End what cannot go on. Called after every event."""
    operation = core.checkpointing
    if operation is None:
        return
    if core.state in (TierState.STOPPING, TierState.STOPPED):
        core.checkpointing = None
    elif isinstance(operation.message, c.TakeCheckpoint) and core.nodes.epoch != operation.epoch:
        give_up(core, operation)


HANDLERS: Handlers = {
    c.TakeCheckpoint: take,
    c.CheckpointTaken: taken,
}

__all__ = ["FILES_LIMIT", "HANDLERS", "Operation", "again", "begin", "check_names", "give_up", "go_on", "interrupted", "still"]
