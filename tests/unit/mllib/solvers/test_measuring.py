"""What a rank measures of rows for validation, and when the measures of an epoch are whole."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sparkps.mllib.data.ingest import ingest
from sparkps.mllib.data.rows import Columns, RowReader
from sparkps.mllib.data.store import Chunk, Store
from sparkps.mllib.linear.losses.logistic import Logistic
from sparkps.mllib.metrics import MetricSet
from sparkps.mllib.solvers import measuring
from sparkps.mllib.solvers.measuring import LOSSES, Measuring, history, kept, outcome
from sparkps.mllib.solvers.names import TableNames
from sparkps.mllib.solvers.stopping import EarlyStopping

FEATURES = 500
EPOCHS = 3


class Recording(Logistic):
    """As `Logistic`; notes how many features it was given room for."""

    def __init__(self) -> None:
        self.rooms: list[int] = []

    def loss_and_gradient(self, chunks: Iterable[Chunk], state: Any, bias: Any) -> tuple[float, Any]:
        self.rooms.append(len(state))
        return super().loss_and_gradient(chunks, state, bias)


class FakeTable:
    """A dense table that adds up."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape, self.held = shape, np.zeros(shape)

    def add(self, *given: Any) -> None:
        if len(given) == 2:
            self.held[given[0]] += given[1]
        else:
            self.held += given[0]

    def pull(self) -> Any:
        return self.held.copy()


class FakeWorker:
    """The first of two ranks."""

    rank, num_workers, session = 0, 2, None

    def __init__(self, metrics: MetricSet) -> None:
        names = TableNames("fit")
        self.tables = {names.losses: FakeTable((EPOCHS, LOSSES)), names.measures: FakeTable((EPOCHS, metrics.size))}

    def table(self, name: str) -> Any:
        return self.tables.setdefault(name, FakeTable((1,)))


def store() -> Store:
    """Rows of 500 features to train on, and three of features 7 and 300 to measure on."""
    entries = [([i, (i * 7) % FEATURES], [1.0, 2.0]) for i in range(FEATURES)] + [([7], [1.0]), ([300], [-1.0]), ([7, 300], [2.0, 1.0])]
    aside = [False] * FEATURES + [True] * 3
    rows = {
        "label": [float(i % 2) for i in range(FEATURES + 3)],
        "features": [{"indices": sorted(set(indices)), "values": values[: len(set(indices))]} for indices, values in entries],
        "aside": aside,
    }
    kind = pa.struct({"indices": pa.list_(pa.int64()), "values": pa.list_(pa.float64())})
    batch = pa.record_batch([pa.array(rows["label"]), pa.array(rows["features"], kind), pa.array(aside)], list(rows))
    return ingest([batch], RowReader(Columns("label", "features", validation="aside")))


def test_it_looks_at_the_features_of_its_rows_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, objective, metrics = store(), Recording(), MetricSet.named(("logLoss",))
    worker = FakeWorker(metrics)
    asked: list[list[int]] = []

    def pulled(session: Any, wanted: Any) -> list[Any]:
        asked.append(sorted(wanted[0][1].tolist()))
        return [np.array([{7: 0.5, 300: -1.0}[key] for key in wanted[0][1].tolist()])[:, None], np.array([0.25])]

    monkeypatch.setattr(measuring, "pull_together", pulled)
    Measuring(worker, rows, TableNames("fit"), objective, (5, 0.0), metrics).measure(1, fit_intercept=True)
    assert asked == [[7, 300]]
    assert objective.rooms == [2]
    margins, labels = np.array([0.75, 1.25, 0.25]), np.array([FEATURES % 2, (FEATURES + 1) % 2, FEATURES % 2])
    expected = float((np.log1p(np.exp(margins)) - labels * margins).sum())
    losses = worker.table(TableNames("fit").losses).held
    np.testing.assert_allclose(losses[1, 3:6], [expected, 3.0, 1.0])
    assert not losses[[0, 2]].any()
    found = metrics.values(worker.table(TableNames("fit").measures).held[1])
    assert found["logLoss"] == pytest.approx(expected / 3)


def test_an_epoch_counts_when_all_ranks_have_measured() -> None:
    losses = np.zeros((EPOCHS, LOSSES))
    losses[:, 3:6] = [[6.0, 4.0, 2.0], [1.0, 2.0, 1.0], [1.0, 2.0, 2.0]]
    assert history(losses, num_workers=2) == [1.5]
    assert history(losses, num_workers=1) == []


def test_the_model_that_was_kept_is_taken_where_it_is_the_best_and_not_the_last() -> None:
    losses = np.zeros((EPOCHS, LOSSES))
    losses[:, 3:6] = [[4.0, 4.0, 1.0], [2.0, 4.0, 1.0], [3.0, 4.0, 1.0]]
    losses[:2, 6] = 1.0
    assert kept(losses).tolist() == [0, 1]
    assert outcome(losses, 1, EarlyStopping(5, 0.0)) == ([1.0, 0.5, 0.75], "maxIter was reached", True)
    losses[2, 3:7] = 1.0, 4.0, 1.0, 1.0
    assert outcome(losses, 1, EarlyStopping(5, 0.0)) == ([1.0, 0.5, 0.25], "maxIter was reached", False)
