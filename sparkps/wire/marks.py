"""What each writer has left on the shards of a node: the one rule by which a write that comes again is known.

A *writer* is a rank of a worker group, or a session outside any group. Its writes carry *stamps* that ascend with the order
in which it makes them: (clock, ordinal) of a rank, the number of the call of a session. A node runs the requests of a writer in
order, and a write goes to a shard in one request. The *mark* of a shard is the stamp of the writer's latest write there; a write
with a stamp up to the mark is a duplicate: of a lost incarnation that its successor repeats, of a session that was opened
again, of a shard that has moved. Marks travel with their shard.

Sets of buckets are ints with one bit per bucket (`buckets`).
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from sparkps.wire.buckets import buckets_in

#: Writes of one rank within one clock stay below ``2**ORDINAL_BITS``.
ORDINAL_BITS = 20
#: Clocks of a rank that is not finished stay below this.
MAX_CLOCK = 1 << 42


def stamp_of(clock: int, ordinal: int) -> int:
    """(clock, ordinal) as one integer, in the same order."""
    return (clock << ORDINAL_BITS) | ordinal


class Layers:
    """Marks of one writer on the shards of one table.

    Most writes of a clock reach many shards, so few stamps cover them all.

    Examples
    --------
    >>> layers = Layers()
    >>> layers.take(5, 0b0011), layers.take(7, 0b0010), layers.take(5, 0b0111)
    (3, 2, 4)
    """

    def __init__(self) -> None:
        #: Stamps, descending, with the buckets whose mark they are; no bucket is in two, and none is empty.
        self.layers: list[tuple[int, int]] = []

    def take(self, stamp: int, buckets: int) -> int:
        """Those of `buckets` where the write is new; they have it from now on."""
        if not self.layers or stamp > self.layers[0][0]:
            fresh = buckets
        else:
            fresh = buckets & ~_union(self.layers, stamp)
        if fresh:
            self._put(stamp, fresh)
        return fresh

    def _put(self, stamp: int, buckets: int) -> None:
        later = [layer for layer in self.layers if layer[0] > stamp]
        same = [bits for at, bits in self.layers if at == stamp]
        earlier = [(at, bits & ~buckets) for at, bits in self.layers if at < stamp and bits & ~buckets]
        self.layers = [*later, (stamp, buckets | (same[0] if same else 0)), *earlier]

    def adopt(self, stamp: int, bucket: int) -> None:
        """A shard arrives with its mark."""
        self.remove(bucket)
        self._put(stamp, 1 << bucket)

    def remove(self, bucket: int) -> None:
        """A shard has moved away."""
        self.layers = [(at, left) for at, bits in self.layers if (left := bits & ~(1 << bucket))]

    def validate(self) -> None:
        """Asserts the invariants written at the field."""
        stamps = [stamp for stamp, _ in self.layers]
        assert stamps == sorted(set(stamps), reverse=True)
        seen = 0
        for _, bits in self.layers:
            assert bits, "no layer is empty"
            assert not bits & seen, "a shard has one mark"
            seen |= bits


def _union(layers: list[tuple[int, int]], stamp: int) -> int:
    """Buckets whose mark is at least `stamp`."""
    union = 0
    for at, bits in layers:
        if at < stamp:
            break
        union |= bits
    return union


class ShardMark(msgspec.Struct, frozen=True, array_like=True):
    """A rank's mark on one shard: what moves with it."""

    rank: int
    table: int
    stamp: int


class RankMarks:
    """Marks of the ranks of one group on the shards of one node.

    A successor need not push to the shards that its predecessor pushed to, so each shard's mark is kept; but only from the
    last tick on, for a write of an earlier clock is refused.
    """

    def __init__(self) -> None:
        #: By rank, then table.
        self._marks: dict[int, dict[int, Layers]] = {}

    def take(self, rank: int, stamp: int, table: int, buckets: int) -> int:
        """Those of `buckets` where the write is new; they have it from now on."""
        return self._layers(rank, table).take(stamp, buckets)

    def forget_below(self, rank: int, stamp: int) -> None:
        """Writes with lower stamps do not come any more."""
        for layers in self._marks.get(rank, {}).values():
            layers.layers = [layer for layer in layers.layers if layer[0] >= stamp]

    def rewind(self, rank: int, stamp: int, buckets: int = -1) -> None:
        """Writes from `stamp` on were dropped, in these buckets (by default in all)."""
        for layers in self._marks.get(rank, {}).values():
            left = [(at, bits if at < stamp else bits & ~buckets) for at, bits in layers.layers]
            layers.layers = [layer for layer in left if layer[1]]

    def export(self, bucket: int) -> list[ShardMark]:
        """All marks on the shards of one bucket."""
        return [
            ShardMark(rank, table, stamp)
            for rank, tables in self._marks.items()
            for table, layers in tables.items()
            for stamp, bits in layers.layers
            if bits >> bucket & 1
        ]

    def adopt(self, bucket: int, marks: list[ShardMark]) -> None:
        """A bucket arrives with the marks that it was exported with."""
        for mark in marks:
            self._layers(mark.rank, mark.table).adopt(mark.stamp, bucket)

    def remove(self, bucket: int) -> None:
        """A bucket has moved away."""
        for tables in self._marks.values():
            for layers in tables.values():
                layers.remove(bucket)

    def _layers(self, rank: int, table: int) -> Layers:
        return self._marks.setdefault(rank, {}).setdefault(table, Layers())

    def validate(self) -> None:
        """Asserts the invariants of all parts."""
        for tables in self._marks.values():
            for layers in tables.values():
                layers.validate()


class SessionMark:
    """Where one session stands on some shards: they have all its writes before the latest, and some have that.

    A session repeats itself exactly, so nothing more is needed. Most calls write one table, so its bits lie in the object.
    """

    __slots__ = ("_bits", "_others", "_table", "stamp")

    def __init__(self, stamp: int = -1) -> None:
        #: Stamp of the latest write. Never falls.
        self.stamp = stamp
        #: A table, and those of its buckets that have the latest write; 0: none.
        self._table = 0
        self._bits = 0
        #: The same for further tables of the same write.
        self._others: dict[int, int] | None = None

    def taken(self, table: int) -> int:
        """Buckets whose shard of `table` has the latest write."""
        if table == self._table:
            return self._bits
        return self._others.get(table, 0) if self._others else 0

    def tables(self) -> Iterator[tuple[int, int]]:
        """Tables that have the latest write somewhere, and where."""
        if self._table:
            yield self._table, self._bits
        yield from (self._others or {}).items()

    def take(self, stamp: int, table: int, buckets: int) -> int:
        """Those of `buckets` where the write is new; they have it from now on."""
        if stamp < self.stamp:
            return 0
        if stamp > self.stamp:
            self.stamp, self._table, self._bits, self._others = stamp, table, buckets, None
            return buckets
        have = self.taken(table)
        self.put(table, have | buckets)
        return buckets & ~have

    def put(self, table: int, bits: int) -> None:
        """These buckets of `table` have the latest write."""
        if not self._table or table == self._table:
            self._table, self._bits = table, bits
        else:
            self._others = {**(self._others or {}), table: bits}


    def clear(self, buckets: int) -> None:
        """Nothing is known any more of these buckets."""
        self._bits &= ~buckets
        if self._others:
            self._others = {table: bits & ~buckets for table, bits in self._others.items()}


class _Apart:
    """A session's marks on buckets that came from another node."""

    __slots__ = ("bits", "groups")

    def __init__(self) -> None:
        #: Those buckets. Each is in one group, no group is empty, and no two have the same stamp.
        self.bits = 0
        self.groups: list[tuple[int, SessionMark]] = []

    def remove(self, buckets: int) -> None:
        """These buckets are not apart any more."""
        if not self.bits & buckets:
            return
        self.bits &= ~buckets
        kept = [(bits & ~buckets, mark) for bits, mark in self.groups]
        self.groups = [group for group in kept if group[0]]
        for _, mark in self.groups:
            mark.clear(buckets)

    def put(self, buckets: int, stamp: int) -> SessionMark:
        """These buckets, which are in no group, have the mark `stamp` from now on."""
        self.bits |= buckets
        for place, (bits, mark) in enumerate(self.groups):
            if mark.stamp == stamp:
                self.groups[place] = bits | buckets, mark
                return mark
        self.groups.append((buckets, made := SessionMark(stamp)))
        return made

    def mark_of(self, bucket: int) -> SessionMark | None:
        """The mark on a bucket, if it is among these."""
        return next((mark for bits, mark in self.groups if bits >> bucket & 1), None)


class WriterMark(msgspec.Struct, frozen=True, array_like=True):
    """A session's mark on the shards of one bucket: what moves with them."""

    session: int
    #: The session's latest write that the bucket may have.
    stamp: int
    #: Tables whose shard has it.
    tables: list[int]


class SessionMarks:
    """Marks of sessions on the shards of one node.

    Examples
    --------
    >>> marks = SessionMarks()
    >>> marks.take(7, stamp=1, table=1, buckets=0b0011), marks.take(7, stamp=1, table=1, buckets=0b0110)
    (3, 4)
    >>> marks.take(7, stamp=2, table=1, buckets=0b0001), marks.take(7, stamp=1, table=1, buckets=0b1000)
    (1, 0)
    """

    def __init__(self) -> None:
        #: By session, for all buckets but those in `_apart`.
        self._marks: dict[int, SessionMark] = {}
        #: By session: buckets that came from another node with marks of their own, until the session's next newer write to them.
        self._apart: dict[int, _Apart] = {}
        #: All buckets that came from another node.
        self._adopted = 0
        #: Those among them of which not all writes come here: they stay apart whatever is written.
        self._fixed = 0

    def take(self, session: int, stamp: int, table: int, buckets: int) -> int:
        """Those of `buckets` where the write is new; they have it from now on."""
        mark = self._marks.get(session)
        if mark is None:
            mark = self._begin(session)
        if self._apart:
            apart = self._apart.get(session)
            if apart is not None and apart.bits & buckets:
                return self._take_apart(session, mark, apart, stamp, table, buckets)
        return mark.take(stamp, table, buckets)

    def _begin(self, session: int) -> SessionMark:
        """A session that is not known: on buckets that came, what it repeats may come after newer writes to others."""
        mark = self._marks[session] = SessionMark()
        if self._adopted:
            self._apart[session] = apart = _Apart()
            apart.put(self._adopted, -1)
        return mark

    def _take_apart(self, session: int, mark: SessionMark, apart: _Apart, stamp: int, table: int, buckets: int) -> int:
        fresh, rising = mark.take(stamp, table, buckets & ~apart.bits), 0
        for bits, theirs in apart.groups:
            touched = bits & buckets
            if touched and theirs.stamp < stamp:
                rising |= touched
            elif touched:
                fresh |= theirs.take(stamp, table, touched)
        if rising:
            apart.remove(rising)
            # Repeated for buckets that came late, after newer ones to the others; or not all of their writes come here.
            stay = rising if stamp < mark.stamp else rising & self._fixed
            for buckets, its in ((stay, apart.put(stay, stamp) if stay else mark), (rising & ~stay, mark)):
                if buckets:
                    its.put(table, its.taken(table) | buckets)
            if not apart.bits:
                del self._apart[session]
        return fresh | rising

    def set_apart(self, buckets: int) -> None:
        """What sessions write to other buckets says nothing of these any more: each keeps the marks that it has."""
        for bucket in buckets_in(buckets):
            self.adopt(bucket, self.export(bucket))
        self._fixed |= buckets

    def forget(self, session: int) -> None:
        """The session will not write again, nor repeat anything."""
        self._marks.pop(session, None)
        self._apart.pop(session, None)

    def __len__(self) -> int:
        return len(self._marks)

    def __contains__(self, session: object) -> bool:
        return session in self._marks

    def export(self, bucket: int) -> list[WriterMark]:
        """All sessions' marks on one bucket."""
        found = []
        for session, common in self._marks.items():
            apart = self._apart.get(session)
            mark = (apart.mark_of(bucket) if apart else None) or common
            if mark.stamp >= 0:
                tables = [table for table, bits in mark.tables() if bits >> bucket & 1]
                found.append(WriterMark(session, mark.stamp, tables))
        return found

    def adopt(self, bucket: int, marks: list[WriterMark]) -> None:
        """A bucket arrives with the marks that it was exported with."""
        self.remove(bucket)
        bit, came = 1 << bucket, {each.session: each for each in marks}
        for session in self._marks.keys() | came.keys():
            if session not in self._marks:
                self._begin(session)
            its = came.get(session, WriterMark(session, -1, []))
            # Apart also where the stamps are alike: what the session repeats for this bucket may come after newer writes to others.
            mark = self._apart.setdefault(session, _Apart()).put(bit, its.stamp)
            for table in its.tables:
                mark.put(table, mark.taken(table) | bit)
        self._adopted |= bit

    def remove(self, bucket: int) -> None:
        """A bucket has moved away."""
        self._adopted &= ~(1 << bucket)
        self._fixed &= ~(1 << bucket)
        for session, mark in self._marks.items():
            mark.clear(1 << bucket)
            apart = self._apart.get(session)
            if apart is not None:
                apart.remove(1 << bucket)
                if not apart.bits:
                    del self._apart[session]

    def validate(self) -> None:
        """Asserts the invariants written at the fields."""
        assert self._apart.keys() <= self._marks.keys()
        assert not self._fixed & ~self._adopted
        assert all(not apart.bits & ~self._adopted for apart in self._apart.values())
        for apart in self._apart.values():
            seen = 0
            for bits, _ in apart.groups:
                assert bits, "no group is empty"
                assert not bits & seen, "a bucket has one mark"
                seen |= bits
            assert seen == apart.bits, "what is apart has a mark"
            assert seen, "nobody is kept without a bucket"
            assert len({mark.stamp for _, mark in apart.groups}) == len(apart.groups)
        groups = [(session, mark) for session, apart in self._apart.items() for _, mark in apart.groups]
        for session, mark in [*self._marks.items(), *groups]:
            assert mark.stamp >= 0 or not any(bits for _, bits in mark.tables()), session
