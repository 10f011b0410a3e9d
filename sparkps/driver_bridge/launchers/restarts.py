"""How often a process that has ended is started again. Pure: time is an argument (seconds, monotonic)."""

from __future__ import annotations

from collections import deque


class Restarts:
    """So many restarts in so many seconds, and no more: what ends again and again has a reason that a restart does not remove.

    Parameters
    ----------
    most : int
        0: nothing is restarted.
    within : float
        Seconds.

    Examples
    --------
    >>> restarts = Restarts(2, 60.0)
    >>> [restarts.take(now) for now in (0.0, 1.0, 2.0, 61.0)]
    [True, True, False, True]
    """

    def __init__(self, most: int = 3, within: float = 60.0) -> None:
        self.most = most
        self.within = within
        #: How many there were in all.
        self.number = 0
        #: When the latest ones were, the earliest first; at most `most`.
        self._at: deque[float] = deque()

    def take(self, now: float) -> bool:
        """Whether there may be a restart now; it counts then."""
        while self._at and now - self._at[0] >= self.within:
            self._at.popleft()
        if len(self._at) >= self.most:
            return False
        self._at.append(now)
        self.number += 1
        return True


__all__ = ["Restarts"]
