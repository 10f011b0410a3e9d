"""One function for each picture: figures of a summary, drawn on axes that somebody else made. None imports matplotlib."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.mllib.metrics import METRICS
from sparkps.mllib.summaries.history import TrainingHistory

Array = NDArray[Any]

#: Of what the picture is about, of what it is compared with, and of what is only there for orientation.
MAIN, OTHER, FAINT = "#1f5fa8", "#d1661f", "#9aa5b1"

#: Most classes whose cells of the confusion matrix carry numbers.
_NUMBERED = 12


def loss(ax: Any, history: TrainingHistory, *, over_seconds: bool = False) -> None:
    """Objective and validation metrics over iterations, or over seconds."""
    count = len(history.objective)
    has_start = count == history.iterations + 1
    steps = np.arange(count) + (0 if has_start else 1)
    across = np.asarray(history.seconds, dtype=float) if over_seconds else steps
    marker = "o" if count <= 30 else ""
    ax.plot(across, history.objective, color=MAIN, marker=marker, markersize=3.5, label="training objective")
    lines, axes = [*ax.get_lines()], ax
    for name, values in {"loss": history.validation, **history.metrics}.items():
        if not values:
            continue
        larger = name in METRICS and METRICS[name].larger_is_better
        if larger and axes is ax:
            axes = ax.twinx()
            axes.set_ylabel(f"validation {name}", color=OTHER)
            axes.grid(False)
        onto = axes if larger else ax
        at = across[-len(values):]
        style = "--" if larger else "-"
        lines += onto.plot(at, values, style, color=OTHER, marker=marker, markersize=3.5, label=f"validation {name}")
        best = int((np.nanargmax if larger else np.nanargmin)(values))
        lines += onto.plot(at[best], values[best], "D", color=OTHER, markersize=6, label=f"best: {values[best]:.4g}")
    ax.set_xlabel("seconds since training began" if over_seconds else "iteration")
    ax.set_ylabel("loss")
    if not over_seconds:
        ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set_title("Loss over seconds" if over_seconds else "Loss over iterations")
    if len(lines) > 1:
        ax.legend(handles=lines, loc="best")


def roc(ax: Any, rates: Array, area: float) -> None:
    """The ROC curve beside that of chance; `rates` are false and true positive ones, (2, points)."""
    false_positives, true_positives = rates
    ax.fill_between(false_positives, true_positives, color=MAIN, alpha=0.12, linewidth=0)
    ax.plot(false_positives, true_positives, color=MAIN, label=f"area {area:.4f}")
    ax.plot([0, 1], [0, 1], color=FAINT, linestyle="--", linewidth=1, label="chance")
    ax.set_xlabel("false positive rate")
    ax.set_ylabel("true positive rate")
    ax.set_title("ROC")
    _unit_square(ax)
    ax.legend(loc="lower right")


def precision_and_recall(ax: Any, curve: Array, positive: float) -> None:
    """Precision over recall, beside that of chance: the share `positive` of rows with label 1; `curve` is recall and precision."""
    recall, precision = curve
    area = float(np.trapezoid(precision, recall))
    ax.plot(recall, precision, color=MAIN, label=f"area {area:.4f}")
    ax.axhline(positive, color=FAINT, linestyle="--", linewidth=1, label=f"chance {positive:.4f}")
    ax.set_xlabel("recall")
    ax.set_ylabel("precision")
    ax.set_title("Precision and recall")
    _unit_square(ax)
    ax.legend(loc="best")


def calibration(ax: Any, bins: Array) -> None:
    """Share of label 1 among rows of about the same probability, with how many rows there are.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
    bins : ndarray of shape (3, n)
        Mean probability, share of label 1, and weight of the rows of each bin.
    """
    predicted, observed, weights = bins
    share = weights / max(float(weights.sum()), np.finfo(float).tiny)
    width = 1.0 / 20
    ax.bar(np.floor(np.minimum(predicted, 1 - 1e-9) / width) * width + width / 2, share, width * 0.9, color=FAINT, alpha=0.35,
           label="share of rows")  # fmt: skip
    ax.plot([0, 1], [0, 1], color=FAINT, linestyle="--", linewidth=1, label="perfect")
    ax.plot(predicted, observed, color=MAIN, marker="o", markersize=4, label="model")
    ax.set_xlabel("predicted probability of label 1")
    ax.set_ylabel("observed share of label 1")
    ax.set_title("Calibration")
    _unit_square(ax)
    ax.legend(loc="upper left")


def confusion(ax: Any, cells: Iterable[Sequence[float]]) -> None:
    """Share of each label's rows by prediction; `cells` are label, prediction and weight."""
    found = [(float(label), float(prediction), float(weight)) for label, prediction, weight in cells]
    names = sorted({each for label, prediction, _ in found for each in (label, prediction)})
    places = {name: i for i, name in enumerate(names)}
    counts = np.zeros((len(names), len(names)))
    for label, prediction, weight in found:
        counts[places[label], places[prediction]] += weight
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    ax.grid(False)
    ax.set_xlabel("predicted label")
    ax.set_ylabel("label")
    ax.set_title("Confusion (share of each label)")
    if len(names) > _NUMBERED:
        return
    ax.set_xticks(range(len(names)), [f"{name:g}" for name in names])
    ax.set_yticks(range(len(names)), [f"{name:g}" for name in names])
    for i, j in np.ndindex(*shares.shape):
        said = f"{shares[i, j]:.1%}\n{counts[i, j]:,.6g}" if len(names) <= 4 else f"{shares[i, j]:.2f}"
        ax.text(j, i, said, ha="center", va="center", color="white" if shares[i, j] > 0.6 else "black")


def _unit_square(ax: Any) -> None:
    ax.set_xlim(-0.01, 1.01)
    ax.set_ylim(-0.01, 1.01)


__all__ = ["FAINT", "MAIN", "OTHER", "calibration", "confusion", "loss", "precision_and_recall", "roc"]
