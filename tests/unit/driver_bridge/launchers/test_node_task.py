"""The task of a node without a node: who waits for whom, and with what the process is started."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from sparkps.config import Settings
from sparkps.driver_bridge.launchers import node_task
from sparkps.driver_bridge.launchers.node_task import NodeTask
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
