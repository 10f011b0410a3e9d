"""What a node promises the members of a group: closes before answers, one order for all of a clock, and one end for everybody."""

from __future__ import annotations

import pytest

from sparkps.ps_nodes.clock_buffers import Write
from sparkps.ps_nodes.tables.directory import Tables
from sparkps.specs import UNBOUNDED
from sparkps.wire.messages import control as c
from sparkps.wire.messages import data as m
from tests.harness.requests import Numbered
from tests.unit.ps_nodes.lone_node import GROUP, Client, LoneNode

#: More keys than a close applies on the I/O thread.
MANY = list(range(20_000))


@pytest.fixture
def node() -> LoneNode:
    made = LoneNode()
    made.table()
    return made


def test_a_finish_is_answered_when_no_close_is_due(node: LoneNode) -> None:
    node.group(2, 0)
    fast, slow = Client.of_rank(node, 0), Client.of_rank(node, 1)
    for client in (fast, slow):
        assert isinstance(client.ask(*client.add(MANY)), m.Done)
    fast.ask(fast.tick(finish=True))
    last = slow.tick(finish=True)
    slow.send(last)
    assert node.pool.waiting, "the close is much work, and goes to the pool"
    assert slow.answers(last.seq) == []
    node.pool.run()
    assert [type(answer) for answer in slow.answers(last.seq)] == [m.Done]
    assert node.values([0, MANY[-1]]) == [2.0, 2.0]


def test_a_group_that_ends_in_good_order_is_drained_first(node: LoneNode) -> None:
    node.group(1, 0)
    rank = Client.of_rank(node, 0)
    rank.ask(*rank.add(MANY))
    rank.send(rank.tick())
    told = node.command(c.CloseGroup(0, GROUP))
    assert told == [], "closes are still due"
    node.pool.run()
    assert told == [None]
    assert node.values([0, MANY[-1]]) == [1.0, 1.0]


def test_a_group_that_failed_discards_and_answers_whoever_waits(node: LoneNode) -> None:
    node.group(2, 0)
    waits, other = Client.of_rank(node, 0), Client.of_rank(node, 1)
    waits.ask(*waits.add([1]))
    waits.ask(waits.tick())
    pull, keys = waits.pull([1])
    waits.send(pull, keys)
    assert waits.answers(pull.seq) == []
    node.command(c.FailGroup(0, GROUP, c.Cause("GroupError", "rank 1 said no")))
    assert [answer.message for answer in waits.answers(pull.seq)] == ["rank 1 said no"]
    assert other.ask(other.tick()).message == "rank 1 said no"
    assert node.command(c.CloseGroup(0, GROUP)) == [None]
    assert node.values([1]) == [0.0]
    assert node.service.report()["buffered_bytes"] == 0


def test_a_pull_waits_for_closes_that_are_due(node: LoneNode) -> None:
    node.group(2, 0)
    ranks = [Client.of_rank(node, 0), Client.of_rank(node, 1)]
    for client in ranks:
        client.ask(*client.add(MANY))
    for client in ranks:
        client.send(client.tick())
    assert node.pool.waiting, "the close is much work, and goes to the pool"
    pull, keys = ranks[0].pull([7])
    ranks[0].send(pull, keys)
    assert ranks[0].answers(pull.seq) == []
    node.pool.run()
    assert ranks[0].rows(pull.seq) == [2.0]


def test_in_bsp_a_function_that_writes_acts_when_its_clock_closes_in_the_order_of_ranks(node: LoneNode) -> None:
    node.group(2, 0)
    one, two = Client.of_rank(node, 0), Client.of_rank(node, 1)
    two.ask(two.call("fill", value=3.0))
    one.ask(*one.add([7], 5.0))
    one.ask(one.call("scale", alpha=10.0, ordinal=1))
    pull, keys = one.pull([7])
    one.send(pull, keys)
    assert one.rows(pull.seq) == [0.0], "nothing acts before its clock closes"
    one.ask(one.tick())
    two.ask(two.tick())
    node.pool.run()
    assert node.values([7]) == [3.0], "rank 1's fill follows rank 0's scale"


def test_a_solver_reads_what_it_writes_in_the_same_clock(node: LoneNode) -> None:
    writer = Client(node, 5)
    writer.ask(*writer.add([7]))
    node.group(2, 0, workers=1)
    solver = Client.of_rank(node, 1)
    assert isinstance(solver.ask(solver.call("scale", alpha=4.0)), m.Done)
    assert node.values([7]) == [4.0]


def test_a_bsp_pull_that_was_not_awaited_never_sees_the_next_clock(node: LoneNode) -> None:
    node.group(2, 0)
    one, two = Client.of_rank(node, 0), Client.of_rank(node, 1)
    for client in (one, two):
        client.ask(*client.add([7]))
        client.ask(client.tick())
    late, keys = one.pull([7])
    tick = one.tick()
    one.send(tick)  # out of order: waits for the pull
    assert one.answers(tick.seq) == []
    one.send(late, keys)
    assert one.rows(late.seq) == [2.0]
    assert isinstance(one.answers(tick.seq)[0], m.Done)
    two.ask(*two.add([7]))
    two.ask(two.tick())
    one.send(late, keys)  # its answer was lost, and it comes again after its clock
    assert one.answers(late.seq)[-1].error == "ProtocolError"


def test_a_rank_that_runs_ahead_is_held_back_and_goes_on(node: LoneNode) -> None:
    node.service.state.settings = type(node.service.state.settings)(buffer_bytes=1 << 16)
    node.group(2, 0)
    fast, slow = Client.of_rank(node, 0), Client.of_rank(node, 1)
    clocks = 0
    while True:
        write, arrays = fast.add([1, 2, 3])
        fast.send(write, arrays)
        if not fast.answers(write.seq):
            break
        fast.ask(fast.tick())
        clocks += 1
        assert clocks < 1000, "nothing bounds what a node keeps"
    assert node.service.report()["buffered_bytes"] <= 1 << 16
    assert node.service.report()["bytes"] >= node.service.report()["buffered_bytes"] > 0
    fast.send(write, arrays)
    parked = fast.answers(write.seq)[-1]
    assert (type(parked), parked.waiting_for) == (m.Parked, [1])
    behind = fast.tick()
    fast.send(behind)
    assert fast.answers(behind.seq) == [], "what follows a write that waits waits, too"
    for _ in range(clocks):
        slow.ask(slow.tick())
    assert any(isinstance(answer, m.Done) for answer in fast.answers(write.seq))
    slow.ask(slow.tick(finish=True))
    fast.ask(fast.tick(finish=True))
    assert node.values([1, 2, 3]) == [clocks + 1.0] * 3


def test_a_failed_write_of_a_rank_ends_its_group(node: LoneNode, monkeypatch: pytest.MonkeyPatch) -> None:
    node.group(1, UNBOUNDED)
    rank = Client.of_rank(node, 0)
    table = node.service.state.tables.by_id[1]

    def full(*_: object) -> None:
        raise MemoryError("no memory for new rows")

    monkeypatch.setattr(table.index, "resolve", full)
    assert "no memory" in rank.ask(*rank.add([7])).message
    monkeypatch.undo()
    successor = Client(node, 9)
    at = m.Member(GROUP, 0, 2, -1)
    assert "could not be applied" in successor.ask(Numbered(9, successor.next(), 0, m.Takeover(at))).message


@pytest.mark.parametrize("staleness", [0, 1])
def test_a_function_that_writes_is_not_overtaken_by_later_writes_of_its_rank(node: LoneNode, staleness: int) -> None:
    """The rank is ahead of another one: what it writes is taken, as a push is, and a later add comes behind it."""
    node.group(2, staleness)
    writer = Client(node, 5)
    writer.ask(*writer.add([1, 2]))
    one, two = Client.of_rank(node, 0), Client.of_rank(node, 1)
    for _ in range(2):
        one.ask(one.tick())
    call = one.call("scale", alpha=10.0)
    one.send(call)
    one.send(*one.add([1], 5.0, ordinal=1))
    for client in (one, two, two, two):
        client.ask(client.tick())
    node.pool.run()
    assert [type(answer) for answer in one.answers(call.seq)] == [m.Done]
    # BSP: a clock's adds come before its functions.
    assert node.values([1, 2]) == ([60.0, 10.0] if staleness == 0 else [15.0, 10.0])


def test_a_close_that_finds_no_memory_fails_its_group_once_and_for_all(
    node: LoneNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.group(2, 0)
    one, two = Client.of_rank(node, 0), Client.of_rank(node, 1)
    one.ask(*one.add([1]))
    one.ask(one.tick())
    pull, keys = one.pull([1])
    one.send(pull, keys)

    def full(*_: object) -> None:
        raise MemoryError("no memory for a close")

    monkeypatch.setattr(Tables, "use_again", full)
    tick = two.tick()
    two.send(tick)
    monkeypatch.undo()
    assert len(two.answers(tick.seq)) == 1, "answered once"
    assert "could not be closed" in one.answers(pull.seq)[0].message
    assert "could not be closed" in two.ask(two.tick()).message
    assert node.command(c.CloseGroup(0, GROUP)) == [None]


def test_a_write_that_fails_between_its_mark_and_its_place_fails_its_group(
    node: LoneNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.group(1, 1)
    first = Client.of_rank(node, 0)

    def full(*_: object) -> None:
        raise MemoryError("no memory for a part")

    monkeypatch.setattr(Write, "narrowed", full)
    assert "no memory" in first.ask(*first.add([1])).message
    monkeypatch.undo()
    successor = Client(node, 9)
    answer = successor.ask(Numbered(9, successor.next(), 0, m.Takeover(m.Member(GROUP, 0, 2, -1))))
    assert "could not be taken" in answer.message, "a successor's write would be taken for a duplicate"
