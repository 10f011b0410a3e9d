"""How a new placement reaches the nodes: who was told of it, and who may be told now. Pure.

A bucket that changes hands is led by its old primary until that has confirmed the placement in which it leads no more: by then all
that it took lies at the new primary. So nodes that give up leads are told first, and whoever takes a lead when the giver has
confirmed, or is dead. A placement that replaces one that is still on its way keeps to that: what matters is who was told to lead.
"""

from __future__ import annotations

from collections.abc import Collection

from sparkps.specs import NUM_BUCKETS
from sparkps.wire.placement import Placement


class Placing:
    """The newest placement on its way to the nodes. Owner: the coordinator's thread."""

    def __init__(self) -> None:
        #: The newest one, and its version; 0 before the first.
        self.epoch = 0
        self.placement: Placement = []
        #: The node that was told that it leads a bucket, and has not confirmed a later placement that says otherwise. None: nobody.
        self.leaders: list[int | None] = [None] * NUM_BUCKETS
        #: Epoch of the last placement that each node was sent, and of the last one that it has confirmed; never above `epoch`.
        self.told: dict[int, int] = {}
        self.confirmed: dict[int, int] = {}
        #: Buckets whose lead the placement that a node was sent last takes from it.
        self._given: dict[int, list[int]] = {}
        #: Buckets whose lead it takes by that, and did not have before.
        self._taken: dict[int, list[int]] = {}

    # ---- events --------------------------------------------------------------------------------------------------------

    def change(self, epoch: int, placement: Placement) -> None:
        """A new placement holds."""
        self.epoch, self.placement = epoch, placement

    def joined(self, node: int) -> None:
        """A node was welcomed with the newest placement, in which it has nothing."""
        self.told[node] = self.confirmed[node] = self.epoch

    def sent(self, node: int) -> None:
        """A node is sent the newest placement."""
        self.told[node] = self.epoch
        self._given[node] = [b for b, leader in enumerate(self.leaders) if leader == node and self.placement[b][0] != node]
        self._taken[node] = [b for b, leader in enumerate(self.leaders) if leader != node and self.placement[b][0] == node]
        for bucket in self._taken[node]:
            self.leaders[bucket] = node

    def confirm(self, node: int, epoch: int) -> None:
        """A node has carried out the placement of that epoch; one that was sent a later one confirms that."""
        if self.told.get(node) != epoch:
            return
        self.confirmed[node] = epoch
        self._taken.pop(node, None)
        for bucket in self._given.pop(node, ()):
            if self.leaders[bucket] == node:
                self.leaders[bucket] = None

    def refused(self, node: int, lacking: Collection[int]) -> list[int]:
        """A node has changed nothing, for it has no copy of `lacking`, of what it was to lead: it leads none of these, nor what it
        was to take with them. Those of `lacking` that nobody leads now.
        """
        taken = {*self._taken.pop(node, ()), *lacking}
        for bucket in taken:
            if self.leaders[bucket] == node:
                self.leaders[bucket] = None
        return [bucket for bucket in lacking if self.leaders[bucket] is None]

    def gone(self, node: int) -> None:
        """A node is dead, or has left: the others take nothing of it any more."""
        for bucket, leader in enumerate(self.leaders):
            if leader == node:
                self.leaders[bucket] = None
        for known in (self.told, self.confirmed, self._given, self._taken):
            known.pop(node, None)

    # ---- questions -----------------------------------------------------------------------------------------------------

    def next(self, up: Collection[int]) -> list[int]:
        """Nodes that may be sent the newest placement now, and have not been."""
        waiting = {row[0] for row, leader in zip(self.placement, self.leaders, strict=True) if leader is not None and leader != row[0]}
        return [node for node in up if self.told.get(node) != self.epoch and node not in waiting]

    def is_settled(self, up: Collection[int]) -> bool:
        """Whether every node has confirmed the newest placement."""
        return all(self.confirmed.get(node) == self.epoch for node in up)

    def awaited(self, up: Collection[int]) -> list[int]:
        """Nodes that have not confirmed it."""
        return [node for node in up if self.confirmed.get(node) != self.epoch]

    def leads(self, node: int) -> bool:
        """Whether the node was told that it leads a bucket, and has not confirmed that it leads none."""
        return node in self.leaders

    def given_back(self, takers: Collection[int] | None = None) -> Placement:
        """The newest placement, but leads that were not confirmed as given up stay with whoever has them.

        Parameters
        ----------
        takers : collection of int, optional
            Only leads that go to one of these nodes; default: all.
        """
        return [
            [leader, *(node for node in row if node != leader)]
            if leader is not None and leader != row[0] and (takers is None or row[0] in takers)
            else list(row)
            for row, leader in zip(self.placement, self.leaders, strict=True)
        ]

    def validate(self, up: Collection[int]) -> None:
        """Check the invariants that the fields' comments state."""
        assert all(1 <= epoch <= self.epoch for epoch in self.told.values())
        assert all(epoch <= self.told[node] for node, epoch in self.confirmed.items())
        assert {leader for leader in self.leaders if leader is not None} <= set(up), "who leads is up"
        for row, leader in zip(self.placement, self.leaders, strict=False):
            taker = row[0]
            if leader is not None and leader != taker:
                assert leader in row or taker not in up, "who leads keeps its rows until it has confirmed that it gives the lead up"
                assert self.told.get(taker) != self.epoch, "nobody is told to lead what another one still leads"


__all__ = ["Placing"]
