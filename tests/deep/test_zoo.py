"""The zoo on a real tier: every estimator fits, scores, and is saved without a pickle; real data are learned as well as by torch alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from jobs.demo_rows import A9A, a9a_rows
from sparkps.mllib import deep
from sparkps.mllib.deep.examples import read_inputs
from sparkps.mllib.deep.losses import LogLoss
from sparkps.mllib.errors import InvalidColumn, InvalidParam
from sparkps.nn import LocalRows, tables_of, with_plain_embeddings
from sparkps.optim import Adam
from tests.harness.deep_models import A9A_SCHEMA, COLUMNS, SCHEMA, rows_of

FIELDS = ["AFM", "DCNv2", "DLRM", "DeepFM", "MLP", "NFM", "PNN", "WideAndDeep", "XDeepFM"]
SMALL = {
    "embeddingDim": 4, "hiddenUnits": [8], "initStd": 0.1, "optimizer": Adam(0.02), "embeddingOptimizer": Adam(0.02), "numWorkers": 1,
    "batchSize": 25, "maxIter": 12, "seed": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def rows(spark):
    return spark.createDataFrame(rows_of(250), SCHEMA).coalesce(1).localCheckpoint()


def saved_and_loaded(model, path):
    model.save(str(path))
    assert not list(path.rglob("*.pkl"))
    return type(model).load(str(path))


@pytest.mark.parametrize("name", FIELDS)
def test_classifiers_learn_and_are_saved(ps, rows, tmp_path, name):
    model = getattr(deep, f"{name}Classifier")(**SMALL, **COLUMNS).fit(rows)
    assert type(model).__name__ == f"{name}Model"
    assert model.summary.areaUnderROC > 0.9
    loaded = saved_and_loaded(model, tmp_path / "model")
    ours, theirs = (each.transform(rows).orderBy("id").select("probability", "prediction").collect() for each in (model, loaded))
    assert ours == theirs
    assert loaded.getOrDefault("embeddingDim") == 4


@pytest.mark.parametrize("name", FIELDS)
def test_regressors_learn_and_are_saved(ps, rows, tmp_path, name):
    model = getattr(deep, f"{name}Regressor")(**SMALL, **COLUMNS).fit(rows)
    assert model.summary.r2 > 0.4
    loaded = saved_and_loaded(model, tmp_path / "model")
    ours, theirs = (each.transform(rows).orderBy("id").select("prediction").collect() for each in (model, loaded))
    assert ours == theirs


def test_several_classes(spark, ps, rows):
    several = rows.withColumn("label", rows.a % 3)
    model = deep.DeepFMClassifier(numClasses=3, **SMALL, **COLUMNS).fit(several)
    assert model.numClasses == 3
    assert model.summary.accuracy > 0.9
    row = model.transform(several).head()
    assert len(row.probability) == 3
    assert sum(row.probability) == pytest.approx(1.0)
    with pytest.raises(Exception, match="must be 0 or 1"):
        deep.DeepFMClassifier(**SMALL, **COLUMNS).fit(several)


@pytest.mark.parametrize("name", ["MMoE", "PLE"])
def test_several_tasks(ps, rows, tmp_path, name):
    from pyspark.sql import functions as sf

    both = rows.withColumn("other", (rows.a > 5).cast("double"))
    given = {**SMALL, "maxIter": 25, "towerUnits": [4], "numExperts": 2}
    model = getattr(deep, f"{name}Classifier")(labelCols=["label", "other"], **given, **COLUMNS).fit(both)
    scored = model.transform(both)
    for place, label in enumerate(["label", "other"]):
        found = [(row.probability[place], row[label]) for row in scored.select("probability", label).collect()]
        assert roc_auc_score([y for _, y in found], [p for p, _ in found]) > 0.9
    with pytest.raises(NotImplementedError, match=f"{name}Model has no `evaluate`: its 2 tasks .* metrics of each task"):
        model.evaluate(both)
    assert set(model.summary._plots()) == {"loss", "seconds"}
    loaded = saved_and_loaded(model, tmp_path / "model")
    assert loaded.transform(both).select(sf.sum("prediction")).head() == scored.select(sf.sum("prediction")).head()
    with pytest.raises(InvalidParam, match="labelCols"):
        getattr(deep, f"{name}Classifier")(**SMALL, **COLUMNS).fit(rows)


def test_history_of_items(spark, ps, tmp_path):
    rng = np.random.default_rng(0)
    data = []
    for _ in range(400):
        liked = int(rng.integers(0, 2))
        history = [f"i{int(each)}" for each in rng.integers(0, 10, 4) * 2 + liked]
        item = int(rng.integers(0, 20))
        data.append((float(item % 2 == liked), f"i{item}", history))
    frame = spark.createDataFrame(data, "label double, item string, seen array<string>").coalesce(1)
    made = deep.DINClassifier(categoricalCols=["item", "seen"], targetCol="item", historyCol="seen", **{**SMALL, "maxIter": 25})
    model = made.fit(frame)
    assert model.summary.areaUnderROC > 0.95
    assert model.tables["items"].keys.shape == (20,)  # an item and the same one in a history are one row
    assert saved_and_loaded(model, tmp_path / "model").transform(frame).count() == 400
    with pytest.raises(InvalidParam, match="historyCol"):
        deep.DINClassifier(categoricalCols=["item", "seen"], targetCol="item", historyCol="bought").fit(frame)
    with pytest.raises(InvalidParam, match="arrays of what the `targetCol` holds"):
        deep.DINClassifier(categoricalCols=["item", "seen"], targetCol="seen", historyCol="item").fit(frame)
    numbers = frame.withColumn("item", frame.item.substr(2, 9).cast("int"))
    with pytest.raises(InvalidParam, match="integer values"):
        deep.DINClassifier(categoricalCols=["item", "seen"], targetCol="item", historyCol="seen").fit(numbers)


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"embeddingDim": 0}, "embeddingDim"),
        ({"hiddenUnits": []}, "hiddenUnits"),
        ({"hiddenUnits": [0]}, "hiddenUnits"),
        ({"dropout": 1.0}, "dropout"),
        ({"initStd": -1.0}, "initStd"),
        ({"numClasses": 1}, "numClasses"),
    ],
)
def test_wrong_params_are_refused_by_name(ps, rows, params, named):
    with pytest.raises(InvalidParam, match=f"`{named}`"):
        deep.DeepFMClassifier(**{**SMALL, **COLUMNS, **params}).fit(rows)


def test_columns_that_an_architecture_cannot_do_with_are_refused(ps, rows):
    with pytest.raises(InvalidParam, match="two columns of categories"):
        deep.DLRMClassifier(**SMALL, categoricalCols=["a"]).fit(rows)
    with pytest.raises(InvalidColumn, match="'a' twice"):
        deep.DeepFMClassifier(**SMALL, categoricalCols=["a", "a"]).fit(rows)


def test_there_must_be_columns(ps, rows):
    with pytest.raises(Exception, match="'features' must exist"):
        deep.DeepFMClassifier(**SMALL).fit(rows)


# ---- real data ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def a9a(spark, shared_data):
    frames = (spark.createDataFrame(a9a_rows(shared_data / f"a9a.{part}.libsvm"), A9A_SCHEMA).coalesce(1) for part in ("train", "test"))
    return [frame.localCheckpoint() for frame in frames]


#: As they were found to be good for all of them; the data are of 1994, and every model comes to the same.
REAL = {
    "embeddingDim": 8, "hiddenUnits": [64, 32], "dropout": 0.3, "optimizer": Adam(1e-3), "embeddingOptimizer": Adam(1e-3),
    "batchSize": 256, "maxIter": 6, "categoricalCols": list(A9A), "seed": 0,
}  # fmt: skip


def alone(frame, test, made):
    """Area under the ROC curve, on rows `test`, of the same module trained wholly in one torch process."""
    job = made._job(frame)
    columns = job.columns.resolved(frame)
    parts = []
    for each in (frame, test):
        (batch,) = columns.selected(each).toArrow().combine_chunks().to_batches()
        parts.append((read_inputs(columns.inputs, batch.columns[1:]), batch.column(0).to_numpy()))
    (rows, labels), (aside, theirs) = parts
    module = made._made_module(columns.inputs)
    keys = np.unique(rows.categories.keys[rows.categories.keys >= 0])
    source = LocalRows(module)
    plain = with_plain_embeddings(module, {name: (keys, source.pull({name: keys})[name]) for name in tables_of(module)})
    optimizer, draw = torch.optim.Adam(plain.parameters(), lr=1e-3), np.random.default_rng(0)
    torch.manual_seed(0)
    for _ in range(REAL["maxIter"]):
        plain.train()
        order = draw.permutation(len(labels))
        for start in range(0, len(order), REAL["batchSize"]):
            taken = order[start : start + REAL["batchSize"]]
            loss = LogLoss().of_rows(plain(rows.take(taken).batch()), torch.from_numpy(labels[taken, None]).float()).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    plain.eval()
    with torch.no_grad():
        return roc_auc_score(theirs, plain(aside.batch()).squeeze(1).numpy())


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", ["DeepFM", "WideAndDeep", "NFM", "PNN"])
def test_adult_data_are_learned_as_well_as_by_torch_alone(ps, a9a, name):
    train, test = a9a
    made = getattr(deep, f"{name}Classifier")(numWorkers=1, **REAL)
    evaluated = made.fit(train).evaluate(test)
    assert evaluated.areaUnderROC >= alone(train, test, made) - 0.001
    assert evaluated.areaUnderROC > 0.9025  # logistic regression's
    losses = [-math.log(row.probability[int(row.label)]) for row in evaluated.predictions.select("label", "probability").collect()]
    assert np.mean(losses) < 0.325
