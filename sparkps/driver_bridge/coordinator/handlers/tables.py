"""Tables and functions: what is made is made on every node, or nowhere."""

from __future__ import annotations

from typing import Any

from sparkps.driver_bridge.coordinator.core import Core, Handlers, nothing, refused
from sparkps.driver_bridge.coordinator.handlers import restoring
from sparkps.errors import TierError
from sparkps.specs import TableSpec
from sparkps.wire.messages import control as c


def create(core: Core, sender: bytes, message: c.CreateTable) -> c.ControlMessage | None:
    """Create a table, or find the one that is the same."""
    spec, new = core.catalog.propose(message.spec)
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
    if cause is None and core.catalog.confirm(spec.table):
        core.reply(sender, c.TableCreated(seq, spec))
        return
    if core.catalog.drop(spec.name, spec.table):
        core.command("Undoing a table", lambda number: c.DropTable(number, spec.name, spec.table), nothing)
    dropped = TierError(f"Table {spec.name!r} must not be dropped while it is created. It was.", table=spec.name)
    core.reply(sender, refused(seq, dropped if cause is None else cause.exception()))


def find(core: Core, sender: bytes, message: c.FindTable) -> c.ControlMessage:
    """Find a table that every node has."""
    return c.TableCreated(message.seq, core.catalog.find(message.name))


def drop(core: Core, sender: bytes, message: c.DropTable) -> c.ControlMessage | None:
    """Drop a table; of one that is not there this is nothing."""
    if not core.catalog.drop(message.name, message.table):
        return c.Accepted(message.seq)
    restoring.nothing_is_lost(core)
    core.command(
        f"Dropping table {message.name!r}",
        lambda seq: c.DropTable(seq, message.name, message.table),
        lambda cause, _: core.accept(sender, message.seq, cause),
    )
    return None


def register(core: Core, sender: bytes, message: c.RegisterFunction) -> None:
    """Register a function, in place of one of that name."""
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

__all__ = ["HANDLERS"]
