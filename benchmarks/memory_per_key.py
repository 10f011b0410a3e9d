"""Resident memory of a node per key: 10 M keys, dim 1, one optimizer slot, beyond what the empty node takes.

    python -m benchmarks.memory_per_key

Growth is included: the second number is the highest that the node's memory ever was. The promise is 48 bytes.
"""

from __future__ import annotations

import argparse

import numpy as np

from benchmarks.common import count, machine, resident_bytes, session, table
from sparkps import PSContext
from sparkps.optim import Adagrad

PROMISED = 48
BATCH = 200_000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--keys", type=count, default=10_000_000)
    parser.add_argument("--dim", type=int, default=1)
    args = parser.parse_args()
    print(machine())
    random = np.random.default_rng(1)
    lines = []
    with session("local[1]") as spark, PSContext(spark, num_nodes=1) as ps:
        pid = ps.status()["nodes"][0]["pid"]
        rows = ps.sparse_table("rows", dim=args.dim, optimizer=Adagrad(0.1))
        rows.push(np.arange(1000), np.ones((1000, args.dim), np.float32))  # the kernels are loaded
        empty, _ = resident_bytes(pid)
        pushed = 1000
        while pushed < args.keys:
            keys = random.integers(0, 1 << 62, min(BATCH, args.keys - pushed))
            rows.push(keys, np.ones((len(keys), args.dim), np.float32))
            pushed += len(keys)
            if pushed * 10 // args.keys > (pushed - len(keys)) * 10 // args.keys:
                now, highest = resident_bytes(pid)
                lines.append([f"{pushed:,}", (now - empty) / pushed, (highest - empty) / pushed, f"<= {PROMISED}"])
    print(f"empty node {empty / 2**20:.0f} MiB")
    print(table(["keys", "bytes/key", "at its highest", "promised"], lines))


if __name__ == "__main__":
    main()
