"""Trains logistic regression on a file or table, prints loss and AUC on held-out rows, and saves the model."""

from __future__ import annotations

import argparse
import pathlib
from contextlib import redirect_stderr

from pyspark.ml.evaluation import BinaryClassificationEvaluator, MulticlassClassificationEvaluator
from pyspark.ml.feature import VectorAssembler
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.functions import col, when
from pyspark.sql.types import NumericType

from sparkps import PSContext
from sparkps.mllib.classification import LogisticRegression


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", required=True, help="file, directory or table")
    parser.add_argument("--test", help="held-out rows (default: 20 %% of the input)")
    parser.add_argument("--format", choices=["libsvm", "parquet", "csv", "table"], help="default: by the input's name")
    parser.add_argument("--label-col", default="label", help="0/1 or -1/+1")
    parser.add_argument("--features", default="features", help="a column, or numeric ones as a,b,c (default: all others)")
    parser.add_argument("--solver", default="lbfgs", choices=["lbfgs", "sgd", "momentum", "adagrad", "adam", "ftrl"])
    parser.add_argument("--reg", type=float, default=1e-4, help="weight of the L2 penalty")
    parser.add_argument("--iterations", type=int, default=50, help="of lbfgs; epochs of the others")
    parser.add_argument("--consistency", default="bsp", help="bsp, ssp or asp; for the mini-batch solvers")
    parser.add_argument("--num-workers", type=int, help="default: what Spark runs at once")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--deterministic", action="store_true", help="the same model on any cluster, for one number of workers")
    parser.add_argument("--checkpoints", help="URL of a directory: what is killed goes on from there when it is started again")
    parser.add_argument("--output", default="out/model", help="path or URL")
    parser.add_argument("--terminal", default="/dev/stderr", help="draws progress (spark-submit's stderr is a pipe: /dev/tty)")
    return parser.parse_args()


def load(spark: SparkSession, args: argparse.Namespace) -> list[DataFrame]:
    """Training and held-out rows, as columns ``label`` in {0, 1} and ``features``."""
    kinds = {".parquet": "parquet", ".csv": "csv", "": "table"}
    kind = args.format or kinds.get(pathlib.PurePath(args.input).suffix, "libsvm")
    sources = [args.input, args.test] if args.test else [args.input]
    reader = spark.read.format(kind).options(**({"header": True, "inferSchema": True} if kind == "csv" else {}))
    frames = [spark.table(source) if kind == "table" else reader.load(source) for source in sources]
    if kind == "libsvm":  # as many features in both
        size = max(row.features.size for df in frames for row in df.take(1))
        frames = [reader.option("numFeatures", size).load(source) for source in sources]
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
    estimator = LogisticRegression(solver=args.solver, regParam=args.reg, maxIter=args.iterations, seed=args.seed)
    estimator.setParams(consistency=args.consistency, deterministic=args.deterministic, checkpointDir=args.checkpoints or "")
    estimator.setParams(**({"numWorkers": args.num_workers} if args.num_workers else {}))
    with PSContext(spark):  # first: what it cannot have is said before anything is read
        train, test = load(spark, args)
        with pathlib.Path(args.terminal).open("w") as terminal, redirect_stderr(terminal):
            model = estimator.fit(train)
        model.write().overwrite().save(args.output)
        scored = model.transform(test).cache()
        log_loss = MulticlassClassificationEvaluator(metricName="logLoss")  # type: ignore[arg-type]  # pyspark's types lack it
        print(f"{scored.count()} held-out rows: loss {log_loss.evaluate(scored):.4g}, AUC", end=" ")
        print(f"{BinaryClassificationEvaluator().evaluate(scored):.4f}\nmodel saved in {args.output}")


if __name__ == "__main__":
    main()
