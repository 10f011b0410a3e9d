"""Scoring Criteo-shaped rows: a model of `sparkps.mllib` against one that pyspark.ml has fitted to the same rows.

    python -m benchmarks.transform_vs_spark
    python -m benchmarks.transform_vs_spark --classes 10

Both score the same Parquet files, `local[2]`, `--repeats` times in turn; the first line holds the start of the JVM's compiler for
whoever comes first, which is pyspark.ml. The seconds are those of `transform` and a sum over its predictions.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

from benchmarks import criteo
from benchmarks.common import count, machine, session, table

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def seconds(model: Any, df: DataFrame) -> float:
    """Of scoring every row of `df`."""
    from pyspark.sql import functions as sf

    start = time.perf_counter()
    model.transform(df).agg(sf.sum("prediction")).collect()
    return time.perf_counter() - start


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rows", type=count, default=1_000_000)
    parser.add_argument("--features", type=count, default=100_000)
    parser.add_argument("--classes", type=int, default=2, help="of the models; more than two: drawn at random for the rows of training")
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--master", default="local[2]")
    parser.add_argument("--driver-memory", default="4g")
    parser.add_argument("--directory", help="where data sets are kept")
    args = parser.parse_args()
    from pyspark.ml.classification import LogisticRegression as Theirs
    from pyspark.sql import functions as sf

    from sparkps import PSContext
    from sparkps.mllib.classification import LogisticRegression

    data = criteo.write(args.rows, args.features, 1, args.directory)
    print(machine())
    print(f"{data.rows:,} rows of 39 entries, {args.features:,} features, {args.classes} classes, {args.master}")
    with session(args.master, args.driver_memory) as spark, PSContext(spark, num_nodes=2):
        rows = spark.read.parquet(data.path)
        few = rows.limit(min(args.rows, 50_000))
        if args.classes > 2:
            few = few.withColumn("label", sf.floor(sf.rand(1) * args.classes).cast("double"))
        few = few.cache()
        theirs, ours = Theirs(maxIter=5, regParam=1e-4).fit(few), LogisticRegression(maxIter=5, regParam=1e-4).fit(few)
        lines = []
        for number in range(args.repeats):
            other, own = seconds(theirs, rows), seconds(ours, rows)
            lines.append((number + 1, f"{other:.2f}", f"{own:.2f}", f"{other / own:.2f}x"))
    print(table(("pass", "pyspark.ml, s", "sparkps, s", "ratio (promised: 1x)"), lines))


if __name__ == "__main__":
    main()
