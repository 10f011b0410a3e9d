"""Throughput of a tier at whose ports a stranger opens and drops connections: 10,000 over 60 s, against the same tier left alone.

    python -m benchmarks.dropped_connections [--connections 10000] [--seconds 60]

One process trains, pushing and pulling 10,000 keys in turns at two nodes over TCP with keys. Spans of 5 s alone and beside the stranger
take turns; the stranger is a process of its own, and costs the machine what it costs anywhere: that counts, too.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

import numpy as np

from benchmarks.common import count, machine
from sparkps.client.control import ControlClient
from sparkps.client.session import disconnect
from sparkps.client.tables import SparseTable
from sparkps.config import Settings
from sparkps.secret import forget
from sparkps.specs import TableSpec
from sparkps.testing.tcp_tier import TcpTier
from sparkps.wire.messages.control import CreateTable

SPAN = 5.0

#: Opens so many connections a second at the ports it is given, one after the other, says something on every second one, and drops it.
STRANGER = """
import os, socket, sys, time
rate, seconds, *ports = map(float, sys.argv[1:])
began, number = time.monotonic(), 0
while time.monotonic() - began < seconds:
    with socket.create_connection(("127.0.0.1", int(ports[number % len(ports)])), 5) as one:
        if number % 2:
            one.sendall(os.urandom(64))
    number += 1
    time.sleep(max(0.0, began + number / rate - time.monotonic()))
print(number)
"""


def steps(w: SparseTable, seconds: float) -> float:
    """Steps a second, of pulling and pushing 10,000 keys."""
    rng, made, began = np.random.default_rng(0), 0, time.perf_counter()
    gradient = np.full((10_000, 1), 0.01, np.float32)
    while time.perf_counter() - began < seconds:
        keys = rng.integers(0, 1_000_000, 10_000)
        w.pull(keys)
        w.push(keys, gradient)
        made += 1
    return made / (time.perf_counter() - began)


def main() -> None:
    """Print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=count, default=10_000)
    parser.add_argument("--seconds", type=float, default=60.0, help="in which they come")
    arguments = parser.parse_args()
    tier = TcpTier(Settings(num_nodes=2)).start()
    try:
        spec = ControlClient.of(tier.address).request(CreateTable(0, TableSpec("w", "sparse", 1, "float32"))).spec
        w = SparseTable(tier.address, spec)
        w.add(np.arange(1_000_000), np.ones((1_000_000, 1), np.float32))
        ports = [endpoint.rpartition(":")[2] for endpoint in (tier.address.coordinator, *tier._nodes)]
        rate = arguments.connections / arguments.seconds
        steps(w, SPAN)
        ratios, opened = [], 0
        for _ in range(round(arguments.seconds / SPAN)):
            alone = steps(w, SPAN)
            command = [sys.executable, "-c", STRANGER, str(rate), str(SPAN), *ports]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as stranger:
                beside = steps(w, SPAN)
                opened += int(stranger.communicate()[0])
            ratios.append(beside / alone)
        print(machine())
        found = f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        print(f"{opened:,} connections opened and dropped: throughput {found} of that alone")
    finally:
        disconnect(tier.address)
        ControlClient.of(tier.address).close()
        tier.stop()
        forget(tier.address.tier_id)


if __name__ == "__main__":
    main()
