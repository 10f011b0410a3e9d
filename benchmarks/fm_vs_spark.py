"""Factorization machines on Criteo-shaped rows: time to the held-out log loss that pyspark.ml's come to, or xLearn's.

    python -m benchmarks.fm_vs_spark                      1 M rows, 1e5 features, 8 factors
    python -m benchmarks.fm_vs_spark --rows 2e5
    python -m benchmarks.fm_vs_spark --peer xlearn --peer-epochs 2      needs xlearn (from PyPI; cmake builds it)

Each contender runs in a process of its own, `local[2]`, reading the same Parquet files; the seconds are those of `fit`, the first of the
session, reading included. pyspark.ml's takes `--iterations` steps of AdamW over all rows; ours one epoch of mini-batches after the other
until its held-out log loss is no higher, a fit of its own for each number of epochs. xLearn goes through its rows `--peer-epochs` times
by its defaults on two threads; its seconds hold the reading of its text. Held out are as many rows of another seed, at most 200,000; models
of pyspark.ml and ours are measured by one function, xLearn's by what it predicts.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks import criteo
from benchmarks.common import count, machine, session, table

#: Promised: at least so many times as fast as pyspark.ml.
SPEED_UP = 5.0
PEERS = ("pyspark.ml", "xlearn")


@dataclasses.dataclass(frozen=True)
class Fit:
    """What one contender did: seconds of the fit, held-out log loss, and steps or epochs."""

    seconds: float
    log_loss: float
    steps: int


def held_out(path: str, intercept: float, linear: NDArray[Any], factors: NDArray[Any]) -> float:
    """Log loss of a machine on the rows of `path`."""
    from sparkps.mllib.data.features import read_features
    from sparkps.mllib.fm.kernel import margins

    rows = np.ascontiguousarray(np.hstack([linear[:, None], factors]))
    total, size = 0.0, 0
    for batch in pq.ParquetDataset(path).read(["label", "features"]).to_batches():
        features = read_features(batch.column(1), "features")
        out = np.empty(batch.num_rows)
        ids = features.indices.astype(np.int32)
        margins.of(features.values.dtype)(features.indptr, ids, np.ascontiguousarray(features.values), rows, 1, intercept, out)
        total += float(np.logaddexp(0.0, np.where(batch.column(0).to_numpy() > 0, -out, out)).sum())
        size += len(out)
    return total / size


def fit_spark(args: argparse.Namespace) -> Fit:
    """pyspark.ml's."""
    from pyspark.ml.classification import FMClassifier

    with session("local[2]", args.driver_memory) as spark:
        fm = FMClassifier(factorSize=args.factors, maxIter=args.iterations, stepSize=args.spark_step, seed=1, tol=0.0)
        begun = time.perf_counter()
        model = fm.fit(spark.read.parquet(args.path))
        seconds = time.perf_counter() - begun
        loss = held_out(args.test, model.intercept, model.linear.toArray(), model.factors.toArray())
        return Fit(seconds, loss, args.iterations)


def fit_sparkps(args: argparse.Namespace) -> Fit:
    """Ours: the first number of epochs that comes to the target, or the last one tried."""
    from sparkps import PSContext
    from sparkps.mllib.classification import FMClassifier

    found = Fit(0.0, np.inf, 0)
    for epochs in range(1, args.epochs + 1):
        with session("local[2]", args.driver_memory) as spark, PSContext(spark, num_nodes=2):
            fm = FMClassifier(factorSize=args.factors, solver=args.solver, maxIter=epochs, seed=1)
            fm = fm.setBatchSize(args.batch_size)
            begun = time.perf_counter()
            model = fm.fit(spark.read.parquet(args.path))
            seconds = time.perf_counter() - begun
            loss = held_out(args.test, model.intercept, model.linear.toArray(), model.factors.toArray())
            found = Fit(seconds, loss, epochs)
        if found.log_loss <= args.target:
            break
    return found


def fit_xlearn(args: argparse.Namespace) -> Fit:
    """xLearn's."""
    os.environ.setdefault("USER", "nobody")  # it ends without one
    xlearn = importlib.import_module("xlearn")

    with tempfile.TemporaryDirectory() as directory:
        texts = [str(pathlib.Path(directory) / name) for name in ("train.txt", "test.txt")]
        labels = [as_text(path, text) for path, text in zip((args.path, args.test), texts, strict=True)][1]
        machine = xlearn.create_fm()
        machine.setTrain(texts[0])
        machine.setQuiet()
        machine.disableEarlyStop()
        begun = time.perf_counter()
        machine.fit({"task": "binary", "k": args.factors, "epoch": args.peer_epochs, "nthread": 2}, f"{directory}/model")
        seconds = time.perf_counter() - begun
        machine.setTest(texts[1])
        machine.setSigmoid()
        machine.predict(f"{directory}/model", f"{directory}/predicted")
        p = np.clip(np.loadtxt(f"{directory}/predicted"), 1e-12, 1.0 - 1e-12)
    return Fit(seconds, float(-np.mean(np.log(np.where(labels > 0, p, 1.0 - p)))), args.peer_epochs)


def as_text(path: str, text: str) -> NDArray[Any]:
    """Write the rows of `path` as libsvm's text; their labels."""
    labels = []
    with pathlib.Path(text).open("w") as file:
        for batch in pq.ParquetDataset(path).read(["label", "features"]).to_batches():
            labels.append(batch.column(0).to_numpy())
            indices, values = (batch.column(1).field(name) for name in ("indices", "values"))
            ends, keys, xs = indices.offsets.to_numpy(), indices.values.to_pylist(), values.values.to_pylist()
            for row, label in enumerate(labels[-1]):
                mine = range(ends[row], ends[row + 1])
                file.write(f"{int(label > 0)} " + " ".join(f"{keys[i]}:{xs[i]:.7g}" for i in mine) + "\n")
    return np.concatenate(labels)


FITS = {"pyspark.ml": fit_spark, "xlearn": fit_xlearn, "sparkps": fit_sparkps}


def child(contender: str, **given: object) -> Fit:
    """One contender in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.fm_vs_spark", "--contender", contender]
    for name, value in given.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Fit(**json.loads(done.stdout.strip().splitlines()[-1]))


def compare(args: argparse.Namespace) -> str:
    """Both contenders, and the table of what they did."""
    train = criteo.write(args.rows, args.features, 77, args.directory)
    test = criteo.write(min(args.rows, 200_000), args.features, 78, args.directory)
    names = ("factors", "iterations", "spark_step", "peer_epochs", "epochs", "solver", "batch_size", "driver_memory")
    given: dict[str, object] = {name: getattr(args, name) for name in names}
    given.update(path=train.path, test=test.path)
    theirs = child(args.peer, **given)
    ours = child("sparkps", **given, target=theirs.log_loss)
    found = ((args.peer, theirs), ("sparkps", ours))
    lines = [[name, f"{fit.seconds:.1f}", f"{fit.log_loss:.4f}", str(fit.steps)] for name, fit in found]
    reached = "reached" if ours.log_loss <= theirs.log_loss else "missed"
    promised = f" (promised: >= {SPEED_UP:g}x)" if args.peer == "pyspark.ml" else ""
    ratio = f"{theirs.seconds / ours.seconds:.1f}x{promised}, target {reached}"
    return table(["", "seconds", "held-out log loss", "steps"], lines) + "\n" + ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rows", type=count, default=1_000_000)
    parser.add_argument("--features", type=count, default=100_000)
    parser.add_argument("--factors", type=int, default=8)
    parser.add_argument("--iterations", type=int, default=50, help="of pyspark.ml")
    parser.add_argument("--spark-step", type=float, default=0.1, help="step size of pyspark.ml")
    parser.add_argument("--epochs", type=int, default=5, help="most epochs of ours")
    parser.add_argument("--solver", default="adam")
    parser.add_argument("--batch-size", type=count, default=1000)
    parser.add_argument("--directory", help="where data sets are kept")
    parser.add_argument("--driver-memory", default="2g")
    parser.add_argument("--peer", choices=PEERS, default=PEERS[0], help="against whom")
    parser.add_argument("--peer-epochs", type=int, default=2, help="of xlearn")
    parser.add_argument("--contender", choices=list(FITS), help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    parser.add_argument("--test", help=argparse.SUPPRESS)
    parser.add_argument("--target", type=float, default=0.0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.contender:
        print(json.dumps(dataclasses.asdict(FITS[args.contender](args))))
        return
    print(machine(), f"{args.rows:,} rows, {args.features:,} features, {args.factors} factors", sep="\n", flush=True)
    print(compare(args))


if __name__ == "__main__":
    main()
