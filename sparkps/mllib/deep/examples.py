"""Rows of deep models as arrays, and how they are read from Arrow: keys of categories, bags, numbers, labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from sparkps.arrow import valid
from sparkps.errors import InvalidInput
from sparkps.mllib.data.features import numbers_of, read_features, shortened
from sparkps.mllib.data.labels import LabelRule
from sparkps.mllib.data.raw_features import hash_categories
from sparkps.mllib.deep.columns import DeepColumns, InputColumns
from sparkps.nn.features import MISSING, Bags, Batch, Keys

Array = NDArray[Any]

_NO_WEIGHTS = np.empty(0)


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a model reads of rows."""

    categories: Keys
    bags: dict[str, Bags]
    #: float32 (n, numbers).
    numeric: Array
    #: By what is wrong, which rows are: column, what must hold, bool (n,).
    wrong: list[tuple[str, str, Array]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.categories)

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        bags = sum(b.keys.nbytes + b.offsets.nbytes + (0 if b.weights is None else b.weights.nbytes) for b in self.bags.values())
        return self.categories.keys.nbytes + bags + self.numeric.nbytes

    def take(self, rows: Array) -> Inputs:
        """Rows by their places, int64 (m,)."""
        return Inputs(
            Keys(self.categories.names, self.categories.keys[rows]),
            {name: _rows_of(bags, rows) for name, bags in self.bags.items()},
            self.numeric[rows],
        )

    def batch(self) -> Batch:
        """As a module is called with it."""
        return Batch(len(self), self.categories, self.bags, {"numeric": torch.from_numpy(self.numeric)})


@dataclass(frozen=True, eq=False)
class Examples:
    """Rows to train on."""

    inputs: Inputs
    #: float64 (n, labels).
    labels: Array
    #: float64 (n,); empty: all are 1.
    weights: Array = field(default_factory=lambda: _NO_WEIGHTS)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def weight(self) -> float:
        """Sum of the weights."""
        return float(self.weights.sum()) if len(self.weights) else float(len(self))

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self.inputs.nbytes + self.labels.nbytes + self.weights.nbytes

    def take(self, rows: Array) -> Examples:
        """Rows by their places, int64 (m,)."""
        return Examples(self.inputs.take(rows), self.labels[rows], self.weights[rows] if len(self.weights) else self.weights)

    @classmethod
    def none(cls, columns: DeepColumns) -> Examples:
        """No rows of these columns."""
        inputs = columns.inputs
        names = [*inputs.bags, *([inputs.features] if inputs.features else [])]
        bags = {name: Bags(name, np.empty(0, np.int64), np.zeros(1, np.int64)) for name in names}
        scalars = Keys(inputs.scalars, np.empty((0, len(inputs.scalars)), np.int64))
        return cls(Inputs(scalars, bags, np.zeros((0, inputs.numbers), np.float32)), np.empty((0, len(columns.labels))))

    @classmethod
    def join(cls, parts: Sequence[Examples]) -> Examples:
        """The rows of `parts`, which are of the same columns, one after the other."""
        if len(parts) == 1:
            return parts[0]
        first = parts[0].inputs
        inputs = Inputs(
            Keys(first.categories.names, np.concatenate([each.inputs.categories.keys for each in parts])),
            {name: _joined([each.inputs.bags[name] for each in parts]) for name in first.bags},
            np.concatenate([each.inputs.numeric for each in parts]),
        )
        weights = [each.weights for each in parts]
        return cls(inputs, np.concatenate([each.labels for each in parts]), np.concatenate(weights))


def _rows_of(bags: Bags, rows: Array) -> Bags:
    lengths = np.diff(bags.offsets)[rows]
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    entries = np.repeat(bags.offsets[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
    return Bags(bags.name, bags.keys[entries], offsets, None if bags.weights is None else bags.weights[entries])


def _joined(bags: Sequence[Bags]) -> Bags:
    lengths = np.concatenate([np.diff(each.offsets) for each in bags])
    weights = [each.weights for each in bags if each.weights is not None]
    return Bags(
        bags[0].name,
        np.concatenate([each.keys for each in bags]),
        np.concatenate(([0], np.cumsum(lengths))),
        np.concatenate(weights) if weights else None,
    )


def read_inputs(columns: InputColumns, batch: Sequence[pa.Array]) -> Inputs:
    """What a model reads of the rows of Arrow columns, which are those of ``columns.names``.

    A null category, or a null in an array, is no key. Numbers must be finite, and vectors of one length.
    """
    found = dict(zip(columns.names, batch, strict=True))
    rows = len(batch[0]) if batch else 0
    scalars = np.full((rows, len(columns.scalars)), MISSING, np.int64)
    bags: dict[str, Bags] = {}
    for name, kind in zip(columns.categorical, columns.kinds, strict=True):
        hashed = hash_categories(found[name], kind, columns.vocabulary(name))
        keys = (hashed.hashes >> np.uint64(1)).view(np.int64)
        if name in columns.bags:
            bags[name] = Bags(name, keys, np.asarray(hashed.at, np.int64))
        else:
            scalars[np.diff(hashed.at) == 1, columns.scalars.index(name)] = keys
    numeric, wrong = _numbers(columns, found, rows)
    if columns.features:
        vectors = read_features(found[columns.features], columns.features)
        wrong.append((columns.features, _VECTORS_MUST, (vectors.codes != 0) | _negative(vectors)))
        bags[columns.features] = Bags(
            columns.features, vectors.indices, np.asarray(vectors.indptr, np.int64), np.asarray(vectors.values, np.float32)
        )
    return Inputs(Keys(columns.scalars, scalars), bags, numeric, wrong)


def _numbers(columns: InputColumns, found: dict[str, pa.Array], rows: int) -> tuple[Array, list[tuple[str, str, Array]]]:
    numeric, wrong = np.zeros((rows, columns.numbers), np.float32), []
    for place, name in enumerate(columns.numeric):
        values = numbers_of(found[name].cast(pa.float64()), np.float64)
        with np.errstate(over="ignore"):
            numeric[:, place] = values
        wrong.append((name, "a number must not be null, and finite as a float32", ~(valid(found[name]) & np.isfinite(numeric[:, place]))))
    return numeric, wrong


_VECTORS_MUST = "features must be vectors without nulls all of one size, finite, with indices that are not negative"


def _negative(vectors: Any) -> Array:
    """bool (n,): rows with a negative index, or a value that is not finite."""
    bad = (vectors.indices < 0) | ~np.isfinite(vectors.values)
    before = np.concatenate(([0], np.cumsum(bad)))
    found: Array = before[vectors.indptr[1:]] > before[vectors.indptr[:-1]]
    return found


class ExampleReader:
    """Turns the record batches of one rank into `Examples`, those to train on and those set aside.

    Parameters
    ----------
    columns : DeepColumns
        Resolved.
    label_rule : LabelRule
        What labels must be.
    rank : int
        For messages.
    """

    def __init__(self, columns: DeepColumns, label_rule: LabelRule, rank: int = 0) -> None:
        self.columns, self.label_rule, self.rank = columns, label_rule, rank
        #: Rows seen and rows left out.
        self.seen = self.skipped = 0

    def read(self, batch: pa.RecordBatch) -> tuple[Examples, Examples]:
        """Rows to train on, and rows for validation.

        Raises
        ------
        InvalidInput
            A row is wrong and ``handle_invalid`` is "error"; it names column, row and rank.
        """
        columns, at = self.columns, len(self.columns.labels)
        labels, wrong = self._labels(batch.columns[:at])
        inputs = read_inputs(columns.inputs, batch.columns[at : at + len(columns.inputs.names)])
        beside = dict(zip(columns.beside, batch.columns[at + len(columns.inputs.names) :], strict=True))
        weights, aside = _NO_WEIGHTS, np.zeros(batch.num_rows, bool)
        if (column := beside.get("weight")) is not None:
            weights = numbers_of(column, np.float64)
            bad = ~((weights >= 0) & np.isfinite(weights)) | ~valid(column)
            wrong.append((columns.weight, "a weight must be a float in [0, inf)", bad))
        if (column := beside.get("validation")) is not None:
            aside = numbers_of(column, np.float64) != 0
            wrong.append((columns.validation, "whether a row is for validation must not be null", ~valid(column)))
        fine = self._fine(batch, [*wrong, *inputs.wrong])
        self.seen += batch.num_rows
        rows = Examples(inputs, labels, weights)
        return rows.take(np.flatnonzero(fine & ~aside)), rows.take(np.flatnonzero(fine & aside))

    def _labels(self, given: Sequence[pa.Array]) -> tuple[Array, list[tuple[str, str, Array]]]:
        labels, wrong = np.empty((len(given[0]) if given else 0, len(given))), []
        for place, (name, column) in enumerate(zip(self.columns.labels, given, strict=True)):
            labels[:, place] = numbers_of(column, np.float64)
            wrong.append((name, "a label must not be null", ~valid(column)))
            wrong.append((name, self.label_rule.must, self.label_rule.wrong(labels[:, place])))
        return labels, wrong

    def _fine(self, batch: pa.RecordBatch, wrong: list[tuple[str, str, Array]]) -> Array:
        """bool (n,): rows that are as they must be."""
        fine = np.ones(batch.num_rows, bool)
        for name, must, bad in wrong:
            if bad.any() and self.columns.handle_invalid == "error":
                raise self._refusal(batch, name, must, int(np.flatnonzero(bad)[0]))
            fine &= ~bad
        self.skipped += int(np.count_nonzero(~fine))
        return fine

    def _refusal(self, batch: pa.RecordBatch, name: str, must: str, row: int) -> InvalidInput:
        content = ", ".join(f"{column}={shortened(batch.column(i)[row].as_py())}" for i, column in enumerate(self.columns.names))
        return InvalidInput(
            f"Column {name!r}: {must}. Got the row {content} (row {self.seen + row} of rank {self.rank}). Correct the row, or set"
            " handleInvalid='skip' to leave such rows out.",
            column=name,
            rank=self.rank,
            row=self.seen + row,
        )


__all__ = ["ExampleReader", "Examples", "Inputs", "read_inputs"]
