"""Fits on the same rows: who is fitted with whom, once, and what a failure does."""

from __future__ import annotations

import threading

import pytest

from sparkps.mllib.linear.grids import grid_fits


def test_fits_without_a_key_are_done_alone_and_in_their_turn() -> None:
    done: list[list[int]] = []

    def fit(places: list[int]) -> list[int]:
        done.append(places)
        return places

    models = grid_fits([None, "a", None, "a"], fit)
    assert next(models) == (0, 0)
    assert done == [[0]]
    assert list(models) == [(1, 1), (2, 2), (3, 3)]
    assert done == [[0], [1, 3], [2]]


def test_a_failure_is_that_of_each_fit_of_the_group() -> None:
    calls: list[list[int]] = []

    def fit(places: list[int]) -> list[int]:
        calls.append(places)
        raise ValueError(f"{len(places)} fits")

    models = grid_fits(["a", "a"], fit)
    for _ in range(2):
        with pytest.raises(ValueError, match="2 fits"):
            next(models)
    with pytest.raises(StopIteration):
        next(models)
    assert calls == [[0, 1]]


def test_threads_that_ask_at_once_fit_once() -> None:
    calls, started = [], threading.Barrier(4)

    def fit(places: list[int]) -> list[int]:
        calls.append(places)
        return [10 * place for place in places]

    models, found = grid_fits(["a"] * 4, fit), []

    def ask() -> None:
        started.wait(5)
        found.append(next(models))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(5)
    assert sorted(found) == [(0, 0), (1, 10), (2, 20), (3, 30)]
    assert calls == [[0, 1, 2, 3]]
