"""Placements for tests in which it does not matter where nodes run."""

from __future__ import annotations

from collections.abc import Iterable

from sparkps.driver_bridge.coordinator import plan
from sparkps.wire.placement import Placement


def initial(nodes: Iterable[int]) -> Placement:
    """One copy of each bucket, evenly on `nodes`."""
    return plan.initial(dict.fromkeys(nodes, "host"))


def join(placement: Placement, nodes: Iterable[int]) -> Placement:
    """The placement when `nodes` have joined, and have what they shall."""
    return plan.wanted(placement, dict.fromkeys([*(row[0] for row in placement), *nodes], "host"), 1)
