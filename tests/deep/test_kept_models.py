"""Fitted models outlive their Spark: as graphs without sparkps, and loaded in plain Python."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from sparkps.errors import InvalidInput
from sparkps.mllib.deep import DeepFMClassifier, LogLoss, SquaredLoss, TorchModel
from sparkps.mllib.deep.columns import InputColumns
from sparkps.mllib.deep.job import pickled
from sparkps.mllib.deep.rows import LocalTable
from sparkps.mllib.deep.saved import SavedDeepModel
from sparkps.mllib.deep.scoring import Held
from sparkps.mllib.scoring import graph_inputs, load_model
from sparkps.nn import tables_of
from sparkps.optim import Adam
from tests.harness.deep_models import COLUMNS, SCHEMA, Net, rows_of

#: In a process that has no sparkps: scores arrays that another process has left.
ALONE = """
import sys, warnings
import numpy as np
folder = sys.argv[1]
sys.modules["sparkps"] = sys.modules["pyspark"] = None
arrays = dict(np.load(f"{folder}/inputs.npz"))
import onnxruntime
np.save(f"{folder}/onnx.npy", onnxruntime.InferenceSession(f"{folder}/model.onnx").run(["probability"], arrays)[0])
import torch
warnings.simplefilter("ignore")
model = torch.jit.load(f"{folder}/model.pt")
np.save(f"{folder}/torch.npy", model({name: torch.from_numpy(each) for name, each in arrays.items()})["probability"].numpy())
"""


@pytest.fixture(scope="module")
def model(spark, ps):
    df = spark.createDataFrame(rows_of(200), SCHEMA).coalesce(1)
    first = {"embeddingDim": 4, "hiddenUnits": [8], "numWorkers": 1, "embeddingOptimizer": Adam(0.05), "initStd": 0.3}
    return DeepFMClassifier(maxIter=3, **first, **COLUMNS).fit(df)


@pytest.fixture(scope="module")
def others(spark):
    """Rows of which some have a category that was never seen."""
    rows = [(*row[:3], "new", *row[4:]) if row[-1] % 5 == 0 else row for row in rows_of(30, seed=7)]
    return spark.createDataFrame(rows, SCHEMA).coalesce(1)


def test_graphs_score_where_there_is_no_sparkps(model, others, tmp_path):
    model.to_torchscript(tmp_path / "model.pt")
    onnx = model.to_onnx(tmp_path / "model.onnx")
    files = {"columns.json": ""}
    with pytest.warns(FutureWarning):
        torch.jit.load(str(tmp_path / "model.pt"), _extra_files=files)
    columns = json.loads(files["columns.json"])
    assert columns == json.loads(next(each.value for each in onnx.metadata_props if each.key == "columns"))
    expected = np.array([row.probability.toArray() for row in model.transform(others).collect()])
    np.savez(tmp_path / "inputs.npz", **graph_inputs(columns, others.toArrow()))
    subprocess.run([sys.executable, "-c", ALONE, str(tmp_path)], check=True, cwd=tmp_path, timeout=100)
    for kind in ("torch", "onnx"):
        np.testing.assert_allclose(np.load(tmp_path / f"{kind}.npy"), expected, atol=1e-5)


# ---- loaded in plain Python --------------------------------------------------------------------------------------------

#: In a process without Java: scores rows that another process has left.
IN_PYTHON = """
import sys, json, os
import numpy as np
os.environ["JAVA_HOME"] = "/nonexistent"
from sparkps.mllib.scoring import load_model
model = load_model(sys.argv[1])
np.save(sys.argv[3], model.predict_proba(json.load(open(sys.argv[2]))))
"""


def test_a_model_is_loaded_and_scored_without_spark(model, others, tmp_path):
    model.save(str(tmp_path / "model"))
    rows = others.toArrow()
    (tmp_path / "rows.json").write_text(json.dumps(rows.to_pydict()))
    found = tmp_path / "found.npy"
    subprocess.run([sys.executable, "-c", IN_PYTHON, str(tmp_path / "model"), str(tmp_path / "rows.json"), str(found)], check=True)
    expected = model.transform(others).select("rawPrediction", "probability", "prediction").collect()
    np.testing.assert_array_equal(np.load(found), [row.probability.toArray() for row in expected])
    loaded = load_model(tmp_path / "model")
    assert repr(loaded) == f"<DeepFMModel {model.uid} of columns a, b, c, w, x>"
    np.testing.assert_array_equal(loaded.predict(rows.to_pandas()), [row.prediction for row in expected])
    np.testing.assert_array_equal(loaded.decision_function(rows), [row.rawPrediction[1] for row in expected])
    with pytest.raises(InvalidInput, match="towers to give vectors. DeepFMModel has none"):
        loaded.vectors(rows)
    with pytest.raises(InvalidInput, match="'x' must be given"):
        loaded.predict(rows.drop_columns(["x"]))


def test_what_cannot_be_loaded_is_refused(model, tmp_path):
    model.save(str(tmp_path / "model"))
    metadata = next((tmp_path / "model/metadata").glob("part-*"))
    text = metadata.read_text()
    metadata.write_text(text.replace("sparkps.mllib.deep.zoo.fields", "somewhere.else"))
    with pytest.raises(InvalidInput, match="must be of a class of sparkps.mllib.deep. Got 'somewhere.else.DeepFMModel'"):
        load_model(tmp_path / "model")
    metadata.write_text(text)
    (tmp_path / "model/dense/model.safetensors").unlink()
    with pytest.raises(InvalidInput, match=r"path where one was saved.*model\.safetensors"):
        load_model(tmp_path / "model")


def test_pickles_are_loaded_where_they_are_trusted(spark, ps, tmp_path):
    columns = InputColumns(("a", "b", "c", "w"), ("x",), kinds=("integer", "integer", "string", "string"), bags=("w",))
    module = Net()
    keys = np.array([3, 1, 2])
    tables = {name: LocalTable(table, keys, np.ones((3, table.dim), np.float32)) for name, table in tables_of(module).items()}
    model = TorchModel(Held(pickled(module), tables), columns, LogLoss()).setHandleInvalid("error")
    model.save(str(tmp_path / "model"))
    with pytest.raises(InvalidInput, match="origin must be trusted. Got trusted=False"):
        load_model(tmp_path / "model")
    loaded = load_model(tmp_path / "model", trusted=True)
    rows = spark.createDataFrame(rows_of(5), SCHEMA).coalesce(1)
    expected = [row.probability.toArray() for row in model.transform(rows).collect()]
    np.testing.assert_array_equal(loaded.predict_proba(rows.toArrow()), expected)
    regression = SavedDeepModel(TorchModel(model.held_, columns, SquaredLoss()))
    with pytest.raises(InvalidInput, match="must give a probability, by its loss. That of TorchModel gives prediction"):
        regression.predict_proba(rows.toArrow())
