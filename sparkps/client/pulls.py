"""A pull of a sparse table: what it asks of the nodes, and what their answers become."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparkps.client import values as check
from sparkps.client.grouping import Grouping
from sparkps.client.items import keys_per_piece, sparse_items
from sparkps.client.keyset import KeySet
from sparkps.errors import InvalidInput
from sparkps.specs import TableSpec
from sparkps.wire.messages.data import OpCode

if TYPE_CHECKING:
    from sparkps.client.tables import SparseTable

Array = NDArray[Any]


class Pull:
    """The items of one pull of a sparse table, and what its rows become."""

    def __init__(self, table: SparseTable, keys: ArrayLike | KeySet, out: Array | None = None) -> None:
        session, spec = table.session(), table.spec
        if not isinstance(keys, KeySet):
            keys = check.check_keys(spec, keys)
        if out is not None and (out.shape != (len(keys), spec.dim) or out.dtype != spec.dtype or not out.flags.c_contiguous):
            raise InvalidInput(
                f"`out` must be a C-contiguous array of shape ({len(keys)}, {spec.dim}) and dtype {spec.dtype}."
                f" Got {out.dtype} of {out.shape}.",
                table=spec.name,
            )
        if isinstance(keys, KeySet):
            registration = keys.registration()
            self.grouping = registration.grouping
            self.out = self._room(spec, out, len(registration.chunks))
            self.items = list(registration.items(spec, OpCode.PULL, None, self.out, table.encoding))
        else:
            routing = session.routing
            grouping = self.grouping = Grouping.of(keys, routing)
            most = keys_per_piece(spec, len(grouping.keys), session.settings.chunk_bytes)
            pieces = len(routing.nodes) if len(grouping.keys) <= most else 2
            self.out = self._room(spec, out, pieces)
            self.items = list(sparse_items(routing, spec, OpCode.PULL, grouping, None, self.out, most, table.encoding))
        self._given = out

    def _room(self, spec: TableSpec, given: Array | None, pieces: int) -> Array | None:
        """Where the answers go; None where the one answer is used as it comes."""
        grouping = self.grouping
        if given is not None and grouping.inverse is None:
            return given
        if pieces == 1 and len(grouping.keys) and grouping.source is None:
            return None
        return np.empty((len(grouping.keys), spec.dim), spec.dtype)

    def result(self) -> Array:
        """The rows, in the order of the call."""
        rows = self.items[0].answer if self.out is None else self.out
        assert rows is not None, "a settled pull has its answer"
        if self.grouping.source is not None or rows is self._given:
            return rows
        return self.grouping.spread(rows, self._given)


__all__ = ["Pull"]
