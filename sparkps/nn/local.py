"""Rows of tables in this process: for tests, for a look at a module without a tier, and for models that are small."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from sparkps.client.grouping import Grouping
from sparkps.client.routing import Routing
from sparkps.initializers import LawKind
from sparkps.nn.tables import EmbeddingTable, tables_of
from sparkps.specs import NUM_BUCKETS
from sparkps.wire.encodings import NAMED, decoded, encoded
from sparkps.wire.hashing import mix

Array = NDArray[Any]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_UNIT = 1.0 / (1 << 53)

#: All buckets in one place: their keys come in the order of buckets.
_HERE = Routing.of(1, [[0]] * NUM_BUCKETS)


def distinct(keys: Array) -> tuple[Array, Array]:
    """See `RowSource.distinct`: by their buckets, and within these as they first appear."""
    grouping = Grouping.of(np.ascontiguousarray(keys), _HERE)
    places = grouping.places()
    return grouping.keys, np.arange(len(keys)) if places is None else places


def first_rows(table: EmbeddingTable, keys: Array) -> Array:
    """The rows of keys that nobody has written to, as the nodes make them: float32 (n, dim).

    Examples
    --------
    >>> from sparkps.initializers import Constant
    >>> first_rows(EmbeddingTable("t", 2, ("f",), init=Constant(0.5)), np.array([3])).tolist()
    [[0.5, 0.5]]
    """
    encoding = NAMED[table.storage or "float32"]
    return decoded(encoded(_drawn(table, keys), encoding), encoding)


def _drawn(table: EmbeddingTable, keys: Array) -> Array:
    kind, a, b = table.init.law(table.dim, table.dim)
    if kind == LawKind.CONSTANT:
        return np.full((len(keys), table.dim), a, np.float32)
    with np.errstate(over="ignore"):
        start, numbers = draws_of(table)
        rows = mix((start ^ np.ascontiguousarray(keys, np.int64).view(np.uint64)).view(np.int64))[:, None]
        bits = mix((rows + numbers).view(np.int64)) >> np.uint64(11)
    draws = bits.astype(np.float64) * _UNIT
    first, second = draws[:, ::2], draws[:, 1::2]
    if kind == LawKind.UNIFORM:
        return (a + first * (b - a)).astype(np.float32)
    return (a + b * (np.sqrt(-2.0 * np.log(1.0 - first)) * np.cos(2.0 * np.pi * second))).astype(np.float32)


def draws_of(table: EmbeddingTable) -> tuple[Array, Array]:
    """What keys of a table are mixed with, and what is added for each of the 2 · dim numbers that are drawn for a row: uint64."""
    with np.errstate(over="ignore"):
        start = mix(np.array([np.uint64(table.seed) + _GOLDEN]).view(np.int64))
        return start, (np.arange(2 * table.dim, dtype=np.uint64) + np.uint64(1)) * _GOLDEN


class LocalRows:
    """A `RowSource` of rows that are kept here; those of keys that it lacks are as they would begin.

    Parameters
    ----------
    module : torch.nn.Module
        Whose tables they are of.

    Examples
    --------
    >>> from sparkps.nn import Embedding
    >>> rows = LocalRows(Embedding("item", 2, ["item"]))
    >>> rows.assign("item", np.array([7]), np.array([[1.0, 2.0]]))
    >>> rows.pull({"item": np.array([7])})["item"].tolist()
    [[1.0, 2.0]]
    """

    def __init__(self, module: nn.Module) -> None:
        self.tables = tables_of(module)
        #: By table, the row of each key.
        self._rows: dict[str, dict[int, Array]] = {name: {} for name in self.tables}

    def distinct(self, keys: Array) -> tuple[Array, Array]:
        """See `RowSource`."""
        return distinct(keys)

    def pull(self, wanted: Mapping[str, Array]) -> dict[str, Array]:
        """See `RowSource`."""
        found = {}
        for name, keys in wanted.items():
            found[name], held = first_rows(self.tables[name], keys), self._rows[name]
            for place, key in enumerate(keys.tolist()):
                if key in held:
                    found[name][place] = held[key]
        return found

    def assign(self, table: str, keys: Array, rows: Array) -> None:
        """Let rows of keys be these, (n, dim)."""
        self._rows[table].update(zip(keys.tolist(), np.asarray(rows, np.float32), strict=True))


__all__ = ["LocalRows", "distinct", "draws_of", "first_rows"]
