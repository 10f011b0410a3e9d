"""Messages about tables and server functions: driver and workers <-> coordinator, and from there to the nodes as commands."""

from __future__ import annotations

from sparkps.specs import TableSpec
from sparkps.wire.messages.base import ControlMessage


class CreateTable(ControlMessage, frozen=True, tag=65):
    """Creates a table, or finds the one that is the same. Answer: `TableCreated`, after every node has it.

    Refused with `TableMismatch` if the name is taken by another table. Also a command to a node, with both ids set in
    `spec`.
    """

    seq: int
    spec: TableSpec


class FindTable(ControlMessage, frozen=True, tag=66):
    """Looks a table up by name. Answer: `TableCreated`; refused with `UnknownTable`."""

    seq: int
    name: str


class DropTable(ControlMessage, frozen=True, tag=67):
    """Drops a table. Answer: `Accepted`, after every node has freed it; also if there is no such table any more.

    `table` is the id: a table of that name that was created later stays. Also a command to a node.
    """

    seq: int
    name: str
    table: int


class RegisterFunction(ControlMessage, frozen=True, tag=68):
    """Registers a user's server function, pickled by cloudpickle. Answer: `Accepted`, after every node has it.

    Replaces a function of that name. Also a command to a node.
    """

    seq: int
    name: str
    blob: bytes


class TableCreated(ControlMessage, frozen=True, tag=99):
    """The table, with both ids set."""

    seq: int
    spec: TableSpec
