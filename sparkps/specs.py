"""What the driver, the coordinator, the nodes and the clients agree on about a table and a worker group.

Pure values: frozen, picklable, comparable, and carried by the wire as they are.
"""

from __future__ import annotations

import re
import sys
from typing import Any, Literal

import msgspec

from sparkps.errors import InvalidInput
from sparkps.initializers import Initializer, Zeros
from sparkps.optim import SGD, Consensus, Optimizer
from sparkps.plain import LONGEST_NAME, cut, shown, text_of

#: Number of buckets of every table; never changes, whatever the number of nodes.
NUM_BUCKETS = 256

#: A clock that no rank reaches: the clock of a rank whose function has returned.
INFINITE_CLOCK = (1 << 62) - 1

#: Staleness of ASP.
UNBOUNDED = -1

TABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,127}\Z")
#: The same, with the owner before it that the table has on a tier of several (see `namespaces`).
FULL_TABLE_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_.\-]{0,63}/)?[A-Za-z_][A-Za-z0-9_.\-]{0,127}\Z")

#: Largest number of values of a row, of elements of a dense table, and of its extents.
LARGEST_DIM, LARGEST_SIZE, MOST_EXTENTS = 1 << 20, 1 << 40, 32

#: Most members of a worker group. A node keeps a clock for each of them in each of its buckets.
MAX_RANKS = 1 << 14

#: Staleness of SSP stays below this.
STALENESS_LIMIT = 1 << 31

#: Most characters of a worker group's name, and of the tag of a request for one.
LONGEST_GROUP_NAME = 256

#: Ids, epochs and seeds fit into 64 bits with a sign.
_LARGEST_INT = (1 << 63) - 1
#: By dtype, its largest number.
_LARGEST_FLOAT = {
    "float32": 3.4028234663852886e38, "float64": sys.float_info.max, "float16": 65504.0, "bfloat16": 3.3895313892515355e38
}  # fmt: skip
#: numpy has no bfloat16: its words.
_HELD_AS = {"bfloat16": "uint16"}
_BYTES = {"float32": 4, "float64": 8, "float16": 2, "uint16": 2}


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
    #: How the rows of a sparse table of float32 lie on the nodes; its optimizer's state, and what is computed, stay float32. Empty: as
    #: the dtype says.
    storage: Literal["", "float16", "bfloat16"] = ""

    @property
    def stored(self) -> str:
        """How rows lie on the nodes: "float32", "float64", "float16" or "bfloat16"."""
        return self.storage or self.dtype

    def plane_dtypes(self, planes: int) -> tuple[str, ...]:
        """Names of the numpy dtypes of rows on the nodes, and of the planes of the optimizer's state behind them.

        Examples
        --------
        >>> TableSpec("w", "sparse", 8, storage="bfloat16").plane_dtypes(2)
        ('uint16', 'float32')
        """
        return (_HELD_AS.get(self.stored, self.stored), *[self.dtype] * (planes - 1))

    def bytes_of_key(self, planes: int) -> int:
        """Bytes on a node of a row with its optimizer's state, of a dense table of an element.

        Examples
        --------
        >>> TableSpec("w", "sparse", 16, storage="float16").bytes_of_key(1), TableSpec("w", "sparse", 16).bytes_of_key(2)
        (32, 128)
        """
        return self.dim * sum(_BYTES[dtype] for dtype in self.plane_dtypes(planes))

    @property
    def size(self) -> int:
        """Number of elements of a dense table."""
        size = 1
        for extent in self.shape:
            size *= extent
        return size


class RankStart(msgspec.Struct, frozen=True, array_like=True):
    """Where a rank goes on, in a group that continues an earlier one."""

    #: Its last ticked clock; -1 for none.
    clock: int
    finished: bool = False
    #: What it stored with that tick.
    state: bytes | None = None


class GroupSpec(msgspec.Struct, frozen=True):
    """A worker group as the coordinator admitted it."""

    group: int
    name: str
    #: Members of the clock: the workers, and the driver-side solver as the last rank if there is one.
    num_ranks: int
    num_workers: int
    #: 0 for BSP, > 0 for SSP, `UNBOUNDED` for ASP.
    staleness: int
    #: Of each rank, where it goes on; empty: all begin at the beginning.
    start: tuple[RankStart, ...] = ()


def check_table_name(name: Any) -> str:
    """`name`, if it is a legal table name."""
    if not isinstance(name, str) or not FULL_TABLE_NAME.match(name):
        raise InvalidInput(
            "A table name must start with a letter or '_', hold letters, digits, '_', '.' or '-' only, and be at most 128 characters"
            f" long; an owner of at most 64 such characters and a '/' may stand before it. Got {shown(name)} instead.",
            table=text_of(name, LONGEST_NAME),
        )
    return name


def check_spec(spec: TableSpec) -> TableSpec:
    """`spec`, if it is one that a table can have; before anything is made of it.

    Raises
    ------
    InvalidInput
        Names the field, what must hold and what was got.
    """
    check_table_name(spec.name)
    if spec.group:
        check_table_name(spec.group)
    if spec.kind == "sparse":
        _require(spec, 1 <= spec.dim <= LARGEST_DIM, "dim", f"an int in [1, {LARGEST_DIM}]")
        _require(spec, not spec.shape, "shape", "empty for a sparse table")
    else:
        _require(spec, spec.dim == 1, "dim", "1 for a dense table")
        _require(spec, not spec.group, "group", "empty for a dense table: it has no keys to share")
        _check_shape(spec)
    if spec.storage:
        plain = spec.kind == "sparse" and spec.dtype == "float32" and not isinstance(spec.optimizer, Consensus)
        _require(spec, plain, "storage", "that of its dtype where it is not a sparse table of float32, or has the optimizer Consensus")
    if isinstance(spec.optimizer, Consensus):
        _require(spec, spec.kind == "sparse", "kind", "sparse for the optimizer Consensus")
        if spec.optimizer.shared:
            _require(spec, spec.dim >= 3, "dim", "3 or more for the optimizer Consensus whose coefficients share a sum of squares")
        else:
            _require(spec, spec.dim % 3 == 0, "dim", "a multiple of 3 for the optimizer Consensus")
    _require(spec, -_LARGEST_INT - 1 <= spec.seed <= _LARGEST_INT, "seed", "an int of 64 bits with a sign")
    for field in ("table", "index"):
        _require(spec, 0 <= getattr(spec, field) <= _LARGEST_INT, field, "0 or an id that the coordinator gave")
    _check_law(spec)
    return spec


def _check_shape(spec: TableSpec) -> None:
    _require(spec, 1 <= len(spec.shape) <= MOST_EXTENTS, "shape", f"1 to {MOST_EXTENTS} extents")
    _require(spec, all(1 <= extent <= LARGEST_SIZE for extent in spec.shape), "shape", "of extents of at least 1")
    _require(spec, spec.size <= LARGEST_SIZE, "shape", f"at most {LARGEST_SIZE} elements in all")


def _check_law(spec: TableSpec) -> None:
    """First values must be numbers of the table's dtype, not infinities."""
    first, last = (spec.shape[0], spec.shape[-1]) if spec.shape else (spec.dim, spec.dim)
    _, a, b = spec.init.law(first, last)
    largest = _LARGEST_FLOAT[spec.stored]
    finite = abs(a) <= largest and abs(b) <= largest and abs(b - a) <= largest
    _require(spec, finite, "init", f"a law of values that {spec.stored} can hold")


def _require(spec: TableSpec, holds: bool, field: str, must: str) -> None:
    if not holds:
        got = shown(getattr(spec, field))
        raise InvalidInput(
            f"The `{field}` of table {spec.name!r} must be {must}. Got {got} instead.", table=spec.name, field=field
        )


def check_group_spec(spec: GroupSpec) -> GroupSpec:
    """`spec`, if it is one that a worker group can have; before anything is made of it.

    Raises
    ------
    InvalidInput
        Names what must hold, what was got and what to set.
    """
    check_group(spec.name, spec.num_workers, spec.num_ranks, spec.staleness)
    check_start(spec.name, spec.num_ranks, spec.start)
    if not 1 <= spec.group <= _LARGEST_INT:
        raise InvalidInput(f"The id of worker group {spec.name!r} must be at least 1. Got {spec.group} instead.")
    return spec


def check_start(name: str, num_ranks: int, start: tuple[RankStart, ...]) -> None:
    """Refuses a beginning that is not that of a group's ranks with `InvalidInput`."""
    if start and (len(start) != num_ranks or not all(-1 <= rank.clock < INFINITE_CLOCK for rank in start)):
        raise InvalidInput(
            f"Worker group {name!r} must go on with a clock >= -1 of each of its {num_ranks} ranks. Got {len(start)} of"
            f" {[rank.clock for rank in start[:8]]} instead.",
            group=name,
        )


def check_group(name: str, num_workers: int, num_ranks: int, staleness: int) -> None:
    """Refuses a worker group of an impossible name, size or staleness with `InvalidInput`."""
    if not name or len(name) > LONGEST_GROUP_NAME or cut(name) != name:
        raise InvalidInput(
            f"The name of a worker group must be 1 to {LONGEST_GROUP_NAME} characters of text. Got {shown(name)} instead."
        )
    if num_workers < 1 or not num_workers <= num_ranks <= num_workers + 1:
        raise InvalidInput(
            f"Worker group {name!r} must have at least 1 worker and at most 1 rank more than workers."
            f" Got {num_workers} workers and {num_ranks} ranks instead.",
            group=name,
        )
    if num_ranks > MAX_RANKS:
        raise InvalidInput(
            f"Worker group {name!r} must have at most {MAX_RANKS} ranks, since nodes keep a clock for each of them in each bucket."
            f" Got {num_ranks} instead: give each worker more rows, with fewer workers (`num_workers`).",
            group=name,
        )
    if staleness != UNBOUNDED and not 0 <= staleness < STALENESS_LIMIT:
        raise InvalidInput(
            f"The staleness of worker group {name!r} must be in [0, {STALENESS_LIMIT}), or {UNBOUNDED} for ASP."
            f" Got {staleness} instead.",
            group=name,
        )
