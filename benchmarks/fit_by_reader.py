"""A fit whose ranks read Parquet files themselves, and one that reads through Spark's scan: seconds end to end, and their ratio.

    python -m benchmarks.fit_by_reader [--rows 1e6] [--features 1e5] [--repeats 3]

The first fit of a session, as a script has it: each in a process of its own, `local[2]`, 50 iterations of L-BFGS on Criteo-shaped rows;
starting Spark and the nodes is not counted. Promised: through Spark's scan at most 1.5 times as long.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time

from benchmarks import criteo
from benchmarks.common import count, machine, session, table

READERS = ("auto", "spark")
MOST = 1.5


def fit(path: str, reader: str, iterations: int) -> float:
    """Seconds of the fit."""
    from sparkps import PSContext
    from sparkps.mllib.classification import LogisticRegression

    with session("local[2]", **{"spark.sparkps.parquetReader": reader}) as spark, PSContext(spark, num_nodes=2):
        rows = spark.read.parquet(path)
        began = time.perf_counter()
        LogisticRegression(maxIter=iterations, regParam=1e-6, tol=0.0, standardization=False).fit(rows)
        return time.perf_counter() - began


def child(path: str, reader: str, iterations: int) -> tuple[float, float]:
    """Seconds of the fit in a process of its own, and processor seconds of all that it started."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "benchmarks.fit_by_reader", "--fit", reader, "--path", path, "--iterations", str(iterations)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise SystemExit(ran.stderr[-4000:])
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    return float(ran.stdout.split()[-1]), now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rows", type=count, default=1_000_000)
    parser.add_argument("--features", type=count, default=100_000)
    parser.add_argument("--iterations", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--fit", choices=READERS)
    parser.add_argument("--path")
    args = parser.parse_args()
    if args.fit:
        print(fit(args.path, args.fit, args.iterations))
        return
    data = criteo.write(args.rows, args.features)
    print(machine())
    found: dict[str, list[tuple[float, float]]] = {reader: [] for reader in READERS}
    for _ in range(args.repeats):
        for reader in READERS:
            found[reader].append(child(data.path, reader, args.iterations))
    medians = {reader: [statistics.median(each) for each in zip(*runs, strict=True)] for reader, runs in found.items()}
    print(f"load {os.getloadavg()[0]:.1f}; {args.rows:,} rows, {args.features:,} features, {args.iterations} iterations")
    print(table(["reader", "fit, s", "processor, s"], [[reader, *each] for reader, each in medians.items()]))
    print(f"through Spark's scan: {medians['spark'][0] / medians['auto'][0]:.2f} times as long (at most {MOST} is promised)")


if __name__ == "__main__":
    main()
