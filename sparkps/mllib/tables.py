"""Tables that trainings and models have on the tier: made under names of their own, and dropped when nobody needs them."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from sparkps.client.tables import DenseTable, SparseTable, Table
from sparkps.errors import DeadlineExceeded, NodeUnreachable, SparkPSError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from sparkps.driver_bridge.context import PSContext

log = logging.getLogger(__name__)


def context_of(spark: SparkSession) -> PSContext:
    """The current tier, or a new one from the session's settings that later trainings share."""
    from sparkps.driver_bridge.context import PSContext

    return PSContext.get_or_create(spark)


def new_prefix(uid: str) -> str:
    """A prefix of table names that no other training has."""
    return f"{uid}.{uuid.uuid4().hex[:12]}"


class TrainingTables:
    """The tables of one training, a context manager: what is not kept is dropped at its end, also after a failure or Ctrl-C.

    A model is not given up because its tables cannot be dropped, nor kept waiting once for each of them.

    Parameters
    ----------
    ps : PSContext
    """

    def __init__(self, ps: PSContext) -> None:
        self._ps = ps
        #: By name, what makes the table, and the table once it is known: an interrupt may come between.
        self._tables: dict[str, tuple[Callable[[], Table], Table | None]] = {}

    def sparse(self, name: str, **spec: Any) -> SparseTable:
        """As `PSContext.sparse_table`."""
        made = self._made(name, lambda: self._ps.sparse_table(name, **spec))
        assert isinstance(made, SparseTable)
        return made

    def dense(self, name: str, **spec: Any) -> DenseTable:
        """As `PSContext.dense_table`."""
        made = self._made(name, lambda: self._ps.dense_table(name, **spec))
        assert isinstance(made, DenseTable)
        return made

    def _made(self, name: str, make: Callable[[], Table]) -> Table:
        self._tables[name] = make, None
        table = make()
        self._tables[name] = make, table
        return table

    def keep(self, table: Table) -> None:
        """The table outlives the training."""
        # by the name that it was asked for: where several owners share the tier it has another one there
        del self._tables[next(name for name, (_, made) in self._tables.items() if made is not None and made.name == table.name)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Drop the tables; an interrupt meanwhile, by a second Ctrl-C, is raised when all are dropped."""
        interrupt: BaseException | None = None
        while self._tables:
            name, (make, table) = next(iter(self._tables.items()))
            try:
                if not _dropped(make, table):
                    log.warning("%d tables of a training stay on the tier until it ends", len(self._tables))
                    break
            except Exception:
                raise
            except BaseException as raised:
                if interrupt is not None:  # the third: whoever presses so often wants to leave
                    raise
                interrupt = raised
                continue  # whether it was dropped is not known: a table that is gone can be dropped again
            del self._tables[name]
        if interrupt is not None:
            raise interrupt


def _dropped(make: Callable[[], Table], table: Table | None) -> bool:
    """Drop a table; one whose creation was interrupted is asked for again, which finds it. Whether the coordinator answered."""
    try:
        return drop_quietly(make() if table is None else table)
    except SparkPSError as error:
        log.debug("a table was not made, nor dropped: %s", error)
        return not isinstance(error, (NodeUnreachable, DeadlineExceeded))


def drop_quietly(table: Table) -> bool:
    """Drop a table; a tier that is gone has dropped it already. Whether the coordinator answered."""
    try:
        table.drop()
    except SparkPSError as error:
        log.debug("table %s was not dropped: %s", table.name, error)
        return not isinstance(error, (NodeUnreachable, DeadlineExceeded))
    return True


__all__ = ["TrainingTables", "context_of", "drop_quietly", "new_prefix"]
