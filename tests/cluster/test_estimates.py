"""A node with as much memory as `sparkps.estimate` says takes all rows, and stays within it."""

from __future__ import annotations

import numpy as np
import psutil
import pytest

import sparkps
from sparkps.client.control import ControlClient
from sparkps.client.session import disconnect
from sparkps.client.tables import SparseTable
from sparkps.config import NodeSettings, Settings
from sparkps.driver_bridge.launchers import local
from sparkps.estimates import PROCESS_BYTES
from sparkps.optim import Adam
from sparkps.specs import TableSpec
from sparkps.wire.messages.control import CreateTable, TierStatus


@pytest.mark.parametrize("rows", [200_000, 2_000_000])
def test_node_of_the_estimated_memory_takes_all_rows(rows: int) -> None:
    said = sparkps.estimate(rows, 8, "float32", Adam(0.1), num_nodes=1)
    tier = local.launch(Settings(num_nodes=1, node=NodeSettings(node_memory=said.node_memory)))
    try:
        control = ControlClient.of(tier.address)
        spec = control.request(CreateTable(0, TableSpec("w", "sparse", 8, "float32", optimizer=Adam(0.1)))).spec
        table = SparseTable(tier.address, spec)
        pid = control.request(TierStatus(0, fresh=True)).report["nodes"][0]["pid"]
        table.push(np.zeros(1, np.int64), np.ones((1, 8), np.float32))
        assert psutil.Process(pid).memory_info().rss < PROCESS_BYTES, "with its kernels, and a row"
        for part in np.array_split(np.random.default_rng(1).permutation(rows).astype(np.int64), 20):
            table.push(part, np.ones((len(part), 8), np.float32))
        node = control.request(TierStatus(0, fresh=True)).report["nodes"][0]
        assert node["memory_limit"] == said.node_memory
        taken = psutil.Process(pid).memory_info().rss
        assert 0.5 * said.bytes_per_node < taken < 0.9 * said.node_memory
    finally:
        disconnect(tier.address)
        tier.stop()
