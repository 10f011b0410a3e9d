"""The task of a node without a node: who waits for whom, and with what the process is started."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from sparkps.config import NetworkSettings, Settings
from sparkps.driver_bridge.launchers import node_task
from sparkps.driver_bridge.launchers.node_task import NodeTask
from sparkps.errors import ConfigError, TierError
from sparkps.lifeline import PLACE_TAKEN
from sparkps.wire.messages.control import TierAddress


def task(**settings: Any) -> NodeTask:
    return NodeTask(TierAddress("tier", "tcp://127.0.0.1:7077", 30.0), Settings(**settings), 3)


def asked(*reports: list[dict[str, Any]]) -> Any:
    left = list(reports)
    return SimpleNamespace(
        request=lambda *_: SimpleNamespace(report={"state": "starting", "nodes": left.pop(0) if len(left) > 1 else left[0]})
    )


def test_a_copy_leaves_the_first_attempt_time_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(NodeTask, "_wait_for_turn", lambda self, control, machine, patience: waits.append(patience))
    task()._has_ended(None, 7, is_first=True)  # type: ignore[arg-type]
    task()._has_ended(None, 8, is_first=False)  # type: ignore[arg-type]
    assert waits == [0.0, node_task.FIRST_WITHIN]


def test_the_process_has_its_life_line_its_cores_and_the_packages_of_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    command = task(num_nodes=1, node_cores=2)._command(7, "127.0.0.1", "host-a")
    assert "--watch-stdin" in command
    assert "--watch-parent" in command
    assert command[command.index("--threads") + 1] == "2"
    monkeypatch.setattr(sys, "path", ["/came/with/the/application", ""])
    assert task()._environment()["PYTHONPATH"] == "/came/with/the/application"


def test_addresses_and_ports_are_what_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    def said(**network: str) -> tuple[str, str]:
        command = task(network=NetworkSettings(**network))._command(7, "127.0.0.1", "host-a")  # type: ignore[arg-type]
        assert command[command.index("--coordinator") + 1] == "tcp://127.0.0.1:7077"
        return command[command.index("--bind") + 1], command[command.index("--advertise") + 1]

    assert said() == ("tcp://127.0.0.1:0", "127.0.0.1")
    assert said(node_ports="7100-7199") == ("tcp://127.0.0.1:7100-7199", "127.0.0.1")
    assert said(node_bind_address="127.0.0.3") == ("tcp://127.0.0.3:0", "127.0.0.3")
    assert said(node_address="node.example") == ("tcp://127.0.0.1:0", "node.example")
    assert said(node_bind_address="0.0.0.0", node_address="10.0.0.7", node_ports="7100") == ("tcp://0.0.0.0:7100", "10.0.0.7")
    monkeypatch.setenv("POD_IP", "127.0.0.4")
    assert said(node_bind_address="$POD_IP", node_address="$POD_IP") == ("tcp://127.0.0.4:0", "127.0.0.4")
    monkeypatch.delenv("POD_IP")
    for one in ("node_bind_address", "node_address"):
        with pytest.raises(ConfigError, match=r"an environment variable that must be set .* '\$POD_IP' is not on"):
            said(**{one: "$POD_IP"})


class Hanging:
    """A process that ends when it is killed, and not before."""

    def __init__(self) -> None:
        self.was_killed = False

    def wait(self, seconds: float | None = None) -> int | None:
        return -9 if self.was_killed else None

    def kill(self) -> None:
        self.was_killed = True


def test_a_node_that_is_dead_to_its_tier_and_does_not_end_is_killed() -> None:
    def seen(state: str, attempt: int = 7) -> list[dict[str, Any]]:
        return [{"job": 3, "attempt": attempt, "state": state}]

    hanging = Hanging()
    control = asked(seen("up"), seen("dead", attempt=6), seen("dead"), seen("up"), seen("dead"), seen("dead"))
    assert task()._status_of(hanging, control, 7) == -9  # type: ignore[arg-type]
    assert control.request().report["nodes"] == seen("dead"), "in two looks that follow each other"


class Ended:
    """The process of a node that has ended."""

    last_lines = ("the end of its log",)

    def __init__(self, status: int) -> None:
        self.status = status

    def wait(self, seconds: float | None = None) -> int:
        return self.status

    def fate(self) -> str:
        return f"exited with status {self.status}"

    def end(self) -> None: ...


@pytest.mark.parametrize(("status", "fails"), [(PLACE_TAKEN, False), (1, True), (4, True), (-9, True)])
def test_an_attempt_that_found_its_place_taken_tries_again_though_the_other_node_is_gone_by_then(
    monkeypatch: pytest.MonkeyPatch, status: int, fails: bool
) -> None:
    monkeypatch.setattr(node_task, "NodeProcess", lambda *_: Ended(status))
    gone = [{"job": 3, "attempt": 6, "state": "dead"}]
    if fails:
        with pytest.raises(TierError, match=f"exited with status {status}"):
            task()._has_ended(asked(gone), 7)
    else:
        assert not task()._has_ended(asked(gone), 7)


def test_a_copy_whose_coordinator_has_gone_ends_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [(False, {"up"}), TierError("nobody listens there")]

    def state(*_: Any) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(NodeTask, "_state", state)
    monkeypatch.setattr(node_task, "LOOK_EVERY", 0.0)
    assert not task()._wait_for_turn(None, "here", 0.0)  # type: ignore[arg-type]
    answers.append(TierError("nobody listens there"))
    with pytest.raises(TierError, match="nobody listens"):
        task()._wait_for_turn(None, "here", 0.0)  # type: ignore[arg-type]
