"""Tables that come and go under load, on a tier of real processes: nothing dies, and every sum is exact.

    python -m tests.harness.churn --seconds 60

Processes create, fill and drop tables, some of which share an index with tables that stay; beside them a worker group trains, a
driver pushes and a reader reads.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from sparkps.client.control import ControlClient
from sparkps.client.session import Session, disconnect
from sparkps.client.tables import SparseTable
from sparkps.config import Settings
from sparkps.driver_bridge.launchers import local
from sparkps.errors import UnknownTable
from sparkps.specs import TableSpec
from sparkps.wire.messages.control import AdmitGroup, CreateTable, EndGroup, TierAddress

#: What a process does that creates, fills and drops: arguments are tier id, coordinator, number, seconds.
_CHURN = """
import sys
from sparkps.wire.messages.control import TierAddress
from tests.harness.churn import churn
churn(TierAddress(sys.argv[1], sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
"""

#: Tables that stay; the churning ones share their index.
STAYING = "staying"


def created(address: TierAddress, name: str, group: str = "") -> SparseTable:
    """A table of the tier, made if it is new."""
    asked = TableSpec(name, "sparse", 1, "float64", group=group)
    return SparseTable(address, ControlClient.of(address).request(CreateTable(0, asked)).spec)


def churn(address: TierAddress, number: int, seconds: float) -> None:
    """Create, fill, read and drop tables; another thread of the process writes to them while they are dropped."""
    rng, until = np.random.default_rng(number), time.monotonic() + seconds
    current: list[SparseTable] = []
    ended = threading.Event()

    def write_to_the_last() -> None:
        writes = np.random.default_rng(1000 + number)
        while not ended.is_set():
            for table in current:
                keys = writes.integers(0, 1 << 40, 60_000)  # large enough for the nodes' pools
                try:
                    table.add(keys, np.ones((len(keys), 1)))
                    table.pull(keys)
                except UnknownTable:
                    continue
        disconnect(address)

    writer = threading.Thread(target=write_to_the_last)
    writer.start()
    try:
        for round_ in range(1_000_000):
            table = created(address, f"churn{number}_{round_}", STAYING if round_ % 2 else "")
            keys = np.unique(rng.integers(0, 1 << 40, 20_000))
            table.add(keys, np.ones((len(keys), 1)))
            current.append(table)
            assert (table.pull(keys) >= 1.0).all(), "what was added is there"
            table.drop()
            current.clear()
            if time.monotonic() > until:
                break
    finally:
        ended.set()
        writer.join()
        disconnect(address)


class Churn:
    """One run; see the module."""

    def __init__(self, seconds: float, processes: int = 4) -> None:
        self.until = time.monotonic() + seconds
        self.seconds = seconds
        self.processes = processes
        #: Additions that were acknowledged, by table; and what went wrong.
        self.added: dict[str, int] = {}
        self.failures: list[BaseException] = []

    def run(self) -> dict[str, Any]:
        """Run it; raises what went wrong."""
        tier = local.launch(Settings(num_nodes=2))
        self.address = tier.address
        try:
            names = [f"{STAYING}_driver", f"{STAYING}_group"]
            tables = {name: created(self.address, name, STAYING) for name in names}
            self._all(tables)
            for name, table in tables.items():
                assert float(table.call("sum")) == self.added[name], (name, table.call("sum"), self.added[name])
            pids = [node["state"] for node in ControlClient.of(self.address).request(_status()).report["nodes"]]
            assert pids == ["up", "up"], pids
            return dict(self.added)
        finally:
            disconnect(self.address)
            tier.stop()

    def _all(self, tables: dict[str, SparseTable]) -> None:
        command = [sys.executable, "-c", _CHURN, self.address.tier_id, self.address.coordinator]
        children = [subprocess.Popen([*command, str(n), str(self.seconds)]) for n in range(self.processes)]
        work: list[Callable[[], None]] = [
            lambda: self._push(tables[f"{STAYING}_driver"]),
            lambda: self._train(tables[f"{STAYING}_group"]),
            lambda: self._read(tables[f"{STAYING}_driver"]),
        ]
        threads = [threading.Thread(target=self._guarded, args=(each,)) for each in work]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for child in children:
            assert child.wait(60) == 0, "a process that creates and drops tables failed"
        if self.failures:
            raise self.failures[0]

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self.failures.append(error)
        finally:
            disconnect(self.address)

    def _push(self, table: SparseTable) -> None:
        rng, total = np.random.default_rng(7), 0
        while time.monotonic() < self.until:
            keys = rng.integers(0, 1 << 40, 5_000)
            table.add(keys, np.ones((len(keys), 1)))
            total += len(keys)
        self.added[table.name] = total

    def _read(self, table: SparseTable) -> None:
        rng = np.random.default_rng(8)
        while time.monotonic() < self.until:
            assert (table.pull(rng.integers(0, 1 << 40, 5_000)) >= 0.0).all()

    def _train(self, table: SparseTable) -> None:
        """Two ranks of one BSP group, in this thread and in another."""
        control = ControlClient.of(self.address)
        group = control.request(AdmitGroup(0, "churn", 2, 2, 0, 0, "churn")).spec.group
        totals = [0, 0]

        def rank(number: int) -> None:
            session = Session(self.address, control)
            rng, mine = np.random.default_rng(number), table.bind(session)
            session.takeover(group, number, 1)
            while time.monotonic() < self.until:
                keys = rng.integers(0, 1 << 40, 3_000)
                assert (mine.pull(keys) >= 0.0).all()
                mine.add(keys, np.ones((len(keys), 1)))
                session.tick()
                totals[number] += len(keys)
            session.finish()
            session.close()

        other = threading.Thread(target=self._guarded, args=(lambda: rank(1),))
        other.start()
        rank(0)
        other.join()
        control.request(EndGroup(0, group))
        self.added[table.name] = sum(totals)


def _status() -> Any:
    from sparkps.wire.messages.control import TierStatus

    return TierStatus(0)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Tables that come and go under load.")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--processes", type=int, default=4)
    arguments = parser.parse_args()
    added = Churn(arguments.seconds, arguments.processes).run()
    sys.stdout.write(f"nothing died; sums are exact: {added}\n")


if __name__ == "__main__":
    main()
