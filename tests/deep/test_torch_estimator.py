"""`TorchEstimator` on a real tier: steps equal those of one torch process, whatever the number of workers; and what it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.linalg import Vectors
from pyspark.sql import functions as sf
from torch import nn

from sparkps.errors import ConfigError, InvalidInput, NonFiniteValues, WorkerFailed
from sparkps.initializers import Normal
from sparkps.mllib.deep import DeepFMClassifier, DeepFMRegressor, LogLoss, MMoEClassifier, TorchEstimator, TorchModel
from sparkps.mllib.deep.columns import DeepColumns, InputColumns
from sparkps.mllib.deep.examples import ExampleReader
from sparkps.mllib.errors import InvalidColumn, InvalidParam, InvalidRow
from sparkps.mllib.metrics import GlobalMetric
from sparkps.nn import EmbeddingBag, vocabularies_of
from sparkps.optim import FTRL, SGD, Adagrad, Adam, Momentum, RMSProp
from tests.harness.deep_models import COLUMNS, SCHEMA, Net, rows_of, trained_alone

ROWS = 240


@pytest.fixture(scope="module")
def rows(spark):
    frame = spark.createDataFrame(rows_of(ROWS), SCHEMA).coalesce(1)
    return frame.localCheckpoint()


@pytest.fixture(autouse=True)
def leaves_no_tables(ps):
    yield
    assert ps.status()["groups"] == []


def net(*args, **kwargs):
    torch.manual_seed(5)
    return Net(*args, **kwargs)


def estimator(module, **params):
    given = {"optimizer": SGD(0.1), "numWorkers": 1, "batchSize": ROWS, "maxIter": 1, **COLUMNS, **params}
    return TorchEstimator(module=module, **given)


def examples_of(frame, module, weight=""):
    """All rows of a DataFrame as an estimator reads them."""
    inputs = InputColumns(("a", "b", "c", "w"), ("x",), vocabularies=tuple(vocabularies_of(module).items()))
    columns = DeepColumns(inputs, ("label",), weight).resolved(frame)
    (batch,) = columns.selected(frame).toArrow().combine_chunks().to_batches()
    read, _ = ExampleReader(columns, LogLoss().label_rule).read(batch)
    return read


def alone(frame, module, dense, table, steps=1, weight=""):
    read = examples_of(frame, module, weight)
    weights = read.weights if weight else np.ones(len(read))
    return trained_alone(module, [(read.inputs.batch(), read.labels, weights)] * steps, LogLoss(), dense, table)


def assert_same(model, plain, rows, rtol):
    for name, theirs in plain.state_dict().items():
        if "table." not in name:
            np.testing.assert_allclose(model.module.state_dict()[name], theirs, rtol=rtol, atol=rtol, err_msg=name)
    for name, (keys, theirs) in rows.items():
        np.testing.assert_allclose(model.tables[name].look_up(keys), theirs, rtol=rtol, atol=rtol, err_msg=name)


@pytest.mark.parametrize("optimizer", [SGD(0.5), Adagrad(0.3)], ids=["sgd", "adagrad"])
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("weight", ["", "weight"])
def test_steps_are_those_of_one_torch_process(ps, rows, optimizer, steps, weight):
    module = net(optimizer)
    given = {"weightCol": weight} if weight else {}
    model = estimator(module, optimizer=optimizer, maxIter=steps, **given).fit(rows)
    plain, learned = alone(rows, module, optimizer, optimizer, steps, weight)
    assert_same(model, plain, learned, 1e-6)


@pytest.mark.parametrize("dense", ["ps", "allreduce"])
@pytest.mark.parametrize("accumulation", [1, 3])
def test_two_workers_step_as_one_does_on_all_their_rows(ps, rows, accumulation, dense):
    module = net(Adagrad(0.3))
    together = rows.repartition(2)
    given = {"optimizer": Adagrad(0.3), "maxIter": 4, "weightCol": "weight", "dense": dense}
    model = estimator(module, numWorkers=2, accumulationSteps=accumulation, **given).fit(together)
    plain, learned = alone(rows, module, Adagrad(0.3), Adagrad(0.3), 4, "weight")
    assert_same(model, plain, learned, 1e-5)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("optimizer", "norm"),
    [
        (SGD(0.2, l1=0.01), True),
        (Momentum(0.1, nesterov=True, l2=0.1), True),
        (RMSProp(0.01), False),  # before a normalization biases have no gradient but rounding, whose sign it would take steps by
        (Adagrad(0.1, clip_value=0.01), True),
    ],
    ids=["sgd", "momentum", "rmsprop", "adagrad"],
)
def test_copies_of_workers_are_what_the_tier_would_have(ps, rows, optimizer, norm, workers):
    given = {"optimizer": optimizer, "numWorkers": workers, "batchSize": 30, "maxIter": 2}
    ours, theirs = (
        estimator(net(norm=norm), dense=each, deterministic=True, validationIndicatorCol="aside", **given).fit(rows)
        for each in ("allreduce", "ps")
    )
    for name, each in theirs.module.state_dict().items():
        np.testing.assert_allclose(ours.module.state_dict()[name], each, rtol=2e-4, atol=2e-6, err_msg=name)
    assert ours.summary.validationHistory == pytest.approx(theirs.summary.validationHistory, rel=1e-4)


#: A value that is none of the defaults for each Param, and the field of a job in which it arrives.
GIVEN = {
    "maxIter": (7, "epochs"), "batchSize": (13, "batch_size"), "numWorkers": (3, "num_workers"), "deterministic": (True, "deterministic"),
    "seed": (11, "seed"), "dense": ("allreduce", "dense"), "syncBatchNorm": (True, "sync_batch_norm"),
    "modelParallel": ("fsdp", "model_parallel"), "pipelineSchedule": ("gpipe", "pipeline_schedule"), "microBatches": (9, "micro_batches"),
    "accumulationSteps": (5, "accumulation"), "amp": (True, "amp"), "prefetch": (4, "prefetch"), "cacheClocks": (2, "cache_clocks"),
    "cacheBytes": (1 << 20, "cache_bytes"), "transport": ("int8", "transport"), "storage": ("bfloat16", "storage"),
    "device": ("cpu", "device"), "earlyStoppingRounds": (6, "early_stopping_rounds"), "validationTol": (0.5, "validation_tol"),
    "checkpointInterval": (3, "checkpoint_interval"), "optimizer": (Adam(0.7), "optimizer"),
}  # fmt: skip


@pytest.mark.parametrize("param", GIVEN)
def test_every_param_arrives(rows, param):
    value, field = GIVEN[param]
    made = TorchEstimator(module=net(), **COLUMNS)
    assert getattr(made._job(rows), field) != value
    assert getattr(made.copy({made.getParam(param): value})._job(rows), field) == value


def test_parts_of_a_batch_add_up_to_it(ps, rows):
    whole, parts = (estimator(net(), maxIter=3, accumulationSteps=each).fit(rows) for each in (1, 7))
    for name, theirs in whole.module.state_dict().items():
        np.testing.assert_allclose(parts.module.state_dict()[name], theirs, rtol=1e-6, atol=1e-6)


def test_the_users_module_stays_as_it_is(ps, rows):
    module = net()
    before = {name: each.clone() for name, each in module.state_dict().items()}
    estimator(module).fit(rows)
    assert all(torch.equal(each, before[name]) for name, each in module.state_dict().items())


@pytest.mark.parametrize("consistency", ["bsp", "ssp", "asp"])
@pytest.mark.parametrize("workers", [1, 2])
def test_it_learns_under_every_consistency(ps, rows, consistency, workers):
    module = net(Adam(0.02), norm=True, dropout=0.1)
    made = estimator(
        module, optimizer=Adam(0.02), consistency=consistency, staleness=3, prefetch=2, numWorkers=workers, batchSize=20, maxIter=15
    )
    model = made.fit(rows.repartition(workers))
    losses = model.summary.objectiveHistory
    assert len(losses) == 15
    assert losses[-1] < 0.6 * losses[0]
    assert model.summary.areaUnderROC > 0.9
    assert set(model.stepSeconds) == {"prepare", "pull", "forward", "backward", "push", "sum", "tick"}


def test_the_same_seed_gives_the_same_model(ps, rows):
    first, second, other = (
        estimator(net(norm=True, dropout=0.3), batchSize=30, maxIter=2, numWorkers=2, deterministic=True, seed=seed).fit(rows)
        for seed in (1, 1, 2)
    )
    for name, each in first.module.state_dict().items():
        assert torch.equal(each, second.module.state_dict()[name]), name
    assert not torch.equal(first.module.hidden[0].weight, other.module.hidden[0].weight)


def test_running_means_are_those_of_all_workers(ps, rows):
    model = estimator(net(norm=True), numWorkers=2, maxIter=3).fit(rows.repartition(2))
    norm = model.module.hidden[1]
    assert int(norm.num_batches_tracked) == 3
    assert norm.running_mean.abs().sum() > 0


# ---- rows for validation -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("workers", "norm", "weight"), [(1, False, ""), (2, True, "weight")])
def test_rows_set_aside_are_measured_and_the_best_model_is_kept(ps, rows, workers, norm, weight):
    made = estimator(
        net(Adam(0.1), norm=norm), optimizer=Adam(0.1), batchSize=20, maxIter=40, numWorkers=workers, validationIndicatorCol="aside",
        earlyStoppingRounds=3, **({"weightCol": weight} if weight else {}),
    )  # fmt: skip
    model = made.fit(rows.repartition(workers))
    summary = model.summary
    assert summary.totalIterations < 40
    assert "has not become less in 3" in summary.reason
    assert summary.validationRows == rows.where("aside").count()
    assert summary.rows == rows.where("not aside").count()
    assert set(summary.validationMetrics) == {"areaUnderROC", "logLoss"}
    aside = model.transform(rows.where("aside")).select("label", "probability", "weight").collect()
    losses, weights = [-math.log(row.probability[int(row.label)]) for row in aside], [row.weight if weight else 1.0 for row in aside]
    best = int(np.argmin(summary.validationHistory))
    assert np.average(losses, weights=weights) == pytest.approx(summary.validationHistory[best], rel=1e-4)
    assert summary.validationMetrics["logLoss"][best] == pytest.approx(summary.validationHistory[best], rel=1e-4)


class ShareOfOnes(GlobalMetric):
    """A metric of a user's own."""

    name = "ones"

    def parts(self, margins, labels, weights=()):
        return np.array([labels.sum(), len(labels)])

    def value(self, parts):
        return float(parts[0] / parts[1])


def test_metrics_may_be_chosen_or_of_ones_own(ps, rows):
    made = estimator(net(), metrics=["accuracy", ShareOfOnes()], numWorkers=2, maxIter=2, validationIndicatorCol="aside")
    model = made.fit(rows.repartition(2))
    aside = model.transform(rows.where("aside")).select("label", "prediction").collect()
    measured = model.summary.validationMetrics
    assert list(measured) == ["accuracy", "ones"]
    assert measured["accuracy"][-1] == pytest.approx(np.mean([row.label == row.prediction for row in aside]))
    assert measured["ones"] == pytest.approx([np.mean([row.label for row in aside])] * 2)


@pytest.mark.parametrize("metrics", ["auc", [1], [len]])
def test_metrics_that_are_none(ps, rows, metrics):
    with pytest.raises(InvalidParam, match="must be some of areaUnderROC") as caught:
        estimator(net(), metrics=metrics, validationIndicatorCol="aside").fit(rows)
    assert caught.value.param == "metrics"


# ---- scoring -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(ps, rows):
    return estimator(net(Adam(0.05)), optimizer=Adam(0.05), batchSize=40, maxIter=5).fit(rows)


def test_scores_keep_rows_and_their_order(spark, model, rows):
    many = rows.crossJoin(spark.range(50).withColumnRenamed("id", "copy")).repartition(5).localCheckpoint()
    scored = model.transform(many)
    assert scored.count() == ROWS * 50
    ids = [row.id for row in many.select("id").collect()]
    found = scored.select("id", "rawPrediction", "probability", "prediction").collect()
    assert [row.id for row in found] == ids
    once = {row.id: row for row in model.transform(rows).select("id", "rawPrediction", "probability", "prediction").collect()}
    for row in found[::37]:
        assert row.rawPrediction[1] == pytest.approx(once[row.id].rawPrediction[1], rel=1e-5)
        assert row.prediction == float(row.rawPrediction[1] > 0)
        assert sum(row.probability) == pytest.approx(1.0)


def test_keys_never_seen_score_as_their_first_rows(spark, model):
    unseen = spark.createDataFrame([(0.0, 999, None, "nobody", [], 0.5, 1.0, False, 0)] * 2, SCHEMA)
    first, second = model.transform(unseen).select("rawPrediction").collect()
    assert first == second
    assert math.isfinite(first.rawPrediction[1])


def test_an_empty_frame_is_scored(model, rows):
    assert model.transform(rows.where("1 = 0")).collect() == []


def test_saved_models_are_the_same(spark, model, rows, tmp_path):
    path = str(tmp_path / "model")
    model.save(path)
    loaded = TorchModel.load(path)
    assert loaded.uid == model.uid
    assert repr(loaded.summary if loaded.hasSummary else None) == "None"
    ours, theirs = (each.transform(rows).orderBy("id").select("rawPrediction").collect() for each in (model, loaded))
    assert ours == theirs
    assert (tmp_path / "model" / "dense" / "model.safetensors").is_file()
    assert spark.read.parquet(f"{path}/rows/item").columns == ["key", "row"]
    with pytest.raises(InvalidInput, match="overwrite"):
        model.save(path)
    model.write().overwrite().save(path)
    with pytest.raises(InvalidInput, match="read from"):
        TorchModel.load(str(tmp_path / "nothing"))


def test_large_tables_stay_on_the_tier(spark, ps, rows, tmp_path, monkeypatch):
    from sparkps.mllib.deep import driver, persistence

    small = estimator(net(), maxIter=2).fit(rows)
    whole = driver.collected
    monkeypatch.setattr(driver, "collected", lambda table, held: whole(table, held, 100))
    large = estimator(net(), maxIter=2).fit(rows)
    assert {type(each).__name__ for each in large.tables.values()} == {"TierTable"}
    monkeypatch.setattr(persistence, "LOCAL_BYTES", 100)
    large.save(str(tmp_path / "model"))
    loaded = TorchModel.load(str(tmp_path / "model"))
    assert {type(each).__name__ for each in loaded.tables.values()} == {"TierTable"}
    scores = [each.transform(rows).orderBy("id").select("rawPrediction").collect() for each in (small, large, loaded)]
    assert scores[0] == scores[1] == scores[2]
    with pytest.raises(InvalidInput, match=r"each table must take at most 64 MiB\. Got '\w+' of about [\d,]+ rows .* stays on the tier"):
        large.to_torchscript()


def test_it_is_a_stage_of_pipelines(rows, ps, tmp_path):
    fitted = Pipeline(stages=[estimator(net(), maxIter=1)]).fit(rows)
    fitted.save(str(tmp_path / "pipeline"))
    again = PipelineModel.load(str(tmp_path / "pipeline"))
    assert again.transform(rows).count() == ROWS


# ---- inputs ------------------------------------------------------------------------------------------------------------


class OfVectors(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = EmbeddingBag("w", 1, ["features"], mode="sum", optimizer=Adagrad(0.5), init=Normal(0, 0.1))

    def forward(self, batch):
        return self.linear(batch["features"]).squeeze(1)


def test_non_zeros_of_vectors_are_weighted_categories(spark, ps):
    rng = np.random.default_rng(0)
    true = rng.normal(size=20)
    data = []
    for _ in range(400):
        places = sorted(rng.choice(20, 5, replace=False).tolist())
        values = rng.normal(size=5).tolist()
        data.append((float(true[places] @ values > 0), Vectors.sparse(20, places, values)))
    frame = spark.createDataFrame(data, ["label", "features"])
    made = TorchEstimator(module=OfVectors(), featuresCol="features", numWorkers=1, batchSize=50, maxIter=20)
    model = made.fit(frame)
    assert model.evaluate(frame).areaUnderROC > 0.98
    learned = model.tables["w"].look_up(np.arange(20))[:, 0]
    assert np.corrcoef(learned, true)[0, 1] > 0.9


# ---- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "error", "match"),
    [
        ({"categoricalCols": ["a", "b", "c", "w", "zz"]}, InvalidColumn, "'zz' must exist"),
        ({"categoricalCols": ["a", "b", "c"]}, InvalidInput, "'words'"),
        ({"numericCols": ["a"]}, InvalidColumn, "twice"),
        ({"numericCols": ["w"]}, InvalidColumn, "twice"),
        ({"numericCols": ["aside", "c"], "categoricalCols": ["a", "b", "w"]}, InvalidColumn, "must be numeric"),
        ({"loss": "tasks"}, InvalidParam, "loss"),
        ({"labelCol": "nope"}, InvalidColumn, "'nope' must exist"),
        ({"labelCol": "c"}, InvalidColumn, "twice"),
        ({"weightCol": "c"}, InvalidColumn, "twice"),
        ({"batchSize": 0}, InvalidParam, "batchSize"),
        ({"maxIter": -1}, InvalidParam, "maxIter"),
        ({"accumulationSteps": 0}, InvalidParam, "accumulationSteps"),
        ({"prefetch": -1}, InvalidParam, "prefetch"),
        ({"cacheClocks": -1}, InvalidParam, "cacheClocks"),
        ({"cacheBytes": -1}, InvalidParam, "cacheBytes"),
        ({"dense": "everywhere"}, InvalidParam, "dense"),
        ({"dense": "allreduce", "consistency": "asp"}, InvalidParam, "all workers step together"),
        ({"dense": "allreduce", "optimizer": FTRL(0.1)}, InvalidParam, "set dense='ps'"),
        ({"device": "tpu"}, InvalidParam, "device"),
        ({"consistency": "sometimes"}, InvalidParam, "consistency"),
        ({"loss": "hinge-ish"}, InvalidParam, "loss"),
    ],
)
def test_wrong_params_are_refused_by_name(ps, rows, params, error, match):
    with pytest.raises(error, match=match):
        estimator(net(), **params).fit(rows)


def test_a_module_must_be_one(ps, rows):
    with pytest.raises(InvalidParam, match=r"torch\.nn\.Module"):
        estimator(None).fit(rows)
    with pytest.raises(TypeError, match=r"sparkps\.optim"):
        estimator(net(), optimizer="adam")
    with pytest.raises(TypeError, match="no Param"):
        estimator(net(), learningRate=0.1)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"label": 2.0}, "a label must be 0 or 1"),
        ({"label": None}, "a label must not be null"),
        ({"x": float("nan")}, "a number must not be null, and finite"),
        ({"x": 1e300}, "a number must not be null, and finite"),
        ({"x": None}, "a number must not be null, and finite"),
        ({"weight": -1.0}, "a weight must be"),
        ({"aside": None}, "must not be null"),
    ],
)
def test_wrong_rows_are_named_or_left_out(ps, rows, change, match):
    bad = rows.withColumns({name: sf.when(sf.col("id") == 17, sf.lit(value)).otherwise(sf.col(name)) for name, value in change.items()})
    made = estimator(net(), weightCol="weight", validationIndicatorCol="aside")
    with pytest.raises(InvalidRow, match=match):
        made.fit(bad)
    skipped = made.setHandleInvalid("skip").fit(bad)
    assert skipped.summary.skippedRows == 1


def test_rows_that_cannot_be_scored(model, rows):
    bad = rows.withColumn("x", sf.when(sf.col("id") == 17, sf.lit(float("nan"))).otherwise(sf.col("x")))
    with pytest.raises(Exception, match="a number must not be null, and finite"):
        model.transform(bad).collect()
    assert model.copy({model.handleInvalid: "skip"}).transform(bad).count() == ROWS - 1
    with pytest.raises(InvalidColumn, match="must exist"):
        model.transform(rows.drop("c"))
    with pytest.raises(InvalidColumn, match="like that of the training"):
        model.transform(rows.withColumn("c", sf.lit(3)))


def test_no_rows_at_all(ps, rows):
    with pytest.raises(InvalidInput, match="at least one row"):
        estimator(net()).fit(rows.where("1 = 0"))


def test_more_workers_than_rows(ps, rows):
    model = estimator(net(), numWorkers=2, maxIter=2).fit(rows.limit(1).localCheckpoint())
    assert model.summary.rows == 1
    assert len(model.summary.objectiveHistory) == 2


def test_no_epochs_leave_the_module(ps, rows):
    module = net()
    model = estimator(module, maxIter=0).fit(rows)
    assert all(torch.equal(each, model.module.state_dict()[name]) for name, each in module.state_dict().items())


def test_a_loss_that_is_not_finite_ends_training(ps, rows):
    with pytest.raises(NonFiniteValues, match="smaller learning rate"):
        estimator(net(SGD(1e30)), optimizer=SGD(1e30), batchSize=20, maxIter=5, loss="squared").fit(rows)


def test_numbers_that_are_not_finite_after_the_last_step_are_no_model(ps, rows):
    with pytest.raises(NonFiniteValues, match=r"Got dense parameters .* smaller learning rate"):
        estimator(net(SGD(1.0)), optimizer=SGD(1e300), batchSize=100_000, maxIter=1, loss="squared").fit(rows)


class WrongShape(Net):
    def forward(self, batch):
        return super().forward(batch)[:, None].expand(-1, 2)


def test_outputs_of_a_wrong_shape_are_named(ps, rows):
    torch.manual_seed(0)
    with pytest.raises(WorkerFailed, match="one number a row"):
        estimator(WrongShape()).fit(rows)


class Raises(Net):
    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def forward(self, batch):
        with self.calls.open("a") as calls:
            calls.write("1")
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")


@pytest.mark.parametrize("dense", ["ps", "allreduce"])
def test_out_of_memory_on_a_device_is_told_with_what_to_set_and_not_tried_again(ps, rows, tmp_path, dense):
    must = r"OutOfDeviceMemory.*batchSize=240, accumulationSteps=1 and amp=False: CUDA out of memory"
    with pytest.raises(WorkerFailed, match=must):
        estimator(Raises(tmp_path / "calls"), dense=dense).fit(rows)
    assert (tmp_path / "calls").read_text() == "1"


def test_a_gpu_that_nobody_has_is_an_error(ps, rows):
    with pytest.raises(WorkerFailed, match=r"spark\.sparkps\.worker\.gpus"):
        estimator(net(), device="cuda").fit(rows)
    with pytest.raises(ConfigError, match=r"spark\.driver\.resource\.gpu\.amount.*gpusPerWorker"):
        estimator(net(), gpusPerWorker=0.5).fit(rows)
    with pytest.raises(InvalidParam, match=r"gpusPerWorker.*a number in \(0, 0\.5\].*0\.7"):
        estimator(net(), gpusPerWorker=0.7).fit(rows)
    assert estimator(net(), gpusPerWorker=0.5, device="cpu").fit(rows).summary.totalIterations == 1


def own_loss(output, labels):
    return nn.functional.binary_cross_entropy_with_logits(output, labels)


def test_a_loss_of_ones_own(ps, rows):
    ours, theirs = (estimator(net(), loss=each, maxIter=2).fit(rows) for each in (own_loss, "log"))
    for name, each in theirs.module.state_dict().items():
        np.testing.assert_allclose(ours.module.state_dict()[name], each, rtol=1e-5, atol=1e-7)
    assert "prediction" in ours.transform(rows).columns


class Tied(Net):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
        self.second.weight = self.first.weight

    def forward(self, batch):
        return super().forward(batch) + self.second(self.first(batch.numeric)).squeeze(1)


def test_tied_weights_stay_tied_and_are_saved(ps, rows, tmp_path):
    torch.manual_seed(0)
    model = estimator(Tied(), maxIter=2).fit(rows)
    model.save(str(tmp_path / "model"))
    loaded = TorchModel.load(str(tmp_path / "model"))
    assert loaded.module.first.weight is loaded.module.second.weight
    assert torch.equal(loaded.module.first.weight, model.module.first.weight)


def test_tables_are_dropped(ps, rows):
    estimator(net(), validationIndicatorCol="aside").fit(rows)
    assert ps.status()["tables"] == []


@pytest.mark.parametrize(("epochs", "said"), [(24, True), (25, False)])
def test_few_steps_are_told_once_with_what_to_set(ps, rows, caplog, epochs, said):
    estimator(net(), batchSize=ROWS // 4, maxIter=epochs).fit(rows)
    told = [each.getMessage() for each in caplog.records if "steps of a worker" in each.getMessage()]
    assert [each.partition(": ")[2] for each in told] == [
        "96 steps of a worker, 4 in each epoch, are few to learn from: raise `maxIter`, or lower `batchSize`."
    ] * said


# ---- summaries ---------------------------------------------------------------------------------------------------------


def test_probabilities_of_two_classes_are_drawn_beside_what_was_observed(ps, rows, tmp_path):
    model = estimator(net(), probabilityCol="").fit(rows)  # the summary has it all the same
    for summary in (model.summary, model.evaluate(rows)):
        (axes,) = summary.plot("calibration", path=tmp_path / "calibration.png").axes
        predicted, observed = next(line for line in axes.get_lines() if line.get_label() == "model").get_data()
        assert len(predicted) == len(observed) > 1
        assert ((predicted >= 0) & (predicted <= 1)).all()


# ---- thresholds --------------------------------------------------------------------------------------------------------


def test_thresholds_choose_the_class_of_the_largest_ratio(ps, rows):
    model = estimator(net()).fit(rows)
    low, high = (float(each) for each in np.quantile([row.probability[1] for row in model.transform(rows).collect()], [0.25, 0.75]))
    for positive in (low, high):
        thresholds = [1.0 - positive, positive]
        found = model.copy({model.thresholds: thresholds}).transform(rows).select("probability", "prediction").collect()
        assert [row.prediction for row in found] == [float(np.argmax(np.divide(row.probability.toArray(), thresholds))) for row in found]
        assert sum(row.prediction for row in found) == pytest.approx(ROWS * (0.75 if positive == low else 0.25), abs=2)
    for given in ([0.5], [0.1, 0.2, 0.7]):
        with pytest.raises(InvalidParam, match="one for each of its 2 classes"):
            model.copy({model.thresholds: given}).transform(rows)


@pytest.mark.parametrize(
    ("made", "given", "said"),
    [
        (lambda **more: TorchEstimator(module=net(), **COLUMNS, **more), [0.5], "must be one for each of its 2 classes. Got 1"),
        (lambda **more: DeepFMClassifier(numClasses=3, **COLUMNS, **more), [0.5, 0.5], "must be one for each of its 3 classes. Got 2"),
        (lambda **more: MMoEClassifier(labelCols=["label", "other"], **COLUMNS, **more), [0.5, 0.5], "must not be set"),
        (lambda **more: DeepFMRegressor(**COLUMNS, **more), [0.5, 0.5], "must not be set"),
    ],
    ids=["two classes", "three", "tasks", "numbers"],
)
def test_thresholds_that_do_not_fit_the_classes_are_refused_before_training(made, given, said, rows):
    with pytest.raises(InvalidParam, match=said):
        made(thresholds=given).fit(rows)
