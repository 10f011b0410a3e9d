"""On a cluster whose settings stay as the user has them: speculative copies, retried tasks and lost executors change no result."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.harness.processes import DriverProgram
from tests.harness.standalone import StandaloneCluster

#: Four JVMs start in the first test.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

CLOCKS = 12

#: Runs one training after the other, as the test asks for them, and says what became of each.
PROGRAM = """
import dataclasses, time
from sparkps import ASP, BSP, SSP, PSContext
from tests.harness.faulty_training import Fault, drawn, trained
with PSContext(spark, num_nodes=2) as ps:
    rows = {"range": spark.range(0, 1000, 1, 2), "shuffled": spark.range(0, 1000, 1, 2).repartition(3)}
    say(ready=True)
    for line in sys.stdin:
        asked = json.loads(line)
        faults = [Fault(*fault) for fault in asked["faults"]] or drawn(asked["seed"], asked["kinds"], 2, asked["clocks"])
        how = {"bsp": BSP(), "ssp": SSP(2), "asp": ASP()}[asked["consistency"]]
        began, copies = time.monotonic(), speculative_tasks()
        try:
            options = {"clocks": asked["clocks"], "consistency": how, "deterministic": asked["rows"] == "shuffled"}
            made = trained(ps, rows[asked["rows"]], asked["directory"], faults, **options)
            say(seconds=time.monotonic() - began, copies=speculative_tasks() - copies, **dataclasses.asdict(made))
        except Exception as error:
            say(error=f"{type(error).__name__}: {error}")
"""


class Driver:
    """A driver program on the cluster."""

    def __init__(self, program: DriverProgram, directory: pathlib.Path) -> None:
        self._program = program
        self._directory = directory
        self._runs = 0
        #: What a run without faults leaves, by rows.
        self._undisturbed: dict[str, dict[str, Any]] = {}

    def train(
        self, consistency: str = "bsp", rows: str = "range", faults: Any = (), kinds: Any = (), seed: int = 0
    ) -> dict[str, Any]:
        """What became of a training, in which nothing was lost."""
        self._runs += 1
        asked = {
            "consistency": consistency,
            "rows": rows,
            "faults": list(faults),
            "kinds": list(kinds),
            "seed": seed,
            "clocks": CLOCKS,
            "directory": str(self._directory / f"run{self._runs}"),
        }
        stdin = self._program.process.stdin
        assert stdin is not None
        stdin.write(json.dumps(asked) + "\n")
        stdin.flush()
        told = self._program.hear(110)
        assert "error" not in told, told["error"] + self._program.errors[-3000:]
        assert told["counts"] == [1.0] * 2 * CLOCKS, "each clock of each rank counts once"
        assert [result[:1] + result[2:] for result in told["results"]] == self.states
        return told

    @property
    def states(self) -> list[Any]:
        """Clocks and next random number of both ranks, as they end in any run."""
        ends = []
        for rank in range(2):
            rng = np.random.default_rng(rank)
            for _ in range(2 * CLOCKS):
                rng.choice([1e16, 1.0, -1e16, 0.1], (50, 1))
            ends.append([CLOCKS, str(rng.random())])
        return ends

    def undisturbed(self, rows: str = "range") -> dict[str, Any]:
        """What a run in BSP without faults leaves."""
        if rows not in self._undisturbed:
            self._undisturbed[rows] = self.train(rows=rows)
        return self._undisturbed[rows]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """A driver program, its tier, and two executors on two hosts."""
    directory = tmp_path_factory.mktemp("standalone")
    with StandaloneCluster(directory) as cluster, DriverProgram(cluster.session() + PROGRAM) as program:
        assert program.hear(60) == {"ready": True}
        yield Driver(program, directory)
        assert program.process.stdin is not None
        program.process.stdin.close()
        program.wait(30)


def test_speculative_copies_change_no_bit_of_a_bsp_result(driver: Driver) -> None:
    slow = driver.train(faults=[(1, 4, "slow", 4.0)])
    assert slow["copies"] > 0
    assert slow["sums"] == driver.undisturbed()["sums"]


def test_speculative_copy_takes_over_from_a_worker_that_has_stopped(driver: Driver) -> None:
    stopped = driver.train(faults=[(1, 5, "stop", 0.01)])
    assert stopped["sums"] == driver.undisturbed()["sums"]
    assert (stopped["fired"], stopped["copies"] > 0) == (1, True)


def test_killed_workers_change_no_bit_of_a_bsp_result(driver: Driver) -> None:
    killed = driver.train(kinds=["python", "python"], seed=1)
    assert killed["sums"] == driver.undisturbed()["sums"]
    assert killed["fired"] == 2


def test_killed_executors_change_no_bit_of_a_bsp_result(driver: Driver) -> None:
    killed = driver.train(kinds=["jvm", "python"], seed=3)
    assert killed["sums"] == driver.undisturbed()["sums"]
    assert killed["fired"] == 2


@pytest.mark.parametrize("consistency", ["ssp", "asp"])
def test_pushes_of_killed_workers_and_executors_count_once(driver: Driver, consistency: str) -> None:
    assert driver.train(consistency, kinds=["python", "jvm"], seed=4)["fired"] == 2


def test_executor_lost_while_the_rows_come_from_a_shuffle_changes_no_bit(driver: Driver) -> None:
    killed = driver.train(rows="shuffled", kinds=["jvm"], seed=5)
    assert killed["staged"]
    assert killed["sums"] == driver.undisturbed("shuffled")["sums"]
    assert killed["fired"] == 1
