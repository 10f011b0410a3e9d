"""The tier grows and shrinks while workers push: every sum is exact, nobody sees an error, and nobody waits long."""

from __future__ import annotations

import pathlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from sparkps import PSContext
from sparkps.client.session import disconnect
from sparkps.testing.processes import nodes_up
from tests.harness.node_faults import Tables, trained, wait_whole

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(300)]

WORKERS, KEYS = 4, 5000

#: A push waits at most so long for buckets that move, in the median and at worst (seconds); the goal for the median is 0.1.
STALL_MEDIAN, STALL_WORST = 0.25, 5.0


@pytest.fixture(autouse=True)
def no_leaks() -> None:
    """Nodes that have joined stay until the tier of this module ends."""


@pytest.fixture(scope="module", params=[1, 2])
def ps(spark: SparkSession, request: pytest.FixtureRequest) -> Iterator[PSContext]:
    """Three nodes, with one copy of every bucket and with two."""
    with PSContext(spark, num_nodes=3, replication=request.param) as context:
        yield context


class Pushers:
    """Threads that push ones to all keys, and to a dense table, until they are told to end: one at a time, or up to four at once."""

    def __init__(self, ps: Any) -> None:
        self.rows = ps.sparse_table("scaled_rows", dim=2, dtype="float64")
        self.dense = ps.dense_table("scaled_dense", shape=100, dtype="float64")
        self.pushes = [0] * WORKERS
        #: When each push began, and how long it took (seconds).
        self.took: list[tuple[float, float]] = []
        self.errors: list[BaseException] = []
        self._ended = threading.Event()

    @contextmanager
    def pushing(self) -> Iterator[None]:
        """While it lasts."""
        threads = [threading.Thread(target=self._push, args=(each,)) for each in range(WORKERS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._ended.set()
            for thread in threads:
                thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
        assert not self.errors, self.errors

    def _push(self, worker: int) -> None:
        keys, ones, at_once = np.arange(KEYS), np.ones((KEYS, 2)), 1 + worker
        try:
            while not self._ended.is_set():
                began = time.monotonic()
                pushed = [self.rows.add_async(keys, ones) for _ in range(at_once)]
                pushed += [self.dense.add_async(np.ones(100)) for _ in range(at_once)]
                for push in pushed:
                    push.result()
                self.took.append((began, (time.monotonic() - began) / at_once))
                self.pushes[worker] += at_once
        except BaseException as error:
            self.errors.append(error)
        finally:
            disconnect(self.rows.address)

    def assert_exact(self) -> None:
        """Every push counts once."""
        total = float(sum(self.pushes))
        assert np.unique(self.rows.pull(np.arange(KEYS))).tolist() == [total]
        assert np.unique(self.dense.pull()).tolist() == [total]

    def drop(self) -> None:
        """Drop the tables."""
        self.rows.drop()
        self.dense.drop()


def test_scaling_under_pushes_of_four_workers_keeps_every_sum_exact(ps: PSContext) -> None:
    wait_whole(ps, 3)
    pushers, fewest = Pushers(ps), max(1, ps.settings.replication)
    moves: list[tuple[float, float]] = []
    try:
        with pushers.pushing():
            threading.Event().wait(0.5)
            for nodes in (4, fewest, 3):
                began = time.monotonic()
                ps.scale(num_nodes=nodes, timeout=60)
                moves.append((began, time.monotonic()))
                assert len(nodes_up(ps)) == nodes
                threading.Event().wait(0.5)
        pushers.assert_exact()
    finally:
        pushers.drop()
    within = [took for at, took in pushers.took if any(began <= at + took and at <= ended for began, ended in moves)]
    assert float(np.median(within)) < STALL_MEDIAN
    assert max(within) < STALL_WORST


def test_drained_node_goes_under_pushes_and_every_sum_is_exact(ps: PSContext) -> None:
    wait_whole(ps, 3)
    pushers, oldest = Pushers(ps), nodes_up(ps)[0]
    try:
        with pushers.pushing():
            ps.drain(oldest, timeout=60)
            assert oldest not in nodes_up(ps)
            assert len(nodes_up(ps)) == 2
            ps.scale(num_nodes=3, timeout=60)
        pushers.assert_exact()
    finally:
        pushers.drop()


def test_scaling_while_ranks_train_changes_no_bit(ps: PSContext, tmp_path: pathlib.Path) -> None:
    wait_whole(ps, 3)
    undisturbed: Tables = trained(ps, tmp_path / "undisturbed")
    fewest = max(1, ps.settings.replication)

    def scale() -> None:
        for nodes in (4, fewest, 3):
            ps.scale(num_nodes=nodes, timeout=60)

    trained(ps, tmp_path / "scaled", scale, at=0.1, clocks=30).assert_same(undisturbed)
    assert len(nodes_up(ps)) == 3
