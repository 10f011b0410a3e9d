"""Records of other processes at the driver's loggers."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from sparkps.driver_bridge import log_fetching
from sparkps.driver_bridge.coordinator.log_book import LogBook
from sparkps.driver_bridge.log_fetching import LogFetching
from sparkps.errors import NodeUnreachable
from sparkps.wire.messages.control import FetchLog, LogFetched, LogLine
from tests.harness.waiting import wait_until


class Coordinator:
    """Answers from a book, unless it is gone."""

    def __init__(self) -> None:
        self.book = LogBook()
        self.is_gone = False
        self.asked = 0

    def say(self, origin: str, text: str, level: int = logging.INFO) -> None:
        self.book.add(origin, [LogLine(level, "x", text)])

    def request(self, message: FetchLog, timeout: float) -> Any:
        self.asked += 1
        if self.is_gone:
            raise NodeUnreachable("gone")
        return LogFetched(1, *self.book.after(message.after))


@pytest.fixture
def coordinator(monkeypatch: pytest.MonkeyPatch) -> Coordinator:
    monkeypatch.setattr(log_fetching, "FETCH_EVERY", 0.01)
    return Coordinator()


def test_records_come_to_loggers_by_their_origin_and_the_last_ones_at_the_end(
    coordinator: Coordinator, caplog: pytest.LogCaptureFixture
) -> None:
    fetching = LogFetching(coordinator.request, "INFO").begin()
    coordinator.say("node 1 on host-a", "rows")
    assert wait_until(lambda: "node 1 on host-a: rows" in caplog.messages, 5)
    coordinator.say("rank 3 on host-b", "100% of it", logging.ERROR)
    coordinator.say("coordinator", "ready")
    fetching.end()
    fetching.end()
    told = [(record.name, record.levelno, record.getMessage()) for record in caplog.records if record.name in log_fetching.LOGGERS.values()]
    assert told == [
        ("sparkps.nodes", logging.INFO, "node 1 on host-a: rows"),
        ("sparkps.workers", logging.ERROR, "rank 3 on host-b: 100% of it"),
        ("sparkps.coordinator", logging.INFO, "coordinator: ready"),
    ]
    assert not fetching._thread.is_alive()
    assert logging.getLogger("sparkps.nodes").level == logging.NOTSET


def test_a_coordinator_that_is_gone_is_asked_again(coordinator: Coordinator, caplog: pytest.LogCaptureFixture) -> None:
    coordinator.is_gone = True
    fetching = LogFetching(coordinator.request, "INFO").begin()
    assert wait_until(lambda: coordinator.asked >= 3, 5)
    coordinator.say("node 0 on a", "it goes on")
    coordinator.is_gone = False
    assert wait_until(lambda: "node 0 on a: it goes on" in caplog.messages, 5)
    fetching.end()


def test_a_level_that_the_user_has_set_counts(coordinator: Coordinator, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "sparkps.nodes")
    fetching = LogFetching(coordinator.request, "DEBUG").begin()
    coordinator.say("node 0 on a", "quiet", logging.WARNING)
    coordinator.say("node 0 on a", "loud", logging.ERROR)
    fetching.end()
    assert [message for message in caplog.messages if "node 0" in message] == ["node 0 on a: loud"]


def test_without_any_handler_records_go_to_standard_error(
    coordinator: Coordinator, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    coordinator.say("node 0 on a", "seen")
    LogFetching(coordinator.request, "INFO").begin().end()
    assert "INFO sparkps.nodes: node 0 on a: seen" in capsys.readouterr().err
