"""What ranks say of their rows, and what is told from it before and after training."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from sparkps.errors import CheckpointError, InvalidInput
from sparkps.mllib.data.ingest import ingest
from sparkps.mllib.data.rows import Columns, RowReader
from sparkps.mllib.solvers.ranks import (
    Figures,
    RankSummary,
    check_same_rows,
    check_weight,
    common_width,
    counts_of,
    weight_of,
)
from tests.unit.mllib.problems import batch_of

COLUMNS = Columns("label", "f")


def test_ranks_write_rows_of_their_own() -> None:
    store = ingest([batch_of([1.0, 0.0], pa.array([[0.0, 2.0, 1.0]] * 2))], RowReader(Columns("label", "features")))
    assert counts_of(store, 2.5, 1, 3).tolist() == [[0, 0, 0, 0], [2, 2.5, 3, 1], [0, 0, 0, 0]]


def test_a_rank_that_goes_on_must_have_the_rows_that_it_had() -> None:
    store = ingest([batch_of([1.0, 0.0], pa.array([[0.0, 2.0, 1.0]] * 2))], RowReader(Columns("label", "features")))
    said = counts_of(store, weight_of(store), 1, 3)
    check_same_rows(said, store, 2.0, 1)
    check_same_rows(said, store, 2.0 + 1e-12, 1)  # summed in another order
    for told, weight, rows in (("sum of weights 2 then and 2.5 now", 2.5, 2.0), ("rows 3 then and 2 now", 2.0, 3.0)):
        said[1, 0] = rows
        with pytest.raises(CheckpointError, match=f"The rows of rank 1 must be .*: {told}. Fit on the same rows") as caught:
            check_same_rows(said, store, weight, 1)
        assert caught.value.rank == 1


@pytest.mark.parametrize(("widths", "common"), [([], 0), ([0, 0], 0), ([3, 0, 3], 3), ([2**31 - 1] * 1000, 2**31 - 1)])
def test_one_length_of_all_vectors(widths: list[int], common: int) -> None:
    assert common_width(np.array(widths, float), COLUMNS) == common


@pytest.mark.parametrize("widths", [[3, 5], [0, 7, 7, 8], [2**31 - 1, 2**31 - 2] * 500])
def test_lengths_that_differ_are_refused_however_large_they_are(widths: list[int]) -> None:
    few = ", ".join(str(each) for each in sorted(set(widths) - {0}))
    with pytest.raises(InvalidInput, match=f"Column 'f': all vectors must have the same size. Got vectors of sizes {few}") as caught:
        common_width(np.array(widths, float), COLUMNS)
    assert caught.value.column == "f"


def test_figures_of_all_ranks() -> None:
    ranks = [RankSummary(3, 1, 9, 0), RankSummary(0, 2, 0, 0)]
    assert Figures.of(ranks, COLUMNS) == Figures(rows=3, skipped=3, num_features=9, width=0)
    assert Figures.of(ranks, Columns("label", "f", num_features=20)).num_features == 20
    with pytest.raises(InvalidInput, match=r"at least one row. Got none \(2 were left out"):
        Figures.of(ranks[1:], COLUMNS)


@pytest.mark.parametrize("weight", [0.0, np.inf])
def test_weights_that_cannot_be_divided_by_are_refused(weight: float) -> None:
    with pytest.raises(InvalidInput, match=r"the weights of all rows together must be above 0, and at most 1\.8e\+308\. Got (0|inf)\."):
        check_weight(weight, "w")
    check_weight(5e-324, "w")


def test_a_fit_that_leaves_most_rows_out_says_so(caplog: pytest.LogCaptureFixture) -> None:
    Figures.of([RankSummary(rows=3, skipped=3, num_features=2, width=2)], COLUMNS)
    assert not caplog.records
    Figures.of([RankSummary(rows=1, skipped=40, num_features=1, width=1)], COLUMNS)
    assert "left out 40 rows, and 1 are trained on" in caplog.text
