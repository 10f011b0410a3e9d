"""Pulls that wait for a clock take credit from pulls alone: the pushes that they wait for get through."""

from __future__ import annotations

import numpy as np

from sparkps.optim import SGD
from tests.cluster.conftest import Tier
from tests.harness.waiting import wait_until

PULLS = 1_000


def parked(tier: Tier) -> int:
    """Requests that wait for others."""
    return sum(report["parked"] for report in tier.reports())


def test_a_thousand_parked_pulls_do_not_block_a_push(tier: Tier) -> None:
    w = tier.sparse("w", dim=1, dtype="float64", optimizer=SGD(1.0))
    keys = np.arange(100)
    with tier.group(2, 0) as group:
        ahead, behind = tier.session(), tier.session()
        ahead.takeover(group, 0, 1)
        behind.takeover(group, 1, 1)
        ahead.tick()
        mine, other = w.bind(ahead), w.bind(behind)
        pulls = [mine.pull_async(keys) for _ in range(PULLS)]
        assert wait_until(lambda: parked(tier) >= PULLS, 120.0), "they wait for the other rank"
        mine.push(keys, np.full((100, 1), -1.0))
        assert not any(pull.done() for pull in pulls)
        other.push(keys, np.full((100, 1), -2.0))
        behind.tick()
        for pull in pulls:
            assert (pull.result() == 2.0).all(), "the clock that was waited for, and no later one"
        behind.tick()
        ahead.tick()
        assert (mine.pull(keys) == 3.0).all()
        ahead.close()
        behind.close()
