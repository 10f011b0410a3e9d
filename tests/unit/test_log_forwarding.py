"""Records on their way to the coordinator: whoever logs waits for nobody, and nothing that is logged can break a process."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
import zmq

from sparkps import log_forwarding
from sparkps.log_forwarding import LONGEST_LINE, MOST_WAITING, Listening, LogForwarder, Outbox
from sparkps.wire.codec import decode
from sparkps.wire.messages.control import LogLine, LogLines
from tests.unit.client.test_handshake import Guarded

log = logging.getLogger("tests.forwarded")


class Listener:
    """A coordinator's socket."""

    def __init__(self, context: zmq.Context[Any]) -> None:
        self.socket = context.socket(zmq.ROUTER)
        port = self.socket.bind_to_random_port("tcp://127.0.0.1")
        self.endpoint = f"tcp://127.0.0.1:{port}"

    def heard(self, seconds: float = 5.0) -> LogLines:
        assert self.socket.poll(int(seconds * 1000)), "nothing was sent"
        message, _ = decode(self.socket.recv_multipart()[1:])
        assert isinstance(message, LogLines)
        return message


@pytest.fixture
def listener() -> Iterator[Listener]:
    with zmq.Context() as context:
        made = Listener(context)
        yield made
        made.socket.close(0)


@pytest.fixture
def outbox() -> Iterator[Outbox]:
    made = Outbox("INFO")
    log.addHandler(made)
    log.setLevel(logging.INFO)
    yield made
    log.removeHandler(made)
    log.setLevel(logging.NOTSET)


def texts(outbox: Outbox) -> list[str]:
    return [line.text for line in outbox.take()[0]]


def test_records_of_the_level_reach_the_coordinator_and_the_last_ones_at_the_end(listener: Listener) -> None:
    with LogForwarder(listener.endpoint, "node 1 on host-a", "INFO"):
        log.info("rows: %d", 7)
        log.debug("not this")
        first = listener.heard()
        log.warning("the last")
    second = listener.heard()
    assert first.origin == second.origin == "node 1 on host-a"
    assert LogLine(logging.INFO, "tests.forwarded", "rows: 7") in first.lines
    assert [line.text for line in second.lines] == ["the last"]
    log.error("nobody listens any more")
    assert not listener.socket.poll(10)


def test_records_reach_a_coordinator_that_asks_for_a_secret() -> None:
    guarded = Guarded()
    try:
        with LogForwarder(guarded.endpoint, "rank 0 on here", "INFO", guarded.secret):
            log.info("behind the door")
            assert guarded.socket.poll(5000), "nothing was sent"
        message, _ = decode(guarded.socket.recv_multipart()[1:])
        assert isinstance(message, LogLines)
        assert [line.text for line in message.lines] == ["behind the door"]
    finally:
        guarded.close()


def test_the_root_logger_is_as_before(listener: Listener) -> None:
    root, numba = logging.getLogger(), logging.getLogger("numba")
    before = root.level, list(root.handlers), numba.level
    with LogForwarder(listener.endpoint, "rank 0 on here", "DEBUG"):
        assert root.level == logging.DEBUG
        assert not numba.isEnabledFor(logging.INFO)
    assert (root.level, list(root.handlers), numba.level) == before


def test_warnings_still_go_to_standard_error_where_there_is_no_other_handler(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    listening = Listening(Outbox("INFO"))
    listening.begin()
    log.warning("as without us")
    log.info("quiet as without us")
    listening.end()
    assert capsys.readouterr().err == "as without us\n"
    assert logging.getLogger().handlers == []


def test_a_coordinator_that_is_gone_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_forwarding, "SEND_EVERY", 0.001)
    forwarder = LogForwarder("tcp://127.0.0.1:1", "node 0 on here", "INFO").begin()
    began = time.monotonic()
    for number in range(3 * MOST_WAITING):
        log.info("%s", number)
    logged = time.monotonic() - began
    forwarder.close()
    assert logged < 5.0
    assert time.monotonic() - began < 10.0
    assert not forwarder._thread.is_alive()


def test_too_many_records_are_counted_and_not_kept(outbox: Outbox) -> None:
    for number in range(MOST_WAITING + 5):
        log.info("%d", number)
    lines, dropped = outbox.take(1 << 30)
    assert (len(lines), dropped) == (MOST_WAITING, 5)
    outbox.drop(3)
    assert outbox.take() == ([], 3)
    assert outbox.take() == ([], 0)


def test_a_message_holds_a_bounded_part_of_what_waits(outbox: Outbox) -> None:
    for _ in range(100):
        log.info("x" * 2000)
    lines, _ = outbox.take()
    assert sum(len(line.text) for line in lines) < log_forwarding.MESSAGE_SIZE + LONGEST_LINE
    assert len(outbox.take(1 << 30)[0]) == 100 - len(lines)


def test_giant_records_are_cut_and_what_is_no_text_becomes_text(outbox: Outbox) -> None:
    log.info("y" * 10_000_000)
    log.info("part-\udcff of %s", object)
    giant, odd = texts(outbox)
    assert len(giant) <= LONGEST_LINE
    assert odd == f"part-\\udcff of {object}"


class Strange:
    """Its text cannot be had."""

    def __str__(self) -> str:
        raise ValueError("no text")


class Talkative:
    """Logs while it is logged."""

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox

    def __str__(self) -> str:
        say(self.outbox, "inside: %s", self)
        return "text"


def say(outbox: Outbox, message: Any, *arguments: Any) -> None:
    """Log to it alone: pytest's own handlers fail on what cannot be formatted."""
    outbox.handle(log.makeRecord("n", logging.INFO, "", 0, message, arguments, None))


def test_records_that_cannot_be_formatted_are_described() -> None:
    outbox = Outbox("INFO")
    say(outbox, "%s and %s", 1)
    say(outbox, "%s", Strange())
    say(outbox, Strange())
    *described, nothing = texts(outbox)
    assert described == [
        "'%s and %s' with arguments that cannot be put in: TypeError",
        "'%s' with arguments that cannot be put in: ValueError",
    ]
    assert nothing.endswith("with arguments that cannot be put in: ValueError")


def test_what_is_logged_while_something_is_logged_does_not_go_round() -> None:
    outbox = Outbox("INFO")
    say(outbox, "%s", Talkative(outbox))
    assert texts(outbox) == ["text"]


def test_tracebacks_come_along(outbox: Outbox) -> None:
    try:
        raise KeyError("left")
    except KeyError:
        log.exception("it failed")
    [line] = outbox.take()[0]
    assert line.text.startswith("it failed\nTraceback (most recent call last):")
    assert line.text.endswith("KeyError: 'left'")


def test_a_forked_child_keeps_nothing(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a copy of the queue, and nobody sends what is in it."""
    child = os.getpid() + 1
    monkeypatch.setattr(os, "getpid", lambda: child)
    log.info("in the child")
    assert outbox.take() == ([], 0)
