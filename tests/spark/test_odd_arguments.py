"""Arguments and columns that are legal but unusual work; those that are not say what must hold."""

from __future__ import annotations

import threading
from decimal import Decimal

import numpy as np
import pytest
from pyspark.ml.linalg import Vectors

from sparkps.errors import InvalidInput, NotEnoughSlots
from sparkps.mllib.classification import LogisticRegression


def names_and_sum(worker, batches):
    batches = list(batches)
    return (batches[0].schema.names, sum(sum(column.to_pylist()) for batch in batches for column in batch.columns)) if batches else None


@pytest.fixture(scope="module")
def odd(spark):
    """Columns whose names need quoting."""
    return spark.createDataFrame([(i, 2 * i, 3 * i) for i in range(10)], ["a.b", "we`ird", "a b"])


@pytest.mark.parametrize("how", ["direct", "staged", "parquet"])
def test_names_of_columns_that_need_quoting(spark, ps, odd, tmp_path, how):
    df = odd
    if how == "parquet":
        odd.write.parquet(str(tmp_path / "rows"))
        df = spark.read.parquet(str(tmp_path / "rows"))
    ((names, total),) = ps.run(df, names_and_sum, num_workers=np.int64(1), deterministic=how == "staged")
    assert (names, total) == (["a.b", "we`ird", "a b"], 6 * 45)


def test_a_fit_on_such_columns(spark, ps):
    rows = spark.createDataFrame([(float(i % 2), Vectors.dense([float(i % 3), 1.0])) for i in range(20)], ["the.label", "f`s"])
    model = LogisticRegression(labelCol="the.label", featuresCol="f`s", maxIter=2).fit(rows)
    assert model.transform(rows).columns[:2] == ["the.label", "f`s"]
    assert model.transform(rows).count() == 20


@pytest.fixture(scope="module")
def pairs(spark):
    rows = [(float(i % 3 == 0), ([i % 5, (1 << 63) - 2], [1.0, float(i % 4)])) for i in range(40)]
    return spark.createDataFrame(rows, "label double, features struct<indices: array<bigint>, values: array<float>>")


@pytest.mark.parametrize("solver", ["lbfgs", "adam", "ftrl"])
def test_the_largest_index_there_is(ps, pairs, solver):
    model = LogisticRegression(maxIter=2, solver=solver).fit(pairs)
    assert model.numFeatures == (1 << 63) - 1
    assert model.transform(pairs).count() == 40
    assert (1 << 63) - 2 in [row.key for row in model.weights.collect()]


def test_an_index_beyond_it_is_refused(spark, ps):
    schema = "label double, features struct<indices: array<bigint>, values: array<float>>"
    rows = spark.createDataFrame([(1.0, ([(1 << 63) - 1], [1.0]))], schema)
    with pytest.raises(InvalidInput, match=r"an index must be less than 2\^63 - 1"):
        LogisticRegression(maxIter=1).fit(rows)


@pytest.mark.parametrize("solver", ["lbfgs", "adam", "sgd"])
def test_no_iteration_at_all(ps, pairs, solver):
    model = LogisticRegression(maxIter=0, solver=solver, fitIntercept=False).fit(pairs)
    assert (model.intercept, model.weights.count()) == (0.0, 0)
    assert model.summary.totalIterations == 0


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"solver": "sgd", "standardization": True, "tol": 0.1}, ["solver='sgd' makes no use of `tol`, `standardization`"]),
        ({"solver": "lbfgs", "batchSize": 10, "stepSize": 1.0}, ["solver='lbfgs' makes no use of `stepSize`, `batchSize`"]),
        ({"solver": "lbfgs", "tol": 0.1}, []),
        ({"solver": "sgd"}, []),
        ({"solver": "adam", "momentum": 0.5}, ["solver='adam' makes no use of `momentum`"]),
        ({"solver": "momentum", "momentum": 0.5}, []),
    ],
)
def test_params_that_a_solver_does_not_use_are_named(ps, pairs, caplog, params, said):
    LogisticRegression(maxIter=0, **params).fit(pairs)
    assert [record.getMessage() for record in caplog.records if "makes no use" in record.getMessage()] == said


def test_features_that_are_no_floats_are_refused_at_once(spark, ps):
    rows = spark.createDataFrame([(1.0, [Decimal("1.5")])], "label double, features array<decimal(5,2)>")
    with pytest.raises(InvalidInput, match=r"must hold features.*Got array<decimal\(5,2\)> instead"):
        LogisticRegression().fit(rows)


def test_what_is_no_dataframe(ps):
    for given in (None, 3, [1.0]):
        with pytest.raises(InvalidInput, match=r"`df` must be a pyspark.sql.DataFrame. Got"):
            LogisticRegression().fit(given)


@pytest.mark.parametrize("timeout", ["x", -1, 0, True, float("nan")])
def test_timeouts(ps, pairs, timeout):
    with pytest.raises(InvalidInput, match="`timeout` must be a number of seconds above 0"):
        ps.run(pairs, names_and_sum, timeout=timeout)


@pytest.mark.parametrize("count", ["2", 1.5, 0, True])
def test_numbers_of_workers(ps, pairs, count):
    with pytest.raises(InvalidInput, match="`num_workers` must be an int >= 1"):
        ps.run(pairs, names_and_sum, num_workers=count)


def test_an_estimator_names_its_own_param_where_workers_are_too_many(ps, pairs):
    with pytest.raises(NotEnoughSlots, match=r"2 task slots, 9 workers were asked for: ask for fewer \(`numWorkers`\)") as caught:
        LogisticRegression(numWorkers=9).fit(pairs)
    assert (caught.value.slots, caught.value.asked) == (2, 9)
    assert ps.status()["tables"] == []


def test_a_function_that_cannot_travel(ps):
    lock = threading.Lock()

    def holds(shard):
        return lock

    with pytest.raises(InvalidInput, match="'holds' must be picklable, with all that it has captured. It is not: TypeError"):
        ps.function(holds)


@pytest.mark.parametrize(("label", "advice"), [(-1.0, "map -1 to 0"), (2.0, "OneVsRest")])
def test_a_wrong_label_is_the_input_s_fault_and_comes_with_good_advice(spark, ps, label, advice):
    rows = spark.createDataFrame([(1.0, [1.0]), (label, [7.0])], "label double, features array<double>")
    with pytest.raises(InvalidInput, match=rf"^Column 'label': a label must be 0 or 1. Got the row label={label}.*{advice}") as caught:
        LogisticRegression(maxIter=1, family="binomial").fit(rows)
    assert caught.value.column == "label"
    assert "skip" not in str(caught.value)


def test_explained_params_name_the_solvers_and_their_step_sizes(spark):
    told = LogisticRegression().explainParams()
    solvers = "auto, lbfgs, or in batches sgd, momentum, adagrad, adam, ftrl, online"
    assert f"solver: how to train: {solvers}, where the estimator has them" in told
    assert "momentum: of solver momentum: how much of the last step is in the next" in told
    assert "stepSize: step size of a mini-batch solver (> 0); by default " in told
    assert "1 for sgd, 0.1 for momentum, 1 for adagrad, 0.01 for adam, 3 for ftrl, 0.5 for online" in told


def test_a_model_says_what_it_is(spark, ps):
    rows = spark.createDataFrame([(float(i % 2), Vectors.dense([1.0, float(i)])) for i in range(4)], ["label", "features"])
    model = LogisticRegression(maxIter=1).fit(rows)
    assert repr(model) == f"LogisticRegressionModel: uid={model.uid}, numClasses=2, numFeatures=2"
