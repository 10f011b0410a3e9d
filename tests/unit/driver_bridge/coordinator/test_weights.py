"""Leads by weight: even enough, few moves, stable; and plans by number stay what they were where no weights are known."""

from __future__ import annotations

import random

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from sparkps.driver_bridge.coordinator.plan import initial, plan, wanted
from sparkps.driver_bridge.coordinator.weights import EVEN, leads_by_weight, loads
from sparkps.specs import NUM_BUCKETS
from sparkps.wire.placement import check_placement

repeatably = settings(max_examples=40, phases=[Phase.explicit, Phase.generate], deadline=None, derandomize=True)
HOSTS = st.dictionaries(st.integers(0, 300), st.sampled_from(["a", "b", "c", "d"]), min_size=1, max_size=9)
WEIGHTS = st.tuples(st.integers(0, 10_000), st.sampled_from(["equal", "any", "few heavy", "one hot"]))


def weights_like(seed: int, kind: str) -> list[int]:
    rng = random.Random(seed)
    weights = [rng.randrange(1, 1000) if kind == "any" else 100 for _ in range(NUM_BUCKETS)]
    if kind == "few heavy":
        for bucket in rng.sample(range(NUM_BUCKETS), 12):
            weights[bucket] = rng.randrange(5_000, 20_000)
    elif kind == "one hot":
        weights[rng.randrange(NUM_BUCKETS)] = 1_000_000
    return weights


@repeatably
@given(HOSTS, st.integers(1, 3), WEIGHTS, st.sampled_from(["stay", "leave", "join"]))
def test_leads_are_even_within_the_heaviest_bucket_and_replicas_spread(
    hosts: dict[int, str], replication: int, kind: tuple[int, str], change: str
) -> None:
    replication = min(replication, len(hosts))
    weights, placement, hosts = weights_like(*kind), initial(hosts, replication), dict(hosts)
    if change == "join":
        hosts[1000] = "e"
    elif change == "leave" and len(hosts) > 1:
        del hosts[min(hosts)]
    found = wanted(placement, hosts, replication, weights)
    check_placement(found, hosts)
    load = loads([row[0] for row in found], hosts, weights).values()
    assert max(load) - min(load) <= max(max(weights), EVEN * sum(weights) / len(hosts))
    each = min(replication, len(hosts))
    assert {len(row) for row in found} == {each}
    apart = min(each, len(set(hosts.values())))
    assert all(len({hosts[node] for node in row}) == apart for row in found), "on different hosts as far as there are any"
    assert plan(found, hosts, replication, weights) == [], "what was evened out stays"


@repeatably
@given(HOSTS, WEIGHTS)
def test_each_move_goes_from_more_to_less(hosts: dict[int, str], kind: tuple[int, str]) -> None:
    """Nobody gets more than the heaviest had, and who gives has not less than the lightest had: no lead moves for nothing."""
    weights, placement = weights_like(*kind), initial(hosts)
    before = loads([row[0] for row in placement], hosts, weights)
    leads = leads_by_weight(placement, sorted(hosts), weights)
    after = loads(leads, hosts, weights)
    assert max(after.values()) <= max(before.values())
    assert min(after.values()) >= min(before.values())
    if max(before.values()) - min(before.values()) <= EVEN * sum(weights) / len(hosts):
        assert leads == [row[0] for row in placement]


@pytest.mark.parametrize("replication", [1, 2])
@pytest.mark.parametrize("nodes", [2, 3, 4, 8])
def test_heavy_buckets_of_one_node_take_few_moves(nodes: int, replication: int) -> None:
    hosts = {node: f"host {node}" for node in range(nodes)}
    placement = initial(hosts, replication)
    weights = [100] * NUM_BUCKETS
    for bucket in range(2 * nodes):
        weights[bucket] = 50_000
    found = wanted(placement, hosts, replication, weights)
    heavy = [row[0] for row in found[: 2 * nodes]]
    assert sorted(heavy) == sorted(list(hosts) * 2), "two for each"
    moved = sum(row[0] != to[0] for row, to in zip(placement, found, strict=True))
    assert moved == 2 * nodes - 2


@pytest.mark.parametrize("nodes", [2, 3, 5])
def test_a_node_that_comes_gets_its_share_by_weight(nodes: int) -> None:
    hosts = {node: f"host {node}" for node in range(nodes)}
    placement = initial(hosts)
    hosts[nodes] = "new"
    found = wanted(placement, hosts, 1, [100] * NUM_BUCKETS)
    moved = [to[0] for row, to in zip(placement, found, strict=True) if row != to]
    assert set(moved) == {nodes}
    assert 0.8 * NUM_BUCKETS / (nodes + 1) <= len(moved) <= NUM_BUCKETS / (nodes + 1) + 1


def test_leads_go_rather_to_nodes_that_have_a_copy() -> None:
    placement = [[0, 2], [0, 1], [0, 2], [1, 2], [2, 1]]
    assert leads_by_weight(placement, [0, 1, 2], [10, 10, 10, 9, 10])[1] == 1


def test_without_weights_plans_are_as_by_number() -> None:
    hosts = {node: f"host {node % 2}" for node in range(3)}
    placement = initial(hosts, 2)
    hosts[3] = "host 3"
    assert wanted(placement, hosts, 2, ()) == wanted(placement, hosts, 2)
    assert plan(placement, hosts, 2, ()) == plan(placement, hosts, 2)
