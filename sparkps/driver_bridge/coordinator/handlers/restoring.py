"""A checkpoint is restored: all nodes see that it is sound; then nothing is read or written until all of it is loaded.

The stages of a restore follow each other, and a node that dies meanwhile sends none of them back:

- *verifying*: nodes read the files. What is wrong with these is found here, where the tier is as it was.
- *closing*: a placement holds under which requests wait; buckets that were lost begin anew in it. Tables that are missing were created.
  What fails here, as where one of the tables is dropped, is taken back: the tier is opened again as it was.
- *loading*: nodes fill their buckets. What fails here leaves some of one moment and some of another: the tier is *torn*, which its
  nodes tell whoever asks them, until a restore succeeds.
- *opening*: a placement holds under which requests are answered. When all nodes have it, so is the restore's.
"""

from __future__ import annotations

import logging
from enum import StrEnum
from typing import Any

from msgspec.structs import replace

from sparkps.driver_bridge.coordinator.catalog import MAX_TABLES
from sparkps.driver_bridge.coordinator.core import Core, Handlers, nothing
from sparkps.driver_bridge.coordinator.handlers import moving
from sparkps.driver_bridge.coordinator.handlers.checkpoints import (
    FILES_LIMIT,
    Operation,
    again,
    begin,
    check_names,
    give_up,
    still,
)
from sparkps.driver_bridge.coordinator.states import Own, TierState
from sparkps.errors import InvalidInput, SparkPSError, TierError
from sparkps.specs import NUM_BUCKETS, TableSpec, check_spec
from sparkps.wire.messages import control as c

log = logging.getLogger(__name__)


class Stage(StrEnum):
    """How far a restore is."""

    VERIFYING = "verifying"
    CREATING = "creating tables"
    CLOSING = "closing"
    LOADING = "loading"
    OPENING = "opening"


class Restore(Operation):
    """A restore under way. Owner: the coordinator's thread."""

    message: c.RestoreCheckpoint

    def __init__(self, message: c.RestoreCheckpoint, sender: bytes, epoch: int) -> None:
        super().__init__(message, sender, epoch)
        self.stage = Stage.VERIFYING
        #: What there was before it has closed the tier: why nothing could be read, what was hollow, and what tables had lost.
        self.torn = ""
        self.hollow: set[int] = set()
        self.missing: dict[int, int] = {}
        #: Buckets that it has let begin anew, and the dead nodes with which they were lost.
        self.lost: dict[int, int] = {}
        #: Tables that are being loaded.
        self.into: list[c.TableInto] = []


# ---- before anything is changed ----------------------------------------------------------------------------------------


def restore(core: Core, sender: bytes, message: c.RestoreCheckpoint) -> None:
    """Have all nodes see that the checkpoint is sound, a part of it each."""
    check_names(message.url, message.checkpoint)
    if len(message.tables) > MAX_TABLES:
        raise InvalidInput(f"A checkpoint must have at most {MAX_TABLES} tables. Got {len(message.tables)}.")
    for spec in message.tables:
        check_spec(spec)
    others = [g.spec.name for n, g in core.groups.running.items() if n != message.group and g.state == "running"]
    if others:
        raise TierError(f"No worker group may run while a checkpoint is restored. Groups {others} do: wait for them.")
    if not _takers(core):
        raise again("No node is up")
    for spec in message.tables:
        core.catalog.check(_asked(spec))
    operation = Restore(message, sender, core.nodes.epoch)
    begin(core, operation)
    nodes = core.nodes.up()

    def verified(cause: c.Cause | None, reports: dict[int, dict[str, Any]]) -> None:
        if still(core, message) is not operation:
            return
        if cause is not None or core.nodes.epoch != operation.epoch or len(reports) < len(nodes):
            give_up(core, operation, cause)
        else:
            _create(core, operation)

    operation.command = core.command(
        f"Verifying checkpoint {message.checkpoint}",
        lambda seq: c.VerifyCheckpoint(seq, message.url, message.checkpoint, nodes),
        verified,
        FILES_LIMIT,
    )


def _asked(spec: TableSpec) -> TableSpec:
    """A table of a checkpoint, without the ids that it had."""
    return replace(spec, table=0, index=0)


def _takers(core: Core) -> list[int]:
    """Nodes on which buckets that were lost may begin anew."""
    return [node for node in core.nodes.up() if node not in core.draining]


def _create(core: Core, operation: Restore) -> None:
    """Create what is not there."""
    operation.stage = Stage.CREATING
    missing: list[TableSpec] = []
    left, causes = 1, list[c.Cause]()

    def one(cause: c.Cause | None, _: object = None) -> None:
        nonlocal left
        left -= 1
        causes.extend([] if cause is None else [cause])
        if not left and still(core, operation.message) is operation:
            _created(core, operation, missing, causes)

    try:
        for asked in operation.message.tables:
            spec, _ = core.catalog.propose(_asked(asked))
            if spec.table not in core.catalog.ready:
                missing.append(spec)
    except SparkPSError as error:
        causes.append(c.Cause.of(error))
    for spec in missing if not causes else ():
        left += 1
        core.command(f"Creating table {spec.name!r}", lambda seq, spec=spec: c.CreateTable(seq, spec), one)  # type: ignore[misc]
    one(None)


def _created(core: Core, operation: Restore, missing: list[TableSpec], causes: list[c.Cause]) -> None:
    if not causes and all(core.catalog.confirm(spec.table) for spec in missing):
        _close(core, operation)
        return
    for spec in missing:
        if spec.table not in core.catalog.ready and core.catalog.drop(spec.name, spec.table):
            core.command("Undoing a table", lambda seq, spec=spec: c.DropTable(seq, spec.name, spec.table), nothing)  # type: ignore[misc]
    dropped = TierError("The tables of a checkpoint must not be dropped while it is restored. One of them was.")
    give_up(core, operation, causes[0] if causes else c.Cause.of(dropped))


# ---- the tier is closed ------------------------------------------------------------------------------------------------


def _close(core: Core, operation: Restore) -> None:
    """A placement without lost buckets, under which requests wait."""
    operation.stage = Stage.CLOSING
    operation.torn, operation.hollow, operation.missing = core.torn, set(core.hollow), dict(core.catalog.missing)
    core.is_restoring, core.torn = True, ""
    core.hollow |= core.anew
    _place_lost(core, operation)


def _place_lost(core: Core, operation: Restore) -> None:
    """Publish a placement in which every bucket has a primary."""
    lost = core.nodes.lost_buckets()
    if lost:
        if not _takers(core):
            _reopen(core, operation, c.Cause.of(again("No node is up")))
            return
        log.warning("%d buckets that were lost begin anew, to be restored from checkpoint %s", len(lost), operation.message.checkpoint)
    operation.lost = {bucket: core.nodes.placement[bucket][0] for bucket in lost} | operation.lost
    core.anew |= set(lost)
    core.hollow |= set(lost)
    core.catalog.lose(sum(1 << bucket for bucket in lost))
    moving.publish(core, _placed_anew(core, lost))


def _placed_anew(core: Core, lost: list[int]) -> list[list[int]]:
    """Buckets without a copy go to those that lead least."""
    placement = moving.with_copies([list(row) for row in core.nodes.placement], core.moves.interrupt())
    counts = {node: sum(row[0] == node for row in placement) for node in _takers(core)}
    for bucket in lost:
        node = min(counts, key=lambda each: (counts[each], each))
        placement[bucket] = [node]
        counts[node] += 1
    return placement


def go_on(core: Core) -> None:
    """Let nodes load, or answer, when all have the placement; files are not waited for in vain. Called after every event."""
    operation = core.checkpointing
    if operation is None and core.anew and core.placing.is_settled(core.nodes.up()):  # see `nothing_is_lost`
        core.anew.clear()
    if not isinstance(operation, Restore) or core.state not in (TierState.READY, TierState.DEGRADED):
        return
    if operation.stage is Stage.VERIFYING and core.nodes.epoch != operation.epoch:
        give_up(core, operation)
    if not core.placing.is_settled(core.nodes.up()):
        return
    if operation.stage is Stage.CLOSING:
        if core.nodes.lost_buckets():  # their nodes have died since
            _place_lost(core, operation)
        else:
            _load(core, operation)
    elif operation.stage is Stage.OPENING:
        core.checkpointing = None
        core.reply(operation.sender, c.Accepted(operation.message.seq))


def nothing_is_lost(core: Core) -> None:
    """A degraded tier that has no table any more has lost nothing: lost buckets begin anew, without a checkpoint."""
    if core.state is not TierState.DEGRADED or core.catalog.tables or core.checkpointing is not None or not _takers(core):
        return
    lost = core.nodes.lost_buckets()
    log.warning("the last table is dropped: %d buckets that were lost begin anew", len(lost))
    core.torn = ""
    core.hollow.clear()
    core.anew |= set(lost)
    moving.publish(core, _placed_anew(core, lost))
    core.enter(Own.WHOLE)
    core.moves.members_changed("buckets begin anew")


def _reopen(core: Core, operation: Restore, cause: c.Cause) -> None:
    """Nothing is loaded, and nothing will be: the tier is opened as it was, and what was lost is lost again."""
    core.is_restoring, core.torn = False, operation.torn
    core.hollow = operation.hollow
    core.anew -= operation.lost.keys()
    core.catalog.missing = {spec.table: had for spec in core.catalog.tables.values() if (had := operation.missing.get(spec.table))}
    operation.epoch = core.nodes.epoch  # it is not for the placement that it fails
    give_up(core, operation, cause)
    placement = moving.with_copies([list(row) for row in core.nodes.placement], core.moves.interrupt())
    for bucket, node in operation.lost.items():
        placement[bucket] = [node]
    moving.publish(core, placement)


def _load(core: Core, operation: Restore) -> None:
    message, epoch = operation.message, core.nodes.epoch
    try:
        into = [_into(core, spec) for spec in message.tables]
    except SparkPSError as error:  # it was dropped
        _reopen(core, operation, c.Cause.of(error))
        return
    operation.stage, operation.epoch, operation.into = Stage.LOADING, epoch, into
    core.anew.clear()
    core.catalog.lose((1 << NUM_BUCKETS) - 1, [to.table for to in into])  # until all of it is there

    def loaded(cause: c.Cause | None, _: object) -> None:
        if still(core, message) is not operation:
            return
        if cause is not None or core.nodes.epoch != epoch:
            _tear(core, operation, cause)
        else:
            _open(core, operation)

    core.command(
        f"Loading checkpoint {message.checkpoint}",
        lambda seq: c.LoadCheckpoint(seq, message.url, message.checkpoint, into, message.group, message.old_group, epoch),
        loaded,
        FILES_LIMIT,
    )


def _into(core: Core, old: TableSpec) -> c.TableInto:
    """The table of the tier that a table of the checkpoint goes to."""
    spec = core.catalog.find(old.name)
    core.catalog.check(_asked(old))
    return c.TableInto(old.table, old.index, spec.table, spec.index)


def _open(core: Core, operation: Restore) -> None:
    """All is loaded: requests are answered again."""
    operation.stage = Stage.OPENING
    core.is_restoring = False
    core.hollow.clear()
    core.catalog.bring_back(to.table for to in operation.into)
    if core.catalog.missing:
        names = [spec.name for spec in core.catalog.tables.values() if spec.table in core.catalog.missing]
        log.warning("rows of tables %s stay lost: checkpoint %s does not have them", names, operation.message.checkpoint)
    if core.state is TierState.DEGRADED and not core.nodes.lost():
        core.enter(Own.WHOLE)
    core.moves.members_changed("buckets were restored")
    moving.publish(core, moving.with_copies([list(row) for row in core.nodes.placement], core.moves.interrupt()))


def _tear(core: Core, operation: Restore, cause: c.Cause | None) -> None:
    """Not all is loaded, and what there was is not there any more: nobody must take one for the other."""
    why = "its placement has changed" if cause is None else cause.message
    core.is_restoring = False
    core.torn = f"The restore of checkpoint {operation.message.checkpoint} did not come to its end: {why}"
    core.hollow = set(range(len(core.nodes.placement)))
    give_up(core, operation, cause)
    if core.state is TierState.READY:
        core.enter(Own.LOST)
    moving.publish(core, moving.with_copies([list(row) for row in core.nodes.placement], core.moves.interrupt()))


HANDLERS: Handlers = {c.RestoreCheckpoint: restore}

__all__ = ["HANDLERS", "Restore", "Stage", "go_on", "nothing_is_lost"]
