"""Distributions and links of generalized linear models against scipy's, and against their own derivatives."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from scipy import stats

from sparkps.mllib.linear.distributions import DISTRIBUTIONS, Distribution, Gaussian, Tweedie, tweedie_of
from sparkps.mllib.linear.mean_links import MEAN_LINKS, MeanLink, Power
from sparkps.mllib.linear.special import log_gamma, normal_cdf, normal_density, normal_quantile

ALL = [*DISTRIBUTIONS.values(), Tweedie(1.5), Tweedie(2.7)]
LINKS = [*MEAN_LINKS.values(), Power(-2.0), Power(1.5)]
MEANS = np.array([0.05, 0.3, 0.5, 0.9])
named = pytest.mark.parametrize("found", ALL, ids=lambda each: f"{each.name}{getattr(each, 'power', '')}")


def test_the_normal_distribution_to_the_last_digits() -> None:
    x = np.concatenate([np.linspace(-37, 8, 2001), [-np.inf, np.inf]])
    np.testing.assert_allclose(normal_cdf(x), stats.norm.cdf(x), rtol=1e-12, atol=0)
    np.testing.assert_allclose(normal_density(x), stats.norm.pdf(x), rtol=1e-12)
    p = np.concatenate([10.0 ** -np.arange(1, 300), 1 - 10.0 ** -np.arange(1, 16), np.linspace(0.01, 0.99, 99)])
    np.testing.assert_allclose(normal_quantile(p), stats.norm.ppf(p), rtol=1e-12, atol=1e-15)
    assert normal_quantile([0.0, 1.0]).tolist() == [-np.inf, np.inf]
    assert np.isnan(normal_quantile([-0.1, 1.1, np.nan])).all()
    np.testing.assert_allclose(np.exp(log_gamma([1.0, 4.0, 6.0])), [1.0, 6.0, 120.0])


@pytest.mark.parametrize("link", LINKS, ids=lambda each: f"{each.name}{getattr(each, 'power', '')}")
def test_a_link_has_its_inverse_and_its_slope(link: MeanLink) -> None:
    np.testing.assert_allclose(link.mean(link.predictor(MEANS)), MEANS, rtol=1e-12)
    h = 1e-6
    slope = (link.predictor(MEANS + h) - link.predictor(MEANS - h)) / (2 * h)
    np.testing.assert_allclose(link.slope(MEANS), slope, rtol=1e-6)
    assert pickle.loads(pickle.dumps(link)).name == link.name


@named
def test_the_deviance_is_least_at_the_label_and_falls_off_as_the_variance_says(found: Distribution) -> None:
    y, mean, w, h = np.array([0.2, 0.4, 0.7, 0.8]), MEANS, np.array([1.0, 2.0, 0.5, 3.0]), 1e-6
    np.testing.assert_allclose(found.deviance(y, y, w), 0.0, atol=1e-12)
    slope = (found.deviance(y, mean + h, w) - found.deviance(y, mean - h, w)) / (2 * h)
    np.testing.assert_allclose(slope, -2 * w * (y - mean) / found.variance(mean), rtol=1e-5)


@named
def test_labels_at_the_border_of_their_range(found: Distribution) -> None:
    """They have a start and a deviance where they are allowed."""
    y = np.array([0.0, 1.0])
    y = y[~found.label_rule.wrong(y)]
    start = found.first_mean(y, np.ones(len(y)))
    assert np.isfinite(found.deviance(y, found.project(start), np.ones(len(y)))).all()
    assert found.label_rule.wrong(np.array([np.nan, np.inf])).all()


LOG_DENSITY = {
    "binomial": lambda y, mean, dispersion: stats.binom.logpmf(y, 1, mean),
    "poisson": lambda y, mean, dispersion: stats.poisson.logpmf(y, mean),
    "gamma": lambda y, mean, dispersion: stats.gamma.logpdf(y, 1 / dispersion, scale=mean * dispersion),
    "gaussian": lambda y, mean, dispersion: stats.norm.logpdf(y, mean, np.sqrt(dispersion)),
}


@pytest.mark.parametrize("name", LOG_DENSITY)
def test_aic_is_twice_the_negative_log_likelihood(name: str) -> None:
    found, y, ones = DISTRIBUTIONS[name], np.array([1.0, 0.0, 1.0, 1.0]), np.ones(4)
    y = y + (name == "gamma")
    deviance = float(found.deviance(y, MEANS, ones).sum())
    likelihood = LOG_DENSITY[name](y, MEANS, deviance / 4).sum()
    extra = 0.0 if found.fixed_dispersion else 2.0  # the dispersion is a parameter, too
    assert found.aic(y, MEANS, ones, deviance, 4) + found.aic_of(deviance, 4) == pytest.approx(-2 * likelihood + extra)


@pytest.mark.parametrize("name", ["poisson", "gamma"])
def test_a_row_of_weight_2_has_the_aic_of_two_rows(name: str) -> None:
    found, y, weights = DISTRIBUTIONS[name], np.array([1.0, 2.0, 4.0, 1.0]), np.array([2.0, 1.0, 3.0, 1.0])
    deviance, times = float(found.deviance(y, MEANS, weights).sum()), weights.astype(int)
    apart = found.aic(np.repeat(y, times), np.repeat(MEANS, times), np.ones(7), deviance, 7.0)
    assert found.aic(y, MEANS, weights, deviance, 7.0) == pytest.approx(apart, rel=1e-12)


def test_rows_that_are_all_met_have_no_finite_aic() -> None:
    assert Gaussian().aic_of(0.0, 2) == -math.inf


def test_a_normal_row_of_weight_0_has_no_finite_aic() -> None:
    assert Gaussian().aic(MEANS, MEANS, np.array([1.0, 0.0, 1.0, 1.0]), 1.0, 3.0) == math.inf


def test_tweedie_knows_the_powers_that_have_a_name_and_has_no_aic() -> None:
    assert [tweedie_of(p).name for p in (0.0, 1.0, 1.2, 2.0)] == ["gaussian", "poisson", "tweedie", "gamma"]
    with pytest.raises(NotImplementedError, match="No AIC available"):
        Tweedie(1.2).aic(MEANS, MEANS, MEANS, 1.0, 4)


@pytest.mark.parametrize("power", [1.2, 2.5])
def test_tweedie_s_labels(power: float) -> None:
    assert Tweedie(power).label_rule.wrong(np.array([-1.0, 0.0, 1.0])).tolist() == [True, power > 2, False]
