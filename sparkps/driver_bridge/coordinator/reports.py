"""What nodes and ranks say of themselves, as far as it has the form that the coordinator and the driver read. Pure.

Reports are plain values of any form on the wire. What is not as it should be is left out here, once, so that nobody who reads a report has
to look again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from sparkps.errors import InvalidInput
from sparkps.plain import fit
from sparkps.specs import INFINITE_CLOCK, NUM_BUCKETS

#: Most bytes of what a rank reports, as a message has them: its progress (`messages.control.MAX_PROGRESS_BYTES`) and a few figures.
MAX_COUNTERS_BYTES = 8192

#: Characters of the longest number of a table, a group or a rank, as the key of a map; Python reads none of 5,000 digits.
LONGEST_NUMBER = 20

#: Figures that are read by name, and what they must be.
_COUNTS = frozenset({"rows", "bytes", "clock", "staleness", "waited_seconds"})


def checked_report(report: Mapping[str, Any]) -> dict[str, Any]:
    """A node's report, without what has not the form that `messages.control.Heartbeat` says.

    Examples
    --------
    >>> checked_report({"rows": 3, "bytes": "many", "tables": {"1": {"rows": 2}, "2": 5}, "silent_replicas": [1, "x"], "requests": 9})
    {'rows': 3, 'tables': {'1': {'rows': 2}}, 'silent_replicas': [1], 'requests': 9}
    """
    found: dict[str, Any] = {}
    for name, value in report.items():
        if name in ("tables", "groups", "load"):
            if isinstance(value, dict):
                found[name] = _FORMS[name](value)
        elif name == "silent_replicas":
            found[name] = silent_replicas(report)
        elif name not in _COUNTS:
            found[name] = value if _is_number(value) else fit(value)
        elif _is_number(value):
            found[name] = value
    return found


def silent_replicas(report: Mapping[str, Any]) -> list[int]:
    """Ids of nodes that a node cannot reach, as it says."""
    said = report.get("silent_replicas")
    return [node for node in said if type(node) is int] if isinstance(said, list) else []


def clocks_of(report: Mapping[str, Any]) -> dict[str, int]:
    """By group id as text, the clocks that a node has closed, as it says to `HoldClocks`."""
    said = report.get("clocks")
    pairs = said.items() if isinstance(said, dict) else ()
    return {group: clock for group, clock in pairs if is_number(group) and type(clock) is int and -1 <= clock <= INFINITE_CLOCK}


def is_number(key: Any) -> bool:
    """Whether the key of a map is a number as text, as tables, groups and ranks have it; maps of plain values have keys of any type."""
    return isinstance(key, str) and len(key) <= LONGEST_NUMBER and key.isdecimal()


def part_of(report: Mapping[str, Any]) -> bytes | None:
    """A node's part of a checkpoint, encoded, as it says to `WriteCheckpoint`; None: it has said nothing of it."""
    said = report.get("part")
    return said if isinstance(said, bytes) else None


def check_counters(counters: Mapping[str, Any]) -> None:
    """Refuse what a rank reports of itself, if it is too large or has not the form in which the driver reads it.

    Raises
    ------
    InvalidInput
    """
    nbytes = len(msgspec.msgpack.encode(counters))
    clock, waited = counters.get("clock", 0), counters.get("waited_seconds", 0.0)
    if nbytes > MAX_COUNTERS_BYTES or type(clock) is not int or not -1 <= clock <= INFINITE_CLOCK or not _is_number(waited):
        raise InvalidInput(
            f"What a rank reports must have at most {MAX_COUNTERS_BYTES} bytes, an int as `clock` and a number as `waited_seconds`. Got"
            f" {nbytes} bytes, a clock of type {type(clock).__name__} and a time of type {type(waited).__name__}."
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _figures(value: Mapping[str, Any]) -> dict[str, Any]:
    """Plain figures of one table or rank."""
    named = ((name, each) for name, each in value.items() if isinstance(name, str))
    return {name: each if name in _COUNTS else fit(each) for name, each in named if name not in _COUNTS or _is_number(each)}


def _tables(value: Mapping[Any, Any]) -> dict[str, Any]:
    return {table: _figures(each) for table, each in value.items() if is_number(table) and isinstance(each, dict)}


def _groups(value: Mapping[Any, Any]) -> dict[str, Any]:
    return {group: _tables(each) for group, each in value.items() if is_number(group) and isinstance(each, dict)}


def _load(value: Mapping[str, Any]) -> dict[str, Any]:
    """Buckets, and as many numbers of each measure."""
    buckets = value.get("buckets")
    if not isinstance(buckets, list) or not all(type(each) is int and 0 <= each < NUM_BUCKETS for each in buckets):
        return {}
    measures = {name: each for name in ("bytes", "requests") if isinstance(each := value.get(name), list) and len(each) == len(buckets)}
    return {"buckets": buckets, **{name: each for name, each in measures.items() if all(map(_is_number, each))}}


_FORMS = {"tables": _tables, "groups": _groups, "load": _load}

__all__ = ["MAX_COUNTERS_BYTES", "check_counters", "checked_report", "clocks_of", "is_number", "part_of", "silent_replicas"]
