"""What the driver, the coordinator, the nodes and the clients agree on about a table and a worker group.

Pure values: frozen, picklable, comparable, and carried by the wire as they are.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from sparkps.errors import InvalidInput
from sparkps.initializers import Initializer, Zeros
from sparkps.optim import SGD, Optimizer

#: Number of buckets of every table; never changes, whatever the number of nodes.
NUM_BUCKETS = 256

#: A clock that no rank reaches: the clock of a rank whose function has returned.
INFINITE_CLOCK = (1 << 62) - 1

#: Staleness of ASP.
UNBOUNDED = -1

TABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,127}\Z")


class TableSpec(msgspec.Struct, frozen=True):
    """A table as it was asked for; two are the same table if and only if all fields but `table` and `index` agree."""

    name: str
    kind: Literal["sparse", "dense"]
    #: Values per row; for a dense table 1.
    dim: int
    dtype: Literal["float32", "float64"] = "float32"
    #: Of a dense table only.
    shape: tuple[int, ...] = ()
    init: Initializer = Zeros()
    optimizer: Optimizer = SGD(1.0)
    seed: int = 0
    #: Name of the table group that shares one key index; sparse tables only. Empty: a group of its own.
    group: str = ""
    #: Given by the coordinator: id of the table, > 0, never used twice.
    table: int = 0
    #: Given by the coordinator: id of the shared key index, > 0.
    index: int = 0

    @property
    def size(self) -> int:
        """Number of elements of a dense table."""
        size = 1
        for extent in self.shape:
            size *= extent
        return size


class GroupSpec(msgspec.Struct, frozen=True):
    """A worker group as the coordinator admitted it."""

    group: int
    name: str
    #: Members of the clock: the workers, and the driver-side solver as the last rank if there is one.
    num_ranks: int
    num_workers: int
    #: 0 for BSP, > 0 for SSP, `UNBOUNDED` for ASP.
    staleness: int


def check_table_name(name: str) -> str:
    """`name`, if it is a legal table name."""
    if not isinstance(name, str) or not TABLE_NAME.match(name):
        raise InvalidInput(
            "A table name must start with a letter or '_', hold letters, digits, '_', '.' or '-' only, and be at most 128 characters"
            f" long. Got {name!r} instead.",
            table=str(name),
        )
    return name
