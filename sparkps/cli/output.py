"""How the command ``sparkps`` shows what it has found. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def columns(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Rows under their heads, as wide as need be; numbers stand at the right.

    Examples
    --------
    >>> print(columns(("TABLE", "ROWS"), [("ann/w", 12), ("bob/v", 3)]))
    TABLE  ROWS
    ann/w    12
    bob/v     3
    """
    words = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(heads), *words]) for i in range(len(heads))]
    numbers = [all(isinstance(row[i], int) for row in rows) for i in range(len(heads))]

    def line(cells: Sequence[str]) -> str:
        aligned = [cell.rjust(width) if right else cell.ljust(width) for cell, width, right in zip(cells, widths, numbers, strict=True)]
        return "  ".join(aligned).rstrip()

    return "\n".join([line(heads), *[line(cells) for cells in words]])


def numbered(number: int, what: str) -> str:
    """So many of something.

    Examples
    --------
    >>> numbered(1, "node"), numbered(1200, "row")
    ('1 node', '1,200 rows')
    """
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def size(nbytes: int) -> str:
    """Bytes as one reads them.

    Examples
    --------
    >>> size(0), size(900), size(65536), size(5 << 30)
    ('0 B', '900 B', '64.0 KiB', '5.0 GiB')
    """
    if nbytes < 1024:
        return f"{nbytes} B"
    number, units = nbytes / 1024, ["KiB", "MiB", "GiB", "TiB", "PiB"]
    while number >= 1024 and len(units) > 1:
        number /= 1024
        units.pop(0)
    return f"{number:.1f} {units[0]}"


def ago(seconds: float) -> str:
    """How long something is past, in one unit.

    Examples
    --------
    >>> ago(0.4), ago(59.0), ago(3600.0), ago(200_000.0)
    ('now', '59 s ago', '60 min ago', '2 d ago')
    """
    if seconds < 2:
        return "now"
    for limit, unit, name in ((120.0, 1.0, "s"), (7200.0, 60.0, "min"), (172_800.0, 3600.0, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name} ago"
    return f"{seconds / 86_400.0:.0f} d ago"


def shape_of(table: dict[str, Any]) -> str:
    """What a row, or a dense table, is made of.

    Examples
    --------
    >>> shape_of({"kind": "sparse", "dim": 8, "shape": []}), shape_of({"kind": "dense", "dim": 1, "shape": [2, 3]})
    ('dim 8', '2 x 3')
    """
    return f"dim {table['dim']}" if table["kind"] == "sparse" else " x ".join(map(str, table["shape"]))


__all__ = ["ago", "columns", "numbered", "shape_of", "size"]
