"""Tables of a fit are dropped at its end, and a model is not lost because they cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from sparkps.errors import DeadlineExceeded, NodeUnreachable, SparkPSError, TierError
from sparkps.mllib.base import dropped_at_the_end


class Table:
    """A table whose drop ends as told."""

    def __init__(self, error: SparkPSError | None = None) -> None:
        self.name = "t"
        self.error = error
        self.drops = 0

    def drop(self) -> None:
        self.drops += 1
        if self.error is not None:
            raise self.error


def drop_all(made: list[Any]) -> list[int]:
    with dropped_at_the_end() as tables:
        tables += made
    return [table.drops for table in made]


def test_a_table_that_is_refused_keeps_no_other() -> None:
    assert drop_all([Table(), Table(TierError("stopping")), Table()]) == [1, 1, 1]


@pytest.mark.parametrize("error", [NodeUnreachable("gone"), DeadlineExceeded("silent")])
def test_a_coordinator_that_does_not_answer_is_asked_once(error: SparkPSError) -> None:
    assert drop_all([Table(), Table(error), Table(error), Table()]) == [1, 1, 0, 0]


def test_tables_of_a_fit_that_failed_are_dropped_and_the_failure_stays() -> None:
    table = Table(NodeUnreachable("gone"))
    with pytest.raises(ValueError, match="the fit"), dropped_at_the_end() as tables:
        tables.append(table)  # type: ignore[arg-type]
        raise ValueError("the fit")
    assert table.drops == 1
