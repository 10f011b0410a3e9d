"""The driver obtains delegation tokens for its nodes, replaces them, and ends them with the tier."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from sparkps.driver_bridge import checkpointing, node_tokens
from sparkps.driver_bridge.node_tokens import NodeTokens, within
from sparkps.driver_bridge.spark.tokens import Obtained
from sparkps.errors import DeadlineExceeded, SparkPSError
from sparkps.filesystems import held_tokens
from sparkps.wire.messages.control import Accepted, DueTokens, FindDueTokens, GiveToken
from tests.harness.fake_webhdfs import FakeWebHdfs
from tests.harness.waiting import wait_until

SERVICE, URL = "nn:8020", "hdfs://nn:8020/checkpoints"


class Tier:
    """A coordinator, and a JVM that issues tokens."""

    def __init__(self) -> None:
        self.given: list[tuple[str, str]] = []
        self.is_ours = True
        self.due: list[str] = []
        self.error: SparkPSError | None = None
        self.asked: list[str] = []
        #: What the JVM gives next; the last one again and again.
        self.tokens = [Obtained("token-1", is_new=True), Obtained("token-2", is_new=True)]
        self.is_needed = True

    def request(self, message: Any, timeout: float) -> Any:
        if self.error is not None:
            raise self.error
        if isinstance(message, GiveToken):
            self.given.append((message.token.service, message.token.text))
            self.is_ours = message.token.is_ours
            self.due = [service for service in self.due if service != message.token.service]
            return Accepted(1)
        assert isinstance(message, FindDueTokens)
        return DueTokens(1, self.due)

    def obtain(self, url: str) -> Obtained:
        self.asked.append(url)
        return self.tokens.pop(0) if len(self.tokens) > 1 else self.tokens[0]


@pytest.fixture
def tier() -> Tier:
    return Tier()


@pytest.fixture
def tokens(tier: Tier, monkeypatch: pytest.MonkeyPatch) -> Iterator[NodeTokens]:
    monkeypatch.setattr(node_tokens, "AGAIN_AFTER", 0.0)
    made = NodeTokens(tier.request, tier.obtain, lambda: tier.is_needed, look_every=0.01)
    yield made
    made.end()
    if made._thread is not None:
        made._thread.join(10)
    assert held_tokens.held(SERVICE) == "", "what a tier has given ends with it"


def test_nodes_get_one_before_they_open_a_url_of_its_hdfs_and_once(tier: Tier, tokens: NodeTokens) -> None:
    tokens.begin()
    for url in ("file:///x", "/x", "s3://bucket/x", URL, URL + "/other", "hdfs://ann@nn:8020/third"):
        held_tokens.see_to(url)
    assert tier.asked == ["hdfs://nn:8020/"]
    assert tier.given == [(SERVICE, "token-1")]
    assert held_tokens.held(SERVICE) == "token-1", "the driver writes manifests there"
    held_tokens.see_to("hdfs://other:8020/x")
    assert tier.given[1:] == [("other:8020", "token-2")]
    tokens.end()
    assert held_tokens.held("other:8020") == ""
    held_tokens.see_to("hdfs://third:8020/x")
    assert len(tier.given) == 2


def test_a_checkpoint_asks_for_one(tier: Tier, tokens: NodeTokens) -> None:
    tokens.begin()
    checkpointing.store_at("hdfs://127.0.0.1:1/x", 1.0)
    assert tier.given == [("127.0.0.1:1", "token-1")]


def test_where_nobody_needs_one_none_is_asked_for(tier: Tier, tokens: NodeTokens) -> None:
    tier.is_needed = False
    tokens.begin(lambda: [URL])
    held_tokens.see_to(URL)
    assert tier.asked == []


def test_for_known_file_systems_they_come_without_being_asked_for(tier: Tier, tokens: NodeTokens) -> None:
    tokens.begin(lambda: ["file:///", "hdfs://nn:8020"])
    assert wait_until(lambda: tier.given == [(SERVICE, "token-1")], 10)


def test_file_systems_that_cannot_be_found_out_do_no_harm(tier: Tier, tokens: NodeTokens) -> None:
    def broken() -> list[str]:
        raise RuntimeError("no session")

    tokens.begin(broken)
    tokens.see_to(URL)
    tier.due = [SERVICE]
    assert wait_until(lambda: len(tier.given) == 2, 10), "the thread goes on"


def test_one_that_ends_is_replaced(tier: Tier, tokens: NodeTokens) -> None:
    tokens.begin()
    tokens.see_to(URL)
    tier.due = [SERVICE, "unknown:1"]
    assert wait_until(lambda: len(tier.given) == 2, 10)
    assert tier.given[1] == (SERVICE, "token-2")
    assert held_tokens.held(SERVICE) == "token-2"


def test_the_same_token_again_is_not_given_again(tier: Tier, tokens: NodeTokens) -> None:
    tier.tokens = [Obtained("of-the-container")]
    tokens.begin()
    tokens.see_to(URL)
    tier.due = [SERVICE]
    assert wait_until(lambda: len(tier.asked) >= 4, 10), "it is asked for, for the cluster may give another"
    assert tier.given == [(SERVICE, "of-the-container")]
    assert not tier.is_ours


def test_what_cannot_be_had_is_told_once_with_the_reason_and_tried_again(
    tier: Tier, tokens: NodeTokens, caplog: pytest.LogCaptureFixture
) -> None:
    tier.tokens = [Obtained(why="no ticket")] * 3 + [Obtained("late", is_new=True)]
    for _ in range(3):
        tokens.see_to(URL)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "no ticket" in caplog.text
    assert SERVICE in caplog.text
    tokens.see_to(URL)
    assert tier.given == [(SERVICE, "late")]


def test_a_coordinator_that_does_not_take_it_fails_nobody(
    tier: Tier, tokens: NodeTokens, caplog: pytest.LogCaptureFixture
) -> None:
    tier.error = DeadlineExceeded("nodes have not answered")
    tokens.see_to(URL)
    assert "nodes have not answered" in caplog.text
    tier.error = None
    tokens.see_to(URL)
    assert tier.given == [(SERVICE, "token-2")]


def test_whatever_goes_wrong_the_checkpoint_goes_on(tier: Tier, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> bool:
        raise RuntimeError("the JVM is gone")

    NodeTokens(tier.request, tier.obtain, broken, 1.0).see_to(URL)
    assert "the JVM is gone" in caplog.text
    assert tier.asked == []


def test_no_answer_of_the_jvm_is_waited_for_too_long() -> None:
    over = threading.Event()

    def silent() -> Obtained:
        over.wait(30)
        return Obtained("late")

    try:
        assert within(0.05, silent) == Obtained(why="no answer within 0.05 s")
    finally:
        over.set()
    assert within(10.0, lambda: Obtained("x")) == Obtained("x")
    assert within(10.0, lambda: [][0]).why == "IndexError: list index out of range"  # type: ignore[no-any-return]
    assert "x" not in repr(Obtained("x"))


def test_what_was_issued_is_ended_with_the_tier_and_what_others_gave_is_not(tier: Tier, tokens: NodeTokens) -> None:
    with FakeWebHdfs() as server:
        place = server.url.removeprefix("http://")
        tokens.see_to(f"webhdfs://{place}/x")
        known = tokens._services[place]
        known.again_at = 0.0
        with tokens._lock:
            tokens._replace(place, known)
            tier.tokens = [Obtained("the-containers")]
            tokens._replace(place, known)
        assert [text for _, text in tier.given] == ["token-1", "token-2", "the-containers"]
        tokens.end()
        tokens.cancel()
        ended = sorted(asked["token"] for operation, asked in server.asked if operation == "CANCELDELEGATIONTOKEN")
        assert ended == ["token-1", "token-2"]


def test_a_namenode_that_is_silent_at_the_end_is_not_waited_for_long(
    tier: Tier, tokens: NodeTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_tokens, "CANCEL_WITHIN", 0.2)
    with FakeWebHdfs() as server:
        tokens.see_to(f"webhdfs://{server.url.removeprefix('http://')}/x")
        server.faults.append(("CANCELDELEGATIONTOKEN", "silent"))
        tokens.end()
        began = time.monotonic()
        tokens.cancel()
        assert time.monotonic() - began < 1.5
