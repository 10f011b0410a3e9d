"""Hostile frames against real processes: ``python -m tests.harness.siege --frames 1000000 --seed 1 [--tcp]``.

Peers that were let in send what `hostile_messages` makes, by seed, to every node and to the coordinator of a tier; one of them never reads.
Meanwhile a client does its work. No process may die, hang or grow past `MOST_GROWN`; at the end two tables that nobody had a right to
change must be, bit for bit, as they were. What a peer may do in good faith and would end the tier, or change these tables, is spoilt before
it is sent: that it is refused, then, is a part of what is looked at.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import random
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import psutil
import zmq

from sparkps import sockets
from sparkps.client.control import ControlClient
from sparkps.client.session import Session, disconnect
from sparkps.client.tables import DenseTable, SparseTable
from sparkps.config import NodeSettings, Settings
from sparkps.driver_bridge.launchers import local
from sparkps.errors import ProtocolError
from sparkps.initializers import Uniform
from sparkps.optim import Adagrad
from sparkps.secret import TierSecret, forget
from sparkps.specs import GroupSpec, RankStart, TableSpec
from sparkps.testing.tcp_tier import TcpTier
from sparkps.wire.buckets import packed
from sparkps.wire.clock import GroupClock
from sparkps.wire.codec import decode
from sparkps.wire.function_specs import BUILT_IN
from sparkps.wire.messages import control as c
from sparkps.wire.messages import data as m
from sparkps.wire.messages import log
from tests.harness.hostile_messages import Hostile, Specimen, sent

#: Bytes that a process may grow by: what a node or coordinator keeps for peers that do not read, and a good deal for the allocator.
MOST_GROWN = 1 << 30
#: Seconds that a socket may take no frame, and a call of the client may take.
PATIENCE = 60.0
#: Frames for one peer before the next one has its turn, and for one session before it begins another.
TURN, SESSION = 50, 300
#: Keys of the table that is guarded.
KEYS = 5000


def connect(
    context: zmq.Context[zmq.Socket[bytes]], endpoint: str, secret: TierSecret | None, *, reads: bool
) -> zmq.Socket[bytes]:
    """A connection of a peer that was let in."""
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, 100)
    socket.setsockopt(zmq.RCVHWM, 1000 if reads else 1)
    sockets.connect(socket, endpoint, secret)
    return socket


class Peer:
    """One hostile connection."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        secret: TierSecret | None,
        hostile: Hostile,
        numbers: Numbers,
        *,
        reads: bool,
    ) -> None:
        self._context, self.endpoint, self._secret, self._reads, self._numbers = context, endpoint, secret, reads, numbers
        self.frames = iter(hostile)
        self.socket = connect(context, endpoint, secret, reads=reads)
        self.sent = self.answers = 0

    def take_turn(self, count: int) -> None:
        """Send so many messages, and read what has come."""
        if self.sent % SESSION < count:  # the last one is left without a word, or was ended by what was sent in it
            self._numbers.begin()
            self._send(sent(m.Hello(self._numbers.session)))
        for _ in range(count):
            self._send(next(self.frames))
            if self._reads:
                with contextlib.suppress(zmq.Again):
                    while True:
                        self.socket.recv_multipart(zmq.NOBLOCK)
                        self.answers += 1
        if self.sent % (10 * TURN) == 0 and self._reads:  # others open and drop connections
            self.socket.close(0)
            self.socket = connect(self._context, self.endpoint, self._secret, reads=True)

    def _send(self, frames: Sequence[bytes]) -> None:
        if not self.socket.poll(int(1000 * PATIENCE), zmq.POLLOUT):
            raise AssertionError(f"{self.endpoint} must take frames within {PATIENCE:.0f} s. It does not.")
        self.socket.send_multipart(frames)
        self.sent += 1


class Numbers:
    """Session, number and acknowledged number as a peer gives them: mostly of a session that it has opened, mostly the next."""

    def __init__(self, seed: int, nodes: Sequence[int]) -> None:
        self.session = (seed + 1) << 32
        self._nodes = nodes
        self._now = 0

    def begin(self) -> None:
        """From now on in another session."""
        self.session, self._now = self.session + 1, 0

    def __call__(self, rng: random.Random) -> tuple[int, int, int]:
        if rng.random() < 0.1:
            return rng.choice(self._nodes), rng.randrange(1, 4), rng.randrange(1, 1000)  # as of another node's log
        if rng.random() < 0.1:
            return self.session, rng.randrange(1, self._now + 5), max(0, self._now - rng.randrange(50))
        self._now += 1
        return self.session, self._now, max(0, self._now - rng.choice([1, 1, 1, 10, 1000]))


@dataclasses.dataclass
class Scene:
    """A tier under siege, and what is in it."""

    control: ControlClient
    address: c.TierAddress
    guarded: SparseTable
    dense: DenseTable
    scratch: TableSpec
    group: GroupSpec

    @classmethod
    def of(cls, address: c.TierAddress) -> Scene:
        control = ControlClient.of(address)

        def made(spec: TableSpec) -> TableSpec:
            created: TableSpec = control.request(c.CreateTable(0, spec)).spec
            return created

        guarded = SparseTable(address, made(TableSpec("guarded", "sparse", 4, init=Uniform(-1.0, 1.0), optimizer=Adagrad(0.1))))
        dense = DenseTable(address, made(TableSpec("guarded_dense", "dense", 1, "float64", (30, 40))))
        scratch = made(TableSpec("scratch", "sparse", 1, "float64"))
        group = control.request(c.AdmitGroup(0, "besieged", 2, 2, 1, 64, "besieged")).spec
        found = cls(control, address, guarded, dense, scratch, group)
        rng = np.random.default_rng(0)
        guarded.push(np.arange(KEYS), rng.normal(size=(KEYS, 4)).astype(np.float32))
        dense.assign(rng.normal(size=(30, 40)))
        return found

    def image(self) -> tuple[np.ndarray, np.ndarray]:
        """The guarded tables as a client reads them."""
        return self.guarded.pull(np.arange(KEYS + 100)), self.dense.pull()

    def check(self, before: tuple[np.ndarray, np.ndarray]) -> None:
        """Whether the guarded tables are as they were, bit for bit."""
        for table, was, now in zip(("guarded", "guarded_dense"), before, self.image(), strict=True):
            bits = f"u{was.itemsize}"
            differ = np.flatnonzero((was.view(bits) != now.view(bits)).any(axis=1))
            assert not len(differ), (
                f"table {table!r}, which nobody had a right to change, must be as it was. {len(differ)} rows are not, among them"
                f" {differ[:20].tolist()}: {was[differ[:3]].tolist()} became {now[differ[:3]].tolist()}"
            )

    def attached(self) -> c.Attached:
        attached: c.Attached = self.control.request(c.Attach(0))
        return attached

    # ---- what is sent --------------------------------------------------------------------------------------------------

    def to_node(self, epoch: int, session: int) -> list[Specimen]:
        """What clients and nodes send to a node."""
        table, guarded, group = self.scratch.table, self.guarded.spec.table, self.group.group
        keys, member = np.array([0, 1]), m.Member(group, 0, 1, 0)
        rows, ones = np.ones((2, 4), np.float32), np.ones((2, 1))
        everywhere = packed((1 << 256) - 1)
        shard = GroupClock(self.group, [200]).export_shard(200)
        header = {"bucket": 200, "indexes": [self.scratch.index], "tables": [[table, self.scratch.index, 0, 1]]}

        def call(function: str, tables: list[int], **args: Any) -> m.Call:
            return m.Call(epoch, [m.FunctionCall(function, tables, args)], None, 3, 5.0)

        return [
            Specimen(m.Hello(session, 0)),
            Specimen(m.Step(epoch, [m.Op(m.OpCode.PULL, guarded)]), (keys,)),
            Specimen(m.Step(epoch, [m.Op(m.OpCode.PUSH, guarded)], None, 1), (keys, rows)),
            Specimen(m.Step(epoch, [m.Op(m.OpCode.PULL, self.dense.spec.table, stop=256)])),
            Specimen(m.Step(epoch, [m.Op(m.OpCode.ASSIGN, self.dense.spec.table, stop=256)], None, 1), (np.ones(1200),)),
            Specimen(m.Step(epoch, [m.Op(m.OpCode.PULL, table)], member), (keys,)),
            Specimen(m.Step(epoch, [m.Op(m.OpCode.PUSH, table)], member, 2), (keys, ones)),
            Specimen(m.Step(epoch, [m.Op(m.OpCode.PUSH, table, 1, 0)], None, 2), (ones,)),
            Specimen(m.Register(epoch, self.scratch.index, 1, 0, 2), (keys,)),
            Specimen(m.Unregister(1)),
            Specimen(call("sum", [guarded])),
            Specimen(call("scale", [guarded], alpha=2.0)),
            Specimen(call("axpy", [table, guarded], alpha=0.5)),
            Specimen(call("topk", [guarded], k=5, by="magnitude")),
            Specimen(call("gram", [guarded] * 3, left=1, right=1)),
            Specimen(m.Takeover(m.Member(group, 0, 1, -1), epoch)),
            Specimen(m.Settle(m.Member(group, 0, 1, -1), b"state", epoch)),
            Specimen(m.Tick(member, b"state", False, epoch)),
            Specimen(m.Status()),
            Specimen(m.Export(epoch, guarded, 3, 0, 100)),
            Specimen(m.Bye(session, 0)),
            Specimen(m.Done(1)),
            Specimen(log.ShipWrite([m.Op(m.OpCode.ADD, guarded)], [everywhere], 9, 5), (keys, rows)),
            Specimen(log.ShipCall([m.FunctionCall("scale", [guarded], {"alpha": 2.0})], everywhere, 9, 6)),
            Specimen(log.ShipHold(1, [-self.guarded.spec.index, self.dense.spec.table], everywhere)),
            Specimen(log.ShipRows(1, [(guarded, 3)], 9, 7, everywhere, guarded), (np.array([0], np.int32), rows[:1], keys)),
            Specimen(log.ShipClose(group, 0, everywhere)),
            Specimen(log.ShipTick(member, b"s", False)),
            Specimen(log.ShipEnd(group, False)),
            Specimen(log.ShipGiven(everywhere)),
            Specimen(log.ShipForget(9)),
            Specimen(log.ShipBucket(200, epoch, [], [log.GroupShare(group, shard, [])], header), (keys[:0], np.ones((0, 1)))),
            Specimen(log.Shipped(0, 1, 1)),
            *self.to_coordinator(),
        ]

    def to_coordinator(self) -> list[Specimen]:
        """What drivers, workers and nodes send to the coordinator."""
        group, cause = self.group.group, c.Cause("WorkerFailed", "it failed", {"rank": 0})
        url, own = "file:///proc/nonexistent/checkpoints", "00000001-aaaaaaaa"
        report = {"rows": 1, "silent_replicas": [1], "tables": {"1": {"rows": 1, "bytes": 8}}, "load": {"buckets": [0], "bytes": [1]}}
        start = (RankStart(3, False, b"s"), RankStart(-1))
        messages: list[c.ControlMessage] = [
            c.Attach(1, self.address.tier_id), c.CreateTable(2, TableSpec("made", "sparse", 2, init=Uniform(-1.0, 1.0), group="g")),
            c.CreateTable(3, TableSpec("made_dense", "dense", 1, shape=(3, 4))), c.FindTable(4, "guarded"),
            c.DropTable(5, "made_dense", 99), c.DropTable(5, "guarded", self.guarded.spec.table), c.RegisterFunction(6, "f", b"pickled"),
            c.AdmitGroup(7, "g", 2, 2, 1, 64, "tag", start), c.EndGroup(8, 99, "tag"), c.Lease(9, group, 0, 7, "b n 5 6", "b n 1 2"),
            c.Renew(10, group, 0, 7, {"clock": 3}), c.Meet(11, group, 0, 7, 0, b"here"), c.ReleaseRank(12, group, 0, 7),
            c.FinishRank(13, group, 1, 7, b"result", {"clock": 3}), c.FailRank(14, 99, 0, 7, cause), c.GroupState(15, group),
            c.TierStatus(16), c.StopTier(17), c.NodeGone(18, "ipc://elsewhere", "it went"), c.ScaleTier(19, 2, 5.0),
            c.DrainNode(20, 1, 5.0), c.CloseTier(20, "it goes on"),
            c.TakeCheckpoint(21, url, own, own), c.CheckpointTaken(22, url, own, {"1": 3}, 100, 0.5),
            c.RestoreCheckpoint(23, url, own, [TableSpec("made", "sparse", 2)]), c.GiveToken(24, c.NodeToken("nn:8020", "abc", [], False)),
            c.FindDueTokens(25), c.LogLines(26, "node 0", [c.LogLine(20, "sparkps", "hello")], 1), c.FetchLog(27, 0),
            c.NodeHello(28, "ipc://n9", "host", 5, 3, 4), c.Heartbeat(29, 0, report), c.CommandDone(30, 0, cause, {"clocks": {"1": 3}}),
            c.Welcome(31, 0, "t", 1, [[0]] * 256, [], [], [], NodeSettings()), c.SetPlacement(32, 99, [[0]] * 256, []), c.StopNode(33),
            c.Accepted(34), c.Renewed(35, True),
        ]  # fmt: skip
        return [Specimen(message) for message in messages]

    # ---- what is not sent ----------------------------------------------------------------------------------------------

    def spoil(self, frames: list[bytes]) -> list[bytes]:
        """Frames that would do in good faith what is not to be done, and one more that is no array of theirs."""
        try:
            message, _ = decode(frames)
        except ProtocolError:
            return frames
        return [*frames, b"x"] if self._is_forbidden(message) else frames

    def _is_forbidden(self, message: Any) -> bool:
        guarded = {self.guarded.spec.table, self.dense.spec.table}
        match message:
            case m.Step(ops=ops):
                return any(op.code != m.OpCode.PULL and op.table in guarded for op in ops)
            case m.Call(calls=calls):
                return any(guarded.intersection(call.tables[:1]) and _writes(call.function) for call in calls)
            case c.DropTable(name=name):
                return name in ("guarded", "guarded_dense", "scratch")
            case c.NodeGone():
                return any(info.endpoint == message.endpoint for info in self.attached().nodes)
            case c.StopTier() | c.NodeHello() | c.ScaleTier() | c.DrainNode() | c.CloseTier() | c.TakeCheckpoint() | c.RestoreCheckpoint():
                return True  # their fields are looked at in process, by `test_field_checks`
            case c.GiveToken(token=token):
                return token.is_ours  # it would be renewed where it says
        return False


def _writes(function: str) -> bool:
    return function not in BUILT_IN or BUILT_IN[function].writes


class Worker:
    """A client that goes on with its work, on a thread of its own, and notes how long it waits."""

    def __init__(self, address: c.TierAddress) -> None:
        self._address = address
        control = ControlClient.of(address)
        self._spec: TableSpec = control.request(c.CreateTable(0, TableSpec("work", "sparse", 2))).spec
        self._over = threading.Event()
        self.seconds: list[float] = []
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="worker", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        keys = np.arange(1000)
        try:
            session = Session(self._address, ControlClient.of(self._address))
            table = SparseTable(self._address, self._spec).bind(session)
            while not self._over.is_set():
                began = time.monotonic()
                table.add(keys, np.ones((1000, 2), np.float32))
                assert float(table.pull([7])[0, 0]) == len(self.seconds) + 1, "each of its writes counts once"
                self.seconds.append(time.monotonic() - began)
                self._over.wait(0.02)
            session.close()
        except BaseException as error:
            self.error = error

    def end(self) -> None:
        self._over.set()
        self._thread.join(PATIENCE)
        if self.error is not None:
            raise self.error
        assert not self._thread.is_alive(), "its last call was answered"


@dataclasses.dataclass
class Outcome:
    """What a siege has come to."""

    frames: int
    seconds: float
    #: By process, its bytes in memory before, and the most that was seen.
    memory: dict[str, tuple[int, int]]
    made: dict[str, int]
    #: Round trips of the client, and the longest (seconds).
    calls: int
    slowest: float
    dropped: int

    def __str__(self) -> str:
        grown = ", ".join(f"{name} {before >> 20} -> {most >> 20} MiB" for name, (before, most) in self.memory.items())
        return (
            f"{self.frames} frames in {self.seconds:.0f} s ({self.frames / self.seconds:.0f}/s); {grown}; dropped {self.dropped};"
            f" the client made {self.calls} round trips, the slowest in {self.slowest:.2f} s; {self.made}"
        )


def besiege(frames: int, seed: int, told: Callable[[str], None] = lambda line: None, *, tcp: bool = False) -> Outcome:
    """Send so many hostile frames to a tier that is started for it.

    Parameters
    ----------
    frames : int
    seed : int
    told : callable
        Hears of every 10,000 frames.
    tcp : bool
        The tier listens at TCP ports, and all connections are encrypted.

    Raises
    ------
    AssertionError
        A process has died, hangs, or has grown too large; a table was changed; a client was not served.
    """
    settings = Settings(num_nodes=2, node=NodeSettings(allow_functions=False))
    tier = TcpTier(settings).start() if tcp else local.launch(settings)
    try:
        return _besiege(tier, frames, seed, told)
    finally:
        disconnect(tier.address)
        ControlClient.of(tier.address).close()
        tier.stop()
        forget(tier.address.tier_id)


def _besiege(tier: local.LocalTier, frames: int, seed: int, told: Callable[[str], None]) -> Outcome:
    scene = Scene.of(tier.address)
    before, attached = scene.image(), scene.attached()
    status = scene.control.request(c.TierStatus(0)).report
    processes = {f"node {node['id']}": psutil.Process(node["pid"]) for node in status["nodes"]}
    processes["coordinator"] = psutil.Process(status["coordinator"]["pid"])
    memory = {name: (process.memory_info().rss,) * 2 for name, process in processes.items()}
    worker, began = Worker(tier.address), time.monotonic()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        hostiles, peers = [], list[Peer]()
        targets = [*((info.endpoint, True) for info in attached.nodes), (tier.address.coordinator, False)]
        for number, ((endpoint, is_node), reads) in enumerate(itertools.product(targets, (True, True, False))):
            numbers = Numbers(1000 * seed + number, [info.node for info in attached.nodes])
            specimens = scene.to_node(attached.epoch, numbers.session) if is_node else scene.to_coordinator()
            hostiles.append(Hostile(1000 * seed + number, specimens, numbers, scene.spoil))
            peers.append(Peer(context, endpoint, tier.secret, hostiles[-1], numbers, reads=reads))
        for done in range(0, frames, TURN):
            peers[done // TURN % len(peers)].take_turn(TURN)
            if done // TURN % 20 == 0:
                _look(processes, memory, worker)
            if done and done % 10_000 == 0:
                scene.check(before)
                told(f"{done} frames, {time.monotonic() - began:.0f} s, {[f'{name} {most >> 20}' for name, (_, most) in memory.items()]}")
        _quiet(scene, processes, memory, worker)
        seconds = time.monotonic() - began
        worker.end()
        scene.check(before)
        report = scene.control.request(c.TierStatus(0)).report
        states = {node["id"]: (node["state"], node["reason"]) for node in report["nodes"]}
        assert states == {info.node: ("up", "") for info in attached.nodes}, states
        assert report["state"] == "ready", report["state"]
        made: dict[str, int] = {}
        for hostile in hostiles:
            made = {kind: made.get(kind, 0) + hostile.made.get(kind, 0) for kind in {*made, *hostile.made}}
        dropped = report["garbage_frames"] + sum(node["dropped_messages"] for node in report["nodes"])
        return Outcome(sum(peer.sent for peer in peers), seconds, memory, made, len(worker.seconds), max(worker.seconds), dropped)
    finally:
        context.destroy(0)


def _look(processes: dict[str, psutil.Process], memory: dict[str, tuple[int, int]], worker: Worker) -> None:
    for name, process in processes.items():
        assert process.is_running(), f"{name} is gone"
        assert process.status() != psutil.STATUS_ZOMBIE, f"{name} has ended"
        before, most = memory[name]
        now = process.memory_info().rss
        memory[name] = before, max(most, now)
        assert now - before < MOST_GROWN, f"{name} has grown by {(now - before) >> 20} MiB"
    if worker.error is not None:
        raise worker.error


def _quiet(scene: Scene, processes: dict[str, psutil.Process], memory: dict[str, tuple[int, int]], worker: Worker) -> None:
    """Wait until what was sent is worked off: who asks is answered after it."""
    seen, deadline = len(worker.seconds), time.monotonic() + PATIENCE
    while len(worker.seconds) < seen + 5:
        assert time.monotonic() < deadline, "a client is served"
        _look(processes, memory, worker)
        time.sleep(0.05)
    scene.control.request(c.TierStatus(0))


def main(argv: Sequence[str] | None = None) -> int:
    """Besiege a tier, and say what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.harness.siege", description=__doc__)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tcp", action="store_true", help="over TCP, with keys")
    arguments = parser.parse_args(argv)
    sys.stdout.write(f"{besiege(arguments.frames, arguments.seed, _say, tcp=arguments.tcp)}\n")
    return 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
