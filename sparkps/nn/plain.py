"""Modules with torch's own embeddings in place of those on the tier: to compare with, and to take along where tables are small."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from sparkps.nn.embedding import Embedding, EmbeddingBag, divided, totals_of
from sparkps.nn.features import Bags, Keys
from sparkps.nn.tables import tables_of

Array = NDArray[Any]


class PlainTable(nn.Module):
    """The rows of a table as one parameter, found by their keys.

    Parameters
    ----------
    keys : ndarray of shape (n,), int64
        Distinct; others have the row of zeros behind them.
    rows : ndarray of shape (n, dim), float32
    sparse : bool
        Whether gradients of the rows are sparse tensors, as ``torch.nn.Embedding(sparse=True)`` makes them.
    """

    keys: Tensor

    def __init__(self, keys: Array, rows: Array, *, sparse: bool = False) -> None:
        super().__init__()
        order = np.argsort(keys)
        self.register_buffer("keys", torch.from_numpy(keys[order]))
        values = np.concatenate([rows[order], np.zeros((1, rows.shape[1]), rows.dtype)])
        self.weight = nn.Parameter(torch.from_numpy(values))
        self.sparse = sparse
        #: The row of zeros.
        self.padding = len(keys)

    def places(self, keys: Tensor) -> Tensor:
        """The row of each key, int64 of the same shape."""
        if not self.padding:
            return torch.zeros_like(keys)
        found = torch.searchsorted(self.keys, keys).clamp(max=self.padding - 1)
        return torch.where(self.keys[found] == keys, found, self.padding)


class PlainEmbedding(nn.Module):
    """What `Embedding` is, of a `PlainTable`."""

    def __init__(self, table: PlainTable, bag: str | None) -> None:
        super().__init__()
        self.table = table
        #: Of an `EmbeddingBag`: its mode.
        self.bag = bag

    def forward(self, keys: Keys | Bags | Tensor) -> Tensor:
        """See `Embedding.forward` and `EmbeddingBag.forward`."""
        table = self.table
        if isinstance(keys, Bags) and self.bag is not None:
            offsets = torch.from_numpy(keys.offsets)
            return self._bags(table.places(torch.from_numpy(keys.keys)), offsets, keys.weights)
        given = keys if isinstance(keys, Tensor) else torch.from_numpy(keys.keys)
        places = table.places(given)
        if isinstance(keys, Keys) and len(keys.names) == 1:
            places = places[:, 0]
        if self.bag is not None and places.dim() == 2:
            flat, width = places.reshape(-1), places.shape[1]
            return self._bags(flat, torch.arange(0, flat.numel() + 1, width), None)
        return functional.embedding(places, table.weight, padding_idx=table.padding, sparse=table.sparse)

    def _bags(self, places: Tensor, offsets: Tensor, weights: Array | None) -> Tensor:
        mode, table = str(self.bag), self.table
        weighted = None if weights is None else torch.from_numpy(weights)
        summed = functional.embedding_bag(
            places, table.weight, offsets, mode=mode if weighted is None else "sum", per_sample_weights=weighted, include_last_offset=True,
            padding_idx=table.padding, sparse=table.sparse,
        )  # fmt: skip
        if weighted is None or mode == "sum":
            return summed
        return divided(summed, totals_of(weighted * (places != table.padding), offsets))


def with_plain_embeddings(module: nn.Module, rows: Mapping[str, tuple[Array, Array]], *, sparse: bool = False) -> nn.Module:
    """A copy of a module that needs no tier: each table's rows are a parameter.

    Parameters
    ----------
    module : torch.nn.Module
    rows : mapping
        By table, distinct keys and their rows. Other keys have a row of zeros.
    sparse : bool
        See `PlainTable`.

    Returns
    -------
    torch.nn.Module
        Called with the same batches.

    Raises
    ------
    ValueError
        The rows of a table of the module are not given.

    Examples
    --------
    >>> rows = {"item": (np.array([7]), np.array([[1.0, 2.0]], np.float32))}
    >>> plain = with_plain_embeddings(Embedding("item", 2, ["item"]), rows)
    >>> plain(Keys(("item",), np.array([[7], [8]]))).tolist()
    [[1.0, 2.0], [0.0, 0.0]]
    """
    if missing := [name for name in tables_of(module) if name not in rows]:
        raise ValueError(
            f"The `rows` of each table must be given, if only of no key. Those of {', '.join(missing)} are missing; got"
            f" {', '.join(rows) or 'none'}."
        )
    tables = {name: PlainTable(keys, values, sparse=sparse) for name, (keys, values) in rows.items()}
    return with_embeddings(module, lambda each: PlainEmbedding(tables[each.table.name], mode_of(each)))


def with_embeddings(module: nn.Module, make: Callable[[Embedding], nn.Module]) -> nn.Module:
    """A copy of a module with what `make` gives in the place of each of its embeddings."""
    if isinstance(module, Embedding):
        return make(module)
    copied, made = copy.deepcopy(module), dict[Embedding, nn.Module]()
    for parent in list(copied.modules()):
        for name, child in list(parent._modules.items()):  # `named_children` has a child of two names only once
            if isinstance(child, Embedding):
                if child not in made:
                    made[child] = make(child)
                setattr(parent, name, made[child])
    return copied


def mode_of(each: Embedding) -> str | None:
    """Of an `EmbeddingBag`: how rows become one."""
    return each.mode if isinstance(each, EmbeddingBag) else None


__all__ = ["PlainEmbedding", "PlainTable", "mode_of", "with_embeddings", "with_plain_embeddings"]
