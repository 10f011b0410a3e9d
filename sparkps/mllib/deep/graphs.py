"""Models as graphs that need neither sparkps nor Spark: TorchScript and ONNX, with the embeddings as constants.

::

    column of one category     int64 (rows,), the key; -1: there is none
    column of arrays           int64 (entries,), keys of all rows one after the other, and "<name>.offsets", int64 (rows + 1,): where each
                               row's begin, and the end
    column of vectors          the same of indices that are not zero, and "<name>.weights", float32 (entries,): values
    column of numbers          float32 (rows,)

`sparkps.mllib.scoring.graph_inputs` makes them of raw values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sparkps.errors import InvalidInput
from sparkps.mllib.coefficients import LOCAL_BYTES
from sparkps.mllib.deep.columns import InputColumns
from sparkps.mllib.deep.examples import Inputs
from sparkps.mllib.deep.graph_parts import graph_parts
from sparkps.mllib.deep.losses import RowLoss
from sparkps.mllib.deep.rows import HeldTable, LocalTable, TierTable
from sparkps.mllib.deep.scoring import Held
from sparkps.nn.features import Batch
from sparkps.nn.graph import TensorBags, TensorKeys, with_graph_embeddings

Array = NDArray[Any]

@dataclass(frozen=True)
class Scoring:
    """What a graph is to compute."""

    held: Held
    #: That are read.
    columns: InputColumns
    loss: RowLoss
    thresholds: list[float] | None = None
    #: Names of outputs that are not those of the loss's parts.
    names: Mapping[str, str] = field(default_factory=dict)
    #: What else ONNX's metadata say.
    about: Mapping[str, str] = field(default_factory=dict)

    def expected(self, inputs: Inputs) -> dict[str, Array]:
        """What the model itself makes of rows."""
        return self._named(self.loss.parts(self.held.outputs(inputs, self.loss), self.thresholds))

    def of_output(self, output: Tensor, rows: Any) -> dict[str, Tensor]:
        """What a graph gives of the module's output."""
        return self._named(graph_parts(self.loss, output.float().reshape(rows, -1), self.thresholds))

    def _named(self, parts: Mapping[str, Any]) -> dict[str, Any]:
        return {self.names.get(name, name): part for name, part in parts.items()}


class ScoringGraph(nn.Module):
    """From tensors of columns to tensors of parts.

    Parameters
    ----------
    scoring : Scoring

    Raises
    ------
    InvalidInput
        A table is too large for a graph, or names of inputs are not distinct.
    """

    def __init__(self, scoring: Scoring) -> None:
        super().__init__()
        self.scoring, self.columns = scoring, scoring.columns
        rows = {name: rows_of(name, table) for name, table in scoring.held.tables.items()}
        storage = {name: table.table.storage for name, table in scoring.held.tables.items()}
        self.module = with_graph_embeddings(scoring.held.ready, rows, storage).eval()
        #: Names of inputs, in order.
        self.inputs = input_names(self.columns)
        if len(set(self.inputs)) < len(self.inputs):
            raise InvalidInput(f"Inputs of a graph must have distinct names. Got {', '.join(self.inputs)}; give a column another name.")

    def forward(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """By name, the parts of what is predicted."""
        batch = self._batch(tensors)
        return self.scoring.of_output(self.module(batch), batch.size)

    def _batch(self, tensors: dict[str, Tensor]) -> Batch:
        columns, first = self.columns, tensors[self.inputs[0]]
        size = first.shape[0]
        if self.columns.names[0] not in (*columns.scalars, *columns.numeric):
            size = tensors[self.inputs[1]].shape[0] - 1
        keys = [tensors[name] for name in columns.scalars]
        scalars = torch.stack(keys, 1) if keys else torch.zeros(size, 0, dtype=torch.int64)
        names = [*columns.bags, *([columns.features] if columns.features else [])]
        bags = {name: TensorBags(name, tensors[name], tensors[f"{name}.offsets"], tensors.get(f"{name}.weights")) for name in names}
        numbers = [tensors[name] for name in columns.numeric]
        numeric = torch.stack(numbers, 1) if numbers else torch.zeros(size, 0)
        return Batch(size, TensorKeys(columns.scalars, scalars), bags, {"numeric": numeric})


def rows_of(name: str, table: HeldTable) -> tuple[Array, Array]:
    """Keys and rows of a table that is at the driver."""
    if isinstance(table, TierTable):
        rows = table.rows_about()
        size = rows * (8 + 4 * table.table.dim)
        raise InvalidInput(
            f"A graph has its embeddings as constants: each table must take at most {LOCAL_BYTES >> 20} MiB. Got {name!r} of about {rows:,}"
            f" rows of {table.table.dim} numbers, {size >> 20:,} MiB, which stays on the tier; score with `transform`.",
            table=name,
        )
    assert isinstance(table, LocalTable)
    return table.keys, table.rows


def input_names(columns: InputColumns) -> list[str]:
    """Names of a graph's inputs, in order."""
    found = []
    for name in columns.names:
        found.append(name)
        if name in columns.bags or name == columns.features:
            found.append(f"{name}.offsets")
        if name == columns.features:
            found.append(f"{name}.weights")
    return found


__all__ = ["Scoring", "ScoringGraph", "input_names", "rows_of"]
