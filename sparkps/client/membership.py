"""A session's place in a worker group's logical time."""

from __future__ import annotations

from dataclasses import dataclass

from sparkps.wire.messages import Member


@dataclass(slots=True)
class Membership:
    """The rank that a session speaks for. Owner: the session's thread."""

    group: int
    rank: int
    #: Numbered by the coordinator; nodes fence lower ones.
    incarnation: int
    #: The rank's logical time.
    clock: int
    #: Number of the next write within the clock.
    ordinal: int = 0

    def wire(self, *, write: bool) -> Member:
        """As a request carries it; a write takes the next ordinal."""
        ordinal = self.ordinal
        if write:
            self.ordinal += 1
        return Member(self.group, self.rank, self.incarnation, self.clock, ordinal if write else 0)

    def advance(self) -> None:
        """The clock has been ticked."""
        self.clock += 1
        self.ordinal = 0
