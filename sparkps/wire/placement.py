"""Which node holds which bucket, as clients and nodes see it; how the coordinator makes and changes it is in its `plan`.

A `Placement` has one row per bucket: ``[primary, replica, ...]``, node ids, without repetition. It is the same for all
tables. All functions are pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparkps.errors import ProtocolError
from sparkps.plain import shown
from sparkps.specs import NUM_BUCKETS

#: Ids of nodes stay below this.
_ID_LIMIT = 1 << 31

#: Row ``b`` is the replica set of bucket ``b``, its primary first.
Placement = list[list[int]]


def primaries(placement: Placement) -> list[int]:
    """The primary of each bucket."""
    return [row[0] for row in placement]


def replica_sets(placement: Placement) -> list[tuple[int, ...]]:
    """Who holds each bucket, its primary first, as values that do not change."""
    return [tuple(row) for row in placement]


def buckets_of_node(primary: Sequence[int], node: int) -> NDArray[np.int32]:
    """The buckets, ascending, of which `node` is the primary."""
    return np.flatnonzero(np.asarray(primary) == node).astype(np.int32)


def check_placement(placement: Placement, nodes: Iterable[int] | None = None) -> Placement:
    """`placement`, if it has one row per bucket, each a non-empty list of different nodes; else a `ProtocolError`.

    With `nodes`, the ids of all nodes that ever joined, a row that names another one is refused, too.
    """
    if len(placement) != NUM_BUCKETS:
        raise ProtocolError(f"A placement must have {NUM_BUCKETS} rows. Got {len(placement)} instead.")
    known = None if nodes is None else frozenset(nodes)
    checked: set[tuple[int, ...]] = set()  # rows repeat: there are few different ones
    for bucket, row in enumerate(replica_sets(placement)):
        if row in checked:
            continue
        checked.add(row)
        if not row or len(set(row)) != len(row) or min(row) < 0 or max(row) >= _ID_LIMIT:
            raise ProtocolError(
                f"A row of a placement must hold ids of different nodes, at least one. Got {shown(row)} instead.",
                bucket=bucket,
            )
        if known is not None and not known.issuperset(row):
            raise ProtocolError(
                f"A row of a placement must hold nodes that have joined. Got {shown(row)} instead.", bucket=bucket
            )
    return placement


@dataclass(frozen=True, eq=False, slots=True)
class NodeOrder:
    """The buckets in the order in which a client lays out a request: by node, and by bucket inside a node."""

    #: Ids of the nodes that are primary of at least one bucket, ascending.
    nodes: tuple[int, ...]
    #: int32 (V,): place of each bucket in the order; a permutation.
    position: NDArray[np.int32]
    #: int32 (V,): the bucket at each place; the inverse of `position`.
    order: NDArray[np.int32]
    #: int32 (len(nodes) + 1,): node ``nodes[i]`` has the places ``starts[i]`` to ``starts[i + 1]``.
    starts: NDArray[np.int32]

    def buckets(self, node: int) -> NDArray[np.int32]:
        """The buckets of `node`, ascending; a view."""
        place = self.nodes.index(node)
        return self.order[self.starts[place] : self.starts[place + 1]]


def node_order(primary: Sequence[int]) -> NodeOrder:
    """The node-major order of the buckets.

    Parameters
    ----------
    primary : sequence of V int
        The primary of each bucket, see `primaries`.

    Examples
    --------
    >>> order = node_order([0] * 128 + [1] * 128)
    >>> order.nodes, order.starts.tolist(), order.buckets(1)[:3].tolist()
    ((0, 1), [0, 128, 256], [128, 129, 130])
    """
    owners = np.asarray(primary, np.int64)
    if owners.shape != (NUM_BUCKETS,):
        raise ProtocolError(
            f"A placement must name one primary for each of {NUM_BUCKETS} buckets. Got shape {owners.shape} instead."
        )
    order = np.argsort(owners, kind="stable").astype(np.int32)
    position = np.empty(NUM_BUCKETS, np.int32)
    position[order] = np.arange(NUM_BUCKETS, dtype=np.int32)
    nodes, counts = np.unique(owners, return_counts=True)
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return NodeOrder(tuple(nodes.tolist()), position, order, starts)


def dense_range(size: int, bucket: int) -> tuple[int, int]:
    """First element of a dense table of `size` elements in `bucket`, and the one after its last.

    Examples
    --------
    >>> dense_range(1000, 0), dense_range(1000, 255)
    ((0, 3), (996, 1000))
    """
    return bucket * size // NUM_BUCKETS, (bucket + 1) * size // NUM_BUCKETS


def dense_bounds(size: int) -> NDArray[np.int64]:
    """All borders of `dense_range`: int64 (V + 1,); bucket ``b`` has the elements ``bounds[b]`` to ``bounds[b + 1]``."""
    return np.array([bucket * size // NUM_BUCKETS for bucket in range(NUM_BUCKETS + 1)], np.int64)
