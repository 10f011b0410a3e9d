"""What each node tells of its part of a checkpoint, and where worker groups were, by what all of them say. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from sparkps.checkpoints.manifest import GroupCut, RankCut
from sparkps.checkpoints.plan import NodeFiles
from sparkps.errors import CheckpointError
from sparkps.specs import UNBOUNDED, GroupSpec, RankStart
from sparkps.wire.effects import ShardClock
from sparkps.wire.marks import ShardMark


class GroupPart(msgspec.Struct, frozen=True, array_like=True):
    """A worker group on one node."""

    group: int
    #: BSP: the clock of the cut.
    clock: int
    #: By rank: where it goes on; None: this node does not know.
    ranks: list[RankStart | None]


class NodePart(msgspec.Struct, frozen=True, array_like=True):
    """What a node has written, and knows."""

    files: NodeFiles
    groups: list[GroupPart]


class ShardTime(msgspec.Struct, frozen=True, array_like=True):
    """SSP and ASP: what a group had in a bucket that was cut on its own."""

    group: int
    #: By rank: highest tick.
    ticked: list[int]
    marks: list[ShardMark]

    @classmethod
    def of(cls, group: int, shard: ShardClock) -> ShardTime:
        """That of a bucket as it moves."""
        return cls(group, shard.ticked, shard.marks)


_parts = msgspec.msgpack.Decoder(NodePart)
_times = msgspec.msgpack.Decoder(list[ShardTime])


def part_of(data: bytes) -> NodePart:
    """A part as it was encoded by `encoded`."""
    return _parts.decode(data)


def encoded(value: NodePart | list[ShardTime]) -> bytes:
    """As it travels, or lies in a file."""
    return msgspec.msgpack.encode(value)


def times_of(header: object) -> list[ShardTime]:
    """Logical time of a bucket, as its segment holds it."""
    return _times.decode(header) if isinstance(header, bytes) else []


def cuts(groups: Iterable[GroupSpec], parts: Sequence[NodePart]) -> list[GroupCut]:
    """Where each group was. A group that was opened or closed meanwhile is left out.

    Raises
    ------
    CheckpointError
        Of a rank of a BSP group nobody knows what it has stored with the clock of the cut.
    """
    found = []
    leading = [part for part in parts if part.files.segments]  # others have cut no bucket, and so no time of a group's
    for spec in groups:
        mine = [each for part in leading for each in part.groups if each.group == spec.group]
        if len(mine) == len(leading) and mine:
            ranks = tuple(_cut(spec, rank, [each.ranks[rank] for each in mine]) for rank in range(spec.num_ranks))
            clock = max(each.clock for each in mine) if spec.staleness == 0 else min(rank.clock for rank in ranks)
            found.append(GroupCut(msgspec.structs.replace(spec, start=()), clock, ranks))
    return found


def _cut(spec: GroupSpec, rank: int, told: list[RankStart | None]) -> RankCut:
    """A rank goes on where it was on every shard: of SSP and ASP that is behind what some have."""
    known = [each for each in told if each is not None]
    if not known or (len(known) < len(told) and spec.staleness != 0):
        raise CheckpointError(
            f"What rank {rank} of worker group {spec.name!r} has stored with the clock of a checkpoint must be known. It is not.",
            again=True,
        )
    first = min(known, key=lambda each: (each.finished, each.clock))
    return RankCut(first.clock, first.finished, first.state)


def starts(cut: GroupCut) -> tuple[RankStart, ...]:
    """Where the ranks of a group go on that continues the one of a checkpoint."""
    return tuple(RankStart(rank.clock, rank.finished, rank.state) for rank in cut.ranks)


def consistency_of(staleness: int) -> str:
    """In words.

    Examples
    --------
    >>> consistency_of(0), consistency_of(3), consistency_of(UNBOUNDED)
    ('BSP', 'SSP(3)', 'ASP')
    """
    return {0: "BSP", UNBOUNDED: "ASP"}.get(staleness, f"SSP({staleness})")


__all__ = ["GroupPart", "NodePart", "ShardTime", "consistency_of", "cuts", "encoded", "part_of", "starts", "times_of"]
