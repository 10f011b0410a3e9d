"""A primary's log: numbers without gaps, nothing sent before it is filled, nothing forgotten before it is acknowledged."""

from __future__ import annotations

import random

import pytest

from sparkps.ps_nodes.replication.sent_log import RESEND_AFTER, RESEND_AT_MOST, WINDOW_BYTES, SentLog


def test_an_entry_that_is_not_filled_holds_back_those_behind_it() -> None:
    log = SentLog(1)
    first, second = log.reserve(), log.reserve()
    log.fill(second, [b"b"])
    assert log.due(0.0) == []
    log.fill(first, [b"a"])
    assert log.due(0.0) == [(1, [b"a"]), (2, [b"b"])]
    assert log.due(0.0) == []


def test_what_is_not_acknowledged_is_sent_again_from_the_first_that_is_missing() -> None:
    log = SentLog(1)
    for text in (b"a", b"b", b"c"):
        log.fill(log.reserve(), [text])
    log.due(0.0)
    log.acknowledge(1, 0.1)
    assert log.due(0.1 + RESEND_AFTER / 2) == []
    assert [number for number, _ in log.due(0.1 + RESEND_AFTER)] == [2, 3]
    pauses, at, last = [], 0.1 + RESEND_AFTER, 0.1 + RESEND_AFTER
    while at < 20.0:
        at += 0.01
        if log.due(at):
            pauses.append(at - last)
            last = at
    assert max(pauses) == pytest.approx(RESEND_AT_MOST, abs=0.05)


def test_whoever_waits_is_told_in_the_order_of_the_entries_and_once() -> None:
    log, told = SentLog(1), list[str]()
    for _ in range(3):
        log.fill(log.reserve(), [b"x"])
    log.due(0.0)
    assert log.wait(3, lambda: told.append("third"))
    assert log.wait(1, lambda: told.append("first"))
    for then in log.acknowledge(1, 0.0):
        then()
    assert told == ["first"]
    assert not log.wait(1, lambda: told.append("late")), "it is acknowledged already"
    for then in (*log.acknowledge(3, 0.0), *log.acknowledge(3, 0.0)):
        then()
    assert told == ["first", "third"]


def test_a_log_that_is_closed_keeps_nobody_waiting() -> None:
    log, told = SentLog(1), list[int]()
    number = log.reserve()
    log.wait(number, lambda: told.append(1))
    for then in log.close():
        then()
    assert told == [1]
    assert not log.wait(number, lambda: told.append(2))
    log.fill(number, [b"x"])
    assert log.due(0.0) == []
    assert log.acknowledge(number, 0.0) == []
    assert log.nbytes == 0


def test_the_window_bounds_what_is_under_way() -> None:
    log, large = SentLog(1), bytes(WINDOW_BYTES // 2)
    for _ in range(4):
        log.fill(log.reserve(), [large])
    assert [number for number, _ in log.due(0.0)] == [1], "two are more than the window, with what they cost besides"
    log.acknowledge(1, 0.0)
    assert [number for number, _ in log.due(0.0)] == [2]


def test_silence_counts_from_the_last_acknowledgement() -> None:
    log = SentLog(1)
    assert log.silent_since is None
    log.fill(log.reserve(), [b"x"])
    log.due(5.0)
    assert log.silent_since == 5.0
    log.due(9.0)
    assert log.silent_since == 5.0, "to send again is not to hear"
    log.acknowledge(1, 9.5)
    assert log.silent_since is None


@pytest.mark.parametrize("seed", range(30))
def test_any_order_of_filling_sending_losing_and_acknowledging_delivers_all_in_order(seed: int) -> None:
    rng, log, now = random.Random(seed), SentLog(1), 0.0
    taken, open_places, told = list[int](), list[int](), set[int]()
    while log.acked < 60 or log.last < 60:
        now += rng.random() * 0.4
        if log.last < 60 and rng.random() < 0.6:
            open_places.append(log.reserve())
            log.wait(open_places[-1], lambda number=open_places[-1]: told.add(number))
        if open_places and rng.random() < 0.7:
            number = open_places.pop(rng.randrange(len(open_places)))
            log.fill(number, [b"%d" % number])
        for number, frames in log.due(now):
            assert frames == [b"%d" % number]
            if rng.random() < 0.7 and number == len(taken) + 1:
                taken.append(number)
        if rng.random() < 0.6:
            for then in log.acknowledge(len(taken), now):
                then()
        log.validate()
        assert told == set(range(1, log.acked + 1))
    assert taken == list(range(1, 61))
