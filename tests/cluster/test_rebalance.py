"""Real nodes, one of which has all rows: they move, and no push is lost or counted twice meanwhile."""

from __future__ import annotations

import numpy as np

from sparkps.config import Settings
from sparkps.driver_bridge.launchers import local
from sparkps.wire.hashing import buckets_of
from tests.cluster.conftest import Tier
from tests.harness.waiting import wait_until

#: All keys are in these buckets, which node 0 leads at first.
BUCKETS = (3, 17, 40, 99)


def test_rows_that_all_lie_on_one_node_are_spread_and_sums_are_exact() -> None:
    every = np.arange(1_600_000)
    keys = every[np.isin(buckets_of(every), BUCKETS)][:20_000]
    running = local.launch(Settings(num_nodes=2))
    try:
        tier = Tier(running)
        table = tier.sparse("skewed", dim=128, dtype="float32")
        ones = np.ones((len(keys), 128), np.float32)
        pushes = 0

        def is_spread() -> bool:
            nonlocal pushes
            table.add(keys, ones)
            pushes += 1
            status = tier.status()
            held = [node["bytes"] for node in status["nodes"]]
            return status["moving"] is None and status["rebalance"]["decisions"] == 1 and min(held) > 0.3 * max(held)

        assert wait_until(is_spread, 120.0), tier.status()
        assert table.pull(keys).tolist() == np.full((len(keys), 128), float(pushes)).tolist()
        rows = [node["tables"] for node in tier.reports()]
        assert sorted(sum(each["rows"] for each in one.values()) for one in rows)[0] > len(keys) // 3
        buckets = [node["buckets"] for node in tier.status()["nodes"]]
        assert sorted(buckets) == [126, 130], "only two buckets have moved"
        tier.disconnect()
    finally:
        running.stop()
