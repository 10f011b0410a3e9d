"""Rows for fits that take a few seconds, so that something may happen meanwhile."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def fit_rows(spark: SparkSession, directory: pathlib.Path, count: int) -> DataFrame:
    """So many rows in two files, 5 of 60 features each, on scales that keep L-BFGS busy."""
    rng = np.random.default_rng(11)
    weights, scales = rng.normal(size=60), 10.0 ** (np.arange(60) % 5 - 2)
    made = []
    for _ in range(count):
        keys = rng.choice(60, 5, replace=False)
        label = float(rng.random() < 1 / (1 + np.exp(-weights[keys].sum())))
        made.append((label, (keys.tolist(), (rng.normal(size=5) * scales[keys]).tolist())))
    schema = "label double, features struct<indices: array<bigint>, values: array<double>>"
    path = str(directory / "parquet")
    spark.createDataFrame(made, schema).repartition(2).write.parquet(path)
    return spark.read.parquet(path)


__all__ = ["fit_rows"]
