"""Normal equations and iterative reweighting, driver and ranks in one thread: the ranks work when the driver's clock has ticked."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.optimize import minimize

from sparkps.consistency import BSP
from sparkps.errors import InvalidInput
from sparkps.mllib.data.ingest import ingest
from sparkps.mllib.data.rows import Columns, RowReader
from sparkps.mllib.data.store import Store
from sparkps.mllib.linear.distributions import DISTRIBUTIONS
from sparkps.mllib.linear.likelihood import HalfDeviance
from sparkps.mllib.linear.losses.squared import Squared
from sparkps.mllib.linear.mean_links import MEAN_LINKS
from sparkps.mllib.solvers import irls, normal, normal_driver
from sparkps.mllib.solvers.driver import Solution
from sparkps.mllib.solvers.irls import IrlsDriver, IrlsStanding
from sparkps.mllib.solvers.job import RankJob, TrainingJob
from sparkps.mllib.solvers.names import TableNames
from sparkps.mllib.solvers.normal_driver import NormalDriver
from sparkps.mllib.solvers.ranks import COUNTS
from sparkps.mllib.solvers.saving import Unsaved
from sparkps.wire.messages.data import OpCode
from tests.unit.mllib.problems import batch_of

POISSON = HalfDeviance(DISTRIBUTIONS["poisson"], MEAN_LINKS["log"])


class Table:
    """Numbers of a dense table, or rows of a sparse one."""

    def __init__(self, size: int = 0) -> None:
        self.numbers = np.zeros(size)
        self.rows: dict[int, float] = {}

    def pull(self) -> np.ndarray:
        return self.numbers.copy()

    def assign(self, keys: np.ndarray, rows: np.ndarray) -> None:
        self.rows.update(zip(keys.tolist(), rows[:, 0].tolist(), strict=True))


class Group:
    """Ranks and the driver's member, with the tables that both see."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, driver: Any, stores: list[Store]) -> None:
        self.tables: dict[str, Table] = {}
        self.driver, self.clock, self.session = driver, 0, SimpleNamespace()
        for module in (normal, irls, normal_driver):
            for name in ("pull_together", "write_together"):
                if hasattr(module, name):
                    monkeypatch.setattr(module, name, getattr(self, name))
        made = SimpleNamespace(dense=self.dense, sparse=self.sparse)
        driver.create(made, len(stores))
        self.ranks = []
        for rank, store in enumerate(stores):
            worker = SimpleNamespace(rank=rank, num_workers=len(stores), clock=0, session=None, table=self.table, tick=lambda: None)
            self.ranks.append(driver.task(RankJob(driver.jobs, driver.names, 0, "")).gathering(worker, store))

    def dense(self, name: str, shape: tuple[int, ...], dtype: str) -> Table:
        self.tables[name] = Table(int(np.prod(shape)))
        self.tables[name].numbers = self.tables[name].numbers.reshape(shape)
        return self.tables[name]

    def sparse(self, name: str, **_: Any) -> Table:
        self.tables[name] = Table()
        return self.tables[name]

    def table(self, name: str) -> Table:
        return self.tables[name]

    def pull_together(self, session: Any, tables: list[Table]) -> list[np.ndarray]:
        return [table.pull() for table in tables]

    def write_together(self, session: Any, code: OpCode, what: list[tuple[Table, np.ndarray]]) -> Any:
        for table, values in what:
            table.numbers = values.copy() if code == OpCode.ASSIGN else table.numbers + values
        return SimpleNamespace(result=lambda: None)

    def report(self, **_: Any) -> None:
        pass

    def tick(self) -> None:
        """The ranks gather at even clocks."""
        for rank in self.ranks:
            if self.clock == 0:
                rank._gather_first()
            elif self.clock % 2 == 0:
                rank._work()
        self.clock += 1

    def solve(self, saver: Any = None) -> list[Solution]:
        models = [self.table(self.driver.names.coefficients_of(number)) for number in range(len(self.driver.jobs))]
        found: list[Solution] = self.driver._solve(self, saver or Unsaved(), models)
        self.coefficients = [[model.rows.get(key, 0.0) for key in range(self.driver.features)] for model in models]
        return found


def job(objective: Any, **more: Any) -> TrainingJob:
    given = {
        "uid": "Fit", "columns": Columns("label", "features", "weight", 3), "objective": objective, "solver": "irls", "max_iter": 25,
        "tol": 1e-9, "l1": 0.0, "l2": 0.0, "standardization": True, "fit_intercept": True, "step_size": 1.0, "batch_size": 1,
        "consistency": BSP(), "num_workers": None, "deterministic": False, "seed": 0,
    }  # fmt: skip
    return TrainingJob(**{**given, **more})


def data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(8)
    x = rng.normal(size=(90, 3))
    return x, rng.poisson(np.exp(x @ [0.5, -0.3, 0.1] + 0.4)).astype(float), rng.uniform(0.2, 2, 90)


def stores(pieces: int = 2) -> list[Store]:
    x, y, w = data()
    made = []
    for piece in range(pieces):
        part = slice(piece, None, pieces)
        batch = batch_of(y[part].tolist(), pa.array(x[part].tolist()), weight=pa.array(w[part]))
        made.append(ingest([batch], RowReader(Columns("label", "features", "weight"))))
    return made


class Kept:
    """Keeps what is saved after the iterations that are asked for."""

    def __init__(self, due: int = -1, standing: bytes | None = None) -> None:
        self.due, self.standing = due, standing

    def is_due(self, iteration: int) -> bool:
        return iteration == self.due

    def save(self, iteration: int, standing: bytes) -> None:
        self.kept = standing


def test_one_pass_solves_for_all_penalties(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, w = data()
    jobs = [job(Squared(), l2=l2, fit_intercept=intercept) for l2, intercept in ((0.0, True), (0.0, False), (0.7, True))]
    group = Group(monkeypatch, NormalDriver(jobs, TableNames("n")), stores())
    found = group.solve()
    assert group.clock == 1
    full = np.column_stack([x, np.ones(90)])
    inverse = np.linalg.inv(full.T @ (w[:, None] * full))
    np.testing.assert_allclose([*group.coefficients[0], found[0].intercept], inverse @ full.T @ (w * y), rtol=1e-9)
    np.testing.assert_allclose(found[0].extras["inverse_diagonal"], np.diagonal(inverse), rtol=1e-9)
    np.testing.assert_allclose(group.coefficients[1], np.linalg.solve(x.T @ (w[:, None] * x), x.T @ (w * y)), rtol=1e-9)
    assert np.linalg.norm(group.coefficients[2]) < np.linalg.norm(group.coefficients[0])
    assert [(each.iterations, each.history) for each in found] == [(0, [0.0])] * 3


def test_reweighting_ends_at_the_least_deviance(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, w = data()
    group = Group(monkeypatch, IrlsDriver([job(POISSON)], TableNames("n")), stores())
    (found,) = group.solve()

    def half_deviance(p: np.ndarray) -> float:
        mean = np.exp(x @ p[:3] + p[3])
        return 0.5 * POISSON.distribution.deviance(y, mean, w).sum() / w.sum()

    best = minimize(half_deviance, np.zeros(4), options={"gtol": 1e-9})
    np.testing.assert_allclose([*group.coefficients[0], found.intercept], best.x, atol=1e-6)
    assert found.history[-1] == pytest.approx(best.fun, rel=1e-9)
    assert found.reason == "the coefficients stand still"
    assert 2 < found.iterations == len(found.history) - 1 == len(found.seconds) - 1
    mean = np.exp(x @ group.coefficients[0] + found.intercept)
    full = np.column_stack([x, np.ones(90)])
    expected = np.diagonal(np.linalg.inv(full.T @ ((w * mean)[:, None] * full)))
    np.testing.assert_allclose(found.extras["inverse_diagonal"], expected, rtol=1e-6)


@pytest.mark.parametrize("max_iter", [0, 2])
def test_reweighting_ends_at_the_last_iteration(monkeypatch: pytest.MonkeyPatch, max_iter: int) -> None:
    group = Group(monkeypatch, IrlsDriver([job(POISSON, max_iter=max_iter)], TableNames("n")), stores())
    (found,) = group.solve()
    assert (found.iterations, found.reason, len(found.history)) == (max_iter, "maxIter was reached", max_iter + 1)
    assert len(found.extras["inverse_diagonal"]) == 4


def test_reweighting_goes_on_where_it_was_to_the_last_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Group(monkeypatch, IrlsDriver([job(POISSON, l2=0.1)], TableNames("n")), stores())
    saver = Kept(due=2)
    (expected,) = whole.solve(saver)
    standing = IrlsStanding.decoded(saver.kept)
    assert len(standing.history) == 2
    resumed = Group(monkeypatch, IrlsDriver([job(POISSON, l2=0.1)], TableNames("n")), stores())
    resumed.tables[resumed.driver.names.ranks].numbers = whole.tables[whole.driver.names.ranks].numbers
    resumed.clock = 5
    (found,) = resumed.solve(Kept(standing=saver.kept))
    assert resumed.coefficients == whole.coefficients
    assert (found.intercept, found.history) == (expected.intercept, expected.history)


@pytest.mark.parametrize(("features", "says"), [(0, "features of unknown number"), (4097, "Got 4097")])
def test_features_must_be_few_and_counted(features: int, says: str) -> None:
    columns = Columns("label", "features", "", features)
    with pytest.raises(InvalidInput, match=f"solver='normal' must know of at most 4096 features how many there are. {says}|{says}"):
        NormalDriver([job(Squared(), columns=columns, solver="normal")], TableNames("n"))


def test_rows_that_cannot_be_trained_on_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = [ingest([], RowReader(Columns("label", "features", "weight"))) for _ in range(2)]
    group = Group(monkeypatch, NormalDriver([job(Squared())], TableNames("n")), empty)
    with pytest.raises(InvalidInput, match="must have at least one row"):
        group.solve()
    x, y, _ = data()
    batch = batch_of(y.tolist(), pa.array(x.tolist()), weight=pa.array(np.zeros(90)))
    weightless = ingest([batch], RowReader(Columns("label", "features", "weight")))
    group = Group(monkeypatch, NormalDriver([job(Squared())], TableNames("n")), [weightless])
    with pytest.raises(InvalidInput, match="the weights of all rows together must be above 0"):
        group.solve()
    assert group.tables[group.driver.names.ranks].numbers.shape == (1, COUNTS)
