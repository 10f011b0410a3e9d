"""Params of regressions, as pyspark.ml has them."""

from __future__ import annotations

from typing import Any, Self

from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import HasLoss


class HasRegressionLoss(HasLoss):
    """Which loss a linear regression minimises."""

    loss: Param[str] = Param(
        Params._dummy(),
        "loss",
        "The loss function to be optimized. Supported options: squaredError, huber.",
        typeConverter=TypeConverters.toString,
    )
    epsilon: Param[float] = Param(
        Params._dummy(),
        "epsilon",
        "The shape parameter to control the amount of robustness. Must be > 1.0. Only valid when loss is huber",
        typeConverter=TypeConverters.toFloat,
    )

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._setDefault(loss="squaredError", epsilon=1.35)

    def setLoss(self, value: str) -> Self:
        """Sets the value of `loss`."""
        return self._set(loss=value)

    def setEpsilon(self, value: float) -> Self:
        """Sets the value of `epsilon`."""
        return self._set(epsilon=value)

    def getEpsilon(self) -> float:
        """Gets the value of `epsilon`."""
        return self.getOrDefault(self.epsilon)


class HasDistribution(Params):
    """How labels of a generalized linear model vary about their mean, and how the mean depends on the margin."""

    family: Param[str] = Param(
        Params._dummy(),
        "family",
        "The name of family which is a description of the error distribution to be used in the model. Supported options: gaussian"
        " (default), binomial, poisson, gamma and tweedie.",
        typeConverter=TypeConverters.toString,
    )
    link: Param[str] = Param(
        Params._dummy(),
        "link",
        "The name of link function which provides the relationship between the linear predictor and the mean of the distribution"
        " function. Supported options: identity, log, inverse, logit, probit, cloglog and sqrt.",
        typeConverter=TypeConverters.toString,
    )
    variancePower: Param[float] = Param(
        Params._dummy(),
        "variancePower",
        "The power in the variance function of the Tweedie distribution which characterizes the relationship between the variance and"
        " mean of the distribution. Only applicable for the Tweedie family. Supported values: 0 and [1, Inf).",
        typeConverter=TypeConverters.toFloat,
    )
    linkPower: Param[float] = Param(
        Params._dummy(),
        "linkPower",
        "The index in the power link function. Only applicable to the Tweedie family.",
        typeConverter=TypeConverters.toFloat,
    )
    linkPredictionCol: Param[str] = Param(
        Params._dummy(), "linkPredictionCol", "link prediction (linear predictor) column name", typeConverter=TypeConverters.toString
    )

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._setDefault(family="gaussian", variancePower=0.0)

    def setFamily(self, value: str) -> Self:
        """Sets the value of `family`."""
        return self._set(family=value)

    def getFamily(self) -> str:
        """Gets the value of `family`."""
        return self.getOrDefault(self.family)

    def setLink(self, value: str) -> Self:
        """Sets the value of `link`."""
        return self._set(link=value)

    def getLink(self) -> str:
        """Gets the value of `link`."""
        return self.getOrDefault(self.link)

    def setVariancePower(self, value: float) -> Self:
        """Sets the value of `variancePower`."""
        return self._set(variancePower=value)

    def getVariancePower(self) -> float:
        """Gets the value of `variancePower`."""
        return self.getOrDefault(self.variancePower)

    def setLinkPower(self, value: float) -> Self:
        """Sets the value of `linkPower`."""
        return self._set(linkPower=value)

    def getLinkPower(self) -> float:
        """Gets the value of `linkPower`."""
        return self.getOrDefault(self.linkPower)

    def setLinkPredictionCol(self, value: str) -> Self:
        """Sets the value of `linkPredictionCol`."""
        return self._set(linkPredictionCol=value)

    def getLinkPredictionCol(self) -> str:
        """Gets the value of `linkPredictionCol`."""
        return self.getOrDefault(self.linkPredictionCol)


__all__ = ["HasDistribution", "HasRegressionLoss"]
