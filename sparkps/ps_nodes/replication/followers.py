"""All logs that a node follows, by their source; and which sources count."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sparkps.ps_nodes.replication.entries import carry_out
from sparkps.ps_nodes.replication.follower import Follower
from sparkps.specs import GroupSpec
from sparkps.wire.messages.log import NotKept, NotShipped, Shipped

if TYPE_CHECKING:
    from sparkps.ps_nodes.state import ServerState


class Followers:
    """Followers of a node by the id of their source. Owner: the I/O thread.

    Parameters
    ----------
    state : ServerState
    """

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._by_source: dict[int, Follower] = {}

    def __iter__(self) -> Iterator[Follower]:
        return iter(list(self._by_source.values()))

    def of(self, source: int) -> Follower:
        """The follower of a source, made if there is none."""
        found = self._by_source.get(source)
        if found is None:
            state = self._state
            found = self._by_source[source] = Follower(
                source,
                state.tables,
                state.shards,
                state.pool,
                state.answers,
                self._spec_of,
                carry_out,
                self._named,
                lambda epoch: epoch == state.epoch,
                lambda bucket: state.placement[bucket][0] if 0 <= bucket < len(state.placement) else None,
            )
        return found

    def _spec_of(self, group: int) -> GroupSpec | None:
        return self._state.group_specs.get(group)

    def take(self, source: int, generation: int, number: int, message: Any, arrays: list[Any], nbytes: int) -> Any:
        """An entry has arrived; returns what to answer, if anything."""
        state = self._state
        info = state.nodes.get(source)
        if info is None or not state.is_complete or source == state.node:
            return None  # a node that is new, and of which the coordinator has not told yet; or nobody, for no node copies itself
        if info.state != "up":
            return NotShipped(state.epoch)
        follower = self.of(source)
        follower.take(generation, number, message, arrays, nbytes)
        return self.acknowledgement(follower)

    def acknowledgement(self, follower: Follower) -> Shipped | NotKept | None:
        """What its source is told."""
        if follower.broken:
            return NotKept(self._state.node, follower.generation)
        number = follower.acknowledged
        return None if number is None else Shipped(self._state.node, follower.generation, number, self._state.memory.full)

    def _named(self) -> int:
        state = self._state
        return sum(1 << bucket for bucket, row in enumerate(state.placement) if state.node in row[1:])

    def forget(self, source: int) -> None:
        """The source is gone."""
        self._by_source.pop(source, None)

    def nbytes(self) -> int:
        """Bytes of entries and open clocks."""
        return sum(follower.nbytes() for follower in self)


__all__ = ["Followers"]
