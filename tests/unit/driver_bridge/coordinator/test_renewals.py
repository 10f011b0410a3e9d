"""When delegation tokens are renewed, tried again, and replaced: in a time of the test's own."""

from __future__ import annotations

import random

import pytest

from sparkps.driver_bridge.coordinator.renewals import UNKNOWN_LIFE, Renewals
from sparkps.wire.messages.control import NodeToken
from tests.unit.filesystems.token_files import issued

DAY, WEEK = 86_400.0, 7 * 86_400.0
START = 1_700_000_000.0


def token(name: str = "nn:8020", ends: float = START + WEEK, owner: str = "ann") -> NodeToken:
    return NodeToken(name, issued(owner, START, ends).url_string(), ["http://nn:9870"])


def holding(*tokens: NodeToken, now: float = START) -> Renewals:
    made = Renewals()
    made.hold({each.service: each for each in tokens}, now)
    made.validate()
    return made


def test_it_is_renewed_at_once_and_then_at_three_quarters_of_its_time() -> None:
    renewals, one = holding(token()), token()
    assert renewals.to_renew(START) == [one]
    assert renewals.wait(START) == 0.0
    renewals.renewed(one, START + DAY, START)
    assert renewals.to_renew(START + 0.74 * DAY) == []
    assert renewals.wait(START) == pytest.approx(0.75 * DAY)
    assert renewals.to_renew(START + 0.76 * DAY) == [one]
    assert not renewals.due(START + 0.76 * DAY), "it can be renewed"


def test_what_is_held_already_goes_on_with_its_life_and_another_begins_one() -> None:
    one, other = token(), token("b:1")
    renewals = holding(one)
    renewals.renewed(one, START + DAY, START)
    renewals.hold({"nn:8020": one, "b:1": other}, START + 1)
    assert renewals.to_renew(START + 1) == [other]
    newer = token(owner="ann", ends=START + WEEK + 1)
    renewals.hold({"nn:8020": newer}, START + 2)
    assert renewals.to_renew(START + 2) == [newer]
    assert not renewals.renewed(one, START + DAY, START + 3), "an answer for one that was replaced counts for nothing"
    assert renewals.to_renew(START + 3) == [newer]
    assert not renewals.failed(one, "x", START + 3)


def test_failures_are_tried_again_told_once_per_cause_and_replaced_in_time() -> None:
    renewals, one = holding(token()), token()
    renewals.renewed(one, START + DAY, START)
    now, tries, news, due_since = START + 0.75 * DAY, 0, 0, None
    while now < START + DAY:
        assert renewals.to_renew(now) == [one]
        news += renewals.failed(one, f"refused at {now}", now)
        renewals.validate()
        assert renewals.to_renew(now) == []
        if due_since is None and renewals.due(now):
            due_since = now
        now += max(1.0, renewals.wait(now) or 0.0)
        tries += 1
    assert tries > 10
    assert news == 1, "numbers make no other cause"
    assert due_since == START + 0.75 * DAY, "a quarter of its time is left for another"
    assert renewals.failed(one, "nobody answers", now)
    assert renewals.renewed(one, now + DAY, now), "and that it is over is told"
    assert not renewals.renewed(one, now + DAY, now)
    assert not renewals.due(now + 0.7 * DAY)


def test_one_that_nobody_here_may_renew_is_due_when_hadoop_would_end_it() -> None:
    renewals, one = holding(token()), token()
    assert renewals.failed(one, "ann tries to renew a token with renewer yarn", START)
    assert not renewals.due(START + 0.7 * UNKNOWN_LIFE), "no other one is asked for again and again"
    assert renewals.due(START + 0.76 * UNKNOWN_LIFE) == {"nn:8020"}
    assert renewals.wait(START) == 300.0


def test_one_that_others_gave_is_not_renewed_but_replaced_in_time() -> None:
    one = NodeToken("nn:8020", token().text, [], is_ours=False)
    renewals = holding(one)
    assert renewals.wait(START) is None
    assert renewals.to_renew(START + WEEK) == []
    assert not renewals.due(START + 0.7 * UNKNOWN_LIFE)
    assert renewals.due(START + 0.76 * UNKNOWN_LIFE) == {"nn:8020"}


@pytest.mark.parametrize("is_told", [True, False], ids=["the token tells", "renewals tell"])
def test_at_its_last_end_it_is_replaced_and_not_renewed(is_told: bool) -> None:
    last = START + 2.5 * DAY
    one = token(ends=last) if is_told else NodeToken("nn:8020", "of another kind", [])
    renewals = holding(one)
    now, times = START, 0
    while (wait := renewals.wait(now)) is not None:
        now += wait
        assert renewals.to_renew(now) == [one]
        renewals.renewed(one, min(last, now + DAY), now)
        renewals.validate()
        times += 1
        assert times < 10
        assert not renewals.due(now)
    assert renewals.due(last) == {"nn:8020"}
    assert renewals.due(now + 0.76 * (last - now)) == {"nn:8020"}
    assert not renewals.due(now + 0.7 * (last - now))


def test_a_namenode_whose_clock_is_wrong_is_not_asked_all_the_time() -> None:
    renewals, one = holding(token()), token()
    renewals.renewed(one, START - DAY, START)
    assert (renewals.wait(START) or 0.0) >= 1.0


@pytest.mark.parametrize("seed", range(50))
def test_whatever_happens_every_token_is_renewed_replaced_or_tried_again_before_its_end(seed: int) -> None:
    rng = random.Random(seed)
    interval, life = rng.uniform(60.0, DAY), rng.uniform(DAY, WEEK)
    one = token(ends=START + life)
    renewals = holding(one)
    now, expires = START, START + min(interval, UNKNOWN_LIFE)
    renewals.renewed(one, expires, now)
    for _ in range(300):
        wait = renewals.wait(now)
        if wait is None or now + wait >= expires:
            assert renewals.due(expires - 1.0) == {one.service}, "somebody was asked for another"
            return
        now += wait
        if rng.random() < 0.5:
            renewals.failed(one, "no", now)
        else:
            expires = min(now + interval, START + life)
            renewals.renewed(one, expires, now)
        renewals.validate()
    assert now > START + interval, "time goes on"
