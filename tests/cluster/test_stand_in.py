"""The rank of a lost worker is finished in its place: by the messages that any successor sends."""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import sys

import pytest

from sparkps import WorkerLost
from sparkps.client.session import Session
from sparkps.driver_bridge.groups.rank_task import result_stored, stored_result
from sparkps.driver_bridge.groups.stand_in import StandIn
from sparkps.errors import Fenced
from sparkps.specs import GroupSpec
from sparkps.wire.messages.control import FinishRank, GroupState, Lease, Leased, Recorded
from tests.cluster.conftest import Tier


@pytest.fixture(scope="module")
def gone() -> str:
    """Name of a process that has ended."""
    program = "from sparkps.lifeline import this_process; print(this_process())"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


def lease(tier: Tier, group: int, rank: int, attempt: int, process: str = "") -> Leased | Recorded:
    """Ask for a rank."""
    answer: Leased | Recorded = tier.control.request(Lease(0, group, rank, attempt, process))
    return answer


def begun(tier: Tier, group: int, gone: str) -> list[Session]:
    """Two ranks, both of processes that are gone by now, as far as anybody can see."""
    sessions = []
    for rank in range(2):
        held = lease(tier, group, rank, 10 + rank, gone)
        assert isinstance(held, Leased)
        sessions.append(tier.session())
        sessions[-1].takeover(group, rank, held.incarnation)
    return sessions


def stand_in(tier: Tier, group: int, on_worker_loss: str = "continue") -> StandIn:
    return StandIn(tier.address, tier.control, GroupSpec(group, "g", 2, 2, 0), on_worker_loss, 20.0)  # type: ignore[arg-type]


def test_lost_rank_is_finished_at_its_last_tick(tier: Tier, gone: str) -> None:
    table = tier.dense("stand_in", (2,), dtype="float64")
    with tier.group(2, 0) as group:
        sessions = begun(tier, group, gone)
        mine = [table.bind(session) for session in sessions]
        for rank in range(2):
            mine[rank].add([1.0, 10.0 * rank])
            sessions[rank].tick()
        mine[1].add([100.0, 100.0])  # above its last tick
        sessions[1].flush()
        gives_up = stand_in(tier, group)
        assert gives_up.give_up_now(1, lambda: False)
        assert gives_up.lost == {1: WorkerLost(1, 1)}
        sessions[0].tick()
        assert mine[0].pull().tolist() == [2.0, 10.0], "nobody waits for it, and its tick counts, alone"
        with pytest.raises(Fenced):
            mine[1].pull()
        late = lease(tier, group, 1, 20)
        assert isinstance(late, Recorded)
        assert pickle.loads(late.result or b"") == WorkerLost(1, 1)
        states = [rank.state for rank in tier.control.request(GroupState(0, group)).ranks]
        assert states == ["leased", "lost"]
        assert not gives_up.give_up_now(0, lambda: False), "the last worker is not given up"
        sessions[0].finish()
        tier.control.request(FinishRank(0, group, 0, 10, b"result"))
        assert [end.outcome for end in gives_up.recorded()] == ["finished"] * 2
        for session in sessions:
            session.close()


def test_rank_that_had_finished_at_the_nodes_is_not_lost(tier: Tier, gone: str) -> None:
    with tier.group(2, 0) as group:
        sessions = begun(tier, group, gone)
        sessions[1].tick()
        sessions[1].finish(stored_result(pickle.dumps("the result")))
        gives_up = stand_in(tier, group)
        assert gives_up.give_up_now(1, lambda: False)
        assert gives_up.lost == {}
        held = lease(tier, group, 1, 20)
        assert isinstance(held, Leased)
        with contextlib.closing(tier.session()) as successor:
            _, stored = successor.takeover(group, 1, held.incarnation)
        assert stored is not None
        assert result_stored(stored)
        assert pickle.loads(stored[1:]) == "the result"
        for session in sessions:
            session.close()


def test_rank_that_is_not_to_be_given_up_is_not_asked_for(tier: Tier, gone: str) -> None:
    with tier.group(2, 0) as group:
        sessions = begun(tier, group, gone)
        waits = stand_in(tier, group, "wait")
        assert waits.look(tier.control.request(GroupState(0, group)), 0.0) is None
        assert not waits.give_up_now(1, lambda: False)
        assert not stand_in(tier, group).give_up_now(-1, lambda: False), "Spark has not said which"
        assert not stand_in(tier, group).give_up_now(1, lambda: True), "the group is being ended"
        assert [rank.attempt for rank in tier.control.request(GroupState(0, group)).ranks] == [10, 11]
        for session in sessions:
            session.close()
