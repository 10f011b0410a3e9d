"""Tail probabilities, beside scipy's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from sparkps.mllib.summaries.distributions import normal_two_sided, student_t_two_sided

VALUES = np.array([0.0, 1e-3, 0.1, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 40.0, 1e3, 1e200])


@pytest.mark.parametrize("dof", [1, 2, 3.5, 10, 30, 59, 60, 61, 100, 3316, 10**6])
def test_student_t_is_that_of_scipy(dof):
    expected = 2 * stats.t.sf(VALUES, dof)
    np.testing.assert_allclose(student_t_two_sided(VALUES, dof), expected, rtol=1e-9, atol=1e-300)
    np.testing.assert_array_equal(student_t_two_sided(-VALUES, dof), student_t_two_sided(VALUES, dof))


def test_one_degree_of_freedom_is_the_cauchy_distribution():
    for t in (1e-8, 1e-3, 1.0, 7.0):
        assert student_t_two_sided(t, 1)[0] == pytest.approx(1 - 2 / math.pi * math.atan(t), rel=1e-13)


def test_normal_is_that_of_scipy():
    np.testing.assert_allclose(normal_two_sided(-VALUES), 2 * stats.norm.sf(VALUES), rtol=1e-12)


def test_what_has_no_value_is_not_a_number():
    assert np.isnan(student_t_two_sided([math.nan], 4)).all()
    assert np.isnan(student_t_two_sided([1.0, 2.0], 0)).all()
    assert np.isnan(student_t_two_sided([1.0], -3)).all()
    assert student_t_two_sided([math.inf, -math.inf], 4).tolist() == [0.0, 0.0]
