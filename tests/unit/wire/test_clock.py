"""The rules of group clocks one by one; `tests/scenarios` runs them all against each other."""

from __future__ import annotations

from functools import partial

import pytest

from sparkps.errors import Fenced, ProtocolError
from sparkps.specs import INFINITE_CLOCK, UNBOUNDED, GroupSpec
from sparkps.wire.clock import MAX_STALENESS_BIN, GroupClock
from sparkps.wire.effects import Apply, Buffer, DropAbove, Duplicate, Release, Standing
from sparkps.wire.marks import MAX_CLOCK, ORDINAL_BITS
from sparkps.wire.messages.data import Member
from tests.unit.wire.clocks import BUCKETS, array, bits, member, opened, plain, write

# ---- BSP ---------------------------------------------------------------------------------------------------------------


def test_bsp_buffers_pushes_and_closes_once_all_ranks_ticked() -> None:
    clock = opened(0)
    for rank in (0, 1):
        assert write(clock, member(rank, 0), 3, 5) == Buffer(0, bits(3, 5))
    assert clock.ready(member(0, 0), array(3)) == []
    assert clock.tick(member(0, 0)) == ()
    assert clock.ready(member(0, 1), array(3)) == [1]
    assert plain(clock.tick(member(1, 0))) == [0, Release()]
    assert clock.ready(member(0, 1), array(3)) == []
    assert clock.clocks == [0, 0]


def test_a_rank_ahead_leaves_clocks_to_close_in_order() -> None:
    clock = opened(0)
    for at in range(3):
        write(clock, member(0, at))
        assert clock.tick(member(0, at)) == ()
    assert plain(clock.tick(member(1, 0))) == [0, Release()]
    write(clock, member(1, 1))
    assert plain(clock.tick(member(1, 1))) == [1, Release()]
    assert plain(clock.tick(member(1, 2), finish=True)) == [2, Release()]


def test_a_clock_without_pushes_closes_without_a_word() -> None:
    clock = opened(0)
    clock.tick(member(0, 0))
    assert plain(clock.tick(member(1, 0))) == [Release()]


def test_the_last_rank_to_finish_closes_what_is_left_in_order() -> None:
    clock = opened(0)
    for at in range(3):
        write(clock, member(0, at))
        clock.tick(member(0, at), finish=at == 2)
    write(clock, member(1, 0))
    assert plain(clock.tick(member(1, 0), finish=True)) == [0, 1, 2, Release()]
    assert clock.finished == [True, True]
    assert clock.clocks == [2, 0]
    clock.validate()


def test_a_retried_tick_does_nothing() -> None:
    clock = opened(0)
    write(clock, member(0, 0))
    clock.tick(member(0, 0), b"first")
    assert clock.tick(member(0, 0), b"again") == ()
    assert clock.takeover(member(0, -1, incarnation=2)).state == b"first"


@pytest.mark.parametrize("staleness", [0, 2, UNBOUNDED])
def test_a_tick_advances_by_one(staleness: int) -> None:
    clock = opened(staleness)
    for finish in (False, True):
        with pytest.raises(ProtocolError, match="clock after its last one, -1") as refused:
            clock.tick(member(0, 1), finish=finish)
        assert refused.value.rank == 0
        assert refused.value.clock == 1
    assert clock.clocks == [-1, -1]


@pytest.mark.parametrize("staleness", [0, 2, UNBOUNDED])
def test_a_push_for_a_ticked_clock_is_refused(staleness: int) -> None:
    clock = opened(staleness)
    clock.tick(member(0, 0))
    with pytest.raises(ProtocolError, match="after its last tick, 0"):
        write(clock, member(0, 0))
    clock.tick(member(0, 1), finish=True)
    with pytest.raises(ProtocolError, match="after its last tick"):
        write(clock, member(0, 2))


def test_a_finish_covers_the_last_push() -> None:
    clock = opened(0)
    clock.tick(member(0, 0))
    write(clock, member(0, 1))
    with pytest.raises(ProtocolError, match="a last tick for its last push"):
        clock.tick(member(0, 0), finish=True)
    clock.tick(member(0, 1), finish=True)
    assert clock.tick(member(0, 1), finish=True) == ()


# ---- SSP and ASP -------------------------------------------------------------------------------------------------------


def test_ssp_lets_a_rank_run_ahead_by_the_staleness() -> None:
    clock = opened(2, ranks=3)
    for at in range(2):
        clock.tick(member(0, at))
        clock.tick(member(2, at))
    assert clock.ready(member(0, 2)) == []
    clock.tick(member(0, 2))
    assert clock.ready(member(0, 3)) == [1]
    assert clock.ready(member(2, 2)) == []
    assert plain(clock.tick(member(1, 0))) == [Release()]
    assert clock.ready(member(0, 3)) == []
    assert clock.max_staleness == [2, 0, 2]
    assert clock.histograms == [[0, 0, 2], [0, 0, 0], [0, 0, 1]]


def test_asp_never_waits_and_measures_all_the_same() -> None:
    clock = opened(UNBOUNDED)
    for at in range(100):
        assert clock.ready(member(0, at)) == []
        assert clock.tick(member(0, at)) == ()
    assert clock.max_staleness == [99, 0]
    assert clock.histograms[0] == [1] * MAX_STALENESS_BIN + [100 - MAX_STALENESS_BIN]
    assert clock.ready(member(1, 0)) == []
    assert clock.max_staleness[1] == 0


def test_a_finished_rank_is_waited_for_no_more() -> None:
    clock = opened(0)
    clock.tick(member(1, 0), finish=True)
    for at in range(5):
        assert clock.ready(member(0, at)) == []
        clock.tick(member(0, at))


@pytest.mark.parametrize("staleness", [1, UNBOUNDED])
def test_pushes_that_a_predecessor_left_applied_are_duplicates_shard_by_shard(staleness: int) -> None:
    clock = opened(staleness)
    for piece in ((3, 5), (8, 200)):
        assert write(clock, member(0, 0, ordinal=0), *piece, table=7) == Apply(bits(*piece))
    write(clock, member(0, 0, ordinal=1), 5, table=7)
    assert clock.takeover(member(0, -1, incarnation=2)).clock == -1
    assert clock.settle(member(0, -1, incarnation=2)) == ()

    def again(ordinal: int, *buckets: int, table: int = 7) -> object:
        verdict = write(clock, member(0, 0, incarnation=2, ordinal=ordinal), *buckets, table=table)
        clock.validate()
        return verdict

    assert again(0, 3, 5) == Duplicate()
    assert again(0, 3, table=8) == Apply(bits(3))
    assert again(1, 3, 5, 8) == Apply(bits(3, 8))
    assert again(1) == Apply(bits(200))
    assert again(2) == Apply(bits(*BUCKETS))
    assert write(clock, member(1, 0)) == Apply(bits(*BUCKETS))


def test_a_second_successor_inherits_what_both_left() -> None:
    clock = opened(1)
    write(clock, member(0, 0, ordinal=5), 3)
    for incarnation in (2, 3):
        clock.takeover(member(0, -1, incarnation))
        clock.settle(member(0, -1, incarnation))
        write(clock, member(0, 0, incarnation, ordinal=1), 3, 5)
    clock.validate()
    assert write(clock, member(0, 0, 3, ordinal=5), 3) == Duplicate()
    assert write(clock, member(0, 0, 3, ordinal=5), 5) == Apply(bits(5))


@pytest.mark.parametrize("staleness", [0, 1, UNBOUNDED])
def test_a_write_counts_once_on_each_shard_also_within_an_incarnation(staleness: int) -> None:
    clock = opened(staleness)
    verdict = Buffer if staleness == 0 else lambda _, buckets: Apply(buckets)
    assert write(clock, member(0, 0, ordinal=4), 3) == verdict(0, bits(3))
    assert write(clock, member(0, 0, ordinal=4), 3) == Duplicate()
    assert write(clock, member(0, 0, ordinal=4), 3, 5) == verdict(0, bits(5))


def test_marks_are_kept_from_the_last_tick_on() -> None:
    clock = opened(UNBOUNDED)
    for at in range(100):
        write(clock, member(0, at), BUCKETS[at % 4])
        clock.tick(member(0, at))
    assert clock.export_shard(3).marks == []


def test_bsp_marks_fall_with_what_a_successor_does_again() -> None:
    clock = opened(0)
    write(clock, member(0, 0), 3)
    clock.takeover(member(0, -1, incarnation=2))
    assert plain(clock.settle(member(0, -1, incarnation=2))) == [DropAbove(0, -1)]
    assert write(clock, member(0, 0, incarnation=2), 3) == Buffer(0, bits(3))


def test_a_solver_acts_at_once_in_bsp_too() -> None:
    clock = opened(0)
    assert clock.write(member(0, 0), 1, bits(3), at_once=True) == Apply(bits(3))
    assert plain(clock.tick(member(0, 0))) == []


def test_a_bsp_pull_of_a_ticked_clock_is_refused() -> None:
    clock = opened(0)
    clock.tick(member(0, 0))
    with pytest.raises(ProtocolError, match="answered before its clock is ticked"):
        clock.ready(member(0, 0))
    assert opened(1).ready(member(0, 0)) == []


def test_ranks_that_keep_a_write_waiting_are_those_behind_the_clock_before() -> None:
    clock = opened(0, ranks=3)
    assert clock.ahead(member(0, 0)) == []
    for at in range(3):
        clock.tick(member(0, at))
    clock.tick(member(1, 0))
    assert clock.ahead(member(0, 3)) == [1, 2]
    assert clock.ahead(member(1, 1)) == [2]
    clock.tick(member(2, 0))
    assert clock.ahead(member(1, 1)) == []


# ---- takeover ----------------------------------------------------------------------------------------------------------


def test_a_takeover_fences_older_incarnations_and_reports_the_last_tick() -> None:
    clock = opened(0)
    clock.tick(member(0, 0), b"state 0")
    clock.tick(member(0, 1), b"state 1")
    assert clock.takeover(member(0, -1, incarnation=4)) == Standing(1, b"state 1", False)
    assert clock.takeover(member(0, -1, incarnation=4)) == Standing(1, b"state 1", False)
    old = member(0, 2, incarnation=1)
    for call in (clock.ready, partial(write, clock), clock.tick, clock.takeover, clock.settle):
        with pytest.raises(Fenced, match="must speak as incarnation 4") as refused:
            call(old)
        assert refused.value.incarnation == 1
    with pytest.raises(Fenced):
        write(clock, member(0, 2, incarnation=5))


def test_settle_comes_before_anything_else() -> None:
    clock = opened(0)
    clock.takeover(member(0, -1, incarnation=2))
    for call in (clock.ready, partial(write, clock), clock.tick):
        with pytest.raises(ProtocolError, match="before the settle"):
            call(member(0, 0, incarnation=2))
    clock.settle(member(0, -1, incarnation=2))
    assert write(clock, member(0, 0, incarnation=2), 3, 5) == Buffer(0, bits(3, 5))


def test_settle_drops_what_is_above_and_closes_what_is_due() -> None:
    clock = opened(0)
    clock.tick(member(1, 0))
    for at in range(3):
        write(clock, member(0, at))
    clock.takeover(member(0, -1, incarnation=2))
    effects = clock.settle(member(0, 1, incarnation=2), b"from another node")
    assert plain(effects) == [DropAbove(0, 1), 0, Release()]
    assert clock.takeover(member(0, -1, incarnation=3)) == Standing(1, b"from another node", False)
    assert clock.settle(member(0, 1, incarnation=3)) == ()


def test_settle_below_what_this_node_reported_is_refused() -> None:
    clock = opened(0)
    clock.tick(member(0, 0))
    clock.takeover(member(0, -1, incarnation=2))
    with pytest.raises(ProtocolError, match="this one reported 0"):
        clock.settle(member(0, -1, incarnation=2))


def test_a_finished_rank_stands_where_it_finished_with_its_last_state() -> None:
    clock = opened(0)
    write(clock, member(0, 0))
    clock.tick(member(0, 0), b"result", finish=True)
    assert clock.takeover(member(0, -1, incarnation=2)) == Standing(0, b"result", True)
    assert clock.settle(member(0, 0, incarnation=2)) == ()
    assert clock.tick(member(0, 0, incarnation=2), finish=True) == ()
    clock.validate()


def test_a_finish_without_a_state_keeps_the_last_one() -> None:
    clock = opened(1)
    clock.tick(member(0, 0), b"state 0")
    clock.tick(member(0, 1), finish=True)
    assert clock.takeover(member(0, -1, incarnation=2)) == Standing(1, b"state 0", True)


def test_a_tick_without_a_state_clears_it() -> None:
    clock = opened(1)
    clock.tick(member(0, 0), b"state 0")
    clock.tick(member(0, 1))
    assert clock.takeover(member(0, -1, incarnation=2)) == Standing(1, None, False)


@pytest.mark.parametrize(
    "who",
    [
        member(0, 0, group=2),
        member(2, 0),
        member(-1, 0),
        member(0, MAX_CLOCK),
        member(0, -2),
        member(0, 0, ordinal=1 << ORDINAL_BITS),
        member(0, 0, ordinal=-1),
    ],
)
def test_an_impossible_member_is_refused(who: Member) -> None:
    clock = opened(0)
    for call in (clock.ready, partial(write, clock), clock.tick, clock.takeover, clock.settle):
        with pytest.raises(ProtocolError):
            call(who)
    clock.validate()


def test_a_rank_that_never_took_over_is_fenced() -> None:
    clock = GroupClock(GroupSpec(1, "g", 2, 2, 0), BUCKETS)
    for incarnation in (0, 1):
        with pytest.raises(Fenced):
            write(clock, member(0, 0, incarnation))
    with pytest.raises(Fenced):
        clock.takeover(member(0, -1, incarnation=0))


def test_a_node_without_buckets_keeps_time_all_the_same() -> None:
    clock = opened(0, buckets=[])
    clock.tick(member(0, 0), b"s")
    assert clock.ready(member(0, 1)) == [1]
    assert plain(clock.tick(member(1, 0))) == [Release()]
    assert clock.takeover(member(0, -1, incarnation=2)) == Standing(0, b"s", False)
    clock.validate()


def test_infinity_is_above_every_legal_clock() -> None:
    assert MAX_CLOCK < INFINITE_CLOCK
    assert (MAX_CLOCK << ORDINAL_BITS) < 1 << 63
