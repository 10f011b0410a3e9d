"""A solver's vectors at the driver, for problems of a few thousand variables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.mllib.solvers.lbfgs import Lbfgs
from sparkps.mllib.solvers.operations import Combine, Gram, Operation
from sparkps.mllib.solvers.quasi_newton import TRIAL, TRIAL_GRADIENT

Array = NDArray[Any]


class LocalVectors:
    """`Vectors` of `Lbfgs` as numpy arrays, with a function that gives value and gradient.

    Parameters
    ----------
    function : callable
        Of a point, float64 (n,): its value and gradient.
    start : ndarray of shape (n,)
    history : int
        Pairs that the solver keeps.

    Examples
    --------
    >>> from sparkps.mllib.solvers.quasi_newton import POINT
    >>> vectors = LocalVectors(lambda w: (float((w - 3) @ (w - 3)), 2 * (w - 3)), np.zeros(2))
    >>> Lbfgs(vectors, 10, 1e-9).minimize().reason
    'the gradient is small'
    >>> vectors.held[POINT].round(6).tolist()
    [3.0, 3.0]
    """

    def __init__(self, function: Callable[[Array], tuple[float, Array]], start: Array, history: int = 10) -> None:
        self._function = function
        #: By name.
        self.held: dict[str, Array] = {name: np.zeros(len(start)) for name in Lbfgs.vector_names(history)}
        self.held[TRIAL] = np.array(start, np.float64)

    def evaluate(self) -> float:
        """See `Vectors`."""
        value, self.held[TRIAL_GRADIENT] = self._function(self.held[TRIAL])
        return value

    def run(self, operations: Sequence[Operation]) -> list[Array]:
        """See `Vectors`."""
        found = []
        for operation in operations:
            if isinstance(operation, Combine):
                terms = [weight * self.held[name] for name, weight in operation.terms.items()]
                self.held[operation.target] = np.sum(terms, axis=0)
            elif isinstance(operation, Gram):
                left, right = ([self.held[name] for name in names] for names in (operation.left, operation.right))
                weights = self.held[operation.weights] if operation.weights else 1.0
                found.append(np.array([[(a * weights) @ b for b in right] for a in left]))
        return found


__all__ = ["LocalVectors"]
