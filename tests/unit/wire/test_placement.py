"""Placements: balanced, and changed by as few moves as balance allows, whatever joins and leaves."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparkps.errors import ConfigError, ProtocolError
from sparkps.specs import NUM_BUCKETS
from sparkps.wire.placement import (
    Placement,
    buckets_of_node,
    check_placement,
    dense_bounds,
    dense_range,
    initial,
    join,
    leave,
    moved,
    node_order,
    primaries,
    rebalance,
)

NODES = st.sets(st.integers(0, 1000), min_size=1, max_size=12)
repeatably = settings(max_examples=60, deadline=None, derandomize=True)


def loads(placement: Placement) -> Counter[int]:
    """Buckets per primary."""
    return Counter(primaries(placement))


def assert_balanced(placement: Placement, nodes: set[int]) -> None:
    check_placement(placement)
    floor, larger = divmod(NUM_BUCKETS, len(nodes))
    counts = [loads(placement)[node] for node in nodes]
    assert set(loads(placement)) <= nodes
    assert sorted(counts) == [floor] * (len(nodes) - larger) + [floor + 1] * larger


def least_moves(before: Counter[int], nodes: set[int]) -> int:
    """Buckets that any way to balance must move: what is above the quotas, given out in the best order, and what is lost."""
    floor, larger = divmod(NUM_BUCKETS, len(nodes))
    quotas = [floor + (place < larger) for place in range(len(nodes))]
    held = sorted((before[node] for node in nodes), reverse=True)
    kept = sum(min(have, quota) for have, quota in zip(held, quotas, strict=True))
    return NUM_BUCKETS - kept


@repeatably
@given(NODES, st.integers(1, 3))
def test_a_new_tier_is_balanced_and_replicas_differ(nodes: set[int], replication: int) -> None:
    if replication > len(nodes):
        with pytest.raises(ConfigError, match="replication"):
            initial(nodes, replication)
        return
    placement = initial(nodes, replication)
    assert_balanced(placement, nodes)
    assert {len(row) for row in placement} == {replication}
    assert placement == initial(sorted(nodes, reverse=True), replication)


@repeatably
@given(NODES, st.lists(st.tuples(st.booleans(), st.sets(st.integers(0, 1000), min_size=1, max_size=4)), max_size=6))
def test_joins_and_leaves_stay_balanced_by_the_fewest_moves(
    nodes: set[int], changes: list[tuple[bool, set[int]]]
) -> None:
    placement, nodes = initial(nodes), set(nodes)
    for joining, who in changes:
        who = who - nodes if joining else who & nodes
        if not who or (not joining and who == nodes):
            continue
        nodes = nodes | who if joining else nodes - who
        after = join(placement, who) if joining else leave(placement, who)
        assert_balanced(after, nodes)
        assert len(moved(placement, after)) == least_moves(loads(placement), nodes)
        placement = after
    assert rebalance(placement, nodes) == placement


def test_arguments_are_not_changed() -> None:
    placement = initial([0, 1, 2], replication=2)
    before = [list(row) for row in placement]
    join(placement, [3])
    leave(placement, [0])
    assert placement == before


def test_a_lost_primary_is_succeeded_by_its_replica() -> None:
    placement = initial([0, 1, 2], replication=2)
    after = leave(placement, [1])
    changed = [bucket for bucket in moved(placement, after) if placement[bucket][0] == 1]
    promoted = [bucket for bucket in changed if after[bucket][0] == placement[bucket][1]]
    assert len(promoted) > len(changed) // 3
    assert all(1 not in row for row in after)
    check_placement(after)


def test_a_replica_that_is_promoted_swaps_roles() -> None:
    placement = [[0, 1] for _ in range(NUM_BUCKETS)]
    after = rebalance(placement, [0, 1])
    assert loads(after) == {0: 128, 1: 128}
    assert all(sorted(row) == [0, 1] for row in after)


def test_more_nodes_than_buckets_leaves_some_without() -> None:
    placement = initial(range(300))
    assert set(loads(placement).values()) == {1}
    assert_balanced(rebalance(placement, range(100, 300)), set(range(100, 300)))


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: initial([]), "at least one node"),
        (lambda: initial([1, 1]), "each of them once"),
        (lambda: join(initial([1]), [1]), "must have a new id"),
        (lambda: leave(initial([1, 2]), [1, 2]), "must remain"),
    ],
)
def test_impossible_changes_are_refused(call, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        call()


@pytest.mark.parametrize("placement", [[], [[0]] * 255, [[]] * 256, [[0, 0]] * 256])
def test_a_table_that_is_no_placement_is_refused(placement: Placement) -> None:
    with pytest.raises(ProtocolError):
        check_placement(placement)


@repeatably
@given(st.lists(st.integers(0, 5), min_size=NUM_BUCKETS, max_size=NUM_BUCKETS))
def test_node_order_is_by_node_then_bucket(primary: list[int]) -> None:
    order = node_order(primary)
    wanted = sorted(range(NUM_BUCKETS), key=lambda bucket: (primary[bucket], bucket))
    assert order.order.tolist() == wanted
    assert order.position[order.order].tolist() == list(range(NUM_BUCKETS))
    assert order.position.dtype == order.order.dtype == np.int32
    assert list(order.nodes) == sorted(set(primary))
    for node in order.nodes:
        assert order.buckets(node).tolist() == buckets_of_node(primary, node).tolist()
        assert order.buckets(node).tolist() == [bucket for bucket in range(NUM_BUCKETS) if primary[bucket] == node]


def test_node_order_of_neighbouring_buckets_is_the_identity() -> None:
    assert node_order(primaries(initial(range(3)))).position.tolist() == list(range(NUM_BUCKETS))


def test_node_order_needs_a_primary_for_each_bucket() -> None:
    with pytest.raises(ProtocolError, match="one primary for each"):
        node_order([0, 1])


@repeatably
@given(st.integers(0, 1 << 50))
def test_dense_ranges_tile_the_table_evenly(size: int) -> None:
    bounds = dense_bounds(size)
    assert bounds[0] == 0
    assert bounds[-1] == size
    widths = np.diff(bounds)
    assert widths.max() - widths.min() <= 1
    for bucket in (0, 1, 100, 255):
        assert dense_range(size, bucket) == (bounds[bucket], bounds[bucket + 1])


@pytest.mark.parametrize("row", [[], [1, 1], [-1], [1 << 40], [7]], ids=str)
@pytest.mark.parametrize("bucket", [0, 255])
def test_rows_that_name_no_node_are_refused(row: list[int], bucket: int) -> None:
    placement = initial([0, 1])
    assert check_placement(placement, [0, 1, 2]) is placement
    placement[bucket] = row
    with pytest.raises(ProtocolError, match="row of a placement must hold") as caught:
        check_placement(placement, [0, 1, 2])
    assert caught.value.bucket == bucket


@pytest.mark.parametrize("length", [0, 255, 257])
def test_placements_of_another_length_are_refused(length: int) -> None:
    with pytest.raises(ProtocolError, match=f"256 rows. Got {length}"):
        check_placement([[0]] * length)
