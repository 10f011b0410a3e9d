"""A client that asks and never reads costs a node no more than a bounded amount of memory."""

from __future__ import annotations

import psutil
import zmq

from sparkps.wire.codec import decode, encode
from sparkps.wire.messages import data as m
from tests.cluster.conftest import Tier
from tests.harness.requests import Numbered
from tests.harness.waiting import wait_until


def test_answers_that_nobody_reads_do_not_fill_a_node(tier: Tier) -> None:
    w = tier.dense("unread", shape=(512, 1024), dtype="float64")  # 2 MiB on each of two nodes
    session = tier.session_settings()
    info = next(node for node in tier.status()["nodes"] if node["id"] == session.routing.nodes[0])
    process = psutil.Process(info["pid"])
    context = zmq.Context()  # of its own: it is to be closed with its queue
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.RCVHWM, 1)
    socket.setsockopt(zmq.SNDHWM, 0)
    socket.connect(info["endpoint"])
    before = process.memory_info().rss
    socket.send_multipart(encode(m.Hello(4242)))
    for seq in range(1, 601):
        pull = Numbered(4242, seq, 0, m.Step(session.routing.epoch, [m.Op(m.OpCode.PULL, w.spec.table, stop=256)]))
        socket.send_multipart(pull.frames())
    mine = tier.session()
    for _ in range(20):
        assert w.bind(mine).pull().shape == (512, 1024), "others are served meanwhile"
    status = Numbered(4243, 1, 0, m.Status())
    other = context.socket(zmq.DEALER)
    other.setsockopt(zmq.LINGER, 0)
    other.setsockopt(zmq.RCVTIMEO, 20_000)
    other.connect(info["endpoint"])
    other.send_multipart(encode(m.Hello(4243)))
    other.send_multipart(status.frames())
    assert isinstance(decode(other.recv_multipart())[0], m.Ready)
    assert isinstance(decode(other.recv_multipart())[0], m.StatusReport)

    def queued() -> int:
        return int(next(report for report in tier.reports() if report["node"] == info["id"])["queued_bytes"])

    assert wait_until(lambda: queued() < 200, 120.0), "every pull was answered; the question itself counts"
    grown = process.memory_info().rss - before
    mine.close()
    socket.close()
    other.close()
    context.term()
    assert grown < 500 << 20, f"{grown >> 20} MiB for 1,200 MiB of answers that nobody reads"


def test_small_answers_that_nobody_reads_do_not_fill_a_node(tier: Tier) -> None:
    w = tier.dense("unread_small", shape=(96, 128), dtype="float64")  # 48 KiB on each of two nodes
    session = tier.session_settings()
    info = next(node for node in tier.status()["nodes"] if node["id"] == session.routing.nodes[0])
    process, context = psutil.Process(info["pid"]), zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.RCVHWM, 1)
    socket.setsockopt(zmq.SNDHWM, 0)
    socket.connect(info["endpoint"])

    def report() -> dict[str, int]:
        return next(report for report in tier.reports() if report["node"] == info["id"])

    before, dropped = process.memory_info().rss, report()["unsent_dropped"]
    socket.send_multipart(encode(m.Hello(4244)))
    for seq in range(1, 15_001):  # acknowledged, and not read
        pull = Numbered(4244, seq, seq - 1, m.Step(session.routing.epoch, [m.Op(m.OpCode.PULL, w.spec.table, stop=256)]))
        socket.send_multipart(pull.frames())

    assert wait_until(lambda: report()["unsent_dropped"] > dropped + 100, 60.0)
    grown, figures = process.memory_info().rss - before, report()
    socket.close()
    context.term()
    assert 32 << 20 < figures["unsent_bytes"] < 300 << 20, "it is accounted"
    assert grown < 400 << 20, f"{grown >> 20} MiB for 700 MiB of answers that nobody reads"
    assert wait_until(lambda: report()["unsent_bytes"] < 10 << 20 or w.pull().shape != (96, 128), 60.0), "and given back"
