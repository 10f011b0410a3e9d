"""Strangers at the ports of a tier: ``python -m tests.harness.strangers --frames 1000000 --seed 1``.

They have no secret, or another one. Some speak bytes by chance; some begin as ZeroMQ does, with a greeting of one mechanism or another, and
go on with commands and frames that are wrong, far too large, or never end; some are ZeroMQ itself, and send what `hostile_messages` makes.
Nothing of it may reach a tier: no process dies, hangs or grows, a client is served meanwhile, tables are as they were, and not a byte of
what is behind comes back.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import psutil
import zmq

from sparkps.client.control import ControlClient
from sparkps.client.session import disconnect
from sparkps.config import Settings
from sparkps.secret import TierSecret, forget
from sparkps.sockets import connect
from sparkps.testing.tcp_tier import TcpTier
from sparkps.wire.messages import control as c
from tests.harness.hostile_messages import Hostile
from tests.harness.siege import Numbers, Outcome, Scene, Worker, _look, _quiet

#: Bytes that a process may grow by: connections of strangers, and what five of them bring through the loopback between two looks at
#: their handshakes. It is reached within the first fifth of a million frames, and stays.
MOST_GROWN = 200 << 20
#: Frames of one connection, and connections that are there at a time.
LONGEST, MOST_OPEN = 50, 200
#: How often one of them is followed by some that send 64 MiB each.
FLOODS = 0.02

_COMMANDS = (b"\x05HELLO", b"\x08INITIATE", b"\x05READY", b"\x07MESSAGE", b"\x05ERROR", b"")
_MECHANISMS = (b"NULL", b"PLAIN", b"CURVE", b"GSSAPI", b"x" * 20)


def greeting(rng: random.Random) -> bytes:
    """How ZeroMQ begins a connection (ZMTP 3), or nearly so."""
    version = bytes([3, rng.choice([0, 0, 1, 9])])
    made = b"\xff" + bytes(8) + b"\x7f" + version + rng.choice(_MECHANISMS).ljust(20, b"\0") + bytes([rng.randrange(2)]) + bytes(31)
    return made if rng.random() < 0.9 else made[: rng.randrange(64)] + rng.randbytes(5)


def frame(rng: random.Random) -> bytes:
    """A command or a frame as ZMTP has them: right in form, cut off, or of a length that is not there."""
    body = rng.choice(_COMMANDS) + rng.randbytes(rng.choice([0, 8, 194, 500]))
    flags = rng.choice([0, 1, 4, 4, 4, 5])
    kind = rng.random()
    if kind < 0.2:
        return bytes([flags | 2]) + struct.pack(">Q", rng.choice([len(body), 1 << 20, 1 << 33, (1 << 63) - 1])) + body
    made = bytes([flags, len(body) % 256]) + body
    return made if kind < 0.8 else rng.randbytes(rng.randrange(1, 300))


def flood(endpoint: str, declared: int, sent: int) -> int:
    """Begin as a peer with a secret does, and go on with one command of `declared` bytes, `sent` of which come; bytes that were taken."""
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    taken, block = 0, bytes(1 << 18)
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 10) as stranger:
        stranger.settimeout(1)
        stranger.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"CURVE".ljust(20, b"\0") + bytes(32))
        stranger.sendall(b"\x06" + struct.pack(">Q", declared))
        while taken < sent:
            stranger.sendall(block)
            taken += len(block)
    return taken


def floods(endpoint: str, connections: int, declared: int, sent: int) -> int:
    """So many of `flood` at once; bytes that were taken of all."""
    with ThreadPoolExecutor(connections) as pool:
        return sum(pool.map(lambda _: flood(endpoint, declared, sent), range(connections)))


def speak(endpoint: str, rng: random.Random, frames: int) -> tuple[socket.socket | None, bytes]:
    """One connection that says so many things; it, if it is left open, and all that came back."""
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    heard = b""
    try:
        stranger = socket.create_connection((host, int(port)), 10)
    except OSError:  # it takes no more of this host for a while
        return None, heard
    with contextlib.suppress(OSError):  # it is hung up on
        stranger.settimeout(5)
        stranger.sendall(greeting(rng))
        for _ in range(frames):
            stranger.sendall(frame(rng))
    with contextlib.suppress(OSError):
        stranger.settimeout(0)
        heard = stranger.recv(65536)
    return stranger, heard


def besiege(frames: int, seed: int, told: Callable[[str], None] = lambda line: None) -> Outcome:
    """Send so many frames of strangers to a tier that is started for it.

    Raises
    ------
    AssertionError
        A process has died, hangs, or has grown too large; a table was changed; a client was not served; a stranger was answered.
    """
    tier = TcpTier(Settings(num_nodes=2)).start()
    try:
        return _besiege(tier, frames, seed, told)
    finally:
        disconnect(tier.address)
        ControlClient.of(tier.address).close()
        tier.stop()
        forget(tier.address.tier_id)


def _besiege(tier: TcpTier, frames: int, seed: int, told: Callable[[str], None]) -> Outcome:
    scene, rng = Scene.of(tier.address), random.Random(seed)
    before, attached = scene.image(), scene.attached()
    status = scene.control.request(c.TierStatus(0)).report
    processes = {f"node {node['id']}": psutil.Process(node["pid"]) for node in status["nodes"]}
    processes["coordinator"] = psutil.Process(status["coordinator"]["pid"])
    memory = {name: (process.memory_info().rss,) * 2 for name, process in processes.items()}
    endpoints = [tier.address.coordinator, *(info.endpoint for info in attached.nodes)]
    worker, began = Worker(tier.address), time.monotonic()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    numbers = Numbers(seed, [info.node for info in attached.nodes])
    hostile = Hostile(seed, scene.to_node(attached.epoch, numbers.session), numbers, lambda made: made)
    messages = iter(hostile)
    peers = [_peer(context, endpoint, secret) for endpoint in endpoints for secret in (None, TierSecret.new())]
    opened: list[socket.socket] = []
    sent, shown = 0, 0
    try:
        while sent < frames:
            number = rng.randrange(1, LONGEST)
            stranger, heard = speak(rng.choice(endpoints), rng, number)
            assert len(heard) < 1000, f"a stranger must hear a greeting at most, or that it is refused. Heard {heard!r}"
            sent += number
            for peer in peers:
                with contextlib.suppress(zmq.Again):  # what nobody takes fills its queue
                    peer.send_multipart(next(messages), zmq.NOBLOCK)
                    sent += 1
                assert not peer.poll(0), "a peer without the secret was answered"
            if rng.random() < FLOODS:
                floods(rng.choice(endpoints), 5, rng.choice([1 << 24, 400 << 20]), 64 << 20)
            if stranger is not None:
                opened.append(stranger)
            while len(opened) > (MOST_OPEN if rng.random() < 0.95 else 10):
                opened.pop(rng.randrange(len(opened))).close()
            _look(processes, memory, worker)
            if sent // 10_000 > shown:
                shown = sent // 10_000
                scene.check(before)
                told(f"{sent} frames, {time.monotonic() - began:.0f} s, {[f'{name} {most >> 20}' for name, (_, most) in memory.items()]}")
        _quiet(scene, processes, memory, worker)
        seconds = time.monotonic() - began
        worker.end()
        scene.check(before)
        report = scene.control.request(c.TierStatus(0)).report
        assert report["state"] == "ready", report["state"]
        dropped = report["garbage_frames"] + sum(node["dropped_messages"] for node in report["nodes"])
        assert dropped == 0, "nothing of it has reached a process of the tier"
        for name, (first, most) in memory.items():
            assert most - first < MOST_GROWN, f"{name} has grown by {(most - first) >> 20} MiB"
        return Outcome(sent, seconds, memory, dict(hostile.made), len(worker.seconds), max(worker.seconds), dropped)
    finally:
        for each in opened:
            each.close()
        context.destroy(0)


def _peer(context: zmq.Context[zmq.Socket[bytes]], endpoint: str, secret: TierSecret | None) -> zmq.Socket[bytes]:
    peer = context.socket(zmq.DEALER)
    peer.setsockopt(zmq.LINGER, 0)
    peer.setsockopt(zmq.SNDHWM, 100)
    peer.setsockopt(zmq.RECONNECT_IVL, 20)
    connect(peer, endpoint, secret)
    return peer


def main(argv: Sequence[str] | None = None) -> int:
    """Besiege a tier, and say what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.harness.strangers", description=__doc__)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args(argv)

    def say(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    say(str(besiege(arguments.frames, arguments.seed, say)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
