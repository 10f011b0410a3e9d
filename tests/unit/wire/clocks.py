"""A group's clock with all ranks started, and short ways to drive it."""

from __future__ import annotations

import numpy as np

from sparkps.specs import GroupSpec
from sparkps.wire.buckets import buckets_in, mask_of
from sparkps.wire.clock import GroupClock
from sparkps.wire.effects import Close, Effect, Standing, Verdict
from sparkps.wire.messages.data import Member

BUCKETS = [3, 5, 8, 200]


def member(rank: int, clock: int, incarnation: int = 1, ordinal: int = 0, group: int = 1) -> Member:
    return Member(group, rank, incarnation, clock, ordinal)


def array(*buckets: int) -> np.ndarray:
    return np.array(buckets, np.int32)


def write(clock: GroupClock, who: Member, *buckets: int, table: int = 1) -> Verdict:
    """A write to these buckets, or to all that there are."""
    return clock.write(who, table, mask_of(array(*(buckets or clock.buckets.tolist()))))


def bits(*buckets: int) -> int:
    return mask_of(array(*buckets))


def opened(staleness: int, ranks: int = 2, buckets: list[int] = BUCKETS) -> GroupClock:
    """A group all of whose ranks have started."""
    clock = GroupClock(GroupSpec(1, "g", ranks, ranks, staleness), buckets)
    for rank in range(ranks):
        assert clock.takeover(member(rank, -1)) == Standing(-1, None, False)
        assert clock.settle(member(rank, -1)) == ()
    clock.validate()
    return clock


def plain(effects: tuple[Effect, ...]) -> list[object]:
    """Effects in a form to compare: closes of all of `BUCKETS` as numbers, others as (number, buckets)."""
    return [
        effect
        if not isinstance(effect, Close)
        else effect.clock
        if effect.buckets == bits(*BUCKETS)
        else (effect.clock, list(buckets_in(effect.buckets)))
        for effect in effects
    ]
