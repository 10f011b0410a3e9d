"""Whether a fit has learned its rows by heart: what the histories of training and validation say together."""

from __future__ import annotations

import math
from collections.abc import Sequence

#: By how much of its best value a validation metric must have become worse before anything is said.
TOLERANCE = 0.01


def overfitting(
    training: Sequence[float],
    validation: Sequence[float],
    *,
    metric: str = "loss",
    larger_is_better: bool = False,
    iterations: int | None = None,
    tolerance: float = TOLERANCE,
    unit: str = "iteration",
    remedy: str = "Raise `regParam`",
) -> str | None:
    """What to say of a fit whose validation metric became worse while its training objective became better.

    A metric that only wavers is not reported, nor is one that got worse together with the training objective: that is divergence, which
    the objective shows by itself.

    Parameters
    ----------
    training, validation : sequence of float
        Objective, and metric on the rows for validation, after each iteration and maybe at the start. Where one is longer, its first
        elements are those that the other lacks. A metric that is not finite counts as the worst.
    metric : str
        What the metric is called.
    larger_is_better : bool
        Whether it grows as the model gets better, as an AUC does.
    iterations : int, optional
        Number of the iteration that the last elements are of; None: they have one for each iteration, and none for the start.
    tolerance : float
        By how much of its best value it must have become worse.
    unit, remedy : str
        What an iteration is called, and what is done against it.

    Returns
    -------
    str or None
        A sentence for users, or None where there is nothing to say.

    Examples
    --------
    >>> overfitting([0.5, 0.4, 0.3], [0.52, 0.5, 0.6])
    'training overfits from iteration 2 of 3 on: the validation loss was best there, 0.5, and ended at 0.6, while the training objective \
went on to fall. Raise `regParam`, or train for maxIter=2 iterations.'
    >>> overfitting([0.5, 0.4], [0.52, 0.6], iterations=1).partition("fall. ")[2]
    'No iteration has made it better: the model has learned nothing that holds. Raise `regParam`, or learn by smaller steps.'
    >>> overfitting([0.5, 0.4, 0.3], [0.52, 0.5, 0.501]) is None
    True
    """
    count = min(len(training), len(validation))
    if count < 2:
        return None
    objective, values = training[-count:], validation[-count:]
    losses = [_as_loss(value, larger_is_better) for value in values]
    best = min(range(count), key=losses.__getitem__)
    worsened = losses[-1] - losses[best]
    if not worsened > tolerance * abs(losses[best]) or not objective[-1] < objective[best]:
        return None
    last = count if iterations is None else iterations
    found = last - (count - 1 - best)
    advice = (
        f"{remedy}, or train for maxIter={found} {unit}s."
        if found
        else f"No {unit} has made it better: the model has learned nothing that holds. {remedy}, or learn by smaller steps."
    )
    return (
        f"training overfits from {unit} {found} of {last} on: the validation {metric} was best there, {values[best]:.6g}, and ended at"
        f" {values[-1]:.6g}, while the training objective went on to fall. {advice}"
    )


def _as_loss(value: float, larger_is_better: bool) -> float:
    if not math.isfinite(value):
        return math.inf
    return -value if larger_is_better else value


__all__ = ["TOLERANCE", "overfitting"]
