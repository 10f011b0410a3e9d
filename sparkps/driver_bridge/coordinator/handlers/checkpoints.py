"""Checkpoints: nodes write, or load, what they lead, all under one placement. The driver writes the manifest.

One at a time. While one is under way no bucket is moved; a node that dies ends it, and the driver tries again.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from sparkps.driver_bridge.coordinator.core import Core, Handlers, LastCheckpoint, nothing, refused
from sparkps.driver_bridge.coordinator.handlers import moving
from sparkps.driver_bridge.coordinator.states import Own, TierState
from sparkps.errors import CheckpointError, TierError
from sparkps.wire.messages import control as c

log = logging.getLogger(__name__)

#: Seconds that nodes have to say where their clocks are, and to write or load their buckets.
HOLD_LIMIT, FILES_LIMIT = 5.0, 3600.0


@dataclass
class Operation:
    """A checkpoint that is being taken or restored."""

    message: c.TakeCheckpoint | c.RestoreCheckpoint
    #: Connection of who asked for it.
    sender: bytes
    #: The placement under which it counts; of a restore, once all nodes have it.
    epoch: int
    #: Commands were sent.
    is_begun: bool = False


# ---- taking one --------------------------------------------------------------------------------------------------------


def take(core: Core, sender: bytes, message: c.TakeCheckpoint) -> None:
    """Find the cut, then have all nodes write."""
    _begin(core, Operation(message, sender, core.nodes.epoch))
    core.command("Holding clocks for a checkpoint", c.HoldClocks, lambda cause, reports: _held(core, message, cause, reports), HOLD_LIMIT)


def _begin(core: Core, operation: Operation) -> None:
    if core.checkpointing is not None:
        raise CheckpointError("Only one checkpoint may be taken or restored at a time. Another one is: wait until it is done.", again=True)
    if not core.placing.is_settled(core.nodes.up()):
        raise _again("Buckets are being moved")
    core.checkpointing = operation


def _held(core: Core, message: c.TakeCheckpoint, cause: c.Cause | None, reports: dict[int, dict[str, Any]]) -> None:
    operation = _still(core, message)
    if operation is None:
        return
    if cause is not None or core.nodes.epoch != operation.epoch:
        _give_up(core, operation, cause)
        return
    clocks: dict[str, int] = {}
    for report in reports.values():
        for group, clock in report.get("clocks", {}).items():
            clocks[group] = max(clock, clocks.get(group, clock))
    specs = list(core.catalog.tables.values())
    groups = [group.spec for group in core.groups.running.values()]

    def written(cause: c.Cause | None, reports: dict[int, dict[str, Any]]) -> None:
        operation = _still(core, message)
        if operation is None:
            return
        if cause is not None or core.nodes.epoch != operation.epoch:
            _give_up(core, operation, cause)
            return
        core.checkpointing = None
        parts = [report["part"] for report in reports.values()]
        core.reply(operation.sender, c.CheckpointWritten(message.seq, core.tier_id, specs, groups, parts))

    epoch = operation.epoch
    core.command(
        f"Writing checkpoint {message.checkpoint}",
        lambda seq: c.WriteCheckpoint(seq, message.url, message.checkpoint, specs, clocks, epoch, message.base),
        written,
        FILES_LIMIT,
    )


def _still(core: Core, message: c.TakeCheckpoint | c.RestoreCheckpoint) -> Operation | None:
    """The operation that a request began, unless it was given up."""
    operation = core.checkpointing
    return operation if operation is not None and operation.message is message else None


def _give_up(core: Core, operation: Operation, cause: c.Cause | None = None) -> None:
    """What was written does not count."""
    core.checkpointing = None
    is_changed = cause is None or core.nodes.epoch != operation.epoch
    error = _again("It has changed") if is_changed else cause.exception()  # type: ignore[union-attr]
    log.warning("checkpoint %s is given up: %s", operation.message.checkpoint, error)
    if isinstance(operation.message, c.TakeCheckpoint):
        core.command("Releasing clocks", c.ReleaseClocks, nothing)
    core.reply(operation.sender, refused(operation.message.seq, error))


def _again(why: str) -> CheckpointError:
    return CheckpointError(f"The placement must stay as it is while a checkpoint is taken or restored. {why}: try again.", again=True)


def taken(core: Core, sender: bytes, message: c.CheckpointTaken) -> c.ControlMessage:
    """The manifest is written."""
    core.last_checkpoint = LastCheckpoint(message.url, message.checkpoint, dict(message.clocks), message.nbytes, message.seconds)
    return c.Accepted(message.seq)


# ---- restoring one -----------------------------------------------------------------------------------------------------


def restore(core: Core, sender: bytes, message: c.RestoreCheckpoint) -> None:
    """Place buckets that were lost anew, then have all nodes load."""
    others = [g.spec.name for n, g in core.groups.running.items() if n != message.group and g.state == "running"]
    if others:
        raise TierError(f"No worker group may run while a checkpoint is restored. Groups {others} do: wait for them.")
    if not core.nodes.up():
        raise _again("No node is up")
    _begin(core, Operation(message, sender, 0))
    lost = core.nodes.lost_buckets()
    if lost:
        log.warning("%d buckets that were lost begin anew, to be restored from checkpoint %s", len(lost), message.checkpoint)
        core.moves.interrupt()
        core.hollow |= set(lost)
        moving.publish(core, _placed_anew(core, lost))


def _placed_anew(core: Core, lost: list[int]) -> list[list[int]]:
    """Buckets without a copy go to those that lead least."""
    placement = [list(row) for row in core.nodes.placement]
    counts = {node: sum(row[0] == node for row in placement) for node in core.nodes.up() if node not in core.draining}
    for bucket in lost:
        node = min(counts, key=lambda each: (counts[each], each))
        placement[bucket] = [node]
        counts[node] += 1
    return placement


def go_on(core: Core) -> None:
    """Let nodes load when all have the placement; end what cannot go on. Called after every event."""
    operation = core.checkpointing
    if operation is None:
        return
    if core.state in (TierState.STOPPING, TierState.STOPPED):
        core.checkpointing = None
    elif isinstance(operation.message, c.RestoreCheckpoint) and not operation.is_begun and core.placing.is_settled(core.nodes.up()):
        _load(core, operation, operation.message)


def _load(core: Core, operation: Operation, message: c.RestoreCheckpoint) -> None:
    operation.is_begun, operation.epoch = True, core.nodes.epoch

    def loaded(cause: c.Cause | None, _: object) -> None:
        if _still(core, message) is not operation:
            return
        if cause is not None or core.nodes.epoch != operation.epoch:
            _give_up(core, operation, cause)
            return
        core.checkpointing = None
        core.hollow.clear()
        if core.state is TierState.DEGRADED and not core.nodes.lost():
            core.enter(Own.WHOLE)
            core.moves.members_changed("buckets were restored")
        core.reply(operation.sender, c.Accepted(message.seq))

    core.command(
        f"Loading checkpoint {message.checkpoint}",
        lambda seq: c.LoadCheckpoint(
            seq, message.url, message.checkpoint, message.tables, message.group, message.old_group, operation.epoch
        ),
        loaded,
        FILES_LIMIT,
    )


HANDLERS: Handlers = {
    c.TakeCheckpoint: take,
    c.CheckpointTaken: taken,
    c.RestoreCheckpoint: restore,
}

__all__ = ["HANDLERS", "Operation", "go_on"]
