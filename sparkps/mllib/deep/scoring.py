"""Scores of rows in executors by a module: Arrow in, Arrow out."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import nn

from sparkps.errors import InvalidInput
from sparkps.mllib.data.features import shortened
from sparkps.mllib.deep.columns import InputColumns
from sparkps.mllib.deep.examples import Inputs, read_inputs
from sparkps.mllib.deep.job import unpickled
from sparkps.mllib.deep.losses import RowLoss
from sparkps.mllib.deep.measuring import ROWS_AT_ONCE
from sparkps.mllib.deep.rows import HeldRows, HeldTable
from sparkps.mllib.models.scoring import as_vectors
from sparkps.nn.step import Step

Array = NDArray[Any]

#: Held while a batch is scored: the rows of a batch are the module's while it runs, whichever thread has asked.
_ONE_BATCH = threading.Lock()


@dataclass(frozen=True)
class Held:
    """What a model has learned. Picklable, and broadcast once for all of its uses."""

    #: See `job.pickled`.
    module: bytes
    tables: Mapping[str, HeldTable]

    @cached_property
    def ready(self) -> nn.Module:
        """The module, made once in each process."""
        return unpickled(self.module).eval()

    def __getstate__(self) -> dict[str, Any]:
        return {"module": self.module, "tables": self.tables}

    def outputs(self, inputs: Inputs, loss: RowLoss) -> Array:
        """What the module makes of rows, float64 (n, outputs), in their order."""
        source, parts = HeldRows(self.tables), []
        for start in range(0, len(inputs), ROWS_AT_ONCE):
            whole = len(inputs) <= ROWS_AT_ONCE
            rows = inputs if whole else inputs.take(np.arange(start, min(start + ROWS_AT_ONCE, len(inputs))))
            batch = rows.batch()
            with _ONE_BATCH, torch.no_grad(), Step.of(self.ready, batch, source):
                parts.append(loss.margins(self.ready(batch)))
        return np.concatenate(parts) if parts else np.empty((0, max(1, loss.classes)))


def checked_inputs(columns: InputColumns, given: Sequence[pa.Array]) -> Inputs:
    """What a model reads of rows.

    Raises
    ------
    InvalidInput
        A row is wrong; names its column.
    """
    inputs = read_inputs(columns, given)
    for name, must, wrong in inputs.wrong:
        if wrong.any():
            value: Any = given[columns.names.index(name)][int(np.flatnonzero(wrong)[0])].as_py()
            raise InvalidInput(f"Column {name!r}: {must}. Got {shortened(value)}.", column=name)
    return inputs


@dataclass(frozen=True)
class DeepScorer:
    """The function of a UDF. Picklable.

    Parameters
    ----------
    held : object
        A broadcast variable of `Held`, or that itself.
    columns : InputColumns
    loss : RowLoss
        Says what outputs mean.
    wanted : sequence of str
        The parts that the UDF returns, in the order of `outputs.struct_of`.
    thresholds : sequence of float, optional
    """

    held: Any
    columns: InputColumns
    loss: RowLoss
    wanted: Sequence[str]
    thresholds: Sequence[float] | None = None

    def __call__(self, *columns: pa.Array) -> pa.Array:  # Spark tells the kind of UDF by these types
        """Struct of all wanted parts of what is predicted."""
        inputs = checked_inputs(self.columns, columns)
        held: Held = getattr(self.held, "value", self.held)
        found = self.loss.parts(held.outputs(inputs, self.loss), self.thresholds)
        parts = [pa.array(found[part]) if found[part].ndim == 1 else as_vectors(found[part]) for part in self.wanted]
        return pa.StructArray.from_arrays(parts, list(self.wanted))


__all__ = ["DeepScorer", "Held", "checked_inputs"]
