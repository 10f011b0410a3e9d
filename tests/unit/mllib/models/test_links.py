"""What margins mean: each link against its formula, and at the ends."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import special, stats

from sparkps.errors import InvalidInput
from sparkps.mllib.models.classes import class_of
from sparkps.mllib.models.links import LINKS, PROBABILITIES, link_named, softmax

FORMULAS = {
    "": lambda m: m,
    "identity": lambda m: m,
    "log": np.exp,
    "inverse": lambda m: 1 / m,
    "logit": special.expit,
    "sigmoid": special.expit,
    "probit": stats.norm.cdf,
    "cloglog": lambda m: 1 - np.exp(-np.exp(m)),
    "sqrt": lambda m: m**2,
}


def test_every_link_of_one_margin_has_a_formula_here() -> None:
    assert set(LINKS) == {*FORMULAS, "mixture", "softmax"}
    assert set(LINKS) > PROBABILITIES


@pytest.mark.parametrize("name", FORMULAS)
def test_means_are_those_of_the_formula(name: str) -> None:
    margins = np.linspace(-4.0, 4.0, 40)
    np.testing.assert_allclose(LINKS[name](margins), FORMULAS[name](margins), rtol=1e-12)
    np.testing.assert_allclose(LINKS[name](margins[:, None]), FORMULAS[name](margins)[:, None], rtol=1e-12)


@pytest.mark.parametrize("name", FORMULAS)
def test_margins_of_any_size_give_means_without_a_warning(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = LINKS[name](np.array([-1e308, -800.0, 0.0, 800.0]))
    assert not np.isnan(found).any()


def test_softmax_is_that_of_scipy_and_knows_infinity() -> None:
    margins = np.random.default_rng(1).normal(size=(20, 5)) * 100
    np.testing.assert_allclose(softmax(margins), special.softmax(margins, axis=1), rtol=1e-12)
    assert softmax(np.array([[1.0, np.inf, 2.0], [0.0, 0.0, -np.inf]])).tolist() == [[0.0, 1.0, 0.0], [0.5, 0.5, 0.0]]
    assert softmax(np.empty((0, 3))).shape == (0, 3)


def test_the_first_of_equal_classes_is_predicted() -> None:
    raw = np.array([[1.0, 1.0], [0.0, 2.0]])
    assert class_of(raw, raw).tolist() == [0.0, 1.0]
    assert class_of(raw, raw, [0.5, 0.5]).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("exponent", [-1.0, 0.5, 1.7])
def test_powers_are_links_by_their_exponent(exponent: float) -> None:
    means = np.array([0.5, 1.0, 4.0])
    np.testing.assert_allclose(link_named(f"power({exponent!r})")(means**exponent), means)


@pytest.mark.parametrize("name", ["nothing", "power", "power()", "power(0)", "power(0.0)"])
def test_a_link_that_is_none_names_those_there_are(name: str) -> None:
    with pytest.raises(InvalidInput, match="A link must be one of cloglog, identity"):
        link_named(name)
