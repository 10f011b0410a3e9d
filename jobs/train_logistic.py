"""Trains logistic regression on a file or table, prints loss and AUC on held-out rows, and saves the model.

    spark-submit jobs/train_logistic.py --input train.libsvm --test test.libsvm --output out/model
"""

from __future__ import annotations

import argparse
import pathlib

import pyspark
from pyspark.ml.evaluation import BinaryClassificationEvaluator, MulticlassClassificationEvaluator
from pyspark.ml.feature import VectorAssembler
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.functions import col, when
from pyspark.sql.types import NumericType

from sparkps import PSContext
from sparkps.mllib.classification import LogisticRegression

SAMPLE = pathlib.Path(pyspark.__file__).parent / "data" / "mllib" / "sample_libsvm_data.txt"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--input", default=SAMPLE.as_uri(), help="file, directory or table (default: pyspark's sample)")
    parser.add_argument("--test", help="held-out rows (default: 20 %% of the input)")
    parser.add_argument("--format", choices=["libsvm", "parquet", "csv", "table"], help="default: by the input's name")
    parser.add_argument("--label-col", default="label", help="0/1 or -1/+1")
    parser.add_argument("--features", default="features", help="a column, or numeric ones as a,b,c (default: all others)")
    parser.add_argument("--solver", default="lbfgs", choices=["lbfgs", "sgd", "adagrad", "adam", "ftrl"])
    parser.add_argument("--reg", type=float, default=1e-4)
    parser.add_argument("--iterations", type=int, default=50)
    parser.add_argument("--consistency", default="bsp", help="bsp, ssp or asp; for the mini-batch solvers")
    parser.add_argument("--num-workers", type=int, help="default: what Spark runs at once")
    parser.add_argument("--num-nodes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="out/model")
    return parser.parse_args()


def read(spark: SparkSession, source: str, kind: str, **options: int) -> DataFrame:
    if kind == "table":
        return spark.table(source)
    return spark.read.format(kind).options(**({"header": True, "inferSchema": True} if kind == "csv" else options)).load(source)


def load(spark: SparkSession, args: argparse.Namespace) -> list[DataFrame]:
    """Training and held-out rows, as columns ``label`` in {0, 1} and ``features``."""
    suffix = pathlib.PurePath(args.input).suffix
    kind = args.format or {".parquet": "parquet", ".csv": "csv", "": "table"}.get(suffix, "libsvm")
    sources = [args.input, args.test] if args.test else [args.input]
    frames = [read(spark, source, kind) for source in sources]
    if kind == "libsvm":  # as many features in both
        size = max(row.features.size for df in frames for row in df.take(1))
        frames = [read(spark, source, kind, numFeatures=size) for source in sources]
    frames = [shape(df, args.label_col, args.features) for df in frames]
    return frames if args.test else frames[0].randomSplit([0.8, 0.2], seed=args.seed)


def shape(df: DataFrame, label: str, features: str) -> DataFrame:
    if features not in df.columns:
        numeric = [f.name for f in df.schema if isinstance(f.dataType, NumericType) and f.name != label]
        names = numeric if features == "features" else features.split(",")
        df, features = VectorAssembler(inputCols=names, outputCol="features").transform(df), "features"
    value = col(label).cast("double")
    return df.select(when(value == -1, 0.0).otherwise(value).alias("label"), col(features).alias("features"))


def main() -> None:
    args = arguments()
    spark = SparkSession.builder.appName("train_logistic").getOrCreate()
    train, test = load(spark, args)
    extra = {"numWorkers": args.num_workers} if args.num_workers else {}
    with PSContext(spark, num_nodes=args.num_nodes):
        estimator = LogisticRegression(solver=args.solver, regParam=args.reg, maxIter=args.iterations, seed=args.seed)
        model = estimator.setParams(consistency=args.consistency, **extra).fit(train)
        scored = model.transform(test).cache()
        auc = BinaryClassificationEvaluator().evaluate(scored)
        loss = MulticlassClassificationEvaluator(metricName="logLoss").evaluate(scored)
        model.write().overwrite().save(args.output)
    print(f"held-out rows {scored.count()}   log loss {loss:.4f}   AUC {auc:.4f}")
    print(f"model saved in {args.output}")


if __name__ == "__main__":
    main()
