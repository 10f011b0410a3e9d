"""BSP: what ranks have written in clocks that are not closed yet, and how a clock's writes become one change.

A clock is applied once: per table the assigns, then the sum of the adds, then of the gradients, each in the order of ranks, then
of a rank's writes; server functions that write come last, in the same order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from sparkps.ps_nodes.functions import Prepared
from sparkps.ps_nodes.tables.directory import Table, Tables
from sparkps.ps_nodes.tables.targets import Target
from sparkps.ps_nodes.turns import ShardSet
from sparkps.wire.buckets import bits_of, union
from sparkps.wire.messages.data import Member, Op

#: What one kept part costs besides its arrays (bytes, about).
PART_BYTES = 1024

#: `Part.turn` of server functions: after the writes of all tables.
_LAST_TURN = (1 << 63, 0)

#: A part that is kept, with its place among others of its clock: (rank, ordinal, arrival).
_Ordered = tuple[tuple[int, int, int], "Part"]


class Part(Protocol):
    """A part of a write that is applied whole: a `Target`, or server functions."""

    @property
    def mask(self) -> int:
        """Buckets that it changes, as bits."""

    @property
    def nbytes(self) -> int:
        """Bytes that it keeps."""

    @property
    def size(self) -> int:
        """Keys or elements."""

    @property
    def tables(self) -> Sequence[Table]:
        """Tables that it needs."""

    @property
    def changed(self) -> Sequence[int]:
        """Numbers in whose order it changes its tables (`SparseShards.order`)."""

    @property
    def turn(self) -> tuple[int, int]:
        """Parts of one clock with the same turn are carried out as one; turns ascend."""

    def only(self, buckets: int) -> Sequence[Part]:
        """The same in those of its buckets that are among `buckets` (bits)."""

    def shipped(self) -> tuple[Op, list[Any]]:
        """The same as an operation with its arrays; not of server functions."""

    def announce(self) -> None:
        """It is kept: new rows that it will make are counted from now on."""

    def prepare(self) -> None:
        """Do what may fail before anything is changed."""

    def write(self) -> None:
        """Change the shards."""

    @staticmethod
    def write_sum(targets: Sequence[Any], clock: int) -> None:
        """Change the shards once for parts of one turn, in the order given."""


@dataclass(slots=True)
class CallPart:
    """Server functions that write, on some buckets."""

    prepared: Prepared
    mask: int
    nbytes: int = 0
    size: int = 1 << 20
    turn: tuple[int, int] = _LAST_TURN

    @property
    def tables(self) -> Sequence[Table]:
        """Tables of the calls."""
        return self.prepared.tables

    @property
    def changed(self) -> Sequence[int]:
        """See `Part`."""
        return [table.order for table in self.prepared.tables]

    def only(self, buckets: int) -> list[CallPart]:
        """The same on those of its buckets that are among `buckets` (bits)."""
        return [CallPart(self.prepared, buckets)]

    def shipped(self) -> tuple[Op, list[Any]]:
        """See `Part`."""
        raise TypeError("Server functions must be shipped as calls.")

    def announce(self) -> None:
        """Nothing: functions make no rows."""

    def prepare(self) -> None:
        """Everything was checked before."""

    def write(self) -> None:
        """Run the functions."""
        self.prepared.run(bits_of(self.mask).nonzero()[0].astype("int32"))

    @staticmethod
    def write_sum(targets: Sequence[CallPart], clock: int) -> None:
        """Run the functions of all, one after the other: there is no sum of calls."""
        for part in targets:
            part.write()


class Write:
    """What one request writes, to be narrowed to the shards where it is new.

    Parameters
    ----------
    parts : dict
        By id of the table whose marks decide.
    buckets : dict
        By the same, the buckets that are written, as bits.
    """

    __slots__ = ("_parts", "buckets", "shards")

    def __init__(self, parts: dict[int, Sequence[Part]], buckets: dict[int, int], shards: ShardSet) -> None:
        self._parts = parts
        self.buckets = buckets
        #: All shards that are written, by the number in whose order that is done.
        self.shards: ShardSet = shards

    @classmethod
    def of_targets(cls, targets: Sequence[Target]) -> Write:
        """Pushes, adds and assigns."""
        if len(targets) == 1:
            (only,) = targets
            table, mask = only.table.spec.table, only.mask
            return cls({table: targets}, {table: mask}, {only.table.order: mask})
        parts: dict[int, list[Target]] = {}
        shards: dict[int, int] = {}
        for target in targets:
            parts.setdefault(target.table.spec.table, []).append(target)
            shards[target.table.order] = shards.get(target.table.order, 0) | target.mask
        return cls({**parts}, {table: union(target.mask for target in mine) for table, mine in parts.items()}, shards)

    @classmethod
    def of_call(cls, prepared: Prepared, buckets: int) -> Write:
        """Server functions that write: their parts stay together, and the first table's marks decide."""
        first = prepared.written[0].spec.table
        shards = dict.fromkeys([table.order for table in prepared.tables], buckets)  # what is read must be the same at every copy
        return cls({first: [CallPart(prepared, buckets)]}, {first: buckets}, shards)

    @property
    def nbytes(self) -> int:
        """Bytes that it keeps while it is buffered."""
        return sum(part.nbytes + PART_BYTES for mine in self._parts.values() for part in mine)

    def only(self, new: dict[int, int]) -> Sequence[Part]:
        """The parts in these buckets of each table."""
        if len(new) == 1:
            ((table, buckets),) = new.items()
            return self.narrowed(table, buckets)
        return [part for table, buckets in new.items() for part in self.narrowed(table, buckets)]

    def change(self, new: dict[int, int]) -> None:
        """Carry out the parts in these buckets of each table."""
        write_all(self.only(new))

    def narrowed(self, table: int, buckets: int) -> Sequence[Part]:
        """The parts of one table in these buckets."""
        if buckets == self.buckets[table]:
            return self._parts[table]  # all of it is new: the usual case
        if not buckets:
            return ()
        found: list[Part] = []
        for part in self._parts[table]:
            if buckets & part.mask:
                found += part.only(buckets & part.mask)
        return found


def write_all(parts: Sequence[Part]) -> None:
    """Carry out parts in order; what needs memory first."""
    if len(parts) > 1:
        for part in parts:
            part.prepare()
    for part in parts:
        part.write()


class Closed:
    """The writes of one clock, on their way into the tables."""

    def __init__(self, tables: Tables, parts: list[Part]) -> None:
        self._use = tables.use_again({id(table): table for part in parts for table in part.tables}.values())
        there = {id(table) for table in self._use.tables}
        #: Those of tables that were dropped meanwhile are gone with them.
        self._parts = [part for part in parts if all(id(table) in there for table in part.tables)]
        #: What they change.
        self.shards: dict[int, int] = {}
        for part in self._parts:
            for order in part.changed:
                self.shards[order] = self.shards.get(order, 0) | part.mask

    def apply(self, clock: int) -> None:
        """Change the shards once; `clock` is the step of optimizers' schedules."""
        turns: dict[tuple[int, int], list[Part]] = defaultdict(list)
        for part in self._parts:
            part.prepare()
            turns[part.turn].append(part)
        for turn in sorted(turns):
            parts = turns[turn]
            parts[0].write_sum(parts, clock)

    def release(self) -> None:
        """Let go of the tables."""
        self._use.release()


class Kept(NamedTuple):
    """A part that waits for its clock."""

    clock: int
    rank: int
    ordinal: int
    part: Part


class ClockBuffers:
    """Writes of open clocks of one group. Owner: the group's lock.

    Parameters
    ----------
    tables : Tables
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        #: By clock: (rank, ordinal, arrival) and part; no clock without one.
        self._parts: dict[int, list[_Ordered]] = {}
        self._arrivals = 0
        #: Bytes of all parts.
        self.nbytes = 0

    def keep(self, clock: int, member: Member, parts: Iterable[Part]) -> None:
        """Keep a member's write until `clock` closes."""
        self._keep(clock, member.rank, member.ordinal, parts)

    def _keep(self, clock: int, rank: int, ordinal: int, parts: Iterable[Part]) -> None:
        kept = self._parts.get(clock, [])
        for part in parts:
            part.announce()
            self._arrivals += 1
            kept.append(((rank, ordinal, self._arrivals), part))
            self.nbytes += part.nbytes + PART_BYTES
        if kept:
            self._parts[clock] = kept

    def drop_above(self, rank: int, clock: int, buckets: int | None = None) -> None:
        """Forget what a rank has written in later clocks, in some buckets (bits) or in all."""
        for later in [each for each in self._parts if each > clock]:
            self._split(later, buckets, rank)

    def clocks(self) -> list[int]:
        """Those of which something is kept."""
        return list(self._parts)

    def size(self, clock: int) -> int:
        """Keys and elements that a clock's close will touch, about."""
        return sum(part.size for _, part in self._parts.get(clock, ()))

    def take(self, clock: int, buckets: int | None = None) -> Closed:
        """The clock closes in some buckets (bits) or in all: its writes there, in order. What it has in others is kept."""
        taken = sorted(self._split(clock, buckets), key=lambda each: each[0])
        return Closed(self._tables, [part for _, part in taken])

    def clear(self) -> None:
        """Forget everything."""
        self._parts.clear()
        self.nbytes = 0

    # ---- buckets that move ---------------------------------------------------------------------------------------------

    def export(self, bucket: int) -> list[Kept]:
        """What is kept for one bucket, by clock and in the order in which it will be applied."""
        found = []
        for clock in sorted(self._parts):
            for (rank, ordinal, _), part in sorted(self._parts[clock], key=_order):
                if part.mask >> bucket & 1:
                    found += [Kept(clock, rank, ordinal, each) for each in part.only(1 << bucket)]
        return found

    def adopt(self, bucket: int, kept: Iterable[Kept]) -> None:
        """A bucket comes with what was kept for it, in that order, in place of what is kept for it here."""
        self.remove(bucket)
        for clock, rank, ordinal, part in kept:
            self._keep(clock, rank, ordinal, [part])

    def remove(self, bucket: int) -> None:
        """A bucket has gone; forget what is kept for it."""
        for clock in list(self._parts):
            self._split(clock, 1 << bucket)

    def _split(self, clock: int, buckets: int | None, rank: int | None = None) -> list[_Ordered]:
        """Takes out what a clock has in some buckets or in all, of one rank or of all."""
        before = self._parts.pop(clock, [])
        taken, left = list[_Ordered](), list[_Ordered]()
        for order, part in before:
            if rank is not None and order[0] != rank:
                left.append((order, part))
            elif buckets is None or not part.mask & ~buckets:
                taken.append((order, part))
            elif not part.mask & buckets:
                left.append((order, part))
            else:
                taken += [(order, piece) for piece in part.only(part.mask & buckets)]
                left += [(order, piece) for piece in part.only(part.mask & ~buckets)]
        self.nbytes += sum(map(_bytes, left)) - sum(map(_bytes, before))
        if left:
            self._parts[clock] = left
        return taken

    def validate(self) -> None:
        """Asserts what must hold between the fields."""
        kept = [each for parts in self._parts.values() for each in parts]
        assert self.nbytes == sum(map(_bytes, kept))
        assert all(self._parts.values()), "no clock is without a part"


def _order(each: _Ordered) -> tuple[int, int, int]:
    return each[0]


def _bytes(each: _Ordered) -> int:
    return each[1].nbytes + PART_BYTES
