"""L-BFGS on Criteo-shaped rows: `sparkps.mllib` against pyspark.ml, same data, regularisation and number of iterations.

    python -m benchmarks.logistic_vs_spark                                        all sizes (about ten minutes)
    python -m benchmarks.logistic_vs_spark --features 1e5 1e6                     some of them
    python -m benchmarks.logistic_vs_spark --features 1e8 1e12 --only sparkps

Every contender runs in a process of its own, `local[2]`, reading the same Parquet files; the seconds are those of `fit`, reading
included, and with it the start of the JVM's compiler and of Python workers, unless `--warm-up` is given. pyspark.ml is left
out above `--spark-limit` features: at 1e8 its heap overflows. Both start from zero weights, do not standardize and do not
stop early.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from benchmarks import criteo
from benchmarks.common import count, machine, session, table

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

SIZES = (10**5, 10**6, 10**7, 10**8, 10**12)
CONTENDERS = ("sparkps", "pyspark.ml")

#: Promised: at least so many times as fast as pyspark.ml.
SPEED_UPS = {10**5: 4.0, 10**6: 5.0, 10**7: 15.0}
#: Promised: at most so many times the seconds at 10 M features.
BEYOND = {10**8: 1.3, 10**12: 1.3}


@dataclasses.dataclass(frozen=True)
class Fit:
    """What one contender did with one data set."""

    seconds: float
    objective: float
    iterations: int


def fit_sparkps(path: str, args: argparse.Namespace) -> Fit:
    """`sparkps.mllib` with two nodes; starting them is not counted."""
    from sparkps import PSContext
    from sparkps.mllib.classification import LogisticRegression

    with session(args.master, args.driver_memory) as spark, PSContext(spark, num_nodes=2):
        estimator = LogisticRegression(solver="lbfgs", maxIter=args.iterations, regParam=args.reg, tol=0.0)
        return timed(estimator.setStandardization(False), spark.read.parquet(path), args.warm_up)


def fit_spark(path: str, args: argparse.Namespace) -> Fit:
    """pyspark.ml on the same DataFrame."""
    from pyspark.ml.classification import LogisticRegression

    with session(args.master, args.driver_memory) as spark:
        estimator = LogisticRegression(maxIter=args.iterations, regParam=args.reg, tol=0.0, standardization=False)
        return timed(estimator, spark.read.parquet(path), args.warm_up)


def timed(estimator: Any, df: DataFrame, warm_up: bool) -> Fit:
    """Fit `estimator`; the last objective of its history is the one it ends with."""
    if warm_up:
        estimator.copy({estimator.maxIter: 2}).fit(df.sample(False, 0.1, 1))
    start = time.perf_counter()
    model = estimator.fit(df)
    seconds = time.perf_counter() - start
    history = model.summary.objectiveHistory
    return Fit(seconds, float(history[-1]), len(history) - 1)


def child(contender: str, path: str, args: argparse.Namespace) -> Fit:
    """Run one contender in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.logistic_vs_spark", "--contender", contender, "--path", path]
    for name in ("iterations", "reg", "master", "driver_memory"):
        command += [f"--{name.replace('_', '-')}", str(getattr(args, name))]
    command += ["--warm-up"] if args.warm_up else []
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Fit(**json.loads(done.stdout.strip().splitlines()[-1]))


def compare(args: argparse.Namespace) -> None:
    """Run the contenders size by size and print the table after each."""
    print(
        machine(),
        f"{args.rows:,} rows, {args.iterations} iterations, regParam {args.reg:g}, {args.master}",
        sep="\n",
        flush=True,
    )
    found: dict[tuple[str, int], Fit] = {}
    data: dict[int, criteo.DataSet] = {}
    for features in args.features:
        data[features] = criteo.write(args.rows, features, args.seed, args.directory)
        for contender in args.only or CONTENDERS:
            if contender == "sparkps" or features <= args.spark_limit:
                found[contender, features] = child(contender, data[features].path, args)
        print("\n" + report(data, found), flush=True)


def report(data: dict[int, criteo.DataSet], found: dict[tuple[str, int], Fit]) -> str:
    """One line a size: seconds, ratio, what is promised, and how far the objectives lie apart."""
    lines = []
    reference = found.get(("sparkps", 10**7))
    for features, described in data.items():
        ours, theirs = (found.get((contender, features)) for contender in CONTENDERS)
        ratio = promised = apart = ""
        if ours and theirs:
            ratio = f"{theirs.seconds / ours.seconds:.1f}x"
            apart = f"{(ours.objective - theirs.objective) / theirs.objective:+.1e}"
        elif ours and reference:
            ratio = f"{ours.seconds / reference.seconds:.2f}x the time at 1e7"
        if features in SPEED_UPS:
            promised = f">= {SPEED_UPS[features]:g}x"
        elif features in BEYOND:
            promised = f"<= {BEYOND[features]:g}x the time at 1e7"
        seconds = [f"{fit.seconds:.1f}" if fit else "" for fit in (ours, theirs)]
        objective = f"{ours.objective:.6f}" if ours else ""
        lines.append([f"{features:.0e}", f"{described.distinct:,}", *seconds, ratio, promised, objective, apart])
    header = [
        "features",
        "distinct keys",
        "sparkps s",
        "pyspark.ml s",
        "ratio",
        "promised",
        "objective",
        "relative difference",
    ]
    return table(header, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rows", type=count, default=1_000_000)
    parser.add_argument("--features", type=count, nargs="+", default=list(SIZES))
    parser.add_argument("--iterations", type=int, default=50)
    parser.add_argument("--reg", type=float, default=1e-6)
    parser.add_argument("--only", choices=CONTENDERS, nargs="+")
    parser.add_argument("--warm-up", action="store_true", help="first two iterations on a tenth of the rows, not timed")
    parser.add_argument("--spark-limit", type=count, default=10**7, help="most features that pyspark.ml is given")
    parser.add_argument("--master", default="local[2]")
    parser.add_argument("--driver-memory", default="12g")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--directory", help="where data sets are kept")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.contender:
        fit = fit_sparkps if args.contender == "sparkps" else fit_spark
        print(json.dumps(dataclasses.asdict(fit(args.path, args))))
    else:
        compare(args)


if __name__ == "__main__":
    main()
