"""The fault kit on a tier of real processes: nodes are killed, stopped and cut off, and go on when they may."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sparkps.client.session import disconnect
from sparkps.client.tables import SparseTable
from sparkps.config import Settings
from sparkps.driver_bridge.launchers.local import LocalTier, launch
from sparkps.errors import InvalidInput, ShardLost
from sparkps.specs import TableSpec
from sparkps.testing import relayed
from sparkps.testing.processes import coordinator_process, kill_coordinator, kill_node, nodes_up, stop_node, wait_until
from sparkps.testing.relay import in_front_of, put_back
from sparkps.testing.relayed import RelayedTier
from sparkps.wire.messages.control import CreateTable, TierStatus

KEYS = np.arange(1000)


@pytest.fixture
def tier() -> Iterator[LocalTier]:
    started = launch(Settings(num_nodes=2))
    yield started
    disconnect(started.address)
    started.stop()


@pytest.fixture
def ps(tier: LocalTier) -> Any:
    """What the kit sees of a PSContext."""
    return SimpleNamespace(status=lambda: tier.control.request(TierStatus(0)).report)


def table(tier: LocalTier) -> SparseTable:
    return SparseTable(tier.address, tier.control.request(CreateTable(0, TableSpec("w", "sparse", 1, "float64"))).spec)


def adds_in_background(w: SparseTable) -> threading.Thread:
    """Add ones, on a thread."""

    def add() -> None:
        w.add(KEYS, np.ones((len(KEYS), 1)))
        disconnect(w.address)

    thread = threading.Thread(target=add)
    thread.start()
    return thread


def test_killed_node_is_gone_and_the_tier_knows(tier: LocalTier, ps: Any) -> None:
    w = table(tier)
    killed = kill_node(ps, 1)
    assert not killed.runs
    wait_until(lambda: nodes_up(ps) == [0], 10.0, what="the news of node 1")
    with pytest.raises(ShardLost):
        w.pull(KEYS)
    with pytest.raises(InvalidInput, match="must be up"):
        kill_node(ps, 1)


def test_stopped_node_holds_a_write_up_and_loses_nothing(tier: LocalTier, ps: Any) -> None:
    w = table(tier)
    w.add(KEYS, np.ones((len(KEYS), 1)))
    with stop_node(ps, 0):
        thread = adds_in_background(w)
        thread.join(0.3)
        assert thread.is_alive()
    thread.join(60.0)
    assert not thread.is_alive()
    assert float(w.call("sum")) == 2.0 * len(KEYS)


def test_node_behind_a_relay_whose_answers_are_lost_counts_each_write_once(tier: LocalTier) -> None:
    w, times = table(tier), 4
    go, done = threading.Semaphore(1), threading.Semaphore(0)

    def add() -> None:
        for _ in range(times):
            go.acquire(timeout=60)
            w.add(KEYS, np.ones((len(KEYS), 1)))
            done.release()
        disconnect(w.address)

    relay = in_front_of(f"ipc://{tier.directory}/node0")
    thread = threading.Thread(target=add)
    thread.start()
    try:
        assert done.acquire(timeout=60)  # connected
        for _ in range(times - 1):
            relay.cut("down")
            before = relay.passed("up")
            go.release()
            wait_until(lambda before=before: relay.passed("up") > before + 4000, 10.0, what="a write through the relay")
            relay.drop()
            relay.heal()
            assert done.acquire(timeout=60)
    finally:
        thread.join(60)
        put_back([relay])
    assert float(w.call("sum")) == times * len(KEYS)


def test_killed_coordinator_is_found_by_its_parent(tier: LocalTier, ps: Any) -> None:
    process = coordinator_process(ps)
    child = tier._coordinator  # another takes its place
    assert process.pid == child.pid
    kill_coordinator(ps)
    assert child.exited.wait(60.0)


def test_isolated_node_is_alive_and_silent_and_comes_back(relayed_tier: RelayedTier) -> None:
    w = table(relayed_tier)
    w.add(KEYS, np.ones((len(KEYS), 1)))
    status = relayed_tier.control.request(TierStatus(0)).report["nodes"]
    with relayed_tier.isolated(0):
        thread = adds_in_background(w)
        thread.join(0.3)
        assert thread.is_alive()
    thread.join(60.0)
    assert not thread.is_alive()
    assert float(w.call("sum")) == 2.0 * len(KEYS)
    now = relayed_tier.control.request(TierStatus(0)).report["nodes"]
    assert [(one["id"], one["pid"], one["state"]) for one in now] == [(one["id"], one["pid"], "up") for one in status]
    relay = relayed_tier.to_node[relayed_tier.name_of(0)]
    assert relay.passed("up") > 8 * len(KEYS) / 4


@pytest.fixture
def relayed_tier() -> Iterator[RelayedTier]:
    started = relayed.launch(Settings(num_nodes=2))
    yield started
    disconnect(started.address)
    started.stop()
    assert not started.directory.exists()
