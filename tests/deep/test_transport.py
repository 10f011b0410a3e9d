"""Rows and gradients that travel in fewer bytes: models learn as well, and what was said is done."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from sparkps.client.tables import SparseTable
from sparkps.mllib.deep import DeepFMClassifier, TorchEstimator
from sparkps.mllib.errors import InvalidParam
from sparkps.nn import Embedding, tables_of
from sparkps.optim import Adagrad, Adam
from tests.harness.deep_models import COLUMNS, SCHEMA, rows_of

MADE = {
    "embeddingDim": 8, "hiddenUnits": [16], "initStd": 0.1, "optimizer": Adam(0.01), "embeddingOptimizer": Adagrad(0.05), "numWorkers": 1,
    "batchSize": 100, "maxIter": 3, "seed": 1, **COLUMNS,
}  # fmt: skip


def test_rows_that_travel_in_fewer_bytes_are_those_of_the_table(ps):
    made = ps.sparse_table("travels", dim=2)
    assert isinstance(made, SparseTable)
    short = made.over("bfloat16")
    short.push([1, 2], [[1.0, 0.5], [0.25, 3.0]])
    assert made.pull([1, 2]).tolist() == [[-1.0, -0.5], [-0.25, -3.0]]
    assert short.pull([2, 1]).tolist() == [[-0.25, -3.0], [-1.0, -0.5]]
    made.drop()


@pytest.fixture(scope="module")
def rows(spark):
    return spark.createDataFrame(rows_of(3000), SCHEMA).coalesce(1).localCheckpoint()


@pytest.fixture(scope="module")
def others(spark):
    frame = spark.createDataFrame(rows_of(6000)[3000:], SCHEMA)
    return frame.coalesce(1).localCheckpoint()


def areas_of(rows, others, **params):
    """Area under the ROC curve of rows that were not trained on, and the model."""
    model = DeepFMClassifier(**MADE, **params).fit(rows)
    scored = model.transform(others).select("label", "probability").collect()
    return roc_auc_score([row.label for row in scored], [row.probability[1] for row in scored]), model


@pytest.fixture(scope="module")
def exact(ps, rows, others):
    return areas_of(rows, others)


@pytest.fixture(scope="module")
def in_bytes(ps, rows, others):
    return areas_of(rows, others, transport="int8")


@pytest.mark.parametrize("transport", ["float16", "bfloat16", "int8"])
def test_models_learn_as_well(ps, rows, others, exact, transport, request):
    area, model = request.getfixturevalue("in_bytes") if transport == "int8" else areas_of(rows, others, transport=transport)
    expected, of_floats = exact
    assert expected > 0.9
    assert area == pytest.approx(expected, abs=0.002)
    for name, held in model.tables.items():
        theirs = of_floats.tables[name]
        assert np.array_equal(np.sort(held.keys), np.sort(theirs.keys))
        assert not np.array_equal(held.rows, theirs.rows), "what travels as it is needs no test"


def test_the_same_fit_again_is_the_same(ps, rows, others, in_bytes):
    _, again = areas_of(rows, others, transport="int8")
    for name, held in in_bytes[1].tables.items():
        assert np.array_equal(held.rows, again.tables[name].rows)


def test_a_table_that_says_how_it_travels_goes_before_the_param(ps, rows):
    class Two(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a = Embedding("a", 4, ["a"], transport="float32")
            self.c = Embedding("c", 4, ["c"])

        def forward(self, batch):
            return (self.a(batch["a"]) * self.c(batch["c"])).sum(1)

    given = {"numWorkers": 1, "batchSize": 500, "seed": 1, "categoricalCols": ["a", "c"], "maxIter": 1}
    fits = {each: TorchEstimator(module=Two(), transport=each, **given).fit(rows) for each in ("float32", "int8")}
    assert {name: table.transport for name, table in tables_of(Two()).items()} == {"a": "float32", "c": None}
    # Rows of "c" come as int8, so that gradients of "a" differ; those of "c" themselves are multiples of a scale.
    assert not np.array_equal(fits["float32"].tables["c"].rows, fits["int8"].tables["c"].rows)


def test_what_there_is_not_is_refused(ps, rows):
    with pytest.raises(InvalidParam, match="`transport`.*float32, float16, bfloat16, int8"):
        DeepFMClassifier(**MADE, transport="bf16").fit(rows)
    with pytest.raises(ValueError, match="The `transport` of embeddings 'a' must be one of float32"):
        Embedding("a", 4, ["a"], transport="half")
    two = torch.nn.ModuleList([Embedding("a", 4, ["a"], transport="int8"), Embedding("a", 4, ["b"])])
    with pytest.raises(ValueError, match="transport"):
        tables_of(two)
