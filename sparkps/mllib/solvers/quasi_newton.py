"""What the quasi-Newton solvers share: names of their vectors, the loop over iterations, and where it ends.

Convergence tests, and what happens after a failed line search, are those of breeze 2.1, which pyspark.ml runs, so that both end
at the same point.
"""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import msgspec
from numpy.typing import NDArray

from sparkps.mllib.solvers.linesearch import LineSearchError
from sparkps.mllib.solvers.operations import Combine, Gram, Operation, Vectors
from sparkps.mllib.solvers.pairs import Pairs, names_of

log = logging.getLogger(__name__)

#: Function values must have stood still for so many iterations (breeze's `fvalMemory`).
_VALUE_MEMORY = 20

#: A gradient of at most this norm is zero, whatever `tol` says.
_LEAST_GRADIENT = 1e-8

#: The accepted point and its gradient; the trial point and its gradient.
POINT, POINT_GRADIENT, TRIAL, TRIAL_GRADIENT = "w", "p", "x", "g"

#: Dot products by the names of their vectors.
Dots = dict[tuple[str, str], float]


@dataclass(frozen=True)
class Progress:
    """What an iteration came to."""

    iteration: int
    objective: float
    gradient_norm: float


@dataclass
class Minimum:
    """Where a minimisation ended; the vector itself is `POINT`."""

    #: Objective at the start and after each iteration.
    history: list[float]
    iterations: int
    #: Why it ended, in words.
    reason: str
    #: Evaluations of the objective.
    evaluations: int


class SolverStanding(msgspec.Struct, frozen=True):
    """Where a minimisation was between two iterations, besides its vectors."""

    #: As in `Minimum`: of so many iterations, and the start.
    history: list[float]
    evaluations: int
    #: As `Pairs.standing` gives them.
    pairs: list[list[float]]
    #: What the solver knows besides, in an order of its own.
    numbers: list[float] = []

    def encoded(self) -> bytes:
        """In bytes; numbers keep every bit."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def decoded(cls, data: bytes) -> SolverStanding:
        """Out of the bytes of `encoded`."""
        return msgspec.msgpack.decode(data, type=cls)


class QuasiNewton(ABC):
    """Minimises what `vectors` evaluates, from the point that `TRIAL` holds.

    Parameters
    ----------
    vectors : Vectors
    max_iter : int
    tol : float
        Ends when the gradient's norm is at most ``max(tol·|f|, 1e-8)``, or the function has changed by at most ``tol·|f_0|`` over
        the last 20 iterations.
    history : int
        Pairs to keep.
    report : callable, optional
        Called with a `Progress` at the start and after each iteration; it may say why there should be no further one.
    measure : str
        Vector of what the squares of a gradient's elements weigh in its norm, at least 1 each, where `tol` is about that; empty: all 1.
    keep : callable, optional
        Called between two iterations, with the number of those that are done and a function that gives the `SolverStanding`.
    step_size : float
        What gradients are multiplied by, of a solver that looks for no steps.
    """

    #: As users read it.
    title: ClassVar[str]
    #: What must be zero at a minimum, at the accepted point.
    slope: ClassVar[str] = POINT_GRADIENT
    #: Vectors that the solver has besides those of `vector_names`.
    extra: ClassVar[tuple[str, ...]] = ()
    #: Vectors that others have filled before the solver begins; it only reads them.
    given: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        vectors: Vectors,
        max_iter: int,
        tol: float,
        history: int = 10,
        report: Callable[[Progress], str | None] = lambda progress: None,
        keep: Callable[[int, Callable[[], SolverStanding]], None] = lambda iteration, standing: None,
        measure: str = "",
        step_size: float = 1.0,
    ) -> None:
        self.vectors = vectors
        self.max_iter = max_iter
        self.tol = tol
        self.report = report
        self.keep = keep
        self.measure = measure
        self.step_size = step_size
        self.pairs = Pairs(history)
        self.evaluations = 0

    @classmethod
    def vector_names(cls, history: int) -> list[str]:
        """All vectors of a solver with `history` pairs.

        Examples
        --------
        >>> QuasiNewton.vector_names(1)
        ['w', 'p', 'x', 'g', 's0', 'y0']
        """
        return [POINT, POINT_GRADIENT, TRIAL, TRIAL_GRADIENT, *names_of(range(history)), *cls.extra, *cls.given]

    # ---- what a solver is ----------------------------------------------------------------------------------------------

    @abstractmethod
    def _started(self) -> float:
        """Accept the point that `TRIAL` holds; the objective there."""

    @abstractmethod
    def _iterate(self, iteration: int, value: float) -> float:
        """One line search from the point, with its objective; the objective at the point that it found.

        Raises
        ------
        LineSearchError
            There is none; the point is where it was.
        """

    @abstractmethod
    def _gradient_norm(self) -> float:
        """Euclidean norm of what must be zero at a minimum."""

    def _numbers(self) -> list[float]:
        """What `SolverStanding.numbers` keeps."""
        return []

    def _restore(self, numbers: Sequence[float]) -> None:
        """Know what `_numbers` gave."""
        assert not numbers, "it keeps none"

    # ---- the loop ------------------------------------------------------------------------------------------------------

    def minimize(self, begun: SolverStanding | None = None) -> Minimum:
        """Run to the end; `POINT` then holds the best point.

        Parameters
        ----------
        begun : SolverStanding, optional
            Go on from there, with the vectors of that time.
        """
        history = [self._started()] if begun is None else self._restored(begun)
        iteration, value, failed = len(history) - 1, history[-1], False
        stop = self.report(Progress(iteration, value, self._gradient_norm()))
        while (reason := stop or self._converged(iteration, history)) is None:
            if not failed:
                self.keep(iteration, partial(self._standing, history))
            try:
                value = self._iterate(iteration, value)
                failed = False
            except LineSearchError as error:
                if failed:
                    reason = f"the line search failed: {error}"
                    break
                log.info("the line search failed, it starts again from steepest descent: %s", error)
                failed = True
                self.pairs.forget()
                continue
            iteration += 1
            history.append(value)
            stop = self.report(Progress(iteration, value, self._gradient_norm()))
        return Minimum(history, iteration, reason, self.evaluations)

    def _standing(self, history: list[float]) -> SolverStanding:
        return SolverStanding(list(history), self.evaluations, self.pairs.standing(), self._numbers())

    def _restored(self, begun: SolverStanding) -> list[float]:
        """The objective at the start and after each iteration that was done."""
        self.pairs.restore(begun.pairs)
        self.evaluations = begun.evaluations
        self._restore(begun.numbers)
        return list(begun.history)

    def _converged(self, iteration: int, history: list[float]) -> str | None:
        value = history[-1]
        if iteration >= self.max_iter:
            return "maxIter was reached"
        remembered = history[1:][-_VALUE_MEMORY:]
        if len(remembered) == _VALUE_MEMORY and abs(value - max(remembered)) <= self.tol * abs(history[0]):
            return "the objective stands still"
        least = max(self.tol * abs(value), _LEAST_GRADIENT)
        if self._gradient_norm() <= least and (not self.measure or self._measured_norm() <= least):
            return "the gradient is small"
        return None

    def _measured_norm(self) -> float:
        """As `_gradient_norm`, by `measure`; never less, and asked for where that is small alone."""
        (squares,) = self.vectors.run([Gram((self.slope,), (self.slope,), self.measure)])
        return math.sqrt(float(squares[0, 0]))

    def _evaluate(self) -> float:
        self.evaluations += 1
        return self.vectors.evaluate()


def accepted() -> list[Operation]:
    """The trial point becomes the point."""
    return [Combine(POINT, {TRIAL: 1.0}), Combine(POINT_GRADIENT, {TRIAL_GRADIENT: 1.0})]


def new_pair(slot: int) -> list[Operation]:
    """The pair of the trial in `slot`: its step, and the change of gradient."""
    return [
        Combine(f"s{slot}", {TRIAL: 1.0, POINT: -1.0}),
        Combine(f"y{slot}", {TRIAL_GRADIENT: 1.0, POINT_GRADIENT: -1.0}),
    ]


def named(left: Sequence[str], right: Sequence[str], table: NDArray[Any]) -> Dots:
    """The dot products of a `Gram`, by the names of their vectors."""
    return {(a, b): float(table[i, j]) for i, a in enumerate(left) for j, b in enumerate(right)}


__all__ = [
    "POINT",
    "POINT_GRADIENT",
    "TRIAL",
    "TRIAL_GRADIENT",
    "Dots",
    "Minimum",
    "Progress",
    "QuasiNewton",
    "SolverStanding",
    "accepted",
    "named",
    "new_pair",
]
