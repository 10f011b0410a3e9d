"""Rows for validation beside mini-batches: measured after each epoch, in two clocks of their own, by all ranks alike.

In the first clock each rank measures the model of all pushes before on its own rows; in the second all ranks read the same sums, decide
whether the training ends, and the first of them keeps the best model so far. Under SSP and ASP a rank knows only of epochs that all have
measured; the last one to do so keeps the model, which others have moved on by then: it is about the best.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.client.tables import DenseTable, pull_together
from sparkps.mllib.data import kernels
from sparkps.mllib.data.store import Chunk, Store
from sparkps.mllib.metrics import MetricSet
from sparkps.mllib.solvers.measured import parts_of
from sparkps.mllib.solvers.names import TableNames
from sparkps.mllib.solvers.objective import Objective, located
from sparkps.mllib.solvers.ranks import weight_of
from sparkps.mllib.solvers.stopping import EarlyStopping

Array = NDArray[Any]

#: Columns of the table of losses, which has a row for each epoch. Of rows trained on: sum of losses, of weights, and seconds until its
#: end; of rows for validation: sum of losses, of weights, ranks that have measured, and whether the model was kept.
LOSSES = 7
_VALIDATION, _KEPT = slice(3, 6), 6

#: Clocks after the steps of an epoch.
CLOCKS = 2


class Deciding(ABC):
    """One rank's part in when training ends: by what all ranks have measured, and the first of them keeps the best model.

    Parameters
    ----------
    worker : Worker
    losses : DenseTable
        Of `LOSSES` columns.
    stopping : tuple
        Arguments of `EarlyStopping`.
    together : bool
        Whether all ranks see the same at the same clock: BSP.
    """

    def __init__(self, worker: Any, losses: DenseTable, stopping: tuple[int, float], *, together: bool) -> None:
        self._worker, self._losses, self._stopping, self._together = worker, losses, stopping, together

    @abstractmethod
    def _keep(self) -> None:
        """The model as it is becomes the best one."""

    def _known(self) -> Array:
        """The table of losses as all ranks see it at this clock."""
        found: Array = self._losses.pull()
        return found

    def _tell(self, epoch: int, loss: float, weight: float) -> None:
        """This rank has measured its rows: the sum of their losses, and of their weights."""
        losses = np.zeros(self._losses.shape)
        losses[epoch, _VALIDATION] = loss, weight, 1.0
        self._losses.add(losses)

    def decide(self, epoch: int) -> bool:
        """Whether training ends after `epoch`; the first rank keeps the model if it is the best."""
        known, stopping, reason = self._known(), EarlyStopping(*self._stopping), None
        for loss in history(known, self._worker.num_workers)[: epoch + 1]:
            _, reason = stopping.tell(loss)
            if reason is not None:
                break
        # Under SSP and ASP whoever measures last sees the epoch whole.
        is_mine = self._worker.rank == 0 if self._together else not known[epoch, _KEPT]
        if stopping.best == epoch and is_mine:
            self._keep()
            kept = np.zeros(self._losses.shape)
            kept[epoch, _KEPT] = 1.0
            self._losses.add(kept)
        return reason is not None


class Measuring(Deciding):
    """One rank's part.

    Parameters
    ----------
    worker : Worker
    store : Store
        Its rows, with those for validation.
    names : TableNames
    objective : Objective
        Not `located` yet.
    stopping : tuple
        Arguments of `EarlyStopping`.
    metrics : MetricSet
        What else is measured, of `metrics_of`.
    together : bool
        Whether all ranks see the same at the same clock: BSP.
    """

    def __init__(
        self, worker: Any, store: Store, names: TableNames, objective: Objective, stopping: tuple[int, float], metrics: MetricSet, *,
        together: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(worker, worker.table(names.losses), stopping, together=together)
        self._store, self._best = store, worker.table(names.best)
        self._open(names)
        self._metrics, self._measures = metrics, worker.table(names.measures) if metrics.size else None
        aside = store.validation
        ids = [np.unique(chunk.ids) for chunk in aside] if aside is not None else []
        #: Numbers of the keys that rows for validation have.
        self._held = np.unique(np.concatenate([np.empty(0, np.int32), *ids]))
        fields = store.fields[self._held] if len(store.fields) else store.fields
        self._objective = located(objective, store.keys[self._held], fields)

    def _open(self, names: TableNames) -> None:
        """The tables of the model that is trained, and of the intercepts of the best."""
        self._model, self._bias, self._best_bias = (
            self._worker.table(name) for name in (names.coefficients, names.intercept, names.best_intercept)
        )

    def _pulled(self) -> tuple[Array, Array]:
        """Coefficients of the features that rows for validation have, (held, dim), and intercepts with further parameters."""
        weights, bias = pull_together(self._worker.session, [(self._model, self._store.keys[self._held]), self._bias])
        return weights, bias

    def _keep(self) -> None:
        """The model as it is becomes the best one."""
        self._best.call("copy", source=self._model)
        self._best_bias.call("copy", source=self._bias)

    def _rows(self) -> Iterator[Chunk]:
        """The rows for validation, whose ids are positions in `_held`: what a rank's other features have is not asked for."""
        places = np.empty(len(self._store.keys), np.int32)
        for chunk in self._store.validation or ():
            local = np.empty(len(chunk.ids), np.int32)
            kernels.local_ids(chunk.ids, self._held, places, local)
            yield replace(chunk, ids=local)

    def measure(self, epoch: int, *, fit_intercept: bool) -> None:
        """Add what the model, as it is at this clock, loses on the rank's rows."""
        aside = self._store.validation
        found = 0.0
        if aside is not None and len(aside):
            weights, bias = self._pulled()
            state = np.zeros((len(self._held), 2, self._objective.dim))
            state[:, 0] = weights
            start = np.asarray(bias, np.float64) if fit_intercept else np.zeros(len(bias))
            found, _ = self._objective.loss_and_gradient(self._rows(), state, start)
            if self._measures is not None:
                parts = parts_of(self._metrics, self._objective, self._rows(), np.ascontiguousarray(state[:, 0]), start)
                self._measures.add(np.array([epoch]), parts[None, :])
        self._tell(epoch, found, 0.0 if aside is None else weight_of(aside))


def history(losses: Array, num_workers: int) -> list[float]:
    """Mean validation loss of each epoch, as far as all ranks have measured; empty where there are no such rows.

    Examples
    --------
    >>> losses = np.zeros((3, LOSSES)); losses[:2, 3:6] = [[6.0, 4.0, 2.0], [1.0, 2.0, 1.0]]
    >>> history(losses, num_workers=2)
    [1.5]
    """
    sums, weights, ranks = losses[:, _VALIDATION].T
    whole = int(np.argmin(np.append(ranks == num_workers, False)))
    return [float(total / weight) for total, weight in zip(sums[:whole], weights[:whole], strict=True) if weight]


def outcome(losses: Array, num_workers: int, stopping: EarlyStopping) -> tuple[list[float], str, bool]:
    """What the measures of all epochs come to.

    Parameters
    ----------
    losses : ndarray of shape (epochs, LOSSES)
    num_workers : int
    stopping : EarlyStopping
        Nothing was told it yet.

    Returns
    -------
    aside : list of float
        Mean loss of the rows for validation after each epoch.
    reason : str
        Why training ended.
    keeps : bool
        Whether the model is the one that was kept, and not the last.
    """
    aside, reason = history(losses, num_workers), None
    for loss in aside:
        _, reason = stopping.tell(loss)
    found = kept(losses)
    return aside, reason or "maxIter was reached", bool(len(found) and found[-1] == stopping.best != len(aside) - 1)


def kept(losses: Array) -> Array:
    """Epochs whose model was kept, ascending."""
    return np.flatnonzero(losses[:, _KEPT])


__all__ = ["CLOCKS", "LOSSES", "Deciding", "Measuring", "history", "kept", "outcome"]
