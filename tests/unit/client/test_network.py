"""The network as it is: waiting ends with a message, or in time."""

from __future__ import annotations

import pathlib
import threading
import time
from collections.abc import Iterator

import pytest
import zmq

from sparkps.client.channel import ZmqChannel
from sparkps.client.network import ZmqNetwork


@pytest.fixture
def peers(tmp_path: pathlib.Path) -> Iterator[tuple[ZmqNetwork, list[ZmqChannel], list[tuple[zmq.Socket, bytes]]]]:
    """Two channels, and the sockets at their other ends."""
    network, context = ZmqNetwork(), zmq.Context()
    channels, ends = [], []
    for number in range(2):
        router = context.socket(zmq.ROUTER)
        router.setsockopt(zmq.LINGER, 0)
        router.bind(f"ipc://{tmp_path}/{number}")
        channels.append(network.connect(f"ipc://{tmp_path}/{number}"))
        channels[-1].send([b"hello"])
        ends.append((router, router.recv_multipart()[0]))
    yield network, channels, ends
    for channel, (router, _) in zip(channels, ends, strict=True):
        channel.close(0)
        router.close()
    context.term()


@pytest.mark.parametrize("patience", [0.0, 0.05])
@pytest.mark.parametrize("both", [True, False])
def test_a_message_ends_the_wait(peers, patience: float, both: bool) -> None:
    network, channels, ends = peers
    router, identity = ends[0]
    sender = threading.Timer(0.02, lambda: router.send_multipart([identity, b"one", b"two"]))
    sender.start()
    began = network.now()
    network.wait(channels if both else channels[:1], 20.0, patience)
    assert network.now() - began < 10.0
    sender.join()
    assert [bytes(frame) for frame in channels[0].receive() or []] == [b"one", b"two"]
    assert channels[0].receive() is None


@pytest.mark.parametrize("some", [True, False])
@pytest.mark.parametrize("patience", [0.0, 0.01, 5.0])
def test_a_wait_ends_in_time(peers, patience: float, some: bool) -> None:
    network, channels, _ = peers
    began = time.monotonic()
    network.wait(channels if some else [], 0.05, patience)
    assert 0.04 < time.monotonic() - began < 3.0
