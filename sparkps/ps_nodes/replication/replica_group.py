"""A worker group's logical time and open clocks in buckets that this node copies: it does as the primary's log says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sparkps.ps_nodes.clock_buffers import ClockBuffers, Closed, Kept, Part, Write
from sparkps.ps_nodes.tables.directory import Tables
from sparkps.specs import GroupSpec
from sparkps.wire.clock import GroupClock
from sparkps.wire.effects import Apply, Buffer, DropAbove, Effect, ShardClock
from sparkps.wire.messages.data import Member


class Share(NamedTuple):
    """What a group has in a bucket."""

    #: Its id.
    group: int
    #: Its logical time there, and what is buffered.
    clock: ShardClock
    kept: Sequence[Kept]


class ReplicaGroup:
    """One group in the buckets of one primary. Owner: the follower's lock.

    Parameters
    ----------
    spec : GroupSpec
    tables : Tables
    """

    def __init__(self, spec: GroupSpec, tables: Tables) -> None:
        self.spec = spec
        self.clock = GroupClock(spec, ())
        self.buffers = ClockBuffers(tables)

    def write(self, member: Member, write: Write) -> Sequence[Part]:
        """A member's write: kept until its clock closes, or given back to be applied now."""
        parts: list[Part] = []
        at_once = member.rank >= self.spec.num_workers
        for table, buckets in write.buckets.items():
            verdict = self.clock.write(member, table, buckets, at_once=at_once)
            if isinstance(verdict, Buffer):
                self.buffers.keep(verdict.clock, member, write.narrowed(table, verdict.buckets))
            elif isinstance(verdict, Apply):
                parts += write.narrowed(table, verdict.buckets)
        return parts

    def tick(self, member: Member, state: bytes | None, finish: bool) -> None:
        """A rank's clock is done. What closes by it, the log says."""
        self._follow(self.clock.tick(member, state, finish, followed=True))

    def takeover(self, member: Member) -> None:
        """A new incarnation has the rank."""
        self.clock.takeover(member)

    def settle(self, member: Member, state: bytes | None) -> None:
        """It goes on after ``member.clock``."""
        self._follow(self.clock.settle(member, state))

    def _follow(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, DropAbove):
                self.buffers.drop_above(effect.rank, effect.clock, effect.buckets)

    def close(self, clock: int, buckets: int) -> Closed:
        """A clock closes in these buckets."""
        return self.buffers.take(clock, buckets)

    @property
    def has_due(self) -> bool:
        """Whether something is buffered of a clock that every rank has ticked."""
        return any(self.clock.has_ticked(clock) for clock in self.buffers.clocks())

    # ---- buckets that come and go ----------------------------------------------------------------------------------------

    def adopt(self, share: Share) -> None:
        """A bucket comes, with what is buffered for it."""
        self.buffers.adopt(share.clock.bucket, share.kept)
        self._follow(self.clock.import_shard(share.clock))

    def give(self, bucket: int) -> Share:
        """A bucket goes, with all that the group has in it."""
        kept = self.buffers.export(bucket)
        shard = self.clock.export_shard(bucket, {each.clock for each in kept})
        self.drop(bucket)
        return Share(self.spec.group, shard, kept)

    def drop(self, bucket: int) -> None:
        """A copy is let go of."""
        self.clock.remove_shard(bucket)
        self.buffers.remove(bucket)
