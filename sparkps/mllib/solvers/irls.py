"""Iteratively reweighted least squares: the ranks gather moments at a point, the driver solves for the next one.

At even clocks the ranks gather, at odd ones the driver solves; the control table says what comes next. Steps, penalty and end are
those of pyspark.ml.

Green, Iteratively reweighted least squares for maximum likelihood estimation, Journal of the Royal Statistical Society B 46 (1984).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from sparkps.client.tables import SparseTable, pull_together, write_together
from sparkps.errors import InvalidInput
from sparkps.mllib.data.store import Chunk, Store
from sparkps.mllib.solvers.driver import Solution, Times
from sparkps.mllib.solvers.job import RankJob
from sparkps.mllib.solvers.least_squares import LeastSquares, LeastSquaresFit, weighted_least_squares
from sparkps.mllib.solvers.moments import Moments, packed_size
from sparkps.mllib.solvers.names import TableNames
from sparkps.mllib.solvers.normal import Gathering, NormalTask, moments_table
from sparkps.mllib.solvers.normal_driver import NormalDriver
from sparkps.mllib.solvers.saving import Saver
from sparkps.mllib.tables import TrainingTables
from sparkps.wire.messages.data import OpCode

Array = NDArray[Any]

#: What the control table says: gather moments and the objective at the point; the objective alone; or it is over.
GATHER, MEASURE, END = 1.0, 2.0, 3.0


class Reweighted(Protocol):
    """An objective whose minimum is that of a least-squares problem with labels and weights that depend on where one stands."""

    def first_responses(self, chunk: Chunk) -> tuple[Array, Array]:
        """Labels and weights, float64 (n,) each, of rows before anything is known. Weights are those of the rows."""

    def working_responses(self, chunk: Chunk, coefficients: Array, bias: float) -> tuple[Array, Array]:
        """Labels and weights at a point, float64 (n,) each.

        Parameters
        ----------
        chunk : Chunk
        coefficients : ndarray of shape (keys,), float64
        bias : float
        """

    def total(self, chunk: Chunk, coefficients: Array, bias: float) -> float:
        """The objective at a point: a weighted sum over the rows."""


def point_table(names: TableNames) -> str:
    """Name of the table of coefficients, by feature, and the intercept behind them."""
    return names.vector("point")


class IrlsTask(NormalTask):
    """The train function: moments at every point that the driver names, until it says that it is over."""

    def gathering(self, worker: Any, store: Store) -> Gathering:
        """See `NormalTask`."""
        return _Reweighting(worker, self.rank_job, store)


class _Reweighting(Gathering):
    """One rank."""

    def __post_init__(self) -> None:
        super().__post_init__()
        names = self.rank_job.names
        self.objective: Any = self.rank_job.job.objective
        self.point, self.control, self.totals = (
            self.worker.table(name) for name in (point_table(names), names.control, names.totals)
        )

    def responses(self, chunk: Chunk) -> tuple[Array, Array]:
        """See `Gathering`."""
        found: tuple[Array, Array] = self.objective.first_responses(chunk)
        return found

    def run(self) -> None:
        """See `Gathering`."""
        super().run()
        while True:
            if self.worker.clock % 2:
                self.worker.tick()
            elif not self._work():
                return

    def _work(self) -> bool:
        """One clock; whether there is another."""
        (command,), point = pull_together(self.worker.session, [self.control, self.point])
        if command == END:
            return False
        w, bias = np.where(self.store.keys >= 0, point[self.places], 0.0), float(point[-1])
        total = sum(self.objective.total(chunk, w, bias) for chunk in self.store)
        what = [(self.totals, np.array([total], np.float64))]
        if command == GATHER:
            what.append((self.moments, self.gathered(lambda chunk: self.objective.working_responses(chunk, w, bias))))
        write_together(self.worker.session, OpCode.ADD, what)
        self.worker.tick()
        return True


class IrlsStanding(msgspec.Struct, frozen=True):
    """Where iterations were, between two of them."""

    #: Coefficients by feature, and the intercept behind them.
    point: list[float]
    #: Mean objective at the start and after each iteration but the last.
    history: list[float]

    def encoded(self) -> bytes:
        """In bytes; numbers keep every bit."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def decoded(cls, data: bytes) -> IrlsStanding:
        """Out of the bytes of `encoded`."""
        return msgspec.msgpack.decode(data, type=cls)


class IrlsDriver(NormalDriver):
    """Solves for the next point, for an objective that is `Reweighted`; the penalty is on coefficients of raw features."""

    takes_grids = False

    def task(self, rank_job: RankJob) -> NormalTask:
        """See `SolverDriver`."""
        return IrlsTask(rank_job)

    def _create(self, tables: TrainingTables) -> list[SparseTable]:
        names = self.names
        for name, size in ((point_table(names), self.features + 1), (names.control, 1), (names.totals, 1)):
            tables.dense(name, shape=(size,), dtype="float64")
        return super()._create(tables)

    def _solve(self, solver: Any, saver: Saver, models: list[Any]) -> list[Solution]:
        """See `NormalDriver`."""
        found = _Iterations(self, solver, saver).solve()
        self._publish(models[0], found.fit.coefficients)
        found.announce(END)
        history, count = found.history, found.iterations
        extras = {"inverse_diagonal": found.fit.inverse_diagonal}
        intercepts, seconds = np.array([found.fit.intercept]), found.times.of(len(history))
        return [Solution(intercepts, history, count, found.reason, seconds=seconds, extras=extras)]

    def first_fit(self, solver: Any) -> LeastSquaresFit:
        """Of the rows' first responses."""
        job = self.job
        return weighted_least_squares(self._first_moments(solver), LeastSquares(job.fit_intercept, job.l1 + job.l2))


class _Iterations:
    """The driver's part of the group's clock.

    Parameters
    ----------
    driver : IrlsDriver
    solver : Worker
        The driver's member of the group.
    saver : Saver
    """

    def __init__(self, driver: IrlsDriver, solver: Any, saver: Saver) -> None:
        self._driver, self._solver, self._saver, self.job = driver, solver, saver, driver.job
        names = driver.names
        self._point, self._control, self._totals, self._moments = (
            solver.table(name) for name in (point_table(names), names.control, names.totals, moments_table(names))
        )
        self.times = Times()
        self.history: list[float] = []
        self.reason = "maxIter was reached"
        #: Where it stands.
        self.fit = LeastSquaresFit(np.empty(0), 0.0)

    @property
    def iterations(self) -> int:
        """That are done."""
        return len(self.history) - 1

    def solve(self) -> _Iterations:
        """From the start, or from where an earlier attempt stood."""
        job = self.job
        self._weight = self._begin()
        asked = LeastSquares(
            job.fit_intercept, job.l1 + job.l2, standardize_features=False, standardize_label=False, with_inverse=False
        )
        moments, change = None, np.inf
        for _ in range(len(self.history), job.max_iter):
            moments = self._gathered()
            before, self.fit = self.fit, weighted_least_squares(moments, asked)
            change = float(np.abs(_point_of(self.fit) - _point_of(before)).max())
            if change < job.tol:
                self.reason = "the coefficients stand still"
                break
            self._keep()
        self._measure()
        if moments is not None:
            self.fit = weighted_least_squares(moments, replace(asked, with_inverse=True))
        return self

    def _begin(self) -> float:
        """Where iterations begin; the weight of all rows."""
        standing = self._saver.standing
        if standing is None:
            self._solver.report(epoch=0, epochs=self.job.max_iter)
            self.fit = self._driver.first_fit(self._solver)
        else:
            known = IrlsStanding.decoded(standing)
            self.fit = LeastSquaresFit(np.array(known.point[:-1]), known.point[-1])
            self.history = list(known.history)
        ranks = self._solver.table(self._driver.names.ranks)
        return float(ranks.pull()[:, 1].sum())

    def _keep(self) -> None:
        done = len(self.history)
        if done < self.job.max_iter and self._saver.is_due(done):
            self._saver.save(done, IrlsStanding(_point_of(self.fit).tolist(), self.history).encoded())

    def announce(self, command: float) -> None:
        """Say what comes next, at the point where it stands; the ranks see both when the clock closes."""
        what = [(self._point, _point_of(self.fit)), (self._control, np.array([command])), (self._totals, np.zeros(1))]
        if command == GATHER:
            what.append((self._moments, np.zeros(packed_size(self._driver.features))))
        write_together(self._solver.session, OpCode.ASSIGN, what).result()
        self._solver.tick()

    def _gathered(self) -> Moments:
        """Moments of the rows at the point."""
        self.announce(GATHER)
        self._solver.tick()
        totals, packed = pull_together(self._solver.session, [self._totals, self._moments])
        self._note(totals)
        moments = Moments.of(packed, self._driver.features)
        if not 0 < moments.weight < np.inf:
            raise InvalidInput(
                f"Iterations must stay where rows have a mean. Got weights of rows that add up to {moments.weight:g} at iteration"
                f" {len(self.history)}; set another `link`, or a `regParam` above {self.job.l2:g}.",
                param="link",
            )
        return moments

    def _measure(self) -> None:
        """The objective where it ends."""
        self.announce(MEASURE)
        self._solver.tick()
        (totals,) = pull_together(self._solver.session, [self._totals])
        self._note(totals)

    def _note(self, totals: Array) -> None:
        self.history.append(float(totals[0]) / self._weight)
        self.times.note()
        self._solver.report(epoch=self.iterations, epochs=self.job.max_iter, loss=self.history[-1])


def _point_of(fit: LeastSquaresFit) -> Array:
    return np.append(fit.coefficients, fit.intercept)


__all__ = ["END", "GATHER", "MEASURE", "IrlsDriver", "IrlsStanding", "IrlsTask", "Reweighted", "point_table"]
