"""`Simulation`: real clients and nodes, seeded faults, replay by seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sparkps import ASP
from sparkps.config import ClientSettings
from sparkps.errors import DeadlineExceeded, InvalidInput, ShardLost, UnknownTable
from sparkps.testing.simulation import NetworkFaults, SimulatedClient, Simulation
from sparkps.testing.simulation.seams import Sizes

#: In buckets of each node of a small tier.
KEYS = np.arange(40)

BAD = NetworkFaults(drop=0.2, delay=0.1, duplicate=0.1, reorder=0.2, straggle=0.05, partitions=3)


def adds(times: int) -> Any:
    """A program that adds ones, so many times."""

    def program(client: SimulatedClient) -> None:
        table = client.table("w")
        for _ in range(times):
            table.add(KEYS, np.ones((len(KEYS), 1)))
            client.pause(1.0)

    return program


def run(seed: int, faults: NetworkFaults | None = BAD, **more: Any) -> Simulation:
    """Three clients that add, each ten times."""
    patient = ClientSettings(request_timeout=150.0, retry_max=4.0)  # one message in five is lost, six in a row now and then
    with Simulation(seed, 3, faults, traced=True, client=patient, **more) as simulation:
        simulation.sparse_table("w")
        for _ in range(3):
            simulation.start(adds(10))
        simulation.run()
        for one in simulation.running.values():
            one.result()
    return simulation


@pytest.mark.parametrize("seed", range(10))
def test_sums_are_exact_on_a_bad_network(seed):
    assert run(seed).rows("w") == {key: [30.0] for key in KEYS.tolist()}


def test_the_same_seed_is_the_same_run_and_another_is_another():
    first, again, other = run(4).trace, run(4).trace, run(5).trace
    assert first == again
    assert first != other
    assert any("the network is cut" in line for line in first)
    assert any("is lost" in line for line in first)


def test_a_killed_node_takes_its_rows_with_it_and_says_so():
    with Simulation(nodes=2) as simulation:
        simulation.sparse_table("w")
        simulation.call(adds(1))
        simulation.kill_node(1)
        with pytest.raises(ShardLost) as lost:
            simulation.call(adds(1))
        assert lost.value.node == 1
        assert set(simulation.rows("w")) < set(KEYS.tolist())


def test_a_stopped_node_holds_its_clients_up_and_no_longer():
    with Simulation(nodes=2) as simulation:
        simulation.sparse_table("w")
        simulation.stop_node(0)
        simulation.clockwork.after(20.0, simulation.continue_node, 0)
        simulation.call(adds(1))
        assert 20.0 < simulation.now < 40.0
        assert simulation.rows("w") == {key: [1.0] for key in KEYS.tolist()}


@pytest.mark.parametrize("holds", [False, True])
def test_a_client_that_is_cut_off_for_a_time_goes_on_afterwards(holds):
    with Simulation(nodes=2) as simulation:
        simulation.sparse_table("w")
        simulation.start(adds(5), "worker")
        simulation.clockwork.after(1.5, lambda: simulation.partition({"worker"}, seconds=10.0, holds=holds))
        simulation.run()
        simulation.running["worker"].result()
        assert simulation.now > 10.0
        assert simulation.rows("w") == {key: [5.0] for key in KEYS.tolist()}


def test_a_cut_that_nobody_heals_ends_the_call_at_its_deadline():
    with Simulation(nodes=2) as simulation:
        simulation.sparse_table("w")
        simulation.partition({"node 0"})
        with pytest.raises(DeadlineExceeded):
            simulation.call(adds(1))


def test_a_program_that_never_ends_is_named():
    with Simulation(nodes=1) as simulation:
        with pytest.raises(DeadlineExceeded, match="'sleeper' did not"):
            simulation.call(lambda client: client.pause(1e9), "sleeper", patience=10.0)


def test_a_successor_does_what_a_lost_rank_left_and_each_clock_counts_once():
    clocks = 4

    def rank(incarnation: int) -> Any:
        def program(client: SimulatedClient) -> None:
            table = client.table("w")
            clock, _ = client.join(group, 0, incarnation)
            for _ in range(clock, clocks):
                table.add(KEYS, np.ones((len(KEYS), 1)))
                client.session.tick()
            client.session.finish()

        return program

    for messages in range(0, 20, 3):
        with Simulation(seed=messages, nodes=2, faults=NetworkFaults(drop=0.05)) as simulation:
            simulation.sparse_table("w")
            group = simulation.group("g", 1, ASP())
            simulation.lose_at_message("first", messages)
            first = simulation.start(rank(1), "first")
            simulation.run()
            assert first.process.dead
            simulation.call(rank(2), "second")
            assert simulation.rows("w") == {key: [float(clocks)] for key in KEYS.tolist()}


def test_a_client_that_is_killed_has_no_result():
    with Simulation(nodes=1) as simulation:
        simulation.sparse_table("w")
        running = simulation.start(adds(100), "worker")
        simulation.advance(3.0)
        simulation.kill_client("worker")
        simulation.advance(0.0)
        with pytest.raises(InvalidInput, match="was killed"):
            running.result()


def test_a_simulation_is_entered_before_it_is_used():
    with pytest.raises(InvalidInput, match="must be entered"):
        Simulation().sparse_table("w")


#: Every request runs on the nodes' threads.
ON_THREADS = Sizes(inline_bytes=0)


@pytest.mark.parametrize("at", [0.05, 0.1, 0.15, 0.2, 1.2])
def test_the_threads_of_a_killed_node_end_where_they_stand(at):
    with Simulation(seed=3, nodes=2, sizes=ON_THREADS) as simulation:
        simulation.sparse_table("w")
        running = [simulation.start(adds(5)) for _ in range(4)]
        simulation.advance(at)
        simulation.kill_node(0)
        assert not simulation.tier.pools[0].busy
        before = dead_rows(simulation)
        simulation.run()
        assert dead_rows(simulation) == before
        for one in running:
            with pytest.raises(ShardLost):
                one.result()


def dead_rows(simulation: Simulation) -> dict[int, float]:
    """The rows that lie in node 0, dead or not."""
    table: Any = simulation.tier.nodes[0].state.tables.table(simulation.tier.tables["w"].table)
    found: dict[int, float] = {}
    for bucket in range(256):
        if simulation.tier.holder(bucket) == 0:
            found.update(zip(table.keys_of(bucket).tolist(), table.rows_of(bucket)[:, 0].tolist(), strict=True))
    return found


@pytest.mark.parametrize("at", [0.05, 0.1, 0.15, 0.2, 1.2])
def test_the_threads_of_a_stopped_node_go_on_where_they_stood(at):
    with Simulation(seed=3, nodes=2, sizes=ON_THREADS) as simulation:
        simulation.sparse_table("w")
        for _ in range(4):
            simulation.start(adds(5))
        simulation.advance(at)
        simulation.stop_node(0)
        before = dead_rows(simulation)
        simulation.advance(10.0)
        assert dead_rows(simulation) == before
        simulation.continue_node(0)
        simulation.run()
        assert simulation.rows("w") == {key: [20.0] for key in KEYS.tolist()}


@pytest.mark.parametrize("given", [{"drop": -0.1}, {"drop": 2}, {"duplicate": "x"}, {"delay": -1}, {"partitions": 1.5}, {"until": True}])
def test_faults_that_cannot_be_are_refused(given: dict[str, Any]) -> None:
    (name,) = given
    with pytest.raises(InvalidInput, match=f"`{name}` of `NetworkFaults` must be"):
        NetworkFaults(**given)


@pytest.mark.parametrize("given", [{"seed": "x"}, {"nodes": 0}, {"nodes": "2"}, {"replication": 0}, {"faults": "x"}])
def test_a_simulation_of_nothing_is_refused(given: dict[str, Any]) -> None:
    (name,) = given
    with pytest.raises(InvalidInput, match=f"`{name}` must be"):
        Simulation(**given)


def test_a_cut_between_processes_that_are_not_there_is_refused() -> None:
    """A test with a misspelt name would test nothing."""
    with Simulation(nodes=2) as simulation:
        with pytest.raises(InvalidInput, match=r"Got \['nope'\]"):
            simulation.partition({"nope"}, {"node 0"})
        for seconds in (-1, "x"):
            with pytest.raises(InvalidInput, match="must be a number >= 0"):
                simulation.advance(seconds)  # type: ignore[arg-type]
        with pytest.raises(UnknownTable, match="'zz' must exist"):
            simulation.rows("zz")
        with pytest.raises(InvalidInput, match="A node must be one of"):
            simulation.stop_node("a")  # type: ignore[arg-type]
