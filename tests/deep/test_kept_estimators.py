"""Estimators that are not fitted are saved with their Params, alone and as stages of Pipelines, and copied with others."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from pyspark.ml import Estimator, Pipeline, PipelineModel
from pyspark.ml.feature import SQLTransformer
from pyspark.ml.tuning import ParamGridBuilder

from sparkps.errors import InvalidInput
from sparkps.mllib import deep
from sparkps.mllib.deep import DeepFMClassifier, TorchEstimator
from sparkps.mllib.deep.estimator import DeepEstimator
from sparkps.optim import SGD, Adagrad, Adam
from tests.harness.deep_models import COLUMNS, SCHEMA, Net, rows_of

ZOO = sorted(name for name in deep.__all__ if inspect.isclass(made := getattr(deep, name)) and issubclass(made, DeepEstimator))

#: Values of Params that are no defaults, where an estimator has them.
VALUES = {
    "categoricalCols": ["a", "w"], "numericCols": ["x"], "embeddingDim": 5, "hiddenUnits": [7, 3], "dropout": 0.25, "maxIter": 4,
    "optimizer": Adam(0.02), "embeddingOptimizer": Adagrad(0.3), "numClasses": 4, "crossLayers": 3, "crossRank": 2, "featureMaps": [3],
    "bottomUnits": [9], "attentionUnits": 6, "outerProducts": True, "targetCol": "a", "historyCol": "w", "labelCols": ["y", "z"],
    "numExperts": 3, "towerUnits": [2], "numLevels": 1, "itemCol": "film", "itemCategoricalCols": ["kind"], "itemNumericCols": ["year"],
    "normalizeVectors": False, "temperature": 0.5, "logQCorrection": False, "watchTimeCol": "expected", "transport": "bfloat16",
}  # fmt: skip


def values_of(estimator):
    """By name, the values of all Params."""
    return {param.name: value for param, value in estimator.extractParamMap().items()}


@pytest.mark.parametrize("name", ZOO)
def test_all_params_are_saved(spark, tmp_path, name):
    made = getattr(deep, name)()
    made.setParams(**{param: value for param, value in VALUES.items() if made.hasParam(param)})
    made.save(str(tmp_path / "estimator"))
    loaded = type(made).load(str(tmp_path / "estimator"))
    assert (loaded.uid, values_of(loaded)) == (made.uid, values_of(made))
    assert all(param.parent == made.uid for param in loaded.params)
    if name != "TorchEstimator":
        assert not list(tmp_path.rglob("*.pkl"))


def of_own():
    factor = 3.0
    loss = lambda output, labels: factor * (output - labels) ** 2  # noqa: E731  # what users write
    return TorchEstimator(module=Net(SGD(0.1)), loss=loss, metrics=["rmse"], maxIter=2, **COLUMNS)


def test_a_module_and_its_loss_are_saved(spark, tmp_path):
    made = of_own()
    made.save(str(tmp_path / "estimator"))
    loaded = TorchEstimator.load(str(tmp_path / "estimator"))
    ours, theirs = made._given[0].state_dict(), loaded._given[0].state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert repr(loaded._given[0]) == repr(made._given[0])
    output, labels = torch.tensor([1.0]), torch.tensor([[0.0]])
    assert loaded._row_loss().of_rows(output, labels).item() == 3.0
    assert [each.name for each in loaded._metrics()] == ["rmse"]
    assert values_of(loaded) == values_of(made)


def test_what_cannot_be_saved_or_loaded_is_refused(spark, tmp_path):
    made, path = of_own(), str(tmp_path / "estimator")
    made.save(path)
    with pytest.raises(InvalidInput, match="overwrite"):
        made.save(path)
    made.write().overwrite().save(path)
    with pytest.raises(InvalidInput, match="must hold a sparkps.mllib.deep.zoo.fields.DeepFMClassifier. Got a .*TorchEstimator"):
        DeepFMClassifier.load(path)
    (tmp_path / "estimator/module/module.pkl").unlink()
    with pytest.raises(InvalidInput, match=r"must be read from.*module\.pkl"):
        TorchEstimator.load(path)


def test_copies_have_params_of_their_own(spark):
    made = of_own()
    grid = ParamGridBuilder().addGrid(made.maxIter, [1, 5]).addGrid(made.optimizer, [Adam(0.1), SGD(0.2)]).build()
    copies = [made.copy(each) for each in grid]
    assert [(each.getMaxIter(), each.getOptimizer()) for each in copies] == [(1, Adam(0.1)), (1, SGD(0.2)), (5, Adam(0.1)), (5, SGD(0.2))]
    assert (made.getMaxIter(), made.isSet("optimizer")) == (2, False)
    assert all(each.uid == made.uid and each._given[0] is made._given[0] for each in copies)
    assert isinstance(copies[0], Estimator)


def test_pipelines_are_saved_before_and_after_they_are_fitted(spark, ps, tmp_path):
    df = spark.createDataFrame(rows_of(120), SCHEMA).coalesce(1)
    sql = SQLTransformer(statement="SELECT *, 2 * x AS twice FROM __THIS__")
    columns = {"categoricalCols": ["a", "c", "w"], "numericCols": ["twice"]}
    first = DeepFMClassifier(embeddingDim=2, hiddenUnits=[4], numWorkers=1, seed=3, **columns)
    own = TorchEstimator(module=Net(), numWorkers=1, **COLUMNS)
    for names in (first, own):
        kind = type(names).__name__
        names.setPredictionCol(f"p{kind}").setProbabilityCol(f"q{kind}").setRawPredictionCol(f"r{kind}")
    pipeline = Pipeline(stages=[sql, first, own])
    pipeline.save(str(tmp_path / "pipeline"))
    loaded = Pipeline.load(str(tmp_path / "pipeline"))
    assert [type(each).__name__ for each in loaded.getStages()] == ["SQLTransformer", "DeepFMClassifier", "TorchEstimator"]
    fitted = loaded.fit(df)
    fitted.save(str(tmp_path / "model"))
    again = PipelineModel.load(str(tmp_path / "model"))
    shown = ["qDeepFMClassifier", "qTorchEstimator", "pTorchEstimator"]
    ours, theirs = (each.transform(df).orderBy("id").select(*shown).collect() for each in (fitted, again))
    assert ours == theirs
    assert np.isfinite([row.qTorchEstimator[1] for row in ours]).all()
