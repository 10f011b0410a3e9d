"""The placement changes while calls of many pieces are under way: a node refuses some pieces, and takes none of a later call first."""

from __future__ import annotations

import re

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


#: In a trace: a piece that the writer sends, with its seq and call; what the node answers to a seq.
_SENT = re.compile(r" writer 0 -> node 0: \(\d+, (\d+), \d+\) Step\(.* call=(\d+)\)")
_ANSWERED = re.compile(r" node 0 -> writer 0: (WrongEpoch|Done)\(seq=(\d+)")


@pytest.mark.parametrize("seed", SEEDS)
def test_no_piece_of_a_later_call_overtakes_a_refused_one(seed: int) -> None:
    faults = Faults(epochs=1, until=0.6, sizes=Sizes(0), chunk_bytes=40)
    trace = Schedule(seed, WRITER, Weather(delay=0.005), faults).run(traced=True).wires.trace
    assert trace is not None
    calls = {int(seq): int(call) for line in trace for seq, call in _SENT.findall(line)}
    answers = {int(seq): answer for line in trace for answer, seq in _ANSWERED.findall(line)}
    taken = [calls[seq] for seq in sorted(calls) if answers[seq] == "Done"]
    assert "WrongEpoch" in answers.values(), "the placement has changed meanwhile"
    assert taken == sorted(taken), "requests begin in the order of their seq: of each call all is taken before the next"
    assert set(taken) == set(calls.values()), "what was refused was taken later"
