"""Calls of server functions: their numbers, the tables that they name, and ticks that follow those that write."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from sparkps.client.calls import call_functions
from sparkps.errors import TierError, UnknownTable
from sparkps.wire.messages import data as m
from sparkps.wire.messages.control import FindTable
from tests.unit.client.fake_tier import DENSE, SPARSE, FakeTier, always, failed, once, ranked, silence, wrong_epoch


def asked_for(tier: FakeTier) -> list[str]:
    return [message.name for message, _ in tier.control.asked if isinstance(message, FindTable)]


def gone_table(table: int) -> Any:
    def line(message: m.Call) -> Any:
        if table in message.calls[0].tables:
            return [(0.0, m.Failed(message.seq, "UnknownTable", f"table {table} was dropped"), [])]
        return None

    return line


def test_functions_say_how_long_their_answer_is_waited_for() -> None:
    tier = FakeTier(request_timeout=7.0, wait_timeout=70.0)
    session = ranked(tier)
    tier.dense(session).call("sum")
    session.leave()
    tier.dense(session).call("sum")
    assert [call.limit for call in tier.nodes[0].of(m.Call)] == [70.0, 7.0]


def test_writing_functions_of_a_rank_take_an_ordinal_as_pushes_do() -> None:
    tier = FakeTier()
    session = ranked(tier)
    w, d = tier.sparse(session), tier.dense(session)
    w.push([1], [[1.0]])
    d.call("scale", alpha=2.0)
    d.call("sum")
    d.call("fill", value=1.0)
    session.tick()
    assert [call.member.ordinal for call in tier.nodes[0].of(m.Call)] == [1, 0, 2]


def test_no_tick_follows_a_writing_function_that_failed_or_was_not_awaited() -> None:
    tier = FakeTier(wait_timeout=10.0)
    session = ranked(tier)
    tier.nodes[0].script.append(once(failed("FunctionFailed", "division by zero"), kind=m.Call))
    with pytest.raises(TierError):
        tier.dense(session).call("scale", alpha=2.0)
    with pytest.raises(TierError, match="division by zero"):
        session.tick()
    session.leave()
    session.takeover(6, 1, 1)
    tier.nodes[0].script.append(always(silence, kind=m.Call))
    with pytest.raises(TierError, match="must be answered"):
        tier.dense(session).call("fill", value=1.0)
    with pytest.raises(TierError, match="call of fill"):
        session.tick()
    assert not tier.nodes[0].of(m.Tick)


def test_a_refused_function_call_goes_again_under_its_number() -> None:
    tier = FakeTier()
    session = tier.session()
    tier.nodes[0].script = [once(wrong_epoch(2, tier.placement), kind=m.Call)]
    tier.dense(session).call("scale", alpha=2.0)
    assert [(c.seq, c.call, c.epoch) for c in tier.nodes[0].of(m.Call)] == [(1, 1, 1), (2, 1, 2)]


def test_the_coordinator_is_asked_for_the_name_of_a_table_once() -> None:
    tier = FakeTier()
    session = tier.session()
    w = tier.sparse(session)
    for _ in range(5):
        w.call("copy", source="w")
    assert asked_for(tier) == ["w"]
    tier.control.answers = False
    call_functions(session, [(w, "axpy", {"alpha": 1.0, "x": "w"})])


def test_a_table_that_was_created_anew_is_looked_up_once_more() -> None:
    tier = FakeTier()
    session = tier.session()
    w = tier.sparse(session)
    w.call("copy", source="d")
    tier.control.tables["d"] = msgspec.structs.replace(DENSE, table=77)
    tier.nodes[0].script = [always(gone_table(DENSE.table), kind=m.Call)]
    w.call("copy", source="d")
    assert asked_for(tier) == ["d", "d"]
    assert tier.nodes[0].of(m.Call)[-1].calls[0].tables == [SPARSE.table, 77]


def test_a_table_that_is_gone_is_named_after_one_more_look() -> None:
    tier = FakeTier()
    session = tier.session()
    w = tier.sparse(session)
    w.call("copy", source="d")
    tier.nodes[0].script = [always(gone_table(DENSE.table), kind=m.Call)]
    with pytest.raises(UnknownTable, match="dropped"):
        w.call("copy", source="d")
    assert asked_for(tier) == ["d", "d"]
    assert len(tier.nodes[0].of(m.Call)) == 2
