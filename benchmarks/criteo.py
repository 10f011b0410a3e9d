"""Rows shaped like the Criteo click logs, with a planted model: 39 fields, Zipf-distributed keys in each, one key a field.

As there, most fields have few keys (4 to 100,000) and five id-like fields share what is left of the number of features,
so that 1 M rows hold 0.1 to 2 M distinct keys. The first 13 fields carry float values, the others 1. Written once per size,
as Parquet that Spark reads as a DataFrame of ``label`` (double) and ``features``: a sparse vector up to 2^31 - 1 features,
``struct<indices: array<bigint>, values: array<float>>`` above. Everything is a function of (rows,
features, seed, classes).

Run it to write a data set and see what it holds:

    python -m benchmarks.criteo --rows 1e6 --features 1e6
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.common import count

FIELDS = 39
#: The first fields carry values in (0, 1], the others 1.
NUMERIC_FIELDS = 13
#: The last fields take up what the others leave of the number of features.
ID_FIELDS = 5
#: Exponent of the keys' Zipf distribution.
EXPONENT = 1.1
#: Weights of the planted model are uniform in [-SCALE, SCALE].
SCALE = 0.6
BIAS = -2.0
ROWS_PER_FILE = 125_000
#: Spread a field's frequent keys over its range; a prime.
STRIDE = 1_000_003
MAX_VECTOR_SIZE = 2**31 - 1

Keys = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class DataSet:
    """A data set on disk."""

    path: str
    rows: int
    #: Number of features: every key is in [0, features).
    features: int
    #: Keys that occur.
    distinct: int
    #: Rows whose label is not 0.
    positives: int


def field_sizes(features: int) -> Keys:
    """Number of features of each field: the small fields ascending, then the id-like ones; they add up to about `features`."""
    small = np.geomspace(4, min(100_000, features / 8), FIELDS - ID_FIELDS).astype(np.int64)
    sizes = np.concatenate([small, np.full(ID_FIELDS, (features - small.sum()) // ID_FIELDS)])
    sizes -= sizes % STRIDE == 0
    return sizes


def zipf(uniform: Floats, size: int) -> Keys:
    """Ranks in [0, size) with P(rank) ~ (rank + 1)^-EXPONENT, by inversion of the continuous distribution."""
    power = 1.0 - EXPONENT
    rank: Floats = (1.0 - uniform * (1.0 - float(size + 1) ** power)) ** (1.0 / power)
    ranks: Keys = np.minimum(rank.astype(np.int64) - 1, size - 1)
    return ranks


def planted_weights(keys: Keys) -> Floats:
    """The planted weight of each key, from the key alone."""
    h = (keys + 1).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    h ^= h >> np.uint64(29)
    h *= np.uint64(0xBF58476D1CE4E5B9)
    return ((h >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1.0) * SCALE


def planted_labels(random: np.random.Generator, keys: Keys, values: Floats, classes: int) -> Floats:
    """Labels by the planted model: 0 or 1, or with more classes each with weights of its own by softmax."""
    if classes == 2:
        margin = BIAS + (planted_weights(keys.ravel()).reshape(keys.shape) * values).sum(axis=1)
        return np.asarray(random.random(len(keys)) < 1.0 / (1.0 + np.exp(-margin)), np.float64)
    margins = np.empty((len(keys), classes))
    for one in range(classes):
        margins[:, one] = (planted_weights(keys.ravel() * classes + one).reshape(keys.shape) * values).sum(axis=1)
    return np.asarray(np.argmax(margins + random.gumbel(size=margins.shape), axis=1), np.float64)


def chunks(rows: int, features: int, seed: int, classes: int = 2) -> Iterator[tuple[Floats, Keys, Floats]]:
    """Labels (m,), keys (m, FIELDS) ascending in each row, values (m, FIELDS), one chunk after the other."""
    sizes = field_sizes(features)
    offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    for start in range(0, rows, ROWS_PER_FILE):
        m = min(ROWS_PER_FILE, rows - start)
        random = np.random.default_rng([seed, start])
        keys = np.empty((m, FIELDS), np.int64)
        for field in range(FIELDS):
            rank = zipf(random.random(m), int(sizes[field]))
            keys[:, field] = offsets[field] + rank * STRIDE % sizes[field]
        values = np.ones((m, FIELDS))
        values[:, :NUMERIC_FIELDS] = 1.0 - random.random((m, NUMERIC_FIELDS)).astype(np.float32)
        yield planted_labels(random, keys, values, classes), keys, values


def _vectors(keys: Keys, values: Floats, features: int) -> pa.Array:
    """Rows as Spark's sparse vectors lie in Parquet."""
    m = len(keys)
    offsets = pa.array(np.arange(m + 1, dtype=np.int32) * FIELDS)
    return pa.StructArray.from_arrays(
        [
            pa.array(np.zeros(m, np.int8)),
            pa.array(np.full(m, features, np.int32)),
            pa.ListArray.from_arrays(offsets, pa.array(keys.ravel().astype(np.int32))),
            pa.ListArray.from_arrays(offsets, pa.array(values.ravel())),
        ],
        ["type", "size", "indices", "values"],
    )


def _structs(keys: Keys, values: Floats) -> pa.Array:
    """Rows as struct<indices: array<bigint>, values: array<float>>."""
    offsets = pa.array(np.arange(len(keys) + 1, dtype=np.int32) * FIELDS)
    return pa.StructArray.from_arrays(
        [
            pa.ListArray.from_arrays(offsets, pa.array(keys.ravel())),
            pa.ListArray.from_arrays(offsets, pa.array(values.ravel().astype(np.float32))),
        ],
        ["indices", "values"],
    )


def _spark_schema() -> str:
    """The schema that makes Spark read the struct of a sparse vector as a vector."""
    from pyspark.ml.linalg import VectorUDT
    from pyspark.sql.types import DoubleType, StructType

    return StructType().add("label", DoubleType()).add("features", VectorUDT()).json()


def write(
    rows: int, features: int, seed: int = 1, directory: str | None = None, classes: int = 2, spread: int = 1
) -> DataSet:
    """The data set of that size under `directory` (default: the system's temporary directory), written if it is not there.

    Parameters
    ----------
    rows : int
        At least 1.
    features : int
        At least 1,000.
    seed : int
    directory : str, optional
        Parent of the data set's own directory.
    classes : int
        Number of labels.
    spread : int
        Every key is multiplied by it: the same rows with so many times the features.
    """
    parent = pathlib.Path(directory or pathlib.Path(tempfile.gettempdir()) / "sparkps-criteo")
    name = f"rows{rows}-features{features}-seed{seed}"
    path = parent / (name + (f"-classes{classes}" if classes != 2 else "") + (f"-spread{spread}" if spread != 1 else ""))
    described = path / "_described.json"
    if described.is_file():
        return DataSet(**json.loads(described.read_text()))
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    seen: list[list[Keys]] = [[] for _ in range(FIELDS)]
    positives, width = 0, features * spread
    for number, (labels, keys, values) in enumerate(chunks(rows, features, seed, classes)):
        rows_array = _vectors(keys * spread, values, width) if width <= MAX_VECTOR_SIZE else _structs(keys * spread, values)
        table = pa.table({"label": labels, "features": rows_array})
        if width <= MAX_VECTOR_SIZE:
            table = table.replace_schema_metadata({"org.apache.spark.sql.parquet.row.metadata": _spark_schema()})
        pq.write_table(table, path / f"part-{number:05d}.parquet", compression="snappy")
        positives += int(np.count_nonzero(labels))
        for field in range(FIELDS):
            seen[field].append(np.unique(keys[:, field]))
    distinct = sum(len(np.unique(np.concatenate(parts))) for parts in seen)
    data = DataSet(str(path), rows, width, distinct, positives)
    described.write_text(json.dumps(dataclasses.asdict(data)))
    return data


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rows", type=count, default=1_000_000)
    parser.add_argument("--features", type=count, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--directory")
    arguments = parser.parse_args()
    print(write(arguments.rows, arguments.features, arguments.seed, arguments.directory))
