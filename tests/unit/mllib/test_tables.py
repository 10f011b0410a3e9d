"""Tables of a training are dropped at its end, and a model is not lost because they cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from sparkps.client.tables import SparseTable
from sparkps.errors import DeadlineExceeded, NodeUnreachable, SparkPSError, TierError
from sparkps.mllib.tables import TrainingTables


class Table(SparseTable):
    """A table whose drop ends as told."""

    name = ""  # type: ignore[assignment]

    def __init__(self, name: str, error: BaseException | None = None) -> None:
        self.name = name  # type: ignore[misc]
        self.error = error
        self.drops = 0

    def drop(self) -> None:
        self.drops += 1
        if self.error is not None:
            raise self.error


class Context:
    """Makes the tables that it was given; like the tier, the same one again for the same name."""

    def __init__(self, *tables: Table, interrupted: str = "") -> None:
        self.tables = {table.name: table for table in tables}
        self.interrupted = interrupted

    def sparse_table(self, name: str, **_: Any) -> Table:
        if name == self.interrupted:
            self.interrupted = ""
            raise KeyboardInterrupt
        return self.tables[name]


def drop_all(*made: Table) -> list[int]:
    with TrainingTables(Context(*made)) as tables:  # type: ignore[arg-type]
        for table in made:
            tables.sparse(table.name)
    return [table.drops for table in made]


def test_a_table_that_is_refused_keeps_no_other() -> None:
    assert drop_all(Table("a"), Table("b", TierError("stopping")), Table("c")) == [1, 1, 1]


@pytest.mark.parametrize("error", [NodeUnreachable("gone"), DeadlineExceeded("silent")])
def test_a_coordinator_that_does_not_answer_is_asked_once(error: SparkPSError) -> None:
    assert drop_all(Table("a"), Table("b", error), Table("c", error), Table("d")) == [1, 1, 0, 0]


def test_tables_of_a_training_that_failed_are_dropped_and_the_failure_stays() -> None:
    table = Table("a", NodeUnreachable("gone"))
    with pytest.raises(ValueError, match="the fit"), TrainingTables(Context(table)) as tables:  # type: ignore[arg-type]
        tables.sparse("a")
        raise ValueError("the fit")
    assert table.drops == 1


def test_what_is_kept_stays() -> None:
    made = [Table("a"), Table("b")]
    with TrainingTables(Context(*made)) as tables:  # type: ignore[arg-type]
        for table in made:
            tables.sparse(table.name)
        tables.keep(made[0])
    assert [table.drops for table in made] == [0, 1]


def test_what_has_an_owner_on_the_tier_is_kept_by_the_name_it_was_asked_for() -> None:
    """A tier that several owners share calls the table ``a`` of one of them ``ann/a``."""
    made = [Table("ann/a"), Table("ann/b")]
    context = Context()
    context.tables = dict(zip("ab", made, strict=True))
    with TrainingTables(context) as tables:  # type: ignore[arg-type]
        for name in "ab":
            tables.sparse(name)
        tables.keep(made[1])
    assert [table.drops for table in made] == [1, 0]


def test_a_table_whose_creation_was_interrupted_goes_with_the_others() -> None:
    """The request may have reached the coordinator before Ctrl-C reached the caller."""
    made = [Table("a"), Table("b")]
    context = Context(*made, interrupted="b")
    with pytest.raises(KeyboardInterrupt), TrainingTables(context) as tables:  # type: ignore[arg-type]
        tables.sparse("a")
        tables.sparse("b")
    assert [table.drops for table in made] == [1, 1]


def test_an_interrupt_while_tables_are_dropped_leaves_none_of_them() -> None:
    class Pressed(Table):
        def drop(self) -> None:
            super().drop()
            if self.drops == 1:
                raise KeyboardInterrupt("second")

    made = [Table("a"), Pressed("b"), Table("c")]
    with pytest.raises(KeyboardInterrupt, match="second"):
        drop_all(*made)
    assert [table.drops for table in made] == [1, 2, 1], "whether the one was dropped is not known: it is dropped again"
