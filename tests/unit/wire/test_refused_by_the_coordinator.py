"""What the coordinator is told with one thing wrong in it: refused by name, nothing has changed, and what is just possible is taken."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from sparkps.config import MOST_NODES
from sparkps.driver_bridge.coordinator import tier
from sparkps.driver_bridge.coordinator.catalog import MAX_TABLES
from sparkps.driver_bridge.coordinator.commands import Commands
from sparkps.driver_bridge.coordinator.handlers.checkpoints import LONGEST_ID, LONGEST_URL
from sparkps.driver_bridge.coordinator.handlers.tokens import LONGEST_TOKEN, MOST_ADDRESSES, MOST_SERVICES
from sparkps.driver_bridge.coordinator.leases import LONGEST_PROCESS, NO_ATTEMPT
from sparkps.driver_bridge.coordinator.reports import (
    MAX_COUNTERS_BYTES,
    check_counters,
    checked_report,
    clocks_of,
    part_of,
)
from sparkps.errors import InvalidInput, SparkPSError, TierError
from sparkps.plain import LONGEST_NAME, LONGEST_TEXT
from sparkps.specs import INFINITE_CLOCK, TableSpec
from sparkps.wire.messages import control as c
from tests.unit.driver_bridge.coordinator.world import DRIVER, WORKER, World, admit, ready

# ---- checkpoints -------------------------------------------------------------------------------------------------------

URL, ID = "file:/tmp/checkpoints", "00000001-aaaaaaaa"

WRONG_NAMES = {
    "no URL": ("", ID),
    "a long URL": ("x" * (LONGEST_URL + 1), ID),
    "a URL of two lines": ("file:/tmp\n/x", ID),
    "no id": (URL, ""),
    "a long id": (URL, "x" * (LONGEST_ID + 1)),
    "an id with a slash": (URL, "a/b"),
    "an id with another slash": (URL, "a\\b"),
    "an id that is absolute": (URL, "/etc"),
    "the folder above": (URL, ".."),
    "a hidden id": (URL, ".hidden"),
    "an id of two lines": (URL, "a\nb"),
    "an id with a zero": (URL, "a\x00b"),
}

RIGHT_NAMES = [("x" * LONGEST_URL, ID), (URL, "x" * LONGEST_ID), (URL, "a.b"), (URL, "a..b"), ("u", "i")]


def asked(url: str, checkpoint: str) -> dict[str, c.ControlMessage]:
    """By who looks at the names, a request with them."""
    return {
        "taken": c.TakeCheckpoint(0, url, checkpoint),
        "written": c.CheckpointTaken(0, url, checkpoint, {"1": 3}, 100, 0.5),
        "restored": c.RestoreCheckpoint(0, url, checkpoint, []),
    }


def is_idle(world: World) -> bool:
    return world.tier.checkpointing is None and world.tier.last_checkpoint is None


@pytest.mark.parametrize("what", WRONG_NAMES)
@pytest.mark.parametrize("how", ["taken", "written", "restored"])
def test_a_checkpoint_has_a_name_that_can_be_that_of_a_file(how: str, what: str) -> None:
    world = ready()
    with pytest.raises(InvalidInput, match="A checkpoint must be at a URL of 1 to 4096 characters, and have an id of 1 to 256"):
        world.ask(DRIVER, asked(*WRONG_NAMES[what])[how])
    assert is_idle(world)


@pytest.mark.parametrize("names", RIGHT_NAMES)
@pytest.mark.parametrize("how", ["taken", "written", "restored"])
def test_other_names_are_taken(how: str, names: tuple[str, str]) -> None:
    world = ready()
    world.ask(DRIVER, asked(*names)[how])
    assert not is_idle(world)


@pytest.mark.parametrize("what", [what for what, (_, name) in WRONG_NAMES.items() if name not in ("", ID)])
def test_a_checkpoint_goes_on_from_one_that_can_be(what: str) -> None:
    world = ready()
    with pytest.raises(InvalidInput, match="A checkpoint must be at a URL"):
        world.ask(DRIVER, c.TakeCheckpoint(0, URL, ID, WRONG_NAMES[what][1]))
    assert is_idle(world)


@pytest.mark.parametrize("base", ["", "00000000-bbbbbbbb", "x" * LONGEST_ID])
def test_a_checkpoint_goes_on_from_none_or_another(base: str) -> None:
    world = ready()
    world.ask(DRIVER, c.TakeCheckpoint(0, URL, ID, base))
    assert not is_idle(world)


def tables(count: int) -> list[TableSpec]:
    return [TableSpec(f"t{number}", "sparse", 1) for number in range(count)]


@pytest.mark.parametrize(
    ("specs", "words"),
    [
        (tables(MAX_TABLES + 1), f"A checkpoint must have at most {MAX_TABLES} tables. Got {MAX_TABLES + 1}."),
        ([TableSpec("n", "sparse", 0)], "dim"),
        ([*tables(2), TableSpec("n", "sparse", 1, shape=(3,))], "shape"),
        ([TableSpec("n", "sparse", 1, table=-1)], "table"),
        ([TableSpec("n", "sparse", 1, index=-1)], "index"),
        ([TableSpec("n", "sparse", 1, table=1 << 63)], "table"),
    ],
    ids=["too many", "no columns", "a shape", "a table below", "an index below", "a table above"],
)
def test_tables_are_restored_that_can_be(specs: list[TableSpec], words: str) -> None:
    world = ready()
    with pytest.raises(InvalidInput) as raised:
        world.ask(DRIVER, c.RestoreCheckpoint(0, URL, ID, specs))
    assert words in str(raised.value)
    assert is_idle(world)


def test_as_many_tables_are_restored_as_there_may_be() -> None:
    world = ready()
    world.ask(DRIVER, c.RestoreCheckpoint(0, URL, ID, tables(MAX_TABLES)))
    assert not is_idle(world)


# ---- reports -----------------------------------------------------------------------------------------------------------


def test_clocks_that_cannot_be_are_left_out_of_what_a_node_says() -> None:
    right = {"1": -1, "2": 0, "3": INFINITE_CLOCK, "9" * 20: 5}
    wrong: list[tuple[Any, Any]] = [("4", -2), ("4", INFINITE_CLOCK + 1), ("4", "3"), ("4", True), ("4", 3.0)]
    for group, clock in [*wrong, ("x", 3), ("", 3), (4, 3), ("9" * 21, 3)]:
        assert clocks_of({"clocks": {**right, group: clock}}) == right
    for clocks in ([], None, "x", [["1", 3]]):
        assert clocks_of({"clocks": clocks}) == {}
    assert clocks_of({}) == {}


def test_a_part_of_a_checkpoint_is_bytes() -> None:
    assert part_of({"part": b"x"}) == b"x"
    assert part_of({"part": b""}) == b""
    for part in ("x", 3, ["x"], {"a": 1}, True, None):
        assert part_of({"part": part}) is None


@pytest.mark.parametrize("bucket", [-1, 256, 1 << 40, True, 0.0, "0", None])
def test_the_load_of_a_node_is_of_buckets_that_there_are(bucket: Any) -> None:
    load = {"buckets": [0, 255], "bytes": [1, 2], "requests": [0.5, 1.0]}
    assert checked_report({"load": load}) == {"load": load}
    assert checked_report({"load": {**load, "buckets": [0, bucket]}}) == {"load": {}}


def filled(nbytes: int) -> dict[str, Any]:
    """What a rank reports, of so many bytes."""
    return {"a": "x" * (nbytes - len(msgspec.msgpack.encode({"a": "x" * 300})) + 300)}


WRONG_COUNTERS: dict[str, dict[str, Any]] = {
    "too much": filled(MAX_COUNTERS_BYTES + 1),
    "a clock before the first": {"clock": -2},
    "a clock after the last": {"clock": INFINITE_CLOCK + 1},
    "a clock of text": {"clock": "3"},
    "a clock that is true": {"clock": True},
    "half a clock": {"clock": 0.5},
    "no clock": {"clock": None},
    "a time of text": {"waited_seconds": "3"},
    "a time that is no number": {"waited_seconds": math.nan},
    "a time without end": {"waited_seconds": math.inf},
    "a time that is true": {"waited_seconds": True},
    "no time": {"waited_seconds": None},
}

RIGHT_COUNTERS: list[dict[str, Any]] = [
    {},
    filled(MAX_COUNTERS_BYTES),
    {"clock": -1},
    {"clock": INFINITE_CLOCK},
    {"waited_seconds": 0},
    {"waited_seconds": 0.5, "loss": math.inf},
]


def leased() -> World:
    """Rank 0 of group 1 is held by attempt 7, which has said that its clock is 3."""
    world = ready()
    admit(world, "one", 2)
    world.ask(WORKER, c.Lease(0, 1, 0, 7))
    world.ask(WORKER, c.Renew(0, 1, 0, 7, {"clock": 3}))
    return world


@pytest.mark.parametrize("what", WRONG_COUNTERS)
def test_what_a_rank_reports_has_the_form_in_which_it_is_read(what: str) -> None:
    counters = WRONG_COUNTERS[what]
    with pytest.raises(InvalidInput, match="What a rank reports must have at most 8192 bytes"):
        check_counters(counters)
    world = leased()
    rank = world.tier.groups.running[1].ranks[0]
    for message in (c.Renew(0, 1, 0, 7, counters), c.FinishRank(0, 1, 0, 7, b"result", counters)):
        with pytest.raises(InvalidInput, match="What a rank reports must have at most 8192 bytes"):
            world.ask(WORKER, message)
        assert (rank.counters, rank.finished, rank.result) == ({"clock": 3}, False, None)


@pytest.mark.parametrize("counters", RIGHT_COUNTERS)
def test_what_a_rank_may_just_report_is_taken(counters: dict[str, Any]) -> None:
    check_counters(counters)
    world = leased()
    world.ask(WORKER, c.Renew(0, 1, 0, 7, counters))
    rank = world.tier.groups.running[1].ranks[0]
    assert rank.counters == (counters or {"clock": 3})
    world.ask(WORKER, c.FinishRank(0, 1, 0, 7, b"result", counters))
    assert (rank.finished, rank.result) == (True, b"result")


def test_a_node_speaks_for_itself_of_those_that_it_cannot_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    world, cut_off = ready(), list[Any]()
    monkeypatch.setattr(tier.moving, "cut_off", lambda core, node, silent: cut_off.append((node, silent)))
    for sender in (b"stranger", b"n1", DRIVER):
        world.deliver(sender, c.Heartbeat(5, 0, {"silent_replicas": [1]}))
    assert cut_off == []
    world.deliver(b"n0", c.Heartbeat(5, 0, {"silent_replicas": [1]}))
    assert cut_off == [(0, [1])]


# ---- ranks and causes --------------------------------------------------------------------------------------------------

LONG = "x" * (LONGEST_PROCESS + 1)


@pytest.mark.parametrize(
    ("attempt", "process", "gone"), [(8, LONG, ""), (8, "", LONG), (NO_ATTEMPT, "", ""), (-4, "", ""), (-(1 << 62), "", "")]
)
def test_an_attempt_has_a_number_and_a_process_that_can_be(attempt: int, process: str, gone: str) -> None:
    world = leased()
    with pytest.raises(InvalidInput, match=r"An attempt must have a number from 0, -1 or -3, and its process a name of at most 512"):
        world.ask(WORKER, c.Lease(0, 1, 1, attempt, process, gone))
    assert world.tier.groups.running[1].ranks[1].attempt == NO_ATTEMPT


def test_an_attempt_whose_process_has_the_longest_name_gets_its_rank() -> None:
    world = leased()
    assert isinstance(world.ask(WORKER, c.Lease(0, 1, 1, 0, LONG[1:], LONG[1:])), c.Leased)
    assert world.tier.groups.running[1].ranks[1].process == LONG[1:]


HUGE = c.Cause("WorkerFailed", "m" * (1 << 20), {"rank": 0, "traceback": "t" * (1 << 20), **{f"k{n}": n for n in range(5000)}})


def is_cut(cause: c.Cause | None) -> bool:
    assert cause is not None
    assert cause.error == "WorkerFailed"
    return len(cause.message) <= LONGEST_TEXT and len(msgspec.msgpack.encode(cause)) < 1 << 18


def test_the_cause_with_which_a_rank_fails_its_group_is_as_large_as_one_may_be() -> None:
    world = leased()
    world.ask(WORKER, c.FailRank(0, 1, 0, 7, HUGE))
    assert is_cut(world.tier.groups.running[1].cause)
    assert is_cut(next(message.cause for message in world.commands[b"n0"] if isinstance(message, c.FailGroup)))


def test_the_cause_with_which_a_node_refuses_a_command_is_as_large_as_one_may_be() -> None:
    commands, told = Commands(), list[c.Cause | None]()
    number = commands.start("Something", [0, 1], lambda cause, _: told.append(cause), 0.0, 5.0)
    commands.answered(c.CommandDone(number, 0, HUGE, {}))
    assert is_cut(commands.under_way[number].cause)
    commands.answered(c.CommandDone(number, 1, None, {}))
    assert is_cut(told[0])


# ---- tokens ------------------------------------------------------------------------------------------------------------

SERVICE, SECRET, ADDRESS = "nn:8020", "abc", "http://nn:9870"

WRONG_TOKENS = {
    "without a service": c.NodeToken("", SECRET, [ADDRESS]),
    "of a long service": c.NodeToken("s" * (LONGEST_TOKEN + 1), SECRET, [ADDRESS]),
    "too long": c.NodeToken(SERVICE, "t" * (LONGEST_TOKEN + 1), [ADDRESS]),
    "with a long address": c.NodeToken(SERVICE, SECRET, [ADDRESS, "a" * (LONGEST_TOKEN + 1)]),
    "with many addresses": c.NodeToken(SERVICE, SECRET, [ADDRESS] * (MOST_ADDRESSES + 1)),
}


@pytest.mark.parametrize("what", WRONG_TOKENS)
def test_a_token_that_is_too_large_goes_to_nobody(what: str) -> None:
    world = ready()
    with pytest.raises(InvalidInput, match="A delegation token must have a service, at most 64 addresses, and 65536 characters in each"):
        world.ask(DRIVER, c.GiveToken(0, WRONG_TOKENS[what]))
    assert world.tier.tokens == {}
    assert not any(isinstance(message, c.TakeTokens) for message in world.commands.get(b"n0", []))


@pytest.mark.parametrize(
    "token",
    [
        c.NodeToken("s" * LONGEST_TOKEN, "t" * LONGEST_TOKEN, ["a" * LONGEST_TOKEN]),
        c.NodeToken(SERVICE, SECRET, [ADDRESS] * MOST_ADDRESSES),
        c.NodeToken("s", "", []),
    ],
    ids=["long", "many addresses", "short"],
)
def test_a_token_that_is_just_small_enough_goes_to_all_nodes(token: c.NodeToken) -> None:
    world = ready()
    assert isinstance(world.ask(DRIVER, c.GiveToken(0, token)), c.Accepted)
    assert world.commands[b"n0"][-1].tokens == [token]


def test_a_tier_has_tokens_of_so_many_services() -> None:
    world = ready()
    for number in range(MOST_SERVICES):
        assert isinstance(world.ask(DRIVER, c.GiveToken(0, c.NodeToken(f"s{number}", SECRET, []))), c.Accepted)
    with pytest.raises(InvalidInput, match="A tier must have tokens of at most 256 services. Got one more, 'one more'"):
        world.ask(DRIVER, c.GiveToken(0, c.NodeToken("one more", SECRET, [])))
    assert isinstance(world.ask(DRIVER, c.GiveToken(0, c.NodeToken("s0", "another", []))), c.Accepted)
    assert len(world.tier.tokens) == MOST_SERVICES
    assert world.tier.tokens["s0"].text == "another"


# ---- the tier ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, -1, MOST_NODES + 1, 1 << 40])
def test_a_tier_is_scaled_to_a_number_of_nodes_that_it_can_have(number: int) -> None:
    world = ready()
    with pytest.raises(InvalidInput, match=f"`num_nodes` must be between `replication`, 1, and {MOST_NODES}. Got {number} instead"):
        world.ask(DRIVER, c.ScaleTier(0, number, 5.0))
    assert (world.tier.scaling, world.tier.wanted_nodes) == (None, 2)


@pytest.mark.parametrize("number", [1, MOST_NODES])
def test_a_tier_is_scaled_to_the_least_and_to_the_most_nodes(number: int) -> None:
    world = ready()
    world.ask(DRIVER, c.ScaleTier(0, number, 5.0))
    assert world.tier.wanted_nodes == number


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("how", ["scaled", "drained"])
def test_a_tier_is_scaled_within_a_time_that_ends(how: str, seconds: float) -> None:
    world = ready()
    with pytest.raises(InvalidInput, match=f"A time limit must be a positive number of seconds. Got {seconds} instead"):
        world.ask(DRIVER, c.ScaleTier(0, 3, seconds) if how == "scaled" else c.DrainNode(0, 1, seconds))
    assert (world.tier.scaling, world.tier.wanted_nodes, world.tier.retiring) == (None, 2, set())


@pytest.mark.parametrize("seconds", [1e-9, 1e300])
def test_a_tier_is_scaled_within_any_other_time(seconds: float) -> None:
    world = ready()
    world.ask(DRIVER, c.ScaleTier(0, 3, seconds))
    assert world.tier.scaling is not None


def test_the_name_of_another_tier_is_cut_where_it_is_told() -> None:
    world = ready()
    with pytest.raises(TierError, match="A table handle must belong to the running tier, 't1'") as raised:
        world.ask(DRIVER, c.Attach(0, "another" * 10_000))
    assert len(str(raised.value)) < 2 * LONGEST_NAME
    with pytest.raises(SparkPSError, match="It belongs to 't2', which has stopped"):
        world.ask(DRIVER, c.Attach(0, "t2"))
    assert isinstance(world.ask(DRIVER, c.Attach(0, "t1")), c.Attached)
