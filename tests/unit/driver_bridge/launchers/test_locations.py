"""Nodes are spread over hosts, then over executors."""

from __future__ import annotations

import pytest

from sparkps.driver_bridge.launchers.locations import Location, patience, spread


@pytest.mark.parametrize("nodes", range(1, 9))
def test_no_host_and_no_executor_has_two_nodes_more_than_another(nodes: int) -> None:
    candidates = [Location(host, f"{host}{number}", 4) for host, number in (("a", 0), ("a", 1), ("b", 0), ("c", 0), ("c", 1))]
    taken: list[Location] = []
    for _ in range(nodes):
        taken += spread(candidates, taken)
    on_hosts = [sum(place.host == host for place in taken) for host in "abc"]
    assert max(on_hosts) - min(on_hosts) <= 1
    for host in "ac":
        on_executors = [sum(place.executor == f"{host}{number}" for place in taken) for number in (0, 1)]
        assert max(on_executors) - min(on_executors) <= 1


def test_a_host_whose_node_has_gone_gets_the_next_one() -> None:
    candidates = [Location("a"), Location("b")]
    assert spread(candidates, [Location("a", "7")]) == [Location("b")]
    assert spread([], [Location("a")]) == []


def test_locations_are_as_spark_writes_them() -> None:
    assert Location("host", "3").preference == "executor_host_3"
    assert Location("host").preference == "host"


def test_executors_on_their_way_are_waited_for_as_long_as_the_machine_is_slow() -> None:
    assert patience(0.0, [Location("a", since=4.0), Location("b", since=2.0)]) == 5.0
    assert patience(0.0, [Location("a", since=30.0)]) == 47.0
    assert patience(50.0, [Location("a", since=30.0)]) == 32.0, "a clock that was set back"
