"""Marks against the obvious model: every write of a writer is taken once by every shard."""

from __future__ import annotations

import random

import pytest

from sparkps.wire.buckets import bits_of, buckets_in, mask_of, mask_of_range
from sparkps.wire.marks import Layers, RankMarks, SessionMarks, ShardMark


def test_sets_of_buckets_are_what_their_bits_say() -> None:
    rng = random.Random(1)
    for _ in range(50):
        chosen = sorted(rng.sample(range(256), rng.randint(0, 256)))
        import numpy as np

        mask = mask_of(np.array(chosen, np.int32))
        assert list(buckets_in(mask)) == chosen
        assert bits_of(mask).nonzero()[0].tolist() == chosen
    assert list(buckets_in(mask_of_range(250, 256))) == list(range(250, 256))


@pytest.mark.parametrize("seed", range(20))
def test_layers_are_one_mark_a_shard(seed: int) -> None:
    rng, layers, marks = random.Random(seed), Layers(), dict.fromkeys(range(8), -1)
    for _ in range(300):
        stamp, buckets = rng.randrange(30), rng.getrandbits(8)
        fresh = [bucket for bucket in buckets_in(buckets) if stamp > marks[bucket]]
        assert list(buckets_in(layers.take(stamp, buckets))) == fresh
        marks.update(dict.fromkeys(fresh, stamp))
        layers.validate()


def test_a_rank_s_marks_move_with_a_bucket() -> None:
    source, target = RankMarks(), RankMarks()
    source.take(0, 5, 1, 0b11)
    source.take(0, 6, 2, 0b01)
    assert source.export(0) == [ShardMark(0, 1, 5), ShardMark(0, 2, 6)]
    target.take(0, 9, 1, 0b100)
    target.adopt(0, source.export(0))
    source.remove(0)
    assert source.export(0) == []
    assert target.take(0, 5, 1, 0b101) == 0
    assert target.take(0, 6, 1, 0b101) == 0b001
    assert target.take(0, 6, 2, 0b001) == 0
    target.validate()


def test_what_was_dropped_or_is_over_leaves_no_marks() -> None:
    marks = RankMarks()
    marks.take(0, 5, 1, 1)
    marks.take(0, 9, 1, 2)
    marks.rewind(0, 9)
    assert marks.take(0, 9, 1, 2) == 2
    marks.forget_below(0, 9)
    assert marks.export(0) == []
    assert marks.take(0, 9, 1, 2) == 0


@pytest.mark.parametrize("seed", range(20))
def test_a_session_that_repeats_itself_is_taken_once_also_across_moves(seed: int) -> None:
    """Pieces of calls to two nodes, each in order, repeated at any time; buckets move between the nodes."""
    rng = random.Random(seed)
    nodes, home = [SessionMarks(), SessionMarks()], {bucket: bucket % 2 for bucket in range(6)}
    taken: set[tuple[int, int, int]] = set()
    for stamp in range(1, 60):
        pieces = [(rng.choice((1, 2)), rng.getrandbits(6)) for _ in range(2)]
        if pieces[0][0] == pieces[1][0]:
            pieces[1] = pieces[1][0], pieces[1][1] & ~pieces[0][1]
        for table, buckets in [*pieces, *rng.sample(pieces, rng.randint(0, 2))]:
            for number, marks in enumerate(nodes):
                mine = sum(1 << b for b in buckets_in(buckets) if home[b] == number)
                for bucket in buckets_in(marks.take(7, stamp, table, mine)):
                    assert (stamp, table, bucket) not in taken
                    taken.add((stamp, table, bucket))
            for bucket in buckets_in(buckets):
                assert (stamp, table, bucket) in taken
        if rng.random() < 0.3:
            bucket = rng.randrange(6)
            source, home[bucket] = home[bucket], 1 - home[bucket]
            nodes[home[bucket]].adopt(bucket, nodes[source].export(bucket))
            nodes[source].remove(bucket)
        for marks in nodes:
            marks.validate()
    for marks in nodes:
        marks.forget(7)
        assert len(marks) == 0


def test_what_a_session_wrote_before_its_latest_write_is_known_everywhere() -> None:
    marks = SessionMarks()
    assert marks.take(7, stamp=2, table=1, buckets=0b01) == 0b01
    assert marks.take(7, stamp=1, table=1, buckets=0b11) == 0, "all writes of a session reach a node in their order"
    assert marks.take(7, stamp=1, table=9, buckets=0b11) == 0
    assert marks.take(8, stamp=1, table=1, buckets=0b11) == 0b11
    marks.validate()
