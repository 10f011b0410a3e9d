"""Thousands of random schedules over a network that delays, repeats and loses messages, with workers killed or lingering.

What is asserted is what `test_all_schedules` asserts; the groups are larger, and messages also come late, twice or never.
"""

from __future__ import annotations

import random

import pytest

from sparkps.specs import UNBOUNDED
from tests.harness.network import Faults, Simulation
from tests.harness.simulation import Scenario

#: Schedules of each batch; a batch has one staleness.
SCHEDULES = 250


def drawn_scenario(rng: random.Random, staleness: int) -> Scenario:
    """A group of 1 to 4 ranks with 1 to 4 clocks each, on 1 to 3 nodes with 1 to 3 buckets each."""
    ranks, nodes = rng.randint(1, 4), rng.randint(1, 3)
    clocks = tuple(rng.randint(1, 4) for _ in range(ranks))
    buckets = iter(range(256))
    held = tuple(tuple(next(buckets) for _ in range(rng.randint(1, 3))) for _ in range(nodes))
    return Scenario(staleness, clocks, held, tuple(rng.random() < 0.5 for _ in range(ranks)))


@pytest.mark.parametrize("batch", range(3))
@pytest.mark.parametrize("staleness", [0, 1, 3, UNBOUNDED], ids=["bsp", "ssp1", "ssp3", "asp"])
def test_random_schedules_keep_every_promise(staleness: int, batch: int) -> None:
    rng = random.Random(f"{staleness} {batch}")
    for number in range(SCHEDULES):
        seed = rng.getrandbits(48)
        faults = Faults(
            loss=rng.choice([0.0, 0.1, 0.3]), crashes=rng.randint(0, 4), crash_until=rng.choice([10.0, 40.0, 90.0])
        )
        simulation = Simulation(drawn_scenario(rng, staleness), faults, seed)
        try:
            simulation.run()
        except AssertionError as error:
            pytest.fail(
                f"schedule {number} of batch {batch}, seed {seed}, {simulation.world.scenario}, {faults}: {error}"
            )
        bound = staleness if staleness != UNBOUNDED else max(simulation.world.scenario.clocks)
        assert all(most <= bound for server in simulation.world.servers for most in server.clock.max_staleness)


def test_one_seed_is_one_schedule() -> None:
    def final_values() -> list[dict[int, float]]:
        simulation = Simulation(Scenario(0, (3, 3), ((0, 1), (2,)), (True, False)), Faults(), seed=11)
        simulation.run()
        return [server.values for server in simulation.world.servers]

    assert final_values() == final_values()
