"""Tables and functions of a tier: names, ids, who shares a key index. Pure: no socket, no thread, no clock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from sparkps.errors import InvalidInput, TableMismatch, UnknownTable
from sparkps.plain import shown
from sparkps.specs import TableSpec, check_spec

#: Longest name of a registered function.
LONGEST_FUNCTION_NAME = 256
#: Most tables and functions of a tier, and most bytes of all functions together: a node that joins gets all of them in one
#: `Welcome`, which has to stay below `codec.MAX_HEADER_BYTES`.
MAX_TABLES, MAX_FUNCTIONS, MAX_FUNCTION_BYTES = 8192, 1024, 32 << 20
#: Names that the message on an unknown table lists.
_LISTED = 20


@dataclass
class Catalog:
    """Directory of what exists on the tier. Owner: the coordinator's thread.

    A table is *proposed*, then *confirmed* once every node has it, or *abandoned* if one could not make it. A dropped table's
    name is free at once; its id is never used again.
    """

    #: Every table that is not dropped, by name; its ids are set.
    tables: dict[str, TableSpec] = field(default_factory=dict)
    #: Ids of the tables that every node has; a subset of the ids in `tables`.
    ready: set[int] = field(default_factory=set)
    #: By id of a table in `tables`, the buckets of which its rows are lost, as bits: what no restored checkpoint has brought back.
    missing: dict[int, int] = field(default_factory=dict)
    #: Pickled functions by name.
    functions: dict[str, bytes] = field(default_factory=dict)
    #: Next id of a table and of a key index, > all used ones.
    next_table: int = 1
    next_index: int = 1

    def propose(self, asked: TableSpec) -> tuple[TableSpec, bool]:
        """The table of that name, and whether it is new: whether nodes have to make it.

        Raises
        ------
        InvalidInput
            An illegal name, a table that cannot be (see `specs.check_spec`), or more than `MAX_TABLES`.
        TableMismatch
            The name belongs to another table.
        """
        check_spec(asked)
        have = self.tables.get(asked.name)
        if have is not None:
            return self._same(have, asked), False
        if len(self.tables) >= MAX_TABLES:
            raise InvalidInput(
                f"A tier must have at most {MAX_TABLES} tables. Got one more: drop() those that are not needed.", table=asked.name
            )
        spec = msgspec.structs.replace(asked, table=self.next_table, index=self._index(asked))
        self.next_table += 1
        self.tables[spec.name] = spec
        return spec, True

    def check(self, asked: TableSpec) -> None:
        """See whether a table could be proposed, as far as those that are there are concerned.

        Raises
        ------
        TableMismatch
            The name belongs to another table.
        """
        have = self.tables.get(asked.name)
        if have is not None:
            self._same(have, asked)

    def _same(self, have: TableSpec, asked: TableSpec) -> TableSpec:
        differing = [
            name
            for name in TableSpec.__struct_fields__
            if name not in ("table", "index") and getattr(have, name) != getattr(asked, name)
        ]
        if differing:
            must = ", ".join(f"{name}={getattr(have, name)!r}" for name in differing)
            got = ", ".join(f"{name}={getattr(asked, name)!r}" for name in differing)
            raise TableMismatch(
                f"Table {have.name!r} exists with {must}. Got {got} instead: drop() it first, or take another name.",
                table=have.name,
            )
        return have

    def _index(self, asked: TableSpec) -> int:
        """Id of the key index of a new table: that of its group if there is one, else a new one."""
        if asked.kind == "sparse" and asked.group:
            for other in self.tables.values():
                if other.group == asked.group and other.kind == "sparse":
                    return other.index
        self.next_index += 1
        return self.next_index - 1

    def confirm(self, table: int) -> bool:
        """Every node has the table; False if it was dropped meanwhile."""
        known = any(spec.table == table for spec in self.tables.values())
        if known:
            self.ready.add(table)
        return known

    def find(self, name: str) -> TableSpec:
        """The table of that name, if every node has it.

        Raises
        ------
        UnknownTable
        """
        spec = self.tables.get(name)
        if spec is None or spec.table not in self.ready:
            names = sorted(self.tables)
            known = ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
            raise UnknownTable(
                f"Table {shown(name)} must exist on the tier. Tables there are: {known or 'none'}.", table=name[:128]
            )
        return spec

    def drop(self, name: str, table: int) -> bool:
        """Forget a table; whether there was one. Also how a proposal is abandoned."""
        spec = self.tables.get(name)
        if spec is None or spec.table != table:
            return False
        del self.tables[name]
        self.ready.discard(table)
        self.missing.pop(table, None)
        return True

    def lose(self, buckets: int, tables: Iterable[int] | None = None) -> None:
        """The rows of buckets, given as bits, are lost in these tables, by default in all."""
        for table in [spec.table for spec in self.tables.values()] if tables is None else tables:
            if buckets:
                self.missing[table] = self.missing.get(table, 0) | buckets

    def bring_back(self, tables: Iterable[int]) -> None:
        """All rows of these tables are there."""
        for table in tables:
            self.missing.pop(table, None)

    def complete(self) -> list[TableSpec]:
        """Tables of which no rows are lost."""
        return [spec for spec in self.tables.values() if spec.table not in self.missing]

    def register(self, name: str, blob: bytes) -> bytes | None:
        """Register a function; returns the one that it replaces.

        Raises
        ------
        InvalidInput
            An illegal name, or more than `MAX_FUNCTIONS` or `MAX_FUNCTION_BYTES` with those that are there.
        """
        if not name or len(name) > LONGEST_FUNCTION_NAME:
            raise InvalidInput(
                f"A function's name must have 1 to {LONGEST_FUNCTION_NAME} characters. Got {name[:80]!r} instead.",
                function=name[:80],
            )
        previous = self.functions.get(name)
        number = len(self.functions) + (previous is None)
        nbytes = sum(map(len, self.functions.values())) - len(previous or b"") + len(blob)
        if number > MAX_FUNCTIONS or nbytes > MAX_FUNCTION_BYTES:
            raise InvalidInput(
                f"A tier must have at most {MAX_FUNCTIONS} functions of {MAX_FUNCTION_BYTES} bytes together, pickled. Got {number} of"
                f" {nbytes} bytes with {name!r}: what a function needs to read, such as arrays, belongs into tables.",
                function=name,
            )
        self.functions[name] = blob
        return previous

    def restore(self, name: str, previous: bytes | None) -> None:
        """Undo `register`: a node could not take the function."""
        if previous is None:
            self.functions.pop(name, None)
        else:
            self.functions[name] = previous

    def validate(self) -> None:
        """Check the invariants that the fields' comments state."""
        ids = [spec.table for spec in self.tables.values()]
        assert len(set(ids)) == len(ids), "an id names one table"
        assert all(0 < spec.table < self.next_table for spec in self.tables.values())
        assert all(0 < spec.index < self.next_index for spec in self.tables.values())
        assert self.ready <= set(ids)
        assert self.missing.keys() <= set(ids)
        assert all(self.missing.values())
        owners: dict[int, str] = {}
        for spec in self.tables.values():
            group = spec.group if spec.kind == "sparse" and spec.group else f"{spec.name}:"
            assert owners.setdefault(spec.index, group) == group, "an index is shared within one group only"


__all__ = ["Catalog"]
