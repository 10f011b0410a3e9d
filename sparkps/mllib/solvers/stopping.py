"""When a training ends because rows that it does not train on say so."""

from __future__ import annotations

import math


class EarlyStopping:
    """Follows the loss of the rows for validation over the iterations.

    Parameters
    ----------
    rounds : int
        Ends after so many iterations without a better loss; 0: never.
    tol : float
        A loss is better that is less than the best by more than so much of it.

    Examples
    --------
    >>> stopping = EarlyStopping(rounds=2, tol=0.0)
    >>> [stopping.tell(loss) for loss in (0.7, 0.5, 0.6)]
    [(True, None), (True, None), (False, None)]
    >>> stopping.tell(0.55)
    (False, 'the validation loss has not become less in 2 iterations; the best is that after iteration 1')
    """

    def __init__(self, rounds: int, tol: float) -> None:
        self._rounds, self._tol = rounds, tol
        #: At the start and after each iteration.
        self.losses: list[float] = []
        #: Iteration with the least loss, 0 for the start; None: nothing was told yet.
        self.best: int | None = None

    def tell(self, loss: float) -> tuple[bool, str | None]:
        """The loss after one more iteration.

        Returns
        -------
        is_best : bool
            Whether it is the least so far.
        reason : str or None
            Why training should end.
        """
        self.losses.append(loss)
        now = len(self.losses) - 1
        if self.best is None or self._is_better(loss, self.losses[self.best]):
            self.best = now
            return True, None
        if not self._rounds or now - self.best < self._rounds:
            return False, None
        said = f"the validation loss has not become less in {now - self.best} iterations; the best is that after iteration {self.best}"
        return False, said

    def _is_better(self, loss: float, least: float) -> bool:
        if not math.isfinite(least):
            return loss < math.inf
        return loss < least - self._tol * abs(least)


__all__ = ["EarlyStopping"]
