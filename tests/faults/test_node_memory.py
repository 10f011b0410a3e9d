"""A node that is filled refuses new rows, and nothing else: the operating system never has to end it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from sparkps.client.control import ControlClient
from sparkps.client.session import disconnect
from sparkps.client.tables import SparseTable
from sparkps.config import NodeSettings, Settings
from sparkps.driver_bridge.launchers import local
from sparkps.errors import OutOfNodeMemory
from sparkps.optim import SGD
from sparkps.specs import TableSpec
from sparkps.wire.messages.control import CreateTable, DropTable, TierStatus
from tests.harness.waiting import wait_until

MiB = 1 << 20

LIMIT = 320 * MiB

DIM = 16


class FullNode:
    """A tier of one node with a limit, and a process of it that is watched."""

    def __init__(self, tier: local.LocalTier) -> None:
        self.tier = tier
        self.control = ControlClient.of(tier.address)
        (self.process,) = tier._nodes.values()
        self.peak = 0

    def table(self, name: str, kind: str = "sparse", **spec: object) -> TableSpec:
        made: TableSpec = self.control.request(
            CreateTable(0, TableSpec(name, kind, 1 if kind == "dense" else DIM, "float64", optimizer=SGD(0.5), **spec))  # type: ignore[arg-type]
        ).spec
        return made

    def drop(self, spec: TableSpec) -> None:
        self.control.request(DropTable(0, spec.name, spec.table))

    def resident(self) -> int:
        """Bytes that the process has in memory."""
        now: int = psutil.Process(self.process.pid).memory_info().rss
        self.peak = max(self.peak, now)
        return now

    def status(self) -> dict[str, int]:
        """What the coordinator knows of the node."""
        found: dict[str, int] = self.control.request(TierStatus(0)).report["nodes"][0]
        return found


@pytest.fixture
def node() -> Iterator[FullNode]:
    tier = local.launch(Settings(num_nodes=1, node=NodeSettings(node_memory=LIMIT, heartbeat_interval=0.1)))
    try:
        yield FullNode(tier)
    finally:
        disconnect(tier.address)
        tier.stop()


@contextmanager
def held_to(pid: int, limit: int) -> Iterator[bool]:
    """The operating system ends the process where it has more than `limit` bytes; not where nobody may say so."""
    group = Path(f"/sys/fs/cgroup/memory/sparkps_{os.getpid()}_{pid}")
    before = psutil.Process(pid).memory_info().rss  # which stays with the group that the process was in
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(limit - before))
        (group / "memory.swappiness").write_text("0")
        (group / "cgroup.procs").write_text(str(pid))
    except OSError:
        with suppress(OSError):
            group.rmdir()
        yield False
        return
    try:
        yield True
    finally:
        Path("/sys/fs/cgroup/memory/cgroup.procs").write_text(str(pid))
        group.rmdir()


def fill(node: FullNode, w: SparseTable, write: Callable[[np.ndarray], None], rng: np.random.Generator) -> np.ndarray:
    """Write new keys until some are refused; those that were acknowledged."""
    kept = []
    for _ in range(1000):
        keys = rng.integers(0, 1 << 60, 10_000)
        try:
            write(keys)
        except OutOfNodeMemory as error:
            about = error.table, error.key
            break
        kept.append(keys)
        node.resident()
    else:
        raise AssertionError("it took all")
    assert about == (w.spec.name, "spark.sparkps.nodeMemory")
    return np.concatenate(kept)


def test_a_node_that_is_filled_refuses_new_rows_and_is_never_killed(node: FullNode) -> None:
    rng = np.random.default_rng(1)
    spec = node.table("first")
    w = SparseTable(node.tier.address, spec)
    w.add([1], np.ones((1, DIM)))  # all kernels are there
    with held_to(node.process.pid, LIMIT):
        kept = fill(node, w, lambda keys: w.add(keys, np.ones((len(keys), DIM))), rng)
        assert len(kept) * DIM * 8 > LIMIT // 4, "it was filled"
        assert wait_until(lambda: node.status()["memory_bytes"] > 0.7 * LIMIT, 120.0)
        assert node.status()["memory_limit"] == LIMIT
        some = rng.choice(kept, 20_000, replace=False)
        before = w.pull(some)
        w.push(some, np.ones((len(some), DIM)))
        np.testing.assert_array_equal(w.pull(some), before - 0.5, "existing rows train")
        with pytest.raises(OutOfNodeMemory, match="'big'"):
            node.table("big", "dense", shape=(LIMIT // 16,))
        with pytest.raises(OutOfNodeMemory):
            w.add(rng.integers(0, 1 << 60, 200_000), np.ones((200_000, DIM)))
        node.resident()
        assert node.process.status is None, "the node lives"
        node.drop(spec)
        again = SparseTable(node.tier.address, node.table("second"))
        assert wait_until(lambda: node.resident() < 0.7 * LIMIT, 120.0)
        more = fill(node, again, lambda keys: again.add(keys, np.ones((len(keys), DIM))), rng)
        assert len(more) > 0.7 * len(kept), "what was dropped makes room"
        assert node.process.status is None
    assert node.peak < LIMIT
