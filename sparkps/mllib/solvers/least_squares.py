"""Weighted least squares out of second moments, with the standardization, penalties and fallbacks of pyspark.ml's solver "normal".

All happens in scaled coordinates: features and label divided by their (population) standard deviations σ_j and σ_y. In them the
objective is

    ½ (1 - 2 wᵀ·c + wᵀ·A·w) + λ (α ‖w‖₁ + ½ (1 - α) ‖w‖²)    with λ = regParam / σ_y,

A the Gram matrix and c the products with the label, both of centred features where there is an intercept. Where features are not to
be standardized the penalty of w_j is divided by σ_j (L1) or σ_j² (L2); where the label is not, L2 is multiplied by σ_y.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.errors import InvalidInput
from sparkps.mllib.solvers.coordinates import descended
from sparkps.mllib.solvers.lbfgs import Lbfgs
from sparkps.mllib.solvers.local_vectors import LocalVectors
from sparkps.mllib.solvers.moments import Moments
from sparkps.mllib.solvers.objective import UNVARYING
from sparkps.mllib.solvers.quasi_newton import POINT

Array = NDArray[Any]

log = logging.getLogger(__name__)

#: A variance below this fraction of the mean square is rounding: the feature, or the label, is constant.
_CONSTANT = 1e-14

#: A pivot below this fraction of the largest is rounding: the Gram matrix is singular.
_SINGULAR = 1e-13


@dataclass(frozen=True)
class LeastSquares:
    """What is asked for, besides the moments."""

    fit_intercept: bool = True
    reg_param: float = 0.0
    elastic_net: float = 0.0
    standardize_features: bool = True
    standardize_label: bool = True
    #: Of the iterative solver, for singular matrices.
    max_iter: int = 100
    tol: float = 1e-6
    #: Whether the diagonal of the inverse is wanted, which costs more than the solution.
    with_inverse: bool = True


@dataclass(frozen=True)
class LeastSquaresFit:
    """A solution in raw features."""

    #: float64 (p,).
    coefficients: Array
    intercept: float
    #: float64 (p,), or (p + 1,) with the intercept's last: the diagonal of (XᵀWX)⁻¹, penalty included. Empty where it is not known.
    inverse_diagonal: Array = field(default_factory=lambda: np.empty(0))
    #: Objective at the start and after each iteration of the iterative solver; [0] where there were none.
    history: tuple[float, ...] = (0.0,)
    #: How it was found, in words.
    reason: str = "the normal equations are solved"


@dataclass(frozen=True)
class _Scaled:
    """The problem in scaled coordinates; features that are constant have zeros."""

    #: float64 (p,): 1 / σ_j, 0 for a constant feature.
    inverse: Array
    label_deviation: float
    #: float64 (p, p), (p,) and (p,): Gram matrix, products with the label, means; not centred.
    gram: Array
    products: Array
    mean: Array
    label_mean: float
    label_square: float
    #: float64 (p,): penalties by coefficient.
    l1: Array
    l2: Array


def weighted_least_squares(moments: Moments, asked: LeastSquares) -> LeastSquaresFit:
    """Solve the normal equations; by coordinate descent where there is L1, and by L-BFGS where they are singular.

    Parameters
    ----------
    moments : Moments
    asked : LeastSquares

    Raises
    ------
    InvalidInput
        The label is constant, there is no intercept, and the penalty is to be on the standardized label.

    Examples
    --------
    >>> x, y = np.array([[0.0], [1.0], [2.0]]), np.array([1.0, 3.0, 5.0])
    >>> found = weighted_least_squares(Moments.of_rows(x, y), LeastSquares())
    >>> found.coefficients.round(9).tolist(), round(found.intercept, 9)
    ([2.0], 1.0)
    """
    deviation = _deviation(moments.label_square, moments.label_mean)
    if deviation == 0.0:
        if asked.fit_intercept or moments.label_mean == 0.0:
            log.info("labels are equal as far as sums of their squares tell: the coefficients are 0, and the intercept is their mean")
            return LeastSquaresFit(np.zeros(len(moments.mean)), moments.label_mean, reason=UNVARYING)
        if asked.reg_param > 0 and asked.standardize_label:
            raise InvalidInput(
                "`regParam` must be 0 where all labels are equal and there is no intercept: labels that do not vary cannot be"
                f" standardized. Got {asked.reg_param!r}; set fitIntercept=True or regParam=0.",
                param="regParam",
            )
    problem = _scaled(moments, asked, deviation or abs(moments.label_mean))
    return _solved(moments, asked, problem)


def _deviation(square: float, mean: float) -> float:
    """Of the label: 0 where it is constant but for rounding."""
    variance = square - mean * mean
    return float(np.sqrt(variance)) if variance > _CONSTANT * square else 0.0


def _scaled(moments: Moments, asked: LeastSquares, unit: float) -> _Scaled:
    squares = np.diagonal(moments.products)
    variances = squares - moments.mean**2
    varies = variances > _CONSTANT * squares
    inverse = np.divide(1.0, np.sqrt(np.maximum(variances, 0.0)), out=np.zeros(len(squares)), where=varies)
    weight = asked.reg_param / unit
    l1 = np.full(len(inverse), asked.elastic_net * weight)
    l2 = np.full(len(inverse), (1.0 - asked.elastic_net) * weight)
    if not asked.standardize_features:
        l1, l2 = l1 * inverse, l2 * inverse**2
    if not asked.standardize_label:
        l2 = l2 * unit
    return _Scaled(
        inverse, unit, moments.products * np.outer(inverse, inverse), moments.label_products * inverse / unit,
        moments.mean * inverse, moments.label_mean / unit, moments.label_square / unit**2, l1, l2,
    )  # fmt: skip


def _solved(moments: Moments, asked: LeastSquares, problem: _Scaled) -> LeastSquaresFit:
    gram, products = problem.gram + np.diag(problem.l2), problem.products
    square = problem.label_square
    if asked.fit_intercept:
        gram = gram - np.outer(problem.mean, problem.mean)
        products = products - problem.mean * problem.label_mean
        square -= problem.label_mean**2
    diagonal = np.empty(0)
    history: tuple[float, ...] = (0.0,)
    if problem.l1.any():
        found, reason = descended(gram, products, square, problem.l1), "coordinate descent has converged"
        w, history = found
    elif _is_definite(gram):
        w, reason = np.linalg.solve(gram, products), "the normal equations are solved"
        if asked.with_inverse:
            diagonal = _diagonal(np.linalg.inv(gram), moments, asked, problem)
    else:
        log.warning("the Gram matrix is singular: the normal equations are solved by iterations")
        w, history, reason = _iterated(gram, products, square, asked)
    coefficients = w * problem.inverse * problem.label_deviation
    intercept = moments.label_mean - float(coefficients @ moments.mean) if asked.fit_intercept else 0.0
    return LeastSquaresFit(coefficients, intercept, diagonal, history, reason)


def _is_definite(gram: Array) -> bool:
    """Whether a symmetric matrix is positive definite, as far as floats tell."""
    if not len(gram):
        return True
    try:
        pivots = np.diagonal(np.linalg.cholesky(gram)) ** 2
    except np.linalg.LinAlgError:
        return False
    return bool(pivots.min() > _SINGULAR * pivots.max())


def _diagonal(inverse: Array, moments: Moments, asked: LeastSquares, problem: _Scaled) -> Array:
    """Of the inverse of XᵀWX for raw features; infinite for a feature that is constant, which only its penalty holds."""
    varies = problem.inverse > 0
    diagonal: Array = np.diagonal(inverse) * np.where(varies, problem.inverse, np.inf) ** 2 / moments.weight
    if not asked.fit_intercept:
        return diagonal
    # The inverse of [[A + m·mᵀ, m], [mᵀ, 1]] has the inverse of A, and 1 + mᵀ·A⁻¹·m in its corner.
    corner = (1.0 + float(problem.mean @ inverse @ problem.mean)) / moments.weight
    return np.append(diagonal, corner)


def _iterated(gram: Array, products: Array, square: float, asked: LeastSquares) -> tuple[Array, tuple[float, ...], str]:
    """L-BFGS from 0, as in pyspark.ml: of all solutions of a singular problem it finds the shortest."""

    def objective(w: Array) -> tuple[float, Array]:
        image = gram @ w
        return 0.5 * square - float(products @ w) + 0.5 * float(w @ image), image - products

    vectors = LocalVectors(objective, np.zeros(len(products)))
    found = Lbfgs(vectors, asked.max_iter, asked.tol).minimize()
    return vectors.held[POINT], tuple(found.history), found.reason


__all__ = ["LeastSquares", "LeastSquaresFit", "weighted_least_squares"]
