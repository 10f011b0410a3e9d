"""What a simulated schedule runs: groups, their programs, those beside them, and the keys that they write.

Every write of the programs adds 1.0 to *marks*, keys that nobody else writes: (group, rank, clock, push, part). So what a table
holds says which writes have been applied, how often, and when. The marks of one part share a bucket: what a shard remembers of
one write must not be taken for another. Beside the marks the ranks push to a few *sums* that all share,
values whose float64 sum depends on the order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from sparkps.initializers import Constant
from sparkps.optim import SGD
from sparkps.specs import NUM_BUCKETS, TableSpec
from sparkps.wire.hashing import buckets_of
from sparkps.wire.placement import dense_bounds
from tests.harness.placements import initial

BSP = 0

#: Values whose sum is another one in every order.
ORDERED = (1e16, 1.0, -1e16, 0.1, 3.0, -1.0)
#: Where the sums of the sparse table begin: from 0, two of them would be the same in both orders.
BASE = 1e16
#: Shared keys of each group, and elements of the dense table.
SUMS = 3
#: By rank, clock and push, modulo these extents.
_ORDERED = np.random.default_rng(5).choice(ORDERED, (8, 8, 4, SUMS))

#: Keys of the outside writers, as if of a group of their own.
OUTSIDE = -1


MARKS = TableSpec("marks", "sparse", 1, "float64", group="shared")
SUMMED = TableSpec("sums", "sparse", 1, "float64", init=Constant(BASE), optimizer=SGD(1.0), group="shared")
DENSE = "dense"
COUNTED = TableSpec("counted", "dense", 1, "float64", shape=(3,), init=Constant(1.0))


@dataclass(frozen=True)
class Group:
    """One worker group and its program."""

    staleness: int
    #: Clocks of each rank.
    clocks: tuple[int, ...]
    #: Pushes of each rank and clock, and keys of each.
    pushes: int = 2
    parts: int = 2
    #: By what the calls go: registered key sets; one request for all tables of a step; writes not waited for before the tick.
    keysets: bool = False
    together: bool = False
    hasty: bool = True
    #: Whether ranks pull again after their pushes; and whether they never pull, so that one may be far ahead of another.
    peeks: bool = False
    blind: bool = False
    #: Whether they leave a pull unanswered when they tick.
    late_pulls: bool = False
    #: Whether ranks with an even number tick their last clock and then finish; else they finish with it.
    ticks_last: bool = True
    #: Whether ranks call a server function that writes.
    calls: bool = False

    @property
    def bsp(self) -> bool:
        """Whether it runs in lock step."""
        return self.staleness == BSP


@dataclass(frozen=True)
class Scenario:
    """All that runs in one schedule, without what goes wrong."""

    nodes: int
    groups: tuple[Group, ...]
    #: Whether there is a dense table as well.
    dense: bool = True
    #: Outside sessions: how many write (so many rounds each), and how many read.
    writers: int = 0
    rounds: int = 3
    #: Writes of each round that are under way at once.
    burst: int = 1
    readers: int = 0
    #: Whether another session creates, fills and drops tables meanwhile.
    churn: bool = False
    #: Copies of every bucket; with more than one, or with nodes that come later, the coordinator is the real one.
    replication: int = 1
    #: Whether buckets may move.
    moves: bool = False


class Universe:
    """Every mark of a scenario, and where it lies. All arrays have one element a mark.

    Parameters
    ----------
    scenario : Scenario
    """

    def __init__(self, scenario: Scenario) -> None:
        ways = []
        for number, group in enumerate(scenario.groups):
            for rank, clocks in enumerate(group.clocks):
                for clock in range(clocks):
                    for push in range(group.pushes):
                        ways += [(number, rank, clock, push, part) for part in range(group.parts)]
        for writer in range(scenario.writers):
            ways += [
                (OUTSIDE, writer, turn, push, part)
                for turn in range(scenario.rounds)
                for push in range(scenario.burst)
                for part in range(2)
            ]
        self.group, self.rank, self.clock, self.push, part = np.array(ways, np.int64).reshape(-1, 5).T
        shared, passing = np.arange(len(scenario.groups) * SUMS) % SUMS, np.arange(12) % 3
        keys = _keys(np.concatenate([part, shared, passing]), scenario.nodes)
        #: int64: key of the mark in the sparse table; parts of one push go round the nodes. Its place here is its dense element.
        self.keys = keys[: len(part)]
        #: int64: keys of each group's sums, then keys for tables that come and go: in the buckets of the marks, too.
        self.sums, self.passing = np.split(keys[len(part) :], [len(shared)])
        #: Where the marks of (group, rank, clock, push) begin and end.
        self.spans: dict[tuple[int, int, int, int], tuple[int, int]] = {}
        for place, way in enumerate(ways):
            first, _ = self.spans.get(way[:4], (place, place))
            self.spans[way[:4]] = first, place + 1

    def sum_keys(self, group: int) -> NDArray[np.int64]:
        """Keys of a group's sums."""
        return self.sums[group * SUMS : (group + 1) * SUMS]

    def sum_elements(self, group: int) -> slice:
        """Elements of a group's sums in the dense table: behind the marks."""
        first = len(self.keys) + group * SUMS
        return slice(first, first + SUMS)

    @property
    def dense_size(self) -> int:
        """Elements of the dense table."""
        return len(self.keys) + len(self.sums)

    @cached_property
    def buckets(self) -> frozenset[int]:
        """Buckets that anything of the scenario lies in."""
        used = np.zeros(NUM_BUCKETS, bool)
        used[buckets_of(np.concatenate([self.keys, self.sums, self.passing]))] = True
        for size in (self.dense_size, COUNTED.size):
            used |= _dense_buckets(size)
        return frozenset(np.flatnonzero(used).tolist())


@lru_cache(maxsize=256)
def universe(scenario: Scenario) -> Universe:
    """The universe of a scenario."""
    return Universe(scenario)


@cache
def _keys_by_bucket() -> list[NDArray[np.int64]]:
    """Some keys of each bucket, ascending."""
    keys = np.arange(1 << 16, dtype=np.int64)
    buckets = buckets_of(keys)
    return [keys[buckets == bucket] for bucket in range(NUM_BUCKETS)]


@cache
def _dense_buckets(size: int) -> NDArray[np.bool_]:
    """Whether each bucket has elements of a dense table of that size."""
    return np.diff(dense_bounds(size)) > 0


@cache
def _buckets_by_node(num_nodes: int) -> list[list[int]]:
    """The buckets of each node of a tier of so many."""
    placement = initial(range(num_nodes))
    return [[b for b, (holder,) in enumerate(placement) if holder == node] for node in range(num_nodes)]


def _keys(parts: NDArray[np.int64], num_nodes: int) -> NDArray[np.int64]:
    """A key for each element of `parts`, all distinct: those of one part in one bucket, parts in turn on the nodes."""
    holders = _buckets_by_node(num_nodes)
    keys = np.empty(len(parts), np.int64)
    for part in sorted(set(parts.tolist())):
        bucket = holders[part % num_nodes][part]
        places = np.flatnonzero(parts == part)
        keys[places] = _keys_by_bucket()[bucket][: len(places)]
    return keys


def tables_of(scenario: Scenario) -> list[TableSpec]:
    """The tables that exist from the beginning. The dense one has an element for each mark, then those for the sums."""
    tables = [MARKS, SUMMED]
    if scenario.dense:
        tables.append(TableSpec(DENSE, "dense", 1, "float64", shape=(universe(scenario).dense_size,)))
    if any(group.calls for group in scenario.groups):
        tables.append(COUNTED)
    return tables


def gradient(rank: int, clock: int, push: int, pulled: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a rank pushes to its group's sums: an order-sensitive value each, and some of what it has read."""
    return _ORDERED[rank % 8, clock % 8, push % 4] + 0.25 * pulled


@lru_cache(maxsize=1024)
def reference(clocks: tuple[int, ...], pushes: int, blind: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The sums of a BSP group at the beginning of each clock: of the sparse table, and of the dense one; (clocks + 1, SUMS) each.

    Written as slowly and plainly as it can be: clock by clock, the ranks in order, the pushes of each in order.
    """
    sparse, dense = [np.full(SUMS, BASE)], [np.zeros(SUMS)]
    for clock in range(max(clocks)):
        totals: list[NDArray[np.float64] | None] = [None, None]
        for rank in range(len(clocks)):
            for push in range(pushes if clock < clocks[rank] else 0):
                for table, before in enumerate((sparse[-1], dense[-1])):
                    value = gradient(rank, clock, push, np.zeros(SUMS) if blind else before)
                    total = totals[table]
                    totals[table] = value if total is None else total + value
        assert totals[0] is not None
        assert totals[1] is not None
        sparse.append(sparse[-1] - totals[0])
        dense.append(dense[-1] + totals[1])
    return np.array(sparse), np.array(dense)
