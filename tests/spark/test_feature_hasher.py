"""Columns hashed by a step of its own: what estimators make of them, what pyspark.ml makes of them, and what is kept."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.feature import FeatureHasher as SparkHasher
from pyspark.ml.linalg import SparseVector
from pyspark.sql import Row

from sparkps.mllib.classification import LogisticRegression
from sparkps.mllib.errors import InvalidColumn, InvalidParam
from sparkps.mllib.feature import FeatureHasher

SCHEMA = "town string, day int, open boolean, price double, tags array<string>, note string, label double"
RAW = {"inputCols": ["town", "day", "open", "price", "tags", "note"], "crosses": [("town", "day")], "textCols": ["note"], "ngrams": 2}


@pytest.fixture(scope="module")
def frame(spark):
    rng, rows = np.random.default_rng(4), []
    for i in range(150):
        note = " ".join(rng.choice(["good", "bad", "Very"], rng.integers(0, 4)))
        town = str(rng.choice(["Oslo", "Lima", "Łódź"]))
        tags = [str(each) for each in rng.choice(["x", "y"], rng.integers(0, 3))]
        label = float(rng.random() < (0.8 if town == "Oslo" else 0.3))
        rows.append(Row(town if i % 9 else None, i % 7, i % 2 > 0, i / 7, tags if i % 11 else None, note, label))
    return spark.createDataFrame(rows, SCHEMA).coalesce(1).cache()


def classifier(**params):
    return LogisticRegression(maxIter=8, regParam=1e-3, elasticNetParam=0.2, numWorkers=1, **params)


def learned(model):
    weights = sorted((row.key, row.weight) for row in model.weights.collect())
    return weights, model.intercept, model.summary.objectiveHistory


@pytest.mark.timeout(300)  # the first test of a run: it starts Spark and the tier, and compiles
@pytest.mark.parametrize("features", [0, 1 << 40, 512])
def test_a_model_on_kept_features_is_that_on_raw_columns_bit_for_bit(spark, ps, frame, tmp_path, features):
    hasher = FeatureHasher(outputCol="features", numFeatures=features, outputType="struct", **RAW)
    hasher.transform(frame).select("label", "features").write.parquet(str(tmp_path / "kept"))
    kept = spark.read.parquet(str(tmp_path / "kept"))
    here, there = classifier(numFeatures=features).fit(kept), classifier(numFeatures=features, **RAW).fit(frame)
    assert learned(here) == learned(there)
    assert len(learned(here)[0]) > 20


def test_vectors_have_the_same_features_in_the_order_of_indices(spark, ps, frame):
    as_structs, as_vectors = (
        FeatureHasher(outputCol="features", numFeatures=512, outputType=kind, **RAW).transform(frame) for kind in ("struct", "vector")
    )
    for one, other in zip(as_structs.collect(), as_vectors.collect(), strict=True):
        assert other.features == SparseVector(512, dict(zip(one.features["indices"], one.features["values"], strict=True)))
    assert as_vectors.schema["features"].metadata == {"ml_attr": {"num_attrs": 512}}
    found = classifier().fit(as_vectors).coefficients.toArray()
    np.testing.assert_allclose(found, classifier(numFeatures=512, **RAW).fit(frame).coefficients.toArray(), atol=1e-9)


def test_by_default_features_are_those_of_pyspark(spark, frame):
    given = {"inputCols": ["town", "day", "open", "price"], "outputCol": "features", "categoricalCols": ["day"], "numFeatures": 1 << 12}
    ours, theirs = FeatureHasher(**given).transform(frame), SparkHasher(**given).transform(frame)
    assert [row.features for row in ours.collect()] == [row.features for row in theirs.collect()]
    assert ours.schema["features"].metadata == theirs.schema["features"].metadata


def test_a_pipeline_with_it_is_kept_and_predicts_the_same(spark, ps, frame, tmp_path):
    stages = [FeatureHasher(outputCol="hashed", numFeatures=0, **RAW), classifier(featuresCol="hashed")]
    model = Pipeline(stages=stages).fit(frame)
    model.write().save(str(tmp_path / "m"))
    again = PipelineModel.load(str(tmp_path / "m"))
    assert [list(each) for each in again.stages[0].getCrosses()] == [["town", "day"]]
    expected = [row.probability for row in model.transform(frame).collect()]
    assert [row.probability for row in again.transform(frame).collect()] == expected


def test_a_number_that_is_not_finite_is_left_to_the_estimator(spark, ps, frame):
    rows = [("Oslo", math.inf, 1.0), ("Lima", 2.0, 0.0), ("Oslo", 1.0, 1.0)]
    wrong = spark.createDataFrame(rows, "town string, price double, label double")
    hashed = FeatureHasher(inputCols=["town", "price"], outputCol="features", numFeatures=0).transform(wrong)
    with pytest.raises(ValueError, match="values must be finite"):
        classifier().fit(hashed)
    assert classifier(handleInvalid="skip").fit(hashed).summary.totalIterations > 0


def test_params_that_pyspark_does_not_know_choose_the_estimators_hashes():
    assert FeatureHasher(inputCols=["a"]).getHashing() == "murmur3"
    assert FeatureHasher(inputCols=["a"], ngrams=2).getHashing() == "fields"
    assert FeatureHasher(inputCols=["a"], numFeatures=0).getHashing() == "fields"
    forms = [FeatureHasher(numFeatures=size).getOutputType() for size in (0, 1, (1 << 31) - 1, 1 << 31)]
    assert forms == ["struct", "vector", "vector", "struct"]


@pytest.mark.parametrize(
    ("params", "names"),
    [
        ({"inputCols": []}, "inputCols"),
        ({"hashing": "md5"}, "hashing"),
        ({"outputType": "dense"}, "outputType"),
        ({"hashing": "murmur3", "numFeatures": 0}, "numFeatures"),
        ({"hashing": "murmur3", "ngrams": 2}, "ngrams"),
        ({"hashing": "murmur3", "outputType": "struct"}, "outputType"),
        ({"outputType": "vector", "numFeatures": 1 << 31}, "numFeatures"),
        ({"crosses": [["town"]]}, "crosses"),
    ],
)
def test_params_that_contradict_each_other_are_named(spark, frame, params, names):
    with pytest.raises(InvalidParam, match=f"`{names}`"):
        FeatureHasher(**{"inputCols": ["town"], "outputCol": "features", **params}).transform(frame)


def test_columns_that_cannot_be_hashed_or_written_are_named(spark, frame):
    with pytest.raises(InvalidColumn, match="'nowhere' must exist"):
        FeatureHasher(inputCols=["nowhere"], outputCol="features", hashing="fields").transform(frame)
    with pytest.raises(InvalidColumn, match="`outputCol` must name a new column"):
        FeatureHasher(inputCols=["town"], outputCol="note", hashing="fields").transform(frame)
    with pytest.raises(TypeError, match="no Param 'buckets'"):
        FeatureHasher(buckets=3)
