"""A tier ends, and another one begins at the same ports with the same secret: handles of the first one reach nothing of the second."""

from __future__ import annotations

import pathlib
import time

import pytest

from sparkps.config import NetworkSettings
from sparkps.errors import TierError
from sparkps.secret_files import read_secret_file
from sparkps.testing.tcp_tier import free_port
from sparkps.wire.messages.control import EndGroup
from tests.harness.shared_tiers import shared_tier, sparse


def test_a_handle_of_the_tier_before_changes_no_table(tmp_path: pathlib.Path) -> None:
    """Its table has the id there that another owner's has now."""
    coordinator, node = free_port(), free_port()
    network = NetworkSettings(coordinator_port=coordinator, node_ports=f"{node}-{min(node + 20, 65535)}")
    with shared_tier(tmp_path, network=network, num_nodes=1) as tier:
        ann = tier.connect("ann")
        mine = sparse(ann, "w")
        mine.add([1], [[1.0]])
        url, secret_file = tier.url, tier.secret_file
    with shared_tier(tmp_path, read_secret_file(secret_file), network=network, num_nodes=1) as tier:
        assert tier.url == url
        with tier.connect("bob") as bob:
            others = sparse(bob, "w")
            others.add([1], [[100.0]])
            assert others.spec.table == mine.spec.table
            began = time.monotonic()
            for call in (lambda: mine.pull([1]), lambda: mine.add([1], [[5.0]]), lambda: ann.request(EndGroup(0, 1))):
                with pytest.raises(TierError, match="has ended"):
                    call()
            assert time.monotonic() - began < 15.0, "and it did not wait for its deadline"
            assert others.pull([1]).tolist() == [[100.0]]
        ann.close()
