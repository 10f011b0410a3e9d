"""``sparkps tier stop`` says that a tier has ended when it has, and not when it cannot be reached."""

from __future__ import annotations

import errno
import socket
from types import SimpleNamespace
from typing import Any

import pytest

from sparkps.cli import commands
from sparkps.errors import DeadlineExceeded


def tier_at(port: int) -> Any:
    """A connection to a tier that has been there."""

    def request(message: Any, timeout: float) -> Any:
        raise DeadlineExceeded("silent")

    return SimpleNamespace(url=f"sparkps://127.0.0.1:{port}", tier_id="t", request=request)


@pytest.fixture
def listener() -> Any:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        made.listen(0)
        yield made


def test_where_nobody_listens_it_has_ended(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    assert not commands._has_ended(tier_at(port))
    listener.close()
    assert commands._has_ended(tier_at(port))


def test_a_door_that_is_full_has_not_ended(listener: socket.socket) -> None:
    address, waiting = listener.getsockname(), []
    try:
        for _ in range(3):  # nobody takes them
            waiting.append(socket.socket())
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(address)
        assert not commands._has_ended(tier_at(address[1]))
    finally:
        for each in waiting:
            each.close()


@pytest.mark.parametrize(
    "error",
    [TimeoutError("late"), socket.gaierror(socket.EAI_AGAIN, "later"), OSError(errno.EHOSTUNREACH, "no way"), ConnectionResetError()],
)
def test_what_says_nothing_of_the_tier_does_not_end_it(monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    def fails(*args: Any, **named: Any) -> Any:
        raise error

    monkeypatch.setattr(commands.socket, "create_connection", fails)
    assert not commands._has_ended(tier_at(7077))
