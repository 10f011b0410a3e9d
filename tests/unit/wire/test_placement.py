"""What clients and nodes read out of a placement."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparkps.errors import ProtocolError
from sparkps.specs import NUM_BUCKETS
from sparkps.wire.placement import (
    Placement,
    buckets_of_node,
    check_placement,
    dense_bounds,
    dense_range,
    node_order,
    primaries,
)
from tests.harness.placements import initial

repeatably = settings(max_examples=60, deadline=None, derandomize=True)


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
