"""Writing and reading a checkpoint's files beside a plain sequential write of the same bytes: 10 M rows, dim 1, one slot.

    python -m benchmarks.checkpoint_files

Both put their bytes on the disk (fsync) before the time is taken; the page cache's own speed is shown as well. Rounds alternate, and
the best of each kind counts, since others on the machine make things slower only. The promise is that a checkpoint is written at no
less than half of the plain write's speed.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import shutil
import tempfile
import time

import numpy as np

from benchmarks.common import count, machine, table
from sparkps.checkpoints.format import BucketRecord, TableRecord
from sparkps.checkpoints.loading import load
from sparkps.checkpoints.plan import assemble
from sparkps.checkpoints.store import CheckpointStore
from sparkps.checkpoints.writer import BucketWriter
from sparkps.optim import Adagrad
from sparkps.specs import NUM_BUCKETS, TableSpec

SPEC = TableSpec(name="rows", kind="sparse", dim=1, optimizer=Adagrad(0.1), table=1, index=1)
PROMISED = 0.5


def records(rows: int) -> list[BucketRecord]:
    random = np.random.default_rng(1)
    found = []
    for bucket in range(NUM_BUCKETS):
        share = rows // NUM_BUCKETS + (bucket < rows % NUM_BUCKETS)
        planes = tuple(random.random((share, 1), np.float32) for _ in range(2))
        found.append(BucketRecord(bucket, {1: random.integers(0, 1 << 62, share)}, {1: TableRecord(planes)}, {"low": 1}))
    return found


def plain(directory: pathlib.Path, nbytes: int, sync: bool) -> float:
    data = memoryview(os.urandom(1 << 20))
    start = time.perf_counter()
    with (directory / "plain").open("wb", buffering=0) as file:
        for _ in range(nbytes >> 20):
            file.write(data)
        file.write(data[: nbytes & ((1 << 20) - 1)])
        if sync:
            os.fsync(file.fileno())
    seconds = time.perf_counter() - start
    (directory / "plain").unlink()
    return seconds


def checkpoint(directory: pathlib.Path, buckets: list[BucketRecord], read_back: bool | None) -> tuple[float, float, int]:
    """Seconds to write and to publish, seconds of the processor in that time, bytes."""
    store = CheckpointStore(str(directory / "checkpoints"))
    start, worked = time.perf_counter(), time.process_time()
    name = store.new_id()
    with BucketWriter(store.url, name, 0, [SPEC], read_back=read_back) as writer:
        for record in buckets:
            writer.put(record)
        written = writer.finish()
    manifest = assemble([written], checkpoint=name, tier="benchmark", tables=[SPEC], groups=[], time=time.time(), seconds=0.0)
    store.publish(manifest)
    return time.perf_counter() - start, time.process_time() - worked, written.nbytes


def restore(directory: pathlib.Path) -> float:
    store = CheckpointStore(str(directory / "checkpoints"))
    start = time.perf_counter()
    for record in load(store.url, store.newest_sound(), range(NUM_BUCKETS)):
        for plane in record.tables[1].planes:
            plane.copy()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rows", type=count, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--directory", help="on the disk to measure; by default the system's temporary directory")
    args = parser.parse_args()
    print(machine())
    buckets = records(args.rows)
    directory = pathlib.Path(tempfile.mkdtemp(prefix="sparkps-benchmark-", dir=args.directory))
    times: dict[str, list[float]] = {}
    work: dict[str, list[float]] = {}
    try:
        for _ in range(args.rounds):
            for what, read_back in (("checkpoint", None), ("checkpoint, read back", True)):
                seconds, worked, nbytes = checkpoint(directory, buckets, read_back)
                times.setdefault(what, []).append(seconds)
                work.setdefault(what, []).append(worked)
                times.setdefault("restore", []).append(restore(directory))
                shutil.rmtree(directory / "checkpoints")
            times.setdefault("plain write", []).append(plain(directory, nbytes, True))
            times.setdefault("plain write, page cache only", []).append(plain(directory, nbytes, False))
    finally:
        shutil.rmtree(directory)
    base = min(times["plain write"])
    lines = []
    for what, taken in times.items():
        seconds = min(taken)
        promised = f">= {PROMISED}" if what == "checkpoint" else ""
        worked = min(work[what]) if what in work else 0.0
        lines.append([what, seconds, nbytes / seconds / 1e6, base / seconds, promised, worked])
    print(f"{args.rows:,} rows, {nbytes:,} bytes")
    print(table(["", "s", "MB/s", "of a plain write", "promised", "CPU s"], lines))


if __name__ == "__main__":
    main()
