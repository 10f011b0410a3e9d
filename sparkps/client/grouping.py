"""Keys of a call, combined and put into node-major order, and the way back for its rows."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.client import plain_movement
from sparkps.client.routing import Routing

Array = NDArray[Any]

#: Types of rows that there are kernels for.
FLOATS = ("float32", "float64")

#: Calls of at most so many keys are done without kernels as long as nobody has loaded numba.
PLAIN_KEYS = 4096


@dataclass(frozen=True, slots=True)
class Grouping:
    """The distinct keys of a call by node and bucket.

    Examples
    --------
    >>> routing = Routing.of(1, [[0]] * 256)
    >>> g = Grouping.of(np.array([5, 7, 5]), routing)
    >>> sorted(g.keys.tolist()), sorted(g.combine(np.array([[1.0], [2.0], [3.0]])).ravel().tolist())
    ([5, 7], [2.0, 4.0])
    """

    #: int64 (u,): distinct keys in node-major order.
    keys: NDArray[np.int64]
    #: int64 (NUM_BUCKETS + 1,): first key of each position of the order.
    offsets: NDArray[np.int64]
    #: int32 (n,): place in `keys` of each key of the call. None, as `source`: the call's keys are `keys`.
    inverse: NDArray[np.int32] | None
    #: int32 (u,): place in the call of each of `keys`, where the call had no key twice; ascends within each bucket.
    source: NDArray[np.int32] | None

    @classmethod
    def of(cls, keys: NDArray[np.int64], routing: Routing) -> Grouping:
        """Of the keys of a call, any order, duplicates allowed."""
        if _is_plain(len(keys)):
            return cls(*plain_movement.partition(keys, routing.order.position))
        from sparkps.kernels.partition import partition

        return cls(*partition(keys, routing.order.position))

    def places(self) -> NDArray[np.int32] | None:
        """int32 (n,): place in `keys` of each key of the call; None: the call's keys are `keys`."""
        if self.source is None:
            return self.inverse
        inverse = np.empty(len(self.source), np.int32)
        inverse[self.source] = np.arange(len(self.source), dtype=np.int32)
        return inverse

    def combine(self, values: Array, *, last: bool = False) -> Array:
        """Rows of the call, one per distinct key: their sum in order of appearance, or the last. See `piece`."""
        if self.inverse is None:
            return values
        rows = np.empty((len(self.keys), *values.shape[1:]), values.dtype)
        if last:
            rows[self.inverse] = values
            return rows
        combined: Array = _movement(len(values)).combine_values(values, self.inverse, rows)
        return combined

    def piece(self, combined: Array, a: int, b: int) -> Array:
        """Rows of ``keys[a:b]`` of what `combine` gave."""
        if self.source is None:
            return combined[a:b]
        if combined.dtype.name not in FLOATS:  # encoded for the way
            return combined.take(self.source[a:b], axis=0)
        rows: Array = _movement(b - a).to_groups(combined, self.source, self.offsets, a, b)
        return rows

    def deliver(self, rows: Array, a: int, b: int, out: Array) -> None:
        """Put rows of ``keys[a:b]`` where the call wants them: (n, dim). For a grouping with a `source`."""
        assert self.source is not None
        _movement(b - a).to_call(rows, self.source, self.offsets, a, b, out)

    def spread(self, rows: Array, out: Array | None = None) -> Array:
        """Rows of the distinct keys, back in the order of the call: (n, dim). Not for a grouping with a `source`."""
        if self.inverse is None:
            if out is None:
                return rows if rows.flags.writeable else rows.copy()
            np.copyto(out, rows)
            return out
        if out is None:
            out = np.empty((len(self.inverse), *rows.shape[1:]), rows.dtype)
        spread_out: Array = _movement(len(out)).spread(rows, self.inverse, out)
        return spread_out


def _is_plain(count: int) -> bool:
    """Whether a call of so many keys is done without kernels."""
    return count <= PLAIN_KEYS and "numba" not in sys.modules


def _movement(count: int) -> Any:
    """What moves the rows of a call of so many keys: kernels, or what stands in for them."""
    if _is_plain(count):
        return plain_movement
    from sparkps.kernels import movement

    return movement
