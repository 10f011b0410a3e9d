"""The coordinator's time, and how long it was away. Pure: it is told the time, and never asks for it."""

from __future__ import annotations

#: A coordinator that runs takes messages or looks at its timers at least so often (seconds): longer gaps are its own absence.
LONGEST_STEP = 0.25


class Clock:
    """Time as the coordinator has seen it pass (seconds, monotonic).

    Time in which the coordinator did not run, as in a long pause of its host, counts for nobody: others could not be heard then,
    however often they spoke. Nodes would be declared dead, and ranks given away, for what lies unread in the socket.

    Examples
    --------
    >>> clock = Clock()
    >>> clock.come_to(5.0), clock.come_to(5.25), clock.come_to(15.5)
    (0.0, 0.0, 10.0)
    """

    def __init__(self) -> None:
        #: The time of the event that is being handled; never goes back.
        self.now = 0.0
        #: Whether there was an event: before the first one nobody was waited for.
        self._has_begun = False

    def come_to(self, now: float) -> float:
        """It is `now`; the seconds of absence that came to an end with it, >= 0."""
        absent = now - self.now - LONGEST_STEP if self._has_begun else 0.0
        self.now, self._has_begun = now, True
        return max(absent, 0.0)

    def set(self, now: float) -> None:
        """It is `now`, and nobody was waited for before: as in a process that goes on from another one's journal."""
        self.now, self._has_begun = now, True


__all__ = ["LONGEST_STEP", "Clock"]
