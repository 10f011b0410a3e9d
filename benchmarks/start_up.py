"""Seconds from `PSContext(spark, num_nodes=2)` to a tier that answers: kernels compiled before, and compiled now.

python -m benchmarks.start_up [--cold]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.common import machine, session, table
from sparkps import PSContext

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

PROMISED = 3.0


def start(spark: SparkSession) -> tuple[float, float, float]:
    """Seconds until the tier is ready, of the first push and pull, and of stopping."""
    times = [time.perf_counter()]
    ps = PSContext(spark, num_nodes=2)
    times.append(time.perf_counter())
    rows = ps.sparse_table("rows", dim=1)
    rows.push(np.arange(1000), np.ones((1000, 1), np.float32))
    rows.pull(np.arange(1000))
    times.append(time.perf_counter())
    ps.stop()
    times.append(time.perf_counter())
    ready, first, stop = (float(seconds) for seconds in np.diff(times))
    return ready, first, stop


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cold", action="store_true", help="also with an empty kernel cache")
    args = parser.parse_args()
    print(machine())
    with session("local[2]") as spark:
        start(spark)  # compiles what is missing
        runs = [start(spark) for _ in range(args.repeats)]
        warm = [statistics.median(column) for column in zip(*runs, strict=True)]
        lines: list[list[object]] = [["warm cache", *warm, f"<= {PROMISED:g}"]]
        if args.cold:
            with tempfile.TemporaryDirectory() as cache:
                spark.conf.set("spark.sparkps.kernelCacheDir", cache)
                lines.append(["empty cache", *start(spark), ""])
    print(table(["", "ready s", "first push and pull s", "stop s", "promised"], lines))


if __name__ == "__main__":
    main()
