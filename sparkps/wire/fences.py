"""Who may speak for a rank: one incarnation at a time, the newest, and only after it has settled."""

from __future__ import annotations

from typing import Any

from sparkps.errors import Fenced, ProtocolError
from sparkps.specs import INFINITE_CLOCK, GroupSpec
from sparkps.wire.marks import MAX_CLOCK, ORDINAL_BITS
from sparkps.wire.messages.data import Member


def about(member: Member) -> dict[str, Any]:
    """What an error says of a member."""
    return {"group": member.group, "rank": member.rank, "incarnation": member.incarnation, "clock": member.clock}


class Fences:
    """The incarnation of each rank of a group that one node listens to.

    Parameters
    ----------
    spec : GroupSpec
        The group as it was admitted.
    """

    def __init__(self, spec: GroupSpec) -> None:
        self._spec = spec
        #: By rank: the incarnation that may speak; 0: none yet. Never falls.
        self.incarnation = [0] * spec.num_ranks
        #: By rank: whether that incarnation has settled.
        self.settled = [False] * spec.num_ranks

    def rank(self, member: Member) -> int:
        """The member's rank, if its fields are possible ones."""
        if (
            member.group != self._spec.group
            or not 0 <= member.rank < self._spec.num_ranks
            or not -1 <= member.clock < MAX_CLOCK
            or not 0 <= member.ordinal < 1 << ORDINAL_BITS
            or member.incarnation > INFINITE_CLOCK
        ):
            raise ProtocolError(
                f"A member must be of group {self._spec.group}, its rank in [0, {self._spec.num_ranks}), its clock in [-1, {MAX_CLOCK}) and"
                f" its ordinal in [0, {1 << ORDINAL_BITS}). Got {member} instead.",
                **about(member),
            )
        return member.rank

    def holder(self, member: Member) -> int:
        """The member's rank, if its incarnation has the rank."""
        rank = self.rank(member)
        if member.incarnation != self.incarnation[rank] or member.incarnation == 0:
            raise self._fenced(member)
        return rank

    def speaker(self, member: Member) -> int:
        """The member's rank, if its incarnation has the rank and has settled."""
        rank = self.holder(member)
        if not self.settled[rank] or member.clock < 0:
            raise ProtocolError(
                f"Rank {rank} must take over, settle, and go on at a clock >= 0. Got a request at clock {member.clock},"
                f" {'after' if self.settled[rank] else 'before'} the settle.",
                **about(member),
            )
        return rank

    def take(self, member: Member) -> bool:
        """The member's incarnation gets the rank; False if it has it already."""
        rank = self.rank(member)
        if member.incarnation < max(1, self.incarnation[rank]):
            raise self._fenced(member)
        if member.incarnation == self.incarnation[rank]:
            return False
        self.incarnation[rank] = member.incarnation
        self.settled[rank] = False
        return True

    def adopt(self, rank: int, incarnation: int, settled: bool) -> None:
        """A shard comes from a node that has this fence of a rank: the higher one counts, of equal ones the one that has not settled."""
        here = self.incarnation[rank]
        if incarnation == here:
            self.settled[rank] = self.settled[rank] and settled
        elif incarnation > here:
            self.incarnation[rank], self.settled[rank] = incarnation, settled

    def _fenced(self, member: Member) -> Fenced:
        return Fenced(
            f"Rank {member.rank} of worker group {self._spec.name!r} must speak as incarnation {self.incarnation[member.rank]}, which has"
            f" the rank at this node. Got incarnation {member.incarnation} instead: the task has another attempt.",
            **about(member),
        )
