"""The journal as a file, and the coordinator that goes on from one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from sparkps.config import Settings
from sparkps.driver_bridge.coordinator import journal as journals
from sparkps.driver_bridge.coordinator import snapshot
from sparkps.driver_bridge.coordinator.core import Core
from sparkps.driver_bridge.coordinator.journal import Journal, split
from sparkps.driver_bridge.coordinator.server import Coordinator
from sparkps.driver_bridge.coordinator.tier import Tier
from sparkps.wire.messages import control as c
from tests.unit.driver_bridge.coordinator.members import durable
from tests.unit.driver_bridge.coordinator.world import W, World, admit


def written(path: Path, *records: bytes) -> bytes:
    journal = Journal(path)
    journal.append(list(records))
    journal.close()
    return path.read_bytes()


def test_what_was_appended_is_there(tmp_path: Path) -> None:
    path = tmp_path / "j"
    written(path, b"one", b"")
    written(path, b"three" * 1000)
    assert Journal(path).records == [b"one", b"", b"three" * 1000]
    assert path.stat().st_mode & 0o077 == 0


def test_a_torn_tail_is_dropped_wherever_it_is_torn(tmp_path: Path) -> None:
    whole = written(tmp_path / "whole", b"one", b"two", b"three")
    for length in range(len(whole)):
        path = tmp_path / "torn"
        path.write_bytes(whole[:length])
        journal = Journal(path)
        assert journal.records == [b"one", b"two", b"three"][: len(journal.records)]
        kept = len(journal.records)
        journal.append([b"next"])
        journal.close()
        assert Journal(path).records == [*[b"one", b"two"][:kept], b"next"]


@pytest.mark.parametrize("place", range(20))
def test_a_flipped_bit_ends_the_journal(tmp_path: Path, place: int) -> None:
    whole = bytearray(written(tmp_path / "j", b"one", b"two"))
    whole[place % len(whole)] ^= 1
    records, length = split(bytes(whole))
    assert records in ([], [b"one"])
    assert length <= 11


def test_a_journal_that_cannot_be_written_is_removed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "j"
    journal = Journal(path)
    journal.append([b"one"])
    assert journal._file is not None
    os.close(journal._file)
    journal._file = os.open(path, os.O_RDONLY)
    journal.append([b"two"])
    assert not path.exists()
    assert "cannot be written" in caplog.text
    journal.append([b"three"])
    assert not path.exists()


# ---- a journal that has become long ------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process ends here."""


def test_a_process_that_is_killed_at_any_byte_leaves_the_old_journal_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = [b"one", b"two", b"three"], [b"all three"]
    real = os.write
    for most in range(len(new[0]) + 8 + 1):
        path = tmp_path / str(most)
        journal = Journal(path)
        journal.append(old)
        left = [most]

        def write(file: int, raw: Any, left: list[int] = left) -> int:
            if not left[0]:
                raise Killed
            left[0] -= 1
            return real(file, raw[:1])

        def renamed(*_: Any) -> None:
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", write)
            patch.setattr(Path, "replace", renamed)
            with pytest.raises(Killed):
                journal.replace(new)
        journal.close()
        after = Journal(path)
        assert after.records == old
        assert sorted(each.name for each in tmp_path.iterdir() if each.name.startswith(f"{most}.")) == [], "nothing is left of it"
        after.replace(new)
        after.append([b"four"])
        after.close()
        assert Journal(path).records == [*new, b"four"]


def test_a_journal_that_cannot_be_replaced_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    journal = Journal(tmp_path / "j")
    journal.append([b"one"])
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        journal.replace([b"all"])
    journal.append([b"two"])
    journal.close()
    assert Journal(tmp_path / "j").records == [b"one", b"two"]


def test_a_journal_is_replaced_when_it_is_long_and_twice_as_long_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "LONG", 1000)
    journal = Journal(tmp_path / "j")
    journal.append([bytes(900)])
    assert not journal.is_due
    journal.append([bytes(900)])
    assert journal.is_due
    journal.replace([bytes(1992)])
    journal.append([bytes(1992)])
    assert not journal.is_due
    journal.append([b""])
    assert journal.is_due
    journal.close()
    assert Journal(tmp_path / "j").is_due


def test_a_coordinator_makes_its_journal_shorter_as_it_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process itself, with its socket; nodes are told by hand."""
    monkeypatch.setattr(journals, "LONG", 20_000)
    path = tmp_path / "j"
    coordinator = Coordinator("tcp://127.0.0.1:0", "t1", Settings(num_nodes=1), journal=path)
    tier, largest = coordinator.tier, 0

    def receive(sender: bytes, message: Any) -> None:
        outgoing = tier.receive(sender, message, tier.clock.now + 0.001)
        coordinator._write()
        for receiver, sent in outgoing:
            if receiver == b"n0" and not isinstance(sent, c.Welcome | c.Alive):
                receive(b"n0", c.CommandDone(sent.seq, 0))

    receive(b"n0", c.NodeHello(1, "ipc://n0", "here", 1))
    for number in range(1, 1000):
        receive(b"driver", c.CreateTable(2 * number, W))
        receive(b"driver", c.DropTable(2 * number + 1, "w", number))
        largest = max(largest, path.stat().st_size)
    receive(b"driver", c.CreateTable(3000, W))
    assert largest < 50_000
    again = Tier("t1", tier.settings)
    again.replay(Journal(path).records)
    assert durable(again) == durable(tier)
    assert again.catalog.next_table == 1001
    tier.stop(tier.clock.now)
    receive(b"n0", c.CommandDone(tier.commands.next - 1, 0))
    assert tier.over
    coordinator.serve()


# ---- a coordinator that goes on ----------------------------------------------------------------------------------------


class Mortal(World):
    """A world whose coordinator can be killed and started again."""

    def __init__(self, *args: Any, compacts: bool = False, **settings: Any) -> None:
        self.journal: list[bytes] = []
        self.compacts = compacts
        super().__init__(*args, **settings)

    def route(self, outgoing: list[tuple[bytes, Any]]) -> None:
        self.journal += self.tier.take_events()
        if self.compacts and (taken := self.tier.snapshot()) is not None:
            self.journal = [taken]
        super().route(outgoing)

    def restart(self) -> None:
        old = self.tier
        self.tier = Tier("t1", old.settings)
        self.tier.replay(self.journal)
        assert durable(self.tier) == durable(old)
        self.tier.begin(self.now, 2)
        self.route(self.tier.recover(self.now))


@pytest.fixture(params=["all of it", "made shorter"])
def world(request: pytest.FixtureRequest) -> Mortal:
    made = Mortal(lease_ttl=5.0, compacts=request.param == "made shorter")
    made.join(0)
    made.join(1)
    return made


def test_tables_functions_and_groups_are_there_again(world: Mortal) -> None:
    spec = world.ask(b"driver", c.CreateTable(0, W)).spec
    world.ask(b"driver", c.RegisterFunction(0, "f", b"blob"))
    group = admit(world, "a").spec.group
    world.ask(b"worker", c.Lease(0, group, 0, 7))
    world.restart()
    assert world.ask(b"driver", c.FindTable(0, "w")).spec == spec
    assert world.tier.catalog.functions == {"f": b"blob"}
    assert world.ask(b"worker", c.Renew(0, group, 0, 7)).all_started
    assert isinstance(admit(world, "b"), c.Queued)
    assert isinstance(world.ask(b"driver", c.AdmitGroup(0, "run-a", 1, 1, 0, 1, "a")), c.Admitted)


def test_tokens_are_there_again_and_whoever_joins_then_has_them(world: Mortal) -> None:
    old, new, other = (c.NodeToken(service, text, ["http://nn:9870"]) for service, text in (("a:1", "x"), ("a:1", "y"), ("b:1", "z")))
    for token in (old, other, new):
        assert isinstance(world.ask(b"driver", c.GiveToken(0, token)), c.Accepted)
    world.restart()
    assert world.tier.tokens == {"a:1": new, "b:1": other}
    told = [message for message in world.commands[b"n0"] if isinstance(message, c.TakeTokens)]
    assert [message.tokens for message in told] == [[old], [other], [new]], "nobody is told again"
    assert sorted(world.join(2).tokens, key=lambda token: token.service) == [new, other]


def test_a_token_under_way_is_handed_over_by_the_next_coordinator(world: Mortal) -> None:
    world.deaf = {b"n1"}
    token = c.NodeToken("a:1", "x", [])
    assert world.ask(b"driver", c.GiveToken(0, token)) is None
    world.restart()
    world.deaf = set()
    world.deliver(b"n1", c.Heartbeat(99, 1))
    assert isinstance(world.reply(b"driver"), c.Accepted)
    assert world.commands[b"n1"][-1].tokens == [token]


def test_an_answer_that_was_lost_with_the_coordinator_is_given_again(world: Mortal) -> None:
    first = world.ask(b"driver", c.CreateTable(0, W))
    commands = len(world.commands[b"n0"])
    world.restart()
    world.replies.clear()
    world.deliver(b"driver", c.CreateTable(1, W))
    assert world.reply(b"driver") == first
    assert len(world.commands[b"n0"]) == commands, "it is not carried out once more"


def test_a_command_under_way_is_sent_again_when_its_node_is_heard(world: Mortal) -> None:
    world.deaf = {b"n1"}
    assert world.ask(b"driver", c.CreateTable(0, W)) is None
    sent = len(world.commands[b"n1"])
    world.restart()
    assert len(world.commands[b"n1"]) == sent, "nobody is there yet"
    world.deaf = set()
    world.deliver(b"n1", c.Heartbeat(99, 1))
    assert world.reply(b"driver").spec.name == "w"
    assert isinstance(world.commands[b"n1"][-1], c.CreateTable)


def test_leases_last_one_term_more_and_silent_nodes_have_one_deadline_more(world: Mortal) -> None:
    group = admit(world, "a").spec.group
    world.ask(b"worker", c.Lease(0, group, 0, 7))
    for _ in range(3):
        world.later(3.0)
        world.ask(b"worker", c.Renew(0, group, 0, 7))
    world.now += 100.0
    world.restart()
    assert isinstance(world.ask(b"other", c.Lease(0, group, 0, 8)), c.Wait)
    world.deaf = {b"n1"}
    world.later(4.5)
    assert world.tier.nodes.up() == [0, 1]
    assert isinstance(world.ask(b"other", c.Lease(0, group, 0, 8)), c.Wait)
    world.later(1.0)
    assert world.tier.nodes.up() == [0]


def test_a_rank_that_was_given_away_is_its_new_holders(world: Mortal) -> None:
    group = admit(world, "a").spec.group
    world.ask(b"worker", c.Lease(0, group, 0, 7))
    world.later(3.0)
    world.ask(b"worker", c.Renew(0, group, 0, 7))
    world.later(5.5)
    assert world.ask(b"other", c.Lease(0, group, 0, 8)).incarnation == 2
    world.restart()
    with pytest.raises(Exception, match="held by attempt 8"):
        world.ask(b"worker", c.Renew(0, group, 0, 7))


def test_decisions_by_time_are_not_made_anew(world: Mortal) -> None:
    """A dead node, a group that nobody was heard of, a command that was late."""
    group = admit(world, "a").spec.group
    world.later(61.0)
    assert group not in world.tier.groups.running
    world.deaf = {b"n1"}
    assert world.ask(b"driver", c.CreateTable(0, W)) is None
    world.later(6.0)
    assert world.tier.nodes.up() == [0]
    world.restart()
    assert world.tier.nodes.up() == [0]
    assert world.ask(b"driver", c.TierStatus(0, fresh=False)).report["state"] == "degraded"


def test_a_command_that_was_late_is_not_waited_for_again(world: Mortal) -> None:
    world.deaf = {b"n1"}
    assert world.ask(b"driver", c.CreateTable(0, W)) is None
    until = world.now + 30.0
    while world.now < until:
        world.now += 0.25
        for number in range(2):
            world.deliver(b"n%d" % number, c.Heartbeat(1, number))
        world.route(world.tier.tick(world.now))
    with pytest.raises(TimeoutError, match="Creating table 'w'"):
        world.reply(b"driver")
    world.restart()
    assert world.tier.catalog.tables == {}


def test_commands_keep_their_numbers_though_reports_have_numbers_too(world: Mortal) -> None:
    world.ask(b"other", c.TierStatus(0))
    world.deaf = {b"n1"}
    assert world.ask(b"driver", c.CreateTable(0, W)) is None
    command = world.commands[b"n1"][-1]
    world.restart()
    world.deliver(b"n1", c.CommandDone(command.seq, 1))
    assert world.reply(b"driver").spec.name == "w"


def test_status_says_which_process_it_is(world: Mortal) -> None:
    world.tier.begin(world.now, 1)
    world.route([])
    world.restart()
    world.restart()
    assert world.ask(b"driver", c.TierStatus(0, fresh=False)).report["coordinator"] == {"pid": 2, "restarts": 2}


def test_questions_and_renewals_are_not_journaled(world: Mortal) -> None:
    group = admit(world, "a").spec.group
    world.ask(b"worker", c.Lease(0, group, 0, 7))
    length = len(world.journal)
    for _ in range(5):
        world.later(3.0)
        world.ask(b"worker", c.Renew(0, group, 0, 7))
        world.ask(b"driver", c.TierStatus(0))
        world.ask(b"driver", c.GroupState(0, group))
        admit(world, "b")
    assert len(world.journal) == length


def test_all_that_a_coordinator_knows_is_in_a_snapshot_or_is_not_journaled() -> None:
    """Who adds something to the core says which it is."""
    not_journaled = {"tier_id", "settings", "meter", "clock", "commands", "garbage", "log_book", "due_tokens", "asked", "asking", "_out"}
    not_journaled |= {"usage", "is_asked_to_stop", "is_to_be_discarded", "figures"}
    assert {*vars(Core("t", Settings()))} == {*snapshot.PARTS, *snapshot.QUIET, *not_journaled}


def test_nothing_that_is_under_way_is_in_a_snapshot(world: Mortal) -> None:
    assert world.tier.snapshot() is not None
    world.deaf = {b"n1"}
    assert world.ask(b"driver", c.CreateTable(0, W)) is None
    assert world.tier.snapshot() is None
    world.restart()
    assert world.ask(b"other", c.TierStatus(0, fresh=False)).report["state"] == "ready"


def test_a_group_that_has_trained_for_long_goes_on(world: Mortal) -> None:
    """Renewals are not journaled: to the journal the group was silent all the time."""
    group = admit(world, "a").spec.group
    world.ask(b"worker", c.Lease(0, group, 0, 7))
    for _ in range(30):
        world.later(3.0)
        world.ask(b"worker", c.Renew(0, group, 0, 7))
    world.restart()
    world.later(0.5)
    assert group in world.tier.groups.running
    assert not isinstance(world.ask(b"worker", c.Renew(0, group, 0, 7)), c.Refused)


def test_a_command_under_way_has_all_its_time_again(world: Mortal) -> None:
    world.deaf = {b"n1"}
    assert world.ask(b"driver", c.CreateTable(0, W)) is None
    world.now += 100.0
    world.restart()
    world.route(world.tier.tick(world.now))
    world.deaf = set()
    world.deliver(b"n1", c.Heartbeat(99, 1))
    assert world.reply(b"driver").spec.name == "w"


def test_scaling_has_all_its_time_again(world: Mortal) -> None:
    assert world.ask(b"driver", c.ScaleTier(0, 3, 60.0)) is None
    world.later(50.0)
    world.restart()
    world.later(15.0)
    assert world.reply(b"driver") is None
