"""Modules that look up embeddings on the tier: in place of `torch.nn.Embedding` and `torch.nn.EmbeddingBag`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sparkps.initializers import Initializer
from sparkps.nn.features import MISSING, Bags, Keys
from sparkps.nn.step import TableRows
from sparkps.nn.tables import FIRST_ROWS, LEARNS_BY, EmbeddingTable
from sparkps.optim import Optimizer

#: How the rows of a bag become one.
MODES = ("sum", "mean", "max")


class Embedding(nn.Module):
    """Rows of a table on the tier by their keys; they take part in autograd, and their gradients are pushed.

    There is nothing of the table in the module: for each step the rows of the batch's distinct keys are pulled, the table's optimizer on
    the nodes applies what is pushed, and a key that was never seen has the row that `init` gives it. So keys may be any 64-bit integers,
    and there is no number of them to declare. Modules that name the same table share it.

    Parameters
    ----------
    name : str
        Of the table: letters, digits, '_', '.' and '-', at most 64 characters, the first of them a letter or '_'.
    dim : int
        Numbers of a row.
    features : sequence of str
        Columns whose keys have rows in this table.
    init : Initializer
        First values of a row.
    optimizer : Optimizer
        One of `sparkps.optim`; it runs on the nodes.
    seed : int
        Of first values.
    shared : bool
        Whether equal values of several features are the same row, as those of an item and of a history of items are. Else each feature
        has rows of its own.
    transport : {"float32", "float16", "bfloat16", "int8"}, optional
        How rows and gradients travel between workers and nodes, see `SparseTable.over`; by default as the estimator's Param says.
    storage : {"float32", "float16", "bfloat16"}, optional
        How rows lie on the nodes, see `PSContext.sparse_table`; by default as the estimator's Param says.

    Examples
    --------
    >>> from sparkps.nn import Keys, LocalRows, Step
    >>> import numpy as np
    >>> items = Embedding("item", 4, ["item"])
    >>> batch = Keys(("item",), np.array([[7], [8], [7]]))
    >>> with Step.of(items, batch, LocalRows(items)) as step:
    ...     items(batch).sum().backward()
    >>> keys, gradients = step.gradients()["item"]
    >>> gradients[keys == 7].tolist(), gradients[keys == 8].tolist()
    ([[2.0, 2.0, 2.0, 2.0]], [[1.0, 1.0, 1.0, 1.0]])
    """

    def __init__(
        self,
        name: str,
        dim: int,
        features: Sequence[str],
        *,
        init: Initializer = FIRST_ROWS,
        optimizer: Optimizer = LEARNS_BY,
        seed: int = 0,
        shared: bool = True,
        transport: str | None = None,
        storage: str | None = None,
    ) -> None:
        super().__init__()
        if isinstance(features, str):
            raise TypeError(f"The `features` of embeddings {name!r} must be a list of names. Got {features!r}; write [{features!r}].")
        self.table = EmbeddingTable(name, dim, tuple(features), init, optimizer, seed, transport, storage)
        self.shared = shared
        #: Rows of the step that is under way; a `Step` sets it.
        self.rows: TableRows | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "rows": None}  # rows belong to one step of one process

    def extra_repr(self) -> str:
        """What `repr` says of it."""
        return f"{self.table.name!r}, dim={self.table.dim}, features={list(self.table.features)}"

    def forward(self, keys: Keys | Bags | Tensor) -> Tensor:
        """The rows of keys.

        Parameters
        ----------
        keys : Keys, Bags or int64 Tensor of any shape
            Of the batch of the step. Keys in a tensor, and `Keys` and `Bags` that are not the batch's, are pulled at once: a step knows
            those of its batch beforehand, and brings all of them in one request.

        Returns
        -------
        Tensor
            Of `Keys` of one column (n, dim), of several (n, columns, dim), of `Bags` (entries, dim), of a tensor (\\*shape, dim).
        """
        rows = self._rows()
        if isinstance(keys, Tensor):
            return rows.pulled_now(keys)
        found = rows.places(keys)
        at = found.at[:, 0] if isinstance(keys, Keys) and len(keys.names) == 1 else found.at
        return functional.embedding(at, found.rows)

    def _rows(self) -> TableRows:
        if self.rows is None:
            raise RuntimeError(
                f"Embeddings {self.table.name!r} must be looked up within a step, which has pulled the rows of its batch: `with"
                " Step.of(module, batch, rows): module(batch)`. There is none; TorchEstimator makes steps by itself."
            )
        return self.rows


class EmbeddingBag(Embedding):
    """As `Embedding`, and the rows of a bag become one: their sum, mean or largest values; zeros of an empty bag.

    Keys that are `MISSING` do not count. Where keys have weights, the sum is of weight · row, and the mean is that divided by the sum of
    the weights.

    Parameters
    ----------
    name, dim, features
        As of `Embedding`.
    mode : {"sum", "mean", "max"}
        "max" takes no weights.
    **of
        Further arguments of `Embedding`.

    Examples
    --------
    >>> import numpy as np
    >>> from sparkps.initializers import Constant
    >>> from sparkps.nn import Bags, LocalRows, Step
    >>> words = EmbeddingBag("word", 2, ["text"], mode="sum", init=Constant(0.5))
    >>> text = Bags("text", np.array([4, 5, 4]), np.array([0, 2, 2, 3]))
    >>> with Step.of(words, text, LocalRows(words)):
    ...     words(text).tolist()
    [[1.0, 1.0], [0.0, 0.0], [0.5, 0.5]]
    """

    def __init__(self, name: str, dim: int, features: Sequence[str], *, mode: str = "mean", **of: Any) -> None:
        super().__init__(name, dim, features, **of)
        if mode not in MODES:
            raise ValueError(f"The `mode` of embeddings {name!r} must be one of {', '.join(MODES)}. Got {mode!r}.")
        self.mode = mode

    def extra_repr(self) -> str:
        """What `repr` says of it."""
        return f"{super().extra_repr()}, mode={self.mode!r}"

    def forward(self, keys: Keys | Bags | Tensor) -> Tensor:
        """One row for each row of a batch, (n, dim).

        Parameters
        ----------
        keys : Bags, Keys, or int64 Tensor of shape (n, keys)
            `Keys` of several columns are a bag of at most so many keys.
        """
        if isinstance(keys, Bags):
            return self._of_bags(keys)
        rows = super().forward(keys)
        if rows.dim() == 2:  # one key a row
            return rows
        there = keys != MISSING if isinstance(keys, Tensor) else torch.from_numpy(keys.keys != MISSING)
        return reduced(rows, there.to(rows.device), self.mode)

    def _of_bags(self, bags: Bags) -> Tensor:
        if bags.weights is not None and self.mode == "max":
            raise ValueError(f"Embeddings {self.table.name!r} of mode 'max' take no weights. Got some for {bags.name!r}: set mode='sum'.")
        found = self._rows().places(bags)
        at, rows, offsets = found.at, found.rows, torch.from_numpy(bags.offsets).to(found.rows.device)
        of: dict[str, Any] = {"include_last_offset": True, "padding_idx": found.padding}
        if bags.weights is None:
            return functional.embedding_bag(at, rows, offsets, mode=self.mode, **of)
        weights = torch.from_numpy(bags.weights).to(rows)
        summed = functional.embedding_bag(at, rows, offsets, mode="sum", per_sample_weights=weights, **of)
        there = weights if found.padding is None else weights * (at != found.padding)
        return summed if self.mode == "sum" else divided(summed, totals_of(there, offsets))


def totals_of(weights: Tensor, offsets: Tensor) -> Tensor:
    """The sum of each bag's weights, (n,)."""
    count = len(offsets) - 1
    of = torch.repeat_interleave(torch.arange(count, device=offsets.device), offsets.diff())
    return torch.zeros(count, dtype=weights.dtype, device=weights.device).index_add(0, of, weights)


def divided(summed: Tensor, totals: Tensor) -> Tensor:
    """Sums (n, dim) by the totals of their weights (n,); as they are where these are 0."""
    there = totals[:, None] != 0
    return torch.where(there, summed / totals[:, None].where(there, summed.new_ones(())), summed)


def reduced(rows: Tensor, there: Tensor, mode: str) -> Tensor:
    """Rows (n, keys, dim) to (n, dim) by a mode; bool (n, keys) says which count."""
    if mode == "max":
        highest = rows.masked_fill(~there[..., None], -torch.inf).amax(dim=1)
        return highest.masked_fill(~there.any(dim=1)[:, None], 0.0)
    summed = (rows * there[..., None]).sum(dim=1)
    return summed if mode == "sum" else summed / there.sum(dim=1).clamp(min=1)[:, None]


__all__ = ["MODES", "Embedding", "EmbeddingBag", "divided", "reduced", "totals_of"]
