"""Marks against the obvious model: every write of a writer is taken once by every shard."""

from __future__ import annotations

import random

import pytest

from sparkps.wire.buckets import bits_of, buckets_in, mask_of, mask_of_range
from sparkps.wire.marks import Layers, RankMarks, SessionMarks, ShardMark, WriterMark


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


# ---- buckets that came from another node -------------------------------------------------------------------------------


class Sender:
    """A session's writes on their way to two nodes: what a node that loses a bucket has not answered goes to the other, in order."""

    def __init__(self, rng: random.Random, buckets: int) -> None:
        self.rng = rng
        self.nodes = [SessionMarks(), SessionMarks()]
        self.home = {bucket: rng.randrange(2) for bucket in range(buckets)}
        #: By node: pieces that are on their way, and those that it has done and not answered.
        self.line: list[list[tuple[int, int, int]]] = [[], []]
        self.unanswered: list[list[tuple[int, int, int]]] = [[], []]
        self.sent: set[tuple[int, int, int]] = set()
        self.taken: set[tuple[int, int, int]] = set()
        self.stamp = 0

    def write(self) -> None:
        self.stamp += 1
        for table in self.rng.sample((1, 2), self.rng.randint(1, 2)):
            buckets = self.rng.getrandbits(len(self.home))
            self.sent |= {(self.stamp, table, bucket) for bucket in buckets_in(buckets)}
            for node in (0, 1):
                mine = sum(1 << bucket for bucket in buckets_in(buckets) if self.home[bucket] == node)
                if mine:
                    self.line[node].append((self.stamp, table, mine))

    def deliver(self, node: int) -> None:
        if self.line[node]:
            piece = self.line[node].pop(0)
            stamp, table, buckets = piece
            for bucket in buckets_in(self.nodes[node].take(7, stamp, table, buckets)):
                assert (stamp, table, bucket) not in self.taken
                self.taken.add((stamp, table, bucket))
            for bucket in buckets_in(buckets):
                assert (stamp, table, bucket) in self.taken
            self.unanswered[node].append(piece)

    def answer(self, node: int) -> None:
        self.unanswered[node] = self.unanswered[node][self.rng.randint(0, 3) :]

    def move(self, moving: list[int]) -> None:
        """Some buckets go to the other node, whatever has come of what was sent."""
        source = self.home[moving[0]]
        bits = sum(1 << bucket for bucket in moving if self.home[bucket] == source)
        for bucket in buckets_in(bits):
            self.nodes[1 - source].adopt(bucket, self.nodes[source].export(bucket))
            self.nodes[source].remove(bucket)
            self.home[bucket] = 1 - source
        again = [(s, t, b & bits) for s, t, b in self.unanswered[source] + self.line[source] if b & bits]
        for line in (self.unanswered, self.line):
            line[source] = [(s, t, b & ~bits) for s, t, b in line[source] if b & ~bits]
        self.line[1 - source] += again


@pytest.mark.parametrize("seed", range(60))
def test_a_session_s_writes_are_taken_once_whenever_buckets_move_under_them(seed: int) -> None:
    rng = random.Random(seed)
    sender = Sender(rng, 6)
    for _ in range(300):
        chance, node = rng.random(), rng.randrange(2)
        if chance < 0.3:
            sender.write()
        elif chance < 0.75:
            sender.deliver(node)
        elif chance < 0.9:
            sender.answer(node)
        else:
            sender.move(rng.sample(range(6), rng.randint(1, 6)))
        for marks in sender.nodes:
            marks.validate()
    for node in (0, 1):
        while sender.line[node]:
            sender.deliver(node)
    assert sender.taken == sender.sent


@pytest.mark.parametrize("seed", range(40))
def test_a_copy_of_a_bucket_that_was_given_up_keeps_the_marks_that_it_had(seed: int) -> None:
    """Who is to lead it goes on hearing what the same session writes to the others of its former primary, and must not take that for
    writes that it has: they reach itself only after it leads."""
    rng = random.Random(seed)
    primary, copy, led, stamp = SessionMarks(), SessionMarks(), 0xFF, 0
    last: dict[tuple[int, int], int] = {}
    for bucket in buckets_in(rng.getrandbits(8)):
        copy.adopt(bucket, primary.export(bucket))
    given, ended = 0, dict[int, int]()
    for _ in range(30):
        if rng.random() < 0.2 and given != 0xFF:
            bucket = rng.choice(list(buckets_in(led)))
            ended[bucket] = stamp
            given, led = given | 1 << bucket, led & ~(1 << bucket)
            primary.remove(bucket)
            copy.set_apart(1 << bucket)
        stamp += rng.choice((0, 1, 1))
        table, buckets = rng.choice((1, 2)), rng.getrandbits(8)
        # What was ordered before may be shipped after: of a user's function.
        late = 1 << rng.choice(list(buckets_in(given))) if given and rng.random() < 0.2 else 0
        new = primary.take(7, stamp, table, buckets & led) | late
        copy.take(7, stamp, table, new)
        last.update({(table, bucket): max(stamp, last.get((table, bucket), -1)) for bucket in buckets_in(new)})
        copy.validate()
    for bucket in buckets_in(given):
        heard = max(ended[bucket], *(last.get((table, bucket), -1) for table in (1, 2)))
        leads = SessionMarks()
        leads.adopt(bucket, copy.export(bucket))
        for table in (1, 2):
            assert not leads.take(7, last.get((table, bucket), -2), table, 1 << bucket)
        for later in range(heard + 1, stamp + 3):
            assert leads.take(7, later, 1, 1 << bucket), (bucket, later)


def test_a_node_that_adopted_many_buckets_has_one_mark_of_a_session_again_after_its_next_write() -> None:
    source, target = SessionMarks(), SessionMarks()
    low, high = mask_of_range(0, 128), mask_of_range(128, 256)
    for session in range(20):
        source.take(session, 3 + session % 2, 1, low)
        target.take(session, 5, 1, high)
    for bucket in range(128):
        target.adopt(bucket, source.export(bucket))
        source.remove(bucket)
    target.validate()
    assert all(len(apart.groups) == 1 for apart in target._apart.values())
    for session in range(20):
        assert target.take(session, 3 + session % 2, 1, low) == 0
        assert target.take(session, 6, 1, low | high) == low | high
    assert not target._apart
    assert target.export(0)[0] == target.export(200)[0]
    target.validate()


def test_a_bucket_that_comes_back_has_only_the_marks_that_it_comes_with() -> None:
    marks = SessionMarks()
    marks.take(7, 5, 1, 0b11)
    marks.remove(0)
    marks.adopt(0, [WriterMark(7, 5, [2])])
    assert marks.export(0) == [WriterMark(7, 5, [2])]
    assert marks.take(7, 5, 1, 0b11) == 0b01


def test_marks_of_a_rank_are_dropped_in_some_buckets() -> None:
    marks = RankMarks()
    marks.take(0, 9, 1, 0b111)
    marks.rewind(0, 9, 0b011)
    marks.validate()
    assert marks.take(0, 9, 1, 0b111) == 0b011


@pytest.mark.parametrize("seed", range(10))
def test_marks_of_ranks_follow_the_obvious_model_across_moves(seed: int) -> None:
    rng, nodes, home = random.Random(seed), [RankMarks(), RankMarks()], {bucket: bucket % 2 for bucket in range(8)}
    model: dict[tuple[int, int, int], int] = {}
    for _ in range(400):
        if rng.random() < 0.2:
            bucket = rng.randrange(8)
            nodes[1 - home[bucket]].adopt(bucket, nodes[home[bucket]].export(bucket))
            nodes[home[bucket]].remove(bucket)
            home[bucket] = 1 - home[bucket]
        rank, stamp, table, buckets = rng.randrange(2), rng.randrange(40), rng.randrange(2), rng.getrandbits(8)
        fresh = [b for b in buckets_in(buckets) if stamp > model.get((rank, table, b), -1)]
        got = [nodes[n].take(rank, stamp, table, sum(1 << b for b in buckets_in(buckets) if home[b] == n)) for n in (0, 1)]
        assert list(buckets_in(got[0] | got[1])) == fresh
        model.update({(rank, table, b): stamp for b in fresh})
        for marks in nodes:
            marks.validate()
