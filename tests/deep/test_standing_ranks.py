"""A rank whose process stands still, with its connections open, does not hold up those who wait for it in torch's own collectives."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed

from sparkps.errors import GroupError
from sparkps.nn.connections import FormedConnections
from sparkps.nn.process_group import DefaultGroup, PeersLost
from sparkps.wire.messages.control import TierAddress
from tests.harness.cases import cases

#: What a rank does with the other, by name.
WAITS: dict[str, Any] = {
    "recv": lambda: torch.distributed.recv(torch.ones(10), 1),
    "send": lambda: torch.distributed.send(torch.ones(50_000_000), 1),
    "gather": lambda: torch.distributed.all_gather_into_tensor(torch.ones(20), torch.ones(10)),
}


class Meeting:
    """As far as a process group knows a worker: two ranks that meet through a pipe."""

    session = SimpleNamespace(address=TierAddress("t1", "ipc:///tmp/c"))
    num_workers = 2

    def __init__(self, rank: int, pipe: Any) -> None:
        self.rank, self._pipe, self.meetings, self.is_called, self.has_failed = rank, pipe, 0, False, False

    def meet(self, data: bytes) -> list[bytes]:
        self._pipe.send_bytes(data)
        other, self.meetings = self._pipe.recv_bytes(), self.meetings + 1
        return [data, other] if self.rank == 0 else [other, data]

    @property
    def meeting_called(self) -> bool:
        if self.has_failed:
            raise GroupError("the group has failed")
        return self.is_called


def standing(pipe: Any) -> None:
    """The other rank: forms the group, and stands still for good."""
    peers = DefaultGroup(Meeting(1, pipe), torch.device("cpu"))
    peers.form({})
    pipe.send("formed")
    os.kill(os.getpid(), signal.SIGSTOP)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize(("wait", "fails"), cases([("recv", False)], long=[("send", True), ("gather", False)]))
def test_who_waits_for_a_rank_that_stands_still_comes_to_a_meeting(wait: str, fails: bool) -> None:
    mine, its = multiprocessing.Pipe()
    other = multiprocessing.get_context("spawn").Process(target=standing, args=(its,), daemon=True)
    other.start()
    worker = Meeting(0, mine)
    peers = DefaultGroup(worker, torch.device("cpu"))
    try:
        peers.form({})
        assert mine.recv() == "formed"
        calls = threading.Timer(0.3, setattr, (worker, "has_failed" if fails else "is_called", True))
        calls.start()
        began = time.monotonic()
        with pytest.raises(PeersLost, match="must come to its end"), peers.guarded():
            WAITS[wait]()
        assert time.monotonic() - began < 60, "and not the 300 s that a collective may take"
        assert not peers.is_formed
    finally:
        peers.close()
        other.kill()
        other.join()


def connected() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        return one, listener.accept()[0]


def test_connections_that_were_formed_are_cut_and_no_others() -> None:
    before = connected()
    formed = FormedConnections("127.0.0.1")
    pairs = [connected(), connected()]
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        formed.settle()
        after = connected()
        for each in pairs[1]:
            each.close()
        again = connected()  # has the descriptors of those that were closed
        assert formed.cut() == 2
        assert formed.cut() == 0
        assert [each.recv(1) for each in pairs[0]] == [b"", b""]
        for one, other in (before, after, again):
            one.send(b"x")
            assert other.recv(1) == b"x"
        listener.settimeout(10)
        socket.create_connection(listener.getsockname()).close()
        listener.accept()[0].close()
        datagrams.bind(("127.0.0.1", 0))
    for each in (*before, *pairs[0], *after, *again):
        each.close()


def test_connections_at_another_address_are_not_ours() -> None:
    formed = FormedConnections("127.0.0.2")
    one, other = connected()
    assert formed.settle().cut() == 0
    one.send(b"x")
    assert other.recv(1) == b"x"
    one.close()
    other.close()
