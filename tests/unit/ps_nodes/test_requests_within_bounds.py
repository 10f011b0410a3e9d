"""What a node uses as an index, a count or a size is checked by the node itself; and tables in use outlive their drop."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cloudpickle
import numpy as np
import pytest

from sparkps.ps_nodes import dispatch, functions, io_thread
from sparkps.ps_nodes.handlers import commands
from sparkps.specs import MAX_RANKS, UNBOUNDED, GroupSpec, TableSpec
from sparkps.wire.codec import encode
from sparkps.wire.messages import control as c
from sparkps.wire.messages import data as m
from sparkps.wire.messages.log import ShipForget
from tests.harness.requests import Numbered
from tests.harness.waiting import wait_until
from tests.unit.ps_nodes.lone_node import Client, LoneNode, in_order


@pytest.fixture
def node() -> LoneNode:
    made = LoneNode()
    made.table()
    return made


def dense(node: LoneNode, number: int, size: int) -> int:
    spec = TableSpec(f"d{number}", "dense", 1, "float64", shape=(size,), table=number)
    assert node.command(c.CreateTable(0, spec)) == [None]
    return number


def test_a_fault_of_ours_that_a_message_finds_costs_no_other_message(
    node: LoneNode, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client, before = Client(node, 5), node.service.state.dropped

    def fails(*_: Any) -> None:
        raise KeyError("a fault")

    monkeypatch.setattr(node.service.state.sessions, "open", fails)
    node.service.receive(b"peer", encode(m.Hello(9)))
    monkeypatch.undo()
    assert node.service.state.dropped == before + 1
    assert "KeyError: 'a fault'" in caplog.text
    assert isinstance(client.ask(*client.add([1])), m.Done)


def test_entries_of_nodes_that_there_are_not_leave_nothing_behind(node: LoneNode) -> None:
    for source in range(1, 100):
        node.service.receive(b"peer %d" % source, [bytes(f) for f in encode(ShipForget(1), (), (source, 1, 1))])
    assert not node.service._heard_from
    assert not node.service._told
    assert not list(node.service.state.followers)
    assert not node.answers


def test_a_step_of_thousands_of_pulls_of_one_table_is_refused_before_it_is_read(node: LoneNode) -> None:
    client = Client(node, 5)
    table = dense(node, 9, 1 << 17)  # 1 MiB, 4,094 times
    ops = [m.Op(m.OpCode.PULL, table, stop=256)] * 4094
    answer = client.ask(Numbered(5, client.next(), 0, m.Step(1, ops)))
    assert (answer.error, "maxMessageBytes" in answer.message) == ("ProtocolError", True)


@pytest.mark.parametrize("ops", [0, 4096, 100_000])
def test_a_step_of_no_or_too_many_operations_is_refused(node: LoneNode, ops: int) -> None:
    client = Client(node, 5)
    table = dense(node, 9, 4)
    answer = client.ask(Numbered(5, client.next(), 0, m.Step(1, [m.Op(m.OpCode.PULL, table, stop=256)] * ops)))
    assert answer.error == "ProtocolError"


@pytest.mark.parametrize(("start", "limit"), [(-1, 5), (-(1 << 62), 5), (0, 0), (0, -3)])
@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_an_export_of_impossible_slots_is_refused(node: LoneNode, kind: str, start: int, limit: int) -> None:
    client = Client(node, 5)
    table = 1 if kind == "sparse" else dense(node, 9, 1000)
    client.ask(*client.add([7]))
    answer = client.ask(Numbered(5, client.next(), 0, m.Export(1, table, 3, start, limit)))
    assert answer.error == "ProtocolError"


def test_an_export_may_ask_for_more_than_there_is(node: LoneNode) -> None:
    client = Client(node, 5)
    assert isinstance(client.ask(Numbered(5, client.next(), 0, m.Export(1, 1, 3, 1 << 62, 1 << 62))), m.Done)


def test_a_write_without_the_number_of_its_call_is_refused(node: LoneNode) -> None:
    client = Client(node, 5)
    step = Numbered(5, client.next(), 0, m.Step(1, [m.Op(m.OpCode.ADD, 1)]))
    assert client.ask(step, [np.array([7]), np.ones((1, 1))]).error == "ProtocolError"
    assert node.values([7]) == [0.0]


def test_requests_that_come_far_ahead_are_bounded_and_the_next_one_is_always_taken(node: LoneNode) -> None:
    node.service.state.settings = type(node.service.state.settings)(session_bytes=100_000)
    client = Client(node, 5)
    writes = [client.add(list(range(200))) for _ in range(60)]
    for message, arrays in writes[1:]:
        client.send(message, arrays)
    session = node.service.state.sessions.sessions[5]
    assert session.waiting_bytes <= 100_000
    for _ in range(2):  # what was dropped is sent again
        for message, arrays in writes:
            client.send(message, arrays)
    assert node.values([0, 199]) == [60.0, 60.0]
    assert session.waiting_bytes == 0


def test_a_table_dropped_under_a_write_is_freed_when_the_write_is_done(
    node: LoneNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another table of its index gets new keys meanwhile: there must be room for the write's rows all the same."""
    monkeypatch.setattr(dispatch, "INLINE_BYTES", 0)
    node.table(2, index=1)
    tables = node.service.state.tables
    doomed, index = tables.by_id[2], tables.by_id[1].index
    late, other = Client(node, 5), Client(node, 6)
    message, arrays = late.add(list(range(3_000)), table=2)
    entries = []
    monkeypatch.setattr(node.service.state.shards, "carry_out", entries.append)
    late.send(message, arrays)
    node.pool.run()
    monkeypatch.undo()
    monkeypatch.setattr(dispatch, "INLINE_BYTES", 1 << 30)
    node.drop(2)
    assert doomed in index._tables, "somebody works on it"
    node.table(3, index=1)
    grow, more = other.add(list(range(100_000, 140_000)), table=3)
    other.send(grow, more)
    assert not other.answers(grow.seq), "slots of an index are given in one order"
    for entry in entries:
        node.service.state.shards.carry_out(entry)
    node.pool.run()
    assert isinstance(late.answers(message.seq)[0], m.Done)
    assert isinstance(other.answers(grow.seq)[0], m.Done)
    assert doomed not in index._tables
    index.validate()
    assert "It was dropped" in late.ask(*late.add([1], table=2)).message


def test_a_pull_of_a_table_that_is_dropped_meanwhile_ends_in_good_order(
    node: LoneNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.table(2, index=1)
    client = Client(node, 5)
    client.ask(*client.add([7], table=2))
    tables = node.service.state.tables
    table = tables.by_id[2]
    gathered = type(table).gather

    def gather_after_the_drop(self: object, *args: object, **more: object) -> object:
        node.drop(2)
        assert table in table.index._tables
        return gathered(self, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(type(table), "gather", gather_after_the_drop)
    monkeypatch.setattr(dispatch, "INLINE_BYTES", 0)
    message, keys = client.pull([7], table=2)
    client.send(message, keys)
    node.pool.run()
    monkeypatch.undo()
    assert client.rows(message.seq) == [1.0]
    assert table not in table.index._tables


def test_what_a_pool_thread_tells_is_told_by_the_io_thread(node: LoneNode, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(io_thread.threading, "get_ident", lambda: -1)
    node.service.io.post(lambda: told.append("a"))
    node.service.io.post(lambda: 1 / 0)
    node.service.io.post(lambda: told.append("b"))
    assert told == []
    node.service.io.run_posted()
    assert told == ["a", "b"]


def test_a_request_that_cannot_be_understood_is_answered_and_holds_up_nobody(node: LoneNode) -> None:
    node.service.state.settings = type(node.service.state.settings)(max_message_bytes=1 << 20)
    client = Client(node, 5)
    large, keys = client.add(list(range(80_000)))
    after, arrays = client.add([7])
    client.send(after, arrays)
    client.send(large, keys)
    (refused,) = client.answers(large.seq)
    assert (refused.error, "maxMessageBytes" in refused.message) == ("ProtocolError", True)
    assert isinstance(client.answers(after.seq)[0], m.Done)
    assert node.values([7, 8]) == [1.0, 0.0]


def test_writes_that_are_held_back_do_not_keep_the_node_from_reading(node: LoneNode) -> None:
    """What frees them must still be read: their bytes do not count as work that the node has to finish first."""
    node.service.state.settings = type(node.service.state.settings)(buffer_bytes=1 << 16)
    node.group(2, 0)
    fast, slow = Client.of_rank(node, 0), Client.of_rank(node, 1)
    fast.ask(fast.tick())
    writes = [fast.add(list(range(8_000)), ordinal=number) for number in range(3)]
    for message, arrays in writes:
        fast.send(message, arrays)
    assert fast.answers(writes[0][0].seq) == []
    dispatcher, session = node.service.dispatcher, node.service.state.sessions.sessions[fast.number]
    assert session.line_bytes > 3 * 8_000 * 16
    assert dispatcher.queued_bytes == 0
    slow.ask(slow.tick())
    node.pool.run()
    assert all(isinstance(fast.answers(message.seq)[-1], m.Done) for message, _ in writes)
    assert dispatcher.queued_bytes == session.line_bytes == session.held == 0


def test_pushes_behind_a_user_s_function_do_not_keep_the_node_from_reading(
    node: LoneNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, begun = threading.Event(), threading.Event()

    def waits(shard: object) -> None:
        begun.set()
        gate.wait(20)

    monkeypatch.setitem(functions._users, "waits", waits)
    client, other = Client(node, 5), Client(node, 6)
    call = client.call("waits", limit=30.0)
    client.send(call)
    node.pool.run()
    assert begun.wait(10)
    push, arrays = other.add(list(range(8_000)))
    other.send(push, arrays)
    node.pool.run()
    assert other.answers(push.seq) == []
    assert node.service.dispatcher.queued_bytes == 0
    free, arrays = other_table(node, 7)
    assert isinstance(free.ask(*arrays), m.Done), "another table waits for nobody's function"
    gate.set()
    assert wait_until(lambda: node.service.io.posted or node.pool.waiting or bool(client.answers(call.seq)), 10)
    assert wait_until(lambda: settled(node, client, call.seq, other, push.seq), 10)
    assert node.service.dispatcher.queued_bytes == 0


def other_table(node: LoneNode, number: int) -> tuple[Client, tuple[object, list[np.ndarray]]]:
    node.table(number)
    client = Client(node, 100 + number)
    return client, client.add([1], table=number)


def settled(node: LoneNode, one: Client, seq: int, other: Client, after: int) -> bool:
    node.service.io.run_posted()
    node.pool.run()
    return bool(one.answers(seq)) and bool(other.answers(after))


def test_a_function_whose_caller_gave_up_while_it_waited_for_its_turn_is_not_begun(
    node: LoneNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []
    client, other = Client(node, 5), Client(node, 6)
    entries: list[Any] = []
    monkeypatch.setattr(dispatch, "INLINE_BYTES", 0)
    monkeypatch.setattr(node.service.state.shards, "carry_out", entries.append)
    other.send(*other.add([7]))
    node.pool.run()  # has its turn, and takes its time
    monkeypatch.undo()
    monkeypatch.setitem(functions._users, "counts", lambda shard: begun.append(shard.bucket))
    call = client.call("counts", limit=2.0)
    client.send(call)
    node.pool.run()
    node.time = 3.0
    node.service.state.shards.carry_out(entries.pop())
    node.pool.run()
    (answer,) = client.answers(call.seq)
    assert (answer.error, "'counts'" in answer.message) == ("DeadlineExceeded", True)
    assert begun == []


def test_key_sets_change_on_the_io_thread_alone(node: LoneNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "INLINE_BYTES", 0)
    client = Client(node, 5)
    register = Numbered(5, client.next(), 0, m.Register(1, 1, 77, 0, 3))
    client.send(register, [in_order([1, 2, 3])])
    session = node.service.state.sessions.sessions[5]
    node.pool.service = None  # it tells nothing until the I/O thread looks
    with ThreadPoolExecutor(1) as thread:
        thread.submit(node.pool.run).result()
    assert session.keysets == {}
    node.service.io.run_posted()
    assert list(session.keysets) == [77]
    assert isinstance(client.answers(register.seq)[0], m.Done)


def test_loading_a_user_s_function_keeps_nobody_waiting(node: LoneNode) -> None:
    told: list[BaseException | None] = []
    commands.command(node.service.state, c.RegisterFunction(0, "slow", cloudpickle.dumps(SlowToLoad())), told.append)
    client = Client(node, 5)
    assert isinstance(client.ask(*client.add([1])), m.Done)
    assert told == []
    LOADING.set()
    assert wait_until(lambda: bool(told), 10)
    assert told == [None]


LOADING = threading.Event()


class SlowToLoad:
    """Stands for a function whose module takes its time to be imported."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _loaded, ()


def _loaded() -> Any:
    LOADING.wait(20)
    return len


def test_a_session_with_a_hole_in_its_numbers_is_forgotten_like_others(node: LoneNode) -> None:
    node.service.state.sessions.ttl = 100.0
    for number in range(10, 20):
        client = Client(node, number)
        client.next()  # lost, and its client with it
        client.send(*client.add(list(range(2_000))))
    node.time = 101.0
    node.service.look_around()
    assert not node.service.state.sessions.sessions


def test_a_good_bye_behind_writes_under_way_leaves_no_mark_for_ever(
    node: LoneNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "INLINE_BYTES", 0)
    client = Client(node, 5)
    client.send(*client.add([7]))
    client.send(m.Bye(5))
    node.pool.run()
    assert node.values([7]) == [1.0]
    node.service.state.sessions.ttl = 10.0
    node.time = 11.0
    node.service.look_around()
    assert len(node.service.state.shards.marks) == 0


def test_the_report_of_the_largest_group_fits_into_a_message(node: LoneNode) -> None:
    assert node.command(c.OpenGroup(0, GroupSpec(1, "large", MAX_RANKS, MAX_RANKS, UNBOUNDED))) == [None]
    assert encode(c.Heartbeat(1, 0, node.service.report()))
