"""The linear family on Criteo-shaped rows: seconds to the objective that pyspark.ml has after 50 iterations, and pyspark.ml's.

    python -m benchmarks.linear_vs_spark                                          logistic regression, all sizes (about 20 minutes)
    python -m benchmarks.linear_vs_spark --features 1e5 1e6 --warm-up             some of them, after a short fit of both
    python -m benchmarks.linear_vs_spark --estimator svc --features 1e6           or multinomial: 10 classes
    python -m benchmarks.linear_vs_spark --solver lbfgs                           both take the same steps
    python -m benchmarks.linear_vs_spark --flat                                   one iteration of the same rows, 1e6 to 1e12 features

Same rows, same penalty, no standardization, no end before the last iteration. Every fit runs in a process of its own, `local[2]`, reading
the same Parquet files; the seconds are those of `fit`, reading included, and with it the start of the JVM's compiler and of Python
workers, unless `--warm-up` is given. A first fit of ours says after how many iterations its objective is no higher than pyspark.ml's;
the second is told to make so many, and counts. pyspark.ml is left out above `--spark-limit` features: at 1e8 its heap overflows.
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

SIZES = (10**5, 10**6, 10**7)

#: Estimators: name of the class, number of labels, and Params beyond the common ones.
ESTIMATORS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "logistic": ("LogisticRegression", 2, {}),
    "svc": ("LinearSVC", 2, {}),
    "multinomial": ("LogisticRegression", 10, {"family": "multinomial"}),
}

#: Promised: at least so many times as fast as pyspark.ml, as the first fit of a session, and after a warm-up of both.
COLD = {10**5: 7.0, 10**6: 9.0, 10**7: 30.0}
WARM = {10**5: 5.0, 10**6: 6.0}
#: Promised: the seconds of an iteration stay within so many times the least, whatever the number of features.
FLAT = 1.3


@dataclasses.dataclass(frozen=True)
class Fit:
    """What a fit took, and its objective at the start and after each iteration."""

    seconds: float
    objective: list[float]
    #: Seconds an iteration; 0 where nobody has looked.
    iteration: float = 0.0

    def reached(self, target: float) -> int | None:
        """The first iteration whose objective is no higher than `target`; None: there is none."""
        return next((number for number, value in enumerate(self.objective) if value <= target * (1.0 + 1e-12)), None)


def fit_sparkps(args: argparse.Namespace) -> Fit:
    """`sparkps.mllib` with two nodes; starting them is not counted."""
    import sparkps.mllib.classification as module
    from sparkps import PSContext

    with session(args.master, args.driver_memory) as spark, PSContext(spark, num_nodes=2):
        return timed(module, spark.read.parquet(args.path), args, {"solver": args.solver})


def fit_spark(args: argparse.Namespace) -> Fit:
    """pyspark.ml on the same DataFrame."""
    import pyspark.ml.classification as module

    with session(args.master, args.driver_memory) as spark:
        return timed(module, spark.read.parquet(args.path), args, {})


CONTENDERS = {"sparkps": fit_sparkps, "pyspark.ml": fit_spark}


def timed(module: Any, df: DataFrame, args: argparse.Namespace, params: dict[str, Any]) -> Fit:
    """Fit the estimator of `module` that was asked for."""
    name, _, more = ESTIMATORS[args.estimator]
    estimator = getattr(module, name)(maxIter=args.iterations, regParam=args.reg, tol=0.0, standardization=False, **more, **params)
    if args.warm_up:
        estimator.copy({estimator.maxIter: 2}).fit(df.sample(False, 0.1, 1))
    start = time.perf_counter()
    model = estimator.fit(df)
    seconds = time.perf_counter() - start
    summary = model.summary() if callable(model.summary) else model.summary
    at, made = getattr(summary, "secondsHistory", []), list(summary.objectiveHistory)
    return Fit(seconds, made, (at[-1] - at[0]) / (len(at) - 1) if len(at) > 1 else 0.0)


def child(contender: str, path: str, iterations: int, args: argparse.Namespace) -> Fit:
    """Run one fit in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.linear_vs_spark", "--contender", contender, "--path", path]
    command += ["--iterations", str(iterations)]
    for name in ("estimator", "solver", "reg", "master", "driver_memory"):
        command += [f"--{name.replace('_', '-')}", str(getattr(args, name))]
    command += ["--warm-up"] if args.warm_up else []
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Fit(**json.loads(done.stdout.strip().splitlines()[-1]))


def ours(path: str, target: float | None, args: argparse.Namespace) -> tuple[Fit, int]:
    """Our fit to the objective `target`, and its iterations; without one, or where it is not reached, with all iterations."""
    whole = child("sparkps", path, args.iterations, args)
    needed = whole.reached(target) if target is not None else None
    if needed is None or needed == args.iterations:
        return whole, args.iterations
    return child("sparkps", path, max(needed, 1), args), max(needed, 1)


def compare(args: argparse.Namespace) -> None:
    """Run the contenders size by size and print the table after each."""
    lines = []
    promised = WARM if args.warm_up else COLD
    for features in args.features:
        data = criteo.write(args.rows, features, args.seed, args.directory, ESTIMATORS[args.estimator][1])
        theirs = child("pyspark.ml", data.path, args.iterations, args) if features <= args.spark_limit else None
        target = theirs.objective[-1] if theirs else None
        fit, iterations = ours(data.path, target, args)
        line = [f"{features:.0e}", f"{data.distinct:,}", fit.seconds, iterations, f"{fit.objective[-1]:.8f}"]
        if theirs:
            line += [theirs.seconds, f"{theirs.objective[-1]:.8f}", f"{theirs.seconds / fit.seconds:.1f}x"]
            line += [f">= {promised[features]:g}x" if features in promised else ""]
        else:
            line += ["not run", "", "", ""]
        lines.append(line)
        header = ["features", "distinct keys", "sparkps s", "iterations", "objective", "pyspark.ml s", "objective", "ratio", "promised"]
        print("\n" + table(header, lines), flush=True)


def flat(args: argparse.Namespace) -> None:
    """Seconds of an iteration of the same rows, their keys spread over more and more features."""
    lines, least = [], 0.0
    for features in (10**6, 10**7, 10**8, 10**10, 10**12):
        data = criteo.write(args.rows, 10**6, args.seed, args.directory, ESTIMATORS[args.estimator][1], features // 10**6)
        fit = child("sparkps", data.path, args.iterations, args)
        least = min(least or fit.iteration, fit.iteration)
        lines.append([f"{features:.0e}", f"{data.distinct:,}", fit.seconds, 1000 * fit.iteration, fit.iteration / least])
        header = ["features", "distinct keys", "seconds", "ms an iteration", f"of the least so far; promised <= {FLAT}"]
        print("\n" + table(header, lines), flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rows", type=count, default=1_000_000)
    parser.add_argument("--features", type=count, nargs="+", default=list(SIZES))
    parser.add_argument("--estimator", choices=list(ESTIMATORS), default="logistic")
    parser.add_argument("--solver", default="auto")
    parser.add_argument("--iterations", type=int, default=50)
    parser.add_argument("--reg", type=float, default=1e-6)
    parser.add_argument("--warm-up", action="store_true", help="first two iterations on a tenth of the rows, not timed")
    parser.add_argument("--flat", action="store_true", help="cost of an iteration against the number of features, of ours alone")
    parser.add_argument("--spark-limit", type=count, default=10**7, help="most features that pyspark.ml is given")
    parser.add_argument("--master", default="local[2]")
    parser.add_argument("--driver-memory", default="12g")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--directory", help="where data sets are kept")
    parser.add_argument("--contender", choices=list(CONTENDERS), help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.contender:
        print(json.dumps(dataclasses.asdict(CONTENDERS[args.contender](args))))
        return
    print(machine(), f"{args.estimator}, {args.rows:,} rows, {args.iterations} iterations, regParam {args.reg:g}, {args.master}", sep="\n")
    (flat if args.flat else compare)(args)


if __name__ == "__main__":
    main()
