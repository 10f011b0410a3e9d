"""Graphs of models in two formats, TorchScript and ONNX, each compared with the model before it is given."""

from __future__ import annotations

import io
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from inspect import signature
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sparkps.errors import ConfigError, InvalidInput
from sparkps.mllib.deep.columns import InputColumns
from sparkps.mllib.deep.examples import Inputs
from sparkps.mllib.deep.graphs import Scoring, ScoringGraph
from sparkps.mllib.deep.rows import LocalTable
from sparkps.mllib.models.onnx_files import onnx_package, write_onnx
from sparkps.nn.features import MISSING, Bags, Keys
from sparkps.nn.onnx_operators import OPSET, known_to_onnx

Array = NDArray[Any]

#: File beside the code of a TorchScript archive, and entry of ONNX's metadata, which say how inputs are made.
COLUMNS_FILE, COLUMNS_ENTRY = "columns.json", "columns"

#: Rows of the batch that is traced, and of those that its graph is compared on.
_TRACED, _COMPARED = 3, (1, 5)


# ---- rows to trace and to compare on -----------------------------------------------------------------------------------


def made_up(scoring: Scoring, rows: int) -> Inputs:
    """Rows with keys that the tables have, keys that they lack, and none; some bags are empty."""
    draw, columns = np.random.default_rng(rows), scoring.columns

    def keys(name: str, count: int) -> Array:
        tables = [each for each in scoring.held.tables.values() if name in each.table.features and isinstance(each, LocalTable)]
        known = [draw.choice(each.keys, count) for each in tables if len(each.keys)]
        return draw.choice(np.stack([*known, *known, draw.integers(0, 1 << 62, count)]), axis=0) if count else np.empty(0, np.int64)

    def bag(name: str) -> Bags:
        lengths = (np.arange(rows) + 1) % 3
        count = int(lengths.sum())
        weights = draw.normal(size=count).astype(np.float32) if name == columns.features else None
        return Bags(name, keys(name, count), np.concatenate(([0], np.cumsum(lengths))), weights)

    scalars = np.full((rows, len(columns.scalars)), MISSING, np.int64)
    for place, name in enumerate(columns.scalars):
        scalars[:, place] = np.where(draw.random(rows) < 0.1, MISSING, keys(name, rows))
    bags = {name: bag(name) for name in (*columns.bags, *([columns.features] if columns.features else []))}
    return Inputs(Keys(columns.scalars, scalars), bags, draw.normal(size=(rows, columns.numbers)).astype(np.float32))


def arrays_of(inputs: Inputs, columns: InputColumns) -> dict[str, Array]:
    """Rows as a graph takes them."""
    found: dict[str, Array] = {}
    for name in columns.names:
        if name in columns.numeric:
            found[name] = inputs.numeric[:, columns.numeric.index(name)]
        elif (bags := inputs.bags.get(name)) is not None:
            found |= {name: bags.keys, f"{name}.offsets": bags.offsets}
            found |= {} if bags.weights is None else {f"{name}.weights": bags.weights}
        else:
            found[name] = inputs.categories[name].keys[:, 0]
    return {name: np.ascontiguousarray(array) for name, array in found.items()}


def inputs_of(arrays: Mapping[str, Array], columns: InputColumns) -> Inputs:
    """Rows that a graph takes, as a model reads them."""
    first = columns.names[0]
    rows = len(arrays[f"{first}.offsets"]) - 1 if f"{first}.offsets" in arrays else len(arrays[first])
    scalars, numeric = np.empty((rows, len(columns.scalars)), np.int64), np.empty((rows, columns.numbers), np.float32)
    for place, name in enumerate(columns.scalars):
        scalars[:, place] = arrays[name]
    for place, name in enumerate(columns.numeric):
        numeric[:, place] = arrays[name]
    names = [name for name in columns.names if f"{name}.offsets" in arrays]
    bags = {name: Bags(name, arrays[name], arrays[f"{name}.offsets"], arrays.get(f"{name}.weights")) for name in names}
    return Inputs(Keys(columns.scalars, scalars), bags, numeric)


def _tensors(inputs: Inputs, columns: InputColumns) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays_of(inputs, columns).items()}


def _compare(scoring: Scoring, run: Callable[[Mapping[str, Array]], Mapping[str, Array]]) -> None:
    """Raise unless a graph gives what the model gives, on batches of other sizes than that which was traced."""
    for rows in _COMPARED:
        inputs = made_up(scoring, rows)
        expected = scoring.expected(inputs)
        found = run(arrays_of(inputs, scoring.columns))
        for name, part in found.items():
            if not np.allclose(part, expected[name], rtol=1e-4, atol=1e-5, equal_nan=True):
                raise InvalidInput(
                    f"A module must compute by operations on tensors alone, of any number of rows, to be a graph. The {name!r} of the graph"
                    f" differs from that of the module for {rows} rows; see that `forward` has no numbers of Python or arrays of numpy that"
                    " depend on its batch."
                )


# ---- the two formats ---------------------------------------------------------------------------------------------------


@contextmanager
def _made_clearly(what: str) -> Iterator[None]:
    """Without torch's advice to use what cannot do it, and with one sentence where a module cannot be a graph."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            yield
        except (RuntimeError, TypeError, ValueError, AttributeError) as error:
            said = str(error).strip().splitlines()
            raise InvalidInput(
                f"A module must compute by operations on tensors alone that {what} has, to be a graph: bags give `of_rows` and `of_entries`"
                f" as tensors. Got {said[0] if said else type(error).__name__!r}."
            ) from error


def torchscript_of(scoring: Scoring, path: Any = None) -> Any:
    """See `TorchModel.to_torchscript`."""
    graph = ScoringGraph(scoring)
    with _made_clearly("TorchScript"):
        example = _tensors(made_up(scoring, _TRACED), scoring.columns)
        traced = torch.jit.freeze(torch.jit.trace(graph.eval(), (example,), check_trace=False, strict=False))

    def run(arrays: Mapping[str, Array]) -> dict[str, Array]:
        with _made_clearly("TorchScript"):
            return {name: part.numpy() for name, part in traced({name: torch.from_numpy(a) for name, a in arrays.items()}).items()}

    _compare(scoring, run)
    if path is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            where = os.fspath(path) if isinstance(path, os.PathLike) else path
            torch.jit.save(traced, where, _extra_files={COLUMNS_FILE: json.dumps(scoring.columns.facts())})
    return traced


def onnx_of(scoring: Scoring, path: Any = None) -> Any:
    """See `TorchModel.to_onnx`."""
    onnx = onnx_package()
    graph = ScoringGraph(scoring)
    made = onnx.load_from_string(_exported(graph))
    _with_all_inputs(onnx, made, graph)
    onnx.helper.set_model_props(made, {**scoring.about, COLUMNS_ENTRY: json.dumps(scoring.columns.facts())})
    onnx.checker.check_model(made)
    if find_spec("onnxruntime") is not None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
        names = [each.name for each in session.get_outputs()]
        _compare(scoring, lambda arrays: dict(zip(names, session.run(None, arrays), strict=True)))
    write_onnx(made, path)
    return made


def _with_all_inputs(onnx: Any, made: Any, graph: ScoringGraph) -> None:
    """Give a model the inputs back that nothing depends on, which the exporter leaves out."""
    known = {each.name: each for each in made.graph.input}
    floats = {*graph.columns.numeric, f"{graph.columns.features}.weights"}
    for name in graph.inputs:
        kind = onnx.TensorProto.FLOAT if name in floats else onnx.TensorProto.INT64
        known.setdefault(name, onnx.helper.make_tensor_value_info(name, kind, [None]))
    del made.graph.input[:]
    made.graph.input.extend(known[name] for name in graph.inputs)


class _Positional(nn.Module):
    """A graph whose inputs and outputs have an order, as ONNX's exporter takes them."""

    def __init__(self, graph: ScoringGraph) -> None:
        super().__init__()
        self.graph = graph

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.graph(dict(zip(self.graph.inputs, tensors, strict=True))).values())


def _exported(graph: ScoringGraph) -> bytes:
    """A graph in ONNX's format, by torch's exporter of traces: that of programs needs packages of its own."""
    taken = signature(torch.onnx.export).parameters
    if "dynamic_axes" not in taken:
        raise ConfigError(f"`to_onnx` needs a torch that exports traces, as 2.15 does. Got {torch.__version__}; use `to_torchscript`.")
    inputs = _tensors(made_up(graph.scoring, _TRACED), graph.columns)
    entries = {name for name in graph.inputs if f"{name}.offsets" in graph.inputs}
    axes = {name: {0: f"{name} entries" if name in entries or name.endswith(".weights") else "rows"} for name in graph.inputs}
    axes |= {name: {0: f"{name} rows"} for name in graph.inputs if name.endswith(".offsets")}
    buffer = io.BytesIO()
    with _made_clearly("ONNX"), known_to_onnx():
        outputs = list(graph(inputs))
        torch.onnx.export(
            _Positional(graph).eval(),
            tuple(inputs.values()),
            buffer,
            input_names=graph.inputs,
            output_names=outputs,
            dynamic_axes=axes | {name: {0: "rows"} for name in outputs},
            opset_version=OPSET,
            **({"dynamo": False} if "dynamo" in taken else {}),
        )
    return buffer.getvalue()


__all__ = ["COLUMNS_ENTRY", "COLUMNS_FILE", "arrays_of", "inputs_of", "made_up", "onnx_of", "torchscript_of"]
