"""Linear models as ONNX graphs: a dense matrix of features in, labels and probabilities, or predictions, out.

The graphs have operators of ONNX alone, of opset 17, so that any runtime of it scores as `transform` does, to the precision of its numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.mllib.models.onnx_files import onnx_package

Array = NDArray[Any]

#: Types of elements, by their numbers in the format.
_FLOAT, _INT64 = 1, 7

#: Of the operators, and of the file format that came with it.
OPSET, IR_VERSION = 17, 8


class _Graph:
    """Nodes under construction; a value is known by its name.

    Parameters
    ----------
    dtype : numpy.dtype
        Of features and of all that is computed.
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.onnx = onnx_package()
        self.dtype = dtype
        self.kind = self.onnx.helper.np_dtype_to_tensor_dtype(dtype)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, values: Any, dtype: Any = None) -> str:
        """A constant tensor."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(np.asarray(values, dtype or self.dtype), name))
        return name

    def node(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """The result of an operator."""
        name = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def output(self, name: str, columns: int = 0, kind: int = 0) -> Any:
        """The description of an output, or of an input: (N,), or (N, columns), of the graph's dtype or another."""
        shape: list[Any] = [None, columns] if columns else [None]
        return self.onnx.helper.make_tensor_value_info(name, kind or self.kind, shape)

    def column(self, value: str, output: str) -> str:
        """(N, 1) as (N,), under its name as an output."""
        return self.node("Squeeze", value, self.constant([1], np.int64), output=output)


def _phi(graph: _Graph, margin: str) -> str:
    """Φ = (1 + erf(m / √2)) / 2, in float32: runtimes have no error function of others."""
    single = graph.node("Cast", graph.node("Mul", margin, graph.constant(math.sqrt(0.5))), to=_FLOAT)
    erf = graph.node("Cast", graph.node("Erf", single), to=graph.kind)
    return graph.node("Mul", graph.node("Add", erf, graph.constant(1.0)), graph.constant(0.5))


def _cloglog(graph: _Graph, margin: str) -> str:
    inner = graph.node("Exp", graph.node("Neg", graph.node("Exp", margin)))
    return graph.node("Sub", graph.constant(1.0), inner)


def _sigmoid(graph: _Graph, margin: str) -> str:
    return graph.node("Sigmoid", margin)


#: By name of the link (`links.LINKS`), what makes the mean of a margin.
_MEANS: dict[str, Callable[[_Graph, str], str]] = {
    "": lambda graph, margin: margin,
    "cloglog": _cloglog,
    "identity": lambda graph, margin: margin,
    "inverse": lambda graph, margin: graph.node("Reciprocal", margin),
    "log": lambda graph, margin: graph.node("Exp", margin),
    "logit": _sigmoid,
    "probit": _phi,
    "sigmoid": _sigmoid,
    "softmax": lambda graph, margin: graph.node("Softmax", margin, axis=1),
    "sqrt": lambda graph, margin: graph.node("Mul", margin, margin),
}

#: Links that have a graph.
LINKS_WITH_GRAPH = frozenset(_MEANS)


def onnx_model(
    weights: Array,
    intercepts: Sequence[float],
    *,
    kind: str,
    link: str,
    threshold: float = 0.5,
    thresholds: Sequence[float] | None = None,
    dtype: str = "float32",
    about: dict[str, str] | None = None,
) -> Any:
    """The graph of a linear model.

    Parameters
    ----------
    weights : ndarray of shape (K, features)
    intercepts : sequence of K floats
    kind : str
        "regression", "binary", "side" or "multinomial", as in `scoring.SavedLinearModel`.
    link : str
        A name in `LINKS_WITH_GRAPH`.
    threshold : float
        Of label 1 of two.
    thresholds : sequence of K floats, optional
        What probabilities are divided by.
    dtype : str
        "float32" or "float64".
    about : dict, optional
        Metadata of the model.

    Returns
    -------
    onnx.ModelProto
        From ``features`` (N, features) of `dtype` it computes ``prediction`` (N,) of a regression; of a classifier ``label`` (N,), int64,
        and ``probabilities`` (N, K), or of a "side" ``raw`` (N, 2).
    """
    graph = _Graph(np.dtype(dtype))
    outputs, features = len(intercepts), weights.shape[1]
    rows = graph.node("MatMul", "features", graph.constant(weights.T))
    margin = graph.node("Add", rows, graph.constant([intercepts]))
    made = {
        "regression": lambda: _regression(graph, margin, link),
        "binary": lambda: _binary(graph, margin, link, threshold),
        "side": lambda: _side(graph, margin, threshold),
        "multinomial": lambda: _multinomial(graph, margin, link, thresholds, outputs),
    }[kind]()
    helper = graph.onnx.helper
    body = helper.make_graph(graph.nodes, "linear_model", [graph.output("features", features)], made, graph.constants)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="sparkps")
    helper.set_model_props(model, about or {})
    graph.onnx.checker.check_model(model)
    return model


def _regression(graph: _Graph, margin: str, link: str) -> list[Any]:
    graph.column(_MEANS[link](graph, margin), "prediction")
    return [graph.output("prediction")]


def _label(graph: _Graph, above: str) -> Any:
    """Label 1 where the truth value (N, 1) is true."""
    graph.column(graph.node("Cast", above, to=_INT64), "label")
    return graph.output("label", kind=_INT64)


def _binary(graph: _Graph, margin: str, link: str, threshold: float) -> list[Any]:
    p = _MEANS[link](graph, margin)
    label = _label(graph, graph.node("Greater", p, graph.constant(threshold)))
    graph.node("Concat", graph.node("Sub", graph.constant(1.0), p), p, output="probabilities", axis=1)
    return [label, graph.output("probabilities", 2)]


def _side(graph: _Graph, margin: str, threshold: float) -> list[Any]:
    label = _label(graph, graph.node("Greater", margin, graph.constant(threshold)))
    graph.node("Concat", graph.node("Neg", margin), margin, output="raw", axis=1)
    return [label, graph.output("raw", 2)]


def _multinomial(graph: _Graph, margin: str, link: str, thresholds: Sequence[float] | None, outputs: int) -> list[Any]:
    p = _MEANS[link](graph, margin)
    graph.node("Identity", p, output="probabilities")
    score = margin
    if thresholds is not None:
        scaled = graph.node("Div", p, graph.constant([thresholds]))
        score = graph.node("Where", graph.node("IsNaN", scaled), graph.constant(-np.inf), scaled)
    graph.node("ArgMax", score, output="label", axis=1, keepdims=0)
    return [graph.output("label", kind=_INT64), graph.output("probabilities", outputs)]


__all__ = ["IR_VERSION", "LINKS_WITH_GRAPH", "OPSET", "onnx_model"]
