"""What graphs give of a module's outputs: as `RowLoss.parts`, on tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sparkps.mllib.deep.losses import LogLoss, OwnLoss, RowLoss, SoftmaxLoss, SquaredLoss, TasksLoss

Thresholds = Sequence[float] | None
Parts = dict[str, Tensor]


def _class_of(raw: Tensor, probability: Tensor, thresholds: Thresholds) -> Tensor:
    """As `models.classes.class_of`."""
    if thresholds is None:
        return raw.argmax(1).float()
    scaled = probability / torch.tensor([list(thresholds)])
    return torch.where(torch.isnan(scaled), -torch.inf, scaled).argmax(1).float()


def _log(loss: RowLoss, margins: Tensor, thresholds: Thresholds) -> Parts:
    margin = margins[:, :1]
    raw, probability = torch.cat([-margin, margin], 1), torch.cat([torch.sigmoid(-margin), torch.sigmoid(margin)], 1)
    return {"raw": raw, "probability": probability, "prediction": _class_of(raw, probability, thresholds)}


def _softmax(loss: RowLoss, margins: Tensor, thresholds: Thresholds) -> Parts:
    probability = torch.softmax(margins, 1)
    return {"raw": margins, "probability": probability, "prediction": _class_of(margins, probability, thresholds)}


def _tasks(loss: RowLoss, margins: Tensor, thresholds: Thresholds) -> Parts:
    return {"raw": margins, "probability": torch.sigmoid(margins), "prediction": (margins[:, 0] > 0).float()}


def _own(loss: RowLoss, margins: Tensor, thresholds: Thresholds) -> Parts:
    return {"raw": margins, "prediction": margins[:, 0]}


_MAKES: dict[type[RowLoss], Callable[[RowLoss, Tensor, Thresholds], Parts]] = {
    LogLoss: _log,
    SoftmaxLoss: _softmax,
    SquaredLoss: lambda loss, margins, thresholds: {"prediction": margins[:, 0]},
    TasksLoss: _tasks,
    OwnLoss: _own,
}


def graph_parts(loss: RowLoss, margins: Tensor, thresholds: Thresholds = None) -> Parts:
    """The parts of what is predicted, float32.

    Parameters
    ----------
    loss : RowLoss
        Of one that sparkps does not know there is ``raw`` alone.
    margins : Tensor of shape (n, outputs), float32
    thresholds : sequence of float, optional

    Examples
    --------
    >>> {name: part.tolist() for name, part in graph_parts(SquaredLoss(), torch.tensor([[2.0]])).items()}
    {'prediction': [2.0]}
    """
    make = next((make for kind, make in _MAKES.items() if type(loss) is kind), None)
    return {"raw": margins} if make is None else make(loss, margins, thresholds)


__all__ = ["graph_parts"]
