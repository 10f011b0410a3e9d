"""Logical time of shards that move from one node to another."""

from __future__ import annotations

import copy

import pytest

from sparkps.errors import Fenced, ProtocolError
from sparkps.specs import GroupSpec
from sparkps.wire.buckets import buckets_in
from sparkps.wire.clock import GroupClock
from sparkps.wire.effects import Apply, Buffer, Close, DropAbove, Duplicate, Effect, Release, Standing
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


# ---- a node without any bucket -----------------------------------------------------------------------------------------


def test_an_empty_node_takes_over_the_time_of_the_shard_that_comes() -> None:
    source, target = opened(0, buckets=[1, 2]), GroupClock(opened(0).spec)
    for at in range(3):
        write(source, member(0, at))
        source.tick(member(0, at), b"state %d" % at)
    write(source, member(1, 0))
    source.tick(member(1, 0), b"end", finish=True)
    assert moved(source, target, 2) == [Release()]
    assert target.clocks == source.clocks == [2, 0]
    assert target.finished == [False, True]
    assert target.ready(member(0, 3)) == []
    assert write(target, member(0, 3)) == Buffer(3, bits(2)), "its incarnation has settled"
    assert plain(target.tick(member(0, 3))) == [(3, [2]), Release()]
    assert target.takeover(member(1, -1, 2)) == Standing(0, b"end", True)
    assert source.export_shard(1).open_clocks == []


def test_a_bucket_that_is_new_has_the_ticks_of_its_node() -> None:
    clock = opened(0, buckets=[1])
    clock.tick(member(0, 0))
    clock.hold(7)
    clock.validate()
    assert clock.export_shard(7).ticked == [0, -1]
    write(clock, member(1, 0), 1, 7)
    assert plain(clock.tick(member(1, 0))) == [(0, [1, 7]), Release()]
    with pytest.raises(ProtocolError, match="must come once"):
        clock.hold(7)
    empty = GroupClock(clock.spec)
    empty.hold(3)
    assert empty.export_shard(3).ticked == [-1, -1]


def test_a_close_that_is_due_and_not_done_comes_with_the_bucket() -> None:
    for target in (opened(0, buckets=[3]), GroupClock(opened(0).spec)):
        source = opened(0, buckets=[1, 2])
        for at in range(2):
            for rank in (0, 1):
                write(source, member(rank, at))
                source.tick(member(rank, at))
        write(source, member(0, 2))
        effects = target.import_shard(source.export_shard(2, buffered=[0, 1, 2]))
        assert plain(effects) == [(0, [2]), (1, [2]), Release()]
        assert target.export_shard(2).open_clocks == [2]
        target.validate()


# ---- fences ------------------------------------------------------------------------------------------------------------


def test_a_rank_has_settled_only_where_it_has_on_both_sides() -> None:
    source, target = opened(0, buckets=[1, 2]), opened(0, buckets=[3])
    for clock in (source, target):
        write(clock, member(0, 0))
        clock.takeover(member(0, -1, 2))
    target.settle(member(0, -1, 2))
    moved(source, target, 2)
    with pytest.raises(ProtocolError, match="before the settle"):
        write(target, member(0, 0, 2))
    assert target.takeover(member(0, -1, 2)) == Standing(-1, None, False)
    assert target.settle(member(0, -1, 2)) == (DropAbove(0, -1),)
    assert write(target, member(0, 0, 2)) == Buffer(0, bits(2, 3))
    assert target.settle(member(0, -1, 2)) == (), "what it has written since stays"
    assert write(target, member(0, 0, 2)) == Duplicate()


def test_what_an_older_incarnation_left_on_a_shard_that_comes_is_dropped_there_alone() -> None:
    source, target = opened(0, buckets=[1, 2]), opened(0, buckets=[3])
    write(source, member(0, 0))
    target.takeover(member(0, -1, 2))
    target.settle(member(0, -1, 2))
    write(target, member(0, 0, 2))
    assert moved(source, target, 2) == [DropAbove(0, -1, bits(2)), Release()]
    assert write(target, member(0, 0, 2)) == Buffer(0, bits(2)), "it is new there, and kept elsewhere"


def test_what_an_older_incarnation_left_here_is_dropped_when_a_shard_of_a_newer_one_comes() -> None:
    source, target = opened(0, buckets=[1, 2]), opened(0, buckets=[3])
    write(target, member(0, 0))
    source.takeover(member(0, -1, 2))
    source.settle(member(0, -1, 2))
    write(source, member(0, 0, 2))
    assert moved(source, target, 2) == [DropAbove(0, -1, bits(3)), Release()]
    assert write(target, member(0, 0, 2)) == Buffer(0, bits(3))


def test_nothing_is_dropped_before_the_newer_incarnation_has_said_where_it_goes_on() -> None:
    source, target = opened(0, buckets=[1, 2]), opened(0, buckets=[3])
    write(source, member(0, 0))
    target.takeover(member(0, -1, 2))
    assert moved(source, target, 2) == [Release()]
    effects = target.settle(member(0, 0, 2), b"another node has a tick")
    assert not [effect for effect in effects if isinstance(effect, DropAbove)]
    assert target.export_shard(2).open_clocks == [0]


# ---- all schedules -----------------------------------------------------------------------------------------------------


class Node:
    """A part of a group: its clock, what is buffered by (bucket, clock), closes to come, and what was applied to each bucket."""

    def __init__(self, buckets: list[int]) -> None:
        self.clock = GroupClock(GroupSpec(1, "g", 2, 2, 0), buckets)
        self.buffered: dict[tuple[int, int], list[tuple[int, int]]] = {}
        self.closes: list[Close] = []
        self.applied: dict[int, list[tuple[int, list[tuple[int, int]]]]] = {bucket: [] for bucket in buckets}

    def follow(self, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            if isinstance(effect, Close):
                self.closes.append(effect)
            elif isinstance(effect, DropAbove):
                for (bucket, clock), kept in self.buffered.items():
                    if clock > effect.clock and (effect.buckets is None or effect.buckets >> bucket & 1):
                        kept[:] = [each for each in kept if each[0] != effect.rank]
        self.clock.validate()

    def apply(self) -> None:
        close = self.closes.pop(0)
        for bucket in buckets_in(close.buckets):
            kept = self.buffered.pop((bucket, close.clock), [])
            if kept and bucket in self.applied:
                self.applied[bucket].append((close.clock, sorted(kept)))


class Run:
    """Two ranks that write to all buckets and tick, a successor of rank 0, and buckets that move, in any order."""

    def __init__(self, moves: tuple[tuple[int, int], ...], clocks: int, crash: bool) -> None:
        self.nodes = [Node([1, 2]), Node([])]
        self.moves = moves
        self.clocks = clocks
        self.crash = crash
        self.incarnation = [1, 1]
        self.at = [0, 0]
        self.wrote = [False, False]

    def holders(self) -> list[Node]:
        return [node for node in self.nodes if node.applied]

    def steps(self) -> list[tuple[str, int, int]]:
        found = [("apply", n, 0) for n, node in enumerate(self.nodes) if node.closes]
        if self.moves:
            found.append(("move", *self.moves[0]))
        for rank in (0, 1):
            found += self.steps_of(rank)
        if self.crash and self.at[0] < self.clocks:
            found.append(("crash", 0, 0))
        return found

    def steps_of(self, rank: int) -> list[tuple[str, int, int]]:
        number = self.incarnation[rank]
        fences = {n: node.clock._fences for n, node in enumerate(self.nodes) if node.applied}
        missing = [n for n, each in fences.items() if each.incarnation[rank] < number]
        if missing:
            return [("takeover", rank, n) for n in missing]
        unsettled = [n for n, each in fences.items() if not each.settled[rank]]
        if unsettled:
            return [("settle", rank, n) for n in unsettled]
        if self.at[rank] == self.clocks:
            return []
        if not self.wrote[rank]:
            return [("write", rank, 0)]
        behind = [n for n in fences if self.nodes[n].clock._ticks.low[rank] < self.at[rank]]
        return [("tick", rank, n) for n in behind] or [("next", rank, 0)]

    def do(self, step: tuple[str, int, int]) -> None:
        getattr(self, f"_{step[0]}")(*step[1:])

    def _apply(self, n: int, _: int) -> None:
        self.nodes[n].apply()

    def _crash(self, rank: int, _: int) -> None:
        self.incarnation[rank] += 1
        self.crash = False

    def _takeover(self, rank: int, n: int) -> None:
        self.nodes[n].clock.takeover(member(rank, -1, self.incarnation[rank]))

    def _settle(self, rank: int, n: int) -> None:
        highest = max(node.clock.clocks[rank] for node in self.holders())
        self.nodes[n].follow(self.nodes[n].clock.settle(member(rank, highest, self.incarnation[rank])))
        self.at[rank], self.wrote[rank] = highest + 1, False

    def _write(self, rank: int, _: int) -> None:
        who = member(rank, self.at[rank], self.incarnation[rank])
        for node in self.holders():
            verdict = node.clock.write(who, 1, bits(*node.applied))
            if isinstance(verdict, Buffer):
                for bucket in buckets_in(verdict.buckets):
                    node.buffered.setdefault((bucket, verdict.clock), []).append((rank, who.incarnation))
        self.wrote[rank] = True

    def _tick(self, rank: int, n: int) -> None:
        node = self.nodes[n]
        node.follow(node.clock.tick(member(rank, self.at[rank], self.incarnation[rank])))

    def _next(self, rank: int, _: int) -> None:
        self.at[rank], self.wrote[rank] = self.at[rank] + 1, False

    def _move(self, bucket: int, to: int) -> None:
        source, target = self.nodes[1 - to], self.nodes[to]
        self.moves = self.moves[1:]
        kept = {key: source.buffered.pop(key) for key in list(source.buffered) if key[0] == bucket}
        shard = source.clock.export_shard(bucket, [clock for _, clock in kept])
        source.clock.remove_shard(bucket)
        source.clock.validate()
        source.closes = [Close(close.clock, close.buckets & ~(1 << bucket)) for close in source.closes]
        target.buffered.update(kept)
        target.applied[bucket] = source.applied.pop(bucket)
        target.follow(target.clock.import_shard(shard))

    def check(self) -> None:
        """The naive reference: each clock once in each bucket, in order, with one write of each rank."""
        for node in self.nodes:
            for bucket, closes in node.applied.items():
                assert [clock for clock, _ in closes] == list(range(len(closes))), (bucket, closes)
                for clock, kept in closes:
                    assert [rank for rank, _ in kept] == [0, 1], (bucket, clock, kept)
                    assert clock <= min(self.at), "every rank has ticked it, at some node at least"

    def check_end(self) -> None:
        assert sorted(bucket for node in self.nodes for bucket in node.applied) == [1, 2]
        for node in self.nodes:
            assert all(len(closes) == self.clocks for closes in node.applied.values()), node.applied
            assert not any(node.buffered.values())

    def key(self) -> str:
        nodes = [
            (
                sorted(n.applied.items()),
                sorted((key, sorted(kept)) for key, kept in n.buffered.items() if kept),
                [(c.clock, c.buckets) for c in n.closes],
                [n.clock.export_shard(bucket) for bucket in sorted(n.applied)],
                (n.clock._ticks.low, n.clock._ticks.high, n.clock._pushed, sorted(n.clock._open)),
                (n.clock._fences.incarnation, n.clock._fences.settled),
            )
            for n in self.nodes
        ]
        return repr((nodes, self.moves, self.incarnation, self.at, self.wrote, self.crash))


#: Bucket and the node that it goes to.
TO, ON, BACK = (1, 1), (2, 1), (1, 0)


@pytest.mark.parametrize(
    ("moves", "clocks", "crash"),
    [
        ((TO,), 2, True),
        ((TO, ON), 2, False),
        ((TO, BACK), 2, False),
        ((TO, ON), 1, True),
        ((TO, BACK), 1, True),
        ((TO, ON, BACK), 1, True),
    ],
)
def test_every_schedule_of_moves_ticks_closes_and_a_successor_applies_each_clock_once(
    moves: tuple[tuple[int, int], ...], clocks: int, crash: bool
) -> None:
    seen, line, ends = set[str](), [Run(moves, clocks, crash)], 0
    for rank in (0, 1):
        clock = line[0].nodes[0].clock
        clock.takeover(member(rank, -1))
        clock.settle(member(rank, -1))
    while line:
        run = line.pop()
        steps = run.steps()
        if not steps:
            run.check_end()
            ends += 1
        for step in steps:
            after = copy.deepcopy(run)
            after.do(step)
            after.check()
            key = after.key()
            if key not in seen:
                seen.add(key)
                line.append(after)
    assert ends
    assert len(seen) > 200
