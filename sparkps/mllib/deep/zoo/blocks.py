"""What architectures are made of: fields as vectors, linear terms, interactions of fields, layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Self

import msgspec
import torch
from torch import Tensor, nn

from sparkps.initializers import Normal
from sparkps.mllib.deep.columns import InputColumns
from sparkps.nn.embedding import Embedding, EmbeddingBag
from sparkps.nn.features import Bags, Batch
from sparkps.optim import Adagrad, Optimizer

NO_COLUMNS = "A model must have columns to read: set `categoricalCols`, `numericCols` or `featuresCol`."


@dataclass(frozen=True)
class Spec:
    """What an architecture is made with, besides its columns."""

    #: Numbers of an embedding.
    dim: int = 16
    #: Units of hidden layers.
    hidden: tuple[int, ...] = (128, 64)
    dropout: float = 0.0
    #: Standard deviation of first embeddings, and their seed.
    init_std: float = 0.01
    seed: int = 0
    #: Of embeddings, and of linear terms.
    optimizer: Optimizer = field(default_factory=lambda: Adagrad(0.05))
    #: Numbers that the model gives for a row.
    outputs: int = 1
    #: What one architecture asks for, by name.
    more: dict[str, Any] = field(default_factory=dict)

    def table(self) -> dict[str, Any]:
        """Arguments of `Embedding`."""
        return {"init": Normal(0.0, self.init_std), "optimizer": self.optimizer, "seed": self.seed}

    def facts(self) -> dict[str, Any]:
        """All of it, as JSON has it.

        Examples
        --------
        >>> Spec.of(Spec(dim=4, hidden=(8,)).facts()) == Spec(dim=4, hidden=(8,))
        True
        """
        return {**vars(self), "hidden": list(self.hidden), "optimizer": msgspec.to_builtins(self.optimizer)}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Self:
        """The one that gave `facts`."""
        optimizer: Optimizer = msgspec.convert(facts["optimizer"], type=Optimizer)
        return cls(**{**facts, "hidden": tuple(facts["hidden"]), "optimizer": optimizer})


def layers(sizes: Sequence[int], dropout: float = 0.0) -> nn.Sequential:
    """Linear layers of these sizes, each with a ReLU behind it."""
    parts: list[nn.Module] = []
    for before, after in pairwise(sizes):
        parts += [nn.Linear(before, after), nn.ReLU()]
        if dropout:
            parts.append(nn.Dropout(dropout))
    return nn.Sequential(*parts)


def head(width: int, spec: Spec, hidden: Sequence[int] | None = None) -> nn.Sequential:
    """Hidden layers and the outputs."""
    sizes = [width, *(spec.hidden if hidden is None else hidden)]
    return nn.Sequential(layers(sizes, spec.dropout), nn.Linear(sizes[-1], spec.outputs))


class Fields(nn.Module):
    """Every column as a vector: the embedding of its category, the mean of those of a bag, or a vector times a number.

    The non-zeros of a column of vectors are one field, the sum of their embeddings times their values.

    Parameters
    ----------
    inputs : InputColumns
    spec : Spec
    name : str
        Of the table, which all columns share, each with rows of its own.
    dim : int
        Numbers of a vector.
    numeric : bool
        Whether columns of numbers are fields, too.
    """

    def __init__(self, inputs: InputColumns, spec: Spec, name: str = "fields", dim: int = 0, *, numeric: bool = True) -> None:
        super().__init__()
        dim = dim or spec.dim
        self.dim = dim
        self.vectors_column = inputs.features
        columns = [*inputs.scalars, *inputs.bags, *([self.vectors_column] if self.vectors_column else [])]
        made: dict[str, Any] = {**spec.table(), "shared": False}
        self.scalars = inputs.scalars
        self.one = Embedding(name, dim, columns, **made) if columns else None
        self.bags = nn.ModuleDict({_safe(each): EmbeddingBag(name, dim, columns, mode="mean", **made) for each in inputs.bags})
        self.bag_columns = inputs.bags
        self.weighted = EmbeddingBag(name, dim, columns, mode="sum", **made) if self.vectors_column else None
        numbers = inputs.numbers if numeric else 0
        self.numbers = nn.Parameter(torch.randn(numbers, dim) * spec.init_std) if numbers else None
        #: Vectors of a row.
        self.count = len(columns) + numbers
        if not self.count:
            raise ValueError(NO_COLUMNS)

    @property
    def width(self) -> int:
        """Numbers of all vectors of a row."""
        return self.count * self.dim

    def forward(self, batch: Batch) -> Tensor:
        """float32 (n, count, dim)."""
        parts = []
        if self.scalars and self.one is not None:
            rows = self.one(batch.categories.of(self.scalars))
            parts.append(rows[:, None] if rows.dim() == 2 else rows)
        parts += [self.bags[_safe(name)](batch[name])[:, None] for name in self.bag_columns]
        if self.weighted is not None:
            parts.append(self.weighted(batch[self.vectors_column])[:, None])
        if self.numbers is not None:
            parts.append(batch.numeric[:, :, None] * self.numbers)
        return torch.cat(parts, 1)

    def pairs_within(self, batch: Batch) -> Tensor:
        """float32 (n, dim): of a column of vectors the sum over pairs of its own entries; else zeros."""
        zeros = torch.zeros(batch.size, self.dim, device=batch.numeric.device)
        bags = batch[self.vectors_column] if self.vectors_column else None
        if not isinstance(bags, Bags) or (weights := bags.of_entries) is None or self.one is None:
            return zeros
        entries = self.one(bags) * weights.to(zeros)[:, None]
        of = bags.of_rows.to(zeros.device)
        return 0.5 * (zeros.index_add(0, of, entries) ** 2 - zeros.index_add(0, of, entries**2))


class Columns(nn.Module):
    """All columns of a row, one after the other: embeddings of categories, and numbers. Its arguments are those of `Fields`."""

    def __init__(self, inputs: InputColumns, spec: Spec, name: str = "fields") -> None:
        super().__init__()
        self.fields = Fields(inputs, spec, name, numeric=False) if has_categories(inputs) else None
        #: Numbers of a row.
        self.width = (self.fields.width if self.fields is not None else 0) + inputs.numbers
        if not self.width:
            raise ValueError(NO_COLUMNS)

    def forward(self, batch: Batch) -> Tensor:
        """float32 (n, width)."""
        embedded = [] if self.fields is None else [self.fields(batch).flatten(1)]
        return torch.cat([*embedded, batch.numeric], 1)


class Linear(nn.Module):
    """What a linear model makes of all columns: (n, outputs)."""

    def __init__(self, inputs: InputColumns, spec: Spec) -> None:
        super().__init__()
        self.categories = Fields(inputs, spec, "linear", spec.outputs, numeric=False) if has_categories(inputs) else None
        self.numbers = nn.Linear(inputs.numbers, spec.outputs, bias=False) if inputs.numbers else None
        self.bias = nn.Parameter(torch.zeros(spec.outputs))

    def forward(self, batch: Batch) -> Tensor:
        """Of each row."""
        found = self.bias.expand(batch.size, -1)
        if self.categories is not None:
            found = found + self.categories(batch).sum(1)
        return found if self.numbers is None else found + self.numbers(batch.numeric)


def pairs(vectors: Tensor) -> Tensor:
    """Sum over pairs of fields of the products of their vectors, (n, dim) of (n, fields, dim): Rendle 2010, lemma 3.1."""
    return 0.5 * (vectors.sum(1) ** 2 - (vectors**2).sum(1))


class Pairs(nn.Module):
    """The two vectors of each pair of fields.

    Parameters
    ----------
    fields : int
        Vectors of a row.
    """

    left: Tensor
    right: Tensor

    def __init__(self, fields: int) -> None:
        super().__init__()
        left, right = torch.triu_indices(fields, fields, 1)
        self.register_buffer("left", left, persistent=False)
        self.register_buffer("right", right, persistent=False)
        #: How many there are.
        self.count = len(left)

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """(n, pairs, dim) twice, of (n, fields, dim)."""
        return vectors[:, self.left], vectors[:, self.right]

    def dots(self, vectors: Tensor) -> Tensor:
        """Their dot products, (n, pairs)."""
        return (vectors @ vectors.transpose(1, 2))[:, self.left, self.right]


def has_categories(inputs: InputColumns) -> bool:
    """Whether there are columns that have embeddings."""
    return bool(inputs.categorical or inputs.features)


def _safe(name: str) -> str:
    """A column's name as that of a module: without dots."""
    return name.replace(".", "__dot__") + "_"


__all__ = ["Columns", "Fields", "Linear", "Pairs", "Spec", "has_categories", "head", "layers", "pairs"]
