"""Rows and Params of fits that last long enough to be disturbed, and what two fits must have in common to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np

SCHEMA = "label double, features struct<indices: array<bigint>, values: array<double>>"

#: Solver -> parameters of a fit of some dozens of steps.
FITS: dict[str, dict[str, Any]] = {
    "lbfgs": {"maxIter": 12, "tol": 0.0, "regParam": 1e-4, "standardization": False},
    "adam": {"maxIter": 8, "batchSize": 100, "seed": 3, "stepSize": 0.05},
    "online": {"maxIter": 8, "batchSize": 100, "seed": 3, "regParam": 1e-4, "elasticNetParam": 0.5},
    "ftrl": {"maxIter": 8, "batchSize": 100, "seed": 3, "regParam": 1e-4, "elasticNetParam": 0.5},
}


def labelled(count: int = 1000, seed: int = 11, *, plain: bool = False) -> list[tuple[float, tuple[list[int], list[float]]]]:
    """Rows of 5 of 60 features each, on scales that keep L-BFGS busy; `plain`: their values are 1, and easy to learn from."""
    rng = np.random.default_rng(seed)
    weights, scales = rng.normal(size=60), 10.0 ** (np.arange(60) % 5 - 2)
    made = []
    for _ in range(count):
        keys = rng.choice(60, 5, replace=False)
        label = float(rng.random() < 1 / (1 + np.exp(-weights[keys].sum())))
        values = np.ones(5) if plain else rng.normal(size=5) * scales[keys]
        made.append((label, (keys.tolist(), values.tolist())))
    return made


def bits_of(model: Any) -> tuple[str, str, list[str]]:
    """Coefficients, intercept and history of a model, every bit of them."""
    values = model.coefficients.toArray()
    return values.tobytes().hex(), float(model.intercept).hex(), [float(each).hex() for each in model.summary.objectiveHistory]


__all__ = ["FITS", "SCHEMA", "bits_of", "labelled"]
