"""Models with a margin for each class, and the other bases of linear models, beside pyspark.ml's own models of the same coefficients."""

from __future__ import annotations

import numpy as np
import pytest
from pyspark.ml.classification import LinearSVC as SparkSVC
from pyspark.ml.classification import LogisticRegression as SparkLR
from pyspark.ml.functions import vector_to_array
from pyspark.ml.linalg import Matrix, Vectors
from pyspark.ml.param.shared import HasRawPredictionCol, HasThreshold
from pyspark.ml.regression import GeneralizedLinearRegression as SparkGLR
from pyspark.ml.regression import LinearRegression as SparkLinear
from pyspark.sql import functions as sf

from sparkps.errors import InvalidInput
from sparkps.mllib.classification import LogisticRegressionModel
from sparkps.mllib.coefficients import LocalCoefficients, TableCoefficients
from sparkps.mllib.linear.classifiers import LinearClassificationModel
from sparkps.mllib.linear.model import LinearModel
from sparkps.mllib.linear.spark_model import spark_model
from sparkps.mllib.regression import GeneralizedLinearRegressionModel, LinearRegressionModel
from sparkps.mllib.scoring import load_model


def facts_of(theirs, intercepts):
    return {"intercepts": [float(each) for each in intercepts], "numFeatures": theirs.numFeatures, "width": theirs.numFeatures}


def held(rows):
    """Coefficients (K, features) as a model has them."""
    rows = np.atleast_2d(rows)
    keys = np.flatnonzero(rows.any(axis=0))
    return LocalCoefficients(keys, np.ascontiguousarray(rows[:, keys].T))


def logistic(theirs, coefficients=None):
    """Our model of the coefficients of pyspark.ml's."""
    facts = {**facts_of(theirs, theirs.interceptVector.toArray()), "multinomial": theirs.coefficientMatrix.numRows > 1}
    return LogisticRegressionModel(coefficients or held(theirs.coefficientMatrix.toArray()), facts)


@pytest.fixture(scope="module")
def rows(spark):
    rng = np.random.default_rng(8)
    x = rng.normal(size=(240, 6)) * (rng.random((240, 6)) < 0.7)
    y = (x @ rng.normal(size=(6, 4)) + rng.normal(size=(240, 4))).argmax(axis=1)
    return spark.createDataFrame(
        [(float(a), float(a > 1), float(b[0] + 3), Vectors.dense(b)) for a, b in zip(y, x, strict=True)],
        ["label", "two", "positive", "features"],
    ).cache()


@pytest.fixture(scope="module")
def theirs(rows):
    return SparkLR(maxIter=8, regParam=0.02).fit(rows)


@pytest.fixture(scope="module")
def ours(theirs):
    return logistic(theirs)


def predicted(model, rows, part="probability"):
    scored = model.transform(rows)
    return np.stack([row[0] for row in scored.select(vector_to_array(part)).collect()])


def test_a_multinomial_model_says_of_itself_what_pyspark_says(ours, theirs):
    assert ours.coefficientMatrix == theirs.coefficientMatrix
    assert ours.interceptVector == theirs.interceptVector
    assert (ours.numClasses, ours.numFeatures) == (theirs.numClasses, theirs.numFeatures)
    with pytest.raises(InvalidInput, match="contain a matrix of coefficients, use coefficientMatrix instead"):
        _ = ours.coefficients
    with pytest.raises(InvalidInput, match="contain a vector of intercepts, use interceptVector instead"):
        _ = ours.intercept


@pytest.mark.parametrize("penalty", [0.0, 0.05, 0.2, 1.0])
@pytest.mark.parametrize("family", ["multinomial", "binomial"])
def test_matrices_have_the_form_that_pyspark_chooses(rows, family, penalty):
    label = "label" if family == "multinomial" else "two"
    theirs = SparkLR(labelCol=label, maxIter=5, regParam=penalty, elasticNetParam=1.0, family=family, fitIntercept=penalty < 0.2).fit(rows)
    ours = logistic(theirs)
    assert (repr(ours.coefficientMatrix), repr(ours.interceptVector)) == (repr(theirs.coefficientMatrix), repr(theirs.interceptVector))
    assert isinstance(ours.coefficientMatrix, Matrix)
    if family == "binomial":
        np.testing.assert_array_equal(ours.coefficients.toArray(), theirs.coefficients.toArray())


def test_rows_are_scored_as_pyspark_scores_them_in_the_jvm_and_in_python(ours, theirs, rows):
    arrays = rows.select("label", vector_to_array("features").alias("features"))
    for part in ("rawPrediction", "probability"):
        expected = predicted(theirs, rows, part)
        np.testing.assert_allclose(predicted(ours, rows, part), expected, rtol=1e-12)
        np.testing.assert_allclose(predicted(ours, arrays, part), expected, rtol=1e-10, atol=1e-14)
    labels = [row.prediction for row in theirs.transform(rows).collect()]
    assert [row.prediction for row in ours.transform(rows).collect()] == labels
    assert [row.prediction for row in ours.transform(arrays).collect()] == labels


def test_columns_of_both_ways_are_those_of_pyspark(ours, theirs, rows):
    arrays = rows.select("label", "two", "positive", vector_to_array("features").alias("features"))
    expected = theirs.transform(rows).schema
    for mine in (ours.transform(rows).schema, ours.transform(arrays).schema):
        assert mine.names == expected.names
        for name in ("rawPrediction", "probability", "prediction"):
            assert (mine[name].dataType, mine[name].nullable, mine[name].metadata) == (
                expected[name].dataType, expected[name].nullable, expected[name].metadata,
            )  # fmt: skip


def test_one_vector_is_scored_as_pyspark_scores_it(ours, theirs, rows):
    for row in rows.limit(5).collect():
        np.testing.assert_allclose(ours.predictRaw(row.features).toArray(), theirs.predictRaw(row.features).toArray(), rtol=1e-12)
        probability = ours.predictProbability(row.features).toArray()
        np.testing.assert_allclose(probability, theirs.predictProbability(row.features).toArray(), rtol=1e-12)
        assert ours.predict(row.features) == theirs.predict(row.features) == ours.predict(row.features.toArray().tolist())


@pytest.mark.parametrize("thresholds", [[0.1, 1.0, 1.0, 1.0], [0.0, 1.0, 1.0, 1.0], [1.0, 2.0, 3.0, 4.0]])
def test_thresholds_choose_the_class_that_pyspark_chooses(ours, theirs, rows, thresholds):
    arrays = rows.select("label", vector_to_array("features").alias("features"))
    expected = [row.prediction for row in theirs.copy().setThresholds(thresholds).transform(rows).collect()]
    assert [row.prediction for row in ours.copy().setThresholds(thresholds).transform(arrays).collect()] == expected
    with pytest.raises(InvalidInput, match="one for each of its 4 classes. Got 2"):
        ours.copy().setThresholds([0.5, 0.5]).transform(arrays)


def test_a_model_of_many_outputs_is_saved_and_loaded_with_and_without_spark(spark, ours, rows, tmp_path):
    ours.save(str(tmp_path / "model"))
    loaded = LogisticRegressionModel.load(str(tmp_path / "model"))
    assert (loaded.coefficientMatrix, loaded.interceptVector) == (ours.coefficientMatrix, ours.interceptVector)
    np.testing.assert_array_equal(predicted(loaded, rows), predicted(ours, rows))
    assert spark.read.parquet(str(tmp_path / "model" / "data")).columns == ["key", "weights"]
    plain = load_model(tmp_path / "model")
    x = np.stack([row.features.toArray() for row in rows.collect()])
    np.testing.assert_allclose(plain.predict_proba(x), predicted(ours, rows), rtol=1e-10)
    np.testing.assert_array_equal(plain.predict(x), [row.prediction for row in ours.transform(rows).collect()])


def test_a_model_of_many_outputs_stays_on_the_tier_where_it_is_large(spark, ps, ours, theirs, rows, tmp_path):
    few = ours.coefficients_
    table = ps.sparse_table("many", dim=few.dim, dtype="float64")
    table.assign(np.append(few.keys, [-1]), np.append(few.values, np.ones((1, few.dim)), axis=0))
    large = logistic(theirs, TableCoefficients(table))
    np.testing.assert_allclose(predicted(large, rows), predicted(ours, rows), rtol=1e-10)
    assert large.coefficientMatrix == ours.coefficientMatrix
    assert large.weights.orderBy("key").collect() == ours.weights.orderBy("key").collect()
    large.save(str(tmp_path / "model"))
    assert LogisticRegressionModel.load(str(tmp_path / "model")).coefficientMatrix == ours.coefficientMatrix
    np.testing.assert_allclose(large.predictRaw(rows.first().features), ours.predictRaw(rows.first().features), rtol=1e-12)


def test_a_model_that_learns_while_it_serves_shows_its_newest_rows(ps, ours, theirs, rows):
    few = ours.coefficients_
    table = ps.sparse_table("learning", dim=few.dim, dtype="float64")
    table.assign(few.keys, few.values)
    final, serving = (logistic(theirs, TableCoefficients(table, owned=False, max_age=age)) for age in (None, 0))
    before = predicted(ours, rows)
    np.testing.assert_allclose(predicted(serving, rows), before, rtol=1e-10)
    row = rows.first().features
    final.predictRaw(row)
    table.assign(few.keys, 2 * few.values)
    doubled = logistic(theirs, LocalCoefficients(few.keys, 2 * few.values))
    np.testing.assert_allclose(predicted(serving, rows), predicted(doubled, rows), rtol=1e-10)
    np.testing.assert_allclose(serving.predictRaw(row), doubled.predictRaw(row), rtol=1e-12)
    np.testing.assert_allclose(final.predictRaw(row), ours.predictRaw(row), rtol=1e-12)


# ---- the other bases -----------------------------------------------------------------------------------------------------


class SideModel(LinearClassificationModel, HasRawPredictionCol, HasThreshold):
    """A classifier without probabilities, as a public module would have it."""

    _scored_in_spark = True

    def toSpark(self):
        from pyspark.ml.classification import LinearSVCModel

        return spark_model(self, LinearSVCModel, lambda: self.coefficients, self.intercept)


class LineModel(LinearModel):
    """A regression whose margins are its predictions."""

    _scored_in_spark = True

    def toSpark(self):
        from pyspark.ml.regression import LinearRegressionModel

        return spark_model(self, LinearRegressionModel, lambda: self.coefficients, self.intercept)


class LogModel(LinearModel):
    """A regression whose margins are logarithms of its predictions."""

    link_ = "log"
    _dense = True


@pytest.fixture(scope="module")
def arrays(rows):
    return rows.withColumn("features", vector_to_array("features"))


def compared(ours, theirs, rows, arrays, *columns, nullable=False):
    """Both ways of scoring, and the columns they add."""
    expected = theirs.transform(rows)
    for scored in (ours.transform(rows), ours.transform(arrays)):
        for name in columns:
            mine, other = scored.schema[name], expected.schema[name]
            assert (mine.dataType, mine.metadata) == (other.dataType, other.metadata), name
            assert nullable or not (mine.nullable or other.nullable), name
            found, wanted = ([row[name] for row in frame.collect()] for frame in (scored, expected))
            np.testing.assert_allclose(np.array(found), np.array(wanted), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("threshold", [0.0, 0.4])
def test_a_side_is_predicted_as_linear_svc_predicts_it(rows, arrays, threshold):
    theirs = SparkSVC(labelCol="two", maxIter=5, threshold=threshold).fit(rows)
    ours = SideModel(held(theirs.coefficients.toArray()), facts_of(theirs, [theirs.intercept]))
    ours._set(threshold=threshold)
    compared(ours, theirs, rows, arrays, "rawPrediction", "prediction", nullable=True)
    assert ours.coefficients == theirs.coefficients
    for row in rows.limit(5).collect():
        assert ours.predict(row.features) == theirs.predict(row.features)
        np.testing.assert_allclose(ours.predictRaw(row.features), theirs.predictRaw(row.features), rtol=1e-12)


def test_a_mean_is_predicted_as_linear_regression_predicts_it(rows, arrays):
    theirs = SparkLinear(labelCol="positive", maxIter=5, regParam=0.1).fit(rows)
    ours = LineModel(held(theirs.coefficients.toArray()), facts_of(theirs, [theirs.intercept]))
    compared(ours, theirs, rows, arrays, "prediction")
    row = rows.first().features
    assert ours.predict(row) == pytest.approx(theirs.predict(row))


def test_a_link_leads_from_margins_to_means_as_in_generalized_linear_regression(rows, arrays, tmp_path):
    theirs = SparkGLR(family="poisson", labelCol="positive", maxIter=3).fit(rows.where("positive > 0"))
    ours = LogModel(held(theirs.coefficients.toArray()), facts_of(theirs, [theirs.intercept]))
    compared(ours, theirs, rows, arrays, "prediction")
    assert repr(ours.coefficients) == repr(theirs.coefficients)
    ours.save(str(tmp_path / "model"))
    x = np.stack([row.features.toArray() for row in rows.collect()])
    expected = [row.prediction for row in theirs.transform(rows).collect()]
    np.testing.assert_allclose(load_model(tmp_path / "model").predict(x), expected, rtol=1e-9)


def regression(cls, theirs, **params):
    """Our public model of the coefficients of pyspark.ml's."""
    made = cls(held(theirs.coefficients.toArray()), facts_of(theirs, [theirs.intercept]))
    return made._set(**params)


@pytest.mark.parametrize("elastic", [0.0, 1.0])
def test_a_linear_regression_scores_and_shows_its_coefficients_as_pyspark_does(rows, arrays, elastic):
    theirs = SparkLinear(labelCol="positive", regParam=0.3, elasticNetParam=elastic).fit(rows)
    ours = regression(LinearRegressionModel, theirs)
    compared(ours, theirs, rows, arrays, "prediction")
    assert repr(ours.coefficients) == repr(theirs.coefficients)


@pytest.mark.parametrize(
    "params",
    [{"family": "poisson", "offsetCol": "two"}, {"family": "tweedie", "variancePower": 1.2, "linkPower": 0.4}, {"family": "binomial"}],
    ids=str,
)
def test_a_generalized_regression_scores_in_the_jvm_and_in_python_as_pyspark_does(spark, params):
    rng = np.random.default_rng(2)
    x = rng.uniform(0, 1, size=(60, 2))
    given = [(float(i % 2), float(b.sum() + 1), Vectors.dense(b)) for i, b in enumerate(x)]
    vectors = spark.createDataFrame(given, ["two", "sum", "features"])
    label = "two" if params["family"] == "binomial" else "sum"
    params = {**params, "linkPredictionCol": "eta"}
    theirs = SparkGLR(labelCol=label, maxIter=5, **params).fit(vectors)
    ours = regression(GeneralizedLinearRegressionModel, theirs, **params)
    arrays = vectors.withColumn("features", vector_to_array("features"))
    compared(ours, theirs, vectors, arrays, "prediction", "eta", nullable="offsetCol" in params)
    assert ours.link_ == {"poisson": "log", "tweedie": "power(0.4)", "binomial": "logit"}[params["family"]]


def test_a_model_whose_columns_are_all_left_out_adds_nothing(ours, rows):
    silent = ours.copy().setRawPredictionCol("").setProbabilityCol("").setPredictionCol("")
    assert silent.transform(rows).columns == rows.columns
    assert silent.transform(rows).agg(sf.count("*")).first()[0] == 240


# ---- elsewhere, and what weighs most -------------------------------------------------------------------------------------


def in_onnxruntime(model, x, **of):
    import onnxruntime

    session = onnxruntime.InferenceSession(model.to_onnx(**of).SerializeToString())
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"features": x.astype(of.get("dtype", "float32"))}), strict=True))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_graphs_of_onnx_score_as_transform_does(ours, rows, dtype):
    x = np.stack([row.features.toArray() for row in rows.collect()])
    found = in_onnxruntime(ours, x, dtype=dtype)
    scored = ours.transform(rows).collect()
    np.testing.assert_allclose(found["probabilities"], [row.probability.toArray() for row in scored], atol=1e-5)
    np.testing.assert_array_equal(found["label"], [row.prediction for row in scored])
    biased = ours.copy().setThresholds([0.0, 1.0, 1.0, 1.0])
    np.testing.assert_array_equal(in_onnxruntime(biased, x)["label"], 0)


def test_graphs_are_written_where_that_is_wished_and_know_their_model(ours, tmp_path):
    import onnxruntime

    ours.to_onnx(tmp_path / "model.onnx")
    meta = onnxruntime.InferenceSession(str(tmp_path / "model.onnx")).get_modelmeta().custom_metadata_map
    assert (meta["class"], meta["uid"]) == ("LogisticRegressionModel", ours.uid)


def test_what_no_graph_can_do_is_refused_with_what_else_there_is(theirs, ours):
    wide = LogisticRegressionModel(ours.coefficients_, {**ours.facts_, "numFeatures": 1 << 40, "width": 0})
    for model in (wide, LogisticRegressionModel(ours.coefficients_, {**ours.facts_, "source": {"inputCols": ["a"]}})):
        with pytest.raises(InvalidInput, match=r"ONNX takes dense rows.*load_model"):
            model.to_onnx()
    with pytest.raises(InvalidInput, match="`dtype` must be float32 or float64"):
        ours.to_onnx(dtype="float16")


def test_the_features_that_weigh_most_are_chosen_by_the_nodes_as_by_the_driver(ps, theirs, ours):
    few = ours.coefficients_
    table = ps.sparse_table("top", dim=few.dim, dtype="float64")
    table.assign(np.append(few.keys, [-1, -2]), np.append(few.values, np.full((2, few.dim), 1e9), axis=0))
    large = logistic(theirs, TableCoefficients(table))
    expected = ours.top_features(3)
    assert len(expected) == 3
    assert [each.key for each in large.top_features(3)] == [each.key for each in expected]
    np.testing.assert_allclose([each.weights for each in large.top_features(3)], [each.weights for each in expected])
    assert len(large.top_features(100)) == 6


def test_features_have_the_names_that_an_assembler_has_given_them(ps, rows, tmp_path):
    from pyspark.ml.feature import VectorAssembler

    from sparkps.mllib.classification import LogisticRegression

    named = VectorAssembler(inputCols=["positive", "features"], outputCol="all").transform(rows)
    model = LogisticRegression(featuresCol="all", labelCol="two", maxIter=3).fit(named)
    assert {each.name for each in model.top_features()} == {"positive", *(f"features_{i}" for i in range(6))}
    model.save(str(tmp_path / "model"))
    assert LogisticRegressionModel.load(str(tmp_path / "model")).top_features() == model.top_features()


def test_a_picture_of_the_features_is_written_where_that_is_wished(ours, tmp_path):
    figure = ours.plot_features(3, path=tmp_path / "features.png")
    assert (tmp_path / "features.png").read_bytes().startswith(b"\x89PNG")
    (axes,) = figure.axes
    assert len(axes.patches) == 3
    assert ours.plot_features(2, ax=axes) is figure


def test_keys_of_raw_columns_are_named_by_rows_that_have_them(spark, ps):
    from sparkps.mllib.classification import LogisticRegression

    rows = spark.createDataFrame([(float(i % 2), f"city {i % 4}", float(i)) for i in range(40)], ["label", "city", "age"])
    model = LogisticRegression(inputCols=["city", "age"], maxIter=3).fit(rows)
    expected = {"age", *(f"city=city {i}" for i in range(4))}
    assert {each.name for each in model.top_features(dataset=rows)} == expected
    assert not {each.name for each in model.top_features()} & expected
