"""Saved models in plain Python: the scores of our executors to the last bit, from files as Spark writes them."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import sparse

from sparkps.errors import ConfigError, InvalidInput
from sparkps.mllib.coefficients import LocalCoefficients
from sparkps.mllib.data.features import Features
from sparkps.mllib.models.scoring import margins
from sparkps.mllib.scoring import Coefficients, SavedLinearModel, load_model

RNG = np.random.default_rng(3)
DENSE = RNG.normal(size=(60, 40)) * (RNG.random((60, 40)) < 0.4)
KEYS = np.flatnonzero(RNG.random(40) < 0.7)
VALUES = RNG.normal(size=len(KEYS)) * 10.0 ** RNG.integers(-3, 2, len(KEYS))
MODEL = SavedLinearModel(Coefficients(KEYS, VALUES), 0.1, 40, 40, "sigmoid", 0.5)


def in_executors(rows: sparse.csr_matrix) -> np.ndarray:
    """Margins as an executor computes them."""
    codes = np.zeros(rows.shape[0], np.int8)
    features = Features(rows.indptr.astype(np.int32), rows.indices.astype(np.int64), rows.data, codes, 0)
    return margins(features, LocalCoefficients(KEYS, VALUES[:, None]), [0.1])[:, 0]


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
def test_scores_are_those_of_executors_to_the_last_bit(dtype: str) -> None:
    dense = (DENSE * 100).astype(dtype)
    rows = sparse.csr_matrix(dense)
    data = rows.data.astype(np.float32 if dtype == "float32" else np.float64)
    expected = in_executors(sparse.csr_matrix((data, rows.indices, rows.indptr)))
    triple = (rows.indptr, rows.indices.astype(np.int64), rows.data)
    for given in (rows, rows.tocoo(), sparse.csr_array(dense), dense, triple, dense.tolist()):
        np.testing.assert_array_equal(MODEL.decision_function(given), expected)
    np.testing.assert_array_equal(MODEL.decision_function((rows[3].indices, rows[3].data)), expected[3:4])


def test_indices_of_any_size_and_those_without_coefficient() -> None:
    model = SavedLinearModel(Coefficients(np.array([-7, 5, 10**15]), np.array([1.0, 2.0, 4.0])), 0.5)
    assert model.decision_function(([10**15, 6, 5, -7], [1.0, np.inf, 3.0, 2.0])).tolist() == [12.5]
    assert model.decision_function(([], [])).tolist() == [0.5]
    assert model.decision_function(([0, 0, 1], [5], [1.0])).tolist() == [0.5, 2.5]
    assert model.decision_function(np.empty((0, 3))).tolist() == []
    assert model.predict(([5], [1.0])).tolist() == [2.5], "without a link the margin is the prediction"
    assert SavedLinearModel(Coefficients(np.empty(0, np.int64), np.empty(0)), 0.5).predict(sparse.csr_matrix((2, 3))).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("wrong", ["", None, 3, b"/tmp/x"])
def test_what_is_no_path_is_refused(wrong: object) -> None:
    with pytest.raises(InvalidInput, match="`url` must be the path or URL that a model was saved to"):
        load_model(wrong)  # type: ignore[arg-type]


def test_probabilities_and_labels() -> None:
    p = MODEL.predict_proba(DENSE)
    np.testing.assert_allclose(p[:, 1], 1 / (1 + np.exp(-MODEL.decision_function(DENSE))))
    np.testing.assert_array_equal(p.sum(axis=1), 1.0)
    np.testing.assert_array_equal(MODEL.predict(DENSE), (p[:, 1] > 0.5).astype(float))
    with pytest.raises(InvalidInput, match="use `decision_function`"):
        SavedLinearModel(MODEL.coefficients, 0.1).predict_proba(DENSE)


@pytest.mark.parametrize(
    "rows",
    [
        np.zeros(40),
        np.zeros((2, 39)),
        sparse.csr_matrix((2, 41)),
        np.array([["a"] * 40]),
        ([1, 2], [1.0]),
        ([1.5], [1.0]),
        ([0, 2, 1], [1], [1.0]),
        ([1, 1], [1], [1.0]),
        ([0, 2], [1], [1.0]),
        ([[1]], [[1.0]]),
        ([1],),
    ],
)
def test_rows_of_another_shape_are_refused(rows: Any) -> None:
    with pytest.raises(InvalidInput, match="Rows must"):
        MODEL.decision_function(rows)


# ---- files ---------------------------------------------------------------------------------------------------------------


def saved(folder: pathlib.Path, **metadata: Any) -> pathlib.Path:
    """As Spark leaves a model: two files of coefficients, and files of its own."""
    (folder / "metadata").mkdir(parents=True)
    (folder / "data").mkdir()
    facts = {"intercept": 0.1, "numFeatures": 40, "width": 40, "link": "sigmoid"}
    told = {"class": "a.b.SomeModel", "uid": "u1", "paramMap": {}, "defaultParamMap": {"threshold": 0.5}, "sparkps": facts, **metadata}
    (folder / "metadata" / "part-00000").write_text(json.dumps(told) + "\n")
    for number, part in enumerate((slice(10, None), slice(0, 10))):
        pq.write_table(pa.table({"key": KEYS[part], "weight": VALUES[part]}), folder / "data" / f"part-{number}.snappy.parquet")
    for name in ("metadata/_SUCCESS", "data/_SUCCESS", "data/.part-0.snappy.parquet.crc", "metadata/.part-00000.crc"):
        (folder / name).write_bytes(b"")
    return folder


def test_model_is_loaded_as_it_was_saved(tmp_path: pathlib.Path) -> None:
    folder = saved(tmp_path / "a model", paramMap={"threshold": 0.3})
    for place in (folder, str(folder)):
        model = load_model(place)
        np.testing.assert_array_equal(model.coefficients.keys, KEYS)
        np.testing.assert_array_equal(model.coefficients.values, VALUES)
        assert (model.intercept, model.num_features, model.link, model.threshold) == (0.1, 40, "sigmoid", 0.3)
        assert (model.name, model.uid) == ("SomeModel", "u1")
        np.testing.assert_array_equal(model.decision_function(DENSE), MODEL.decision_function(DENSE))


@pytest.mark.parametrize(("pair", "threshold"), [([1.0, 3.0], 0.75), ([1.0, 0.0], 0.0)])
def test_two_thresholds_are_one(tmp_path: pathlib.Path, pair: list[float], threshold: float) -> None:
    assert load_model(saved(tmp_path / "m", paramMap={"thresholds": pair})).threshold == threshold


def test_what_is_no_model_is_refused_with_its_path(tmp_path: pathlib.Path) -> None:
    with pytest.raises(InvalidInput, match="path where one was saved.*nothing"):
        load_model(tmp_path / "nothing")
    with pytest.raises(InvalidInput, match=r"Got a org\.PipelineModel; the models of a pipeline are below 'stages'"):
        load_model(saved(tmp_path / "pipeline", **{"class": "org.PipelineModel", "sparkps": None}))
    broken = saved(tmp_path / "broken")
    (broken / "data" / "part-0.snappy.parquet").write_bytes(b"PAR1")
    with pytest.raises(InvalidInput, match="path where one was saved"):
        load_model(broken)
    with pytest.raises(ConfigError, match="The path of a model must be of a file system"):
        load_model("nosuch://x/y")


def test_nothing_of_spark_and_numba_is_imported(tmp_path: pathlib.Path) -> None:
    folder = saved(tmp_path / "m")
    code = (
        f"import sys; from sparkps.mllib.scoring import load_model; print(load_model({str(folder)!r}).predict([[0.0] * 40]))\n"
        "print([name for name in ('pyspark', 'numba', 'zmq', 'pandas', 'scipy') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=50)
    assert ran.stdout.split("\n")[:2] == ["[1.]", "[]"]


def test_label_1_is_predicted_above_the_threshold_only() -> None:
    model = SavedLinearModel(Coefficients(np.array([0]), np.array([1.0])), intercept=0.0, link="sigmoid", threshold=0.5)
    assert model.predict(np.array([[0.0], [1.0]])).tolist() == [0.0, 1.0]


# ---- several outputs, and other kinds ------------------------------------------------------------------------------------

MANY = RNG.normal(size=(len(KEYS), 3))
OF_THREE = SavedLinearModel(Coefficients(KEYS, MANY), np.array([0.1, -0.2, 0.3]), 40, 40, "softmax")


def test_scores_of_many_outputs_are_those_of_executors_to_the_last_bit() -> None:
    rows = sparse.csr_matrix(DENSE)
    features = Features(rows.indptr.astype(np.int32), rows.indices.astype(np.int64), rows.data, np.zeros(60, np.int8), 0)
    expected = margins(features, LocalCoefficients(KEYS, MANY), [0.1, -0.2, 0.3])
    for given in (rows, DENSE, (rows.indptr, rows.indices.astype(np.int64), rows.data)):
        np.testing.assert_array_equal(OF_THREE.decision_function(given), expected)
    p = OF_THREE.predict_proba(DENSE)
    np.testing.assert_allclose(p, np.exp(expected) / np.exp(expected).sum(axis=1, keepdims=True))
    np.testing.assert_array_equal(OF_THREE.predict(DENSE), expected.argmax(axis=1))


def saved_with(folder: pathlib.Path, values: np.ndarray, facts: dict[str, Any], **params: Any) -> pathlib.Path:
    """Coefficients of several values a key."""
    saved(folder, paramMap=params, sparkps={"numFeatures": 40, "width": 40, **facts})
    for part in (folder / "data").glob("*.parquet"):
        part.unlink()
    pq.write_table(pa.table({"key": KEYS, "weights": values.tolist()}), folder / "data" / "part-0.parquet")
    return folder


def test_a_model_of_many_outputs_is_loaded_as_it_was_saved(tmp_path: pathlib.Path) -> None:
    facts = {"intercepts": [0.1, -0.2, 0.3], "link": "softmax", "kind": "multinomial", "dim": 3}
    model = load_model(saved_with(tmp_path / "m", MANY, facts, thresholds=[1.0, 1e-9, 1.0]))
    np.testing.assert_array_equal(model.decision_function(DENSE), OF_THREE.decision_function(DENSE))
    assert set(model.predict(DENSE)) == {1.0}


@pytest.mark.parametrize(
    ("link", "kind", "means"),
    [("log", "regression", np.exp), ("", "regression", lambda m: m), ("", "side", lambda m: (m > 0.5).astype(float))],
)
def test_regressions_and_sides_predict_what_their_margins_mean(tmp_path: pathlib.Path, link: str, kind: str, means: Any) -> None:
    facts = {"intercepts": [0.1], "numFeatures": 40, "width": 40, "link": link, "kind": kind, "dim": 1}
    model = load_model(saved(tmp_path / "m", sparkps=facts))
    np.testing.assert_allclose(model.predict(DENSE), means(model.decision_function(DENSE)), rtol=1e-12)


def test_a_model_of_another_family_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(InvalidInput, match="must hold a model of sparkps"):
        load_model(saved(tmp_path / "m", sparkps={"kind": "forest", "numFeatures": 40}))
