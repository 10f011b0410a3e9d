"""FFMClassifier: fields tell apart what plain factorization machines mix."""

from __future__ import annotations

import numpy as np
import pytest
from pyspark.ml.evaluation import BinaryClassificationEvaluator
from pyspark.ml.linalg import Vectors

from sparkps.errors import InvalidInput
from sparkps.mllib.classification import FFMClassificationModel, FFMClassifier
from sparkps.mllib.scoring import load_model

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def rows(spark):
    """One feature of each of three fields; the label is whether those of the first two are of one kind."""
    rng = np.random.default_rng(0)
    data = []
    for _ in range(600):
        a, b, c = (int(each) for each in rng.integers(0, 6, 3))
        data.append((float(a % 3 == b % 3), Vectors.sparse(18, [a, 6 + b, 12 + c], [1.0, 1.0, 1.0])))
    return spark.createDataFrame(data, ["label", "features"]).coalesce(2).cache()


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"solver": "adam", "stepSize": 0.05, "consistency": "asp"},
        {"normalizeRows": True, "stepSize": 0.5},
        {"solver": "momentum"},
    ],
)
def test_a_field_aware_machine_learns_pairs(rows, ps, tmp_path, params):
    given = {"stepSize": 0.2, "maxIter": 40, "batchSize": 30, "initStd": 0.3, "seed": 1, **params}
    model = FFMClassifier(fieldStarts=[0, 6, 12], **given).fit(rows)
    assert BinaryClassificationEvaluator().evaluate(model.transform(rows)) > 0.97
    assert model.factors.toArray().shape == (18, 12)
    model.save(str(tmp_path / "model"))
    loaded = FFMClassificationModel.load(str(tmp_path / "model"))
    assert loaded.transform(rows).select("probability").collect() == model.transform(rows).select("probability").collect()


@pytest.mark.parametrize("wrong", [{"solver": "online"}, {"solver": "momentum", "momentum": 1.0}])
def test_solvers_are_those_that_push_gradients(rows, ps, wrong):
    with pytest.raises(InvalidInput, match=r"must be (one of sgd, momentum, adagrad, adam, ftrl|a float in \[0, 1\))"):
        FFMClassifier(fieldStarts=[0, 6, 12], **wrong).fit(rows)


def test_raw_columns_are_fields(spark, ps, tmp_path):
    rng = np.random.default_rng(3)
    drawn = rng.integers(0, 6, (600, 3)).tolist()
    data = [(float(a % 3 == b % 3), f"a{a}", b, [f"c{c}", "all"] if i % 7 else None) for i, (a, b, c) in enumerate(drawn)]
    rows = spark.createDataFrame(data, "label double, site string, hour int, tags array<string>").coalesce(2).cache()
    ffm = FFMClassifier(
        inputCols=["site", "hour"], crosses=[["hour", "tags"]], stepSize=0.2, maxIter=25, batchSize=30, initStd=0.3,
        factorSize=3, seed=1, numWorkers=2,
    )  # fmt: skip
    model = ffm.fit(rows)
    assert BinaryClassificationEvaluator().evaluate(model.transform(rows)) > 0.97
    assert model.coefficients_.dim == 1 + 3 * 3
    model.save(str(tmp_path / "model"))
    loaded, found = FFMClassificationModel.load(str(tmp_path / "model")), model.transform(rows).select("probability").collect()
    assert loaded.transform(rows.select("tags", "hour", "site")).select("probability").collect() == found
    alone = load_model(tmp_path / "model").predict_proba(rows.toArrow())
    np.testing.assert_allclose(alone[:, 1], [row.probability[1] for row in found], rtol=1e-9)
    with pytest.raises(InvalidInput, match="must be given rows of these"):
        model.predict(Vectors.dense([1.0, 2.0]))


def test_fields_are_said_once(rows, ps):
    with pytest.raises(InvalidInput, match="must not be set with `inputCols`"):
        FFMClassifier(fieldStarts=[0], inputCols=["label"]).fit(rows)
    with pytest.raises(InvalidInput, match="a feature of two columns would be of two fields"):
        FFMClassifier(inputCols=["label"], numFeatures=64).fit(rows)


@pytest.mark.parametrize("starts", [None, [1, 3], [0, 3, 3]])
def test_fields_must_be_said(rows, ps, starts):
    with pytest.raises(InvalidInput, match="fieldStarts"):
        FFMClassifier(fieldStarts=starts).fit(rows)
