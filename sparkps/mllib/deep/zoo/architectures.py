"""Architectures for rows of fields, each from its paper. All take a `Batch`, and give (n, outputs)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from sparkps.mllib.deep.columns import InputColumns
from sparkps.mllib.deep.zoo.blocks import Columns, Fields, Linear, Pairs, Spec, head, layers, pairs
from sparkps.nn.features import Batch


class Perceptron(nn.Module):
    """Hidden layers over the embeddings of all columns."""

    def __init__(self, inputs: InputColumns, spec: Spec) -> None:
        super().__init__()
        self.columns = Columns(inputs, spec)
        self.head = head(self.columns.width, spec)

    def forward(self, batch: Batch) -> Tensor:
        """(n, outputs)."""
        found: Tensor = self.head(self.columns(batch))
        return found


class WideAndDeep(nn.Module):
    """A linear model and hidden layers, added (Cheng et al., DLRS 2016, section 3)."""

    def __init__(self, inputs: InputColumns, spec: Spec) -> None:
        super().__init__()
        self.wide, self.deep = Linear(inputs, spec), Perceptron(inputs, spec)

    def forward(self, batch: Batch) -> Tensor:
        """(n, outputs)."""
        found: Tensor = self.wide(batch) + self.deep(batch)
        return found


class DeepFM(nn.Module):
    """A factorization machine and hidden layers over the same embeddings (Guo et al., IJCAI 2017, section 2)."""

    def __init__(self, inputs: InputColumns, spec: Spec) -> None:
        super().__init__()
        self.linear, self.fields = Linear(inputs, spec), Fields(inputs, spec)
        self.head = head(self.fields.width, spec)
        # Of one output the products of a pair are added up, as in the paper; several outputs weigh them each in its own way.
        self.weigh = nn.Linear(spec.dim, spec.outputs, bias=False) if spec.outputs > 1 else None

    def forward(self, batch: Batch) -> Tensor:
        """(n, outputs)."""
        vectors = self.fields(batch)
        products = pairs(vectors) + self.fields.pairs_within(batch)
        second = products.sum(1, keepdim=True) if self.weigh is None else self.weigh(products)
        found: Tensor = self.linear(batch) + second + self.head(vectors.flatten(1))
        return found


class NeuralFM(nn.Module):
    """Hidden layers over the sum of the products of all pairs of fields (He and Chua, SIGIR 2017, section 3)."""

    def __init__(self, inputs: InputColumns, spec: Spec) -> None:
        super().__init__()
        self.linear, self.fields = Linear(inputs, spec), Fields(inputs, spec)
        self.norm, self.head = nn.LayerNorm(spec.dim), head(spec.dim, spec)

    def forward(self, batch: Batch) -> Tensor:
        """(n, outputs)."""
        pooled = pairs(self.fields(batch)) + self.fields.pairs_within(batch)
        found: Tensor = self.linear(batch) + self.head(self.norm(pooled))
        return found


class AttentionalFM(nn.Module):
    """A factorization machine whose pairs are weighted by attention (Xiao et al., IJCAI 2017, section 3).

    ``more["attention"]``: units of the attention network.
    """

    def __init__(self, inputs: InputColumns, spec: Spec) -> None:
        super().__init__()
        self.linear, self.fields = Linear(inputs, spec), Fields(inputs, spec)
        units = spec.more["attention"]
        self.pairs = Pairs(self.fields.count)
        self.attention = nn.Sequential(nn.Linear(spec.dim, units), nn.ReLU(), nn.Linear(units, 1, bias=False))
        self.dropout, self.out = nn.Dropout(spec.dropout), nn.Linear(spec.dim, spec.outputs, bias=False)

    def forward(self, batch: Batch) -> Tensor:
        """(n, outputs)."""
        left, right = self.pairs(self.fields(batch))
        products = left * right
        weights = torch.softmax(self.attention(products), dim=1)
        pooled = (weights * products).sum(1) + self.fields.pairs_within(batch)
        found: Tensor = self.linear(batch) + self.out(self.dropout(pooled))
        return found


class ProductNetwork(nn.Module):
    """Hidden layers over embeddings and the products of all pairs of them (Qu et al., ICDM 2016, section 3).

    ``more["outer"]``: whether products are outer ones, of the sum of all fields (OPNN), or inner ones (IPNN).
    """

    def __init__(self, inputs: InputColumns, spec: Spec) -> None:
        super().__init__()
        self.fields, self.outer = Fields(inputs, spec), bool(spec.more["outer"])
        self.pairs = Pairs(self.fields.count)
        self.head = head(self.fields.width + (spec.dim**2 if self.outer else self.pairs.count), spec)

    def forward(self, batch: Batch) -> Tensor:
        """(n, outputs)."""
        vectors = self.fields(batch)
        if self.outer:
            total = vectors.sum(1)
            products = (total[:, :, None] * total[:, None, :]).flatten(1)
        else:
            products = self.pairs.dots(vectors)
        found: Tensor = self.head(torch.cat([vectors.flatten(1), products], 1))
        return found


class CrossNetwork(nn.Module):
    """Explicit crosses x ← x₀ ⊙ (W·x + b) + x beside hidden layers (Wang et al., WWW 2021, section 3).

    ``more["cross"]``: number of cross layers; ``more["rank"]``: of W = U·V, or 0 for a full matrix.
    """

    def __init__(self, inputs: InputColumns, spec: Spec) -> None:
        super().__init__()
        self.columns = Columns(inputs, spec)
        width, rank = self.columns.width, spec.more["rank"]

        def cross() -> nn.Module:
            return nn.Sequential(nn.Linear(width, rank, bias=False), nn.Linear(rank, width)) if rank else nn.Linear(width, width)

        self.crosses = nn.ModuleList(cross() for _ in range(spec.more["cross"]))
        self.deep = layers([width, *spec.hidden], spec.dropout)
        self.out = nn.Linear(width + spec.hidden[-1], spec.outputs)

    def forward(self, batch: Batch) -> Tensor:
        """(n, outputs)."""
        first = crossed = self.columns(batch)
        for each in self.crosses:
            crossed = first * each(crossed) + crossed
        found: Tensor = self.out(torch.cat([crossed, self.deep(first)], 1))
        return found


class CompressedInteractions(nn.Module):
    """Interactions of vectors of growing degree beside hidden layers and a linear model: xDeepFM (Lian et al., KDD 2018, section 3).

    ``more["cin"]``: feature maps of each layer.
    """

    def __init__(self, inputs: InputColumns, spec: Spec) -> None:
        super().__init__()
        self.linear, self.fields = Linear(inputs, spec), Fields(inputs, spec)
        maps = [self.fields.count, *spec.more["cin"]]
        self.maps = nn.ModuleList(nn.Conv1d(maps[0] * before, after, 1) for before, after in pairwise(maps))
        self.cin, self.head = nn.Linear(sum(maps[1:]), spec.outputs, bias=False), head(self.fields.width, spec)

    def forward(self, batch: Batch) -> Tensor:
        """(n, outputs)."""
        vectors = self.fields(batch)
        hidden, pooled = vectors, []
        for each in self.maps:
            outer = hidden[:, :, None] * vectors[:, None]
            hidden = each(outer.flatten(1, 2))
            pooled.append(hidden.sum(2))
        found: Tensor = self.linear(batch) + self.cin(torch.cat(pooled, 1)) + self.head(vectors.flatten(1))
        return found


class RecommendationModel(nn.Module):
    """DLRM: numbers through layers of their own, dot products of all pairs of vectors, and layers on top (Naumov et al., 2019).

    ``more["bottom"]``: hidden units of the layers for numbers; `hidden` are those on top.
    """

    def __init__(self, inputs: InputColumns, spec: Spec) -> None:
        super().__init__()
        self.fields = Fields(inputs, spec, numeric=False)
        self.bottom = layers([inputs.numbers, *spec.more["bottom"], spec.dim]) if inputs.numbers else None
        self.pairs = Pairs(self.fields.count + (self.bottom is not None))
        if not self.pairs.count:
            raise ValueError("DLRM is about pairs: it must have two columns of categories at least, or one and numbers.")
        self.head = head((spec.dim if self.bottom is not None else 0) + self.pairs.count, spec)

    def forward(self, batch: Batch) -> Tensor:
        """(n, outputs)."""
        vectors, dense = self.fields(batch), []
        if self.bottom is not None:
            dense = [self.bottom(batch.numeric)]
            vectors = torch.cat([vectors, dense[0][:, None]], 1)
        found: Tensor = self.head(torch.cat([*dense, self.pairs.dots(vectors)], 1))
        return found


__all__ = [
    "AttentionalFM", "CompressedInteractions", "CrossNetwork", "DeepFM", "NeuralFM", "Perceptron", "ProductNetwork", "RecommendationModel",
    "WideAndDeep",
]  # fmt: skip
