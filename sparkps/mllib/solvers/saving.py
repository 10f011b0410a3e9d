"""What a solver's driver asks of whoever keeps checkpoints of its training, and a training without any."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from sparkps.driver_bridge.groups.checkpoints import Pace


class Saver(Protocol):
    """Checkpoints of a training that runs."""

    @property
    def standing(self) -> bytes | None:
        """Where the solver goes on, as it was given to `save`; None: it begins at the beginning, or keeps nothing."""

    def is_due(self, iteration: int) -> bool:
        """Whether a solver that works at the driver is to save after `iteration`."""

    def save(self, iteration: int, standing: bytes) -> None:
        """Take a checkpoint while the ranks wait for the solver."""

    def meanwhile(self, pace: Callable[[int, int], Pace | None]) -> AbstractContextManager[object]:
        """In its block, checkpoints are taken while the ranks train.

        Parameters
        ----------
        pace : callable
            Of the last clock that all ranks have ticked, and the iterations between two checkpoints; None: not known yet.
        """


class Unsaved:
    """A training without checkpoints."""

    standing: bytes | None = None

    def is_due(self, iteration: int) -> bool:
        """Never."""
        return False

    def save(self, iteration: int, standing: bytes) -> None:
        """Nothing is kept."""

    def meanwhile(self, pace: Callable[[int, int], Pace | None]) -> AbstractContextManager[object]:
        """Nothing is taken."""
        return nullcontext()


__all__ = ["Saver", "Unsaved"]
