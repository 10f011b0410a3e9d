"""Deep interest: what a row's target has to do with the history of its user."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparkps.mllib.deep.columns import InputColumns
from sparkps.mllib.deep.zoo.blocks import Fields, Spec, head
from sparkps.nn.embedding import Embedding
from sparkps.nn.features import Batch


class DeepInterest(nn.Module):
    """A history is summed up under the weights that an attention network gives its items for the target (Zhou et al., KDD 2018, section 4).

    ``more["target"]`` and ``more["history"]``: a column of one category, and one of arrays of such, whose equal values are the same item;
    ``more["attention"]``: units of the attention network. The weights are not normalised, as in the paper.
    """

    def __init__(self, inputs: InputColumns, spec: Spec) -> None:
        super().__init__()
        self.target, self.history = spec.more["target"], spec.more["history"]
        self.items = Embedding("items", spec.dim, [self.target, self.history], **spec.table())
        self.fields = Fields(inputs, spec, numeric=False)
        self.attention = nn.Sequential(
            nn.Linear(4 * spec.dim, spec.more["attention"]), nn.PReLU(), nn.Linear(spec.more["attention"], 1)
        )
        self.head = head(self.fields.width + 2 * spec.dim + inputs.numbers, spec)

    def forward(self, batch: Batch) -> Tensor:
        """(n, outputs)."""
        target, bags = self.items(batch[self.target]), batch.bags[self.history]
        entries, of = self.items(bags), bags.of_rows.to(target.device)
        wanted = target[of]
        weights = self.attention(torch.cat([wanted, entries, wanted - entries, wanted * entries], 1))
        interest = torch.zeros_like(target).index_add(0, of, weights * entries)
        found: Tensor = self.head(torch.cat([self.fields(batch).flatten(1), target, interest, batch.numeric], 1))
        return found


__all__ = ["DeepInterest"]
