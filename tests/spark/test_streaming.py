"""FTRLClassifier on real streaming queries from files: each batch is learned once, whatever is started again."""

from __future__ import annotations

import numpy as np
import pytest
from pyspark.sql import functions as sf

from sparkps.errors import CheckpointError
from sparkps.mllib.classification import FTRLClassificationModel, FTRLClassifier, LogisticRegressionModel

SCHEMA = "label double, features array<double>"


def rows_of(spark, seed, count=200):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 4))
    y = rng.random(count) < 1 / (1 + np.exp(-x @ [2.0, -1.0, 0.5, 0.0]))
    return spark.createDataFrame([(float(a), b.tolist()) for a, b in zip(y, x, strict=True)], SCHEMA).coalesce(1)


@pytest.fixture
def place(tmp_path):
    for name in ("rows", "query", "model", "exports"):
        (tmp_path / name).mkdir()
    return tmp_path


def arrive(spark, place, seed):
    """One more file of rows: one more batch."""
    rows_of(spark, seed).write.mode("append").parquet(str(place / "rows"))


def run(spark, place, learner):
    """A query over all files that are there, to its end."""
    stream = spark.readStream.schema(SCHEMA).option("maxFilesPerTrigger", 1).parquet(str(place / "rows"))
    query = stream.writeStream.foreachBatch(learner).option("checkpointLocation", str(place / "query")).trigger(availableNow=True).start()
    assert query.awaitTermination(100)


def learner_at(place, **params):
    return FTRLClassifier(stepSize=0.5, numWorkers=2, batchSize=50, deterministic=True, **params).learner(str(place / "model"))


def weights(model):
    return [*model.coefficients.toArray(), model.intercept]


def learned_once(spark, ps, seeds):
    """What one learner knows after these batches, one after the other, without a query."""
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        learner = FTRLClassifier(stepSize=0.5, numWorkers=2, batchSize=50, deterministic=True).learner(directory)
        for epoch, seed in enumerate(seeds):
            learner(rows_of(spark, seed), epoch)
        return weights(learner.model)


@pytest.mark.timeout(300)
def test_a_query_that_is_started_again_goes_on_and_learns_each_batch_once(spark, ps, place):
    for seed in (1, 2):
        arrive(spark, place, seed)
    first = learner_at(place)
    run(spark, place, first)
    assert first.rows == 400
    arrive(spark, place, 3)
    again = learner_at(place)  # as a new driver would
    np.testing.assert_array_equal(weights(again.model), weights(first.model))
    run(spark, place, again)
    assert again.rows == 600
    assert list(again.epochs.values()) == [2]
    np.testing.assert_allclose(weights(again.model), learned_once(spark, ps, [1, 2, 3]), rtol=1e-6)
    assert again.model.coefficients[0] > 0.5 > -0.3 > again.model.coefficients[1]


def test_a_batch_that_comes_again_is_left_out(spark, ps, place):
    learner = learner_at(place)
    learner(rows_of(spark, 1), 0)
    before = weights(learner.model)
    learner(rows_of(spark, 1), 0)
    learner_at(place)(rows_of(spark, 1), 0)
    assert weights(learner.model) == before
    assert learner.rows == 200


def test_a_batch_that_failed_halfway_is_taken_back(spark, ps, place, monkeypatch):
    other = ps.sparse_table("others", dim=1)
    learner = learner_at(place)
    learner(rows_of(spark, 1), 0)
    other.add(np.array([5]), np.array([[7.0]], np.float32))
    with monkeypatch.context() as patched:
        patched.setattr("sparkps.mllib.streaming.commits.CommitLog.write", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            learner(rows_of(spark, 2), 1)
    assert learner.rows == 200
    learner(rows_of(spark, 2), 1)
    np.testing.assert_allclose(weights(learner.model), learned_once(spark, ps, [1, 2]), rtol=1e-6)
    assert other.pull(np.array([5])).tolist() == [[7.0]]  # what others wrote since stays
    other.drop()


def test_a_stream_is_scored_by_what_was_learned_last(spark, ps, place):
    learner = learner_at(place)
    learner(rows_of(spark, 1), 0)
    scored = learner.model.transform(rows_of(spark, 9))  # planned now, asked twice
    before = [row.probability[1] for row in scored.collect()]
    learner(rows_of(spark, 2), 1)
    after = [row.probability[1] for row in scored.collect()]
    assert before != after
    margins = np.array([row.features for row in rows_of(spark, 9).collect()]) @ weights(learner.model)[:4] + learner.model.intercept
    np.testing.assert_allclose(after, 1 / (1 + np.exp(-margins)), rtol=1e-5)


def test_a_model_that_learns_scores_a_stream(spark, ps, place):
    learner = learner_at(place)
    learner(rows_of(spark, 1), 0)
    arrive(spark, place, 5)
    stream = spark.readStream.schema(SCHEMA).parquet(str(place / "rows"))
    query = learner.model.transform(stream).writeStream.format("memory").queryName("scored").trigger(availableNow=True).start()
    assert query.awaitTermination(60)
    assert spark.table("scored").where(sf.col("prediction").isNotNull()).count() == 200


def test_exports_come_every_so_many_batches_and_are_models(spark, ps, place):
    learner = learner_at(place, exportDir=str(place / "exports"), exportInterval=2)
    for epoch in range(4):
        learner(rows_of(spark, epoch), epoch)
    assert sorted(each.name for each in (place / "exports").iterdir()) == ["batch-1", "batch-3"]
    loaded = FTRLClassificationModel.load(str(place / "exports" / "batch-3"))
    np.testing.assert_array_equal(weights(loaded), weights(learner.model))
    rows = rows_of(spark, 9)
    assert [r.prediction for r in loaded.transform(rows).collect()] == [r.prediction for r in learner.model.transform(rows).collect()]


def test_a_batch_without_rows_is_a_batch(spark, ps, place):
    learner = learner_at(place)
    learner(rows_of(spark, 1).where("false"), 0)
    assert (learner.rows, list(learner.epochs.values())) == (0, [0])


def test_other_params_are_refused_with_what_differs(spark, ps, place):
    learner_at(place)
    with pytest.raises(CheckpointError, match="`regParam` was 0.0 and is 0.5"):
        learner_at(place, regParam=0.5)


def test_a_fit_is_one_pass_and_a_model_of_pyspark_scores_alike(spark, ps):
    rows = rows_of(spark, 1)
    model = FTRLClassifier(stepSize=0.5, batchSize=20).fit(rows)
    assert model.summary.totalIterations == 1
    assert model.snapshot() is model
    assert not isinstance(model, LogisticRegressionModel)
    assert model.toSpark().intercept == model.intercept
    with pytest.raises(ValueError, match="`solver` of FTRLClassifier must be one of ftrl"):
        FTRLClassifier(solver="lbfgs").fit(rows)


def test_raw_columns_of_a_stream_keep_their_kinds(spark, ps, place):
    first = spark.createDataFrame([(1.0, "a", 2.0), (0.0, "b", -1.0)] * 20, "label double, town string, price double")
    made = FTRLClassifier(inputCols=["town", "price"], numWorkers=1)
    made.learner(str(place / "model"))(first, 0)
    again = made.learner(str(place / "model"))
    scored = {row.town: row.probability[1] for row in again.model.transform(first).collect()}
    assert scored["a"] > 0.5 > scored["b"]
    again.model.write().save(str(place / "saved"))
    loaded = FTRLClassificationModel.load(str(place / "saved"))
    assert {row.town: row.probability[1] for row in loaded.transform(first).collect()} == pytest.approx(scored)
    with pytest.raises(ValueError, match="Column 'price' must be of a type like that of the training"):
        again(first.withColumn("price", sf.col("price").cast("string")), 1)


def test_vectors_of_a_stream_have_one_size(spark, ps, place):
    learner = learner_at(place)
    learner(rows_of(spark, 1), 0)
    before = weights(learner.model)
    longer = spark.createDataFrame([(1.0, [1.0] * 6)], SCHEMA)
    with pytest.raises(ValueError, match="must have the same size, 4. Got a batch with vectors of size 6"):
        learner(longer, 1)
    assert weights(learner_at(place).model) == before


def test_an_export_that_failed_comes_with_the_batch_that_comes_again(spark, ps, place):
    (place / "file").write_text("no directory")
    learner = learner_at(place, exportDir=str(place / "file"))
    with pytest.raises(ValueError):
        learner(rows_of(spark, 1), 0)
    again = learner_at(place, exportDir=str(place / "exports"))
    again(rows_of(spark, 1), 0)
    assert [each.name for each in (place / "exports").iterdir()] == ["batch-0"]
    assert again.rows == 200
