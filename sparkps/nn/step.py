"""One step of training or scoring: the rows that a batch needs, pulled together, and what the loss says of them.

A `Lookup` is what can be known before any row is there: each table's distinct keys, and where in them each feature's keys are. It is
made ahead of its step, while another one computes. `Step` is a lookup with its rows, within which modules are called.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from sparkps.nn.device_memory import copied
from sparkps.nn.features import MISSING, Bags, Batch, Keys
from sparkps.nn.tables import EmbeddingTable, embeddings_of, tables_of

Array = NDArray[Any]


class RowSource(Protocol):
    """Where rows of tables come from."""

    def distinct(self, keys: Array) -> tuple[Array, Array]:
        """The distinct ones of keys, int64 (u,) in any order that suits the source, and the place of each key in them, integers (n,)."""

    def pull(self, wanted: Mapping[str, Array]) -> dict[str, Array]:
        """By table, the rows of distinct keys: float32 (u, dim), which nobody else writes to."""


@dataclass(frozen=True, eq=False)
class TableLookup:
    """What a batch asks of one table."""

    #: int64 (u,), distinct.
    keys: Array
    #: By columns of `Keys`, or name of `Bags`, int64 places in `keys`; ``len(keys)``, a row of zeros, where there is none.
    places: Mapping[tuple[str, ...], Array]
    #: Whether some key is missing.
    has_missing: bool
    #: As `places`, the keys that these are of, as the batch has them.
    asked: Mapping[tuple[str, ...], Array]

    @classmethod
    def of(cls, table: EmbeddingTable, batch: Batch, source: RowSource) -> TableLookup:
        """The keys that the batch has of the table's features."""
        scalars = tuple(name for name in batch.categories.names if name in table.features)
        bags = [each for name, each in batch.bags.items() if name in table.features]
        parts: list[tuple[tuple[str, ...], Array]] = [((each.name,), each.keys) for each in bags]
        if scalars:
            parts.insert(0, (scalars, batch.categories.of(scalars).keys))
        if absent := [name for name in table.features if name not in scalars and name not in batch.bags]:
            has = ", ".join(batch)
            raise KeyError(f"Embeddings {table.name!r} are of column {absent[0]!r}, which the batch does not have; it has {has}.")
        every = np.concatenate([np.empty(0, np.int64), *(np.ascontiguousarray(keys).reshape(-1) for _, keys in parts)])
        there = every != MISSING
        has_missing = not bool(there.all())
        keys, found = source.distinct(every[there] if has_missing else every)
        if has_missing:
            places = np.full(len(every), len(keys), np.int64)
            places[there] = found
        else:
            places = found.astype(np.int64)
        borders = np.cumsum([0, *(keys.size for _, keys in parts)])
        cut = {name: places[a:b].reshape(part.shape) for (name, part), a, b in zip(parts, borders, borders[1:], strict=False)}
        return cls(keys, cut, has_missing, dict(parts))


def as_batch(given: Batch | Keys | Bags) -> Batch:
    """`given`, as a batch of its own where it is one feature."""
    if isinstance(given, Batch):
        return given
    if isinstance(given, Keys):
        return Batch(len(given), given, {}, {})
    return Batch(len(given), Keys((), np.empty((len(given), 0), np.int64)), {given.name: given}, {})


@dataclass(frozen=True, eq=False)
class Lookup:
    """What a batch asks of all tables of a module."""

    tables: Mapping[str, TableLookup]

    @classmethod
    def of(cls, tables: Iterable[EmbeddingTable], batch: Batch, source: RowSource) -> Lookup:
        """The keys of a batch; asks the source for no row."""
        return cls({table.name: TableLookup.of(table, batch, source) for table in tables})

    @property
    def keys(self) -> dict[str, Array]:
        """By table, its distinct keys."""
        return {name: each.keys for name, each in self.tables.items()}


def _are_equal(keys: Array, asked: Array) -> bool:
    """Whether keys are those that were asked for: mostly the same memory, or a copy of columns."""
    if keys.shape != asked.shape:
        return False
    return (keys.ctypes.data == asked.ctypes.data and keys.strides == asked.strides) or np.array_equal(keys, asked)


@dataclass(frozen=True, eq=False)
class RowPlaces:
    """Where the rows of keys are."""

    #: int64, of the keys' shape.
    at: Tensor
    #: (u, dim): what `at` points into.
    rows: Tensor
    #: The row of zeros that missing keys have; None: no key is missing.
    padding: int | None


class TableRows:
    """The rows of one table in one step, as modules use them."""

    def __init__(self, table: EmbeddingTable, lookup: TableLookup, rows: Array, source: RowSource, device: torch.device) -> None:
        self._table, self._lookup, self._source, self._device = table, lookup, source, device
        if lookup.has_missing:
            rows = np.concatenate([rows, np.zeros((1, table.dim), rows.dtype)])
        own = copied(torch.from_numpy(rows), device)
        #: (u, dim), and where keys are missing a row of zeros behind them: what places point into, and gradients are collected for.
        self.leaf = own.requires_grad_()
        #: Keys that were pulled while a module ran, with their rows.
        self._later: list[tuple[Array, Tensor]] = []
        #: By columns, their places and keys in the whole batch.
        self._known: dict[tuple[str, ...], tuple[Tensor, Array]] = {}

    def places(self, feature: Keys | Bags) -> RowPlaces:
        """Where the rows of keys are, (n, columns) of `Keys`, (entries,) of `Bags`.

        Keys of the batch are in `leaf`. Others under the name of a feature, which a module made itself, are pulled at once.
        """
        names = feature.names if isinstance(feature, Keys) else (feature.name,)
        if names not in self._known:
            at, keys = self._of_batch(names)
            self._known[names] = copied(torch.from_numpy(at), self._device), keys
        places, asked = self._known[names]
        part = slice(feature.first, feature.first + len(feature.keys))
        if _are_equal(feature.keys, asked[part]):
            return RowPlaces(places[part], self.leaf, len(self._lookup.keys) if self._lookup.has_missing else None)
        return self._pulled(feature.keys)

    def _of_batch(self, names: tuple[str, ...]) -> tuple[Array, Array]:
        """Places and keys of some columns."""
        lookup = self._lookup
        if names in lookup.places:
            return lookup.places[names], lookup.asked[names]
        for known, places in lookup.places.items():
            if set(names) <= set(known) and places.ndim == 2:
                columns = [known.index(name) for name in names]
                return np.ascontiguousarray(places[:, columns]), lookup.asked[known][:, columns]
        raise KeyError(
            f"Embeddings {self._table.name!r} must name their `features`: they are of {', '.join(self._table.features)}. Got"
            f" {', '.join(names)}."
        )

    def pulled_now(self, keys: Tensor) -> Tensor:
        """Rows of keys that the step did not know beforehand, (\\*shape, dim)."""
        asked = keys.detach().cpu().numpy()
        if asked.dtype != np.int64:
            raise TypeError(f"Keys of embeddings {self._table.name!r} must be an int64 tensor. Got {keys.dtype}.")
        found = self._pulled(asked)
        return functional.embedding(found.at, found.rows)

    def _pulled(self, keys: Array) -> RowPlaces:
        """As `places`, of keys of any shape."""
        asked = keys.reshape(-1)
        there = asked != MISSING
        distinct, found = self._source.distinct(asked[there])
        places = np.full(len(asked), len(distinct), np.int64)
        places[there] = found
        pulled = self._source.pull({self._table.name: distinct})[self._table.name]
        rows = torch.from_numpy(np.concatenate([pulled, np.zeros((1, self._table.dim), np.float32)])).to(self._device).requires_grad_()
        self._later.append((distinct, rows))
        return RowPlaces(torch.from_numpy(places).to(self._device).reshape(keys.shape), rows, len(distinct))

    def gradients(self) -> tuple[Array, Array] | None:
        """Keys, int64 (n,), and their gradients, float32 (n, dim); None: no loss depends on them. Keys of `pulled_now` may come twice."""
        known = [(self._lookup.keys, self.leaf), *self._later]
        found = [(keys, rows.grad[: len(keys)]) for keys, rows in known if rows.grad is not None and len(keys)]
        if not found:
            return None
        grads = [grad.detach().float().cpu().numpy() for _, grad in found]
        if len(found) == 1:
            return found[0][0], grads[0]
        return np.concatenate([keys for keys, _ in found]), np.concatenate(grads)


class Step:
    """The rows of a batch, within which a module is called; a context manager.

    Parameters
    ----------
    module : torch.nn.Module
        Whose embeddings are looked up.
    lookup : Lookup
        Of its tables.
    rows : mapping
        What the source gave for ``lookup.keys``.
    source : RowSource
        For keys that a module makes up while it runs.
    device : torch.device
        Where rows go.
    """

    def __init__(
        self, module: nn.Module, lookup: Lookup, rows: Mapping[str, Array], source: RowSource, device: torch.device | None = None
    ) -> None:
        tables, where = tables_of(module), device or torch.device("cpu")
        self._rows = {name: TableRows(tables[name], each, rows[name], source, where) for name, each in lookup.tables.items()}
        self._modules = embeddings_of(module)

    @classmethod
    def of(cls, module: nn.Module, batch: Batch | Keys | Bags, source: RowSource, device: torch.device | None = None) -> Step:
        """The step of a batch, its rows pulled."""
        lookup = Lookup.of(tables_of(module).values(), as_batch(batch), source)
        return cls(module, lookup, source.pull(lookup.keys), source, device)

    def __enter__(self) -> Self:
        for each in self._modules:
            each.rows = self._rows[each.table.name]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for each in self._modules:
            each.rows = None

    def gradients(self) -> dict[str, tuple[Array, Array]]:
        """By table, keys and gradients of the loss that was last taken backward; tables without any are not there."""
        found = {name: each.gradients() for name, each in self._rows.items()}
        return {name: each for name, each in found.items() if each is not None}


__all__ = ["Lookup", "RowPlaces", "RowSource", "Step", "TableLookup", "TableRows", "as_batch"]
