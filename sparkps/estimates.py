"""How much memory a model takes on the nodes, and what to set for it: `estimate`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sparkps.errors import InvalidInput
from sparkps.specs import NUM_BUCKETS, TableSpec

if TYPE_CHECKING:
    from sparkps.optim import Optimizer

#: What a node's process takes without any row: interpreter, libraries, loaded kernels, and messages under way.
PROCESS_BYTES = 320 << 20

#: A node takes new rows up to this share of `nodeMemory`, and of that keeps this share for writes of open clocks.
_ROWS, _WRITES = 0.9, 0.125

#: Bytes of a place in a key index; this share of the places is in use at most.
_PLACE, _LOAD = 12, 0.75

#: `nodeMemory` is rounded up to a multiple of this.
_STEP = 64 << 20


@dataclass(frozen=True)
class Estimate:
    """What tables take. Sizes are bytes; printed, it is a summary."""

    rows: int
    dim: int
    dtype: str
    #: How rows lie on the nodes.
    storage: str
    optimizer: str
    num_nodes: int
    replication: int
    tables: int
    dense: bool
    #: On average, of one copy: key, row, optimizer state, and room to grow.
    bytes_per_row: float
    #: All rows once.
    bytes_per_copy: int
    #: What each node has of all copies.
    bytes_per_node: int
    #: What to set `spark.sparkps.nodeMemory` to, at least.
    node_memory: int
    #: Of a node's container on YARN or Kubernetes: heap of its JVM, and what is beside it.
    heap: int
    overhead: int

    @property
    def container(self) -> int:
        """Bytes of a node's container."""
        return self.heap + self.overhead

    def __str__(self) -> str:
        what = "elements" if self.dense else "rows"
        shape = f"{self.rows:,} {what}" + ("" if self.dense else f" of {self.dim}") + f" {self.storage}"
        tables = f" in each of {self.tables} tables" if self.tables > 1 else ""
        copies = "1 copy" if self.replication == 1 else f"{self.replication} copies"
        nodes = "1 node" if self.num_nodes == 1 else f"{self.num_nodes} nodes"
        return (
            f"{shape} with {self.optimizer}{tables}, {copies} on {nodes}\n"
            f"  {self.bytes_per_row:.0f} bytes for each; {_shown(self.bytes_per_copy)} a copy, {_shown(self.bytes_per_node)} on each node\n"
            f"  spark.sparkps.nodeMemory  {self.node_memory >> 20}m\n"
            f"  container of a node: {_shown(self.heap)} of heap + {_shown(self.overhead)} beside it = {_shown(self.container)}"
        )


def estimate(
    rows: int,
    dim: int = 1,
    dtype: Literal["float32", "float64"] = "float32",
    optimizer: Optimizer | None = None,
    *,
    num_nodes: int = 2,
    replication: int = 1,
    tables: int = 1,
    dense: bool = False,
    storage: str | None = None,
) -> Estimate:
    """How much memory a model takes on the nodes, and what to set for it.

    Keys are spread evenly over 256 buckets; arrays of a bucket grow by half, each bucket at another moment, so that on average
    g = 0.5 / ln 1.5 = 1.23 times of what is in use is there. Where a bucket has some tens of rows or more::

        key         12 / 0.75 * g                   12 bytes a place, three quarters of which are in use: 20 bytes a row
        row         dim * bytes of dtype * planes * g           planes: the row itself, and what the optimizer keeps with it
                                                                (1 for SGD, 2 for Adagrad, 3 for Adam and FTRL); a row whose `storage`
                                                                is float16 or bfloat16 has 2 bytes a value
        copy        rows * (key + tables * row)                 dense: rows * planes * bytes of dtype, no keys and no growth
        node        copy * replication / num_nodes              in whole buckets
        nodeMemory  (process + rows of a node) / (0.9 - 1/8)    new rows are taken up to 0.9, an eighth is for writes under way; with
                                                                replicas there is room for the copies of one node that is lost
        container   512 MiB + (nodeMemory + 512 MiB)            the JVM's heap, and what is beside it

    Parameters
    ----------
    rows : int
        Keys of a sparse table, such as distinct features; elements of a dense one.
    dim : int
        Values per row.
    dtype : {"float32", "float64"}
    optimizer : Optimizer, optional
        Of `sparkps.optim`; default: SGD, which keeps no state.
    num_nodes, replication : int
        Of the tier.
    tables : int
        Such tables with the same keys, in one table group: ``sparkps.mllib``'s L-BFGS keeps 24 vectors.
    dense : bool
    storage : {"float32", "float16", "bfloat16"}, optional
        Of rows of a sparse table of float32, as `PSContext.sparse_table` takes it.

    Returns
    -------
    Estimate

    Raises
    ------
    InvalidInput
        A number that cannot be.

    Examples
    --------
    >>> from sparkps.optim import Adagrad
    >>> print(estimate(100_000_000, 16, optimizer=Adagrad(0.05), num_nodes=8, replication=2))
    100,000,000 rows of 16 float32 with Adagrad, 2 copies on 8 nodes
      178 bytes for each; 16.5 GiB a copy, 4.1 GiB on each node
      spark.sparkps.nodeMemory  6784m
      container of a node: 0.5 GiB of heap + 7.1 GiB beside it = 7.6 GiB
    """
    from sparkps.driver_bridge.resources import NODE_HEAP, NODE_PROCESSES
    from sparkps.optim import SGD
    from sparkps.ps_nodes.tables.optimizers import rule_of

    given = {"rows": rows, "dim": dim, "num_nodes": num_nodes, "replication": replication, "tables": tables}
    rows, dim, num_nodes, replication, tables = (_whole(name, value) for name, value in given.items())
    _check(dim, num_nodes, replication, dtype, optimizer, storage, dense=dense)
    rule = rule_of(SGD(1.0) if optimizer is None else optimizer)
    held: Any = "" if storage in (None, dtype) else storage
    spec = TableSpec("estimated", "sparse", dim, dtype, storage=held)
    each = spec.bytes_of_key(rule.planes) * tables
    copy = rows * each if dense else _of_keys(rows, each)
    share = copy / NUM_BUCKETS
    here = share * _buckets(num_nodes, replication)
    most = max(here, share * _buckets(num_nodes - 1, replication)) if num_nodes > replication > 1 else here
    memory = math.ceil((PROCESS_BYTES + most) / (_ROWS - _WRITES) / _STEP) * _STEP
    return Estimate(
        rows=rows,
        dim=dim,
        dtype=dtype,
        storage=spec.stored,
        optimizer=type(rule.optimizer).__name__,
        num_nodes=num_nodes,
        replication=replication,
        tables=tables,
        dense=dense,
        bytes_per_row=copy / rows,
        bytes_per_copy=math.ceil(copy),
        bytes_per_node=math.ceil(here),
        node_memory=memory,
        heap=NODE_HEAP,
        overhead=memory + NODE_PROCESSES,
    )


def _of_keys(rows: int, row_bytes: int) -> float:
    """Bytes of so many keys and their rows, as the arrays of the buckets come to be."""
    import numpy as np

    from sparkps.ps_nodes.tables.buffers import GrowthSeries

    each = np.full(NUM_BUCKETS, rows / NUM_BUCKETS)
    places = GrowthSeries(16, 1.5).all_at_least((each + 1) / _LOAD)
    rooms = GrowthSeries(8, 1.5).all_at_least(each)
    return float(places.sum()) * _PLACE + float(rooms.sum()) * row_bytes


def _buckets(nodes: int, replication: int) -> int:
    """Buckets of which a node has a copy, at most."""
    return math.ceil(NUM_BUCKETS * replication / nodes)


def _whole(name: str, value: Any) -> int:
    """A number that counts something: of numpy's too, and 1e8."""
    is_whole = hasattr(value, "__index__") or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not is_whole or value < 1:
        raise InvalidInput(f"`{name}` must be an int >= 1. Got {value!r} instead.")
    return int(value)


def _check(
    dim: int, num_nodes: int, replication: int, dtype: str, optimizer: object, storage: str | None, *, dense: bool
) -> None:
    from sparkps.optim import Optimizer

    if replication > num_nodes:
        raise InvalidInput(f"`replication` must be at most `num_nodes` ({num_nodes}). Got {replication} instead.")
    if dense and dim != 1:
        raise InvalidInput(f"`dim` is of sparse tables; of a dense one `rows` counts all elements. Got dim={dim} instead: leave it out.")
    if dtype not in ("float32", "float64"):
        raise InvalidInput(f"`dtype` must be 'float32' or 'float64'. Got {dtype!r} instead.")
    if storage not in (None, dtype) and (dense or dtype != "float32" or storage not in ("float16", "bfloat16")):
        raise InvalidInput(f"`storage` must be 'float16' or 'bfloat16', of sparse tables of float32, or the dtype. Got {storage!r}.")
    if optimizer is not None and not isinstance(optimizer, Optimizer):
        raise InvalidInput(f"`optimizer` must be one of sparkps.optim, as Adam(0.001). Got {optimizer!r} instead.")


def _shown(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB"


__all__ = ["PROCESS_BYTES", "Estimate", "estimate"]
