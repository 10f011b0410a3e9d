"""Workers and nodes that are killed under SSP, while steps are asked for ahead and rows used again: every update counts once.

The module counts: a row's gradient is -1 for each of its keys' places in a batch, and SGD adds it, so that all sums are exact and known.
"""

from __future__ import annotations

import pathlib
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pyspark.sql import DataFrame, SparkSession
from torch import nn

from sparkps import PSContext
from sparkps.checkpoints.store import CheckpointStore
from sparkps.initializers import Zeros
from sparkps.mllib.deep import TorchEstimator, TorchModel, driver
from sparkps.nn import Batch, Embedding
from sparkps.optim import SGD
from sparkps.testing.processes import kill_node, nodes_up
from tests.harness.held_rank import Held, disturbed_by
from tests.harness.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

#: Rows of a step, a power of two, so that shares of it are exact; of a rank; and epochs.
BATCH, ROWS, EPOCHS = 16, 128, 3

#: A key that all rows have.
EVERYWHERE = 7

STALENESS, PREFETCH, CLOCKS = 6, 2, 2


@pytest.fixture(autouse=True)
def no_leaks() -> None:
    """Nodes that have taken the place of others stay until the tier of this module ends."""


class Counts(nn.Module):
    """Its loss falls by one for each key of a row, and for the row, whatever they have been.

    Of one worker it knows how old rows may be: the key that all rows have was in as many steps as there were.
    """

    def __init__(self, pause: float = 0.0, alone: bool = False) -> None:
        super().__init__()
        self.item = Embedding("item", 1, ["item", "every"], init=Zeros(), optimizer=SGD(1.0))
        self.steps = nn.Parameter(torch.zeros(1))
        self.pause, self.alone = pause, alone

    def forward(self, batch: Batch) -> torch.Tensor:
        """One number for each row."""
        threading.Event().wait(self.pause)
        every = self.item(batch["every"])
        if self.alone and self.training:
            seen, steps = float(every.detach()[0]), float(self.steps.detach())
            assert steps - CLOCKS <= seen <= steps, f"a row must be at most {CLOCKS} steps old, and not of the future: {seen}, {steps}"
        return (self.item(batch["item"]) + every + self.steps).squeeze(1)


def less(output: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """A loss whose gradient is -1."""
    return -output


@pytest.fixture(scope="module")
def ps(spark: SparkSession) -> Iterator[PSContext]:
    """A tier without copies, that gives the ranks of lost workers to others after a second."""
    spark.conf.set("spark.sparkps.leaseTtl", "1s")
    with PSContext(spark, num_nodes=2) as context:
        yield context
    spark.conf.unset("spark.sparkps.leaseTtl")


@pytest.fixture(scope="module")
def rows(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> DataFrame:
    """Two files, one for each of two ranks."""
    path = tmp_path_factory.mktemp("rows")
    draw = np.random.default_rng(1)
    items = (100 + draw.random(2 * ROWS) ** 2 * 40).astype(int).tolist()
    for part in range(2):
        held = {"label": [0.0] * ROWS, "item": items[part::2], "every": [EVERYWHERE] * ROWS}
        pq.write_table(pa.table(held), path / f"{part}.parquet")
    return spark.read.parquet(str(path))


def fitted(rows: DataFrame, *, workers: int, **params: Any) -> TorchModel:
    made = TorchEstimator(
        module=Counts(params.pop("pause", 0.0), workers == 1), loss=less, categoricalCols=["item", "every"], optimizer=SGD(1.0),
        numWorkers=workers, batchSize=BATCH, maxIter=EPOCHS, consistency="ssp", staleness=STALENESS, prefetch=PREFETCH, cacheClocks=CLOCKS,
        **params,
    )  # fmt: skip
    return made.fit(rows)


def assert_counted_once(model: TorchModel, rows: DataFrame) -> None:
    """All gradients of all epochs are in the model, and nothing else."""
    counted = Counter(row.item for row in rows.select("item").collect())
    counted[EVERYWHERE] = rows.count()
    (table,) = model.tables.values()
    assert sorted(table.rows.ravel().tolist()) == sorted(EPOCHS * count / BATCH for count in counted.values())
    assert float(model.module.steps.detach()) == EPOCHS * rows.count() / BATCH
    assert model.cacheHitRate > 0.0


#: A step whose tick is due while the next one computes, and the last one of an epoch.
@pytest.mark.parametrize("clock", [4, ROWS // BATCH])
def test_a_worker_killed_while_a_step_is_due_loses_no_update_and_doubles_none(
    ps: PSContext, rows: DataFrame, monkeypatch: pytest.MonkeyPatch, clock: int
) -> None:
    made = driver.DeepTask
    monkeypatch.setattr(driver, "DeepTask", lambda rank_job: Held(made(rank_job), clock))
    assert_counted_once(disturbed_by(ps, clock, lambda: fitted(rows, workers=2)), rows)
    assert ps.status()["tables"] == []


def test_rows_of_a_state_that_was_rolled_back_are_never_used(
    ps: PSContext, rows: DataFrame, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = CheckpointStore(str(tmp_path / "checkpoints"))
    with ThreadPoolExecutor(1) as pool:
        fit = pool.submit(
            lambda: fitted(rows, workers=1, pause=0.05, checkpointDir=str(tmp_path / "checkpoints"), checkpointInterval=1)
        )
        assert wait_until(lambda: bool(store.ids()) or fit.done(), 120, 0.02)
        assert not fit.done(), "the fit is under way"
        kill_node(ps, nodes_up(ps)[0])
        assert_counted_once(fit.result(timeout=120), rows)
    assert "rolled back to its last checkpoint" in caplog.text
