"""Graphs of ONNX score as saved models do, in onnxruntime."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import onnxruntime
import pytest

from sparkps.mllib.linear.onnx_graph import LINKS_WITH_GRAPH, onnx_model
from sparkps.mllib.models.links import LINKS
from sparkps.mllib.scoring import Coefficients, SavedLinearModel

RNG = np.random.default_rng(6)
X = RNG.normal(size=(50, 5))
X[0] = 0.0


def run(model: Any, dtype: str) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"features": X.astype(dtype)}), strict=True))


def both(outputs: int, dtype: str, **of: Any) -> tuple[SavedLinearModel, dict[str, np.ndarray]]:
    """The model in plain Python, and what the graph of the same says of the rows."""
    weights, intercepts = RNG.normal(size=(outputs, 5)), RNG.normal(size=outputs)
    values, intercept = (weights[0], float(intercepts[0])) if outputs == 1 else (weights.T, intercepts)
    plain = SavedLinearModel(Coefficients(np.arange(5), values), intercept, 5, 5, **of)
    found = run(onnx_model(weights, intercepts.tolist(), dtype=dtype, **{"link": "", **of}), dtype)
    return plain, found


PRECISION = {"float32": 3e-5, "float64": 1e-12}


@pytest.mark.parametrize("dtype", PRECISION)
@pytest.mark.parametrize("link", sorted(LINKS_WITH_GRAPH - {"softmax"}))
def test_a_regression_predicts_its_means(link: str, dtype: str) -> None:
    plain, found = both(1, dtype, kind="regression", link=link)
    precision = 1e-6 if link == "probit" else PRECISION[dtype]
    assert found["prediction"].dtype == dtype
    np.testing.assert_allclose(found["prediction"], plain.predict(X), rtol=10 * precision, atol=precision)


def test_every_link_but_a_mixture_has_a_graph() -> None:
    assert set(LINKS) == {*LINKS_WITH_GRAPH, "mixture"}


@pytest.mark.parametrize("dtype", PRECISION)
@pytest.mark.parametrize("threshold", [0.0, 0.3, 1.0])
def test_two_classes_have_probabilities_and_a_label(threshold: float, dtype: str) -> None:
    plain, found = both(1, dtype, kind="binary", link="sigmoid", threshold=threshold)
    np.testing.assert_allclose(found["probabilities"], plain.predict_proba(X), atol=PRECISION[dtype])
    np.testing.assert_array_equal(found["label"], plain.predict(X))
    assert found["label"].dtype == np.int64


@pytest.mark.parametrize("dtype", PRECISION)
def test_a_side_has_a_raw_prediction_and_a_label(dtype: str) -> None:
    plain, found = both(1, dtype, kind="side", threshold=0.2)
    np.testing.assert_allclose(found["raw"][:, 1], plain.decision_function(X), atol=PRECISION[dtype])
    np.testing.assert_array_equal(found["raw"][:, 0], -found["raw"][:, 1])
    np.testing.assert_array_equal(found["label"], plain.predict(X))


@pytest.mark.parametrize("dtype", PRECISION)
@pytest.mark.parametrize("thresholds", [None, [1.0, 0.2, 3.0], [1.0, 0.0, 1.0]])
def test_many_classes_have_probabilities_and_a_label(thresholds: list[float] | None, dtype: str) -> None:
    plain, found = both(3, dtype, kind="multinomial", link="softmax", thresholds=thresholds)
    np.testing.assert_allclose(found["probabilities"], plain.predict_proba(X), atol=PRECISION[dtype])
    np.testing.assert_array_equal(found["label"], plain.predict(X))


def test_metadata_are_those_that_are_given() -> None:
    model = onnx_model(np.ones((1, 2)), [0.0], kind="regression", link="", about={"uid": "u1"})
    session = onnxruntime.InferenceSession(model.SerializeToString())
    assert session.get_modelmeta().custom_metadata_map == {"uid": "u1"}
    assert session.get_inputs()[0].shape[1] == 2


def test_without_onnx_the_error_says_what_to_install() -> None:
    code = "import sys; sys.modules['onnx'] = None\nfrom sparkps.mllib.linear.onnx_graph import onnx_package\nonnx_package()"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False)
    assert "ConfigError: `to_onnx` needs the package onnx: pip install 'sparkps[onnx]'." in ran.stderr
