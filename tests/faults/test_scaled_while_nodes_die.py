"""The tier is made smaller, or a node is drained, while another one takes the place of a killed node: it comes to the number asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from sparkps.config import Settings
from sparkps.driver_bridge.launchers import local
from sparkps.wire.messages.control import DrainNode
from tests.cluster.conftest import Tier
from tests.harness.processes import gone_within
from tests.harness.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

KEYS = np.arange(1000)


class Doubled(Tier):
    """A tier with two copies of every bucket, and a table that shows what is lost."""

    def __init__(self, running: local.LocalTier) -> None:
        super().__init__(running)
        self.running = running
        self.table = self.sparse("w", 1, dtype="float64")
        self.table.add(KEYS, np.ones((1000, 1)))

    def up(self) -> list[int]:
        return [node["id"] for node in self.status()["nodes"] if node["state"] == "up"]

    def kill(self, number: int) -> None:
        endpoint = next(node["endpoint"] for node in self.status()["nodes"] if node["id"] == number)
        self.running._nodes[endpoint].process.kill()
        assert wait_until(lambda: number not in self.up(), 120.0)

    def is_whole(self) -> bool:
        status = self.status()
        return status["moving"] is None and not status["under_replicated"] and not status["draining"]


@contextmanager
def doubled(num_nodes: int) -> Iterator[Doubled]:
    running = local.launch(Settings(num_nodes=num_nodes, replication=2).for_replicas())
    try:
        tier = Doubled(running)
        yield tier
        tier.disconnect()
    finally:
        running.stop()


def wait_started(tier: Doubled, number: int) -> None:
    """Until the node of that id was started, has joined, and is counted or has left."""
    assert wait_until(lambda: any(node["id"] == number for node in tier.status()["nodes"]), 120.0)


def test_a_replacement_that_is_not_needed_any_more_leaves() -> None:
    with doubled(3) as tier:
        tier.kill(0)
        assert wait_until(lambda: tier.running._next_node == 4, 120.0), "one more is started: nobody has asked for fewer yet"
        began = time.monotonic()
        tier.running.scale(2, 30.0)
        assert time.monotonic() - began < 15.0
        wait_started(tier, 3)
        assert wait_until(lambda: tier.up() == [1, 2] and tier.is_whole(), 120.0)
        assert wait_until(lambda: len(tier.running._nodes) == 2, 120.0), "its process ends, and nobody starts another one"
        assert gone_within([node["pid"] for node in tier.status()["nodes"] if node["state"] != "up"], 30.0)
        assert tier.status()["num_nodes"] == 2
        assert tier.table.pull(KEYS).tolist() == [[1.0]] * 1000
        tier.running.scale(3, 30.0)
        assert len(tier.up()) == 3
        assert tier.table.pull(KEYS).tolist() == [[1.0]] * 1000


def test_a_drain_waits_for_the_replacement_of_another_node() -> None:
    with doubled(3) as tier:
        tier.kill(0)
        wait_started(tier, 3)
        assert wait_until(tier.is_whole, 120.0)
        with tier.control.ask(DrainNode(0, 1, 30.0), 35.0) as asked:
            assert asked.answer() is None
            assert wait_until(lambda: tier.status()["scaling"] is not None, 120.0)
            tier.kill(2)
            assert wait_until(lambda: asked.answer() is not None, 120.0)
        assert tier.up() == [3, 4]
        assert tier.is_whole()
        assert tier.table.pull(KEYS).tolist() == [[1.0]] * 1000
