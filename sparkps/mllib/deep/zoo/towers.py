"""Deep networks for recommendations at YouTube: two towers that find candidates, and a network that ranks them (Covington et al., 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from sparkps.mllib.deep.columns import InputColumns
from sparkps.mllib.deep.zoo.blocks import Columns, Fields, Spec, has_categories, head
from sparkps.nn.embedding import Embedding, EmbeddingBag
from sparkps.nn.features import Batch


def user_columns(inputs: InputColumns, spec: Spec) -> InputColumns:
    """Those of the user: all that are not of the item."""
    more = spec.more
    categorical = [name for name in inputs.categorical if name not in (more["item"], *more["categories"])]
    return inputs.part(categorical, [name for name in inputs.numeric if name not in more["numbers"]], features=True)


def item_columns(inputs: InputColumns, spec: Spec) -> InputColumns:
    """Those of the item."""
    return inputs.part([spec.more["item"], *spec.more["categories"]], spec.more["numbers"])


class Tower(nn.Module):
    """One vector of all columns, (n, dim): the sum of their embeddings, and what hidden layers make of them besides.

    The sum is a shortcut (He et al., Deep Residual Learning, CVPR 2016, section 3.2): what rare items and words have to do with each other
    is learned of few rows, as by a factorization, which layers alone do not.

    Parameters
    ----------
    inputs : InputColumns
    spec : Spec
        ``more["normalize"]``: whether the vector is divided by its length.
    name : str
        Of the table of embeddings that the other tower does not have.
    of_items : sequence of str
        Columns of items, or of arrays of them, whose embeddings both towers share.
    layers : bool
        Whether there are hidden layers; else the vector is the sum alone.
    """

    def __init__(self, inputs: InputColumns, spec: Spec, name: str, of_items: Sequence[str], *, layers: bool = True) -> None:
        super().__init__()
        self.normalize, self.item_columns, self.dim = bool(spec.more["normalize"]), list(of_items), spec.dim
        self.items = nn.ModuleList(_of_items(each, inputs, spec) for each in of_items)
        own = inputs.part([each for each in inputs.categorical if each not in of_items], inputs.numeric, features=True)
        self.fields = Fields(own, spec, name, numeric=False) if has_categories(own) else None
        width = spec.dim * (len(of_items) + (self.fields.count if self.fields is not None else 0)) + own.numbers
        if not width:
            raise ValueError("A user must have columns: set `categoricalCols`, `numericCols` or `featuresCol`.")
        self.head = head(width, replace(spec, outputs=spec.dim)) if layers else None

    def forward(self, batch: Batch) -> Tensor:
        """(n, dim)."""
        numeric = batch.numeric
        parts = [each(batch[name])[:, None] for each, name in zip(self.items, self.item_columns, strict=True)]
        parts += [self.fields(batch)] if self.fields is not None else []
        vectors = torch.cat(parts, 1) if parts else numeric.new_zeros(batch.size, 0, self.dim)
        found: Tensor = vectors.sum(1)
        if self.head is not None:
            found = found + self.head(torch.cat([vectors.flatten(1), numeric], 1)).float()
        return functional.normalize(found, dim=1) if self.normalize else found


def _of_items(column: str, inputs: InputColumns, spec: Spec) -> nn.Module:
    made = EmbeddingBag if column in inputs.bags else Embedding
    return made("items", spec.dim, [column], **spec.table())


class TwoTowers(nn.Module):
    """Candidates among very many items: users and items as vectors, whose dot products score (Covington et al., RecSys 2016, section 3).

    An item is its embedding, as the weights of a softmax over all items are, or, where it has further columns, a `Tower` as a user is (Yi
    et al., RecSys 2019, section 3). ``more["item"]``: column of the item; ``more["categories"]``, ``more["numbers"]``: further columns of
    it; ``more["history"]``: columns of users that hold items, whose embeddings they have; ``more["temperature"]``: what dot products are
    divided by.
    """

    def __init__(self, inputs: InputColumns, spec: Spec) -> None:
        super().__init__()
        more, users, items = spec.more, user_columns(inputs, spec), item_columns(inputs, spec)
        self.item_column, self.temperature = more["item"], float(more["temperature"])
        self.user = Tower(users, spec, "users", more["history"])
        self.item = Tower(items, spec, "itemColumns", [self.item_column], layers=len(items.names) > 1)
        of_items = [name in items.numeric for name in inputs.numeric]
        #: Places of the item's numbers among those of a row, and of the others.
        self.places = [place for place, is_item in enumerate(of_items) if is_item]
        self.others = [place for place, is_item in enumerate(of_items) if not is_item]

    def forward(self, batch: Batch) -> Tensor:
        """Scores of each row's user for each row's item, (n, n); minus infinity where another row has the same item as the user's own."""
        users, items = self.user(_with_numbers(batch, self.others)), self.item(_with_numbers(batch, self.places))
        keys = torch.from_numpy(batch.categories[self.item_column].keys[:, 0]).to(users.device)
        same = keys[:, None] == keys[None, :]
        same.fill_diagonal_(False)
        with torch.autocast(users.device.type, enabled=False):  # divided by a small temperature, bfloat16 would tell few scores apart
            return (users.float() @ items.float().T / self.temperature).masked_fill(same, -torch.inf)


def _with_numbers(batch: Batch, places: list[int]) -> Batch:
    return Batch(batch.size, batch.categories, batch.bags, {**batch.tensors, "numeric": batch.numeric[:, places]})


class WatchTimeRanking(nn.Module):
    """Hidden layers over embeddings, numbers, and their squares and square roots (Covington et al., RecSys 2016, section 4).

    The square root of a negative number is that of its size, with its sign.
    """

    def __init__(self, inputs: InputColumns, spec: Spec) -> None:
        super().__init__()
        self.columns = Columns(inputs, spec)
        self.head = head(self.columns.width + 2 * inputs.numbers, spec)

    def forward(self, batch: Batch) -> Tensor:
        """(n, outputs)."""
        numbers = batch.numeric
        found: Tensor = self.head(torch.cat([self.columns(batch), numbers**2, numbers.sign() * numbers.abs().sqrt()], 1))
        return found


__all__ = ["Tower", "TwoTowers", "WatchTimeRanking", "item_columns", "user_columns"]
