"""Names of the tables through which driver and workers of one training talk."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TableNames:
    """Names of the tables of one training, by what they hold. Picklable."""

    #: Of this training alone; also the name of its table group.
    prefix: str
    #: Of the tables of a model that goes on learning after it; empty: they are its own, too.
    lasting: str = ""

    def vector(self, name: str) -> str:
        """A vector of the solver."""
        return f"{self.prefix}.{name}"

    @property
    def scaled_mean(self) -> str:
        """Mean / standard deviation of each feature."""
        return f"{self.prefix}.m"

    @property
    def statistics(self) -> str:
        """Per feature: sum, weight of entries, holders."""
        return f"{self.prefix}.statistics"

    @property
    def squares(self) -> str:
        """Per feature: sum of the squares of its entries less the mean."""
        return f"{self.prefix}.squares"

    @property
    def coefficients(self) -> str:
        """The model: a row of coefficients a feature."""
        return f"{self.lasting or self.prefix}.coefficients"

    def coefficients_of(self, number: int) -> str:
        """The model of one job of a grid; of the first it is `coefficients`."""
        return f"{self.coefficients}.{number}" if number else self.coefficients

    @property
    def ranks(self) -> str:
        """What each rank has read, see `ranks.COUNTS`."""
        return f"{self.prefix}.ranks"

    @property
    def facts(self) -> str:
        """Sums over all rows, see `scaling.FACTS`."""
        return f"{self.prefix}.facts"

    @property
    def totals(self) -> str:
        """Of the running evaluation: objective, derivatives by the intercepts, and of rows for validation sums of losses and weights."""
        return f"{self.prefix}.totals"

    @property
    def measures(self) -> str:
        """Of rows for validation, sums of the metrics besides their loss: of the running evaluation, or a row for each epoch."""
        return f"{self.prefix}.measures"

    @property
    def control(self) -> str:
        """`EVALUATE` or `STOP`, of which job, and the part of each margin that all rows share."""
        return f"{self.prefix}.control"

    @property
    def intercept(self) -> str:
        """The intercepts, of a mini-batch training."""
        return f"{self.lasting or self.prefix}.intercept"

    @property
    def best(self) -> str:
        """The model of a mini-batch training that was the best on rows for validation."""
        return f"{self.prefix}.best"

    @property
    def best_intercept(self) -> str:
        """Its intercepts."""
        return f"{self.prefix}.best_intercept"

    @property
    def learned(self) -> str:
        """What row-by-row learners merge: coefficient, sum of squared gradients and factor a feature."""
        return f"{self.prefix}.learned"

    @property
    def magnitudes(self) -> str:
        """See `feature_scales.COLUMNS`."""
        return f"{self.prefix}.magnitudes"

    @property
    def losses(self) -> str:
        """Of each epoch, see `measuring.LOSSES`."""
        return f"{self.prefix}.losses"


__all__ = ["TableNames"]
