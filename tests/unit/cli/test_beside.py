"""A tier that is kept has what a driver does for one of its own: its log comes, and its nodes have tokens."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from sparkps.cli.beside import helped
from sparkps.config import Settings
from sparkps.driver_bridge.node_tokens import NodeTokens
from sparkps.wire.messages.control import FetchLog, KeptLine, LogLine
from tests.harness.waiting import wait_until


def tier(level: str = "") -> Any:
    """One whose node has logged a line."""
    told: list[Any] = []

    def request(message: Any, timeout: float | None = None) -> Any:
        assert isinstance(message, FetchLog)
        lines = [] if message.after else [KeptLine("node 0 on n1", LogLine(logging.INFO, "sparkps.ps_nodes", "it is here"))]
        told.append(message)
        return SimpleNamespace(last=1, dropped=0, lines=lines)

    control = SimpleNamespace(request=request)
    return SimpleNamespace(settings=Settings(log_level=level), control=control, spark="the session", told=told)


def test_what_nodes_log_comes_to_whoever_keeps_the_tier(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sparkps")
    with helped(tier("INFO"), is_in_spark=False):
        assert wait_until(lambda: "node 0 on n1: it is here" in caplog.text, 10)
    silent = tier()
    with helped(silent, is_in_spark=False):
        pass
    assert silent.told == [], "where nobody has asked for it nobody looks"


class Tokens:
    """What is asked of `NodeTokens`, in order."""

    def __init__(self) -> None:
        self.done: list[Any] = []

    def begin(self, known: Any) -> Tokens:
        self.done.append("begin")
        return self

    def see_to(self, url: str) -> None:
        self.done.append(url)

    def end(self) -> None:
        self.done.append("end")

    def cancel(self) -> None:
        self.done.append("cancel")


def test_nodes_in_spark_have_tokens_before_they_open_the_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, asked = Tokens(), []

    def of(spark: Any, request: Any) -> Tokens:
        asked.append(spark)
        return tokens

    monkeypatch.setattr(NodeTokens, "of", of)
    with helped(tier(), is_in_spark=True, checkpoint_dir="hdfs://nn:8020/tier"):
        assert tokens.done == ["begin", "hdfs://nn:8020/tier"]
    assert tokens.done[2:] == ["end", "cancel"]
    assert asked == ["the session"]
    with helped(tier(), is_in_spark=False, checkpoint_dir="hdfs://nn:8020/tier"):
        pass
    assert len(asked) == 1
