"""Meetings of the workers of a group: all come, each says something, and each hears what all said. Pure: time is an argument.

This is how workers find each other for what they do without the tier, as sums of dense gradients, and find each other again when one of
them was replaced. Meetings of a group have numbers from 1. Who has been to one asks for the next; who comes anew, in the place of another
or not, asks for any. A meeting takes place as soon as the present attempts of all workers that have not finished wait for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

#: Seconds after which somebody who has not asked again waits no more: asking is repeated several times a second.
FRESH = 3.0


@dataclass(frozen=True)
class Attendee:
    """Somebody who waits for the next meeting."""

    #: Of the attempt at the rank.
    incarnation: int
    said: bytes
    #: When it asked last.
    asked_at: float


@dataclass
class Meetings:
    """The meetings of one group.

    Examples
    --------
    >>> meetings = Meetings()
    >>> meetings.ask(0, 1, 0, b"a", 0.0, {0: 1, 1: 1}), meetings.called(0.1)
    (None, 1)
    >>> meetings.ask(1, 1, 0, b"b", 0.2, {0: 1, 1: 1}), meetings.ask(0, 1, 0, b"a", 0.3, {0: 1, 1: 1})
    ({0: b'a', 1: b'b'}, {0: b'a', 1: b'b'})
    """

    #: Of the last one that took place, or that anybody says to have been to.
    number: int = 0
    #: By rank, who waits for the next.
    waiting: dict[int, Attendee] = field(default_factory=dict)
    #: By rank, who was at the last one, by incarnation, and what was said.
    last: dict[int, tuple[int, bytes]] = field(default_factory=dict)

    def ask(self, rank: int, incarnation: int, after: int, said: bytes, now: float, live: Mapping[int, int]) -> dict[int, bytes] | None:
        """An attempt at a rank asks for a meeting.

        Parameters
        ----------
        rank, incarnation : int
        after : int
            Number of the last meeting that this attempt has been to; 0: none.
        said : bytes
        now : float
        live : mapping
            By rank, the incarnation of each worker that has not finished.

        Returns
        -------
        dict or None
            What all have said, by rank; None: it has to ask again.
        """
        if after > self.number:  # another coordinator has forgotten how many there were
            self.number, self.last = after, {}
        if after < self.number and self.last.get(rank, (0, b""))[0] == incarnation:
            return {each: told for each, (_, told) in self.last.items()}
        self.waiting[rank] = Attendee(incarnation, said, now)
        here = {each: one for each, one in self._fresh(now).items() if live.get(each) == one.incarnation}
        if here.keys() < live.keys():
            return None
        self.number, self.waiting = self.number + 1, {}
        self.last = {each: (one.incarnation, one.said) for each, one in here.items()}
        return {each: one.said for each, one in here.items()}

    def called(self, now: float) -> int:
        """Number of the meeting that somebody waits for; 0: nobody does."""
        return self.number + 1 if self._fresh(now) else 0

    def shift(self, seconds: float) -> None:
        """So much time counts for nobody."""
        self.waiting = {rank: Attendee(one.incarnation, one.said, one.asked_at + seconds) for rank, one in self.waiting.items()}

    def _fresh(self, now: float) -> dict[int, Attendee]:
        return {rank: one for rank, one in self.waiting.items() if now - one.asked_at <= FRESH}


__all__ = ["FRESH", "Attendee", "Meetings"]
