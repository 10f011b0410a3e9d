"""What CURVE costs: requests of 1 k, 100 k and 1 M keys at one node, and a whole fit, over TCP with keys and in the clear, in turns.

    python -m benchmarks.encryption [--stored 2e6] [--rounds 3] [--data a9a.libsvm]

Both sides are tiers at ports of loopback; each ratio is within its round, and the median of all rounds counts. One I/O thread encrypts
what a node sends and receives, so that large answers cost most where nothing else is left to do: those of registered keys.
"""

from __future__ import annotations

import argparse
import contextlib
import pathlib
import statistics
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyspark

from benchmarks.common import count, machine, median_seconds, session, table
from sparkps import PSContext
from sparkps.client.control import ControlClient
from sparkps.client.session import disconnect
from sparkps.client.tables import SparseTable
from sparkps.config import Settings
from sparkps.mllib.classification import LogisticRegression
from sparkps.secret import forget
from sparkps.specs import TableSpec
from sparkps.testing import tcp_tier
from sparkps.testing.tcp_tier import TcpTier
from sparkps.wire.messages.control import CreateTable

SIZES = (1_000, 100_000, 1_000_000)
COLUMNS = ("push", "pull", "registered push", "registered pull")
DATA = pathlib.Path(pyspark.__file__).parent / "data" / "mllib" / "sample_libsvm_data.txt"


@contextlib.contextmanager
def filled(is_secured: bool, stored: int) -> Iterator[SparseTable]:
    """A table of so many rows on a tier of one node."""
    tier = TcpTier(Settings(num_nodes=1), is_secured).start()
    try:
        spec = ControlClient.of(tier.address).request(CreateTable(0, TableSpec("w", "sparse", 1, "float32"))).spec
        w = SparseTable(tier.address, spec)
        for keys in np.array_split(np.arange(stored), max(1, stored // 500_000)):
            w.add(keys, np.ones((len(keys), 1), np.float32))
        yield w
    finally:
        disconnect(tier.address)
        ControlClient.of(tier.address).close()
        tier.stop()
        forget(tier.address.tier_id)


def seconds(w: SparseTable, size: int, stored: int) -> dict[str, float]:
    """Median time of a request of so many keys, by kind."""
    keys = np.sort(np.random.default_rng(size).choice(stored, size, replace=False))
    rows, known, repeats = np.ones((size, 1), np.float32), w.register(keys), 400 if size <= 10_000 else 20
    calls = (lambda: w.push(keys, rows), lambda: w.pull(keys), lambda: known.push(rows), lambda: known.pull())
    return {name: median_seconds(call, repeats) for name, call in zip(COLUMNS, calls, strict=True)}


def requests(stored: int, rounds: int) -> list[list[Any]]:
    """By size: time in the clear as a part of that with keys, for each kind of request."""
    ratios: dict[int, dict[str, list[float]]] = {size: {name: [] for name in COLUMNS} for size in SIZES}
    with filled(True, stored) as secured, filled(False, stored) as clear:
        for _ in range(rounds):
            for size in SIZES:
                with_keys, without = seconds(secured, size, stored), seconds(clear, size, stored)
                for name in COLUMNS:
                    ratios[size][name].append(without[name] / with_keys[name])
    return [[f"{size:,}", *(statistics.median(ratios[size][name]) for name in COLUMNS)] for size in SIZES]


def fits(data: pathlib.Path, rounds: int) -> list[float]:
    """Time of a fit in the clear as a part of that with keys, round by round."""
    found = []
    with session("local[2]") as spark:
        rows = spark.read.format("libsvm").load(str(data))
        df = rows.withColumn("label", (rows["label"] > 0).cast("double")).cache()  # some files say -1 for 0
        df.count()
        for _ in range(rounds + 1):
            took = {}
            for name in ("clear", "secured"):
                tcp_tier.enable(is_secured=name == "secured")
                with PSContext(spark, num_nodes=2, launch="tcp"):
                    began = time.perf_counter()
                    LogisticRegression(maxIter=30, regParam=1e-3).fit(df)
                    took[name] = time.perf_counter() - began
            found.append(took["clear"] / took["secured"])
    return found[1:]


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stored", type=count, default=2_000_000, help="rows of the table")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=pathlib.Path, default=DATA, help="rows of the fit, as libsvm; default: those of pyspark")
    arguments = parser.parse_args()
    print(machine())
    print("Speed with keys as a part of that in the clear, over TCP on loopback:")
    print(table(("keys", *COLUMNS), requests(arguments.stored, arguments.rounds)))
    found = fits(arguments.data, arguments.rounds)
    said = f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"
    print(f"A fit (L-BFGS, 30 iterations, {arguments.data.name}, 2 workers, 2 nodes): {said}")


if __name__ == "__main__":
    main()
