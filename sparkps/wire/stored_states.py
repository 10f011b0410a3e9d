"""What ranks store with their ticks, as long as a checkpoint may need it. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from sparkps.specs import RankStart

#: (rank, clock, state), to move them with a shard.
StoredState = tuple[int, int, bytes | None]


class StoredStates:
    """By rank, what was stored with the highest tick; in BSP also with those that not every rank has ticked yet.

    Parameters
    ----------
    ranks : int
    keeps : bool
        BSP: a checkpoint is cut at a clock that some ranks may be ahead of.
    """

    def __init__(self, ranks: int, keeps: bool) -> None:
        #: By rank: stored with its highest tick.
        self.latest: list[bytes | None] = [None] * ranks
        self._keeps = keeps
        #: By rank and clock: of ticks from the lowest floor on, or from `pinned` on.
        self._kept: list[dict[int, bytes | None]] = [{} for _ in range(ranks)]
        #: A checkpoint is being taken at this clock or a later one.
        self.pinned: int | None = None

    def store(self, rank: int, clock: int, state: bytes | None) -> None:
        """A rank's highest tick has come."""
        self.latest[rank] = state
        if self._keeps:
            self._kept[rank][clock] = state

    def forget_below(self, lowest: int) -> None:
        """Every rank has ticked `lowest`."""
        oldest = lowest if self.pinned is None else min(self.pinned, lowest)
        for kept in self._kept:
            for clock in [each for each in kept if each < oldest]:
                del kept[clock]

    def start_after(self, rank: int, clock: int, finished_at: int) -> RankStart | None:
        """Where a rank goes on after `clock`, which it has ticked; None: not known here.

        Examples
        --------
        >>> states = StoredStates(1, keeps=True)
        >>> states.store(0, 3, b"three"), states.store(0, 4, b"four")
        (None, None)
        >>> states.start_after(0, 3, finished_at=-1)
        RankStart(clock=3, finished=False, state=b'three')
        """
        if 0 <= finished_at <= clock:
            return RankStart(finished_at, True, self.latest[rank])
        if clock < 0:
            return RankStart(-1)
        known = self._kept[rank]
        return RankStart(clock, False, known[clock]) if clock in known else None

    def export(self) -> list[StoredState]:
        """All that is kept, to go with a shard."""
        return [(rank, clock, state) for rank, kept in enumerate(self._kept) for clock, state in kept.items()]

    def adopt(self, stored: Iterable[StoredState]) -> None:
        """A shard has brought these."""
        for rank, clock, state in stored:
            self._kept[rank].setdefault(clock, state)


__all__ = ["StoredState", "StoredStates"]
