"""More connections than there are file descriptors for: no process of the tier dies of them, and what works goes on."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from sparkps.client.control import ControlClient
from sparkps.client.session import disconnect
from sparkps.client.tables import SparseTable
from sparkps.config import Settings
from sparkps.driver_bridge.launchers.local import LocalTier
from sparkps.specs import TableSpec
from sparkps.wire.messages.control import CreateTable, TierStatus
from tests.harness.processes import running
from tests.harness.waiting import wait_until

#: File descriptors of each process, and connections that somebody tries to make to each.
LIMIT, MANY = 256, 300

#: Runs a module as ``python -m`` does, with few descriptors.
WITH_FEW = f"""
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({LIMIT}, {LIMIT}))
module = sys.argv.pop(1)
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


class _FewDescriptors(LocalTier):
    def _child(self, name: str, command: list[str]) -> Any:
        python, _, *module_and_arguments = command
        return super()._child(name, [python, "-c", WITH_FEW, *module_and_arguments])


@pytest.fixture
def tier() -> Iterator[LocalTier]:
    started = _FewDescriptors(Settings(num_nodes=1)).start()
    yield started
    disconnect(started.address)
    started.stop()


def taken(endpoint: str, meanwhile: Callable[[], None]) -> list[socket.socket]:
    """Connections out of `MANY` that were taken, and say nothing."""
    made = []
    for number in range(MANY):
        connection = socket.socket(socket.AF_UNIX)
        connection.setblocking(False)
        try:
            connection.connect(endpoint.removeprefix("ipc://"))
        except BlockingIOError:  # a full queue
            connection.close()
            continue
        made.append(connection)
        select.select([connection], [], [], 1.0)  # for the greeting
        if number % 5 == 0:
            meanwhile()
    return made


@pytest.mark.parametrize("which", ["coordinator", "node"])
def test_process_without_descriptors_for_all_keeps_its_connections_and_takes_new_ones_later(
    tier: LocalTier, which: str
) -> None:
    w = SparseTable(tier.address, tier.control.request(CreateTable(0, TableSpec("w", "sparse", 1))).spec)
    keys = np.arange(100)
    w.add(keys, np.ones((100, 1)))
    status = tier.control.request(TierStatus(0)).report
    node = status["nodes"][0]
    endpoint = tier.address.coordinator if which == "coordinator" else node["endpoint"]
    assert tier._coordinator is not None
    pids = [tier._coordinator.pid, node["pid"]]

    def goes_on() -> None:
        assert w.pull(keys).sum() == 100
        assert tier.control.request(TierStatus(0, fresh=False)).report["state"] == "ready"

    connections = taken(endpoint, goes_on)
    assert LIMIT // 4 < len(connections) < LIMIT
    assert running(pids) == pids
    goes_on()
    for connection in connections:
        connection.close()
    if which == "coordinator":
        late = ControlClient(endpoint)
        assert late.request(TierStatus(0), timeout=20).report["state"] == "ready"
        late.close()
    else:
        assert wait_until(lambda: bool(taken_one(endpoint)), 120.0)
    assert running(pids) == pids


def taken_one(endpoint: str) -> bool:
    """Whether a connection is taken now."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.setblocking(False)
        try:
            connection.connect(endpoint.removeprefix("ipc://"))
        except BlockingIOError:
            return False
        return bool(select.select([connection], [], [], 1.0)[0])
