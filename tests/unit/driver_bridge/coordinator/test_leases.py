"""Worker groups: admission, one attempt a rank at a time, first causes."""

from __future__ import annotations

import random

import pytest
from msgspec import structs

from sparkps.driver_bridge.coordinator import leases
from sparkps.driver_bridge.coordinator.leases import Groups, HasFinished, HeldByOther, Holds
from sparkps.errors import Fenced, GroupError, InvalidInput, WorkerFailed
from sparkps.specs import UNBOUNDED
from sparkps.wire.messages.control import GIVES_UP, MAX_RECORDED_RESULT, AdmitGroup, Cause

TTL = 10.0
BOOM = Cause.of(WorkerFailed("boom", rank=1))


def asked(tag: str, workers: int = 2, slots: int = 2, ranks: int | None = None, staleness: int = 0) -> AdmitGroup:
    return AdmitGroup(0, f"run-{tag}", workers, workers if ranks is None else ranks, staleness, slots, tag)


@pytest.fixture
def groups() -> Groups:
    """One group of two ranks is running."""
    made = Groups(TTL)
    made.admit(asked("a"), 0.0)
    return made


# ---- admission ---------------------------------------------------------------------------------------------------------


def test_one_group_at_a_time_first_come_first_served(groups: Groups) -> None:
    assert groups.admit(asked("b"), 1.0) == (None, False)
    assert groups.admit(asked("c"), 1.0) == (None, False)
    assert (groups.position("b"), groups.position("c")) == (0, 1)
    assert groups.end(1)
    assert groups.admit(asked("c"), 2.0) == (None, False), "b was first"
    spec, new = groups.admit(asked("b"), 2.0)
    assert (spec.group, new) == (2, True)


def test_several_groups_if_free_slots_cover_all_workers() -> None:
    groups = Groups(TTL)
    assert groups.admit(asked("a", workers=2, slots=5), 0.0)[1]
    assert groups.admit(asked("b", workers=3, slots=5), 0.0)[1]
    assert groups.admit(asked("c", workers=1, slots=5), 0.0) == (None, False)


def test_a_small_group_does_not_overtake() -> None:
    groups = Groups(TTL)
    groups.admit(asked("a", workers=2, slots=4), 0.0)
    assert groups.admit(asked("big", workers=4, slots=4), 0.0) == (None, False)
    assert groups.admit(asked("small", workers=1, slots=4), 0.0) == (None, False)


def test_applications_do_not_wait_for_each_other() -> None:
    groups = Groups(TTL)
    mine, yours = (structs.replace(asked("a"), application=name) for name in ("mine", "yours"))
    assert groups.admit(mine, 0.0)[1]
    assert groups.admit(structs.replace(yours, tag="b"), 0.0)[1], "each has slots of its own"
    assert groups.admit(structs.replace(mine, tag="c"), 1.0) == (None, False)
    assert groups.admit(structs.replace(mine, tag="d"), 1.0) == (None, False)
    assert groups.admit(structs.replace(yours, tag="e"), 1.0) == (None, False)
    assert [groups.position(tag) for tag in "cde"] == [0, 1, 0]
    groups.end(2)
    assert groups.admit(structs.replace(mine, tag="c"), 2.0) == (None, False), "the slots that are free are not its own"
    assert groups.admit(structs.replace(yours, tag="e"), 2.0)[1]
    groups.end(1)
    assert groups.admit(structs.replace(mine, tag="d"), 2.0) == (None, False), "c was first"
    assert groups.admit(structs.replace(mine, tag="c"), 2.0)[1]


def test_owners_are_those_of_groups_that_run_or_wait() -> None:
    groups = Groups(TTL)
    groups.admit(structs.replace(asked("a"), name="ann/fit-1"), 0.0)
    groups.admit(structs.replace(asked("b"), name="bob/fit-1"), 0.0)
    assert groups.owners() == {"ann", "bob"}
    groups.end(1)
    assert groups.owners() == {"bob"}


def test_the_name_of_an_application_is_short() -> None:
    with pytest.raises(InvalidInput, match="at most 64 characters. Got 65"):
        Groups(TTL).admit(structs.replace(asked("a"), application="x" * 65), 0.0)


def test_a_request_that_is_repeated_admits_once(groups: Groups) -> None:
    spec, new = groups.admit(asked("a"), 5.0)
    assert (spec.group, new) == (1, False)
    groups.end(1)
    with pytest.raises(GroupError, match="must not have ended"):
        groups.admit(asked("a"), 6.0)
    assert not groups.end(1)


def test_who_stops_asking_leaves_the_queue(groups: Groups) -> None:
    groups.admit(asked("b"), 0.0)
    groups.end(1)
    assert groups.admit(asked("c"), TTL + 1)[1], "b's driver has gone"


@pytest.mark.parametrize(
    "bad", [asked("x", workers=0), asked("x", ranks=1), asked("x", ranks=4), asked("x", staleness=-2), asked(""),
     asked("x", staleness=1 << 62), asked("x" * 1000), AdmitGroup(0, "run-\udcff", 2, 2, 0, 2, "x")],
)  # fmt: skip
def test_impossible_groups_are_refused(bad: AdmitGroup) -> None:
    with pytest.raises(InvalidInput):
        Groups(TTL).admit(bad, 0.0)


def test_a_group_of_millions_is_refused_by_name_and_holds_nothing() -> None:
    groups = Groups(TTL)
    with pytest.raises(InvalidInput, match=r"at most 16384 ranks.*Got 5000000 instead: .*`num_workers`"):
        groups.admit(asked("x", workers=5_000_000), 0.0)
    assert not groups.queue
    assert groups.admit(asked("y", workers=1 << 14, slots=1 << 14), 0.0)[1]


def test_asp_is_possible() -> None:
    assert Groups(TTL).admit(asked("x", staleness=UNBOUNDED), 0.0)[1]


# ---- leases ------------------------------------------------------------------------------------------------------------


def test_the_start_barrier_opens_with_the_last_rank(groups: Groups) -> None:
    assert groups.lease(1, 0, 10, 0.0) == Holds(1, started=False)
    assert not groups.renew(1, 0, 10, {}, 1.0).all_started
    assert groups.lease(1, 1, 11, 1.0) == Holds(1, started=True)
    assert groups.renew(1, 0, 10, {}, 1.0).all_started


def test_a_rank_is_leased_to_one_attempt_at_a_time(groups: Groups) -> None:
    groups.lease(1, 0, 10, 0.0)
    answer = groups.lease(1, 0, 20, 9.0)
    assert isinstance(answer, HeldByOther)
    assert "attempt 10 holds rank 0; its lease ends in 1.0 s" in answer.reason
    assert groups.lease(1, 0, 10, 9.0) == Holds(1, started=False), "asked again"


def test_a_silent_attempt_loses_its_rank_to_the_next_and_is_fenced(groups: Groups) -> None:
    groups.lease(1, 0, 10, 0.0)
    groups.renew(1, 0, 10, {"clock": 3}, 5.0)
    assert isinstance(groups.lease(1, 0, 20, 14.9), HeldByOther)
    assert groups.lease(1, 0, 20, 15.0) == Holds(2, started=False)
    with pytest.raises(Fenced, match="held by attempt 20"):
        groups.renew(1, 0, 10, {}, 15.0)
    with pytest.raises(Fenced):
        groups.finish(1, 0, 10, b"late", {})


def test_an_attempt_that_comes_back_in_time_keeps_its_rank(groups: Groups) -> None:
    groups.lease(1, 0, 10, 0.0)
    groups.renew(1, 0, 10, {}, 50.0)
    assert isinstance(groups.lease(1, 0, 20, 51.0), HeldByOther)


def test_a_released_rank_is_free_at_once(groups: Groups) -> None:
    groups.lease(1, 0, 10, 0.0)
    groups.release(1, 0, 99)
    assert isinstance(groups.lease(1, 0, 20, 0.1), HeldByOther), "only its holder releases it"
    groups.release(1, 0, 10)
    assert groups.lease(1, 0, 20, 0.1) == Holds(2, started=False)
    groups.release(7, 0, 10)


def test_a_finished_rank_hands_out_its_result(groups: Groups) -> None:
    groups.lease(1, 0, 10, 0.0)
    groups.finish(1, 0, 10, b"result", {"clock": 7})
    groups.finish(1, 0, 10, b"result", {})  # a repetition changes nothing
    groups.renew(1, 0, 10, {"clock": 6}, 1.0)  # nor does a renewal that comes late
    assert groups.lease(1, 0, 20, 1.0) == HasFinished(b"result")
    assert groups.get(1).ranks[0].report(0, 1.0).counters == {"clock": 7}
    assert groups.get(1).state == "running"
    groups.lease(1, 1, 11, 1.0)
    groups.finish(1, 1, 11, None, {})
    assert groups.get(1).state == "finished"


def test_results_together_are_bounded_and_a_group_that_ends_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "MOST_RECORDED", 1000)
    groups = Groups(TTL)
    for number, tag in enumerate("ab", 1):
        groups.admit(asked(tag, slots=4), 0.0)
        for rank in (0, 1):
            groups.lease(number, rank, 10 + rank, 0.0)
    for number, rank, result in ((1, 0, bytes(600)), (1, 0, bytes(600)), (2, 0, bytes(401)), (1, 1, bytes(400))):
        groups.finish(number, rank, 10 + rank, result, {})
    found = {(number, rank): groups.lease(number, rank, 20, 1.0) for number, rank in ((1, 0), (1, 1), (2, 0))}
    assert found == {(1, 0): HasFinished(bytes(600)), (1, 1): HasFinished(bytes(400)), (2, 0): HasFinished(None)}
    groups.end(1)
    groups.finish(2, 1, 11, bytes(1000), {})
    assert groups.lease(2, 1, 20, 1.0) == HasFinished(bytes(1000))


def test_a_large_result_is_not_recorded(groups: Groups) -> None:
    groups.lease(1, 0, 10, 0.0)
    groups.finish(1, 0, 10, bytes(MAX_RECORDED_RESULT), {})
    groups.lease(1, 1, 11, 0.0)
    with pytest.raises(InvalidInput, match="at most 1048576 bytes"):
        groups.finish(1, 1, 11, bytes(MAX_RECORDED_RESULT + 1), {})


def test_the_first_cause_stays(groups: Groups) -> None:
    groups.lease(1, 0, 10, 0.0)
    assert groups.fail(1, BOOM)
    assert not groups.fail(1, Cause.of(WorkerFailed("later")))
    assert groups.renew(1, 0, 10, {}, 1.0).cause == BOOM
    with pytest.raises(WorkerFailed, match="boom"):
        groups.lease(1, 1, 11, 1.0)
    assert groups.get(1).state == "failed"


def test_an_ended_group_fences_its_ranks(groups: Groups) -> None:
    groups.lease(1, 0, 10, 0.0)
    groups.end(1)
    for call in (
        lambda: groups.renew(1, 0, 10, {}, 1.0),
        lambda: groups.lease(1, 1, 11, 1.0),
        lambda: groups.finish(1, 0, 10, None, {}),
    ):
        with pytest.raises(Fenced, match="has: this attempt must stop"):
            call()
    with pytest.raises(GroupError):
        groups.get(1)
    assert not groups.fail(1, BOOM)


def test_a_rank_that_is_none_is_refused(groups: Groups) -> None:
    with pytest.raises(InvalidInput, match=r"in \[0, 2\)"):
        groups.lease(1, 2, 10, 0.0)


@pytest.mark.parametrize("seed", range(30))
def test_random_schedules(seed: int) -> None:
    """At most one attempt holds a rank, incarnations only grow, results and causes stay, and all groups get their turn."""
    rng, groups = random.Random(seed), Groups(TTL)
    now, attempts = 0.0, 0
    held: dict[tuple[int, int, int], int] = {}
    incarnations: dict[tuple[int, int], int] = {}
    for _ in range(400):
        now += rng.random() * 3
        tag = f"t{rng.randrange(12)}"
        try:
            match rng.randrange(6):
                case 0 | 1:
                    groups.admit(asked(tag, workers=rng.randint(1, 3), slots=4), now)
                case 2 if groups.running and rng.random() < 0.3:
                    groups.end(rng.choice(list(groups.running)))
                case 3 | 4 if groups.running:
                    group = rng.choice(list(groups.running))
                    rank = rng.randrange(len(groups.running[group].ranks))
                    attempts += 1
                    attempt = GIVES_UP if rng.random() < 0.2 else attempts
                    had = groups.running[group].ranks[rank].attempt
                    answer = groups.lease(group, rank, attempt, now)
                    if isinstance(answer, Holds):
                        assert answer.incarnation == incarnations.get((group, rank), 0) + (had != attempt)
                        incarnations[group, rank] = answer.incarnation
                        held[group, rank, attempt] = answer.incarnation
                case 5 if held:
                    group, rank, attempt = rng.choice(list(held))
                    newest = held[group, rank, attempt] == incarnations[group, rank]
                    step = rng.choice(["renew", "release", "finish", "fail"])
                    if step == "renew":
                        groups.renew(group, rank, attempt, {}, now)
                        assert newest
                    elif step == "finish":
                        groups.finish(group, rank, attempt, b"", {})
                        assert newest
                    elif step == "release":
                        groups.release(group, rank, attempt)
                        del held[group, rank, attempt]
                    elif rng.random() < 0.2:
                        groups.fail(group, BOOM)
        except (Fenced, GroupError, WorkerFailed, InvalidInput):
            pass
        groups.validate()
        assert sum(g.spec.num_workers for g in groups.running.values()) <= 4


# ---- processes that are gone -------------------------------------------------------------------------------------------


def test_the_rank_of_a_process_that_is_gone_is_free_at_once(groups: Groups) -> None:
    groups.lease(1, 0, 10, 0.0, process="p10")
    answer = groups.lease(1, 0, 20, 1.0, process="p20")
    assert isinstance(answer, HeldByOther)
    assert answer.process == "p10"
    assert groups.lease(1, 0, 20, 1.0, process="p20", gone="p10") == Holds(2, started=False)
    with pytest.raises(Fenced):
        groups.renew(1, 0, 10, {}, 1.0)


@pytest.mark.parametrize("gone", ["p10", "", "other"])
def test_only_the_holder_of_now_can_be_gone(groups: Groups, gone: str) -> None:
    groups.lease(1, 0, 10, 0.0, process="p10")
    groups.lease(1, 0, 20, 1.0, process="p20", gone="p10")
    assert isinstance(groups.lease(1, 0, 30, 1.0, process="p30", gone=gone), HeldByOther), "p20 holds the rank"


def test_a_holder_whose_process_is_not_known_is_not_gone(groups: Groups) -> None:
    groups.lease(1, 0, 10, 0.0)
    assert isinstance(groups.lease(1, 0, 20, 1.0, gone=""), HeldByOther)


# ---- groups of which nobody is heard -----------------------------------------------------------------------------------


def test_a_group_of_which_nobody_is_heard_is_over(groups: Groups) -> None:
    assert groups.patience == 60.0
    assert Groups(30.0).patience == 90.0
    assert groups.unheard(60.0) == []
    assert [state.spec.group for state in groups.unheard(60.1)] == [1]


@pytest.mark.parametrize(
    "speak",
    [
        lambda groups: groups.admit(asked("a"), 50.0),
        lambda groups: groups.hear(1, 50.0),
        lambda groups: groups.lease(1, 0, 10, 50.0),
    ],
)
def test_a_word_of_its_driver_or_of_a_rank_keeps_a_group(groups: Groups, speak) -> None:
    speak(groups)
    assert groups.unheard(110.0) == []
    assert groups.unheard(110.1)


def test_renewals_keep_a_group(groups: Groups) -> None:
    groups.lease(1, 0, 10, 0.0)
    groups.renew(1, 0, 10, {}, 50.0)
    assert groups.unheard(110.0) == []
    assert groups.unheard(110.1)


def test_a_request_that_was_withdrawn_admits_nothing_any_more(groups: Groups) -> None:
    groups.admit(asked("b"), 1.0)
    assert groups.withdraw("b") == 0
    assert groups.queue == []
    with pytest.raises(GroupError, match="must not have ended"):
        groups.admit(asked("b"), 2.0)
    assert groups.withdraw("never seen") == 0
    with pytest.raises(GroupError):
        groups.admit(asked("never seen"), 2.0)
    assert groups.withdraw("a") == 1, "to be ended by its id"


# ---- time that counts for nobody ---------------------------------------------------------------------------------------


def test_a_shift_moves_leases_places_in_the_queue_and_patience(groups: Groups) -> None:
    groups.lease(1, 0, 10, 0.0)
    groups.admit(asked("b"), 0.0)
    groups.shift(100.0)
    assert isinstance(groups.lease(1, 0, 20, 100.0 + TTL - 0.1), HeldByOther)
    assert groups.lease(1, 0, 20, 100.0 + TTL) == Holds(2, started=False)
    groups.shift(60.0)
    assert groups.unheard(160.0 + TTL + 60.0) == []
    groups.end(1)
    assert groups.admit(asked("c"), 160.0 + TTL) == (None, False), "b was first, and may ask again"


# ---- ranks that are given up -------------------------------------------------------------------------------------------


def lost(groups: Groups, *ranks: int) -> None:
    """These ranks were leased at 0, and nobody has been heard of them since."""
    for rank in ranks:
        groups.lease(1, rank, 10 + rank, 0.0, process=f"p{rank}")


def test_a_rank_is_given_up_when_no_successor_has_come_by_the_end_of_its_lease(groups: Groups) -> None:
    lost(groups, 0, 1)
    groups.renew(1, 0, 10, {}, 2.0)
    assert isinstance(groups.lease(1, 0, GIVES_UP, 2.0 + TTL - 0.1), HeldByOther)
    assert groups.lease(1, 0, GIVES_UP, 2.0 + TTL) == Holds(2, started=True)
    with pytest.raises(Fenced):
        groups.renew(1, 0, 10, {}, 2.0 + TTL)
    assert isinstance(groups.lease(1, 0, 20, 2.0 + TTL), HeldByOther), "the driver is about to finish it"
    groups.finish(1, 0, GIVES_UP, b"lost", {})
    assert groups.lease(1, 0, 20, 2.0 + TTL) == HasFinished(b"lost")
    assert groups.get(1).ranks[0].report(0, 20.0).state == "lost"
    groups.validate()


def test_a_released_rank_is_awaited_until_the_end_of_its_lease(groups: Groups) -> None:
    lost(groups, 0, 1)
    groups.release(1, 0, 10)
    answer = groups.lease(1, 0, GIVES_UP, 1.0)
    assert isinstance(answer, HeldByOther)
    assert "a successor may come to rank 0 within 9.0 s" in answer.reason
    groups.shift(100.0)
    assert isinstance(groups.lease(1, 0, GIVES_UP, 100.0), HeldByOther)
    assert groups.lease(1, 0, GIVES_UP, 100.0 + TTL) == Holds(2, started=True)


def test_a_successor_in_time_keeps_the_rank(groups: Groups) -> None:
    lost(groups, 0, 1)
    assert groups.lease(1, 0, 20, TTL) == Holds(2, started=True)
    assert isinstance(groups.lease(1, 0, GIVES_UP, TTL + 1.0), HeldByOther)


def test_the_rank_of_a_process_that_is_gone_need_not_be_awaited(groups: Groups) -> None:
    lost(groups, 0, 1)
    assert isinstance(groups.lease(1, 0, GIVES_UP, 1.0, gone="p1"), HeldByOther)
    assert groups.lease(1, 0, GIVES_UP, 1.0, gone="p0") == Holds(2, started=True)


def test_the_last_worker_is_never_given_up(groups: Groups) -> None:
    lost(groups, 0, 1)
    groups.lease(1, 0, GIVES_UP, TTL)
    answer = groups.lease(1, 1, GIVES_UP, TTL)
    assert isinstance(answer, HeldByOther)
    assert "rank 1 is the last worker" in answer.reason
    groups.finish(1, 0, GIVES_UP, b"lost", {})
    assert isinstance(groups.lease(1, 1, GIVES_UP, TTL), HeldByOther)
    assert groups.lease(1, 1, 21, TTL) == Holds(2, started=True)


def test_who_has_not_started_and_the_solver_are_not_given_up() -> None:
    groups = Groups(TTL)
    groups.admit(asked("a", workers=2, ranks=3), 0.0)
    answer = groups.lease(1, 0, GIVES_UP, 100.0)
    assert isinstance(answer, HeldByOther)
    assert "has not started" in answer.reason
    groups.lease(1, 2, -1, 0.0)
    answer = groups.lease(1, 2, GIVES_UP, 100.0)
    assert isinstance(answer, HeldByOther)
    assert "is the solver's" in answer.reason


def test_a_driver_that_falls_silent_while_it_gives_a_rank_up_loses_it_to_a_successor(groups: Groups) -> None:
    lost(groups, 0, 1)
    groups.lease(1, 0, GIVES_UP, TTL)
    assert groups.lease(1, 0, 20, 2 * TTL) == Holds(3, started=True)
    with pytest.raises(Fenced):
        groups.finish(1, 0, GIVES_UP, b"lost", {})
