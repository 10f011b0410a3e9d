"""Answers on their way out: everything for clients that read, bounds for those that do not."""

from __future__ import annotations

import gc
import threading
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import zmq

from sparkps import outgoing
from sparkps.outgoing import MOST_COUNTED, Unsent
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


def test_small_messages_that_nobody_reads_are_bounded_too(wire, monkeypatch):
    monkeypatch.setattr(outgoing, "MOST_BYTES", 1 << 20)
    monkeypatch.setattr(outgoing, "PROBE_BYTES", 1 << 16)
    router, a, b = wire
    router.setsockopt(zmq.SNDHWM, 0)
    unsent = Unsent(router, 1 << 16)
    answer = [b"header" * 100, np.zeros(1000)]
    for number in range(5000):  # 40 MB, of which the system's sockets take a few 100 KB
        unsent.send(b"a", answer)
        unsent.send(b"b", answer)
        assert b.recv_multipart()[0] == answer[0], "who reads gets all"
        if number % 50 == 49:  # pyzmq tells of it from a thread, which may wait for a processor
            assert wait_until(lambda: all(tracker.done for tracker, _ in unsent._waiting.get(b"b", ())))
    unsent._prune()
    assert unsent.dropped > 1000
    assert unsent.total <= (1 << 20) + (1 << 18)
    received = [0]

    def is_read():  # when the last one is out, and pyzmq has told of it: a moment without any may come before
        while a.poll(0):
            a.recv_multipart()
            received[0] += 1
        return all(tracker.done for tracker, _ in unsent._waiting[b"a"])

    assert wait_until(is_read, 30.0)
    unsent.send(b"a", [b"again", np.zeros(1 << 13)])
    while a.recv_multipart()[0] != b"again":  # those behind the last one of which anything is told
        received[0] += 1
    assert 50 < received[0] < 1000


class Sent:
    """A socket that takes everything, of which nobody knows when it is out."""

    def __init__(self, monkeypatch):
        self.frames = []
        monkeypatch.setattr(outgoing.sockets, "send", lambda socket, frames, flags=0: self.frames.append(frames))
        monkeypatch.setattr(Unsent, "_probe", self.probe)
        monkeypatch.setattr(outgoing.sockets, "send_tracked", lambda socket, frames, large: self.tracked(frames))
        self.trackers = []

    def tracked(self, frames):
        self.frames.append(frames)
        self.trackers.append(SimpleNamespace(done=False))
        return self.trackers[-1]

    def probe(self, identity, frames):
        return self.tracked([identity, *frames])


def test_connections_that_were_answered_once_are_not_kept_for_ever(monkeypatch):
    sent, unsent = Sent(monkeypatch), Unsent(None, 1 << 16)
    for number in range(3 * MOST_COUNTED):
        unsent.send(b"%d" % number, [b"header"])
        sent.trackers.pop().done = True
        assert len(unsent._small) <= MOST_COUNTED
        unsent._prune()
    assert unsent.dropped == 0
    assert unsent.total == 0
    unsent.send(b"%d" % (2 * MOST_COUNTED), [b"header"])
    assert not sent.trackers, "one of those that are left"
    unsent.send(b"0", [b"header"])
    assert len(sent.trackers) == 1, "one that was forgotten is asked about at once"
    assert b"%d" % (2 * MOST_COUNTED) in unsent._small, "the one that was sent to last stays"


def test_small_messages_are_counted_and_those_of_connections_that_do_not_read_stay_so(monkeypatch):
    sent, unsent = Sent(monkeypatch), Unsent(None, 1 << 16)
    unsent.most = 64 << 20
    answer = [b"header", np.zeros(1000)]
    for _ in range(50):
        for number in range(500):
            unsent.send(b"%d" % number, answer)
    nbytes = len(sent.frames) * (8000 + outgoing.MESSAGE_BYTES + 6)
    assert unsent.total == nbytes, "whatever was forgotten of single ones"
    assert unsent.dropped > 1000
    assert unsent.total < (64 << 20) + 500 * (8 << 10)
    assert unsent._small_bytes <= 8 << 20
    unsent.send(b"new", answer)
    assert sent.frames[-1][0] == b"new", "who has nothing unread is served"
    for tracker in sent.trackers:
        tracker.done = True
    unsent._prune()
    assert unsent.total <= 8 << 20
    assert not unsent._waiting
    assert not unsent._bytes


def test_many_that_read_cost_nobody_an_answer(monkeypatch):
    sent, unsent = Sent(monkeypatch), Unsent(None, 1 << 16)
    unsent.most = 16 << 20
    for _ in range(20):
        for number in range(5000):
            unsent.send(b"%d" % number, [b"header", np.zeros(100)])
            while sent.trackers:
                sent.trackers.pop().done = True
    unsent.send(b"0", [b"header", np.zeros(1 << 16)])
    assert unsent.dropped == 0
    assert unsent.total < (4 << 20)


def test_what_must_arrive_is_not_dropped(wire, monkeypatch):
    monkeypatch.setattr(outgoing, "MOST_BYTES", 1 << 20)
    router, _, b = wire
    unsent = Unsent(router, 1 << 16, lambda identity: identity == b"b")
    unsent.most = 1 << 20
    for _ in range(100):
        unsent.send(b"a", [b"header", np.zeros(1 << 16)])
    assert unsent.dropped > 50
    before = unsent.dropped
    for number in range(20):
        unsent.send(b"b", [b"command", np.full(1 << 16, number, np.int64)])
    assert unsent.dropped == before
    assert [np.frombuffer(b.recv_multipart()[1], np.int64)[0] for _ in range(20)] == list(range(20))


def test_messages_that_end_with_an_empty_array_are_sent_however_many_came_before(wire):
    """One of each MiB of small ones is sent in another way."""
    router, a, _ = wire
    unsent = outgoing.Unsent(router, 1 << 30)
    frames = [b"header", memoryview(np.zeros((0, 3), np.float32))]
    for _ in range(2 * outgoing.PROBE_BYTES // outgoing.MESSAGE_BYTES):
        unsent.send(b"a", frames)
        assert [len(frame) for frame in a.recv_multipart()] == [6, 0]


def test_one_that_does_not_read_keeps_nothing_from_those_who_do(wire):
    router, _, b = wire
    unsent = outgoing.Unsent(router, 1 << 16)
    unsent.most = 8 << 20
    large = [b"header", np.zeros(1 << 17)]
    for _ in range(40):
        unsent.send(b"a", large)
    assert unsent.total <= unsent.most // outgoing.OWN_SHARE + (2 << 20)
    for _ in range(20):
        unsent.send(b"b", large)
        assert b.recv_multipart()[0] == b"header"
        wait_until(lambda: all(tracker.done for tracker, _ in unsent._waiting.get(b"b", ())))
    assert unsent.dropped >= 30
