"""What a node may use of its host's memory, and what a process does use. Pure, but for the files that it reads.

Where no size is set, a node may use::

    SHARE * min(memory of the host, limits of the container) / nodes of the tier on that host

The other half is for whoever else is there: Spark's JVMs and Python workers, the driver, and the system.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

#: The share of the host's or the container's memory that all nodes there may use together, where no size is set.
SHARE = 0.5

#: No limit is known, or none is set.
UNLIMITED = 1 << 62

_PAGE = resource.getpagesize()


def limit_of_node(setting: int, memory: int, nodes: int) -> int:
    """Bytes that a node may use.

    Parameters
    ----------
    setting : int
        `spark.sparkps.nodeMemory`; 0: none was set.
    memory : int
        Bytes of the host or the container.
    nodes : int
        Nodes of the tier that share them.

    Examples
    --------
    >>> limit_of_node(0, 16 << 30, 2) >> 30, limit_of_node(3 << 30, 16 << 30, 2) >> 30
    (4, 3)
    >>> limit_of_node(0, UNLIMITED, 2) == UNLIMITED
    True
    """
    if setting:
        return setting
    return UNLIMITED if memory >= UNLIMITED else int(SHARE * memory) // max(nodes, 1)


def memory_at_hand(root: Path = Path("/")) -> int:
    """Bytes of memory that this process and its like can have: the least of the host's and of every limit of its cgroups.

    Both versions of cgroups are known. `UNLIMITED` where nothing can be read.
    """
    return min([_host(root), *_cgroups(root)])


def _host(root: Path) -> int:
    for line in _lines(root / "proc/meminfo"):
        name, _, value = line.partition(":")
        if name == "MemTotal":
            return int(value.split()[0]) << 10
    return UNLIMITED


def _cgroups(root: Path) -> Iterator[int]:
    """Limits of the process's cgroups, and of all above: the least one holds."""
    top = root / "sys/fs/cgroup"
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield from _upwards(top, path, "memory.max")
            yield from _upwards(top / "unified", path, "memory.max")
        elif "memory" in controllers.split(","):
            yield from _upwards(top / "memory", path, "memory.limit_in_bytes")


def _upwards(top: Path, path: str, name: str) -> Iterator[int]:
    """In a container the path may be the host's, of which only the top is seen: that is the container's then."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for depth in range(len(parts), -1, -1):
        for line in _lines(top.joinpath(*parts[:depth], name)):
            if line.strip().isdigit():  # else it is "max"
                yield min(int(line), UNLIMITED)


def resident_bytes(root: Path = Path("/")) -> int:
    """Bytes of this process that are in memory."""
    for line in _lines(root / "proc/self/statm"):
        return int(line.split()[1]) * _PAGE
    return 0


def _lines(path: Path) -> list[str]:
    with suppress(OSError):
        return path.read_text().splitlines()
    return []
