"""Tables and functions: what is made is made on every node, or nowhere."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

from sparkps.driver_bridge.coordinator.commands import Then
from sparkps.driver_bridge.coordinator.core import Core, Handlers, nothing, refused
from sparkps.driver_bridge.coordinator.handlers import restoring
from sparkps.driver_bridge.coordinator.states import TierState
from sparkps.errors import TierError
from sparkps.specs import TableSpec
from sparkps.wire.functions import check_allowed
from sparkps.wire.messages import control as c

log = logging.getLogger(__name__)


def create(core: Core, sender: bytes, message: c.CreateTable) -> c.ControlMessage | None:
    """Create a table, or find the one that is the same."""
    spec, new = core.catalog.propose(message.spec)
    core.usage.used(spec.table, core.clock.now)
    if not new and spec.table in core.catalog.ready:
        return c.TableCreated(message.seq, spec)
    # A second caller's command follows the first one's on every connection, and finds the table made.
    core.command(
        f"Creating table {spec.name!r}",
        lambda seq: c.CreateTable(seq, spec),
        lambda cause, _: _created(core, sender, message.seq, spec, cause),
    )
    return None


def _created(core: Core, sender: bytes, seq: int, spec: TableSpec, cause: c.Cause | None) -> None:
    core.usage.used(spec.table, core.clock.now)
    if cause is None and core.catalog.confirm(spec.table):
        core.reply(sender, c.TableCreated(seq, spec))
        return
    if core.catalog.drop(spec.name, spec.table):
        core.command("Undoing a table", lambda number: c.DropTable(number, spec.name, spec.table), nothing)
    dropped = TierError(f"Table {spec.name!r} must not be dropped while it is created. It was.", table=spec.name)
    core.reply(sender, refused(seq, dropped if cause is None else cause.exception()))


def find(core: Core, sender: bytes, message: c.FindTable) -> c.ControlMessage:
    """Find a table that every node has."""
    spec = core.catalog.find(message.name)
    core.usage.used(spec.table, core.clock.now)
    return c.TableCreated(message.seq, spec)


def drop(core: Core, sender: bytes, message: c.DropTable) -> c.ControlMessage | None:
    """Drop a table; of one that is not there this is nothing."""
    if not _drop(core, message.name, message.table, lambda cause, _: core.accept(sender, message.seq, cause)):
        return c.Accepted(message.seq)
    return None


def _drop(core: Core, name: str, table: int, then: Then) -> bool:
    """Drop a table, here and on the nodes; whether it was there."""
    if not core.catalog.drop(name, table):
        return False
    core.usage.forget(table)
    restoring.nothing_is_lost(core)
    core.command(f"Dropping table {name!r}", lambda seq: c.DropTable(seq, name, table), then)
    return True


# ---- tables that nobody uses -------------------------------------------------------------------------------------------


def look(core: Core) -> list[int]:
    """Ids of tables that nobody has used for too long, if it is time to look; that they go is an event of its own (`events.Expired`)."""
    ttl = core.settings.table_ttl
    if not ttl or core.state is not TierState.READY or core.checkpointing is not None or not core.usage.is_due(core.clock.now):
        return []
    ready = [spec for spec in core.catalog.tables.values() if spec.table in core.catalog.ready]
    return core.usage.unused(ready, ttl, core.usage.seen(core.nodes.up(), core.clock.now), core.groups.owners())


def expire(core: Core, tables: Collection[int]) -> None:
    """Drop tables that nobody has used for too long."""
    for spec in [spec for spec in core.catalog.tables.values() if spec.table in tables]:
        log.info("table %s is dropped: nobody has used it for %g s", spec.name, core.settings.table_ttl)
        _drop(core, spec.name, spec.table, nothing)


def register(core: Core, sender: bytes, message: c.RegisterFunction) -> None:
    """Register a function, in place of one of that name."""
    check_allowed(message.name, core.settings.node.allow_functions)
    previous = core.catalog.register(message.name, message.blob)

    def registered(cause: c.Cause | None, _: Any) -> None:
        if cause is not None:
            core.catalog.restore(message.name, previous)
        core.accept(sender, message.seq, cause)

    core.command(
        f"Registering function {message.name!r}",
        lambda seq: c.RegisterFunction(seq, message.name, message.blob),
        registered,
    )


HANDLERS: Handlers = {
    c.CreateTable: create,
    c.FindTable: find,
    c.DropTable: drop,
    c.RegisterFunction: register,
}

__all__ = ["HANDLERS", "expire", "look"]
