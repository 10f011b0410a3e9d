"""First factors of factorization machines."""

from __future__ import annotations

import numpy as np
import pytest

from sparkps.mllib.fm import initial
from sparkps.mllib.fm.initial import first_factors
from tests.naive_mllib import JavaRandom


@pytest.mark.parametrize("seed", [0, 11, -7, (1 << 62) + 5])
def test_factors_are_the_sequence_of_java_util_random_one_feature_after_the_other(seed: int) -> None:
    draw = JavaRandom(seed)
    expected = np.array([[draw.normal() * 0.1 for _ in range(3)] for _ in range(50)])
    keys = np.random.default_rng(1).permutation(50)
    np.testing.assert_allclose(first_factors(keys, 50, 3, 0.1, seed), expected[keys], rtol=1e-15)


def test_keys_outside_the_features_get_no_factors() -> None:
    assert not first_factors(np.array([-1, 7]), 7, 2, 0.1, 3).any()


@pytest.mark.parametrize("features", [0, 1 << 40])
def test_factors_of_a_large_model_depend_on_their_key_and_the_seed_alone(features: int) -> None:
    keys = np.array([5, 1 << 39, 17])
    found = first_factors(keys, features, 4, 0.5, 3)
    assert np.array_equal(first_factors(keys[::-1].copy(), features, 4, 0.5, 3), found[::-1])
    assert not np.array_equal(first_factors(keys, features, 4, 0.5, 4), found)


def test_factors_drawn_by_key_have_the_standard_deviation_asked_for() -> None:
    found = first_factors(np.arange(20_000), initial.MOST_DRAWS + 1, 2, 0.3, 9)
    assert found.std() == pytest.approx(0.3, rel=0.02)
    assert abs(found.mean()) < 0.005
