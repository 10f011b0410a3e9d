"""Answers of calls that read and write: put together from the parts that nodes had, for exactly the buckets that are asked for."""

from __future__ import annotations

import numpy as np
import pytest

from sparkps.errors import TierError
from sparkps.ps_nodes.replication.answers import Answers, writer_of
from sparkps.wire.buckets import listed
from sparkps.wire.messages.data import Member


def part(mask: int) -> list[np.ndarray]:
    return [listed(mask), listed(mask) * 10.0]


def test_parts_of_one_call_are_put_together() -> None:
    answers = Answers()
    answers.keep(7, 3, 0b0011, part(0b0011))
    answers.keep(7, 3, 0b0100, part(0b0100))
    assert [array.tolist() for array in answers.find(7, 3, 0b0111)] == [[0, 1, 2], [0.0, 10.0, 20.0]]
    assert [array.tolist() for array in answers.find(7, 3, 0b0100)] == [[2], [20.0]]
    assert answers.find(7, 3, 0b1000) is None


def test_a_later_call_replaces_the_earlier_one_and_no_earlier_one_comes_back() -> None:
    answers = Answers()
    answers.keep(7, 3, 1, part(1))
    answers.keep(7, 4, 1, part(1))
    answers.keep(7, 3, 2, part(2))
    assert answers.find(7, 3, 1) is None
    assert answers.find(7, 4, 1) is not None


def test_some_buckets_of_a_part_are_an_answer_where_there_is_one_for_each() -> None:
    answers = Answers()
    answers.keep(7, 3, 0b1011, part(0b1011))
    assert [array.tolist() for array in answers.find(7, 3, 0b1001)] == [[0, 3], [0.0, 30.0]]


def test_what_cannot_be_told_apart_or_is_not_all_is_no_answer() -> None:
    answers = Answers()
    answers.keep(7, 3, 0b11, [listed(0b11), np.array([5.0])])
    answers.keep(8, 3, 0b01, part(0b01))
    for writer, buckets in ((7, 0b01), (8, 0b11)):
        with pytest.raises(TierError, match="make the call again"):
            answers.find(writer, 3, buckets)


def test_writers_and_groups_are_forgotten() -> None:
    answers, rank = Answers(), writer_of(0, Member(2, 1, 1, 0))
    for writer in (7, rank):
        answers.keep(writer, 1, 1, part(1))
    answers.forget(7)
    assert answers.find(7, 1, 1) is None
    assert answers.find(rank, 1, 1) is not None
    answers.forget_group(2)
    assert answers.find(rank, 1, 1) is None
