"""DeepFM of one and of two workers beside the same model wholly in one torch process, with its embeddings in memory.

39 fields, embeddings of 16, layers of 256, 128 and 64, about 10 M distinct keys, batches of 4,096: rows a second of the second epoch, and
where a worker's step goes. Promised: one worker >= 0.8 of torch alone, two workers >= 1.3 of one.

What two workers can gain is what the machine has to give: torch alone uses all its processors already. So two processes of torch with a
thread each, which share nothing and wait for nobody, are beside it: no two workers can be faster than that by more than they wait less.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import pathlib
import tempfile
import time
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from pyspark.sql import SparkSession
from torch import Tensor, nn

from sparkps import PSContext
from sparkps.mllib.deep import DeepFMClassifier
from sparkps.optim import Adagrad, Adam

FIELDS, DIM, HIDDEN, BATCH = 39, 16, [256, 128, 64], 4096


def drawn(rows: int, keys: int, seed: int = 1, skew: float = 2.0) -> tuple[NDArray[Any], NDArray[Any]]:
    """Ids (rows, FIELDS), the frequent ones of each field far more often, and labels that depend on them."""
    draw = np.random.default_rng(seed)
    ids = (draw.random((rows, FIELDS)) ** skew * (keys // FIELDS)).astype(np.int64)
    effects = draw.normal(size=(FIELDS, 1024)) * 0.3
    margins = effects[np.arange(FIELDS), ids % 1024].sum(axis=1)
    return ids, (draw.random(rows) < 1 / (1 + np.exp(-margins))).astype(np.float64)


class InOneProcess(nn.Module):
    """DeepFM as one writes it without a tier."""

    def __init__(self, keys: int) -> None:
        super().__init__()
        self.rows, self.linear = nn.Embedding(keys, DIM, sparse=True), nn.Embedding(keys, 1, sparse=True)
        nn.init.normal_(self.rows.weight, 0.0, 0.01)
        nn.init.normal_(self.linear.weight, 0.0, 0.01)
        sizes = [FIELDS * DIM, *HIDDEN]
        hidden = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())]
        self.head, self.bias = nn.Sequential(*hidden, nn.Linear(sizes[-1], 1)), nn.Parameter(torch.zeros(1))

    def forward(self, ids: Tensor) -> Tensor:
        vectors = self.rows(ids)
        pairs = 0.5 * (vectors.sum(1) ** 2 - (vectors**2).sum(1)).sum(1)
        found: Tensor = self.bias + self.linear(ids).sum((1, 2)) + pairs + self.head(vectors.flatten(1)).squeeze(1)
        return found


def torch_alone(ids: NDArray[Any], labels: NDArray[Any], keys: int, steps: int) -> float:
    """Rows a second."""
    module, each = InOneProcess(keys), keys // FIELDS
    sparse = torch.optim.Adagrad([module.rows.weight, module.linear.weight], lr=0.05, initial_accumulator_value=0.1)
    dense = torch.optim.Adam([*module.head.parameters(), module.bias], lr=1e-3)
    places = torch.from_numpy(ids + np.arange(FIELDS) * each)
    targets, order = torch.from_numpy(labels).float(), torch.randperm(len(labels))
    began = 0.0
    for step in range(steps + 5):
        if step == 5:
            began = time.perf_counter()
        taken = order[(step * BATCH) % (len(order) - BATCH) :][:BATCH]
        loss = nn.functional.binary_cross_entropy_with_logits(module(places[taken]), targets[taken])
        for optimizer in (sparse, dense):
            optimizer.zero_grad()
        loss.backward()
        for optimizer in (sparse, dense):
            optimizer.step()
    return steps * BATCH / (time.perf_counter() - began)


def _half(ids: NDArray[Any], labels: NDArray[Any], keys: int, steps: int, together: Any, speeds: Any) -> None:
    torch.set_num_threads(1)
    together.wait()
    speeds.put(torch_alone(ids, labels, keys, steps))


def two_torch_processes(ids: NDArray[Any], labels: NDArray[Any], keys: int, steps: int) -> float:
    """Rows a second of two processes together, of half the rows and one thread each; in batches of the same size they share nothing."""
    spawn = multiprocessing.get_context("spawn")
    together, speeds = spawn.Barrier(2), spawn.Queue()
    halves = [spawn.Process(target=_half, args=(ids[part::2], labels[part::2], keys, steps, together, speeds)) for part in range(2)]
    for each in halves:
        each.start()
    speed = sum(speeds.get(timeout=600) for _ in halves)
    for each in halves:
        each.join()
    return float(speed)


def fitted(frame: Any, workers: int, **params: Any) -> Any:
    """A model, by default after two epochs."""
    made = DeepFMClassifier(
        categoricalCols=[f"c{i}" for i in range(FIELDS)], embeddingDim=DIM, hiddenUnits=HIDDEN, numWorkers=workers,
        optimizer=Adam(1e-3), embeddingOptimizer=Adagrad(0.05), **{"maxIter": 2, "batchSize": BATCH // workers, **params},
    )  # fmt: skip
    return made.fit(frame)


def ours(frame: Any, rows: int, workers: int, **params: Any) -> tuple[float, dict[str, float]]:
    """Rows a second of the second epoch, and mean milliseconds of the parts of a worker's step."""
    model = fitted(frame, workers, **params)
    first, second = model.summary.secondsHistory[:2]
    return rows / (second - first), {name: round(1000 * seconds, 1) for name, seconds in model.stepSeconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--keys", type=int, default=10_000_000)
    parser.add_argument("--consistency", default="bsp")
    arguments = parser.parse_args()
    ids, labels = drawn(arguments.rows, arguments.keys)
    torch.set_num_threads(os.cpu_count() or 1)
    alone = torch_alone(ids, labels, arguments.keys, 40)
    print(f"torch alone     {alone:10,.0f} rows/s")
    both = two_torch_processes(ids, labels, arguments.keys, 40)
    print(f"two, a thread each {both:7,.0f} rows/s, {both / alone:.2f} of one with all threads", flush=True)
    spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").config("spark.driver.memory", "4g").getOrCreate()
    with tempfile.TemporaryDirectory() as directory:
        for part in range(2):
            columns = {f"c{i}": ids[part::2, i] for i in range(FIELDS)}
            pq.write_table(pa.table({"label": labels[part::2], **columns}), pathlib.Path(directory) / f"{part}.parquet")
        frame = spark.read.parquet(directory)
        with PSContext(spark, num_nodes=1):
            before = alone
            for workers in (1, 2):
                speed, parts = ours(frame, arguments.rows, workers, consistency=arguments.consistency, staleness=2)
                beside = "torch alone" if workers == 1 else "one worker"
                print(f"{workers} worker{'s' if workers > 1 else ' '}       {speed:10,.0f} rows/s, {speed / before:.2f} of {beside}")
                print(f"                ms of a step: {parts}")
                before = speed
    spark.stop()


if __name__ == "__main__":
    main()
