"""What may happen to a tier in which state: every pair is in the table, and the tier does what the table says."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from sparkps.driver_bridge.coordinator.states import TRANSITIONS, Event, Own, Refusal, TierState
from sparkps.driver_bridge.coordinator.tier import HANDLERS
from sparkps.errors import SparkPSError
from sparkps.specs import TableSpec
from sparkps.wire.messages import control as c
from sparkps.wire.messages.control.answers import ANSWERS
from tests.unit.driver_bridge.coordinator.world import World

CLIENT = b"client"

#: One message of each kind, which changes nothing else than the table says.
SAMPLES: dict[type, Any] = {
    type(sample): sample
    for sample in (
        c.NodeHello(0, "ipc://n9", "host", 109), c.NodeGone(0, "ipc://nobody", "exit 1"), c.Heartbeat(0, 9), c.CommandDone(99, 0),
        c.Attach(0), c.CreateTable(0, TableSpec("t", "sparse", 1)), c.FindTable(0, "t"), c.DropTable(0, "t", 1),
        c.RegisterFunction(0, "f", b"blob"), c.AdmitGroup(0, "g", 1, 1, 0, 1, "tag"), c.EndGroup(0, 1), c.Lease(0, 1, 0, 0),
        c.Renew(0, 1, 0, 0), c.Meet(0, 1, 0, 0),
        c.ReleaseRank(0, 1, 0, 0), c.FinishRank(0, 1, 0, 0), c.FailRank(0, 1, 0, 0, c.Cause("TierError", "x")),
        c.GroupState(0, 1), c.ScaleTier(0, 3, 60.0), c.DrainNode(0, 0, 60.0), c.TierStatus(0), c.StopTier(0),
        c.AskToStop(0), c.CloseTier(0),
        c.TakeCheckpoint(0, "/x", "00000001-00000000"), c.CheckpointTaken(0, "/x", "00000001-00000000", {}, 1, 1.0),
        c.RestoreCheckpoint(0, "/x", "00000001-00000000", []), c.FetchLog(0, 0),
        c.LogLines(0, "node 0 on host", [c.LogLine(20, "sparkps", "said")]), c.FindDueTokens(0),
        c.GiveToken(0, c.NodeToken("host:8020", "secret", ["http://host:9870"])),
    )
}  # fmt: skip


def world_in(state: TierState) -> World:
    """A tier of three nodes that has come to `state`; node 2 answers no command from then on."""
    world = World(num_nodes=3)
    world.deaf = {b"n2"} if state is TierState.STARTING else set()
    for number in (2,) if state is TierState.STARTING else (0, 1, 2):
        world.join(number)
    world.deaf = {b"n2", CLIENT}
    if state is TierState.DEGRADED:
        world.ask(b"launcher", c.NodeGone(0, "ipc://n1", "killed"))
    elif state in (TierState.STOPPING, TierState.STOPPED):
        world.ask(b"driver", c.StopTier(0))
    if state is TierState.STOPPED:
        world.later(3.0)
    assert world.tier.state is state
    return world


def test_the_table_is_total() -> None:
    assert set(TRANSITIONS) == set(HANDLERS) | set(Own)
    assert set(SAMPLES) == set(HANDLERS)
    assert all(set(row) == set(TierState) for row in TRANSITIONS.values())


def test_whoever_asks_knows_what_the_answer_may_be() -> None:
    assert set(ANSWERS) == set(HANDLERS) - {c.Heartbeat, c.CommandDone, c.LogLines}


def test_the_table_says_what_is_meant() -> None:
    """Written out once more: a table that is held against itself alone may say anything."""
    making, using = {c.CreateTable, c.RegisterFunction, c.AdmitGroup, c.TakeCheckpoint}, {
        c.FindTable, c.DropTable, c.EndGroup, c.Lease, c.Renew, c.Meet, c.ReleaseRank, c.FinishRank, c.FailRank, c.GroupState,
        c.ScaleTier, c.DrainNode, c.CheckpointTaken, c.RestoreCheckpoint, c.GiveToken, c.CloseTier,
    }  # fmt: skip
    anywhere = {c.NodeGone, c.Heartbeat, c.CommandDone, c.TierStatus, c.AskToStop, c.LogLines, c.FetchLog, c.FindDueTokens}

    def allowed(state: TierState) -> set[Event]:
        return {event for event in TRANSITIONS if isinstance(TRANSITIONS[event][state], TierState)}

    ending = {c.StopTier, Own.STOP}
    assert allowed(TierState.STARTING) == anywhere | ending | {c.NodeHello, c.Attach, Own.PLACED, Own.LOST}
    assert allowed(TierState.READY) == anywhere | ending | making | using | {c.NodeHello, c.Attach, Own.LOST, Own.WHOLE}
    left = using | {c.NodeHello, c.Attach, Own.LOST, Own.WHOLE}
    assert allowed(TierState.DEGRADED) == anywhere | ending | left, "what is left can be used and tidied up"
    over = anywhere | ending | {Own.PLACED, Own.LOST, Own.WHOLE, Own.STOPPED}
    assert allowed(TierState.STOPPING) == allowed(TierState.STOPPED) == over
    moves = {
        (event, before): after
        for event, row in TRANSITIONS.items()
        for before, after in row.items()
        if isinstance(after, TierState) and after is not before
    }
    assert moves == {
        (Own.PLACED, TierState.STARTING): TierState.READY,
        (Own.LOST, TierState.READY): TierState.DEGRADED,
        (Own.WHOLE, TierState.DEGRADED): TierState.READY,
        (Own.STOPPED, TierState.STOPPING): TierState.STOPPED,
        **{(event, state): TierState.STOPPING for event in ending for state in (TierState.STARTING, TierState.READY, TierState.DEGRADED)},
    }
    assert {event for event in TRANSITIONS if TRANSITIONS[event][TierState.DEGRADED] is Refusal.LOST} == making


def name(value: Any) -> str:
    return value.__name__ if isinstance(value, type) else str(value.name if isinstance(value, Own) else value)


def do(world: World, event: Event) -> SparkPSError | None:
    """Let `event` happen; what it was refused with."""
    try:
        if isinstance(event, Own):
            world.tier.enter(event)
        elif event in (c.Heartbeat, c.CommandDone, c.LogLines):
            world.deliver(CLIENT, SAMPLES[event])
        else:
            world.ask(CLIENT, SAMPLES[event])
    except SparkPSError as error:
        return error
    return None


@pytest.mark.parametrize(("state", "event"), list(product(TierState, TRANSITIONS)), ids=name)
def test_the_tier_follows_the_table(state: TierState, event: Event) -> None:
    world = world_in(state)
    outcome, refusals = TRANSITIONS[event][state], {}
    for why in Refusal:
        if why is not Refusal.LOST or world.tier.nodes.lost():
            refusals[world.tier.refusal(why).message] = why
    error = do(world, event)
    if isinstance(outcome, Refusal):
        assert error is not None
        assert refusals[error.message] is outcome
        assert " must " in error.message
        assert world.tier.state is state
    else:
        assert error is None or error.message not in refusals, "a part of the tier may refuse it, the table does not"
        assert world.tier.state is outcome
