"""Rows that do not fit in a worker's memory are read from a file, batch by batch."""

from __future__ import annotations

import pytest
import torch

from sparkps import PSContext
from sparkps.mllib.deep import TorchEstimator
from sparkps.optim import SGD
from tests.harness.deep_models import COLUMNS, SCHEMA, Net, rows_of

ROWS = 1000


def fitted(spark, frame):
    torch.manual_seed(5)
    made = TorchEstimator(
        module=Net(), optimizer=SGD(0.1), numWorkers=1, batchSize=5 * ROWS, maxIter=2, validationIndicatorCol="aside", **COLUMNS
    )
    with PSContext(spark, num_nodes=1):
        return made.fit(frame).summary


@pytest.mark.timeout(240)
def test_rows_beyond_the_budget_are_read_from_a_file(spark):
    rows = spark.createDataFrame(rows_of(ROWS), SCHEMA).coalesce(1).localCheckpoint()
    plain = fitted(spark, rows)
    spark.conf.set("spark.sparkps.workerMemoryBudget", str(1 << 16))
    try:
        spilled = fitted(spark, rows.union(rows).union(rows).coalesce(1))
    finally:
        spark.conf.unset("spark.sparkps.workerMemoryBudget")
    assert (spilled.rows, spilled.validationRows) == (3 * plain.rows, 3 * plain.validationRows)
    # The means over three times the same rows are the same.
    assert spilled.objectiveHistory == pytest.approx(plain.objectiveHistory, rel=1e-5)
    assert spilled.validationHistory == pytest.approx(plain.validationHistory, rel=1e-5)
