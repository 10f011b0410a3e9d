"""A progress bar at the driver for epochs and loss, fed from what the ranks report."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from sparkps.driver_bridge.spark.console import bar_of

#: Names that the bar itself shows, or that say nothing to a reader.
_OWN = frozenset({"epoch", "epochs", "loss", "clock", "waited_seconds", "rows"})

#: How the bar reads before anybody has reported, while its end is not known, and when it is:
#: ``LogisticRegression: epoch 12/50, loss=0.41 [00:09<00:28, 1.33epoch/s] |██▍       |``.
_STARTING = "{desc}: starting [{elapsed}]"
_OPEN = "{desc}: {unit} {n_fmt}{postfix} [{elapsed}, {rate_fmt}]"
_CLOSED = "{desc}: {unit} {n_fmt}/{total_fmt}{postfix} [{elapsed}<{remaining}, {rate_fmt}] |{bar}|"


def summarize(ranks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One set of figures from those of all ranks.

    Parameters
    ----------
    ranks : sequence of mapping
        Counters of each rank; empty for one that has not reported.

    Returns
    -------
    dict
        ``epoch`` and ``clock``: those of the slowest rank. ``epochs``: the largest. ``loss`` and other numbers: means over
        ranks that have them (``loss`` weighted by ``rows`` where all give it).

    Examples
    --------
    >>> summarize([{"epoch": 2, "epochs": 5, "loss": 0.5, "rows": 1}, {"epoch": 3, "epochs": 5, "loss": 0.1, "rows": 3}])
    {'epoch': 2, 'epochs': 5, 'loss': 0.2}
    """
    figures: dict[str, Any] = {}
    for name, choose in (("epoch", min), ("clock", min), ("epochs", max)):
        given = [rank[name] for rank in ranks if _is_number(rank.get(name)) and math.isfinite(rank[name])]
        if given:
            figures[name] = choose(given)
    losses = [rank for rank in ranks if _is_number(rank.get("loss"))]
    if losses:
        rows = [rank.get("rows", 1) for rank in losses]
        weights = rows if all(_is_number(n) and n > 0 for n in rows) else [1] * len(losses)
        figures["loss"] = sum(rank["loss"] * n for rank, n in zip(losses, weights, strict=True)) / sum(weights)
    for name in sorted({name for rank in ranks for name in rank} - _OWN):
        given = [rank[name] for rank in ranks if _is_number(rank.get(name))]
        if given:
            figures[name] = sum(given) / len(given)
    return figures


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_watched() -> bool:
    """Whether somebody sees a bar: standard error is a terminal, or this is a notebook."""
    return _in_notebook() or (sys.stderr is not None and sys.stderr.isatty())


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return type(shell).__name__ == "ZMQInteractiveShell"


class ProgressBar:
    """A tqdm bar, or nothing. It counts epochs where the ranks report them, else clocks.

    Parameters
    ----------
    description : str
    show : bool or None
        None: where somebody sees it.
    spark : SparkSession, optional
        Its console progress is held back while the bar is drawn: both would write to one line.
    """

    def __init__(self, description: str, show: bool | None = None, spark: Any = None) -> None:
        self._bar: Any = None
        self._spark_bar: Any = None
        if show is None:
            show = is_watched()
        if show:
            self._bar = _tqdm()(
                desc=description, bar_format=_STARTING, leave=True, file=sys.stderr, dynamic_ncols=True, disable=False
            )
            self._spark_bar = None if spark is None else bar_of(spark)

    def update(self, ranks: Sequence[Mapping[str, Any]], lost: int = 0) -> None:
        """Show the figures of all ranks, and how many others the group has gone on without."""
        if self._bar is None:
            return
        if self._spark_bar is not None:
            self._spark_bar.finishAll()
        figures = summarize(ranks)
        self._count(figures)
        shown = {name: f"{figures[name]:.6g}" for name in figures if name not in ("epoch", "epochs", "clock")}
        if lost:
            shown["lost workers"] = str(lost)
        self._bar.set_postfix(shown, refresh=False)
        self._bar.refresh()

    def _count(self, figures: Mapping[str, Any]) -> None:
        """Move on to the epoch, or to the clock as long as nobody has reported an epoch."""
        bar, total = self._bar, figures.get("epochs")
        if "epoch" in figures or total is not None:
            if bar.unit != "epoch":
                bar.unit, bar.n = "epoch", 0  # clocks are no epochs, and there are more of them
            bar.bar_format = _OPEN if total is None else _CLOSED
            if total is not None and total != bar.total:
                self._end_at(total)
            bar.n = max(bar.n, figures.get("epoch", 0))
        elif "clock" in figures and bar.unit != "epoch":
            bar.unit, bar.bar_format = "clock", _OPEN
            bar.n = max(bar.n, figures["clock"])

    def _end_at(self, total: float) -> None:
        """Let the bar end there. Only `reset` tells a notebook's bar; the time and the count so far stay."""
        n, began = self._bar.n, self._bar.start_t
        self._bar.reset(total)
        self._bar.n, self._bar.start_t = n, began

    def close(self, *, well: bool = False) -> None:
        """Leave the last line as it is. Where all went `well` it is whole: a notebook paints a bar red that ends early."""
        if self._bar is not None:
            if well and self._bar.total and self._bar.n < self._bar.total:
                self._end_at(self._bar.n)
            self._bar.close()
            self._bar = None


def _tqdm() -> Any:
    """The notebook's tqdm where it can draw, else the terminal's."""
    import importlib.util

    if _in_notebook() and importlib.util.find_spec("ipywidgets") is not None:
        from tqdm.notebook import tqdm as notebook

        return notebook
    from tqdm import tqdm

    return tqdm


__all__ = ["ProgressBar", "is_watched", "summarize"]
