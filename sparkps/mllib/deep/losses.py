"""What deep models are trained for: a loss of each row, and what the module's outputs mean."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import CodeType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sparkps.errors import InvalidInput, NonFiniteValues
from sparkps.mllib.data.labels import BinaryLabels, ClassLabels, FiniteLabels, LabelRule
from sparkps.mllib.models.classes import class_of
from sparkps.nn.device_memory import copied

Array = NDArray[Any]


class RowLoss(ABC):
    """A loss of each row. Picklable.

    A module's output is a tensor (n,) or (n, outputs); of several tasks (n, tasks).
    """

    #: What labels must be.
    label_rule: LabelRule
    #: Names of metrics, as `mllib.metrics` has them.
    metrics: Sequence[str] = ()
    #: Whether the loss of a row depends on the other rows of its batch: then rows for validation are measured in batches of that size, too.
    within_batch: bool = False

    @abstractmethod
    def of_rows(self, output: Tensor, labels: Tensor) -> Tensor:
        """The loss of each row, (n,): of the module's output, and labels, float32 (n, labels)."""

    def margins(self, output: Tensor) -> Array:
        """What metrics are of, and what is predicted from: float64 (n, outputs)."""
        found: Array = output.detach().double().cpu().numpy()
        return found.reshape(len(found), -1)

    @abstractmethod
    def parts(self, margins: Array, thresholds: Sequence[float] | None) -> Mapping[str, Array]:
        """The parts of what is predicted, as `outputs.struct_of` has them."""

    @property
    def described(self) -> str:
        """What it is, in every process alike."""
        return repr(self)

    @property
    def classes(self) -> int:
        """Number of classes; 0: it is no classifier."""
        return 0

    @property
    def named(self) -> tuple[str, int] | None:
        """What `loss_named` makes it of again: a name, and a number of classes or tasks; None: it must be pickled."""
        return None


def _column(output: Tensor) -> Tensor:
    """(n,) of (n,) or (n, 1)."""
    if output.dim() > 2 or (output.dim() == 2 and output.shape[1] != 1):
        raise InvalidInput(f"A module must give one number a row for this loss. Got an output of shape {tuple(output.shape)}.")
    return output.reshape(-1)


@dataclass(frozen=True)
class LogLoss(RowLoss):
    """Of two classes: the output is the logarithm of the odds of label 1.

    Examples
    --------
    >>> LogLoss().of_rows(torch.zeros(2), torch.tensor([[1.0], [0.0]])).tolist()
    [0.6931471824645996, 0.6931471824645996]
    """

    label_rule = BinaryLabels()
    metrics = ("areaUnderROC", "logLoss")

    def of_rows(self, output: Tensor, labels: Tensor) -> Tensor:
        """See `RowLoss`."""
        return functional.binary_cross_entropy_with_logits(_column(output).float(), labels[:, 0], reduction="none")

    def parts(self, margins: Array, thresholds: Sequence[float] | None) -> Mapping[str, Array]:
        """See `RowLoss`."""
        margin = margins[:, 0]
        with np.errstate(over="ignore"):
            positive = 1.0 / (1.0 + np.exp(-margin))
        raw, probability = np.stack([-margin, margin], axis=1), np.stack([1.0 - positive, positive], axis=1)
        return {"raw": raw, "probability": probability, "prediction": class_of(raw, probability, thresholds)}

    @property
    def classes(self) -> int:
        """Two."""
        return 2

    @property
    def named(self) -> tuple[str, int]:
        """See `RowLoss`."""
        return "log", 2


@dataclass(frozen=True)
class SoftmaxLoss(RowLoss):
    """Of several classes: cross entropy of the softmax of an output for each."""

    num_classes: int

    metrics = ("logLoss", "accuracy")

    @property
    def label_rule(self) -> LabelRule:  # type: ignore[override]
        """Whole numbers from 0."""
        return ClassLabels(self.num_classes)

    def of_rows(self, output: Tensor, labels: Tensor) -> Tensor:
        """See `RowLoss`."""
        if output.dim() != 2 or output.shape[1] != self.num_classes:
            raise InvalidInput(
                f"A module must give {self.num_classes} numbers a row for {self.num_classes} classes. Got an output of shape"
                f" {tuple(output.shape)}."
            )
        return functional.cross_entropy(output.float(), labels[:, 0].long(), reduction="none")

    def parts(self, margins: Array, thresholds: Sequence[float] | None) -> Mapping[str, Array]:
        """See `RowLoss`."""
        shifted = np.exp(margins - margins.max(axis=1, keepdims=True))
        probability = shifted / shifted.sum(axis=1, keepdims=True)
        return {"raw": margins, "probability": probability, "prediction": class_of(margins, probability, thresholds)}

    @property
    def classes(self) -> int:
        """As many as were given."""
        return self.num_classes

    @property
    def named(self) -> tuple[str, int]:
        """See `RowLoss`."""
        return "softmax", self.num_classes


@dataclass(frozen=True)
class SquaredLoss(RowLoss):
    """Half the squared error of a regression."""

    label_rule = FiniteLabels()
    metrics = ("rmse", "mae")

    def of_rows(self, output: Tensor, labels: Tensor) -> Tensor:
        """See `RowLoss`."""
        return 0.5 * (_column(output).float() - labels[:, 0]) ** 2

    def parts(self, margins: Array, thresholds: Sequence[float] | None) -> Mapping[str, Array]:
        """See `RowLoss`."""
        return {"prediction": margins[:, 0]}

    @property
    def named(self) -> tuple[str, int]:
        """See `RowLoss`."""
        return "squared", 1


@dataclass(frozen=True)
class OwnLoss(RowLoss):
    """A function of one's own: ``function(output, labels)`` gives the loss of each row, (n,), or the mean of all.

    `labels` are float32 (n,), or (n, labels) where there are several. The first output is the prediction. Where rows have weights
    (`weighted`) it must be the loss of each row.
    """

    function: Callable[[Any, Tensor], Tensor]
    weighted: bool = False

    label_rule = FiniteLabels()

    def of_rows(self, output: Tensor, labels: Tensor) -> Tensor:
        """See `RowLoss`."""
        found = self.function(output, labels[:, 0] if labels.shape[1] == 1 else labels)
        if not isinstance(found, Tensor):
            raise InvalidInput(f"A loss must give a tensor: one number for each of {len(labels)} rows, or their mean. Got {found!r}.")
        if found.dim() == 0 and self.weighted:
            raise InvalidInput(
                "A loss must give one number for each row where there is a `weightCol`: a mean does not know the weights. Got a single"
                " number; set reduction='none'."
            )
        if found.dim() == 0:
            return found.expand(len(labels))
        if found.shape != (len(labels),):
            got = tuple(found.shape)
            raise InvalidInput(f"A loss must give one number for each of {len(labels)} rows, or their mean. Got shape {got}.")
        return found

    def parts(self, margins: Array, thresholds: Sequence[float] | None) -> Mapping[str, Array]:
        """See `RowLoss`."""
        return {"raw": margins, "prediction": margins[:, 0]}

    @property
    def described(self) -> str:
        """See `RowLoss`: a function by its code."""
        code = getattr(self.function, "__code__", None)
        return f"OwnLoss of {self.function!r}" if code is None else f"OwnLoss of {_code(code)}"


@dataclass(frozen=True)
class TasksLoss(RowLoss):
    """Of several tasks, each with a label column of two classes and an output: the sum of their log losses.

    ``raw`` and ``probability`` have a number for each task, and the prediction is that of the first.
    """

    tasks: int

    label_rule = BinaryLabels()

    def of_rows(self, output: Tensor, labels: Tensor) -> Tensor:
        """See `RowLoss`."""
        if output.shape != labels.shape:
            raise InvalidInput(f"A module must give {self.tasks} numbers a row for {self.tasks} labels. Got shape {tuple(output.shape)}.")
        return functional.binary_cross_entropy_with_logits(output.float(), labels, reduction="none").sum(dim=1)

    def parts(self, margins: Array, thresholds: Sequence[float] | None) -> Mapping[str, Array]:
        """See `RowLoss`."""
        with np.errstate(over="ignore"):
            probability = 1.0 / (1.0 + np.exp(-margins))
        return {"raw": margins, "probability": probability, "prediction": (margins[:, 0] > 0).astype(np.float64)}

    @property
    def named(self) -> tuple[str, int]:
        """See `RowLoss`."""
        return "tasks", self.tasks


@dataclass(frozen=True)
class SampledSoftmaxLoss(RowLoss):
    """Of the softmax over the items of the batch: −log (exp(sᵢᵢ − log qᵢ) / Σⱼ exp(sᵢⱼ − log qⱼ)).

    The output is s, (n, n), of the user of row i and the item of row j, and minus infinity leaves a pair out; the label is log q, of the
    probability that a row has its item. Items that come often are often among the others of a batch: the correction makes up for that
    (Yi et al., Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations, RecSys 2019, section 3).

    Parameters
    ----------
    corrected : bool
        Whether log q is taken off.

    Examples
    --------
    >>> SampledSoftmaxLoss().of_rows(torch.zeros(2, 2), torch.log(torch.tensor([[0.75], [0.25]]))).exp().tolist()
    [4.0, 1.3333332538604736]
    """

    corrected: bool = True

    label_rule = FiniteLabels()
    within_batch = True

    def of_rows(self, output: Tensor, labels: Tensor) -> Tensor:
        """See `RowLoss`."""
        rows = len(labels)
        if output.shape != (rows, rows):
            raise InvalidInput(f"A module must give a score for each pair of {rows} rows for this loss. Got shape {tuple(output.shape)}.")
        scores = output.float() - labels[None, :, 0] if self.corrected else output.float()
        return functional.cross_entropy(scores, torch.arange(rows, device=output.device), reduction="none")

    def parts(self, margins: Array, thresholds: Sequence[float] | None) -> Mapping[str, Array]:
        """See `RowLoss`."""
        return {"raw": margins}

    @property
    def named(self) -> tuple[str, int]:
        """See `RowLoss`."""
        return "sampled softmax", int(self.corrected)


def _code(code: CodeType) -> str:
    """What a function does, without where it lies in memory."""
    parts = [_code(each) if isinstance(each, CodeType) else repr(each) for each in code.co_consts]
    return hashlib.sha256(repr((code.co_code, parts, code.co_names, code.co_varnames)).encode()).hexdigest()[:16]


#: Losses by name, of a number of classes or tasks.
LOSSES: dict[str, Callable[[int], RowLoss]] = {
    "log": lambda count: LogLoss(),
    "softmax": SoftmaxLoss,
    "squared": lambda count: SquaredLoss(),
    "tasks": TasksLoss,
    "sampled softmax": lambda corrected: SampledSoftmaxLoss(bool(corrected)),
}


def loss_named(name: str, count: int) -> RowLoss:
    """The loss that says of itself that it is `named` so.

    Examples
    --------
    >>> loss_named("softmax", 3)
    SoftmaxLoss(num_classes=3)
    """
    return LOSSES[name](count)


def as_tensor(labels: Array, device: torch.device) -> Tensor:
    """Labels float64 (n, labels) as losses take them."""
    return copied(torch.from_numpy(labels.astype(np.float32)), device)


def diverged(got: str, **attributes: Any) -> NonFiniteValues:
    """Training came to numbers that are not finite, as `got` says.

    Examples
    --------
    >>> print(diverged("a loss of nan"))     # doctest: +ELLIPSIS
    Training must stay within finite numbers. Got a loss of nan: set a smaller learning rate, ...
    """
    return NonFiniteValues(
        f"Training must stay within finite numbers. Got {got}: set a smaller learning rate, scale the numbers of the rows, or clip"
        " gradients (`clip_norm` of the optimizers).",
        **attributes,
    )


__all__ = ["LOSSES", "LogLoss", "OwnLoss", "RowLoss", "SoftmaxLoss", "SquaredLoss", "TasksLoss", "as_tensor", "diverged", "loss_named"]
