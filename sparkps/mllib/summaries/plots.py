"""One function for each picture: figures of a summary, drawn on axes that somebody else made. None imports matplotlib."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.mllib.metrics import METRICS
from sparkps.mllib.summaries.history import TrainingHistory

Array = NDArray[Any]

#: Colours of what the picture is about, of what it is compared with, of what has a scale of its own, and of what is for orientation.
MAIN, OTHER, THIRD, FAINT = "#1f5fa8", "#d1661f", "#2b8257", "#9aa5b1"

#: Most classes whose cells of the confusion matrix carry numbers.
_NUMBERED = 12


def loss(ax: Any, history: TrainingHistory, *, over_seconds: bool = False) -> None:
    """Objective and validation metrics over iterations or epochs, or over seconds."""
    count = len(history.objective)
    has_start = count == history.iterations + 1
    steps = np.arange(count) + (0 if has_start else 1)
    across = np.asarray(history.seconds, dtype=float) if over_seconds else steps
    marker = "o" if count <= 30 else ""
    ax.plot(across, history.objective, color=MAIN, marker=marker, markersize=3.5, label="training objective")
    axes = [ax]
    for number, (name, values) in enumerate(_validated(history).items()):
        _validation(axes, across[-len(values) :], name, values, {"marker": marker, "linestyle": "-:"[number == 2]})
    ax.set_xlabel("seconds since training began" if over_seconds else history.unit)
    ax.set_ylabel("loss")
    if not over_seconds:
        ax.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)  # fractions where there are too few integers else
    ax.set_title("Loss over seconds" if over_seconds else f"Loss over {history.unit}s")
    lines = [line for each in axes for line in each.get_lines()]
    if len(lines) > 1:
        axes[-1].legend(handles=lines, loc="center right" if len(axes) > 1 else "best")


def _validated(history: TrainingHistory) -> dict[str, list[float]]:
    """What to draw of rows for validation: metrics that say something, and not what their loss says already."""
    others = {name: values for name, values in history.metrics.items() if not _is_same(values, history.validation)}
    return {name: values for name, values in {"loss": history.validation, **others}.items() if np.isfinite(values).any()}


def _is_same(values: Sequence[float], others: Sequence[float]) -> bool:
    return len(values) == len(others) and np.allclose(values, others, rtol=1e-6, equal_nan=True)


def _validation(axes: list[Any], across: Array, name: str, values: Sequence[float], style: dict[str, str]) -> None:
    """A metric of the rows for validation, with its best value; what is no loss has a unit of its own, and an axis added to `axes`."""
    larger, is_loss = name in METRICS and METRICS[name].larger_is_better, name == "loss"
    if not is_loss and len(axes) == 1:
        axes.append(axes[0].twinx())
        axes[1].set_ylabel(f"validation {name}", color=THIRD)
        axes[1].grid(False)
    elif not is_loss:
        axes[1].set_ylabel(f"{axes[1].get_ylabel()}, {name}")
    onto, color = (axes[0], OTHER) if is_loss else (axes[1], THIRD)
    onto.plot(across, values, color=color, markersize=3.5, label=f"validation {name}", **style)
    best = int((np.nanargmax if larger else np.nanargmin)(values))
    onto.plot(across[best], values[best], "D", color=color, markersize=6, label=f"best: {values[best]:.4g}")


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


def residuals(ax: Any, lowest: float, width: float, weights: Array, error: float) -> None:
    """Histogram of label - prediction: `weights` are those of bins of `width` from `lowest` on, `error` is the root mean squared error."""
    starts = lowest + width * np.arange(len(weights))
    share = weights / max(float(weights.sum()), np.finfo(float).tiny)
    ax.bar(starts, share, width, align="edge", color=MAIN, alpha=0.75, linewidth=0)
    ax.axvline(0.0, color=FAINT, linestyle="--", linewidth=1)
    for sign in (-1, 1):
        ax.axvline(sign * error, color=OTHER, linewidth=1, label=f"± RMSE ({error:.4g})" if sign > 0 else None)
    ax.set_ylim(top=1.2 * max(float(share.max(initial=0.0)), np.finfo(float).tiny))
    ax.set_xlabel("label - prediction")
    ax.set_ylabel("share of rows")
    ax.set_title("Residuals")
    ax.legend(loc="upper right")


def predicted(ax: Any, lowest: float, highest: float, weights: Array) -> None:
    """How many rows have which label and prediction: `weights` are those of the cells of a grid, predictions first."""
    span = (lowest, highest) if highest > lowest else (lowest - 0.5, lowest + 0.5)
    if (weights > 0).any():
        seen = np.where(weights > 0, weights, np.nan)
        image = ax.imshow(seen, origin="lower", extent=(*span, *span), cmap="Blues", aspect="auto", interpolation="nearest", norm="log",
                          vmin=np.nanmin(seen) / 3.0)  # fmt: skip
        ax.figure.colorbar(image, ax=ax, label="weight of rows").outline.set_visible(False)
    ax.plot(span, span, color=OTHER, linewidth=1, linestyle="--", label="perfect")
    ax.set_xlim(span)
    ax.set_ylim(span)
    ax.set_xlabel("label")
    ax.set_ylabel("prediction")
    ax.set_title("Predictions")
    ax.legend(loc="upper left")


def _unit_square(ax: Any) -> None:
    ax.set_xlim(-0.01, 1.01)
    ax.set_ylim(-0.01, 1.01)


__all__ = ["FAINT", "MAIN", "OTHER", "THIRD", "calibration", "confusion", "loss", "precision_and_recall", "predicted", "residuals", "roc"]
