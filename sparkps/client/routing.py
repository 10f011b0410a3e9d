"""Which node holds which bucket, in the form that the client's kernels use."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass
from functools import cached_property

from sparkps.specs import NUM_BUCKETS
from sparkps.wire.buckets import mask_of
from sparkps.wire.placement import NodeOrder, Placement, node_order, primaries


@dataclass(frozen=True)
class Routing:
    """One epoch's placement, and where its nodes are."""

    epoch: int
    #: Primary node id of each bucket.
    primaries: tuple[int, ...]
    #: The replica sets, each once.
    rows: frozenset[tuple[int, ...]]

    @classmethod
    def of(cls, epoch: int, placement: Placement) -> Routing:
        """From a placement of replica sets as the wire carries it."""
        return cls(epoch, tuple(primaries(placement)), frozenset(map(tuple, placement)))

    def is_lost(self, node: int, gone: Container[int]) -> bool:
        """Whether `node` is gone, and so is every other copy of what it is the primary of: no later placement brings that back.

        Examples
        --------
        >>> routing = Routing.of(1, [[0, 1]] * 255 + [[2]])
        >>> routing.is_lost(0, {0}), routing.is_lost(0, {0, 1}), routing.is_lost(2, {2}), routing.is_lost(2, {})
        (False, True, True, False)
        """
        led = [row for row in self.rows if row[0] == node] if node in gone else []
        return bool(led) and all(member in gone for row in led for member in row)

    @cached_property
    def masks(self) -> dict[int, int]:
        """The buckets of each node, as bits (see `wire.buckets`)."""
        return {node: mask_of(self.order.buckets(node)) for node in self.nodes}

    @cached_property
    def order(self) -> NodeOrder:
        """The node-major order: keys sorted by it are contiguous per node."""
        return node_order(self.primaries)

    @property
    def nodes(self) -> tuple[int, ...]:
        """Ids of the nodes that are primary of some bucket, ascending."""
        return self.order.nodes

    @cached_property
    def spans(self) -> tuple[tuple[int, tuple[int, int]], ...]:
        """For each node its id and its positions [first, last) in the node-major order."""
        starts = self.order.starts.tolist()
        return tuple((node, (starts[i], starts[i + 1])) for i, node in enumerate(self.order.nodes))

    def bucket_runs(self, most: int, first: int = 0, last: int = NUM_BUCKETS) -> Iterator[tuple[int, int, int]]:
        """Runs of neighbouring buckets of [first, last) on one node, at most `most` long: (node, start, stop)."""
        start = first
        for bucket in range(first + 1, last + 1):
            if bucket == last or self.primaries[bucket] != self.primaries[start] or bucket - start == most:
                yield self.primaries[start], start, bucket
                start = bucket
