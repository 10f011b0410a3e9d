"""Every placement of one fault, or of two, over the messages of small runs of the real client and the real nodes.

A message is lost, comes twice, is overtaken or comes late; a worker dies, or seems to, before one of its messages. A failure names
the script, and how to replay it. `python -m tests.harness.every_fault` goes through all pairs.
"""

from __future__ import annotations

import re
from concurrent.futures import Executor
from typing import Any

import pytest

from sparkps.testing.simulation.fates import Fault
from tests.harness.every_fault import LARGER, SMALL, TINY, Search, run
from tests.harness.scenario import BSP

#: For a machine that has other things to do.
pytestmark = pytest.mark.timeout(300)

FEWER_KINDS = (Fault.LOST, Fault.LATE, Fault.CRASH, Fault.ZOMBIE)


@pytest.mark.parametrize("name", [*TINY, *SMALL, *LARGER])
def test_no_single_fault_breaks_a_promise(pool: Executor, name: str) -> None:
    tally = Search(name, faults=1).run(pool)
    assert tally.runs > 2 * tally.messages


@pytest.mark.parametrize("name", list(TINY))
def test_no_pair_of_faults_breaks_a_promise(pool: Executor, name: str) -> None:
    tally = Search(name, faults=2, kinds=FEWER_KINDS).run(pool)
    assert tally.runs > tally.messages**2 / 2


@pytest.mark.parametrize("name", [name for name, one in SMALL.items() if one.groups[0].staleness == BSP])
def test_requests_that_run_on_the_nodes_threads_keep_every_promise(pool: Executor, name: str) -> None:
    tally = Search(name, faults=1, kinds=FEWER_KINDS, inline_bytes=0).run(pool)
    assert tally.runs > tally.messages


def test_a_run_without_faults_loses_no_message() -> None:
    world = run(LARGER["bsp whole"], {}, traced=True)
    assert world.wires.trace
    assert not any("is lost" in line for line in world.wires.trace)


class Placed:
    """In place of a pool: keeps the scripts that it is given, and runs none."""

    def map(self, _: Any, scripts: Any, chunksize: int) -> list[Any]:
        """As `Executor.map`."""
        self.scripts = list(scripts)
        return []


def test_a_worker_is_lost_before_every_kind_of_its_messages() -> None:
    """Also before it settles, and between its last tick and the word that it was taken; its result lies with that tick."""
    placed: Any = Placed()
    Search("bsp two clocks", faults=1, kinds=(Fault.CRASH,)).run(placed)
    lost = {number for script in placed.scripts for number in script}
    trace = run(SMALL["bsp two clocks"], {}, traced=True).wires.trace or []
    sent = [re.match(r" *[0-9.]+  #(\d+) rank \S+ -> node 0: (?:\(.*?\) )?(\w+)\(.*?(finish=True)?, epoch", line) for line in trace]
    kinds = {(found[2], found[3] is not None) for found in sent if found is not None and int(found[1]) in lost}
    assert kinds >= {("Takeover", False), ("Settle", False), ("Tick", False), ("Tick", True)}
