"""Keys of a call, combined and put into node-major order, and the way back for its rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.client.routing import Routing

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Grouping:
    """The distinct keys of a call by node and bucket.

    Examples
    --------
    >>> from sparkps.wire.placement import initial
    >>> routing = Routing.of(1, initial([0]))
    >>> g = Grouping.of(np.array([5, 7, 5]), routing)
    >>> sorted(g.keys.tolist()), sorted(g.combine(np.array([[1.0], [2.0], [3.0]])).ravel().tolist())
    ([5, 7], [2.0, 4.0])
    """

    #: int64 (u,): distinct keys in node-major order.
    keys: NDArray[np.int64]
    #: int64 (NUM_BUCKETS + 1,): first key of each position of the order.
    offsets: NDArray[np.int64]
    #: int32 (n,): place in `keys` of each key of the call; None: the call's keys are `keys`.
    inverse: NDArray[np.int32] | None

    @classmethod
    def of(cls, keys: NDArray[np.int64], routing: Routing) -> Grouping:
        """Of the keys of a call, any order, duplicates allowed."""
        from sparkps.kernels.partition import partition

        return cls(*partition(keys, routing.order.position))

    def combine(self, values: Array) -> Array:
        """Rows of the call, summed per distinct key in order of appearance: (u, dim)."""
        if self.inverse is None:
            return values
        from sparkps.kernels.partition import combine_values

        return combine_values(values, self.inverse, np.empty((len(self.keys), *values.shape[1:]), values.dtype))

    def last(self, values: Array) -> Array:
        """Rows of the call; of a key that appears twice, the last: (u, dim)."""
        if self.inverse is None:
            return values
        rows = np.empty((len(self.keys), *values.shape[1:]), values.dtype)
        rows[self.inverse] = values
        return rows

    def spread(self, rows: Array, out: Array | None = None) -> Array:
        """Rows of the distinct keys, back in the order of the call: (n, dim)."""
        if self.inverse is None:
            if out is None:
                return rows if rows.flags.writeable else rows.copy()
            np.copyto(out, rows)
            return out
        from sparkps.kernels.partition import spread

        if out is None:
            out = np.empty((len(self.inverse), *rows.shape[1:]), rows.dtype)
        return spread(rows, self.inverse, out)
