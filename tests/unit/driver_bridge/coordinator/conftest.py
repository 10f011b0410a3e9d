"""What conversations with the coordinator begin with."""

from __future__ import annotations

import pytest

from tests.unit.driver_bridge.coordinator.world import World, ready


@pytest.fixture
def world() -> World:
    """A tier of two nodes that is ready."""
    return ready()
