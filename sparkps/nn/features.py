"""Sparse features of a batch: keys of one or several columns, bags of keys, and the batch that holds them by name.

Keys are int64 and stay on the host; modules turn them into rows of embeddings. `MISSING` stands where a row has no key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparkps.nn.device_memory import copied

Array = NDArray[Any]

#: No key: its embedding is zero, and learns nothing. Hashed keys are never negative.
MISSING = -1


@dataclass(frozen=True, eq=False)
class Keys:
    """One key a row for each of some columns.

    Examples
    --------
    >>> keys = Keys(("user", "item"), np.array([[1, 10], [2, MISSING]]))
    >>> len(keys), keys["item"].names, keys["item"].keys.tolist()
    (2, ('item',), [[10], [-1]])
    """

    #: The columns.
    names: tuple[str, ...]
    #: int64 (n, columns).
    keys: Array
    #: Row of the batch of the step that the first of these is.
    first: int = 0

    def __post_init__(self) -> None:
        if self.keys.ndim != 2 or self.keys.shape[1] != len(self.names) or self.keys.dtype != np.int64:
            raise ValueError(
                f"The `keys` of {', '.join(self.names)} must be int64 of shape (n, {len(self.names)}). Got {self.keys.dtype} of"
                f" {self.keys.shape}."
            )

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, name: str) -> Keys:
        """Those of one column."""
        return self.of((name,))

    def of(self, names: tuple[str, ...]) -> Keys:
        """Those of some columns, in this order."""
        if names == self.names:
            return self
        return replace(self, names=names, keys=self.keys[:, [self.names.index(name) for name in names]])

    def rows(self, start: int, stop: int) -> Keys:
        """Rows [start, stop)."""
        return replace(self, keys=self.keys[start:stop], first=self.first + start)


@dataclass(frozen=True, eq=False)
class Bags:
    """Any number of keys a row, of one column: row r has ``keys[offsets[r]:offsets[r + 1]]``.

    Examples
    --------
    >>> bags = Bags("words", np.array([4, 5, 6]), np.array([0, 2, 2, 3]))
    >>> len(bags), bags.rows(2, 3).keys.tolist()
    (3, [6])
    """

    name: str
    #: int64 (entries,).
    keys: Array
    #: int64 (n + 1,), from 0.
    offsets: Array
    #: float32 (entries,): what each key weighs; None: all 1.
    weights: Array | None = None
    #: Entry of the batch of the step that the first of these is.
    first: int = 0

    def __post_init__(self) -> None:
        starts, entries = self.offsets, len(self.keys)
        if self.keys.dtype != np.int64 or self.keys.ndim != 1:
            raise ValueError(f"The `keys` of {self.name} must be int64 of shape (n,). Got {self.keys.dtype} of {self.keys.shape}.")
        if not len(starts) or starts[0] != 0 or starts[-1] != entries or (np.diff(starts) < 0).any():
            raise ValueError(f"The `offsets` of {self.name} must go from 0 up to {entries}, and never down.")
        if self.weights is not None and self.weights.shape != self.keys.shape:
            raise ValueError(f"The `weights` of {self.name} must be one for each of {entries} keys. Got {self.weights.shape}.")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def of_rows(self) -> Tensor:
        """The row of each entry, int64 (entries,): what entries are added up by."""
        return torch.from_numpy(np.repeat(np.arange(len(self)), np.diff(self.offsets)))

    @property
    def of_entries(self) -> Tensor | None:
        """What each entry weighs, float32 (entries,); None: all 1."""
        return None if self.weights is None else torch.from_numpy(self.weights)

    def rows(self, start: int, stop: int) -> Bags:
        """Rows [start, stop)."""
        first, last = self.offsets[start], self.offsets[stop]
        weights = None if self.weights is None else self.weights[first:last]
        return Bags(self.name, self.keys[first:last], self.offsets[start : stop + 1] - first, weights, self.first + int(first))


@dataclass(frozen=True, eq=False)
class Batch(Mapping[str, Any]):
    """What a module is called with: by name of a column its `Keys` or `Bags`, and ``"numeric"``, the numbers of each row.

    Examples
    --------
    >>> batch = Batch(2, Keys(("user", "item"), np.array([[1, 10], [2, 20]])), {}, {"numeric": torch.zeros(2, 3)})
    >>> batch["item"].keys.ravel().tolist(), batch.numeric.shape, sorted(batch)
    ([10, 20], torch.Size([2, 3]), ['item', 'numeric', 'user'])
    """

    #: Rows.
    size: int
    #: All columns with one key a row.
    categories: Keys
    #: Columns of bags, by name.
    bags: Mapping[str, Bags]
    #: Tensors of a row for each row, by name.
    tensors: Mapping[str, Tensor]

    def __getitem__(self, name: str) -> Keys | Bags | Tensor:
        if name in self.categories.names:
            return self.categories[name]
        found = self.bags.get(name)
        return found if found is not None else self.tensors[name]

    def __iter__(self) -> Iterator[str]:
        yield from self.categories.names
        yield from self.bags
        yield from self.tensors

    def __len__(self) -> int:
        return len(self.categories.names) + len(self.bags) + len(self.tensors)

    @property
    def numeric(self) -> Tensor:
        """float32 (n, numbers): columns of numbers; none of them: (n, 0)."""
        found = self.tensors.get("numeric")
        return torch.zeros(self.size, 0) if found is None else found

    def rows(self, start: int, stop: int) -> Batch:
        """Rows [start, stop)."""
        bags = {name: each.rows(start, stop) for name, each in self.bags.items()}
        return Batch(
            stop - start, self.categories.rows(start, stop), bags, {name: each[start:stop] for name, each in self.tensors.items()}
        )

    def to(self, device: torch.device) -> Batch:
        """The same, its tensors on `device`."""
        if device.type == "cpu":
            return self
        tensors = {name: copied(each, device) for name, each in self.tensors.items()}
        return Batch(self.size, self.categories, self.bags, tensors)


__all__ = ["MISSING", "Bags", "Batch", "Keys"]
