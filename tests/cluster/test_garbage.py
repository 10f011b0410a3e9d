"""Hostile and broken frames: a node answers with an error or drops them, counts them, and goes on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import zmq

from sparkps.wire.codec import decode, encode
from sparkps.wire.messages import data as m
from tests.cluster.conftest import Tier
from tests.harness.requests import Numbered
from tests.harness.waiting import wait_until


@pytest.mark.parametrize("seed", range(3))
def test_a_node_never_dies_of_garbage(tier: Tier, seed: int) -> None:
    w = tier.sparse(f"garbage_{seed}", dim=1)
    rng = np.random.default_rng(seed)
    good = Numbered(1, 1, 0, m.Step(1, [m.Op(1, w.spec.table)])).frames([np.arange(5), np.ones((5, 1), np.float32)])
    good = [bytes(memoryview(frame).cast("B")) for frame in good]
    before = tier.dropped()
    context = zmq.Context.instance()
    for endpoint in tier.endpoints():
        socket = context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 2000)
        socket.connect(endpoint)
        socket.send_multipart([b""])
        socket.send_multipart([b"SPS\xff" + b"x" * 20])
        for _ in range(200):
            frames = [bytearray(frame) for frame in good]
            kind = rng.integers(4)
            if kind == 0:
                frames = [bytearray(rng.bytes(int(rng.integers(1, 200)))) for _ in range(int(rng.integers(1, 5)))]
            elif kind == 1:
                frames = frames[: int(rng.integers(1, 3))]
            elif kind == 2:
                frame = frames[int(rng.integers(3))]
                frame[int(rng.integers(len(frame)))] ^= int(rng.integers(1, 256))
            else:
                frames[2] = frames[2][: int(rng.integers(len(frames[2])))]
            socket.send_multipart([bytes(frame) for frame in frames])
        socket.close()
    w.add([1], [[1.0]])
    assert w.pull([1])[0, 0] == 1.0
    assert wait_until(lambda: tier.dropped() > before, 120.0)


def test_refusals_come_back_to_the_sender(tier: Tier) -> None:
    w = tier.sparse("refusals", dim=1)
    socket = zmq.Context.instance().socket(zmq.DEALER)
    socket.setsockopt(zmq.RCVTIMEO, 10_000)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(tier.endpoints()[0])
    epoch = tier.session_settings().routing.epoch

    def ask(message: Any, arrays: list[np.ndarray] | None = None) -> Any:
        socket.send_multipart(message.frames(arrays or []) if isinstance(message, Numbered) else encode(message))
        return decode(socket.recv_multipart())[0]

    assert isinstance(ask(Numbered(99, 1, 0, m.Step(epoch, []))), m.UnknownSession)
    assert isinstance(ask(m.Hello(99)), m.Ready)
    stale = ask(Numbered(99, 1, 0, m.Step(epoch + 7, [])))
    assert isinstance(stale, m.WrongEpoch)
    assert stale.epoch == epoch
    table, none = w.spec.table, np.zeros(0, np.int64)
    cases = [
        (Numbered(99, 2, 0, m.Step(epoch, [m.Op(0, 10**9)])), [np.arange(3)], "UnknownTable"),
        (Numbered(99, 3, 0, m.Step(epoch, [m.Op(9, table)])), [np.arange(3)], "ProtocolError"),
        (Numbered(99, 4, 0, m.Step(epoch, [m.Op(0, table)])), [], "ProtocolError"),
        (Numbered(99, 5, 0, m.Step(epoch, [m.Op(0, table)])), [np.arange(2000)[::-1]], "InvalidInput"),
        (Numbered(99, 6, 0, m.Step(epoch, [m.Op(0, table)])), [np.arange(3.0)], "InvalidInput"),
        (
            Numbered(99, 7, 0, m.Step(epoch, [m.Op(0, table), m.Op(1, table)])),
            [none, none, np.zeros((0, 1), np.float32)],
            "ProtocolError",
        ),
        (Numbered(99, 8, 0, m.Step(epoch, [m.Op(1, table)])), [none, np.zeros((0, 2), np.float32)], "InvalidInput"),
        (Numbered(99, 9, 0, m.Tick(m.Member(10**6, 0, 1, 0), epoch=epoch)), [], "Fenced"),
    ]
    for message, arrays, error in cases:
        answer = ask(message, arrays)
        assert isinstance(answer, m.Failed), message
        assert answer.error == error, answer
    assert isinstance(ask(Numbered(99, 10, 0, m.Step(epoch, [m.Op(0, table, 5)]))), m.UnknownKeySet)
    stray = ask(m.Done(3))
    assert (stray.seq, stray.error) == (0, "ProtocolError"), "an answer is no request"
    assert isinstance(ask(Numbered(99, 11, 0, m.Step(epoch, [m.Op(0, table)])), [none]), m.Done)
    socket.close()


def test_a_write_that_arrives_twice_is_applied_once(tier: Tier) -> None:
    w = tier.sparse("twice", dim=1)
    session = tier.session_settings()
    node = session.routing.nodes[0]
    key = next(k for k in range(1000) if session.routing.primaries[int(tier.bucket(k))] == node)
    socket = zmq.Context.instance().socket(zmq.DEALER)
    socket.setsockopt(zmq.RCVTIMEO, 10_000)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(tier.endpoints()[0])
    write = Numbered(77, 1, 0, m.Step(session.routing.epoch, [m.Op(2, w.spec.table)], call=1))
    step = write.frames([np.array([key]), np.ones((1, 1), np.float32)])
    socket.send_multipart(encode(m.Hello(77)))
    for _ in range(3):
        socket.send_multipart(step)
    answers = [decode(socket.recv_multipart())[0] for _ in range(4)]
    assert [type(a) for a in answers] == [m.Ready, m.Done, m.Done, m.Done]
    assert w.pull([key])[0, 0] == 1.0
    socket.close()


def test_a_session_without_a_number_is_refused_and_garbage_after_it_harms_nobody(tier: Tier) -> None:
    w = tier.sparse("unnumbered", dim=1)
    w.add([1], [[1.0]])
    before = tier.dropped()
    for endpoint in tier.endpoints():
        socket = zmq.Context.instance().socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 2000)
        socket.connect(endpoint)
        socket.send_multipart(encode(m.Hello(0)))
        socket.send_multipart([b"xx"])
        socket.close()
    assert wait_until(lambda: tier.dropped() >= before + 4, 120.0)
    assert w.pull([1])[0, 0] == 1.0
    assert tier.status()["state"] == "ready"
