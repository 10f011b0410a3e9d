"""Turns at buckets: exclusion, order, progress; all small schedules, and random large ones."""

from __future__ import annotations

import itertools
import random

import pytest

from sparkps.ps_nodes.turns import Turns


def shards(mask: int) -> dict[int, int]:
    """Even and odd bits are two tables."""
    even = sum(1 << bit for bit in range(0, 256, 2))
    return {1: mask & even, 2: mask & ~even}


def played(masks: tuple[int, ...], choose: random.Random) -> list[int]:
    """Everybody enters, and leaves at some time; the order in which they began. Checks exclusion, order and progress."""
    turns, began, busy = Turns[int](), list[int](), set[int]()
    entered = 0
    while entered < len(masks) or busy:
        if entered < len(masks) and (not busy or choose.random() < 0.5):
            if turns.enter(shards(masks[entered]), entered):
                begin = [entered]
            else:
                begin = []
            entered += 1
        else:
            one = choose.choice(sorted(busy))
            busy.remove(one)
            begin = turns.leave(shards(masks[one]))
        for each in begin:
            assert not any(masks[each] & masks[other] for other in busy), "one at a time"
            assert not any(masks[each] & masks[other] for other in range(each) if other not in began), "in order"
            busy.add(each)
            began.append(each)
        turns.validate()
        assert busy or not len(turns), "somebody goes on"
    return began


@pytest.mark.parametrize("masks", list(itertools.product([0b01, 0b10, 0b11], repeat=4)))
def test_everybody_has_a_turn_in_order_at_each_bucket(masks: tuple[int, ...]) -> None:
    for seed in range(10):
        assert sorted(played(masks, random.Random(seed))) == [0, 1, 2, 3]


def test_random_sets_of_many_buckets() -> None:
    choose = random.Random(5)
    for _ in range(200):
        masks = tuple(choose.getrandbits(256) & choose.getrandbits(256) & choose.getrandbits(256) for _ in range(12))
        assert len(played(masks, choose)) == 12


def test_who_wants_other_shards_passes_those_who_wait() -> None:
    turns = Turns[str]()
    assert turns.enter({1: 0b01}, "a")
    assert not turns.enter({1: 0b01}, "b")
    assert turns.enter({1: 0b10}, "c")
    assert turns.enter({2: 0b01}, "d"), "the same bucket of another table"
    assert not turns.enter({2: 0b01, 3: 0b01}, "e")
    assert turns.leave({1: 0b01}) == ["b"]
    assert turns.leave({2: 0b01}) == ["e"]
