"""Small modules and rows for tests of deep models, and the same training wholly in one torch process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from jobs.demo_rows import A9A
from sparkps.initializers import Normal
from sparkps.mllib.deep.losses import RowLoss, as_tensor
from sparkps.nn import Batch, Embedding, EmbeddingBag, LocalRows, tables_of, with_plain_embeddings
from sparkps.optim import SGD, Adagrad, Optimizer

#: What `a9a_rows` are, for `createDataFrame`.
A9A_SCHEMA = "label double, " + ", ".join(f"{name} int" for name in A9A)


class Net(nn.Module):
    """Two columns that share a table, a column with one of its own, a bag, and a number, through a hidden layer."""

    def __init__(self, optimizer: Optimizer = SGD(0.1), dim: int = 4, *, norm: bool = False, dropout: float = 0.0) -> None:  # noqa: B008
        super().__init__()
        first = {"init": Normal(0.0, 0.5), "optimizer": optimizer}
        self.item = Embedding("item", dim, ["a", "b"], **first)
        self.user = Embedding("user", dim, ["c"], **first)
        self.words = EmbeddingBag("words", dim, ["w"], mode="sum", **first)
        self.hidden = nn.Sequential(
            nn.Linear(4 * dim + 1, 8), nn.BatchNorm1d(8) if norm else nn.Identity(), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1)
        )

    def forward(self, batch: Batch) -> torch.Tensor:
        """The margin of each row."""
        parts = [self.item(batch["a"]), self.item(batch["b"]), self.user(batch["c"]), self.words(batch["w"]), batch.numeric]
        return self.hidden(torch.cat(parts, 1)).squeeze(1)


class Looked(nn.Module):
    """The first layer of `layered`: all embeddings of a row, and its number."""

    def __init__(self, optimizer: Optimizer, dim: int = 4) -> None:
        super().__init__()
        first = {"init": Normal(0.0, 0.5), "optimizer": optimizer}
        self.item = Embedding("item", dim, ["a", "b"], **first)
        self.user = Embedding("user", dim, ["c"], **first)
        self.words = EmbeddingBag("words", dim, ["w"], mode="sum", **first)

    def forward(self, batch: Batch) -> torch.Tensor:
        """(n, 4 dim + 1)."""
        return torch.cat(
            [
                self.item(batch["a"]),
                self.item(batch["b"]),
                self.user(batch["c"]),
                self.words(batch["w"]),
                batch.numeric,
            ],
            1,
        )


def layered(optimizer: Optimizer, dropout: float = 0.0) -> nn.Sequential:
    """A module in layers, one behind the other."""
    hidden = nn.Sequential(nn.Linear(17, 9), nn.LayerNorm(9), nn.Tanh(), nn.Dropout(dropout))
    return nn.Sequential(Looked(optimizer), hidden, nn.Linear(9, 7), nn.Tanh(), nn.Linear(7, 1))


#: Columns of `rows_of`, for estimators and for `createDataFrame`.
COLUMNS = {"categoricalCols": ["a", "b", "c", "w"], "numericCols": ["x"]}
SCHEMA = "label double, a int, b int, c string, w array<string>, x double, weight double, aside boolean, id long"


def rows_of(count: int, seed: int = 0) -> list[tuple[Any, ...]]:
    """Rows whose label depends on their categories; some have nulls and empty bags."""
    rng = np.random.default_rng(seed)
    effects, words = rng.normal(size=12), [f"w{i}" for i in range(9)]
    rows = []
    for number in range(count):
        a, b, c = (int(each) for each in rng.integers(0, 12, 3))
        bag = [words[i] for i in rng.integers(0, len(words), rng.integers(0, 4))]
        x = float(rng.normal())
        label = float(effects[a] - effects[b] + 0.5 * effects[c] + 0.3 * x + rng.normal() * 0.3 > 0)
        rows.append(
            (label, a, None if rng.random() < 0.1 else b, f"u{c}", bag, x, float(rng.uniform(0.5, 2.0)), bool(rng.random() < 0.2), number)
        )
    return rows


def trained_alone(
    module: nn.Module, batches: list[tuple[Batch, np.ndarray, np.ndarray]], loss: RowLoss, dense: Optimizer, table: Optimizer
) -> tuple[nn.Module, Mapping[str, tuple[np.ndarray, np.ndarray]]]:
    """A copy of the module with torch's own embeddings and optimizers, after a step on each batch; by table, its keys and rows.

    Parameters
    ----------
    module : torch.nn.Module
    batches : list
        Each a batch, labels (n, 1) and weights (n,).
    loss : RowLoss
    dense, table : Optimizer
        Of parameters, and of embeddings.
    """
    keys = {name: set[int]() for name in tables_of(module)}
    for batch, _, _ in batches:
        for name, each in tables_of(module).items():
            for feature in each.features:
                found = batch[feature].keys
                keys[name] |= set(found[found >= 0].ravel().tolist())
    held = {name: np.array(sorted(each), np.int64) for name, each in keys.items()}
    first = LocalRows(module).pull(held)
    plain = with_plain_embeddings(module, {name: (held[name], first[name]) for name in held})
    tables = {each.table for each in plain.modules() if hasattr(each, "table")}
    of_tables = [each.weight for each in tables]
    others = [each for each in plain.parameters() if all(each is not one for one in of_tables)]
    optimizers = [in_torch(others, dense), in_torch(of_tables, table)]
    for batch, labels, weights in batches:
        for each in optimizers:
            each.zero_grad()
        losses = loss.of_rows(plain(batch), as_tensor(labels, torch.device("cpu")))
        (losses * torch.from_numpy(weights)).sum().div(float(weights.sum())).backward()
        for each in optimizers:
            each.step()
    by_keys = {tuple(each.keys.tolist()): each.weight.detach().numpy()[:-1] for each in tables}
    return plain, {name: (held[name], by_keys[tuple(held[name].tolist())]) for name in held}


def in_torch(parameters: list[Any], given: Optimizer) -> torch.optim.Optimizer:
    """The same optimizer of torch."""
    if isinstance(given, SGD):
        return torch.optim.SGD(parameters, lr=given.learning_rate)
    assert isinstance(given, Adagrad), given
    return torch.optim.Adagrad(
        parameters, lr=given.learning_rate, initial_accumulator_value=given.initial_accumulator, eps=given.epsilon
    )
