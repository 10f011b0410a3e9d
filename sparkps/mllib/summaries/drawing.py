"""Figures of matplotlib, made without pyplot: nothing global is touched, nothing stays open, and any thread may draw."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from typing import Any

try:
    import matplotlib
    from matplotlib.figure import Figure
except ImportError as error:
    raise ImportError("Plots need matplotlib. Install it, or sparkps with it: pip install 'sparkps[plots]'.") from error

#: Inches of a figure of one picture, and of each picture of an overview.
_ALONE, _OF_MANY = (6.4, 4.4), (4.8, 3.6)

#: How pictures look, whatever the user's own style says of them.
_STYLE: Any = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": "medium",
    "axes.titleweight": "bold",
    "font.size": 10.0,
    "grid.alpha": 0.6,
    "grid.color": "#e2e6ea",
    "legend.edgecolor": "none",
    "legend.framealpha": 0.85,
    "legend.fontsize": "small",
    "lines.linewidth": 1.8,
}


class SummaryFigure(Figure):
    """A figure that notebooks show by themselves, though no backend knows of it."""

    def _repr_png_(self) -> bytes:
        return png(self)


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    made = io.BytesIO()
    figure.savefig(made, format="png", dpi=144)
    return made.getvalue()


def draw(kinds: Mapping[str, Callable[[Any], None]], kind: str | None, ax: Any, path: Any, title: str) -> Any:
    """The figure of one kind, or of all; see `Summary.plot`.

    Parameters
    ----------
    kinds : mapping
        By kind, what draws it on the axes that it is given.
    kind : str or None
    ax : matplotlib.axes.Axes or None
    path : str, path, binary file or None
    title : str
        Of an overview.
    """
    if kind is not None and kind not in kinds:
        raise ValueError(f"`kind` must be one of {', '.join(kinds)}, or None for all of them. Got {kind!r} instead.")
    wanted = list(kinds) if kind is None else [kind]
    if ax is not None and len(wanted) != 1:
        raise ValueError(f"`ax` takes one kind: set `kind` to one of {', '.join(kinds)}.")
    with matplotlib.rc_context(_STYLE):
        if ax is not None:
            kinds[wanted[0]](ax)
            figure = ax.figure
        else:
            figure = _figure(kinds, wanted, title)
        if path is not None:
            figure.savefig(path, dpi=144)
    return figure


def _figure(kinds: Mapping[str, Callable[[Any], None]], wanted: list[str], title: str) -> SummaryFigure:
    columns = min(3, len(wanted))
    lines = math.ceil(len(wanted) / columns) if columns else 1
    size = _ALONE if len(wanted) == 1 else (_OF_MANY[0] * columns, _OF_MANY[1] * lines)
    figure = SummaryFigure(figsize=size, layout="constrained")
    for place, name in enumerate(wanted):
        kinds[name](figure.add_subplot(lines, columns, place + 1))
    if len(wanted) > 1:
        figure.suptitle(title, fontweight="bold")
    return figure


__all__ = ["SummaryFigure", "draw", "png"]
