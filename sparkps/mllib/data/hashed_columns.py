"""Hashed raw columns as a column of features: what an executor writes, so that estimators read what they would have hashed themselves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from sparkps.mllib.data.features import Features
from sparkps.mllib.data.raw_columns import RawColumns


@dataclass(frozen=True)
class HashedColumns:
    """The function of a UDF: raw columns in, features out. Picklable.

    A number that is not finite stays one, for estimators to refuse or to leave out.

    Parameters
    ----------
    source : RawColumns
        With kinds; of vectors, with as many buckets as these have elements.
    vectors : bool
        Whether rows become sparse vectors, whose indices ascend; else structs of indices and values, in the order of the columns.

    Examples
    --------
    >>> source = RawColumns(("city", "age"), buckets=10, kinds=("string", "number"))
    >>> HashedColumns(source)(pa.array(["Oslo", None]), pa.array([31.5, 0.0])).to_pylist()
    [{'indices': [4, 8], 'values': [1.0, 31.5]}, {'indices': [], 'values': []}]
    """

    source: RawColumns
    vectors: bool = False

    def __call__(self, *columns: pa.Array) -> pa.Array:  # Spark tells the kind of UDF by these types
        """Features of each row."""
        found = self.source.read(columns)
        return _as_vectors(found, self.source.buckets) if self.vectors else _as_structs(found)


def _as_structs(rows: Features) -> pa.StructArray:
    at = pa.array(rows.indptr)
    parts = [pa.ListArray.from_arrays(at, pa.array(part)) for part in (rows.indices, rows.values)]
    return pa.StructArray.from_arrays(parts, ["indices", "values"])


def _as_vectors(rows: Features, size: int) -> pa.StructArray:
    count, at = len(rows.codes), pa.array(rows.indptr)
    order = np.lexsort((rows.indices, np.repeat(np.arange(count), np.diff(rows.indptr))))
    parts = [
        pa.array(np.zeros(count, np.int8)),
        pa.array(np.full(count, size, np.int32)),
        pa.ListArray.from_arrays(at, pa.array(rows.indices[order].astype(np.int32))),
        pa.ListArray.from_arrays(at, pa.array(rows.values[order])),
    ]
    return pa.StructArray.from_arrays(parts, ["type", "size", "indices", "values"])


__all__ = ["HashedColumns"]
