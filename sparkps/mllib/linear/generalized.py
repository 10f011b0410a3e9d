"""Generalized linear models: their Params, and what a fitted one predicts."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.mllib.errors import InvalidParam
from sparkps.mllib.linear.distributions import DISTRIBUTIONS, tweedie_of
from sparkps.mllib.linear.likelihood import HalfDeviance
from sparkps.mllib.linear.mean_links import MEAN_LINKS, Power
from sparkps.mllib.linear.model import LinearModel
from sparkps.mllib.linear.scoring import LinearScorer
from sparkps.mllib.models.links import POWER
from sparkps.mllib.params.regression import HasDistribution
from sparkps.mllib.params.shared import LinearParams

log = logging.getLogger(__name__)


class GeneralizedParams(LinearParams, HasDistribution):
    """Params of a generalized linear model, and of its estimator."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._setDefault(maxIter=25, solver="irls")

    def _likelihood(self) -> HalfDeviance:
        """What the Params `family`, `link`, `variancePower` and `linkPower` come to."""
        family = self.getFamily().lower()
        if family == "tweedie":
            power = self.getVariancePower()
            link_power = self.getLinkPower() if self.isDefined(self.linkPower) else 1.0 - power
            return HalfDeviance(tweedie_of(power), Power(link_power))
        distribution = DISTRIBUTIONS[family]
        link = self.getLink().lower() if self.isDefined(self.link) else distribution.links[0]
        return HalfDeviance(distribution, MEAN_LINKS[link])

    def _check_distribution(self) -> None:
        """Raise unless the Params go together.

        Raises
        ------
        InvalidParam
        """
        family = self.getFamily().lower()
        _check(self, "family", self.getFamily(), family in (*DISTRIBUTIONS, "tweedie"), f"one of {', '.join(DISTRIBUTIONS)}, tweedie")
        power = self.getVariancePower()
        _check(self, "variancePower", power, power == 0 or power >= 1, "0, or a float >= 1")
        if self.isDefined(self.link):
            _check(self, "link", self.getLink(), self.getLink().lower() in MEAN_LINKS, f"one of {', '.join(MEAN_LINKS)}")
        if family == "tweedie":
            if self.isDefined(self.link):
                log.warning("`link` is not used where `family` is tweedie: its link is of the power `linkPower`")
            return
        if self.isSet(self.variancePower) or self.isSet(self.linkPower):
            log.warning("`variancePower` and `linkPower` are used only where `family` is tweedie")
        if self.isDefined(self.link):
            links = DISTRIBUTIONS[family].links
            _check(self, "link", self.getLink(), self.getLink().lower() in links, f"one of {', '.join(links)} for the family {family}")
        _check(self, "elasticNetParam", self.getElasticNetParam(), self.getElasticNetParam() == 0, "0")


def _check(params: Any, name: str, value: Any, holds: bool, must: str) -> None:
    if not holds:
        raise InvalidParam(f"The `{name}` of {type(params).__name__} must be {must}. Got {value!r} instead.", param=name)


@dataclass(frozen=True)
class LikelihoodScorer(LinearScorer):
    """``prediction``: the mean label, in the range of its distribution; ``link``: the margin.

    Parameters
    ----------
    likelihood : HalfDeviance
    """

    likelihood: HalfDeviance = field(kw_only=True)

    def of_margins(self, margin: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
        """See `LinearScorer`."""
        return {"prediction": np.asarray(self.likelihood.mean(margin[:, 0])), "link": margin[:, 0]}


class MeanModel(LinearModel, GeneralizedParams):
    """A fitted generalized linear model."""

    _parts = {"predictionCol": "prediction", "linkPredictionCol": "link"}
    _dense = True

    def __repr__(self) -> str:
        kind = f"family={self.getFamily()}, link={self._likelihood().mean_link.name}"
        return f"{type(self).__name__}: uid={self.uid}, {kind}, numFeatures={self.numFeatures}"

    @property
    def link_(self) -> str:
        """See `FittedModel.link_`."""
        link = self._likelihood().mean_link
        return f"{POWER}{link.power!r})" if isinstance(link, Power) and link.name not in MEAN_LINKS else link.name

    def _scorer(self, held: Any, **of: Any) -> LinearScorer:
        return LikelihoodScorer(held, intercepts=self._intercepts, likelihood=self._likelihood(), **of)


__all__ = ["GeneralizedParams", "LikelihoodScorer", "MeanModel"]
