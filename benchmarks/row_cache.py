"""What rows that workers keep for some clocks (`cacheClocks`) save, and what they cost: DeepFM under SSP with skewed keys.

One worker, with batches asked for ahead; the node is behind a relay, which counts the bytes that come from it, and lets only so many pass a
second in the second case. Fits with different `cacheClocks` take turns. Nothing is promised: printed are rows a second, bytes that
come from the node for each row, the share of keys whose rows were at hand, and the mean loss of the second epoch.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from typing import Any

from pyspark.sql import SparkSession

from benchmarks.deepfm_vs_torch import BATCH, fitted
from benchmarks.prefetch import written
from sparkps import PSContext
from sparkps.testing import relayed


def throttled(tier: relayed.RelayedTier, megabytes: float) -> None:
    """Let so many megabytes a second come from the nodes; 0: as many as there are."""
    for relay in tier.to_node.values():
        relay.throttle(megabytes * 1e6 or None, "down")


def measured(frame: Any, tier: relayed.RelayedTier, rows: int, **params: Any) -> tuple[float, float, float, float]:
    """Rows a second of the second epoch, bytes for each row, hit rate, and loss."""
    before = sum(relay.passed("down") for relay in tier.to_node.values())
    model = fitted(frame, 1, **params)
    came = sum(relay.passed("down") for relay in tier.to_node.values()) - before
    first, second = model.summary.secondsHistory
    return rows / (second - first), came / (2 * rows), model.cacheHitRate, model.summary.objectiveHistory[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--skew", type=float, default=8.0, help="of a field's n keys the i-th comes as often as i ** (1 / skew - 1)")
    parser.add_argument("--clocks", type=int, nargs="+", default=[0, 1, 2, 4])
    parser.add_argument("--megabytes", type=float, nargs="+", default=[0.0, 10.0], help="a second from the node; 0: no limit")
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    relayed.enable()
    spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").config("spark.driver.memory", "4g").getOrCreate()
    with tempfile.TemporaryDirectory() as directory, PSContext(spark, num_nodes=1, launch="relayed") as ps:
        written(directory, arguments.rows, arguments.keys, arguments.skew)
        frame, tier = spark.read.parquet(directory), relayed.tier_of(ps)
        # The group's own bound is the same in all fits but for what the cache takes of it, which one worker does not feel.
        given: dict[str, Any] = {"consistency": "ssp", "staleness": 8, "batchSize": arguments.batch}
        fitted(frame, 1, **given)  # kernels, and Python workers
        for megabytes in arguments.megabytes:
            found: dict[int, list[tuple[float, ...]]] = {clocks: [] for clocks in arguments.clocks}
            throttled(tier, megabytes)
            for _ in range(arguments.rounds):
                for clocks, each in found.items():
                    each.append(measured(frame, tier, arguments.rows, cacheClocks=clocks, **given))
            throttled(tier, 0.0)
            base = [each[0] for each in found[arguments.clocks[0]]]
            print(f"load {os.getloadavg()[0]:.1f}; {f'{megabytes:g} MB/s' if megabytes else 'as many bytes as there are'} from the node")
            for clocks, each in found.items():
                speed, came, hits, loss = (statistics.median(part) for part in zip(*each, strict=True))
                ratio = statistics.median(one[0] / other for one, other in zip(each, base, strict=True))
                print(
                    f"  cacheClocks={clocks}: {speed:8,.0f} rows/s, {ratio:.2f} of the first; {came:7,.0f} bytes a row, {hits:.2f} of the"
                    f" keys at hand, loss {loss:.4f}",
                    flush=True,
                )
    spark.stop()


if __name__ == "__main__":
    main()
