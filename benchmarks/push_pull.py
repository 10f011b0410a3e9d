"""Push and pull of n out of 5 M stored keys, one node, keys on the wire and registered; beside ps-lite where it is at hand.

    python -m benchmarks.push_pull                                dim 1 and 16
    python -m benchmarks.push_pull --pslite GIT_DIR               builds dmlc/ps-lite from there, and prints ratios for dim 1
    python -m benchmarks.push_pull --pslite GIT_DIR --busy 2      the same beside two processes that are always busy

Ours is used as users meet it, through a `PSContext` with a Spark session open beside. The two sides take turns, a round each, and
each ratio is within its round, beside the same idle JVM and the same busy processes; the least of all rounds counts.

ps-lite needs g++, libzmq3-dev, libprotobuf-dev and protobuf-compiler. Both sides hold the same number of keys, are asked for the
same numbers of keys, in ascending order as ps-lite wants them, and talk over loopback between processes of one machine.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import socket
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import count, machine, median_seconds, session, table
from sparkps import PSContext
from sparkps.client.tables import SparseTable
from sparkps.optim import SGD

STORED = 5_000_000
SIZES = (1_000, 10_000, 100_000, 1_000_000)
COLUMNS = ("push", "pull", "registered push", "registered pull")

#: Promised ratios to ps-lite, dim 1: keys on the wire, registered; beside an idle JVM, and with the cores busy.
TARGETS = {1_000: (1.5, 1.5), 10_000: (1.5, 1.5), 100_000: (2.5, 10.0), 1_000_000: (3.5, 20.0)}
TARGETS_BUSY = {1_000: (1.0, 1.0), 10_000: (1.0, 1.0)}

#: A process that keeps a core busy, until its standard input ends.
BUSY = """
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
while True:
    sum(range(100_000))
"""

Rates = dict[int, list[float]]

HERE = pathlib.Path(__file__).resolve().parent


def repeats(n: int) -> int:
    """As many repetitions as the ps-lite side makes."""
    return 2000 if n <= 10_000 else 20


def filled(ps: PSContext, dim: int, stored: NDArray[np.int64]) -> SparseTable:
    """A table of all stored keys."""
    rows = ps.sparse_table(f"rows{dim}", dim=dim, optimizer=SGD(0.1))
    for part in np.array_split(stored, 20):
        rows.push(part, np.ones((len(part), dim), np.float32))
    return rows


def measure(rows: SparseTable, stored: NDArray[np.int64]) -> Rates:
    """Mkeys/s of each of `COLUMNS`, by number of keys."""
    random = np.random.default_rng(2)
    return {n: rates(rows, np.sort(random.choice(stored, n, replace=False)), rows.spec.dim) for n in SIZES}


@contextlib.contextmanager
def busy_cores(count: int) -> Iterator[None]:
    """So many busy processes beside."""
    processes = [subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def rates(rows: SparseTable, keys: NDArray[np.int64], dim: int) -> list[float]:
    """Mkeys/s of each of `COLUMNS` for these keys."""
    n = len(keys)
    values = np.full((n, dim), 0.5, np.float32)
    registered = rows.register(keys)
    calls: list[Callable[[], object]] = [
        lambda: rows.push(keys, values),
        lambda: rows.pull(keys),
        lambda: registered.push(values),
        registered.pull,
    ]
    found = [n / median_seconds(call, repeats(n)) / 1e6 for call in calls]
    registered.drop()
    return found


def build_pslite(git_dir: str, build: pathlib.Path) -> pathlib.Path:
    """The benchmark program, built in `build` against the ps-lite of `git_dir` unless it is there."""
    program = build / "bench"
    if program.exists() and program.stat().st_mtime > (HERE / "pslite" / "bench.cc").stat().st_mtime:
        return program
    build.mkdir(parents=True, exist_ok=True)
    archive = subprocess.run(["git", "-C", git_dir, "archive", "HEAD"], check=True, stdout=subprocess.PIPE).stdout
    subprocess.run(["tar", "x"], cwd=build, input=archive, check=True)
    subprocess.run(["protoc", "--proto_path=src", "--cpp_out=src", "src/meta.proto"], cwd=build, check=True)
    sources = ["src/customer.cc", "src/postoffice.cc", "src/van.cc", "src/meta.pb.cc"]
    flags = ["-O3", "-march=native", "-std=c++17", "-w", "-Iinclude", "-Isrc"]
    libraries = ["-lzmq", "-lprotobuf", "-lpthread"]
    main = str(HERE / "pslite" / "bench.cc")
    subprocess.run(["g++", *flags, main, *sources, *libraries, "-o", "bench"], cwd=build, check=True)
    return program


def run_pslite(program: pathlib.Path) -> Rates:
    """Mkeys/s of push and pull, by number of keys."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "DMLC_NUM_SERVER": "1",
        "DMLC_NUM_WORKER": "1",
        "DMLC_PS_ROOT_URI": "127.0.0.1",
        "DMLC_PS_ROOT_PORT": str(port),
        "DMLC_NODE_HOST": "127.0.0.1",
    }
    roles = {
        role: subprocess.Popen([program], env={**environment, "DMLC_ROLE": role}, stdout=subprocess.PIPE, text=True)
        for role in ("scheduler", "server", "worker")
    }
    try:
        lines, _ = roles["worker"].communicate(timeout=900)
        for process in roles.values():
            process.wait(30)
    finally:
        for process in roles.values():
            process.kill()
    found = {}
    for line in lines.splitlines():
        n, push, pull = line.split()
        found[int(n)] = [int(n) / float(push) / 1e6, int(n) / float(pull) / 1e6]
    return found


def ratios(rounds: Sequence[tuple[Rates, Rates]], promised: dict[int, tuple[float, float]]) -> str:
    """How many times as fast as ps-lite, push / pull: the least and the median of all rounds, beside what is promised of the least."""
    lines = []
    for n in SIZES:
        line: list[object] = [f"{n:,}"]
        line += [statistics.median(theirs[n][i] for _, theirs in rounds) for i in range(2)]
        line += [statistics.median(ours[n][i] for ours, _ in rounds) for i in range(4)]
        for column, first in enumerate((0, 2)):
            found = [sorted(ours[n][first + i] / theirs[n][i] for ours, theirs in rounds) for i in (0, 1)]
            line += [f"{each[0]:.2f}x" + (f" ({statistics.median(each):.2f}x)" if len(each) > 1 else "") for each in found]
            line.append(f">= {promised[n][column]:g}" if n in promised else "")
        lines.append(line)
    wire, registered = (["push", "pull", "promised"], ["registered push", "registered pull", "promised"])
    return table(["keys", "ps-lite push", "ps-lite pull", *COLUMNS, *wire, *registered], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--pslite", metavar="GIT_DIR", help="git directory or checkout of dmlc/ps-lite")
    parser.add_argument("--build-dir", type=pathlib.Path, default=HERE.parent / ".cache" / "pslite")
    parser.add_argument("--dims", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--rounds", type=int, default=5, help="beside ps-lite; the least ratio counts")
    parser.add_argument("--busy", type=int, default=0, help="processes that keep cores busy beside")
    parser.add_argument("--stored", type=count, default=STORED)
    args = parser.parse_args()
    print(machine(), flush=True)
    program = build_pslite(args.pslite, args.build_dir) if args.pslite else None
    stored = np.sort(np.random.default_rng(1).integers(0, 1 << 62, args.stored))
    with session("local[1]") as spark, PSContext(spark, num_nodes=1) as ps:
        spark.sparkContext.parallelize([0], 1).count()  # queues behind the start of Python workers, which would be timed, too
        for dim in args.dims:
            rows = filled(ps, dim, stored)
            print(f"\n{args.stored:,} keys stored, dim {dim}, float32, {args.busy} busy processes beside, medians in Mkeys/s", flush=True)
            with busy_cores(args.busy):
                if program is None or dim > 1:
                    ours = measure(rows, stored)
                    print(table(["keys", *COLUMNS], [[f"{n:,}", *ours[n]] for n in SIZES]), flush=True)
                else:
                    rounds = [(measure(rows, stored), run_pslite(program)) for _ in range(args.rounds)]
                    print(ratios(rounds, TARGETS_BUSY if args.busy else TARGETS), flush=True)
            rows.drop()


if __name__ == "__main__":
    main()
