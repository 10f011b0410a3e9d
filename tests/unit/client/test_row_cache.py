"""`RowCache`: rows that are new enough, of the right key, in bounded memory; beside a dict."""

from __future__ import annotations

import numpy as np
import pytest

from sparkps.client.row_cache import RowCache

DIM = 3


def drawn_rows(rng: np.random.Generator, count: int) -> np.ndarray:
    """Rows that are all different."""
    return rng.normal(size=(count, DIM)).astype(np.float32)


@pytest.mark.parametrize("max_bytes", [0, 27, 28, 2_000, 1 << 20])
@pytest.mark.parametrize("seed", range(3))
def test_it_gives_what_was_kept_last_and_nothing_too_old(seed: int, max_bytes: int) -> None:
    rng, cache, known = np.random.default_rng(seed), RowCache(DIM, max_bytes), dict[int, tuple[int, np.ndarray]]()
    asked = given = lost = 0
    for clock in range(60):
        keys = rng.permutation(np.arange(-200, 200))[: rng.integers(0, 120)]
        oldest = clock - int(rng.integers(0, 6))
        rows, missing = cache.look_up(keys, oldest)
        assert rows.shape == (len(keys), DIM)
        there = np.setdiff1d(np.arange(len(keys)), missing)
        for place in there:
            at, row = known[int(keys[place])]
            assert at >= oldest, "a row is new enough"
            assert np.array_equal(rows[place], row), "a row is that of its key, and the last one that was kept"
        lost += sum(known.get(int(key), (-99,))[0] >= oldest for key in keys[missing])
        rows[:] = np.nan  # a copy
        fresh = drawn_rows(rng, len(missing))
        cache.keep(keys[missing], fresh, clock)
        known.update({int(key): (clock, row) for key, row in zip(keys[missing], fresh, strict=True)})
        asked, given = asked + len(keys), given + len(there)
    assert (cache.asked, cache.found) == (asked, given)
    assert cache._slots.nbytes <= max_bytes
    assert (given > 0) == (max_bytes > 27)
    assert lost < 0.02 * given or max_bytes < 1 << 20, "where there is room few keys share a place"


def test_rows_that_are_kept_are_copied() -> None:
    cache, keys, rows = RowCache(DIM), np.array([5]), np.ones((1, DIM), np.float32)
    cache.keep(keys, rows, 0)
    rows[:] = 2.0
    assert cache.look_up(keys, 0)[0].tolist() == [[1.0] * DIM]
