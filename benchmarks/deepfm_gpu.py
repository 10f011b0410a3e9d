"""DeepFM in one executor with a GPU beside the same model wholly in one torch process, its table of embeddings in the GPU's memory.

The model and rows of `deepfm_vs_torch`. Prints rows a second of both, the share of a step's time in which the GPU runs a kernel
(`torch.profiler`, steps of the second epoch), and where a worker's step goes. Promised: one executor >= 0.5 of torch alone.
`--device cpu` only shows that the program runs.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
import tempfile
import time
from typing import Any

import torch
from pyspark.sql import SparkSession
from torch import nn
from torch.profiler import ProfilerActivity, profile

from benchmarks.deepfm_vs_torch import BATCH, DIM, FIELDS, HIDDEN, InOneProcess, drawn
from benchmarks.prefetch import written
from sparkps import PSContext
from sparkps.mllib.deep import DeepFMClassifier
from sparkps.mllib.deep.columns import InputColumns
from sparkps.optim import Adagrad, Adam

#: Steps that are profiled.
PROFILED = 20

DISCOVERY = pathlib.Path(__file__).parents[1] / "conf" / "discover-gpu.sh"


class Watch:
    """Profiles steps, and says which share of their time a kernel ran in; kernels of several streams that overlap count twice."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._profile = profile(activities=[ProfilerActivity.CUDA if device.type == "cuda" else ProfilerActivity.CPU])
        self._settle()
        self._profile.start()
        self._began = time.perf_counter()

    def _settle(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def share(self) -> float:
        """Ends it."""
        self._settle()
        seconds = time.perf_counter() - self._began
        self._profile.stop()
        return float(sum(each.self_device_time_total for each in self._profile.key_averages()) / 1e6 / seconds)


class Watched(nn.Module):
    """A module some of whose steps are profiled where they are computed; what comes of it goes into a file."""

    def __init__(self, module: nn.Module, first: int, path: pathlib.Path) -> None:
        super().__init__()
        self.module, self.first, self.path = module, first, path
        self.calls = 0
        self.watch: Watch | None = None

    def forward(self, batch: Any) -> Any:
        """As the module that is watched."""
        if self.calls == self.first:
            self.watch = Watch(next(self.module.parameters()).device)
        if self.watch is not None and self.calls == self.first + PROFILED:
            self.path.write_text(json.dumps(self.watch.share()))
            self.watch = None
        self.calls += 1
        return self.module(batch)


class WatchedDeepFM(DeepFMClassifier):
    """DeepFM whose module is `Watched`."""

    #: First step to be profiled, and where the share goes.
    watched: tuple[int, pathlib.Path]

    def _made_module(self, inputs: InputColumns) -> nn.Module:
        return Watched(super()._made_module(inputs), *self.watched)


def torch_alone(rows: int, keys: int, steps: int, device: torch.device) -> tuple[float, float]:
    """Rows a second without the profiler, and the share of steps in which a kernel runs."""
    ids, labels = drawn(rows, keys)
    torch.manual_seed(0)
    module, each = InOneProcess(keys).to(device), keys // FIELDS
    sparse = torch.optim.Adagrad([module.rows.weight, module.linear.weight], lr=0.05, initial_accumulator_value=0.1)
    dense = torch.optim.Adam([*module.head.parameters(), module.bias], lr=1e-3)
    places, targets = torch.from_numpy(ids + torch.arange(FIELDS).numpy() * each), torch.from_numpy(labels).float()
    order = torch.randperm(rows)

    def step(number: int) -> None:
        taken = order[(number * BATCH) % max(1, rows - BATCH) :][:BATCH]
        output = module(places[taken].to(device))
        loss = nn.functional.binary_cross_entropy_with_logits(output, targets[taken].to(device))
        for optimizer in (sparse, dense):
            optimizer.zero_grad()
        loss.backward()
        for optimizer in (sparse, dense):
            optimizer.step()
        float(loss.detach())  # as a worker, who says the loss of each step

    for number in range(5):
        step(number)
    began = time.perf_counter()
    for number in range(5, 5 + steps):
        step(number)
    speed = steps * BATCH / (time.perf_counter() - began)
    watch = Watch(device)
    for number in range(5 + steps, 5 + steps + PROFILED):
        step(number)
    return speed, watch.share()


def ours(frame: Any, rows: int, directory: str, **params: Any) -> tuple[float, float, dict[str, float]]:
    """Rows a second of the second of three epochs, share of steps of the third, and milliseconds of a mean step's parts."""
    made = WatchedDeepFM(
        categoricalCols=[f"c{i}" for i in range(FIELDS)], embeddingDim=DIM, hiddenUnits=HIDDEN, batchSize=BATCH, maxIter=3, numWorkers=1,
        optimizer=Adam(1e-3), embeddingOptimizer=Adagrad(0.05), **params,
    )  # fmt: skip
    steps, told = -(-rows // BATCH), pathlib.Path(directory) / "share.json"
    made.watched = 2 * steps + 1, told
    model = made.fit(frame)
    first, second, _ = model.summary.secondsHistory
    parts = {name: round(1000 * seconds, 1) for name, seconds in model.stepSeconds.items()}
    return rows / (second - first), float(json.loads(told.read_text())), parts


def session(device: str) -> SparkSession:
    """A local Spark, whose workers share out the driver's GPU."""
    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").config("spark.driver.memory", "4g")
    if device == "cuda":
        builder = builder.config("spark.driver.resource.gpu.amount", "1")
        builder = builder.config("spark.driver.resource.gpu.discoveryScript", str(DISCOVERY))
    return builder.getOrCreate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--keys", type=int, default=10_000_000)
    parser.add_argument("--steps", type=int, default=100, help="of torch alone")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--amp", action="store_true")
    arguments = parser.parse_args()
    if -(-arguments.rows // BATCH) < PROFILED + 2:
        sys.exit(f"An epoch must have more than {PROFILED + 1} steps of {BATCH} rows. Got --rows {arguments.rows}.")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("It needs a GPU that torch can use, and there is none. `--device cpu` shows that the program runs.")
    torch.set_num_threads(os.cpu_count() or 1)
    alone, share = torch_alone(arguments.rows, arguments.keys, arguments.steps, torch.device(arguments.device))
    print(f"torch alone   {alone:10,.0f} rows/s, the GPU computes in {share:.0%} of a step")
    torch.cuda.empty_cache()
    spark = session(arguments.device)
    gpus = {"gpusPerWorker": 1.0} if arguments.device == "cuda" else {}
    with tempfile.TemporaryDirectory() as directory:
        rows = pathlib.Path(directory) / "rows"
        rows.mkdir()
        written(str(rows), arguments.rows, arguments.keys)
        frame = spark.read.parquet(str(rows))
        with PSContext(spark, num_nodes=1):
            speed, share, parts = ours(frame, arguments.rows, directory, device=arguments.device, amp=arguments.amp, **gpus)
    print(f"one executor  {speed:10,.0f} rows/s, {speed / alone:.2f} of torch alone, the GPU computes in {share:.0%} of a step")
    print(f"              ms of a step: {parts}")
    spark.stop()


if __name__ == "__main__":
    main()
