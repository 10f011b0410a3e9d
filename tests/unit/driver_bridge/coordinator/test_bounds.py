"""What the coordinator remembers of peers that come and never say good-bye is bounded; what it is asked at once it answers at once."""

from __future__ import annotations

import pickle

import pytest

from sparkps.driver_bridge.coordinator import connections, leases, node_registry, reports
from sparkps.driver_bridge.coordinator.log_book import MOST_CHARACTERS, LogBook
from sparkps.errors import GroupError, InvalidInput, SparkPSError, TierError
from sparkps.specs import MAX_RANKS, RankStart
from sparkps.wire.messages import control as c
from tests.unit.driver_bridge.coordinator.world import DRIVER, World, admit, kinds, ready


def test_connections_that_ask_once_and_never_again_take_a_bounded_amount(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 100)
    world = ready()
    for number in range(1000):
        world.ask(b"peer %d" % number, c.Attach(0))
        world.ask(b"peer %d" % number, c.EndGroup(0, 99))
    assert len(world.tier.connections) == 100
    before = len(pickle.dumps(world.tier.connections))
    for number in range(1000, 1100):
        world.ask(b"peer %d" % number, c.TierStatus(0))
    assert len(pickle.dumps(world.tier.connections)) <= before, "large answers to questions are not kept"


def test_the_connections_that_were_silent_longest_are_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 2)
    kept = connections.Connections()
    for now, sender in enumerate((b"a", b"b", b"a", b"c")):
        kept.begin(sender, 1 + now, float(now))
    assert [sender in kept for sender in (b"a", b"b", b"c")] == [True, False, True], "a was heard of after b"
    kept.begin(b"a", 9, 4.0)
    kept.forget(3.5 + connections.FORGET_AFTER)
    assert [sender in kept for sender in (b"a", b"c")] == [True, False]


def test_a_fault_of_ours_that_a_notice_finds_costs_nobody_the_coordinator(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = ready()

    def fails(*_: object) -> None:
        raise KeyError("a fault")

    for message in (c.Heartbeat(5, 0, {}), c.LogLines(0, "node 0", []), c.CommandDone(99, 0, None, {})):
        before = world.tier.garbage
        with monkeypatch.context() as patched:
            patched.setattr(world.tier, "_take_notice", fails)
            world.deliver(b"n0", message)
        assert world.tier.garbage == before + 1
    assert caplog.text.count("KeyError: 'a fault'") >= 3
    assert world.ask(DRIVER, c.TierStatus(0, fresh=False)).report["state"] == "ready"


def test_a_question_that_comes_again_is_answered_again() -> None:
    world = ready()
    for message in (c.Attach(1), c.TierStatus(2, fresh=False), c.TierStatus(3), c.FetchLog(4, 0)):
        for _ in range(2):
            world.replies.clear()
            world.deliver(DRIVER, message)
            assert (DRIVER, message.seq) in world.replies
    world.replies.clear()
    world.deliver(DRIVER, c.Attach(1))
    assert not world.replies, "an old one is a late repetition"


def test_all_who_ask_for_the_status_at_once_get_one_report(monkeypatch: pytest.MonkeyPatch) -> None:
    world = ready()
    world.deaf = {b"n0", b"n1"}
    world.commands.clear()
    for number in range(500):
        world.ask(b"peer %d" % number, c.TierStatus(0))
    assert kinds(world.commands[b"n0"]) == [c.ReportNow]
    for node in (b"n0", b"n1"):
        world.obey(node, world.commands[node][-1])
    assert isinstance(world.replies[b"peer 0", 1], c.TierReport)
    assert kinds(world.commands[b"n0"]) == [c.ReportNow] * 2, "those who came meanwhile are asked for together"
    for node in (b"n0", b"n1"):
        world.obey(node, world.commands[node][-1])
    assert all(isinstance(world.replies[b"peer %d" % number, 1], c.TierReport) for number in range(500))


def test_tags_of_groups_that_were_withdrawn_are_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "MOST_ENDED", 10)
    world = ready()
    for number in range(100):
        world.ask(DRIVER, c.EndGroup(0, 0, f"tag {number}"))
    assert len(world.tier.groups._ended_tags) == 10
    with pytest.raises(SparkPSError, match="must not have ended"):
        admit_tag(world, "tag 99")
    with pytest.raises(SparkPSError, match="1 to 256 characters"):
        world.ask(DRIVER, c.EndGroup(0, 0, "x" * 1000))


def admit_tag(world: World, tag: str, workers: int = 1, slots: int = 1 << 40) -> object:
    return world.ask(DRIVER, c.AdmitGroup(0, "g", workers, workers, 0, slots, tag))


def test_running_groups_have_a_bounded_number_of_ranks_whatever_slots_are_claimed() -> None:
    world = ready()
    assert isinstance(admit_tag(world, "first", MAX_RANKS - 10), c.Admitted)
    assert isinstance(admit_tag(world, "second", 10), c.Admitted)
    assert isinstance(admit_tag(world, "third", 1), c.Queued)


def test_the_queue_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "MOST_QUEUED", 5)
    world = ready()
    admit(world, "first")
    for number in range(5):
        assert isinstance(admit_tag(world, f"tag {number}", slots=0), c.Queued)
    with pytest.raises(GroupError, match="At most 5 worker groups may wait"):
        admit_tag(world, "one more", slots=0)
    assert len(world.tier.groups.queue) == 5


def test_states_that_a_group_begins_with_fit_into_the_welcome_of_a_node() -> None:
    world = ready()
    start = (RankStart(1, False, b"x" * (30 << 20)),)
    assert isinstance(world.ask(DRIVER, c.AdmitGroup(0, "g", 1, 1, 0, 100, "a", start)), c.Admitted)
    assert isinstance(world.ask(DRIVER, c.AdmitGroup(0, "g", 1, 1, 0, 100, "b", start)), c.Queued)
    with pytest.raises(InvalidInput, match="must have at most"):
        world.ask(DRIVER, c.AdmitGroup(0, "g", 1, 1, 0, 100, "c", (RankStart(1, False, b"x" * (41 << 20)),)))


@pytest.mark.parametrize("attempt", [-2, -4, -(1 << 62)])
def test_an_attempt_that_cannot_be_holds_no_rank(attempt: int) -> None:
    world = ready()
    admit(world, "one")
    with pytest.raises(InvalidInput, match="An attempt must have a number"):
        world.ask(DRIVER, c.Lease(0, 1, 0, attempt))
    with pytest.raises(SparkPSError, match="must be held by attempt"):
        world.ask(DRIVER, c.FinishRank(0, 1, 0, attempt, b"result"))
    assert world.tier.groups.running[1].state == "running"


def test_a_meeting_that_nobody_can_have_been_to_does_not_stop_all_others() -> None:
    world = ready()
    admit(world, "one")
    world.ask(DRIVER, c.Lease(0, 1, 0, 7))
    with pytest.raises(InvalidInput, match="meeting"):
        world.ask(DRIVER, c.Meet(0, 1, 0, 7, (1 << 64) - 1))
    assert world.ask(DRIVER, c.Meet(0, 1, 0, 7)).number == 1


def test_nodes_that_join_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_registry, "MOST_JOINED", 4)
    world = ready()
    for number in range(2, 4):
        world.join(number)
    with pytest.raises(TierError, match="in its life"):
        world.join(5)
    with pytest.raises(InvalidInput, match="must say where it is"):
        world.ask(b"x", c.NodeHello(0, "ipc://" + "x" * 5000, "host", 1))


def test_lines_of_a_log_are_bounded_with_the_names_of_their_loggers() -> None:
    book = LogBook()
    for _ in range(100):
        book.add("node 0", [c.LogLine(1 << 40, "x" * 1_000_000, "hello")])
    assert sum(len(kept.line.logger) for kept in book._kept) < MOST_CHARACTERS // 10
    assert {kept.line.level for kept in book._kept} == {100}


def test_a_report_of_other_types_is_taken_as_far_as_it_can_be_read() -> None:
    hostile = {"rows": float("nan"), "load": [1], "tables": {"1": {"rows": "x"}, "2": 3}, "groups": {"1": 5}, "silent_replicas": 7}
    assert reports.checked_report(hostile) == {"tables": {"1": {}}, "groups": {}, "silent_replicas": []}
    world = ready()
    world.deliver(b"n0", c.Heartbeat(5, 0, hostile))
    assert world.ask(DRIVER, c.TierStatus(0, fresh=False)).report["nodes"][0]["rows"] == 0


@pytest.mark.parametrize("key", [1, b"1", "9" * 5000, 1.5, None, ("1",)])
def test_keys_of_other_types_in_a_report_are_left_out(key: object) -> None:
    told = {"tables": {key: {"uses": 1}, "1": {key: 2, "rows": 3}}, "groups": {key: {}, "1": {key: {}}}}
    assert reports.checked_report(told)["groups"] == {"1": {}}
    assert set(reports.checked_report(told)["tables"]) == {"1"}
    assert reports.checked_report(told)["tables"]["1"]["rows"] == 3
    assert reports.clocks_of({"clocks": {key: 3, "2": 4}}) == {"2": 4}
    world = ready()
    world.deliver(b"n0", c.Heartbeat(5, 0, told))
    assert world.tier.garbage == 0
    world.tier.usage.heard(0, {key: {"uses": 1}}, 1.0)  # type: ignore[dict-item]


def test_the_load_of_a_node_has_one_number_for_each_bucket() -> None:
    told = {"load": {"buckets": [1, 2], "bytes": [5, 6], "requests": [1]}}
    assert reports.checked_report(told) == {"load": {"buckets": [1, 2], "bytes": [5, 6]}}
