"""sparkps: a sharded parameter-server tier for Apache Spark.

Spark's executors pull just the rows that a batch needs from parameter-server nodes and push gradients back; the nodes apply
the optimizer, under BSP, SSP or ASP. See `PSContext` for the tier and `sparkps.mllib` for estimators.

Importing this package is cheap: what needs pyspark, numba or zmq is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparkps.client.connection import Connection, connect
    from sparkps.client.keyset import KeySet
    from sparkps.client.tables import DenseTable, SparseTable
    from sparkps.consistency import ASP, BSP, SSP
    from sparkps.driver_bridge.context import PSContext
    from sparkps.driver_bridge.groups.report import WorkerLost
    from sparkps.estimates import estimate

__version__ = "0.1.0"

_HOMES = {
    "ASP": "sparkps.consistency",
    "BSP": "sparkps.consistency",
    "Connection": "sparkps.client.connection",
    "DenseTable": "sparkps.client.tables",
    "KeySet": "sparkps.client.keyset",
    "PSContext": "sparkps.driver_bridge.context",
    "SSP": "sparkps.consistency",
    "SparseTable": "sparkps.client.tables",
    "WorkerLost": "sparkps.driver_bridge.groups.report",
    "connect": "sparkps.client.connection",
    "estimate": "sparkps.estimates",
}

__all__ = [
    "ASP", "BSP", "SSP", "Connection", "DenseTable", "KeySet", "PSContext", "SparseTable", "WorkerLost", "__version__", "connect",
    "estimate",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'sparkps' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
