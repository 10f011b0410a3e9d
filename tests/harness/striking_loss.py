"""A logistic loss that takes its time, and does something to a fit once: in the middle, when there is a checkpoint."""

from __future__ import annotations

import pathlib
import threading
from collections.abc import Callable, Iterable
from typing import Any

from sparkps.mllib.data.store import Chunk
from sparkps.mllib.linear.losses.logistic import Logistic
from tests.harness.stateful_training import has_checkpoint


class StrikingLogistic(Logistic):
    """As `Logistic`; whichever rank finds a checkpoint first strikes. Picklable.

    Parameters
    ----------
    strike : callable, optional
    mark : str
        A file that is made when it strikes.
    kept : str
        Directory of checkpoints.
    seconds : float
        That each evaluation takes at least.
    """

    def __init__(self, strike: Callable[[], None] | None = None, mark: str = "", kept: str = "", seconds: float = 0.0) -> None:
        self.strike, self.mark, self.kept, self.seconds = strike, mark, kept, seconds

    def loss_and_gradient(self, chunks: Iterable[Chunk], state: Any, bias: Any) -> tuple[float, Any]:
        """See `Objective`."""
        self.evaluated()
        return super().loss_and_gradient(chunks, state, bias)

    @property
    def online(self) -> Any:  # type: ignore[override]
        """The kernel that learns row by row, which takes its time, too."""
        return _Learning(self)

    def evaluated(self) -> None:
        """Rows are about to be looked at."""
        threading.Event().wait(self.seconds)
        is_due = self.strike is not None and not pathlib.Path(self.mark).exists()
        if is_due and has_checkpoint(self.kept, least=1):
            self._strike_once()

    def _strike_once(self) -> None:
        try:
            pathlib.Path(self.mark).touch(exist_ok=False)
        except FileExistsError:
            return
        assert self.strike is not None
        self.strike()


class _Learning:
    """As `Logistic.online`."""

    def __init__(self, loss: StrikingLogistic) -> None:
        self.loss = loss

    def of(self, dtype: Any) -> Callable[..., None]:
        """See `Kernel`."""
        self.loss.evaluated()
        assert Logistic.online is not None
        compiled: Callable[..., None] = Logistic.online.of(dtype)
        return compiled


__all__ = ["StrikingLogistic"]
