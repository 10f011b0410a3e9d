"""When a checkpoint is due: every so many clocks or seconds, and never two at once. Pure: time is an argument."""

from __future__ import annotations

from sparkps.errors import ConfigError

#: Seconds in which none is begun after one that has failed: first, and at most, if `every_seconds` is not longer.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0


class CheckpointSchedule:
    """Decides when the next checkpoint begins.

    What becomes due while one is being taken is due once when that one has ended. Clocks are counted from the one of the last
    checkpoint, so that the cut of a late one does not move those after it closer together.

    Parameters
    ----------
    every_clocks : int
        0 for never by clocks.
    every_seconds : float
        0 for never by time.
    now : float
        Seconds, by any clock that does not go back.
    clock : int
        Last clock that is closed; of a job that continues, the checkpoint's.

    Examples
    --------
    >>> schedule = CheckpointSchedule(every_clocks=10, every_seconds=0, now=0.0)
    >>> schedule.due(8, 1.0), schedule.due(9, 2.0)
    (False, True)
    >>> schedule.begin(9, 2.0)
    >>> schedule.due(30, 3.0)
    False
    >>> schedule.end(3.5)
    >>> schedule.due(30, 4.0)
    True
    """

    def __init__(self, every_clocks: int, every_seconds: float, now: float, clock: int = -1) -> None:
        if not isinstance(every_clocks, int) or every_clocks < 0:
            raise ConfigError(f"`checkpoint_every` must be a number of clocks, at least 0. Got {every_clocks!r} instead.")
        if not 0 <= every_seconds < float("inf"):
            raise ConfigError(f"`checkpoint_seconds` must be a float in [0, inf). Got {every_seconds!r} instead.")
        self.every_clocks = every_clocks
        self.every_seconds = every_seconds
        #: Clock of the last checkpoint that was begun and has not failed.
        self.clock = clock
        #: When that was.
        self.time = now
        #: (clock, time) before the one that is being taken; None if none is.
        self._before: tuple[int, float] | None = None
        #: How many have failed since the last one that has not.
        self._failures = 0
        #: None is begun before: the last one has failed.
        self._rests_until = now

    @property
    def busy(self) -> bool:
        """Whether one is being taken."""
        return self._before is not None

    def due(self, clock: int, now: float) -> bool:
        """Whether to begin one, `clock` being the last that is closed."""
        if self.busy or clock < self.clock or self.rests(now):
            return False
        if self._failures:  # the one that has failed is still to be taken
            return True
        by_clock = self.every_clocks > 0 and clock - self.clock >= self.every_clocks
        # Nothing has happened since the last one: by time alone there would be many of the same.
        by_time = self.every_seconds > 0 and now - self.time >= self.every_seconds and clock > self.clock
        return by_clock or by_time

    def rests(self, now: float) -> bool:
        """Whether it is too early to try again, after one that has failed."""
        return now < self._rests_until

    def begin(self, clock: int, now: float) -> None:
        """One is being taken, due or asked for, at the cut of `clock`."""
        assert not self.busy, "one checkpoint at a time"
        self._before = self.clock, self.time
        self.clock, self.time = clock, now

    def end(self, now: float, failed: bool = False) -> None:
        """It is there; or it has failed, and is due again after a pause that doubles with each failure."""
        assert self._before is not None, "one was begun"
        if failed:
            self.clock, self.time = self._before
            longest = max(LONGEST_PAUSE, self.every_seconds)
            self._rests_until = now + min(longest, FIRST_PAUSE * 2.0 ** min(self._failures, 30))
            self._failures += 1
        else:
            self._failures = 0
        self._before = None


__all__ = ["CheckpointSchedule"]
