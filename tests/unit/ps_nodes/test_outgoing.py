"""Answers on their way out: everything for clients that read, bounds for those that do not."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest
import zmq

from sparkps.ps_nodes import outgoing
from sparkps.ps_nodes.outgoing import Unsent
from sparkps.ps_nodes.user_functions import UserThreads
from tests.harness.waiting import wait_until


@pytest.fixture
def wire(tmp_path):
    """A ROUTER, and two DEALERs that it knows by name."""
    with zmq.Context() as context:
        router = context.socket(zmq.ROUTER)
        router.setsockopt(zmq.LINGER, 0)
        router.bind(f"ipc://{tmp_path}/r")
        peers = []
        for name in (b"a", b"b"):
            peer = context.socket(zmq.DEALER)
            peer.setsockopt(zmq.LINGER, 0)
            peer.setsockopt(zmq.ROUTING_ID, name)
            peer.setsockopt(zmq.RCVTIMEO, 5000)
            peer.setsockopt(zmq.RCVHWM, 1)
            peer.connect(f"ipc://{tmp_path}/r")
            peer.send(b"")
            assert router.recv_multipart() == [name, b""]
            peers.append(peer)
        yield router, *peers
        for socket in (router, *peers):
            socket.close()


# out_prune, out_prune_total, and: the bound of one client, the bound of all
def test_a_client_that_reads_gets_everything_however_much_it_was(wire, monkeypatch):
    monkeypatch.setattr(outgoing, "MOST_BYTES", 1 << 20)
    monkeypatch.setattr(outgoing, "MOST_BYTES_OF_ALL", 2 << 20)
    router, a, _ = wire
    unsent = Unsent(router, 1 << 16)
    for number in range(20):
        unsent.send(b"a", [b"header", np.full(1 << 16, number, np.int64)])
        assert a.recv_multipart()[0] == b"header"
        wait_until(lambda: all(tracker.done for waiting in unsent._waiting.values() for tracker, _ in waiting))
    assert unsent.dropped == 0
    assert unsent.total <= 1 << 20


@pytest.mark.parametrize(("each", "together"), [(1 << 20, 1 << 40), (1 << 40, 1 << 20)])
def test_answers_that_nobody_reads_are_bounded_for_one_and_for_all(wire, monkeypatch, each, together):
    monkeypatch.setattr(outgoing, "MOST_BYTES", each)
    monkeypatch.setattr(outgoing, "MOST_BYTES_OF_ALL", together)
    router, *_ = wire
    unsent = Unsent(router, 1 << 16)
    for _ in range(100):
        unsent.send(b"a", [b"header", np.zeros(1 << 16)])
    assert unsent.dropped > 50
    assert unsent.total <= (1 << 20) + (1 << 19)


def test_a_thread_that_waits_holds_nothing_of_the_last_function():
    class Table:
        pass

    threads, table, ended = UserThreads(), Table(), threading.Event()
    gone = weakref.ref(table)
    threads.start(lambda held=table: None, 10.0, lambda *_: None, ended.set)
    assert ended.wait(10)
    del table
    def is_gone():
        gc.collect()
        return gone() is None
    assert wait_until(is_gone, 5.0)
    threads.close()
