"""A launcher that starts nothing: all that one has to be."""

from __future__ import annotations

from typing import Any

from sparkps.config import Settings
from sparkps.driver_bridge.profiles import Held
from sparkps.errors import SparkPSError
from sparkps.wire.messages.control import TierAddress


class ToyTier:
    """A tier without processes."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.address = TierAddress("toy", "ipc:///nowhere/at/all")
        self.is_stopped = False
        self.held_by_nodes = Held()
        self.application = ""

    def ended(self) -> SparkPSError | None:
        return None

    def lost(self) -> SparkPSError | None:
        return None

    def scale(self, num_nodes: int, seconds: float) -> None:
        return None

    def stop(self) -> None:
        self.is_stopped = True


#: The tiers that were started.
started: list[ToyTier] = []


def launch(settings: Settings, spark: Any) -> ToyTier:
    started.append(ToyTier(settings))
    return started[-1]
