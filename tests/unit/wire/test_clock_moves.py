"""Logical time of shards that move from one node to another."""

from __future__ import annotations

import pytest

from sparkps.errors import Fenced, ProtocolError
from sparkps.wire.clock import GroupClock
from sparkps.wire.effects import Apply, Release, Standing
from tests.unit.wire.clocks import array, bits, member, opened, plain, write


def test_a_shard_of_another_node_is_refused() -> None:
    with pytest.raises(ProtocolError, match="must be this node's"):
        write(opened(1), member(0, 0), 3, 4)


def moved(source: GroupClock, target: GroupClock, bucket: int) -> list[object]:
    """Moves a bucket; what the target does because of it."""
    effects = target.import_shard(source.export_shard(bucket))
    source.remove_shard(bucket)
    source.validate()
    target.validate()
    return plain(effects)


def test_a_shard_behind_its_new_node_gets_the_node_s_ticks() -> None:
    source, target = opened(0, buckets=[1, 2]), opened(0, buckets=[3])
    for clock in (source, target):
        write(clock, member(0, 0))
        write(clock, member(1, 0))
        clock.tick(member(0, 0))
    target.tick(member(1, 0))
    assert moved(source, target, 2) == [(0, [2]), Release()]
    assert target.ready(member(0, 1), array(2)) == []
    assert target.ready(member(0, 1), array(2, 3)) == []
    assert source.ready(member(0, 1)) == [1]


def test_a_shard_ahead_of_its_new_node_stays_ahead_until_the_tick_comes() -> None:
    source, target = opened(0, buckets=[1, 2]), opened(0, buckets=[3])
    for clock in (source, target):
        write(clock, member(0, 0))
        write(clock, member(1, 0))
        clock.tick(member(0, 0))
    assert plain(source.tick(member(1, 0), b"s")) == [(0, [1, 2]), Release()]
    moved(source, target, 2)
    assert target.ready(member(0, 1), array(2)) == []
    assert target.ready(member(0, 1), array(2, 3)) == [1]
    assert target.ready(member(0, 1)) == [1]
    assert target.clocks == [0, 0]
    with pytest.raises(ProtocolError, match="after its last tick"):
        write(target, member(1, 0))
    assert plain(target.tick(member(1, 0))) == [(0, [3]), Release()]
    assert target.ready(member(0, 1), array(2, 3)) == []
    assert plain(target.tick(member(0, 1))) == []
    assert target.takeover(member(1, -1, incarnation=2)) == Standing(0, b"s", False)


def test_marks_fences_and_finished_ranks_move_with_a_shard() -> None:
    source, target = opened(1, buckets=[1, 2]), opened(1, buckets=[3])
    write(source, member(0, 0, ordinal=3), 2, table=7)
    source.takeover(member(0, -1, incarnation=2))
    source.tick(member(1, 0), b"end", finish=True)
    moved(source, target, 2)
    with pytest.raises(Fenced):
        write(target, member(0, 0))
    assert target.takeover(member(1, -1)) == Standing(0, b"end", True)
    target.takeover(member(0, -1, incarnation=2))
    target.settle(member(0, -1, incarnation=2))
    assert write(target, member(0, 0, incarnation=2, ordinal=3), table=7) == Apply(bits(3))
    target.tick(member(1, 0), finish=True)
    target.validate()
    assert target.ready(member(0, 5, incarnation=2)) == [0]


def test_moves_back_and_forth_change_nothing() -> None:
    source, target = opened(0, buckets=[1, 2]), opened(0, buckets=[3])
    before = source.export_shard(2)
    moved(source, target, 2)
    moved(target, source, 2)
    assert source.export_shard(2) == before
    moved(source, target, 1)
    moved(source, target, 2)
    source.tick(member(0, 0))
    assert moved(target, source, 1) == [Release()]
    assert source.export_shard(1).ticked == [0, -1]
