"""Embeddings that lie in 16 bits on the nodes: models learn as well, and what was said is done."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from sparkps.mllib.deep import DeepFMClassifier, DeepFMModel
from sparkps.mllib.errors import InvalidParam
from sparkps.nn import Embedding, create_tables, tables_of
from sparkps.optim import Adagrad, Adam
from sparkps.wire.encodings import NAMED, decoded, encoded
from tests.harness.deep_models import COLUMNS, SCHEMA, rows_of

pytestmark = pytest.mark.timeout(240)

MADE = {
    "embeddingDim": 8, "hiddenUnits": [16], "initStd": 0.1, "optimizer": Adam(0.01), "embeddingOptimizer": Adagrad(0.05), "numWorkers": 1,
    "batchSize": 100, "maxIter": 3, "seed": 1, **COLUMNS,
}  # fmt: skip


@pytest.fixture(scope="module")
def rows(spark):
    return spark.createDataFrame(rows_of(3000), SCHEMA).coalesce(1).localCheckpoint()


@pytest.fixture(scope="module")
def others(spark):
    return spark.createDataFrame(rows_of(5000)[3000:], SCHEMA).coalesce(1).localCheckpoint()


def fitted(rows, **params):
    return DeepFMClassifier(**MADE, **params).fit(rows)


@pytest.fixture(scope="module")
def exact(ps, rows):
    return fitted(rows)


@pytest.fixture(scope="module")
def model(ps, rows):
    return fitted(rows, storage="bfloat16")


def scored(model, rows):
    found = model.transform(rows).select("label", "probability").collect()
    return [row.label for row in found], np.array([row.probability[1] for row in found])


def test_models_learn_as_well(exact, model, others):
    area = roc_auc_score(*scored(exact, others))
    assert area > 0.9
    assert roc_auc_score(*scored(model, others)) == pytest.approx(area, abs=0.002)
    for name, held in model.tables.items():
        assert np.array_equal(held.rows, decoded(encoded(held.rows, NAMED["bfloat16"]), NAMED["bfloat16"]))
        assert not np.array_equal(held.rows, exact.tables[name].rows)


def test_the_same_fit_again_is_the_same(ps, rows, model):
    again = fitted(rows, storage="bfloat16")
    for name, held in model.tables.items():
        assert np.array_equal(held.rows, again.tables[name].rows)


def test_a_model_that_is_loaded_knows_how_its_rows_began(model, others, tmp_path):
    model.write().overwrite().save(str(tmp_path / "model"))
    loaded = DeepFMModel.load(str(tmp_path / "model"))
    assert np.array_equal(scored(loaded, others)[1], scored(model, others)[1])
    new = np.arange(-3, 0)
    for name, held in model.tables.items():
        assert held.table.storage == loaded.tables[name].table.storage == "bfloat16"
        assert np.array_equal(loaded.tables[name].look_up(new), held.look_up(new)), "keys that were never learned"


def test_a_table_that_says_how_its_rows_lie_goes_before_the_param(ps):
    two = torch.nn.ModuleList([Embedding("a", 4, ["a"], storage="float16"), Embedding("c", 4, ["c"])])
    assert {name: table.storage for name, table in tables_of(two, "bfloat16").items()} == {"a": "float16", "c": "bfloat16"}
    made = create_tables(ps, tables_of(two).values(), "lie_")
    assert {each["name"]: each["storage"] for each in ps.status()["tables"] if each["name"].startswith("lie_")} == {
        "lie_a": "float16", "lie_c": "float32",
    }  # fmt: skip
    first = made["a"].pull([1, 2])
    assert first.dtype == np.float32
    assert np.array_equal(first, first.astype(np.float16))
    for each in made.values():
        each.drop()


def test_what_there_is_not_is_refused(ps, rows):
    with pytest.raises(InvalidParam, match="`storage`.*float32, float16, bfloat16"):
        fitted(rows, storage="int8")
    with pytest.raises(ValueError, match="The `storage` of embeddings 'a' must be one of float32"):
        Embedding("a", 4, ["a"], storage="half")
    two = torch.nn.ModuleList([Embedding("a", 4, ["a"], storage="float16"), Embedding("a", 4, ["b"])])
    with pytest.raises(ValueError, match="storage"):
        tables_of(two)
