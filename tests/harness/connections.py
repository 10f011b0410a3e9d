"""Connections of one host to a port, which say nothing: how many of them are hung up on."""

from __future__ import annotations

import contextlib
import socket

from tests.harness.waiting import wait_until


def ended(connection: socket.socket) -> bool:
    """Whether the other side has hung up."""
    connection.setblocking(False)
    try:
        while (got := connection.recv(4096)):
            pass
        return got == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def are_hung_up_on(endpoint: str, expected: int, of: int) -> bool:
    """Whether of so many connections to a TCP endpoint as many as expected are ended, soon and no more than those."""
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    with contextlib.ExitStack() as held:
        made = [held.enter_context(socket.create_connection((host, int(port)), 10)) for _ in range(of)]
        return wait_until(lambda: sum(ended(each) for each in made) == expected, 10)


__all__ = ["are_hung_up_on", "ended"]
