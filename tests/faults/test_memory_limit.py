"""A node that has no memory left refuses what needs some, and goes on."""

from __future__ import annotations

import resource

import numpy as np
import psutil
import pytest

from sparkps.client.control import ControlClient
from sparkps.client.session import disconnect
from sparkps.client.tables import SparseTable
from sparkps.config import ClientSettings, Settings
from sparkps.driver_bridge.launchers import local
from sparkps.errors import SparkPSError
from sparkps.specs import TableSpec
from sparkps.wire.messages.control import CreateTable


def test_pushes_fail_cleanly_at_an_address_space_limit_and_pulls_go_on() -> None:
    tier = local.launch(Settings(num_nodes=1, client=ClientSettings(request_timeout=6.0)))
    try:
        control = ControlClient.of(tier.address)
        spec = control.request(CreateTable(0, TableSpec("limited", "sparse", 16, "float64"))).spec
        w = SparseTable(tier.address, spec)
        rng = np.random.default_rng(1)
        first = rng.integers(0, 1 << 60, 1_000)
        w.add(first, np.ones((1_000, 16)))
        (node,) = tier._nodes.values()
        now = psutil.Process(node.pid).memory_info().vms
        resource.prlimit(node.pid, resource.RLIMIT_AS, (now + (96 << 20), -1))
        kept = [first]
        # A node says that it has no memory; where there is none even for the request, libzmq drops the connection.
        with pytest.raises(SparkPSError, match=r"[Mm]emory|allocate|gave no answer"):
            for _ in range(200):
                keys = rng.integers(0, 1 << 60, 20_000)
                w.add(keys, np.ones((len(keys), 16)))
                kept.append(keys)
        # An answer needs memory as well, and the limit may have left none even for a small one: pulls have theirs, pushes had not.
        now = psutil.Process(node.pid).memory_info().vms
        resource.prlimit(node.pid, resource.RLIMIT_AS, (now + (32 << 20), -1))
        for keys in (kept[0], kept[-1][:1000]):
            assert (w.pull(keys) >= 1.0).all(), "what was acknowledged is there"
        assert w.call("nnz") >= 16 * len(np.unique(np.concatenate(kept)))
        assert node.status is None, "the node lives"
    finally:
        disconnect(tier.address)
        tier.stop()
