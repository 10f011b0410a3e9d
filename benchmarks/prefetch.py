"""What a slow link costs a deep training that pulls ahead: DeepFM whose every message to and from the nodes takes 2 ms longer.

SSP, one worker, with batches that are asked for ahead (`prefetch`) and without. The node is behind a relay all the time, and the link is
slow in every other window of the same fit, so that what else the machine does is in both. Steps pull about as many bytes each: the bytes
that come from the node in a window, against those of the two windows around it, are the ratio of rows a second. Promised: with prefetch
>= 0.85.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import statistics
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from benchmarks.deepfm_vs_torch import BATCH, FIELDS, drawn, ours
from sparkps import PSContext
from sparkps.testing import relayed

PROMISED = 0.85


def linked(tier: relayed.RelayedTier, milliseconds: float) -> None:
    """Let all that goes between workers and nodes take so much longer, either way."""
    for relay in tier.to_node.values():
        relay.delay(milliseconds / 1000)


def came(tier: relayed.RelayedTier) -> int:
    """Bytes that have come from the nodes so far."""
    return sum(relay.passed("down") for relay in tier.to_node.values())


def written(directory: str, rows: int, keys: int, skew: float = 2.0) -> None:
    """Rows as two Parquet files."""
    ids, labels = drawn(rows, keys, skew=skew)
    for part in range(2):
        columns = {f"c{i}": ids[part::2, i] for i in range(FIELDS)}
        pq.write_table(pa.table({"label": labels[part::2], **columns}), pathlib.Path(directory) / f"{part}.parquet")


def ratios(tier: relayed.RelayedTier, milliseconds: float, seconds: float, fit: Callable[[], Any]) -> tuple[list[float], Any]:
    """Of each window with the link, its bytes against the mean of those before and after it; and what the fit gives."""
    found: list[int] = []
    with ThreadPoolExecutor(1) as pool:
        before, running = came(tier), pool.submit(fit)
        while not running.done() and came(tier) < before + 10_000_000:  # steps are under way
            threading.Event().wait(0.05)
        while not running.done():
            linked(tier, milliseconds if len(found) % 2 else 0.0)
            threading.Event().wait(seconds / 10)  # what was under way
            before = came(tier)
            threading.Event().wait(seconds)
            found.append(came(tier) - before)
        linked(tier, 0.0)
    whole = found[:-1]  # the fit ended within the last
    return [2 * on / (off + after) for off, on, after in zip(whole[::2], whole[1::2], whole[2::2], strict=False)], running.result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--batches", type=int, nargs="+", default=[BATCH, 1024, 256])
    parser.add_argument("--milliseconds", type=float, default=2.0, help="one way")
    parser.add_argument("--steps", type=int, default=24, help="of a window, about")
    parser.add_argument("--windows", type=int, default=21, help="of each kind of fit, about")
    parser.add_argument("--prefetch", type=int, nargs="+", default=[1, 0])
    arguments = parser.parse_args()
    relayed.enable()
    spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").config("spark.driver.memory", "4g").getOrCreate()
    with tempfile.TemporaryDirectory() as directory, PSContext(spark, num_nodes=1, launch="relayed") as ps:
        written(directory, arguments.rows, arguments.keys)
        frame, tier = spark.read.parquet(directory), relayed.tier_of(ps)
        given: dict[str, Any] = {"consistency": "ssp", "staleness": 4}
        ours(frame, arguments.rows, 1, **given)  # kernels, and Python workers
        for batch in arguments.batches:
            speed, _ = ours(frame, arguments.rows, 1, batchSize=batch, **given)
            seconds = arguments.steps * batch / speed
            epochs = 2 + int(arguments.windows * 1.1 * arguments.steps * batch / arguments.rows)
            for prefetch in arguments.prefetch:
                params = {"batchSize": batch, "prefetch": prefetch, "maxIter": epochs, **given}
                each, (_, parts) = ratios(tier, arguments.milliseconds, seconds, partial(ours, frame, arguments.rows, 1, **params))
                print(
                    f"load {os.getloadavg()[0]:.1f}; batches of {batch} ({1000 * batch / speed:.0f} ms), {prefetch} ahead: with the link"
                    f" {statistics.median(each):.2f} of the rows without it ({len(each)} windows of {seconds:.1f} s, quartiles"
                    f" {', '.join(f'{one:.2f}' for one in statistics.quantiles(each)[::2])}; promised with prefetch {PROMISED})\n"
                    f"  ms of a step, with and without: {parts}",
                    flush=True,
                )
    spark.stop()


if __name__ == "__main__":
    main()
