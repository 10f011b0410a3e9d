"""Several fits on the same rows, which are read once where the fits allow it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

from pyspark.ml.base import _FitMultipleIterator


def grid_fits(keys: Sequence[Hashable], fit: Callable[[list[int]], list[Any]]) -> Iterator[tuple[int, Any]]:
    """Models by index, for `Estimator.fitMultiple`; any thread may ask for the next.

    Fits with the same key are done together, by whoever asks for one of them first. Where that fails, it fails for each of them.

    Parameters
    ----------
    keys : sequence
        One for each fit; None: alone.
    fit : callable
        Gives the models of some fits, by their places.

    Examples
    --------
    >>> def fit(places): print("fits", places); return [10 * place for place in places]
    >>> list(grid_fits(["a", "b", "a"], fit))
    fits [0, 2]
    fits [1]
    [(0, 0), (1, 10), (2, 20)]
    """
    groups: dict[Any, list[int]] = {}
    for place, key in enumerate(keys):
        groups.setdefault(("alone", place) if key is None else ("together", key), []).append(place)
    shared = [_Group(places, fit) for places in groups.values()]
    of = {place: group for group in shared for place in group.places}
    return _FitMultipleIterator(lambda place: of[place].model(place), len(keys))


class _Group:
    """Fits that are done together.

    Parameters
    ----------
    places : list of int
    fit : callable
    """

    def __init__(self, places: list[int], fit: Callable[[list[int]], list[Any]]) -> None:
        self.places = places
        self._fit = fit
        self._lock = threading.Lock()
        #: Models by place, or why there are none; made under `_lock`, each given away once.
        self._models: dict[int, Any] | None = None
        self._error: Exception | None = None

    def model(self, place: int) -> Any:
        """The model of one fit."""
        with self._lock:
            if self._error is not None:
                raise self._error
            if self._models is None:
                try:
                    self._models = dict(zip(self.places, self._fit(self.places), strict=True))
                except Exception as error:
                    self._error = error
                    raise
            return self._models.pop(place)


__all__ = ["grid_fits"]
