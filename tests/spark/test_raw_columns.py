"""Raw columns as features of an estimator: fits, scores, saved models, and every way in which rows reach the ranks."""

from __future__ import annotations

import numpy as np
import pytest
from pyspark.sql import Row

from sparkps.errors import InvalidInput
from sparkps.mllib.classification import FMClassifier, LogisticRegression, LogisticRegressionModel
from sparkps.mllib.scoring import load_model

SCHEMA = "city string, day int, weekend boolean, price double, tags array<string>, sizes array<double>, note string, label double"


def rows(count=120, seed=0):
    rng = np.random.default_rng(seed)
    made = []
    for i in range(count):
        city, day = str(rng.choice(["Oslo", "Łódź", "Lima"])), int(rng.integers(0, 7))
        note = " ".join(rng.choice(["good", "bad", "Very", "not"], rng.integers(0, 5)))
        label = float((city == "Oslo") ^ (day > 4) if i % 5 else rng.integers(0, 2))
        tags = [str(t) for t in rng.choice(["x", "y", "z"], rng.integers(0, 3))]
        sizes = rng.normal(size=2).tolist()
        made.append(Row(city if i % 11 else None, day, day > 4, float(i % 7) / 2, tags if i % 13 else None, sizes, note, label))
    return made


@pytest.fixture(scope="module")
def frame(spark):
    return spark.createDataFrame(rows(), SCHEMA).coalesce(2)


def classifier(**params):
    given = {
        "inputCols": ["city", "day", "weekend", "price", "tags", "sizes", "note"], "crosses": [("city", "weekend")], "textCols": ["note"],
        "ngrams": 2, "maxIter": 30, "regParam": 1e-3, "numWorkers": 2, **params,
    }  # fmt: skip
    return LogisticRegression(**given)


def scores(model, frame):
    return np.array([row.probability[1] for row in model.transform(frame).select("probability").collect()])


@pytest.mark.timeout(300)  # the first test of a run: it starts Spark and the tier, and compiles
@pytest.mark.parametrize(("solver", "buckets"), [("lbfgs", 0), ("lbfgs", 256), ("adagrad", 0)])
def test_a_fit_on_raw_columns_scores_rows_with_the_same_columns(spark, ps, frame, solver, buckets):
    model = classifier(solver=solver, numFeatures=buckets).fit(frame)
    truth = np.array([row.label for row in frame.collect()])
    found = scores(model, frame)
    assert ((found > 0.5) == truth).mean() > 0.8  # a fifth of the labels are drawn
    assert model.numFeatures == (buckets or 2**63)
    same = frame.select("note", "sizes", "tags", "price", "weekend", "day", "city")
    np.testing.assert_array_equal(scores(model, same), found)


def test_factors_find_what_a_cross_would(spark, ps, frame):
    model = FMClassifier(inputCols=["city", "weekend"], factorSize=2, maxIter=60, stepSize=0.1, numWorkers=1, seed=3).fit(frame)
    assert np.mean([row.prediction == row.label for row in model.transform(frame).collect()]) > 0.85


def test_a_cross_finds_what_its_columns_do_not(spark, ps, frame):
    def accuracy(**params):
        model = classifier(inputCols=["city", "weekend"], textCols=None, ngrams=1, **params).fit(frame)
        return np.mean([row.prediction == row.label for row in model.transform(frame).collect()])

    assert accuracy() > accuracy(crosses=None) + 0.05


def test_a_model_is_saved_with_its_columns_and_scores_without_spark(spark, ps, frame, tmp_path):
    model = classifier(numFeatures=1000).fit(frame)
    found = scores(model, frame)
    model.write().save(str(tmp_path / "m"))
    np.testing.assert_array_equal(scores(LogisticRegressionModel.load(str(tmp_path / "m")), frame), found)
    lone = load_model(tmp_path / "m")
    np.testing.assert_allclose(lone.predict_proba(frame.toArrow())[:, 1], found, rtol=1e-12)
    assert lone.predict_proba({name: [None] for name in lone.raw.names}).shape == (1, 2)
    assert [list(cross) for cross in LogisticRegressionModel.load(str(tmp_path / "m")).getCrosses()] == [["city", "weekend"]]


def test_folded_keys_are_a_vector_of_pyspark(spark, ps, frame):
    model = classifier(numFeatures=64).fit(frame)
    assert len(model.coefficients) == 64
    assert model.toSpark().numFeatures == 64
    with pytest.raises(InvalidInput, match="use `(model.)?weights`"):
        _ = classifier(maxIter=1).fit(frame).coefficients


@pytest.mark.parametrize("source", ["auto", "spark", "csv", "table", "json", "staged"])
def test_every_source_of_rows_gives_the_same_model(spark, ps, tmp_path, source):
    plain = spark.createDataFrame(rows(), SCHEMA).select("city", "day", "weekend", "price", "note", "label").coalesce(1)
    path = str(tmp_path / "rows")
    params = {"inputCols": ["city", "day", "weekend", "price", "note"], "numWorkers": 1, "regParam": 0.01}
    expected = classifier(**params).fit(plain)
    schema = plain.schema
    if source == "csv":
        plain.write.csv(path, nullValue="-")
        read = spark.read.csv(path, schema=schema, nullValue="-", emptyValue="")
    elif source == "json":
        plain.write.json(path)
        read = spark.read.json(path, schema=schema)
    elif source == "table":
        plain.write.mode("overwrite").saveAsTable("raw_rows")
        read = spark.table("raw_rows")
    else:
        plain.write.parquet(path)
        read = spark.read.parquet(path)
    model = classifier(**params, deterministic=source == "staged").fit(read.repartition(2) if source == "spark" else read)
    np.testing.assert_allclose(scores(model, plain), scores(expected, plain), atol=2e-4)
    if source == "table":
        spark.sql("drop table raw_rows")


def test_ranks_read_strings_and_arrays_of_parquet_files_themselves(spark, ps, frame, tmp_path):
    from sparkps.driver_bridge.input.parquet import ParquetInput
    from sparkps.driver_bridge.input.parquet_plan import plain_parquet
    from sparkps.driver_bridge.input.scan import arrow_schema

    frame.write.parquet(str(tmp_path / "rows"))
    read = spark.read.parquet(str(tmp_path / "rows"))
    found = plain_parquet(read, arrow_schema(read), 2)
    assert isinstance(found, ParquetInput), found
    mine = [row for rank in range(2) for batch in found.read(rank) for row in batch.to_pylist()]
    assert sorted(map(str, mine)) == sorted(str(row.asDict()) for row in read.collect())


BAD = [
    ({"inputCols": ["nowhere"], "textCols": None}, "Column 'nowhere' must exist"),
    ({"inputCols": ["day", "label"], "textCols": None}, "Got 'label', which is the label, too"),
    ({"inputCols": ["city", "day", "city"]}, "`inputCols` must not name a column twice. Got 'city'"),
    ({"crosses": [("city",)]}, "`crosses` must have at least two columns each"),
    ({"textCols": ["headline"]}, "`textCols` must be of `inputCols` or `crosses`. Got 'headline'"),
    ({"textCols": ["day"]}, "Column 'day' must hold strings, or arrays of them, to be one of `textCols`"),
    ({"ngrams": 0}, "The `ngrams` of LogisticRegression must be an int >= 1. Got 0"),
    ({"categoricalCols": ["day"], "numericCols": ["day"]}, "must not be in `categoricalCols` and in `numericCols`"),
]


@pytest.mark.parametrize(("params", "message"), BAD)
def test_columns_that_contradict_each_other_are_refused(spark, ps, frame, params, message):
    with pytest.raises(InvalidInput, match=message):
        classifier(**params).fit(frame)


@pytest.mark.parametrize("value", ["ab", [1], [["a", 2]], ["ab"]])
def test_crosses_must_be_lists_of_names(value):
    with pytest.raises(TypeError):
        LogisticRegression(crosses=value)


def test_a_date_is_refused_and_a_number_that_is_not_finite_ends_the_fit_or_is_left_out(spark, ps):
    dates = spark.sql("select date'2026-01-01' as d, 1.0D as label")
    with pytest.raises(InvalidInput, match="Column 'd' must hold strings, booleans"):
        LogisticRegression(inputCols=["d"]).fit(dates)
    schema = "label double, c string, x double"
    wrong = spark.createDataFrame([(1.0, "a", 2.0), (0.0, "b", float("nan")), (0.0, "b", 1.0)], schema).coalesce(1)
    with pytest.raises(InvalidInput, match="Column 'x': values must be finite"):
        LogisticRegression(inputCols=["c", "x"], numWorkers=1).fit(wrong)
    model = LogisticRegression(inputCols=["c", "x"], numWorkers=1, handleInvalid="skip").fit(wrong)
    assert (model.summary.rows, model.summary.skippedRows) == (2, 1)


def test_rows_for_validation_are_not_trained_on(spark, ps):
    good = [(float(i % 2), [float(i % 2), 1.0], False) for i in range(8)]
    marked = spark.createDataFrame([*good, *[(1.0, [1.0, 1.0], True)] * 20], "label double, features array<double>, aside boolean")
    given = {"maxIter": 10, "regParam": 0.1, "numWorkers": 1}
    model = LogisticRegression(validationIndicatorCol="aside", **given).fit(marked)
    expected = LogisticRegression(**given).fit(marked.where("not aside"))
    np.testing.assert_allclose(model.coefficients.toArray(), expected.coefficients.toArray(), rtol=1e-6)
    assert model.summary.rows == 8
    with pytest.raises(InvalidInput, match="Column 'aside' must be boolean"):
        LogisticRegression(validationIndicatorCol="aside", **given).fit(marked.selectExpr("label", "features", "cast(aside as int) aside"))
    with pytest.raises(InvalidInput, match="20 are for validation|at least one row"):
        LogisticRegression(validationIndicatorCol="aside", **given).fit(marked.where("aside"))


def test_libsvm_files(spark, ps, tmp_path):
    (tmp_path / "rows.libsvm").write_text("".join(f"{i % 2} {1 + i % 2}:1.5 3:{1 + i % 5}\n" for i in range(40)))
    read = spark.read.format("libsvm").load(str(tmp_path / "rows.libsvm"), numFeatures="3")
    model = LogisticRegression(maxIter=10, regParam=0.01).fit(read)
    assert model.numFeatures == 3
    assert np.mean([row.prediction == row.label for row in model.transform(read).collect()]) == 1.0
