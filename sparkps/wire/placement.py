"""Which node holds which bucket: an explicit table, balanced, changed by minimal moves.

A `Placement` has one row per bucket: ``[primary, replica, ...]``, node ids, without repetition. It is the same for all
tables. Balanced means that each node is primary of ``floor(V / N)`` or ``ceil(V / N)`` of the V buckets (consistent hashing
with bounded loads, bound 1; Mirrokni, Thorup, Zadimoghaddam 2018, with the table written out because V is small).

All functions are pure: they return new tables and depend on nothing but their arguments. `join` and `leave` know the nodes
that the table names; where nodes may be without a bucket (more nodes than buckets), say all of them to `rebalance`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparkps.errors import ConfigError, ProtocolError
from sparkps.plain import shown
from sparkps.specs import NUM_BUCKETS

#: Ids of nodes stay below this.
_ID_LIMIT = 1 << 31

#: Row ``b`` is the replica set of bucket ``b``, its primary first.
Placement = list[list[int]]


def initial(nodes: Iterable[int], replication: int = 1) -> Placement:
    """The placement of an empty tier: each node is primary of one run of neighbouring buckets.

    Parameters
    ----------
    nodes : iterable of int
        Ids of the nodes; their order does not matter.
    replication : int
        Copies of each bucket, its primary included; at most the number of nodes.

    Examples
    --------
    >>> table = initial([7, 4])
    >>> table[0], table[127], table[128]
    ([4], [4], [7])
    """
    members = _members(nodes)
    if not 1 <= replication <= len(members):
        raise ConfigError(
            f"`replication` must be between 1 and the number of nodes, {len(members)}. Got {replication} instead.",
            replication=replication,
        )
    count = len(members)
    table: Placement = []
    for place in range(count):
        replicas = [members[(place + copy) % count] for copy in range(replication)]
        first, last = place * NUM_BUCKETS // count, (place + 1) * NUM_BUCKETS // count
        table.extend(list(replicas) for _ in range(first, last))
    return table


def join(placement: Placement, nodes: Iterable[int]) -> Placement:
    """The placement after `nodes` have joined: they take just the buckets that balance needs."""
    new = _members(nodes)
    present = _holders(placement)
    if known := present & set(new):
        raise ConfigError(
            f"A node that joins must have a new id. Got {sorted(known)}, which are in the placement.",
            nodes=sorted(known),
        )
    return rebalance(placement, [*present, *new])


def leave(placement: Placement, nodes: Iterable[int]) -> Placement:
    """The placement after `nodes` have left: a bucket goes to its first replica that stays, or else to the least loaded node."""
    gone = set(_members(nodes))
    remaining = _holders(placement) - gone
    if not remaining:
        raise ConfigError("A node that is not leaving must remain in the placement. Got none.", nodes=sorted(gone))
    return rebalance(placement, remaining)


def rebalance(placement: Placement, nodes: Iterable[int]) -> Placement:
    """A balanced placement over exactly `nodes` that differs from `placement` in as few primaries as possible.

    A node in `nodes` may be new; a node that is not in `nodes` is dropped from all rows. A replica that becomes primary
    swaps roles with the old one.
    """
    members = _members(nodes)
    table = [[node for node in row if node in members] for row in placement]
    load = Counter(dict.fromkeys(members, 0))
    load.update(row[0] for row in table if row)
    quota = _quotas(load)
    for bucket in reversed(range(len(table))):
        row = table[bucket]
        if row and load[row[0]] > quota[row[0]]:
            load[row[0]] -= 1
            table[bucket] = _led_by(_receiver(load, quota), row)
            load[table[bucket][0]] += 1
        elif not row:
            row.append(_receiver(load, quota))
            load[row[0]] += 1
    return table


def _members(nodes: Iterable[int]) -> list[int]:
    listed = list(nodes)
    members = sorted(set(listed))
    if not members or len(members) != len(listed):
        raise ConfigError(f"A placement needs at least one node, and each of them once. Got {listed} instead.")
    return members


def _holders(placement: Placement) -> set[int]:
    return {node for row in placement for node in row}


def _quotas(load: Counter[int]) -> dict[int, int]:
    """Buckets that each node shall have: the larger shares to those that have most already, which spares moves."""
    floor, larger = divmod(NUM_BUCKETS, len(load))
    by_load = sorted(load, key=lambda node: (-load[node], node))
    return {node: floor + (place < larger) for place, node in enumerate(by_load)}


def _receiver(load: Counter[int], quota: dict[int, int]) -> int:
    """The node that is furthest below its quota, the lowest id among equals."""
    return min(quota, key=lambda node: (load[node] - quota[node], node))


def _led_by(node: int, row: list[int]) -> list[int]:
    """`row` with `node` as its primary: the old primary stays as a replica only where `node` was one."""
    if node in row:
        return [node, *(other for other in row if other != node)]
    return [node, *row[1:]]


def primaries(placement: Placement) -> list[int]:
    """The primary of each bucket."""
    return [row[0] for row in placement]


def moved(old: Placement, new: Placement) -> list[int]:
    """The buckets whose primary differs."""
    return [bucket for bucket, (before, after) in enumerate(zip(old, new, strict=True)) if before[0] != after[0]]


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
    for bucket, row in enumerate(placement):
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
    >>> order = node_order(primaries(initial([1, 0])))
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
