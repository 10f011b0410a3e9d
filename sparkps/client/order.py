"""Requests that a node refused for now, and when they may go again.

Pure: no socket and no clock inside. A shard takes a writer's writes in the order of their stamps, and drops what is not above
the last one: that is how it knows what it has already. So a refused write must reach its shard before every later write of
its session does. A node that refuses a write refuses the later ones, too, until one arrives which says that the session
knows of the refusal; the session sends no new write while refused ones wait, and sends these again in their order when no
write of it is in flight any more. What a node that is gone has not answered counts as refused, and nobody has to know of that
refusal. Pulls carry no stamp and may go again at once, unless the node itself is behind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sparkps.client.pieces import Piece
from sparkps.wire.messages import data as m
from sparkps.wire.messages.base import DataMessage

_NEVER = float("inf")

#: The refusal of a node that is gone.
GONE = m.WrongEpoch(0, 0, [])


@dataclass(slots=True)
class RefusedPiece:
    """One piece, and why and until when it waits (seconds, the shell's clock)."""

    piece: Piece
    refusal: DataMessage
    #: The node has an older placement than the session: the piece goes again as it is.
    as_it_is: bool
    not_before: float
    deadline: float


class Refusals:
    """What waits to be sent again. Owner: the session's lock."""

    def __init__(self) -> None:
        self._writes: list[RefusedPiece] = []
        self._pulls: list[RefusedPiece] = []
        #: node -> highest seq that was refused there: a write is taken only when it says that this was answered.
        self._seqs: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._writes) + len(self._pulls)

    @property
    def writes(self) -> int:
        """Writes that wait: no new one may be sent."""
        return len(self._writes)

    @property
    def pulls(self) -> int:
        """Pulls that wait."""
        return len(self._pulls)

    def add(self, refused: RefusedPiece, node: int = -1, seq: int = 0) -> None:
        """A node has refused a piece at `seq`; without these the piece never reached one that is still there."""
        if refused.piece.write:
            self._writes.append(refused)
            if seq:
                self._seqs[node] = max(seq, self._seqs.get(node, 0))
        else:
            self._pulls.append(refused)

    def gone(self, node: int) -> None:
        """A node is gone: nothing has to be heard of it first."""
        self._seqs.pop(node, None)

    def caught_up(self, node: int, epoch: int, now: float) -> None:
        """A node that was behind has heard of the placement of `epoch`: what was made by that need not wait longer."""
        for refused in (*self._writes, *self._pulls):
            if refused.as_it_is and refused.piece.node == node and refused.piece.epoch <= epoch:
                refused.not_before = min(refused.not_before, now)

    def ready(self, now: float, *, writing: bool, acked: Callable[[int], int]) -> list[RefusedPiece]:
        """Takes out what may go again now, writes in their order.

        Parameters
        ----------
        now : float
        writing : bool
            Whether a write of the session is in flight.
        acked : callable
            node -> every request up to this seq was answered.
        """
        found = [refused for refused in self._pulls if refused.not_before <= now]
        if found:
            self._pulls = [refused for refused in self._pulls if refused.not_before > now]
        if not writing and self._writes and self._may_write(now, acked):
            found += sorted(self._writes, key=lambda refused: refused.piece.place)
            self._writes.clear()
            self._seqs.clear()
        return found

    def _may_write(self, now: float, acked: Callable[[int], int]) -> bool:
        return all(refused.not_before <= now for refused in self._writes) and all(
            acked(node) >= seq for node, seq in self._seqs.items()
        )

    def put_back(self, found: Sequence[RefusedPiece], not_before: float) -> None:
        """What `ready` has taken out cannot go yet."""
        for refused in found:
            refused.not_before = max(refused.not_before, not_before)
            self.add(refused)

    def placed(self, now: float) -> None:
        """A newer placement is known: what waited for it need not wait longer."""
        for refused in (*self._writes, *self._pulls):
            if not refused.as_it_is:
                refused.not_before = min(refused.not_before, now)

    def drain(self) -> list[RefusedPiece]:
        """Takes out everything."""
        found = [*self._writes, *self._pulls]
        self._writes, self._pulls = [], []
        self._seqs.clear()
        return found

    def expired(self, now: float) -> list[RefusedPiece]:
        """Takes out what has met its deadline."""
        late = [refused for refused in (*self._writes, *self._pulls) if refused.deadline <= now]
        if late:
            self._writes = [refused for refused in self._writes if refused.deadline > now]
            self._pulls = [refused for refused in self._pulls if refused.deadline > now]
        return late

    def unseen(self, seconds: float) -> None:
        """Nobody looked for so long; see `inflight.Lane.unseen`."""
        for refused in (*self._writes, *self._pulls):
            refused.deadline += seconds

    def next_due(self, now: float) -> float:
        """When something may go again or is given up, at the earliest."""
        times = [refused.not_before for refused in (*self._writes, *self._pulls) if refused.not_before > now]
        return min([*times, *(refused.deadline for refused in (*self._writes, *self._pulls))], default=_NEVER)

    def awaited(self, future: object) -> bool:
        """Whether a piece of that call waits here."""
        return any(refused.piece.future.whole is future for refused in (*self._writes, *self._pulls))


__all__ = ["GONE", "Refusals", "RefusedPiece"]
