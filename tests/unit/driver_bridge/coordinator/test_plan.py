"""Plans: no bucket without its copies, no lead without data, everything even, as little moved as possible."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from sparkps.driver_bridge.coordinator.plan import RowChange, initial, plan, promote, quotas, wanted
from sparkps.errors import ConfigError
from sparkps.specs import NUM_BUCKETS
from sparkps.wire.placement import Placement, check_placement

HOSTS = st.dictionaries(st.integers(0, 500), st.sampled_from(["a", "b", "c", "d", "e"]), min_size=1, max_size=12)
repeatably = settings(max_examples=60, phases=[Phase.explicit, Phase.generate], deadline=None, derandomize=True)


def leads(placement: Placement) -> Counter[int]:
    """Buckets that each node leads."""
    return Counter(row[0] for row in placement)


def copies(placement: Placement) -> Counter[int]:
    """Copies that each node holds."""
    return Counter(node for row in placement for node in row)


def assert_even(found: Counter[int], hosts: dict[int, str], total: int, slack: int = 0) -> None:
    counts = [found[node] for node in hosts]
    assert sum(counts) == total
    assert min(counts) >= total // len(hosts) - slack
    assert max(counts) <= -(-total // len(hosts)) + slack


def assert_wanted(placement: Placement, hosts: dict[int, str], replication: int) -> None:
    """Everything that a wanted placement is, but how near it is to the one before."""
    check_placement(placement, hosts)
    each = min(replication, len(hosts))
    assert {len(row) for row in placement} == {each}
    assert_even(leads(placement), hosts, NUM_BUCKETS)
    apart = min(each, len(set(hosts.values())))
    assert all(len({hosts[node] for node in row}) == apart for row in placement), "on different hosts as far as there are any"


def carried_out(placement: Placement, changes: list[RowChange]) -> Placement:
    """The placement after a plan; every lead has its data when it is given."""
    rows = [list(row) for row in placement]
    for change in changes:
        row = rows[change.bucket]
        assert not set(change.add) & set(row)
        with_copies = {*row, *change.add}
        assert set(change.row) <= with_copies
        assert set(change.drop) == with_copies - set(change.row)
        rows[change.bucket] = list(change.row)
    assert len({change.bucket for change in changes}) == len(changes)
    return rows


@repeatably
@given(HOSTS, st.integers(1, 3))
def test_a_new_tier_is_as_wanted(hosts: dict[int, str], replication: int) -> None:
    if replication > len(hosts):
        with pytest.raises(ConfigError, match=r"`replication` must be between 1 and the number of nodes"):
            initial(hosts, replication)
        return
    placement = initial(hosts, replication)
    assert_wanted(placement, hosts, replication)
    assert placement == initial(dict(reversed(hosts.items())), replication), "the order of the nodes does not matter"
    assert plan(placement, hosts, replication) == [], "and nothing is to be done"


@repeatably
@given(
    HOSTS,
    st.integers(1, 3),
    st.lists(st.tuples(st.sampled_from(["lose", "drain", "join"]), st.integers(0, 100), st.sampled_from("abcde")), max_size=8),
)
def test_whatever_goes_and_comes_a_plan_restores_what_is_wanted(
    hosts: dict[int, str], replication: int, events: list[tuple[str, int, str]]
) -> None:
    hosts, newest = dict(hosts), 1000
    placement = initial(hosts, min(replication, len(hosts)))
    for event, which, host in events:
        node = sorted(hosts)[which % len(hosts)]
        if event == "join":
            newest += 1
            hosts[newest] = host
        elif len(hosts) == 1:
            continue
        elif event == "drain":
            del hosts[node]
        else:
            del hosts[node]
            promoted = promote(placement, [node])
            assert all(placement[bucket] == [node] for bucket in promoted.lost)
            if promoted.lost:
                return
            placement = promoted.placement
        after = carried_out(placement, plan(placement, hosts, replication))
        assert after == wanted(placement, hosts, replication)
        assert_wanted(after, hosts, replication)
        placement = after


@repeatably
@given(st.integers(1, 12), st.sets(st.integers(0, 11), max_size=4), st.integers(0, 4))
def test_leads_move_as_little_as_balance_allows(nodes: int, leaving: set[int], joining: int) -> None:
    before = {node: f"host {node}" for node in range(nodes)}
    after = {node: host for node, host in before.items() if node not in leaving} | {100 + n: f"new host {n}" for n in range(joining)}
    if not after:
        return
    placement = initial(before)
    new = wanted(placement, after, 1)
    quota = sorted(quotas(Counter({node: leads(placement)[node] for node in after}), NUM_BUCKETS).values(), reverse=True)
    held = sorted((leads(placement)[node] for node in after), reverse=True)
    least = NUM_BUCKETS - sum(min(pair) for pair in zip(held, quota, strict=True))
    assert sum(row != to for row, to in zip(placement, new, strict=True)) == least


@pytest.mark.parametrize("nodes", [3, 4, 8, 16])
@pytest.mark.parametrize("replication", [2, 3])
def test_after_a_loss_nobody_leads_without_data_and_only_what_is_lost_is_copied(nodes: int, replication: int) -> None:
    hosts = {node: f"host {node}" for node in range(nodes)}
    placement = initial(hosts, replication)
    held = copies(placement)[1]
    del hosts[1]
    promoted = promote(placement, [1])
    assert not promoted.lost
    changes = plan(promoted.placement, hosts, replication)
    assert all(change.row[0] in promoted.placement[change.bucket] for change in changes), "leads go along copies that are there"
    assert sum(len(change.add) for change in changes) <= held + 2


@pytest.mark.parametrize("nodes", [4, 8, 16])
@pytest.mark.parametrize("replication", [2, 3])
def test_the_load_of_a_node_is_spread_over_all_others(nodes: int, replication: int) -> None:
    placement = initial({node: f"host {node}" for node in range(nodes)}, replication)
    pairs = Counter((row[0], node) for row in placement for node in row[1:])
    fair = NUM_BUCKETS * (replication - 1) / (nodes * (nodes - 1))
    assert max(pairs.values()) <= fair + 2.5
    assert len(pairs) == nodes * (nodes - 1)
    for gone in range(nodes):
        most = max(leads(promote(placement, [gone]).placement).values())
        assert most <= NUM_BUCKETS / nodes + NUM_BUCKETS / nodes / (nodes - 1) + 3, "no neighbour has to take all of it"


@pytest.mark.parametrize("replication", [1, 2, 3])
@pytest.mark.parametrize("nodes", [3, 4, 8])
def test_a_node_that_comes_gets_its_share_and_no_more_moves(nodes: int, replication: int) -> None:
    hosts = {node: f"host {node}" for node in range(nodes)}
    placement = initial(hosts, replication)
    hosts[nodes] = "new host"
    changes = plan(placement, hosts, replication)
    copied = Counter(node for change in changes for node in change.add)
    assert copied[nodes] >= NUM_BUCKETS * replication // (nodes + 1) - 1
    assert sum(copied.values()) <= 1.08 * NUM_BUCKETS * replication / (nodes + 1) + 3
    assert_even(copies(carried_out(placement, changes)), hosts, NUM_BUCKETS * replication, slack=1)


def test_copies_move_to_another_host_as_soon_as_there_is_one() -> None:
    placement = initial({0: "a", 1: "a"}, 2)
    hosts = {0: "a", 1: "a", 2: "b"}
    assert_wanted(carried_out(placement, plan(placement, hosts, 2)), hosts, 2)


def test_what_has_the_fewest_copies_comes_first() -> None:
    placement: Placement = [[0, 1, 2] for _ in range(NUM_BUCKETS)]
    placement[200], placement[100] = [0], [1, 0]
    changes = plan(placement, {node: f"host {node}" for node in range(4)}, 3)
    assert [change.bucket for change in changes[:2]] == [200, 100]


def test_more_nodes_than_buckets_leaves_some_without() -> None:
    hosts = dict.fromkeys(range(300), "a")
    placement = initial(hosts)
    assert set(leads(placement).values()) == {1}
    assert plan(placement, hosts, 1) == []


def test_arguments_are_not_changed() -> None:
    hosts = {0: "a", 1: "b", 2: "c"}
    placement = initial(hosts, 2)
    before = [list(row) for row in placement]
    promote(placement, [0])
    plan(placement, {1: "b", 2: "c", 3: "d"}, 2)
    assert placement == before


def test_a_bucket_without_any_copy_keeps_its_row_and_is_named() -> None:
    placement: Placement = [[0] if bucket == 7 else [0, 1] for bucket in range(NUM_BUCKETS)]
    found = promote(placement, [0])
    assert found.lost == [7]
    assert found.placement[7] == [0]
    assert found.placement[8] == [1]


def test_no_node_is_left() -> None:
    with pytest.raises(ConfigError, match="must remain"):
        plan(initial({0: "a"}), {}, 1)
