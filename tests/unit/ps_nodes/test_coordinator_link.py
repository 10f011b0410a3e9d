"""A node and its coordinator: silence ends a node that nobody else watches, and no other."""

from __future__ import annotations

import pathlib
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import zmq

from sparkps.config import NodeSettings
from sparkps.lifeline import PLACE_TAKEN
from sparkps.ps_nodes import coordinator_link
from sparkps.ps_nodes.coordinator_link import CoordinatorLink, Origin
from sparkps.ps_nodes.pulse import Pulse
from sparkps.wire.codec import decode, encode
from sparkps.wire.messages import control as c
from tests.unit.client.test_handshake import Guarded

#: What the node says of itself.
REPORT: dict[str, Any] = {"rows": 1}

SETTINGS = NodeSettings(heartbeat_interval=1.0, heartbeat_deadline=30.0)


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    with zmq.Context() as made:
        made.linger = 0
        yield made


@pytest.fixture
def link(context: zmq.Context[Any], tmp_path: pathlib.Path) -> Iterator[CoordinatorLink]:
    """Of a node that was welcomed by a coordinator that is gone."""
    service: Any = SimpleNamespace(
        state=SimpleNamespace(settings=SETTINGS), report=lambda: dict(REPORT)
    )
    made = CoordinatorLink(context, f"ipc://{tmp_path}/c", "ipc://node", service, Origin())
    made.socket.setsockopt(zmq.LINGER, 0)
    made.node = 0
    yield made
    made.close()


def test_a_pulse_reaches_a_coordinator_that_asks_for_a_secret() -> None:
    guarded = Guarded()
    try:
        with zmq.Context() as context:
            pulse = Pulse(context, guarded.endpoint, time.monotonic, guarded.secret)
            pulse.begin(3, 0.01)
            is_heard = guarded.socket.poll(5000)
            pulse.close()
        assert is_heard, "a busy node would be declared dead"
        message, _ = decode(guarded.socket.recv_multipart()[1:])
        assert message == c.Heartbeat(0, 3)
    finally:
        guarded.close()


def test_node_that_nobody_watches_ends_with_a_silent_coordinator(link: CoordinatorLink) -> None:
    now = time.monotonic()
    link.heartbeat(now + 29)
    assert not link.over
    link.heartbeat(now + 31)
    assert (link.over, link.status) == (True, 1)


def test_node_that_nobody_welcomes_ends_and_says_what_must_be_reached(link: CoordinatorLink, caplog: pytest.LogCaptureFixture) -> None:
    link.node, link.outlives_coordinator = -1, True
    now = time.monotonic()
    for second in range(0, 58, 2):
        link.heartbeat(now + second)
    assert not link.over
    link.heartbeat(now + 61)
    assert (link.over, link.status) == (True, 1)
    assert "spark.driver.host" in caplog.text


def test_node_with_a_life_line_outlives_its_coordinator_for_good(link: CoordinatorLink) -> None:
    link.outlives_coordinator = True
    now = time.monotonic()

    def beat() -> None:
        for second in range(5000):  # more than a queue to nobody takes
            link.heartbeat(now + second)

    beating = threading.Thread(target=beat, daemon=True)
    beating.start()
    beating.join(20)
    assert not beating.is_alive()
    assert not link.over


def test_coordinator_that_is_heard_again_may_be_silent_again(
    context: zmq.Context[Any], tmp_path: pathlib.Path, link: CoordinatorLink, caplog: pytest.LogCaptureFixture
) -> None:
    link.outlives_coordinator = True
    with context.socket(zmq.ROUTER) as router:
        router.bind(f"ipc://{tmp_path}/c")
        now = time.monotonic()
        for silent in (31, 32, 33):
            link.heartbeat(now + silent)
        sender, _ = router.recv_multipart()
        router.send_multipart([sender, *encode(c.Alive(1))])
        assert link.socket.poll(5000)
        link.receive()
        link.heartbeat(time.monotonic() + 31)
    warnings = [record.message for record in caplog.records if "goes on as long as its driver lives" in record.message]
    assert len(warnings) == 2, "once for each silence"
    assert not link.over


def test_a_report_that_no_message_can_hold_is_sent_without_its_details(
    link: CoordinatorLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = {str(rank): list(range(100)) for rank in range(12_000)}
    monkeypatch.setitem(REPORT, "groups", large)
    sent: list[Any] = []
    monkeypatch.setattr(link.socket, "send_multipart", lambda frames, *_: sent.append(decode(frames)[0]), raising=False)
    link.heartbeat(time.monotonic())
    link._take(c.ReportNow(5))
    beat, done = sent
    assert beat.report == done.report == {"rows": 1}


@pytest.mark.parametrize(("attributes", "status"), [({"node": 2, "job": 3}, PLACE_TAKEN), ({}, 1)])
def test_a_node_whose_place_is_taken_says_so_by_its_exit_status(link: CoordinatorLink, attributes: dict[str, Any], status: int) -> None:
    link._take(c.Refused(1, "TierError", "must wait", attributes))
    assert (link.over, link.status) == (True, status)


def bare_link(origin: Origin, sent: list[Any]) -> CoordinatorLink:
    made = object.__new__(CoordinatorLink)
    fields = {"_hello": None, "_seq": 0, "_endpoint": "tcp://a:1", "_origin": origin, "_coordinator": "tcp://c:1", "node": -1, "_log": None}
    vars(made).update(fields, _secret=None, socket=SimpleNamespace(send_multipart=sent.append))
    return made


def test_a_node_says_on_which_machine_and_for_which_attempt_it_runs() -> None:
    sent: list[Any] = []
    bare_link(Origin("host-a", 3, 7), sent).hello()
    hello, _ = decode(sent[0])
    assert (hello.host, hello.job, hello.attempt) == ("host-a", 3, 7)


@pytest.mark.parametrize("level", ["", "INFO"])
def test_what_a_node_logs_is_forwarded_where_the_welcome_says_so(monkeypatch: pytest.MonkeyPatch, level: str) -> None:
    begun: list[tuple[str, str]] = []

    class Forwarder:
        def __init__(self, coordinator: str, origin: str, wanted: str, secret: object) -> None:
            begun.append((coordinator, wanted))

        def begin(self) -> Forwarder:
            return self

    monkeypatch.setattr(coordinator_link, "LogForwarder", Forwarder)
    monkeypatch.setattr(coordinator_link, "welcome", lambda *_: None)
    made = bare_link(Origin(), [])
    made._pulse = SimpleNamespace(begin=lambda *_: None)  # type: ignore[assignment]
    made._service = SimpleNamespace(state=None)  # type: ignore[assignment]
    settings = SimpleNamespace(heartbeat_interval=1.0)
    made._welcome(SimpleNamespace(node=0, settings=settings, log_level=level, tier_id="t"))  # type: ignore[arg-type]
    assert begun == ([("tcp://c:1", level)] if level else [])
