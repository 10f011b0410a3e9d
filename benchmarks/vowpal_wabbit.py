"""One epoch of row-by-row learning beside Vowpal Wabbit's single pass with its defaults: the same rows, the same keys.

    python -m benchmarks.vowpal_wabbit                                          generated rows, and those of ../shared/data/a9a
    python -m benchmarks.vowpal_wabbit --batch-size 1000 100000 --workers 1 2 8 --consistency bsp asp --master local[8]

Vowpal Wabbit's seconds hold the reading of its text, ours everything from the DataFrame of Parquet files to the model. Of a second
fit in the same session, because Vowpal Wabbit starts no Spark. The last line of each data set is the learning kernel alone, on rows
in memory and one thread; Vowpal Wabbit's text cannot be read without being parsed. Vowpal Wabbit has enough bits for every key to
have a weight of its own. Needs the extra `peers`.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import criteo
from benchmarks.common import count, machine, session, table

Array = NDArray[Any]

#: Bits of Vowpal Wabbit's table of weights.
BITS = 21
REPEATS = 3


@dataclasses.dataclass(frozen=True)
class Rows:
    """Labelled sparse rows in CSR form; labels are 0 and 1."""

    labels: Array
    indptr: Array
    keys: Array
    values: Array

    def margins(self, coefficients: Array, intercept: float) -> Array:
        """Of a linear model; keys that it does not have count nothing."""
        held = np.append(coefficients, 0.0)[np.minimum(self.keys, len(coefficients))] * self.values
        sums = np.concatenate([[0.0], np.cumsum(held)])
        return np.asarray(sums[self.indptr[1:]] - sums[self.indptr[:-1]] + intercept)

    def lines(self) -> Iterator[str]:
        """Vowpal Wabbit's text."""
        for row, label in enumerate(self.labels):
            mine = slice(self.indptr[row], self.indptr[row + 1])
            entries = zip(self.keys[mine].tolist(), self.values[mine].tolist(), strict=True)
            yield f"{1 if label else -1} | " + " ".join(str(key) if x == 1.0 else f"{key}:{x:.7g}" for key, x in entries) + "\n"


def generated(rows: int, features: int, seed: int) -> Rows:
    """Rows of `benchmarks.criteo`."""
    labels, keys, values = (np.concatenate(parts) for parts in zip(*criteo.chunks(rows, features, seed), strict=True))
    return Rows(labels, np.arange(rows + 1) * criteo.FIELDS, keys.ravel(), values.astype(np.float32).ravel())


def libsvm(path: pathlib.Path) -> Rows:
    """Rows of a file; labels above 0 are 1."""
    lines = [line.split() for line in path.read_text().splitlines()]
    entries = [entry.split(":") for line in lines for entry in line[1:]]
    return Rows(
        np.array([float(line[0]) > 0 for line in lines], np.float64),
        np.cumsum([0, *(len(line) - 1 for line in lines)]),
        np.array([int(key) for key, _ in entries], np.int64),
        np.array([float(x) for _, x in entries], np.float32),
    )


def quality(labels: Array, margins: Array) -> tuple[float, float]:
    """Log loss, and area under the ROC curve, where ties count half."""
    loss = float(np.mean(np.logaddexp(0.0, margins) - labels * margins))
    _, place, counts = np.unique(margins, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts)[place] - (counts[place] - 1) / 2.0
    positive = labels.sum()
    auc = (ranks[labels == 1].sum() - positive * (positive + 1) / 2) / (positive * (len(labels) - positive))
    return loss, float(auc)


def best(call: Callable[[], Any], repeats: int = REPEATS) -> tuple[float, Any]:
    """Least seconds of some calls, and what the last one gave."""
    seconds, found = [], None
    for _ in range(repeats):
        start = time.perf_counter()
        found = call()
        seconds.append(time.perf_counter() - start)
    return min(seconds), found


def vowpal_wabbit(train: Rows, test: Rows, directory: pathlib.Path) -> tuple[float, float, float]:
    """Seconds of a single pass, and its log loss and AUC on `test`."""
    from vowpalwabbit import Workspace

    for name, rows in (("train", train), ("test", test)):
        with (directory / name).open("w") as file:
            file.writelines(rows.lines())
    model, predictions = directory / "model", directory / "predictions"

    def learn() -> None:
        options = f"--loss_function logistic -b {BITS} --no_stdin --quiet -d {directory / 'train'} -f {model}"
        Workspace(options).finish()

    seconds, _ = best(learn)
    Workspace(f"-t -i {model} --no_stdin --quiet -d {directory / 'test'} -r {predictions}").finish()
    margins = np.array([float(line.split()[0]) for line in predictions.read_text().splitlines()])
    return seconds, *quality(test.labels, margins)


def in_memory(train: Rows, test: Rows) -> tuple[float, float, float]:
    """Seconds of the learning kernel alone, with log loss and AUC."""
    from sparkps.mllib.data.store import Chunk, Spill, Store
    from sparkps.mllib.linear.losses.logistic import Logistic
    from sparkps.mllib.solvers.feature_scales import FeatureScales

    known, ids = np.unique(train.keys, return_inverse=True)
    ids, nothing, bias = ids.astype(np.int32), np.empty(0), len(known)
    chunk = Chunk(train.labels, nothing, train.indptr.astype(np.int32), ids, train.values)
    store = Store(np.append(known, -1), np.array([bias]), [chunk], Spill(), [len(chunk)], 0, 0)
    scales = FeatureScales(store, None)  # one rank tells nobody
    scales.take(shared=False, intercept=bias)
    kernel: Any = Logistic.online
    learn = kernel.of(train.values.dtype)
    room = np.empty((3, int(np.diff(train.indptr).max()) + 1), np.float32)

    def run() -> Array:
        state = np.zeros((bias + 1, 4), np.float32)
        state[:, 2] = scales.scales
        learn(
            chunk.indptr, ids, train.values, train.labels, nothing, nothing, state, bias, 0.5, 0.0, 0.0, nothing, 0.0, room, np.zeros(2)
        )
        return state

    run()
    seconds, state = best(run)
    weights = (state[:, 0] * state[:, 2]).astype(np.float64)
    coefficients = np.zeros(int(known[-1]) + 1)
    coefficients[known] = weights[:-1]
    return seconds, *quality(test.labels, test.margins(coefficients, weights[-1]))


def ours(spark: Any, path: str, test: Rows, **params: Any) -> tuple[float, float, float]:
    """Seconds of a fit from Parquet, with log loss and AUC on `test`."""
    from sparkps.mllib.classification import LogisticRegression

    df = spark.read.parquet(path)
    seconds, model = best(lambda: LogisticRegression(solver="online", maxIter=1, **params).fit(df))
    return seconds, *quality(test.labels, test.margins(model.coefficients.toArray(), model.intercept))


def parquet(spark: Any, rows: Rows, path: str, files: int) -> str:
    """`rows` as a DataFrame of ``label`` and ``features`` on disk."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pathlib.Path(path).mkdir()
    for part in range(files):
        first, last = len(rows.labels) * part // files, len(rows.labels) * (part + 1) // files
        begin, end = rows.indptr[first], rows.indptr[last]
        offsets = pa.array((rows.indptr[first : last + 1] - begin).astype(np.int32))
        columns = {"indices": rows.keys[begin:end], "values": rows.values[begin:end].astype(np.float32)}
        lists = [pa.ListArray.from_arrays(offsets, pa.array(column)) for column in columns.values()]
        features = pa.StructArray.from_arrays(lists, list(columns))
        pq.write_table(pa.table({"label": rows.labels[first:last], "features": features}), f"{path}/part-{part}.parquet")
    return path


def run(args: argparse.Namespace) -> None:
    """Print a table for each data set."""
    from sparkps import PSContext

    print(machine())
    sets = {"generated": (generated(args.rows, args.features, 77), generated(args.rows // 5, args.features, 78))}
    if (args.shared / "a9a.train.libsvm").is_file():
        sets["a9a"] = libsvm(args.shared / "a9a.train.libsvm"), libsvm(args.shared / "a9a.test.libsvm")
    with session(args.master, "4g") as spark, PSContext(spark, num_nodes=1), tempfile.TemporaryDirectory() as room:
        for name, (train, test) in sets.items():
            directory = pathlib.Path(room, name)
            directory.mkdir()
            path = parquet(spark, train, str(directory / "parquet"), 8 if len(train.labels) > 100_000 else 2)
            lines = [["vowpal wabbit", *shown(len(train.labels), vowpal_wabbit(train, test, directory))]]
            for workers in args.workers:
                for size in args.batch_size:
                    for consistency in args.consistency:
                        found = ours(spark, path, test, numWorkers=workers, batchSize=size, consistency=consistency)
                        lines.append([f"{workers} workers, {size:,}, {consistency}", *shown(len(train.labels), found)])
            lines.append(["kernel alone", *shown(len(train.labels), in_memory(train, test))])
            print(f"\n{name}: {len(train.labels):,} rows\n")
            print(table(["", "seconds", "rows/s", "held-out log loss", "AUC"], lines))


def shown(rows: int, found: tuple[float, float, float]) -> list[object]:
    """Cells of a line."""
    seconds, loss, auc = found
    return [seconds, f"{rows / seconds:,.0f}", f"{loss:.4f}", f"{auc:.4f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rows", type=count, default=1_000_000)
    parser.add_argument("--features", type=count, default=1_000_000)
    parser.add_argument("--batch-size", type=count, nargs="+", default=[20_000])
    parser.add_argument("--workers", type=int, nargs="+", default=[2])
    parser.add_argument("--consistency", nargs="+", default=["bsp"], choices=["bsp", "ssp", "asp"])
    parser.add_argument("--master", default="local[2]")
    parser.add_argument("--shared", type=pathlib.Path, default=pathlib.Path("../shared/data"), help="where a9a's files are")
    run(parser.parse_args())


if __name__ == "__main__":
    main()
