"""Rows that a process keeps of a table: what is pulled, how many are held, and how old they may be."""

from __future__ import annotations

import numpy as np
import pytest

from sparkps.mllib.data.hot_rows import HotRows, hot_rows_of


class Tier:
    """A table of rows [key, version], which counts what is pulled."""

    def __init__(self) -> None:
        self.pulled: list[int] = []
        self.version = 0.0

    def pull(self, keys: np.ndarray) -> np.ndarray:
        self.pulled += keys.tolist()
        return np.stack([keys, np.full(len(keys), self.version)], axis=1)


def look_up(hot: HotRows, tier: Tier, keys: list[int]) -> list[float]:
    found = hot.look_up(np.array(keys, np.int64), tier.pull)
    assert found[:, 0].tolist() == keys
    return found[:, 1].tolist()


def cache_of(rows: int, **more: object) -> HotRows:
    """Of two generations of so many rows of two values."""
    return HotRows(2, 2 * rows * 96, **more)  # type: ignore[arg-type]


def test_a_row_is_pulled_once() -> None:
    hot, tier = cache_of(10), Tier()
    for keys in ([3, 1], [1, 2], [], [2, 3, 1]):
        look_up(hot, tier, keys)
    assert tier.pulled == [3, 1, 2]


def test_rows_used_again_stay_while_others_come_and_go() -> None:
    hot, tier = cache_of(10), Tier()
    for other in range(100, 200):
        look_up(hot, tier, [7, other])
        assert len(hot) <= 20
    assert tier.pulled.count(7) == 1
    look_up(hot, tier, [100])
    assert tier.pulled.count(100) == 2


def test_a_batch_larger_than_the_cache_is_served_and_does_not_grow_it() -> None:
    hot, tier = cache_of(4), Tier()
    for _ in range(3):
        look_up(hot, tier, list(range(50)))
        assert len(hot) <= 8


@pytest.mark.parametrize(("seconds", "version"), [(5.0, 0.0), (5.1, 1.0)])
def test_no_row_is_older_than_its_age(seconds: float, version: float) -> None:
    now = [0.0]
    hot, tier = cache_of(10, max_age=5.0, clock=lambda: now[0]), Tier()
    look_up(hot, tier, [1, 2])
    tier.version, now[0] = 1.0, seconds
    assert look_up(hot, tier, [1, 2, 3]) == [version, version, 1.0]
    now[0] += 4.9
    tier.version = 2.0
    assert look_up(hot, tier, [3]) == [1.0]


def test_a_row_that_moves_on_is_as_old_as_it_is() -> None:
    now = [0.0]
    hot, tier = cache_of(4, max_age=5.0, clock=lambda: now[0]), Tier()
    for second in range(6):
        now[0] = float(second)
        look_up(hot, tier, [1, 10 + second])
    tier.version, now[0] = 1.0, 5.5
    assert look_up(hot, tier, [1]) == [1.0]


def test_rows_against_a_dictionary() -> None:
    rng = np.random.default_rng(3)
    hot, tier = cache_of(30), Tier()
    for _ in range(200):
        look_up(hot, tier, np.unique(rng.integers(0, 60, 20)).tolist())
        assert len(hot) <= 60
    assert len(tier.pulled) < 200 * 20 / 2


def test_a_process_keeps_rows_of_few_tables() -> None:
    first = hot_rows_of("table 0", 2)
    assert hot_rows_of("table 0", 2) is first
    assert hot_rows_of("table 0", 2, max_age=1.0) is not first
    for number in range(1, 5):
        hot_rows_of(f"table {number}", 2)
    assert hot_rows_of("table 0", 2) is not first
