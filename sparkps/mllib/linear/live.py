"""A model that serves while it learns: what it predicts is what its tables say at that moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sparkps.client.tables import DenseTable
from sparkps.mllib.coefficients import Coefficients, TableCoefficients, brought_here
from sparkps.mllib.data.features import Features
from sparkps.mllib.linear.classifiers import ProbabilisticModel
from sparkps.mllib.linear.scoring import BinaryScorer, LinearScorer
from sparkps.mllib.models.persistence import ModelWriter
from sparkps.mllib.models.scoring import margins

Array = NDArray[Any]


class LiveCoefficients(TableCoefficients):
    """Coefficients and intercepts on the tier that others go on changing: every look-up pulls.

    Parameters
    ----------
    table : SparseTable
    bias : DenseTable
        The intercepts.
    """

    def __init__(self, table: Any, bias: DenseTable) -> None:
        super().__init__(table, owned=False, max_age=0)
        self.bias = bias

    def __reduce__(self) -> tuple[Any, ...]:
        return LiveCoefficients, (self.table, self.bias)

    def intercepts(self) -> Array:
        """As they are now, float64 (outputs,)."""
        return np.asarray(self.bias.pull(), np.float64)


@dataclass(frozen=True)
class LiveBinaryScorer(BinaryScorer):
    """As `BinaryScorer`, with the intercept that is on the tier when a batch is scored."""

    intercepts: Any = field(kw_only=True, default=())

    def parts(self, coefficients: Coefficients, features: Features, offsets: Any) -> Mapping[str, Array]:
        """See `Scorer`."""
        assert isinstance(coefficients, LiveCoefficients), "of a model that learns"
        return self.of_margins(margins(features, coefficients, coefficients.intercepts().tolist()) + offsets)


class LiveModel(ProbabilisticModel):
    """A fitted linear classifier of two classes, or one that a learner still changes: it predicts by what was learned
    when it is asked.
    """

    @property
    def _live(self) -> LiveCoefficients | None:
        """Where the coefficients are while they are learned; None: they are final."""
        return self.coefficients_ if isinstance(self.coefficients_, LiveCoefficients) else None

    @property
    def _intercepts(self) -> list[float]:
        live = self._live
        return super()._intercepts if live is None else [float(each) for each in live.intercepts()]

    @property
    def _is_multinomial(self) -> bool:
        return False

    def _scorer(self, held: Any, **of: Any) -> LinearScorer:
        if self._live is None:
            return super()._scorer(held, **of)
        return LiveBinaryScorer(held, link=self.link_, threshold=self.getThreshold(), **of)

    def snapshot(self) -> Self:
        """The model as it is now, which learns no further; its coefficients come to the driver."""
        live = self._live
        if live is None:
            return self
        facts = {**self.facts_, "intercepts": self._intercepts}
        found = type(self)(brought_here(live.table), facts)
        found._resetUid(self.uid)
        made: Self = self._copyValues(found)
        return made

    def write(self) -> ModelWriter:
        """The writer of the model as it is now."""
        return ModelWriter(self.snapshot())

    @property
    def coefficients(self) -> Any:
        """Coefficients as a vector of Spark, as they are now; see `ProbabilisticModel.coefficients`."""
        return super().coefficients if self._live is None else self.snapshot().coefficients


__all__ = ["LiveBinaryScorer", "LiveCoefficients", "LiveModel"]
