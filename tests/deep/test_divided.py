"""Modules that are divided among workers learn what they learn undivided, and no worker has more than its part."""

from __future__ import annotations

import gc
import json
import math
import pathlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sparkps.errors import WorkerFailed
from sparkps.mllib.deep import TorchEstimator, driver
from sparkps.mllib.deep.job import pickled, unpickled
from sparkps.mllib.errors import InvalidParam
from sparkps.nn.partition import layers_of, materialized, parts_of, skeleton, stages_of
from sparkps.optim import SGD, Adagrad
from tests.harness.deep_models import COLUMNS, SCHEMA, Net, layered, rows_of

ROWS = 150
#: How a module is divided, and the schedule of a pipeline.
KINDS = {
    "gpipe": {"modelParallel": "pipeline", "pipelineSchedule": "gpipe", "microBatches": 4},
    "1f1b": {"modelParallel": "pipeline", "pipelineSchedule": "1f1b", "microBatches": 7},
    "fsdp": {"modelParallel": "fsdp"},
}


@pytest.fixture(scope="module")
def rows(spark):
    return spark.createDataFrame(rows_of(ROWS), SCHEMA).localCheckpoint()


@pytest.fixture(autouse=True)
def leaves_nothing(request):
    yield
    if "ps" in request.fixturenames:
        status = request.getfixturevalue("ps").status()
        assert (status["groups"], status["tables"]) == ([], [])


def estimator(module=None, **params):
    torch.manual_seed(5)
    module = module or layered(Adagrad(0.3))
    given = {"optimizer": Adagrad(0.3), "numWorkers": 2, "batchSize": ROWS, "maxIter": 4, **COLUMNS, **params}
    return TorchEstimator(module=module, **given)


def assert_same(model, other):
    for name, theirs in other.module.state_dict().items():
        np.testing.assert_allclose(model.module.state_dict()[name], theirs, rtol=1e-5, atol=1e-5, err_msg=name)
    for name, table in other.tables.items():
        np.testing.assert_allclose(model.tables[name].look_up(table.keys), table.rows, rtol=1e-5, atol=1e-5, err_msg=name)
    assert model.summary.objectiveHistory == pytest.approx(other.summary.objectiveHistory, rel=1e-5)


# ---- the same as undivided ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def of_one_worker(ps, rows):
    return [estimator(numWorkers=1, dense=dense, weightCol="weight").fit(rows) for dense in ("ps", "allreduce")]


@pytest.mark.parametrize("kind", KINDS)
def test_two_workers_with_parts_learn_what_one_does_with_the_whole(ps, rows, of_one_worker, kind):
    model = estimator(weightCol="weight", **KINDS[kind]).fit(rows)
    for other in of_one_worker:
        assert_same(model, other)
    assert model.summary.rows == ROWS


#: Batches of unequal sizes, rows for validation, and an end before the last epoch.
SMALL = {"batchSize": 13, "maxIter": 12, "validationIndicatorCol": "aside", "earlyStoppingRounds": 2, "deterministic": True}


@pytest.fixture(scope="module")
def undivided(ps, rows):
    return estimator(**SMALL).fit(rows)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_for_validation_end_training_where_they_do_undivided(ps, rows, undivided, kind):
    more = {"accumulationSteps": 3} if kind == "fsdp" else {}
    model = estimator(**SMALL, **KINDS[kind], **more).fit(rows)
    assert model.summary.totalIterations == undivided.summary.totalIterations < 12
    assert model.summary.reason == undivided.summary.reason
    assert model.summary.validationHistory == pytest.approx(undivided.summary.validationHistory, rel=1e-4)
    for name, measured in undivided.summary.validationMetrics.items():
        assert model.summary.validationMetrics[name] == pytest.approx(measured, rel=1e-3), name
    for name, theirs in undivided.module.state_dict().items():
        np.testing.assert_allclose(model.module.state_dict()[name], theirs, rtol=1e-3, atol=1e-4, err_msg=name)
    scored = model.transform(rows.where("aside")).select("label", "probability").collect()
    losses = [-math.log(row.probability[int(row.label)]) for row in scored]
    assert np.mean(losses) == pytest.approx(min(model.summary.validationHistory), rel=1e-4)


@pytest.mark.parametrize("kind", ["1f1b", "fsdp"])
def test_workers_without_rows_take_part(ps, rows, kind):
    one = rows.limit(1).localCheckpoint()
    assert_same(estimator(**KINDS[kind]).fit(one), estimator(numWorkers=1).fit(one))


# ---- what a worker holds -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Watched:
    """A train function that says how many numbers of parameters its process has, whoever refers to them, at each tick."""

    train: Callable[[Any, Any], Any]
    directory: str

    def __call__(self, worker: Any, batches: Any) -> Any:
        tick, found, before = worker.tick, [], held()  # Python workers are used again, and may have other modules

        def watched(state: bytes | None = None) -> None:
            found.append(held() - before)
            (pathlib.Path(self.directory) / f"{worker.rank}.json").write_text(json.dumps(found))
            tick(state)

        worker.tick = watched
        return self.train(worker, batches)


def held() -> int:
    """Numbers in the memory of all parameters of this process."""
    gc.collect()
    return sum(in_memory(each.detach()) for each in gc.get_objects() if isinstance(each, nn.Parameter))


def in_memory(tensor: torch.Tensor) -> int:
    own = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    # Torch frees the memory of parameters that it has gathered, and keeps their shapes.
    return 0 if own.is_meta else min(own.numel(), own.untyped_storage().nbytes() // own.element_size())


@pytest.mark.parametrize("kind", ["none", *KINDS])
def test_no_worker_holds_more_than_its_part(ps, rows, monkeypatch, tmp_path, kind):
    made = driver.DeepTask
    monkeypatch.setattr(driver, "DeepTask", lambda rank_job: Watched(made(rank_job), str(tmp_path)))
    how = KINDS.get(kind, {})
    estimator(maxIter=2, **how).fit(rows)
    found = [json.loads((tmp_path / f"{rank}.json").read_text())[1:] for rank in range(2)]
    module = layered(Adagrad(0.3))
    whole = sum(each.numel() for each in module.parameters())
    if how:
        expected = [sum(each.numel() for each in part) for part in parts_of(module, how["modelParallel"], 2)]
        assert sum(expected) == whole
        assert max(expected) < 0.75 * whole
    else:
        expected = [whole, whole]
    assert found == [[each] * 2 for each in expected]


# ---- what is refused, and what fails -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"modelParallel": "tensor"}, "none, pipeline, fsdp"),
        ({"pipelineSchedule": "zb"}, "gpipe, 1f1b"),
        ({"microBatches": 0}, "microBatches"),
        ({"modelParallel": "fsdp", "consistency": "ssp"}, "each step together"),
        ({"modelParallel": "fsdp", "numWorkers": 0}, "numWorkers"),
        ({"modelParallel": "pipeline", "numWorkers": 1}, "at least 2"),
        ({"modelParallel": "pipeline", "dense": "allreduce"}, "dense='ps'"),
        ({"modelParallel": "fsdp", "optimizer": SGD(0.1, clip_norm=1.0)}, "clip_value"),
        ({"modelParallel": "pipeline", "accumulationSteps": 2}, "microBatches"),
        ({"modelParallel": "pipeline", "numWorkers": 9}, "at most 8"),
        ({"modelParallel": "pipeline", "module": Net()}, "Sequential"),
        ({"modelParallel": "pipeline", "module": nn.Sequential(Net(norm=True), nn.Identity())}, "LayerNorm"),
    ],
)
def test_wrong_params_are_refused_by_name(ps, rows, params, match):
    with pytest.raises(InvalidParam, match=match):
        estimator(**params).fit(rows)


class Fails(nn.Module):
    def forward(self, given):
        raise RuntimeError("this layer does not work")


class Counts(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, given):
        self.calls += 1
        return given


@pytest.mark.parametrize(
    ("kind", "layer", "match"), [("1f1b", Fails, "does not work"), ("fsdp", Fails, "does not work"), ("gpipe", Counts, "Buffers")]
)
def test_a_layer_that_fails_at_one_worker_ends_the_fit(ps, rows, kind, layer, match):
    with pytest.raises(WorkerFailed, match=match):
        estimator(nn.Sequential(*layered(SGD(0.1)), layer()), **KINDS[kind]).fit(rows)


# ---- parts -------------------------------------------------------------------------------------------------------------


class Listed(nn.Module):
    """Layers under names of their own."""

    def __init__(self, *, outside: bool = False) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2)
        if outside:
            self.scale = nn.Parameter(torch.ones(1))

    def layers(self):
        return [self.first, nn.Tanh(), self.second]


def test_layers_are_those_that_a_module_lists():
    listed = Listed()
    assert layers_of(listed)[2] is listed.second
    assert [len(each) for each in stages_of(listed, 3)] == [1, 1, 1]
    with pytest.raises(ValueError, match="'scale'"):
        layers_of(Listed(outside=True))
    holder = nn.Module()
    holder.layers = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))  # as many modules call them: no method
    with pytest.raises(ValueError, match=r"or have a method `layers\(\)`"):
        layers_of(holder)


def test_stages_are_as_equal_as_can_be_and_the_first_has_the_embeddings():
    sizes = [5, 1, 1, 1, 5, 5]
    chain = nn.Sequential(*(nn.Linear(each, 1, bias=False) for each in sizes))
    assert [[layer.in_features for layer in stage] for stage in stages_of(chain, 3)] == [[5, 1], [1, 1, 5], [5]]
    late = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1), Net(), nn.Linear(1, 1))
    assert [len(each) for each in stages_of(late, 2)] == [3, 1]
    with pytest.raises(ValueError, match="at most 2"):
        stages_of(late, 3)


def test_layers_with_the_same_parameters_are_in_one_stage():
    shared = nn.Linear(2, 2)
    assert len(stages_of(nn.Sequential(shared, shared, nn.Linear(2, 9)), 2)) == 2
    with pytest.raises(ValueError, match="share parameters"):
        stages_of(nn.Sequential(shared, nn.Linear(2, 9), shared), 2)


@pytest.mark.parametrize("kind", ["pipeline", "fsdp"])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_parts_make_up_the_module(kind, count):
    module = nn.Sequential(*(nn.Linear(4, 4) for _ in range(5)), nn.Linear(4, 1))
    for part in parts_of(module, kind, count):
        for each in part:
            each.detach().add_(100.0)  # they share its memory
    assert all(((each > 98) & (each < 102)).all() for each in module.parameters())


def test_a_skeleton_has_shapes_and_ties_and_no_values():
    module = nn.Sequential(nn.Linear(200, 200), nn.Linear(200, 200), nn.BatchNorm1d(200))
    module[1].weight = module[0].weight
    module[1].bias.requires_grad_(False)
    packed = pickled(skeleton(module))
    assert len(packed) < 20_000 < len(pickled(module))
    found = materialized(unpickled(packed), torch.device("cpu"))
    assert found[0].weight is found[1].weight
    assert [tuple(each.shape) for each in found.parameters()] == [tuple(each.shape) for each in module.parameters()]
    assert torch.equal(found[1].bias, module[1].bias)
    assert torch.equal(found[2].running_var, module[2].running_var)
