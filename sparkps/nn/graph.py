"""Modules on tensors alone, for graphs that are traced: keys and bags as tensors, and tables whose rows are constants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from sparkps.initializers import LawKind
from sparkps.nn.embedding import divided, reduced
from sparkps.nn.features import MISSING, Bags, Keys
from sparkps.nn.local import draws_of
from sparkps.nn.plain import PlainTable, mode_of, with_embeddings
from sparkps.nn.tables import EmbeddingTable, tables_of
from sparkps.wire.hashing import FOLD_SHIFT, MULTIPLY_FIRST, MULTIPLY_SECOND

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class TensorKeys(Keys):
    """As `Keys`, int64 tensor (n, columns)."""

    keys: Any

    def __post_init__(self) -> None:
        """Sizes of tensors are not known while a graph is traced."""


@dataclass(frozen=True, eq=False)
class TensorBags(Bags):
    """As `Bags`, of tensors: keys int64 (entries,), offsets int64 (n + 1,), weights float32 (entries,)."""

    keys: Any
    offsets: Any
    weights: Any = None

    def __post_init__(self) -> None:
        """Sizes of tensors are not known while a graph is traced."""

    @property
    def lengths(self) -> Tensor:
        """Entries of each row, int64 (n,)."""
        found: Tensor = self.offsets[1:] - self.offsets[:-1]
        return found

    @property
    def of_rows(self) -> Tensor:
        """See `Bags.of_rows`: a row begins where its offset is, and empty ones begin there, too."""
        ends = self.offsets[1:-1]
        begun = torch.zeros(self.keys.shape[0] + 1, dtype=torch.int64, device=self.keys.device)
        return begun.index_add(0, ends, torch.ones_like(ends)).cumsum(0)[:-1]

    @property
    def of_entries(self) -> Tensor | None:
        """See `Bags.of_entries`."""
        weights: Tensor | None = self.weights
        return weights


def _signed(value: int) -> int:
    """64 bits as an int64 has them."""
    return int(np.uint64(value).view(np.int64))


def _right(bits: Tensor, by: int) -> Tensor:
    """64 bits shifted to the right, with zeros from the left: int64 has none without a sign."""
    return torch.bitwise_and(torch.bitwise_right_shift(bits, by), (1 << (64 - by)) - 1)


def mixed(keys: Tensor) -> Tensor:
    """The hash `sparkps.wire.hashing.mix` of keys: int64, with its bits.

    Examples
    --------
    >>> from sparkps.wire.hashing import mix
    >>> keys = np.array([7, -7])
    >>> mixed(torch.from_numpy(keys)).numpy().view(np.uint64).tolist() == mix(keys).tolist()
    True
    """
    bits = keys * _signed(MULTIPLY_FIRST)
    bits = torch.bitwise_xor(bits, _right(bits, FOLD_SHIFT)) * _signed(MULTIPLY_SECOND)
    return torch.bitwise_xor(bits, _right(bits, FOLD_SHIFT))


#: Where rows lie in 16 bits on the nodes, what those that keys begin with are rounded to.
_ROUNDED = {"float16": torch.float16, "bfloat16": torch.bfloat16}


class FirstRows(nn.Module):
    """The rows that keys begin with, as `first_rows` makes them.

    Parameters
    ----------
    table : EmbeddingTable

    Examples
    --------
    >>> from sparkps.nn.local import first_rows
    >>> table, keys = EmbeddingTable("t", 2, ("f",)), np.array([3, 1 << 62])
    >>> np.abs(FirstRows(table)(torch.from_numpy(keys)).numpy() - first_rows(table, keys)).max() < 1e-9
    np.True_
    """

    numbers: Tensor

    def __init__(self, table: EmbeddingTable) -> None:
        super().__init__()
        self.kind, self.a, self.b = table.init.law(table.dim, table.dim)
        self.dim, self.storage = table.dim, _ROUNDED.get(table.storage or "float32")
        start, numbers = draws_of(table)
        self.start = _signed(start[0])
        self.register_buffer("numbers", torch.from_numpy(numbers.view(np.int64)))

    def forward(self, keys: Tensor) -> Tensor:
        """Rows (n, dim), float32, of int64 keys (n,)."""
        drawn = self._drawn(keys)
        if self.storage is None:
            return drawn
        largest = torch.finfo(self.storage).max
        return drawn.clamp(-largest, largest).to(self.storage).float()

    def _drawn(self, keys: Tensor) -> Tensor:
        if self.kind == LawKind.CONSTANT:
            return torch.full((1, self.dim), self.a).expand(keys.shape[0], -1)
        rows = mixed(torch.bitwise_xor(keys, self.start))
        first = self._draws(rows, self.numbers[::2])
        if self.kind == LawKind.UNIFORM:
            return (self.a + first * (self.b - self.a)).float()
        second = self._draws(rows, self.numbers[1::2])
        return (self.a + self.b * (torch.sqrt(-2.0 * torch.log(1.0 - first)) * torch.cos(2.0 * torch.pi * second))).float()

    def _draws(self, rows: Tensor, numbers: Tensor) -> Tensor:
        """Uniform in [0, 1), float64 (n, numbers)."""
        return _right(mixed(rows[:, None] + numbers), 11).double() * (1.0 / (1 << 53))


class GraphTable(PlainTable):
    """The rows of a table as a constant, and the rows that all other keys begin with.

    Parameters
    ----------
    table : EmbeddingTable
    keys : ndarray of shape (n,), int64
        Distinct.
    rows : ndarray of shape (n, dim), float32
    """

    def __init__(self, table: EmbeddingTable, keys: Array, rows: Array) -> None:
        super().__init__(keys, rows)
        self.first, self.dim = FirstRows(table), table.dim

    def rows(self, keys: Tensor) -> Tensor:
        """float32 (\\*shape, dim) of keys of any shape; those that are `MISSING` have zeros."""
        flat = keys.reshape(-1)
        places = self.places(flat)
        unknown = ((places == self.padding) & (flat != MISSING)).nonzero()[:, 0]  # often none: their rows cost the most
        found = functional.embedding(places, self.weight)
        found = found.index_put((unknown,), self.first(flat[unknown]))
        return found.reshape([*keys.shape, self.dim])


class GraphEmbedding(nn.Module):
    """What `Embedding` and, with a mode, `EmbeddingBag` are, of a `GraphTable`.

    Parameters
    ----------
    table : GraphTable
    mode : str, optional
    """

    def __init__(self, table: GraphTable, mode: str | None) -> None:
        super().__init__()
        self.table, self.mode = table, mode

    def forward(self, keys: Any) -> Tensor:
        """See `Embedding.forward` and `EmbeddingBag.forward`; of `TensorKeys`, `TensorBags` or a tensor."""
        rows = self.table.rows(keys if isinstance(keys, Tensor) else keys.keys)
        if isinstance(keys, TensorBags):
            return rows if self.mode is None else self._of_bags(rows, keys, self.mode)
        if isinstance(keys, TensorKeys) and len(keys.names) == 1:
            return rows[:, 0]
        if self.mode is None or rows.dim() == 2:
            return rows
        given = keys if isinstance(keys, Tensor) else keys.keys
        return reduced(rows, given != MISSING, self.mode)

    def _of_bags(self, rows: Tensor, bags: TensorBags, mode: str) -> Tensor:
        of, weights, there = bags.of_rows, bags.of_entries, bags.keys != MISSING
        none = torch.zeros(bags.lengths.shape[0])
        zeros, counts = none[:, None].expand(-1, self.table.dim), none.index_add(0, of, there.float())
        if mode == "max":
            shown = rows.masked_fill(~there[:, None], -torch.inf)
            highest = (zeros - torch.inf).scatter_reduce(0, of[:, None].expand(-1, self.table.dim), shown, "amax")
            return torch.where(counts[:, None] > 0, highest, zeros)
        summed = zeros.index_add(0, of, rows if weights is None else rows * weights[:, None])
        if mode == "sum":
            return summed
        return divided(summed, counts if weights is None else none.index_add(0, of, weights * there))


def with_graph_embeddings(
    module: nn.Module, rows: Mapping[str, tuple[Array, Array]], storage: Mapping[str, str | None] | None = None
) -> nn.Module:
    """A copy of a module whose embeddings are constants, to be traced with `TensorKeys` and `TensorBags`.

    Parameters
    ----------
    module : torch.nn.Module
    rows : mapping
        By table, distinct keys and their rows.
    storage : mapping, optional
        By table, how rows lie on the nodes, where whoever trained has said it and not the module.

    Examples
    --------
    >>> from sparkps.nn import Embedding
    >>> rows = {"item": (np.array([7]), np.array([[1.0, 2.0]], np.float32))}
    >>> constant = with_graph_embeddings(Embedding("item", 2, ["item"]), rows)
    >>> constant(TensorKeys(("item",), torch.tensor([[7], [-1]]))).tolist()
    [[1.0, 2.0], [0.0, 0.0]]
    """
    said = storage or {}
    known = {name: replace(table, storage=table.storage or said.get(name)) for name, table in tables_of(module).items()}
    tables = {name: GraphTable(known[name], keys, values) for name, (keys, values) in rows.items()}
    return with_embeddings(module, lambda each: GraphEmbedding(tables[each.table.name], mode_of(each))).requires_grad_(False)


__all__ = ["FirstRows", "GraphEmbedding", "GraphTable", "TensorBags", "TensorKeys", "mixed", "with_graph_embeddings"]
