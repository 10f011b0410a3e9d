"""Tables on the nodes of a small tier, without processes."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparkps.initializers import Normal
from sparkps.ps_nodes import functions
from sparkps.ps_nodes.tables.dense import DenseShards
from sparkps.ps_nodes.tables.index import KeyIndex
from sparkps.ps_nodes.tables.sparse import SparseShards
from sparkps.specs import TableSpec
from sparkps.wire.functions import build_call, combine
from sparkps.wire.hashing import buckets_of
from tests.unit.ps_nodes.tables.given import grouped

KEYS = grouped(np.random.default_rng(0).integers(-(1 << 62), 1 << 62, 3000))
IDS = {"a": 1, "b": 2, "c": 3}


class Tier:
    """Tables a, b (float64) and c (float32) on the nodes that `splits` make."""

    def __init__(self, kind: str, splits: list[int], dim: int = 2, **fields: Any) -> None:
        self.kind, self.dim = kind, dim
        self.parts = [range(a, b) for a, b in zip([0, *splits], [*splits, 256], strict=True)]
        self.nodes: list[dict[int, Any]] = []
        for buckets in self.parts:
            index = KeyIndex(buckets)
            tables: dict[int, Any] = {}
            for number, (name, dtype) in enumerate([("a", "float64"), ("b", "float64"), ("c", "float32")], 1):
                spec = TableSpec(name, kind, dim, dtype, (), Normal(0, 1), seed=number, table=number, **fields)  # type: ignore[arg-type]
                if kind == "dense":
                    tables[number] = DenseShards(
                        TableSpec(name, "dense", 1, dtype, (777,), spec.init, seed=number, **fields), buckets
                    )
                else:
                    tables[number] = SparseShards(spec, index)
                    index.attach(tables[number])
            if kind == "sparse":
                mine = KEYS[np.isin(buckets_of(KEYS), list(buckets))]
                index.resolve(mine, index.runs(mine))
            self.nodes.append(tables)

    def call(self, function: str, table: str = "a", **args: Any) -> Any:
        call = build_call(function, IDS[table], args, IDS.__getitem__)
        parts = [functions.run([call], tables, buckets) for tables, buckets in zip(self.nodes, self.parts, strict=True)]
        return combine(function, call.args, parts)

    def values(self, table: str) -> np.ndarray:
        """All values, by bucket and slot: (n, dim)."""
        each = [
            tables[IDS[table]].rows_of(b) for tables, part in zip(self.nodes, self.parts, strict=True) for b in part
        ]
        return np.concatenate(each).astype(np.float64)

    def keys(self) -> np.ndarray:
        each = [tables[1].keys_of(b) for tables, part in zip(self.nodes, self.parts, strict=True) for b in part]
        return np.concatenate(each)
