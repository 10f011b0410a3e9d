"""What the ranks of a training say of their rows: to each other as they start, and to the driver at the end."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.client.tables import DenseTable
from sparkps.errors import CheckpointError, DeadlineExceeded, InvalidInput, NonFiniteValues
from sparkps.mllib.data.rows import Columns
from sparkps.mllib.data.store import Store

Array = NDArray[Any]

log = logging.getLogger(__name__)

#: Columns of the table of ranks, which has a row for each: rows, sum of their weights, length of their vectors (0: unknown), and whether it
#: has said so.
COUNTS = 4

#: Seconds in which all ranks must have said what rows they have.
_HEARING = 600.0


def counts_of(store: Store, weight: float, rank: int, num_workers: int) -> Array:
    """What `rank` adds to the table of ranks: zeros but for its own row, float64 (num_workers, COUNTS)."""
    counts = np.zeros((num_workers, COUNTS))
    counts[rank] = len(store), weight, store.width, 1.0
    return counts


def weight_of(store: Store) -> float:
    """Sum of the weights of all rows."""
    return sum(float(chunk.weights.sum()) if len(chunk.weights) else float(len(chunk)) for chunk in store)


def hear_all(ranks: DenseTable) -> Array:
    """What all ranks say of their rows, once they have: under SSP and ASP no clock waits for it.

    Parameters
    ----------
    ranks : DenseTable
        The table of ranks.

    Raises
    ------
    DeadlineExceeded
        Some have not said it in ten minutes.
    """
    deadline, pause = time.monotonic() + _HEARING, threading.Event()
    while True:
        everyone = np.asarray(ranks.pull())
        silent = np.flatnonzero(everyone[:, 3] == 0)
        if not len(silent):
            return everyone
        if time.monotonic() > deadline:
            raise DeadlineExceeded(
                f"All ranks must say what rows they have before they train with weights, or penalties that ranks share. In {_HEARING:.0f} s"
                f" ranks {', '.join(map(str, silent))} have not."
            )
        pause.wait(0.02)


def check_same_rows(said: Array, store: Store, weight: float, rank: int) -> None:
    """Raise unless a rank that goes on from a checkpoint has the rows that it had then, as far as their figures tell.

    Parameters
    ----------
    said : ndarray of shape (num_workers, COUNTS)
        What the ranks said when the training began, out of the checkpoint.
    store : Store
    weight : float
        Of its rows.
    rank : int

    Raises
    ------
    CheckpointError
        They are others.
    """
    check_same_figures(said[rank, :3], (float(len(store)), weight, float(store.width)), ("rows", "sum of weights", "size of vectors"), rank)


def check_same_figures(said: Array, now: Sequence[float] | Array, names: Sequence[str], rank: int) -> None:
    """Raise `CheckpointError` unless figures of a rank's rows, by their names, are those that it said when the training began."""
    was = [float(each) for each in said]
    if not np.allclose(was, now, rtol=1e-9, atol=0.0):
        told = ", ".join(f"{name} {a:.15g} then and {b:.15g} now" for name, a, b in zip(names, was, now, strict=True) if a != b)
        raise CheckpointError(
            f"The rows of rank {rank} must be those that it had when the checkpoint was taken: {told}. Fit on the same rows, with"
            " deterministic=True or from files, or give another `checkpointDir`.",
            rank=rank,
        )


def common_width(widths: Iterable[float], columns: Columns) -> int:
    """The one length that vectors of all ranks have; 0 where none is known.

    A rank checks its own vectors as it reads them. Whether two ranks agree can be told as soon as both have said their length.

    Parameters
    ----------
    widths : iterable of numbers
        Of each rank; 0: it has no vectors.
    columns : Columns

    Raises
    ------
    InvalidInput
        They differ.
    """
    found = sorted({int(width) for width in widths} - {0})
    if len(found) > 1:
        raise InvalidInput(
            f"Column {columns.features!r}: all vectors must have the same size. Got vectors of sizes {', '.join(map(str, found))}.",
            column=columns.features,
        )
    return sum(found)


@dataclass(frozen=True)
class RankSummary:
    """What a rank returns."""

    #: Rows that it trained on, and rows that it left out.
    rows: int
    skipped: int
    #: One more than the highest index, or the length of its vectors.
    num_features: int
    #: Length of its vectors; 0 where only indices are known.
    width: int
    #: Rows that it set aside to measure on.
    validation_rows: int = 0

    @classmethod
    def of(cls, store: Store) -> RankSummary:
        """Figures of a rank's rows."""
        aside = 0 if store.validation is None else len(store.validation)
        return cls(len(store), store.skipped, store.num_features, store.width, aside)


@dataclass(frozen=True)
class Figures:
    """Of all ranks together."""

    #: Rows trained on, and rows left out.
    rows: int
    skipped: int
    num_features: int
    #: Length that vectors to be scored must have; 0: only indices were known.
    width: int
    #: Rows that were set aside to measure on.
    validation_rows: int = 0

    @classmethod
    def of(cls, ranks: list[RankSummary], columns: Columns) -> Figures:
        """Add the ranks up.

        Raises
        ------
        InvalidInput
            There are no rows, or vectors of different lengths.
        """
        rows, skipped = sum(each.rows for each in ranks), sum(each.skipped for each in ranks)
        aside = sum(each.validation_rows for each in ranks)
        if not rows:
            raise no_rows(skipped, aside)
        if skipped > rows:
            log.warning("handleInvalid='skip' left out %d rows, and %d are trained on: see why with handleInvalid='error'.", skipped, rows)
        if columns.validation and not aside:
            log.warning("Column %r marks no row for validation: nothing was measured on such rows.", columns.validation)
        num_features = columns.num_features or max(each.num_features for each in ranks)
        return cls(rows, skipped, num_features, common_width((each.width for each in ranks), columns), aside)


def no_rows(skipped: int, aside: int = 0) -> InvalidInput:
    """There is nothing to train on."""
    more = f", {aside} are for validation" if aside else ""
    return InvalidInput(
        f"The training data must have at least one row. Got none ({skipped} were left out by handleInvalid{more})."
    )


def check_weight(weight: float, column: str) -> None:
    """Raise unless the weights of all rows together can be divided by.

    Raises
    ------
    InvalidInput
        Their sum is 0, or too large for a float.
    """
    if not 0 < weight < math.inf:
        most = np.finfo(np.float64).max
        raise InvalidInput(
            f"Column {column!r}: the weights of all rows together must be above 0, and at most {most:.1e}. Got {weight:g}.", column=column
        )


def not_finite(got: str) -> NonFiniteValues:
    """Training came to numbers that are too large, as `got` says.

    Examples
    --------
    >>> print(not_finite("Got coefficients of inf."))     # doctest: +ELLIPSIS
    Training must stay within finite numbers, ... `stepSize` where the solver has one. Got coefficients of inf.
    """
    return NonFiniteValues(
        "Training must stay within finite numbers, which for solvers that learn in batches are those of float32, up to 3.4e38. Divide large"
        " features and labels by their size (pyspark.ml.feature has StandardScaler), or set solver='lbfgs' where there is one, or a smaller"
        f" `stepSize` where the solver has one. {got}"
    )


__all__ = [
    "COUNTS", "Figures", "RankSummary", "check_same_figures",
    "check_same_rows", "check_weight", "common_width", "counts_of", "hear_all", "no_rows", "not_finite",
    "weight_of",
]  # fmt: skip
