"""The coordinator renews tokens at a WebHDFS server, beside its own work, and hands them to its nodes."""

from __future__ import annotations

import logging
import pathlib
import threading
import time
from collections.abc import Iterator

import pytest

from sparkps.client.control import ControlClient
from sparkps.config import NodeSettings, Settings
from sparkps.driver_bridge.coordinator import renewals as rules
from sparkps.driver_bridge.coordinator.journal import Journal
from sparkps.driver_bridge.coordinator.server import Coordinator
from sparkps.driver_bridge.coordinator.token_renewal import TokenRenewal
from sparkps.wire.messages import control as c
from tests.harness.fake_webhdfs import FakeWebHdfs
from tests.harness.processes import FakeNode
from tests.harness.waiting import wait_until
from tests.unit.filesystems.token_files import issued


@pytest.fixture
def server() -> Iterator[FakeWebHdfs]:
    with FakeWebHdfs() as fake:
        yield fake


@pytest.fixture
def renewal() -> Iterator[TokenRenewal]:
    made = TokenRenewal()
    yield made
    made.end()
    if made._thread is not None:
        made._thread.join(10)
        assert not made._thread.is_alive()


def token(server: FakeWebHdfs, name: str = "nn:8020", lives: float = 604_800.0) -> c.NodeToken:
    now = time.time()
    return c.NodeToken(name, issued("ann", now, now + lives, password=name.encode()).url_string(), [server.url])


def renewals_of(server: FakeWebHdfs, one: c.NodeToken) -> int:
    return sum(asked.get("token") == one.text for operation, asked in server.asked if operation == "RENEWDELEGATIONTOKEN")


def ends_in(server: FakeWebHdfs, seconds: float) -> None:
    server.token_ends = int((time.time() + seconds) * 1000)


def test_tokens_are_renewed_again_and_again_as_their_owner(server: FakeWebHdfs, renewal: TokenRenewal) -> None:
    one, other = token(server), token(server, "b:1")
    ends_in(server, 1.2)
    renewal.hold({"nn:8020": one})
    assert wait_until(lambda: renewals_of(server, one) == 1, 10)
    renewal.hold({"nn:8020": one})
    ends_in(server, 604_000)
    assert wait_until(lambda: renewals_of(server, one) == 2, 10), "as soon as three quarters of a second or so are over"
    renewal.hold({"nn:8020": one, "b:1": other})
    assert wait_until(lambda: renewals_of(server, other) == 1, 10)
    assert renewals_of(server, one) == 2
    assert {(asked["delegation"], asked["user.name"]) for _, asked in server.asked} == {(one.text, "ann"), (other.text, "ann")}


def test_failures_are_told_once_and_tried_again(
    server: FakeWebHdfs, renewal: TokenRenewal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rules, "next_renewal", lambda now, *_, failed=False: now + 0.02 if failed else now + 1e6)
    one = token(server)
    server.faults += [("RENEWDELEGATIONTOKEN", "AccessControlException")] * 3 + [("RENEWDELEGATIONTOKEN", "InvalidToken")]
    with caplog.at_level(logging.INFO):
        renewal.hold({"nn:8020": one})
        assert wait_until(lambda: "is renewed again" in caplog.text, 10)
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING", "INFO"], "two causes, and that it is over"
    assert renewals_of(server, one) == 5
    assert one.text not in caplog.text
    assert not renewal.due()


def test_one_that_ends_for_good_is_due(server: FakeWebHdfs, renewal: TokenRenewal) -> None:
    one = token(server, lives=0.8)
    server.token_ends = int((time.time() + 0.8) * 1000)
    renewal.hold({"nn:8020": one})
    assert wait_until(lambda: renewal.due() == {"nn:8020"}, 10)
    renewal.hold({"nn:8020": token(server)})
    assert renewal.due() == set()


# ---- in a coordinator --------------------------------------------------------------------------------------------------


def test_a_silent_namenode_blocks_neither_the_coordinator_nor_its_end(server: FakeWebHdfs, tmp_path: pathlib.Path) -> None:
    """From the driver's request to the nodes', the late one included; nothing of it is shown, or readable by others."""
    settings = Settings(num_nodes=2, node=NodeSettings(heartbeat_interval=0.05, heartbeat_deadline=2.0))
    coordinator = Coordinator(f"ipc://{tmp_path}/c", "t1", settings, journal=tmp_path / "journal")
    thread = threading.Thread(target=coordinator.serve, name="coordinator")
    thread.start()
    nodes = [FakeNode(coordinator.endpoint, f"ipc://n{number}") for number in range(2)]
    client = ControlClient(coordinator.endpoint, timeout=5.0)
    one = token(server)
    server.faults.append(("RENEWDELEGATIONTOKEN", "silent"))
    try:
        client.request(c.Attach(0))
        client.request(c.GiveToken(0, one))
        assert [[m.tokens for m in node.commands if isinstance(m, c.TakeTokens)] for node in nodes] == [[[one]]] * 2
        assert wait_until(lambda: renewals_of(server, one) == 1, 10)
        began = time.monotonic()
        for _ in range(20):
            report = client.request(c.TierStatus(0)).report
            assert client.request(c.FindDueTokens(0)).services == []
        assert time.monotonic() - began < 4.0, "the server is silent for longer"
        assert len([m for m in nodes[0].commands if isinstance(m, c.TakeTokens)]) == 1
        assert one.text not in repr(report)
        assert [file.stat().st_mode & 0o077 for file in tmp_path.glob("journal*")] == [0]
        journal = Journal(tmp_path / "other")
        journal.replace([b"x"])
        journal.close()
        assert (tmp_path / "other").stat().st_mode & 0o077 == 0
    finally:
        began = time.monotonic()
        coordinator.stop()
        thread.join(10)
        for node in nodes:
            node.close()
        client.close()
    assert not thread.is_alive()
    assert time.monotonic() - began < 5.0


def test_a_token_that_lives_for_ages_does_not_end_the_thread() -> None:
    renewed = threading.Event()

    def renew(token: c.NodeToken) -> float:
        if token.service == "ages":
            return float(1 << 53)
        renewed.set()
        return time.time() + 60.0

    renewal = TokenRenewal(renew)
    renewal.hold({"ages": c.NodeToken("ages", "a", [], True)})
    threading.Event().wait(0.2)
    renewal.hold({name: c.NodeToken(name, name[0], [], True) for name in ("ages", "other")})
    assert renewed.wait(5.0)
    renewal.end()
