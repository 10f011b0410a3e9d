"""What nodes say to each other with one thing wrong in it: it is refused by name, and what is just possible is taken."""

from __future__ import annotations

from itertools import count
from typing import Any

import msgspec
import numpy as np
import pytest

from sparkps.errors import ProtocolError
from sparkps.ps_nodes import state
from sparkps.ps_nodes.replication import entries
from sparkps.ps_nodes.replication.snapshots import check_answer, check_share
from sparkps.ps_nodes.shard_copies import Change, check_slots, checked_rows
from sparkps.ps_nodes.shards import Entry
from sparkps.specs import INFINITE_CLOCK, MAX_RANKS, GroupSpec, TableSpec
from sparkps.wire.buckets import packed
from sparkps.wire.clock import GroupClock
from sparkps.wire.codec import encode
from sparkps.wire.effects import ShardClock
from sparkps.wire.fences import Fences
from sparkps.wire.hashing import buckets_of
from sparkps.wire.marks import MAX_CLOCK, ORDINAL_BITS, ShardMark, stamp_of
from sparkps.wire.messages import control as c
from sparkps.wire.messages import data as m
from sparkps.wire.messages import log
from sparkps.wire.shard_times import check_shard_clock
from tests.harness.hostile_messages import sent
from tests.unit.ps_nodes.lone_node import GROUP, Client, LoneNode, in_order
from tests.unit.ps_nodes.replication.nodes import Nodes

#: Buckets below 128 are led by node 0 and copied by node 1, the others the other way round. So this is led by node 0, and by node 1.
OWN, THEIRS = 100, 200
ALL = (1 << 256) - 1
TABLE, WIDE = 1, 2
SPEC = GroupSpec(GROUP, "g", 2, 2, 0)

# ---- logical time ------------------------------------------------------------------------------------------------------

CLOCK = GroupClock(SPEC, [THEIRS]).export_shard(THEIRS)
LATE = stamp_of(MAX_CLOCK, 0)

IMPOSSIBLE_TIMES: dict[str, dict[str, Any]] = {
    "another bucket": {"bucket": THEIRS + 1},
    "one rank's ticks": {"ticked": [-1]},
    "three ranks' incarnations": {"incarnations": [0, 0, 0]},
    "no rank's ends": {"finished_at": []},
    "one rank's states": {"states": [None]},
    "three ranks' pushes": {"pushed": [-1, -1, -1]},
    "no rank's settles": {"settled": []},
    "a tick before the first": {"ticked": [-2, -1]},
    "a tick too late": {"ticked": [-1, MAX_CLOCK]},
    "a tick after the end": {"ticked": [-1, INFINITE_CLOCK + 1]},
    "an end before the first": {"finished_at": [-2, -1]},
    "an end too late": {"finished_at": [-1, MAX_CLOCK]},
    "a push before the first": {"pushed": [-1, -2]},
    "a push too late": {"pushed": [MAX_CLOCK, -1]},
    "a clock open before the first": {"open_clocks": [-2]},
    "a clock open too late": {"open_clocks": [0, MAX_CLOCK]},
    "an incarnation below none": {"incarnations": [0, -1]},
    "an incarnation above all": {"incarnations": [INFINITE_CLOCK + 1, 0]},
    "a mark of a rank below": {"marks": [ShardMark(-1, TABLE, 0)]},
    "a mark of a rank above": {"marks": [ShardMark(2, TABLE, 0)]},
    "a mark before the first": {"marks": [ShardMark(0, TABLE, -1)]},
    "a mark too late": {"marks": [ShardMark(0, TABLE, LATE)]},
    "a state of a rank below": {"kept_states": [(-1, 0, b"s")]},
    "a state of a rank above": {"kept_states": [(2, 0, b"s")]},
    "a state before the first": {"kept_states": [(0, -2, b"s")]},
    "a state too late": {"kept_states": [(0, MAX_CLOCK, b"s")]},
}

POSSIBLE_TIMES: dict[str, Any] = {
    "ticked": [MAX_CLOCK - 1, INFINITE_CLOCK],
    "incarnations": [0, INFINITE_CLOCK],
    "finished_at": [-1, MAX_CLOCK - 1],
    "pushed": [MAX_CLOCK - 1, -1],
    "open_clocks": [0, MAX_CLOCK - 1],
    "marks": [ShardMark(0, TABLE, 0), ShardMark(1, TABLE, LATE - 1)],
    "kept_states": [(0, -1, b"s"), (1, MAX_CLOCK - 1, None)],
}


def times(**fields: Any) -> ShardClock:
    made: ShardClock = msgspec.structs.replace(CLOCK, **fields)
    return made


@pytest.mark.parametrize("what", IMPOSSIBLE_TIMES)
def test_logical_time_that_cannot_be_is_refused(what: str) -> None:
    clock = times(**IMPOSSIBLE_TIMES[what])
    with pytest.raises(ProtocolError, match=r"Logical time of bucket 200 must be that of the 2 ranks"):
        check_shard_clock(clock, THEIRS, SPEC)
    with pytest.raises(ProtocolError, match=r"Logical time of bucket 200 must be that of the 2 ranks"):
        check_share(log.GroupShare(GROUP, clock, []), THEIRS, SPEC)


@pytest.mark.parametrize("name", POSSIBLE_TIMES)
def test_logical_time_that_can_just_be_is_taken(name: str) -> None:
    check_shard_clock(times(**{name: POSSIBLE_TIMES[name]}), THEIRS, SPEC)


@pytest.mark.parametrize(
    ("spec", "rank", "clock", "ordinal"),
    [
        (SPEC, -1, 0, 0),
        (SPEC, 2, 0, 0),
        (None, MAX_RANKS, 0, 0),
        (SPEC, 0, -1, 0),
        (SPEC, 0, MAX_CLOCK, 0),
        (SPEC, 0, 0, -1),
        (SPEC, 0, 0, 1 << ORDINAL_BITS),
    ],
)
def test_a_kept_write_that_no_rank_has_made_is_refused(spec: GroupSpec | None, rank: int, clock: int, ordinal: int) -> None:
    write = log.KeptWrite(clock, rank, ordinal, m.Op(m.OpCode.PUSH, TABLE))
    with pytest.raises(ProtocolError, match="A write that is kept must be of a rank in"):
        check_share(log.GroupShare(GROUP, CLOCK, [write]), THEIRS, spec)


@pytest.mark.parametrize(("spec", "rank"), [(SPEC, 1), (None, MAX_RANKS - 1)])
def test_a_kept_write_that_a_rank_can_just_have_made_is_taken(spec: GroupSpec | None, rank: int) -> None:
    write = log.KeptWrite(MAX_CLOCK - 1, rank, (1 << ORDINAL_BITS) - 1, m.Op(m.OpCode.PUSH, TABLE))
    check_share(log.GroupShare(GROUP, CLOCK, [write]), THEIRS, spec)


@pytest.mark.parametrize(
    "fields",
    [
        {"group": GROUP + 1},
        {"rank": -1},
        {"rank": 2},
        {"clock": -2},
        {"clock": MAX_CLOCK},
        {"ordinal": -1},
        {"ordinal": 1 << ORDINAL_BITS},
        {"incarnation": INFINITE_CLOCK + 1},
    ],
)
def test_a_member_that_cannot_be_is_refused(fields: dict[str, int]) -> None:
    member = msgspec.structs.replace(m.Member(GROUP, 0, 1, 0), **fields)
    for check in (Fences(SPEC).rank, Fences(SPEC).take):
        with pytest.raises(ProtocolError, match="A member must be of group 1, its rank in"):
            check(member)


def test_a_member_that_can_just_be_is_taken() -> None:
    last = (1 << ORDINAL_BITS) - 1
    assert Fences(SPEC).rank(m.Member(GROUP, 1, INFINITE_CLOCK, MAX_CLOCK - 1, last)) == 1
    assert Fences(SPEC).rank(m.Member(GROUP, 0, INFINITE_CLOCK, -1)) == 0


# ---- changed rows ------------------------------------------------------------------------------------------------------


def array(kind: str, *values: Any) -> np.ndarray:
    return np.array(values, kind)


#: Slots, and rows of two float64 each.
CHANGED: dict[str, tuple[np.ndarray, np.ndarray]] = {
    "slots of 8 bytes": (array("int64", 0, 1), np.ones((2, 2))),
    "slots that are no numbers": (array("float32", 0, 1), np.ones((2, 2))),
    "slots in two dimensions": (np.zeros((1, 1), np.int32), np.ones((1, 2))),
    "one slot without dimensions": (np.int32(0).reshape(()), np.ones((1, 2))),
    "slots that descend": (array("int32", 1, 0), np.ones((2, 2))),
    "a slot twice": (array("int32", 1, 1), np.ones((2, 2))),
    "rows of 4 bytes": (array("int32", 0, 1), np.ones((2, 2), np.float32)),
    "rows of whole numbers": (array("int32", 0, 1), np.ones((2, 2), np.int64)),
    "rows too short": (array("int32", 0, 1), np.ones((2, 1))),
    "rows too long": (array("int32", 0, 1), np.ones((2, 3))),
    "a row too few": (array("int32", 0, 1), np.ones((1, 2))),
    "a row too many": (array("int32", 0, 1), np.ones((3, 2))),
    "rows in one dimension": (array("int32", 0, 1), np.ones(4)),
    "no rows": (array("int32", 0, 1), np.ones((0, 2))),
}  # fmt: skip


@pytest.fixture(scope="module")
def wide() -> Any:
    """A table of two columns, with rows in bucket 200."""
    node = LoneNode()
    spec = TableSpec("wide", "sparse", 2, "float64", table=WIDE, index=WIDE)
    assert node.command(c.CreateTable(0, spec)) == [None]
    client = Client(node, 5)
    message, (keys, _) = client.add(keys_of(THEIRS, 3), table=WIDE)
    assert isinstance(client.ask(message, [keys, np.ones((3, 2))]), m.Done)
    return node.service.state.tables.by_id[WIDE]


def keys_of(bucket: int, count: int) -> list[int]:
    keys = np.arange(20_000)
    return keys[buckets_of(keys) == bucket][:count].tolist()


@pytest.mark.parametrize("what", CHANGED)
def test_changed_rows_that_are_none_of_the_table_are_refused(wide: Any, what: str) -> None:
    with pytest.raises(ProtocolError, match="must be ascending int32 slots and as many rows of 2 float64"):
        checked_rows(wide, *CHANGED[what])


@pytest.mark.parametrize("slots", [[], [0], [0, 2]])
def test_changed_rows_of_the_table_are_taken(wide: Any, slots: list[int]) -> None:
    given = np.array(slots, np.int32), np.ones((len(slots), 2))
    checked_rows(wide, *given)
    check_slots([Change(wide, THEIRS, *given)])


@pytest.mark.parametrize("slots", [[-1], [-9, 1], [-(1 << 31), 0], [3], [0, 3], [(1 << 31) - 1]])
def test_slots_that_are_not_there_are_refused(wide: Any, slots: list[int]) -> None:
    with pytest.raises(ProtocolError, match=r"Changed rows must be in slots \[0, 3\) of bucket 200"):
        check_slots([Change(wide, THEIRS, np.array(slots, np.int32), np.ones((len(slots), 2)))])


@pytest.mark.parametrize(
    "arrays",
    [
        [],
        [array("int64", THEIRS)],
        [array("float32", THEIRS)],
        [array("int32", THEIRS + 1), np.ones(1)],
        [array("int32", THEIRS, THEIRS)],
        [np.full((1, 1), THEIRS, np.int32)],
        [np.zeros(0, np.int32)],
    ],
)
def test_an_answer_that_is_not_of_its_bucket_is_refused(arrays: list[Any]) -> None:
    with pytest.raises(ProtocolError, match="An answer must begin with the number of its bucket, 200"):
        check_answer(arrays, THEIRS)


def test_an_answer_of_its_bucket_is_taken() -> None:
    assert len(check_answer([array("int32", THEIRS), np.ones(1)], THEIRS)) == 2
    assert len(check_answer([array("int32", THEIRS)], THEIRS)) == 1


# ---- a follower --------------------------------------------------------------------------------------------------------


class Scene:
    """Node 0, which leads half of the buckets and copies the others; `ship` is what node 1 says to it."""

    def __init__(self) -> None:
        self.nodes = Nodes([[0, 1]] * 128 + [[1, 0]] * 128, 2)
        self.nodes.table(TABLE)
        self.nodes.everywhere(c.OpenGroup(0, SPEC))
        self.service = self.nodes.services[0]
        self.numbers = count(1)
        self.follower = self.service.state.followers.of(1)
        self.service.receive(b"client", sent(m.Hello(9)))
        self.calls = count(1)
        assert self.add(keys_of(OWN, 2))
        self.ship(log.ShipTakeover(m.Member(GROUP, 0, 1, -1)))
        keys = in_order([*keys_of(THEIRS, 2), *keys_of(THEIRS + 1, 2)])
        self.ship(log.ShipWrite([m.Op(m.OpCode.ADD, TABLE)], [packed(ALL)], 8, 1), keys, np.ones((4, 1)))
        assert self.rows(THEIRS) == [1.0, 1.0]
        assert not self.follower.broken
        self.order = self.service.state.tables.by_id[TABLE].order

    def ship(self, message: log.LogEntry, *arrays: Any) -> bool:
        """Whether node 0 has taken an entry of node 1; one that it has not ends the log."""
        self.service.receive(b"node 1", sent(message, arrays, (1, next(self.numbers), 100)))
        self.nodes.pools[0].run()
        assert not self.service.state.must_end
        return not self.follower.broken

    def add(self, keys: list[int]) -> bool:
        """Whether a client's write is carried out."""
        number = next(self.calls)
        op = m.Op(m.OpCode.ADD, TABLE)
        self.service.receive(b"client", sent(m.Step(1, [op], None, number), [in_order(keys), np.ones((len(keys), 1))], (9, number, 0)))
        self.nodes.deliver()
        return bool(self.nodes.answers[0][b"client"]) and self.nodes.answers[0][b"client"][-1][0].seq == number

    def rows(self, bucket: int) -> list[float]:
        return list(self.nodes.rows(0, bucket).values())

    def is_free(self, bucket: int) -> bool:
        """Whether nothing has its turn in a bucket of the table."""
        done: list[Any] = []
        self.service.state.shards.apply(Entry({self.order: 1 << bucket}, lambda: None, lambda *each: done.append(each)))
        self.nodes.pools[0].run()
        return done == [(None, None)]


@pytest.fixture
def scene() -> Scene:
    return Scene()


def whole(bucket: int, **fields: Any) -> tuple[log.ShipBucket, list[Any]]:
    """A bucket with one row, 7.0, and its arrays."""
    keys = np.array(keys_of(bucket, 1))
    rows = {"bucket": bucket, "indexes": [TABLE], "tables": [[TABLE, TABLE, 0, 1]]}
    message = log.ShipBucket(bucket, 1, [], [log.GroupShare(GROUP, times(bucket=bucket), [])], rows)
    return msgspec.structs.replace(message, **fields), [keys, np.full((1, 1), 7.0)]


def test_a_bucket_as_it_should_be_is_taken(scene: Scene) -> None:
    message, arrays = whole(THEIRS, answers=[(0, 9, 1, 2)])
    assert scene.ship(message, array("int32", THEIRS), np.ones(1), *arrays)
    assert scene.rows(THEIRS) == [7.0]


def test_a_bucket_that_its_sender_does_not_lead_is_refused(scene: Scene) -> None:
    message, arrays = whole(OWN)
    assert not scene.ship(message, *arrays)
    assert scene.rows(OWN) == [1.0, 1.0]
    assert not scene.follower.held >> OWN & 1


@pytest.mark.parametrize("epoch", [0, 2])
def test_a_bucket_of_another_placement_is_not_taken(scene: Scene, epoch: int) -> None:
    message, arrays = whole(THEIRS, epoch=epoch)
    assert scene.ship(message, *arrays), "that may happen to anybody"
    assert scene.rows(THEIRS) == [1.0, 1.0]


@pytest.mark.parametrize("what", ["times", "kept write", "rows", "answer", "no answer", "fewer than none", "bucket"])
def test_a_bucket_with_something_of_another_is_refused(scene: Scene, what: str, caplog: pytest.LogCaptureFixture) -> None:
    message, arrays = whole(THEIRS)
    number = array("int32", THEIRS)
    match what:
        case "times":
            message = msgspec.structs.replace(message, groups=[log.GroupShare(GROUP, times(ticked=[-1]), [])])
        case "kept write":
            write = log.KeptWrite(0, 5, 0, m.Op(m.OpCode.PUSH, TABLE))
            message = msgspec.structs.replace(message, groups=[log.GroupShare(GROUP, CLOCK, [write])])
            arrays = [np.array(keys_of(THEIRS, 1)), np.ones((1, 1)), *arrays]
        case "rows":
            message = msgspec.structs.replace(message, rows={**message.rows, "bucket": THEIRS + 1})
            arrays[0] = np.array(keys_of(THEIRS + 1, 1))
        case "answer":
            message, arrays = msgspec.structs.replace(message, answers=[(0, 9, 1, 1)]), [number + np.int32(1), *arrays]
        case "no answer":
            message = msgspec.structs.replace(message, answers=[(0, 9, 1, 0)])
        case "fewer than none":
            message, arrays = msgspec.structs.replace(message, answers=[(0, 9, 1, -2)]), [number, np.ones(1), *arrays]
        case "bucket":
            message = msgspec.structs.replace(message, bucket=256)
    assert not scene.ship(message, *arrays)
    assert 7.0 not in [*scene.rows(THEIRS), *scene.rows(THEIRS + 1)]
    assert "ProtocolError" in caplog.text, "it was looked at"


def test_a_copy_knows_a_group_that_is_open_however_many_came_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the group has written would be missing in the copy."""
    monkeypatch.setattr(state, "MOST_SPECS", 3)
    scene = Scene()
    for number in range(50, 60):
        scene.nodes.everywhere(c.OpenGroup(0, GroupSpec(number, "g", 1, 1, 0)))
        scene.nodes.everywhere(c.CloseGroup(0, number))
    assert set(scene.service.state.group_specs) == {GROUP, 58, 59}
    scene.follower.groups.clear()  # as where nothing has been copied of its source before
    message, arrays = whole(THEIRS, groups=[log.GroupShare(GROUP, times(ticked=[4, 5]), [])])
    assert scene.ship(message, *arrays)
    assert scene.follower.groups[GROUP].clock.export_shard(THEIRS).ticked == [4, 5]


def test_times_of_a_group_of_which_only_its_copy_is_left_are_looked_at(scene: Scene) -> None:
    assert GROUP in scene.follower.groups
    scene.service.state.group_specs.clear()
    message, arrays = whole(THEIRS, groups=[log.GroupShare(GROUP, times(incarnations=[0, INFINITE_CLOCK + 1]), [])])
    assert not scene.ship(message, *arrays)
    assert 7.0 not in scene.rows(THEIRS)


# ---- functions that have their turn ------------------------------------------------------------------------------------


def test_a_function_has_its_turn_once(scene: Scene) -> None:
    assert scene.ship(log.ShipHold(1, [scene.order], packed(1 << THEIRS)))
    assert not scene.is_free(THEIRS)
    assert not scene.ship(log.ShipHold(1, [scene.order], packed(1 << THEIRS + 1)))
    assert scene.is_free(THEIRS + 1)


def test_no_more_functions_have_their_turn_than_may(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "MOST_HOLDS", 2)
    assert scene.ship(log.ShipHold(1, [scene.order], packed(1 << THEIRS)))
    assert scene.ship(log.ShipHold(2, [scene.order], packed(1 << THEIRS)))
    assert not scene.ship(log.ShipHold(3, [scene.order], packed(1 << THEIRS)))
    assert len(scene.follower.holds) == 2


def test_a_function_of_another_node_keeps_nobody_from_buckets_that_this_one_leads(scene: Scene) -> None:
    assert scene.ship(log.ShipHold(1, [scene.order], packed(ALL)))
    assert not scene.is_free(THEIRS)
    assert scene.is_free(OWN)
    assert scene.add(keys_of(OWN, 2))


SEVEN = (array("int32", 0), np.full((1, 1), 7.0))


def rows_of(*buckets: int, hold: int = 1) -> log.ShipRows:
    return log.ShipRows(hold, [(TABLE, bucket) for bucket in buckets], 8, 5, packed(1 << THEIRS), TABLE)


def test_rows_of_a_function_that_has_its_turn_are_taken(scene: Scene) -> None:
    scene.ship(log.ShipHold(1, [scene.order], packed(1 << THEIRS)))
    assert scene.ship(rows_of(THEIRS), *SEVEN, array("int32", THEIRS), np.ones(1))
    assert sorted(scene.rows(THEIRS)) == [1.0, 7.0]
    assert scene.is_free(THEIRS)


@pytest.mark.parametrize("bucket", [-1, 256, 1 << 40, OWN])
def test_rows_of_buckets_that_are_not_copied_are_left_out(scene: Scene, bucket: int) -> None:
    scene.ship(log.ShipHold(1, [scene.order], packed(ALL)))
    assert scene.ship(rows_of(bucket, THEIRS), *SEVEN, *SEVEN)
    assert sorted(scene.rows(THEIRS)) == [1.0, 7.0]
    assert scene.rows(OWN) == [1.0, 1.0]


REFUSED_ROWS: dict[str, tuple[log.ShipRows, tuple[Any, ...]]] = {
    "of a bucket that is not its turn": (rows_of(THEIRS + 1), SEVEN),
    "of another function": (rows_of(THEIRS, hold=2), SEVEN),
    "without rows": (rows_of(THEIRS), SEVEN[:1]),
    "slots below": (rows_of(THEIRS), (array("int32", -1), SEVEN[1])),
    "slots above": (rows_of(THEIRS), (array("int32", 2), SEVEN[1])),
    "slots of 8 bytes": (rows_of(THEIRS), (array("int64", 0), SEVEN[1])),
    "slots that descend": (rows_of(THEIRS), (array("int32", 1, 0), np.full((2, 1), 7.0))),
    "rows of 4 bytes": (rows_of(THEIRS), (SEVEN[0], SEVEN[1].astype(np.float32))),
    "rows too long": (rows_of(THEIRS), (SEVEN[0], np.full((1, 2), 7.0))),
    "a row too few": (rows_of(THEIRS), (array("int32", 0, 1), SEVEN[1])),
}


@pytest.mark.parametrize("what", REFUSED_ROWS)
def test_rows_that_a_function_cannot_have_written_are_refused_and_its_turn_is_over(
    scene: Scene, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    message, arrays = REFUSED_ROWS[what]
    scene.ship(log.ShipHold(1, [scene.order], packed(1 << THEIRS)))
    before = scene.rows(THEIRS), scene.rows(THEIRS + 1)
    assert not scene.ship(message, *arrays)
    assert (scene.rows(THEIRS), scene.rows(THEIRS + 1)) == before
    assert "ProtocolError" in caplog.text, "it was looked at"
    assert scene.is_free(THEIRS) or message.hold != 1
    assert scene.add(keys_of(OWN, 2))


# ---- other entries -----------------------------------------------------------------------------------------------------


def test_a_call_of_another_node_changes_nothing_in_buckets_that_this_one_leads(scene: Scene) -> None:
    scale = [m.FunctionCall("scale", [TABLE], {"alpha": 3.0})]
    assert scene.ship(log.ShipCall(scale, packed(ALL), 8, 6))
    assert scene.rows(THEIRS) == [3.0, 3.0]
    assert scene.rows(OWN) == [1.0, 1.0]


def test_groups_of_which_this_node_knows_nothing_are_not_remembered_when_they_end(scene: Scene) -> None:
    for number in range(50, 250):
        assert scene.ship(log.ShipEnd(number, False))
    assert not any(scene.follower.has_ended(number) for number in range(50, 250))
    scene.ship(log.ShipEnd(GROUP, False))
    assert scene.follower.has_ended(GROUP)


@pytest.mark.parametrize("node", [0, 2, -1])
def test_a_node_answers_for_itself(scene: Scene, node: int, monkeypatch: pytest.MonkeyPatch) -> None:
    copies, heard = scene.service.state.copies, list[Any]()
    monkeypatch.setattr(copies, "acknowledged", lambda *each: heard.append(each))
    monkeypatch.setattr(copies, "not_kept", lambda *each: heard.append(each))
    for message in (log.Shipped(node, 1, 5, True), log.NotKept(node, 1)):
        scene.service.hear_node(1, encode(message))
    assert heard == []
    assert scene.service.state.memory.full_nodes == set()
    for message in (log.Shipped(1, 1, 5, True), log.NotKept(1, 1)):
        scene.service.hear_node(1, encode(message))
    assert heard == [(1, 1, 5), (1, 1)]
    assert scene.service.state.memory.full_nodes == {1}
