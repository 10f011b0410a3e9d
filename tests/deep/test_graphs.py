"""Models as TorchScript and ONNX give what the models themselves give, for any rows, in processes without sparkps."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnxruntime
import pyarrow as pa
import pytest
import torch
from torch import nn

from sparkps.errors import InvalidInput
from sparkps.initializers import Constant, Normal, Uniform
from sparkps.mllib import deep
from sparkps.mllib.deep.columns import InputColumns
from sparkps.mllib.deep.examples import read_inputs
from sparkps.mllib.deep.graph_formats import arrays_of, inputs_of, made_up, onnx_of, torchscript_of
from sparkps.mllib.deep.graphs import Scoring
from sparkps.mllib.deep.job import pickled
from sparkps.mllib.deep.losses import LogLoss, OwnLoss, SampledSoftmaxLoss, SoftmaxLoss, SquaredLoss, TasksLoss
from sparkps.mllib.deep.rows import LocalTable, TierTable
from sparkps.mllib.deep.saved import SavedDeepModel
from sparkps.mllib.deep.scoring import Held
from sparkps.mllib.deep.zoo import architectures, interest, tasks, towers
from sparkps.mllib.deep.zoo.blocks import Spec
from sparkps.mllib.deep.zoo.estimators import ArchitectureModel
from sparkps.mllib.deep.zoo.youtube import YouTubeDNNRecommenderModel
from sparkps.mllib.scoring import graph_inputs
from sparkps.nn import MISSING, Bags, Embedding, EmbeddingBag, tables_of
from sparkps.nn.graph import FirstRows, TensorBags, with_graph_embeddings
from sparkps.nn.local import first_rows
from sparkps.nn.tables import EmbeddingTable
from tests.harness.deep_models import Net

COLUMNS = InputColumns(("a", "b", "w"), ("x", "y"), kinds=("integer", "integer", "string"), bags=("w",))
VECTORS = InputColumns(features="v")
SPEC = Spec(dim=3, hidden=(6, 4), init_std=0.7)


def scoring_of(module, columns=COLUMNS, loss=None, **of):
    """A model with known rows."""
    draw = np.random.default_rng(3)
    tables = {}
    for name, table in tables_of(module).items():
        keys = draw.integers(0, 1 << 62, 40)
        tables[name] = LocalTable(table, keys, draw.normal(size=(40, table.dim)).astype(np.float32))
    return Scoring(Held(pickled(module), tables), columns, loss or LogLoss(), **of)


def session_of(made):
    return onnxruntime.InferenceSession(made.SerializeToString())


def same(scoring, run, sizes=(1, 2, 40)):
    for rows in sizes:
        arrays = arrays_of(made_up(scoring, rows), scoring.columns)
        for name in scoring.columns.bags:
            arrays[name][1::3] = MISSING
        expected, found = scoring.expected(inputs_of(arrays, scoring.columns)), run(arrays)
        assert set(found) == set(expected)
        for name, part in found.items():
            assert part.dtype == np.float32
            np.testing.assert_allclose(part, expected[name], rtol=1e-5, atol=1e-5)


def in_both(scoring, sizes=(1, 2, 40)):
    scripted = torchscript_of(scoring)

    def of_torch(arrays):
        return {name: part.numpy() for name, part in scripted({name: torch.from_numpy(a) for name, a in arrays.items()}).items()}

    session = session_of(onnx_of(scoring))
    names = [each.name for each in session.get_outputs()]
    same(scoring, of_torch, sizes)
    same(scoring, lambda arrays: dict(zip(names, session.run(None, arrays), strict=True)), sizes)


ZOO = {
    "MLP": (architectures.Perceptron, {}, 1),
    "WideAndDeep": (architectures.WideAndDeep, {}, 1),
    "DeepFM": (architectures.DeepFM, {}, 3),
    "NFM": (architectures.NeuralFM, {}, 1),
    "AFM": (architectures.AttentionalFM, {"attention": 4}, 1),
    "PNN": (architectures.ProductNetwork, {"outer": False}, 1),
    "PNN of outer products": (architectures.ProductNetwork, {"outer": True}, 1),
    "DCNv2": (architectures.CrossNetwork, {"cross": 2, "rank": 2}, 1),
    "XDeepFM": (architectures.CompressedInteractions, {"cin": [3, 2]}, 1),
    "DLRM": (architectures.RecommendationModel, {"bottom": [5]}, 1),
    "DIN": (interest.DeepInterest, {"target": "b", "history": "w", "attention": 4}, 1),
    "MMoE": (tasks.GatedExperts, {"experts": 2, "tower": [4]}, 2),
    "PLE": (tasks.LayeredExtraction, {"experts": 2, "levels": 2, "tower": [4]}, 2),
    "YouTubeDNN": (towers.WatchTimeRanking, {}, 1),
}


@pytest.mark.parametrize("name", ZOO)
def test_every_architecture(name):
    make, more, outputs = ZOO[name]
    torch.manual_seed(0)
    loss = LogLoss() if outputs == 1 else SoftmaxLoss(outputs) if outputs == 3 else TasksLoss(outputs)
    in_both(scoring_of(make(COLUMNS, replace(SPEC, more=more, outputs=outputs)), loss=loss))


def test_no_architecture_is_forgotten():
    made = {getattr(deep, name) for name in deep.__all__ if name.endswith("Model")}
    known = {each._architecture for each in made if issubclass(each, ArchitectureModel)}
    assert known == {towers.TwoTowers, *(make for make, _, _ in ZOO.values())}


@pytest.mark.parametrize("tower", ["user", "item"])
def test_towers(tower):
    more = {"item": "b", "categories": [], "numbers": ["y"], "history": [], "normalize": True, "temperature": 1.0}
    spec = replace(SPEC, more=more)
    held = scoring_of(towers.TwoTowers(COLUMNS, spec)).held
    model = YouTubeDNNRecommenderModel(held, COLUMNS, SampledSoftmaxLoss(), {"spec": spec.facts()})
    columns = {"user": ("a", "w", "x"), "item": ("b", "y")}[tower]
    rows = {"a": [1, None, 3], "b": [4, 5, 6], "w": [["k"], [], ["l", "m"]], "x": [0.5, 1.0, -1.0], "y": [1.0, 2.0, 3.0]}
    expected = SavedDeepModel(model).vectors(rows, tower)
    assert expected.shape == (3, 3)
    made, scripted = model.to_onnx(tower=tower), model.to_torchscript(tower=tower)
    facts = json.loads(next(each.value for each in made.metadata_props if each.key == "columns"))
    arrays = graph_inputs(facts, rows)
    assert {name.split(".")[0] for name in arrays} == set(columns)
    np.testing.assert_allclose(session_of(made).run(["vector"], arrays)[0], expected, atol=1e-5)
    tensors = {name: torch.from_numpy(each) for name, each in arrays.items()}
    np.testing.assert_allclose(scripted(tensors)["vector"].numpy(), expected, atol=1e-5)
    with pytest.raises(InvalidInput, match="'user' or 'item'"):
        model.to_onnx(tower="both")


def test_columns_of_vectors():
    in_both(scoring_of(architectures.DeepFM(VECTORS, SPEC), VECTORS, SquaredLoss()))


class Bagged(nn.Module):
    """Bags by a mode, of arrays and of several columns, a key made up while it runs, and a column that it does not read."""

    def __init__(self, mode, init):
        super().__init__()
        self.words = EmbeddingBag("words", 3, ["w"], mode=mode, init=init)
        self.both = EmbeddingBag("both", 3, ["a", "b"], mode=mode, init=init)
        self.cross = Embedding("cross", 3, ["a"], init=init)

    def forward(self, batch):
        keys = batch.categories.of(("a", "b"))
        made = torch.stack([batch.numeric[:, 0].long(), batch.numeric[:, 1].long() * 1000], 1)
        return self.words(batch["w"]) + self.both(keys) + self.cross(made).sum(1)


@pytest.mark.parametrize(("mode", "init"), [("sum", Uniform(-1.0, 1.0)), ("mean", Constant(0.5)), ("max", Normal(0.0, 1.0))])
def test_bags_of_every_mode_and_rows_of_every_initializer(mode, init):
    in_both(scoring_of(Bagged(mode, init), loss=OwnLoss(nn.functional.mse_loss)))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_missing_keys_of_bags_do_not_count(mode, weighted):
    if mode == "max" and weighted:
        pytest.skip("the largest of weighted rows is not defined")
    bag = EmbeddingBag("t", 2, ["w"], mode=mode, init=Constant(-1.0))
    weights = np.array([2.0, 3.0, 1.0], np.float32) if weighted else None
    text = Bags("w", np.array([7, MISSING, MISSING]), np.array([0, 2, 2, 3]), weights)
    graph = with_graph_embeddings(bag, {"t": (np.array([7]), np.full((1, 2), -4.0, np.float32))})
    parts = (torch.from_numpy(text.keys), torch.from_numpy(text.offsets), text.of_entries)
    expected = -8.0 if weighted and mode == "sum" else -4.0
    assert graph(TensorBags("w", *parts)).tolist() == [[expected] * 2, [0.0] * 2, [0.0] * 2]


def with_storage(scoring, storage):
    """As an estimator with the Param has it: its module says nothing of it."""
    tables = {n: LocalTable(replace(each.table, storage=storage), each.keys, each.rows) for n, each in scoring.held.tables.items()}
    return replace(scoring, held=Held(scoring.held.module, tables))


@pytest.mark.parametrize("said_by", ["module", "estimator"])
@pytest.mark.parametrize("storage", ["float16", "bfloat16"])
def test_rows_that_lie_in_16_bits(storage, said_by):
    of = {"init": Uniform(1.0, 2.0), **({"storage": storage} if said_by == "module" else {})}
    scoring = scoring_of(OfTwoNames(**of), loss=OwnLoss(nn.functional.mse_loss))
    in_both(with_storage(scoring, storage) if said_by == "estimator" else scoring)


@pytest.mark.parametrize("storage", ["float16", "bfloat16"])
@pytest.mark.parametrize("init", [Constant(0.3), Constant(1e5), Constant(-3.4e38), Uniform(-1.0, 1.0), Normal(0.0, 1e5)])
def test_first_rows_of_graphs_are_rounded_as_the_nodes_do(init, storage):
    table, keys = EmbeddingTable("t", 4, ("f",), init=init, storage=storage), np.arange(50)
    np.testing.assert_array_equal(FirstRows(table)(torch.from_numpy(keys)).numpy(), first_rows(table, keys))


class OfTwoNames(nn.Module):
    """One embedding under two names."""

    def __init__(self, **of):
        super().__init__()
        self.e = Embedding("t", 3, ["a", "b"], **of)
        self.f = self.e

    def forward(self, batch):
        return self.e(batch["a"]) * self.f(batch["b"])


def test_an_embedding_of_two_names():
    in_both(scoring_of(OfTwoNames(), loss=OwnLoss(nn.functional.mse_loss)))


def test_thresholds_choose_the_class():
    module = architectures.Perceptron(COLUMNS, replace(SPEC, outputs=3))
    scoring = scoring_of(module, loss=SoftmaxLoss(3), thresholds=[0.9, 0.0, 0.2])
    in_both(scoring)
    assert set(scoring.expected(made_up(scoring, 40))["prediction"]) == {1.0}  # a threshold of 0 is always reached


def test_tables_without_rows_begin_as_they_would():
    scoring = scoring_of(architectures.Perceptron(COLUMNS, SPEC))
    empty = {name: LocalTable(each.table, each.keys[:0], each.rows[:0]) for name, each in scoring.held.tables.items()}
    in_both(replace(scoring, held=Held(scoring.held.module, empty)))


# ---- what cannot be a graph --------------------------------------------------------------------------------------------


class OfOneBatch(nn.Module):
    """Computes with a number of Python that depends on the batch."""

    def __init__(self):
        super().__init__()
        self.item = Embedding("item", 1, ["a"])

    def forward(self, batch):
        return self.item(batch["a"])[:, 0] * int(batch.numeric.shape[0])


class InNumpy(OfOneBatch):
    """Computes in numpy."""

    def forward(self, batch):
        return self.item(batch["a"])[:, 0] + torch.from_numpy(batch["w"].offsets[1:]).float()


@pytest.mark.parametrize("make", [torchscript_of, onnx_of])
@pytest.mark.parametrize("module", [OfOneBatch, InNumpy])
def test_modules_that_do_not_compute_on_tensors_alone_are_refused(module, make):
    with pytest.raises(InvalidInput, match="operations on tensors alone"):
        make(scoring_of(module()))


def test_tables_on_the_tier_are_refused(monkeypatch):
    scoring = scoring_of(Net(), InputColumns(("a", "b", "c", "w"), ("x",), kinds=("integer",) * 4, bags=("w",)))
    far = TierTable(scoring.held.tables["user"].table, None, owned=False)
    monkeypatch.setattr(TierTable, "rows_about", lambda self: 10_000_000)
    held = Held(scoring.held.module, {**scoring.held.tables, "user": far})
    with pytest.raises(InvalidInput, match="at most 64 MiB. Got 'user' of about 10,000,000 rows of 4 numbers, 228 MiB"):
        torchscript_of(replace(scoring, held=held))


# ---- raw values --------------------------------------------------------------------------------------------------------


def test_raw_values_become_the_keys_that_workers_make():
    columns = InputColumns(
        ("s", "i", "b", "f", "w", "n"), ("x",), features="v", kinds=("string", "integer", "integer", "category", "string", "integer"),
        bags=("w", "n"), vocabularies=(("w", "s"),),
    )  # fmt: skip
    table = pa.table({
        "s": ["Oslo", None, "", "å" * 20],
        "i": pa.array([1, -5, None, 1 << 62]),
        "b": [True, False, None, True],
        "f": [0.5, -0.0, None, 1e300],
        "w": [["a", None, "Oslo"], [], None, ["b"]],
        "n": pa.array([[1, 2], None, [], [None]], pa.list_(pa.int64())),
        "x": [1.5, 2, -3, 0],
        "v": pa.array([{"indices": [3, 1 << 40], "values": [0.5, 2.0]}, {"indices": [], "values": []}, {"indices": [1], "values": [0.0]},
                       {"indices": [0], "values": [-1.0]}]),
    })  # fmt: skip
    expected = arrays_of(read_inputs(columns, [table.column(name).combine_chunks() for name in columns.names]), columns)
    found = graph_inputs(json.loads(json.dumps(columns.facts())), table)
    assert list(found) == list(expected)
    for name, array in found.items():
        assert array.dtype == expected[name].dtype, name
        np.testing.assert_array_equal(array, expected[name], name)


def test_vectors_of_pyspark_and_numbers_are_read_as_vectors():
    from pyspark.ml.linalg import DenseVector, SparseVector

    columns = {"categorical": [], "kinds": [], "bags": [], "numeric": [], "features": "v"}
    found = graph_inputs(columns, {"v": [SparseVector(9, [2, 8], [0.0, 1.5]), DenseVector([0.0, 2.0]), [3.0, 0.0], ([7], [1.0])]})
    assert {name: array.tolist() for name, array in found.items()} == {
        "v": [2, 8, 1, 0, 7],
        "v.offsets": [0, 2, 3, 4, 5],
        "v.weights": [0.0, 1.5, 2.0, 3.0, 1.0],
    }
    for wrong in (([1, 1], [1.0, 1.0]), ([-1], [1.0]), ([1], [np.inf]), "text", None):
        with pytest.raises(InvalidInput, match="'v'"):
            graph_inputs(columns, {"v": [wrong]})


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"town": ["a"], "seen": [[1]]}, "'age' must be given"),
        ({"town": ["a"], "seen": [[1]], "age": [1.0, 2.0]}, "one length"),
        ({"town": [1], "seen": [[1]], "age": [1.0]}, "'town'"),
        ({"town": [["a", "b"]], "seen": [[1]], "age": [1.0]}, "'town' must hold one category"),
        ({"town": ["a"], "seen": [["x"]], "age": [1.0]}, "'seen'"),
        ({"town": ["a"], "seen": [[1]], "age": [None]}, "'age': a number must not be null"),
    ],
)
def test_wrong_rows_are_refused(rows, message):
    columns = {"categorical": ["town", "seen"], "kinds": ["string", "integer"], "bags": ["seen"], "numeric": ["age"]}
    with pytest.raises(InvalidInput, match=message):
        graph_inputs(columns, rows)
