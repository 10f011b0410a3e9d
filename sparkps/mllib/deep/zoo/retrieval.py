"""The best items of each user by the dot products of their vectors: exactly, by blocks, in executors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sparkps.mllib.deep.columns import InputColumns, is_list
from sparkps.mllib.deep.losses import SampledSoftmaxLoss
from sparkps.mllib.deep.scoring import Held, checked_inputs
from sparkps.nn.features import Bags

Array = NDArray[Any]

#: Users and items whose scores are in memory at once: 32 MiB of them.
USERS_AT_ONCE, ITEMS_AT_ONCE = 256, 16384


def best_items(users: Array, items: Array, count: int, left_out: Bags | None = None) -> tuple[Array, Array]:
    """The items with the highest dot products, of equal ones those that come first.

    Parameters
    ----------
    users : ndarray of shape (n, dim), float32
    items : ndarray of shape (m, dim), float32
    count : int
        At most m.
    left_out : Bags, optional
        Of each user, places of items that are not wanted: their scores are minus infinity.

    Returns
    -------
    places, scores : ndarrays of shape (n, count), int64 and float64
        Highest scores first.

    Examples
    --------
    >>> items = np.array([[1.0], [3.0], [2.0]], np.float32)
    >>> [each.tolist() for each in best_items(np.array([[1.0], [-1.0]], np.float32), items, 2)]
    [[[1, 2], [0, 2]], [[3.0, 2.0], [-1.0, -2.0]]]
    """
    places, scores = np.empty((len(users), count), np.int64), np.empty((len(users), count))
    for start in range(0, len(users), USERS_AT_ONCE):
        stop = min(start + USERS_AT_ONCE, len(users))
        out = None if left_out is None else left_out.rows(start, stop)
        places[start:stop], scores[start:stop] = _best(users[start:stop].astype(np.float64), items, count, out)
    return places, scores


def _best(users: Array, items: Array, count: int, left_out: Bags | None) -> tuple[Array, Array]:
    places, scores = np.empty((len(users), 0), np.int64), np.empty((len(users), 0))
    for first in range(0, len(items), ITEMS_AT_ONCE):
        block = items[first : first + ITEMS_AT_ONCE].astype(np.float64)  # what is added up in another order must come to the same
        found = users @ block.T
        if left_out is not None:
            inside = (left_out.keys >= first) & (left_out.keys < first + len(block))
            found[left_out.of_rows.numpy()[inside], left_out.keys[inside] - first] = -np.inf
        both = np.concatenate([scores, found], 1)
        numbers = np.broadcast_to(np.arange(first, first + len(block)), (len(users), len(block)))
        kept = _highest(both, min(count, both.shape[1]))
        places = np.take_along_axis(np.concatenate([places, numbers], 1), kept, 1)
        scores = np.take_along_axis(both, kept, 1)
    return places, scores


def _highest(scores: Array, count: int) -> Array:
    """Places of the `count` highest of each row, int64 (n, count), in their order; of equal ones the first."""
    width, kept = scores.shape[1], np.empty((len(scores), count), np.int64)
    least = np.partition(scores, width - count, axis=1)[:, width - count] if count else np.empty(len(scores))
    for row, each in enumerate(scores):
        candidates = np.flatnonzero(each >= least[row])
        kept[row] = candidates[np.argsort(-each[candidates], kind="stable")[:count]]
    return kept


@dataclass(frozen=True)
class VectorScorer:
    """The function of a UDF: vectors of rows by a tower. Picklable.

    Parameters
    ----------
    held : object
        A broadcast variable of the tower, a `Held`, or that itself.
    columns : InputColumns
        That it reads.
    """

    held: Any
    columns: InputColumns

    def vectors(self, columns: Sequence[pa.Array]) -> Array:
        """float32 (n, dim)."""
        held: Held = getattr(self.held, "value", self.held)
        found: Array = held.outputs(checked_inputs(self.columns, columns), SampledSoftmaxLoss()).astype(np.float32)
        return found

    def __call__(self, *columns: pa.Array) -> pa.Array:  # Spark tells the kind of UDF by these types
        """A list of floats for each row."""
        return as_lists(self.vectors(columns))


@dataclass(frozen=True)
class Recommending:
    """The function of a UDF: the best items of each row's user. Picklable.

    Parameters
    ----------
    users : VectorScorer
    items : object
        A broadcast variable of keys of items, a pyarrow.Array, and their vectors, float32 (m, dim).
    count : int
        Items of a user, at most.
    name : str
        Of the item in what is recommended.
    excludes : bool
        Whether there is one more column, of items, or arrays of such, that are left out.
    """

    users: VectorScorer
    items: Any
    count: int
    name: str
    excludes: bool = False

    def __call__(self, *columns: pa.Array) -> pa.Array:  # Spark tells the kind of UDF by these types
        """For each row a list of structs: the item, and its rating, float32."""
        keys, vectors = self.items.value
        given = columns[:-1] if self.excludes else columns
        if not len(columns[0]):
            found = np.empty((0, self.count), np.int64), np.empty((0, self.count))
        else:
            left_out = places_in(columns[-1], keys) if self.excludes else None
            found = best_items(self.users.vectors(given), vectors, self.count, left_out)
        places, scores = found
        kept = scores > -np.inf
        ratings = pa.array(scores[kept].astype(np.float32))
        pairs = pa.StructArray.from_arrays([keys.take(pa.array(places[kept])), ratings], [self.name, "rating"])
        return pa.ListArray.from_arrays(pa.array(np.concatenate(([0], np.cumsum(kept.sum(1)))).astype(np.int32)), pairs)


def may_hold(kind: pa.DataType, keys: pa.DataType) -> bool:
    """Whether values of a type, or of its arrays' elements, can be found among keys of another type.

    Examples
    --------
    >>> [may_hold(kind, pa.int32()) for kind in (pa.int32(), pa.list_(pa.int64()), pa.bool_(), pa.string())]
    [True, True, False, False]
    """
    kind = kind.value_type if is_list(kind) else kind
    alike = (pa.types.is_integer, lambda each: pa.types.is_string(each) or pa.types.is_large_string(each))
    return bool(kind == keys or any(test(kind) and test(keys) for test in alike))


def places_in(column: pa.Array, keys: pa.Array) -> Bags:
    """Of each row the places of its values, or of those of its array, among distinct `keys`, as far as they are there.

    Examples
    --------
    >>> found = places_in(pa.array([[7, 9], None, [8, None]]), pa.array([7, 8]))
    >>> found.keys.tolist(), found.offsets.tolist()
    ([0, 1], [0, 1, 1, 2])
    """
    values, rows = column, np.arange(len(column))
    if is_list(column.type):
        values, rows = column.flatten(), pc.list_parent_indices(column).to_numpy()
    # A null is none of them, nor is what the type of the keys is too small for.
    places = pc.index_in(values, value_set=keys)
    known = np.asarray(places.is_valid())
    counts = np.bincount(rows[known], minlength=len(column))
    return Bags("left out", places.drop_null().to_numpy().astype(np.int64), np.concatenate(([0], np.cumsum(counts))))


def as_lists(rows: Array) -> pa.Array:
    """Rows float32 (n, dim) as lists."""
    return pa.ListArray.from_arrays(_offsets(*rows.shape), pa.array(np.ascontiguousarray(rows).reshape(-1)))


def _offsets(rows: int, width: int) -> pa.Array:
    return pa.array(np.arange(rows + 1, dtype=np.int32) * np.int32(width))


__all__ = ["Recommending", "VectorScorer", "as_lists", "best_items", "may_hold", "places_in"]
