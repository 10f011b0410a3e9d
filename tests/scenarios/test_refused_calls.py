"""The placement changes while calls of many pieces are under way: a node refuses some pieces, and takes none of a later call first."""

from __future__ import annotations

import pytest

from sparkps.testing.simulation.fates import Weather
from sparkps.testing.simulation.seams import Sizes
from tests.harness.scenario import Group, Scenario
from tests.harness.schedules import Schedule
from tests.harness.world import Faults

#: Seeds in which a piece of a later call overtook a refused one, while a session knew the last of its refusals alone.
SEEDS = (19, 50, 164, 357, 382, 384, 445, 799, 1152, 1182)

#: A driver that writes a dense table in pieces of five elements, each call before the one before it is answered.
WRITER = Scenario(1, (Group(-1, (1,), pushes=1, parts=1, blind=True),), dense=True, writers=1, rounds=1)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_piece_of_a_later_call_overtakes_a_refused_one(seed: int) -> None:
    faults = Faults(epochs=1, until=0.6, sizes=Sizes(0), chunk_bytes=40)
    Schedule(seed, WRITER, Weather(delay=0.005), faults).run()
