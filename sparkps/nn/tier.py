"""Rows of tables on the tier: all that a step reads in one request a node, and all that it writes in another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.client.futures import Future
from sparkps.client.session import Session
from sparkps.client.tables import SparseTable, pull_together_async, write_together
from sparkps.nn.local import distinct
from sparkps.wire.messages.data import OpCode

Array = NDArray[Any]


class TierRows:
    """A `RowSource` of tables on the tier.

    Parameters
    ----------
    session : Session
        The one that the tables are bound to.
    tables : mapping
        By name, as modules have it, the table.
    wait : callable, optional
        What gives the result of a future; by default it is waited for and nothing else.

    Examples
    --------
    In the train function of ``ps.run``, with `model` a module and its tables made by `create_tables`:

    >>> tables = {name: worker.table(name).over("bfloat16") for name in tables_of(model)}        # doctest: +SKIP
    >>> rows = TierRows(worker.session, tables)                                                 # doctest: +SKIP
    >>> with Step.of(model, batch, rows) as step:                                               # doctest: +SKIP
    ...     loss(model(batch)).backward()
    >>> rows.push(step.gradients()); worker.tick()                                              # doctest: +SKIP
    """

    def __init__(
        self, session: Session, tables: Mapping[str, SparseTable], wait: Callable[[Future[Any]], Any] = lambda future: future.result()
    ) -> None:
        self.session = session
        self.tables = tables
        self._wait = wait

    def distinct(self, keys: Array) -> tuple[Array, Array]:
        """See `RowSource`: in one order wherever the buckets are, for sums of gradients depend on it in their last bits."""
        return distinct(keys)

    def pull(self, wanted: Mapping[str, Array]) -> dict[str, Array]:
        """See `RowSource`."""
        rows, _ = self.pull_with(wanted, ())
        return rows

    def pull_with(self, wanted: Mapping[str, Array], more: Sequence[Any]) -> tuple[dict[str, Array], list[Array]]:
        """The rows, and whatever else `pull_together` takes, in the same requests."""
        return self.taken(wanted, self.pull_ahead(wanted, more))

    def pull_ahead(self, wanted: Mapping[str, Array], more: Sequence[Any]) -> Future[list[Array]]:
        """As `pull_with`, without waiting; `taken` gives what came."""
        return pull_together_async(self.session, [*self._asked(wanted), *more])

    def taken(self, wanted: Mapping[str, Array], future: Future[list[Array]]) -> tuple[dict[str, Array], list[Array]]:
        """What `pull_ahead` has asked for, when it is there."""
        return self._by_name(wanted, self._wait(future))

    def _asked(self, wanted: Mapping[str, Array]) -> list[Any]:
        return [(self.tables[name], keys) for name, keys in wanted.items()]

    def _by_name(self, wanted: Mapping[str, Array], came: list[Array]) -> tuple[dict[str, Array], list[Array]]:
        rows = {name: _writeable(each) for name, each in zip(wanted, came, strict=False)}
        return rows, came[len(rows) :]

    def push(self, gradients: Mapping[str, tuple[Array, Array]], more: Sequence[tuple[Any, ...]] = ()) -> Future[None] | None:
        """Push gradients by table, and whatever else `write_together` takes: (dense table, values)."""
        pushes = [(self.tables[name], keys, values) for name, (keys, values) in gradients.items()]
        every = [*pushes, *more]
        return write_together(self.session, OpCode.PUSH, every) if every else None


def _writeable(rows: Array) -> Array:
    """Rows that torch may share memory with; those straight off the wire are read-only."""
    return rows if rows.flags.writeable and rows.flags.c_contiguous else np.array(rows)


__all__ = ["TierRows"]
