"""What becomes of the placement when nodes go, come or are drained. Pure functions: they depend on nothing but their arguments.

To *promote* is to go on with what is there: a replica that lives leads. It is not to balance. A *plan* is how replication and
balance are restored afterwards, bucket by bucket: make the missing copies, let them catch up, give the lead, drop what is superfluous.
The same plan makes a tier larger or smaller.

A wanted placement is balanced: each node leads ``floor(V / N)`` or ``ceil(V / N)`` of the V buckets, and holds about as many copies
as any other. Copies of a bucket are on different nodes, and on different hosts as far as there are any. The replicas of what a
node leads are spread over all others, so that they share its load when it goes (chained declustering, Hsiao and DeWitt 1990, puts
it on one neighbour). As few rows as possible change: leads move first along copies that are there, which costs no data (augmenting
paths; Ford and Fulkerson 1956). Where buckets are known to weigh differently, leads are balanced by weight (see `weights`).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sparkps.driver_bridge.coordinator.weights import leads_by_weight
from sparkps.errors import ConfigError
from sparkps.specs import NUM_BUCKETS
from sparkps.wire.placement import Placement

#: Name of the host of each node that may hold buckets, by the node's id.
Hosts = Mapping[int, str]


@dataclass(frozen=True)
class Promotion:
    """A placement without nodes that are gone."""

    placement: Placement
    #: Buckets of which no copy is left; their rows are as they were.
    lost: list[int]


@dataclass(frozen=True)
class RowChange:
    """One bucket's way from its replica set to the wanted one."""

    bucket: int
    #: Nodes that get a copy, and must have caught up before anything else changes.
    add: tuple[int, ...]
    #: The replica set at the end, its primary first.
    row: tuple[int, ...]
    #: Nodes whose copy is not wanted any more; freed last.
    drop: tuple[int, ...]


def initial(hosts: Hosts, replication: int = 1) -> Placement:
    """The placement of an empty tier: each node leads one run of neighbouring buckets.

    Parameters
    ----------
    hosts : mapping of int to str
        The nodes and where they run.
    replication : int
        Copies of each bucket, its primary included; at most the number of nodes.

    Examples
    --------
    >>> table = initial({7: "a", 4: "b"})
    >>> table[0], table[127], table[128]
    ([4], [4], [7])
    """
    nodes = sorted(hosts)
    check_replication(replication, nodes)
    count = len(nodes)
    leads = [[node] for i, node in enumerate(nodes) for _ in range(i * NUM_BUCKETS // count, (i + 1) * NUM_BUCKETS // count)]
    return _Copies(leads, leads, hosts, replication).rows()


def check_replication(replication: int, nodes: Collection[int]) -> None:
    """Raise unless so many copies can lie on different nodes."""
    if not 1 <= replication <= len(nodes):
        raise ConfigError(
            f"`replication` must be between 1 and the number of nodes, {len(nodes)}. Got {replication} instead.",
            replication=replication,
        )


def promote(placement: Placement, gone: Iterable[int]) -> Promotion:
    """Without the nodes that are gone: of the copies that are left the one on the node with the fewest leads leads. No data moves.

    Examples
    --------
    >>> promote([[0, 1], [1, 0], [0]], [0])
    Promotion(placement=[[1], [1], [0]], lost=[2])
    """
    without = frozenset(gone)
    left = [[node for node in row if node not in without] for row in placement]
    load = Counter(row[0] for row in placement)
    for bucket, row in enumerate(left):
        if row and row[0] != placement[bucket][0]:
            lead = min(row, key=lambda node: load[node])
            load[lead] += 1
            left[bucket] = [lead, *(node for node in row if node != lead)]
    lost = [bucket for bucket, row in enumerate(left) if not row]
    for bucket in lost:
        left[bucket] = list(placement[bucket])
    return Promotion(left, lost)


def wanted(placement: Placement, hosts: Hosts, replication: int, weights: Sequence[int] = ()) -> Placement:
    """The balanced placement over exactly the nodes of `hosts` that is nearest to `placement`.

    Parameters
    ----------
    placement : Placement
        Every row has a node that holds its data; those that are not in `hosts` are to be drained.
    hosts : mapping of int to str
    replication : int
        Where there are fewer nodes, there are fewer copies until more come.
    weights : sequence of int, optional
        Of each bucket, at least 1. Empty: all weigh the same.
    """
    if not hosts:
        raise ConfigError("A node must remain to hold the buckets. Got none.")
    nodes = sorted(hosts)
    leads = leads_by_weight(placement, nodes, weights) if weights else _leads(placement, nodes)
    return _Copies(placement, [[lead] for lead in leads], hosts, min(replication, len(hosts))).rows()


def plan(placement: Placement, hosts: Hosts, replication: int, weights: Sequence[int] = ()) -> list[RowChange]:
    """How to come from `placement` to what is wanted: buckets with the fewest copies first, then leads that move, then the rest."""
    changes = []
    for bucket, (row, to) in enumerate(zip(placement, wanted(placement, hosts, replication, weights), strict=True)):
        if row != to:
            add, drop = (tuple(n for n in one if n not in other) for one, other in ((to, row), (row, to)))
            changes.append(RowChange(bucket, add, tuple(to), drop))

    def urgency(change: RowChange) -> tuple[int, bool, int]:
        row = placement[change.bucket]
        return len([node for node in row if node in hosts]), change.row[0] == row[0], change.bucket

    return sorted(changes, key=urgency)


# ---- who leads ---------------------------------------------------------------------------------------------------------


def quotas(load: Mapping[int, int], total: int) -> dict[int, int]:
    """How much of `total` each node shall have: the larger shares go to those that have most already, which spares moves."""
    floor, larger = divmod(total, len(load))
    by_load = sorted(load, key=lambda node: (-load[node], node))
    return {node: floor + (place < larger) for place, node in enumerate(by_load)}


def _leads(placement: Placement, nodes: Sequence[int]) -> list[int]:
    """A primary for each bucket, as many to every node, with the fewest that have no copy yet."""
    members = frozenset(nodes)
    copies = [[node for node in row if node in members] for row in placement]
    leads = [row[0] if row else -1 for row in copies]
    load = Counter(dict.fromkeys(nodes, 0))
    load.update(lead for lead in leads if lead >= 0)
    quota = quotas(load, len(leads))
    for bucket, lead in enumerate(leads):
        if lead < 0:  # nobody who stays has a copy: it is all the same who gets one
            leads[bucket] = max(nodes, key=lambda node: (quota[node] - load[node], -node))
            copies[bucket] = [leads[bucket]]
            load[leads[bucket]] += 1
    while any(load[node] > quota[node] for node in nodes):
        path = _path(leads, copies, load, quota)
        if not path:
            giver = max(nodes, key=lambda node: (load[node] - quota[node], -node))
            taker = max(nodes, key=lambda node: (quota[node] - load[node], -node))
            # Of all that it leads the one with the fewest copies: it may need another one anyway.
            bucket = min((b for b, lead in enumerate(leads) if lead == giver), key=lambda b: (len(copies[b]), -b))
            copies[bucket].append(taker)
            path = [(bucket, taker)]
        load[leads[path[0][0]]] -= 1
        for bucket, to in path:
            leads[bucket] = to
        load[path[-1][1]] += 1
    return leads


def _path(
    leads: Sequence[int], copies: Sequence[Sequence[int]], load: Mapping[int, int], quota: Mapping[int, int]
) -> list[tuple[int, int]]:
    """Buckets, each with the copy that shall lead it, that take one lead from a node with too many to one with too few; or none."""
    led: dict[int, list[int]] = {node: [] for node in load}
    for bucket, lead in enumerate(leads):
        led[lead].append(bucket)
    came: dict[int, tuple[int, int] | None] = {node: None for node in sorted(load) if load[node] > quota[node]}
    reached = deque(came)
    while reached:
        node = reached.popleft()
        for bucket in led[node]:
            for other in copies[bucket]:
                if other in came:
                    continue
                came[other] = (node, bucket)
                if load[other] < quota[other]:
                    return _steps(came, other)
                reached.append(other)
    return []


def _steps(came: Mapping[int, tuple[int, int] | None], node: int) -> list[tuple[int, int]]:
    steps = []
    while (before := came[node]) is not None:
        steps.append((before[1], node))
        node = before[0]
    return steps[::-1]


# ---- who holds copies --------------------------------------------------------------------------------------------------


class _Copies:
    """Replicas for buckets that have a primary.

    Parameters
    ----------
    have : Placement
        Who holds data now.
    leads : list of [int]
        The primary of each bucket.
    hosts, replication
        See `wanted`.
    """

    def __init__(self, have: Placement, leads: Sequence[Sequence[int]], hosts: Hosts, replication: int) -> None:
        self._have = have
        self._hosts = hosts
        self._replication = replication
        #: Replica sets under construction, the primary first.
        self._rows = [list(row) for row in leads]
        #: Copies that each node holds.
        self._load = Counter(dict.fromkeys(hosts, 0))
        #: How often a node holds a replica of what another one leads.
        self._pairs: Counter[tuple[int, int]] = Counter()
        for row in self._rows:
            self._load[row[0]] += 1
        for bucket, row in enumerate(have):
            self._keep(bucket, [node for node in row if node in hosts])
        total = len(self._rows) * replication
        #: Copies that each node shall hold.
        self._quota = quotas(self._load, total)
        for bucket in self._in_turn():
            while len(self._rows[bucket]) < replication:
                self._add(bucket, self._best(bucket, hosts))
        while self._even_out():
            pass

    def rows(self) -> Placement:
        """The replica sets; copies that were there stay in their order."""
        return [
            [row[0], *(node for node in had if node in row[1:]), *(node for node in row[1:] if node not in had)]
            for had, row in zip(self._have, self._rows, strict=True)
        ]

    def _keep(self, bucket: int, holders: Sequence[int]) -> None:
        """Of those that have the data, as many as shall; rather on another host."""
        for node in sorted(holders, key=lambda node: self._shares_host(bucket, node)):
            row = self._rows[bucket]
            if node not in row and len(row) < self._replication and not self._could_be_apart(bucket, node):
                self._add(bucket, node)

    def _could_be_apart(self, bucket: int, node: int) -> bool:
        """Whether the copy would share a host with another one though there is a host without."""
        return self._shares_host(bucket, node) and len(set(self._hosts.values())) > len({self._hosts[n] for n in self._rows[bucket]})

    def _shares_host(self, bucket: int, node: int) -> bool:
        return any(self._hosts[other] == self._hosts[node] for other in self._rows[bucket])

    def _best(self, bucket: int, nodes: Iterable[int]) -> int:
        row = self._rows[bucket]
        return min((node for node in nodes if node not in row), key=lambda node: self._merit(bucket, node))

    def _merit(self, bucket: int, node: int) -> tuple[bool, bool, int, int, int]:
        """The less the better: another host, room for it, another neighbour, little to hold."""
        lead, room = self._rows[bucket][0], self._quota[node] - self._load[node]
        return self._shares_host(bucket, node), room <= 0, self._pairs[lead, node], -room, node

    def _even_out(self) -> bool:
        """Move replicas from nodes with more copies to nodes with fewer, as far as hosts allow; whether any was moved."""
        moved = False
        for bucket in self._in_turn():
            row = self._rows[bucket]
            for node in row[:0:-1]:
                most = self._load[node] - 2
                takers = [n for n in self._hosts if self._load[n] <= most and n not in row and self._may_replace(row, node, n)]
                if takers:
                    to = min(takers, key=lambda taker: self._merit(bucket, taker))
                    self._remove(bucket, node)
                    self._add(bucket, to)
                    moved = True
        return moved

    def _in_turn(self) -> list[int]:
        """The buckets, one of each primary after the other, so that nobody's replicas all go the same way."""
        seen: Counter[int] = Counter()
        order = []
        for bucket, row in enumerate(self._rows):
            order.append((seen[row[0]], bucket))
            seen[row[0]] += 1
        return [bucket for _, bucket in sorted(order)]

    def _may_replace(self, row: Sequence[int], node: int, by: int) -> bool:
        """Whether the row is on as many hosts with `by` in place of `node`."""
        others = {self._hosts[other] for other in row if other != node}
        return self._hosts[by] not in others or self._hosts[node] in others

    def _add(self, bucket: int, node: int) -> None:
        row = self._rows[bucket]
        row.append(node)
        self._load[node] += 1
        self._pairs[row[0], node] += 1

    def _remove(self, bucket: int, node: int) -> None:
        row = self._rows[bucket]
        row.remove(node)
        self._load[node] -= 1
        self._pairs[row[0], node] -= 1


__all__ = ["Hosts", "Promotion", "RowChange", "check_replication", "initial", "plan", "promote", "quotas", "wanted"]
