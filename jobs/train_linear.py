"""Trains any estimator of sparkps.mllib on a file or table, prints how good it is on held-out rows, and saves the model.

Every Param of the estimator is an option of the same name: --regParam 0.01, --inputCols town,weekday. --estimator NAME --help lists them.
"""

from __future__ import annotations

import argparse
import json
import pathlib
from typing import Any

from pyspark.ml import evaluation
from pyspark.ml.feature import StringIndexer
from pyspark.ml.linalg import Matrices, Vectors
from pyspark.ml.param import Params, TypeConverters
from pyspark.sql import DataFrame, SparkSession, functions
from pyspark.sql.types import NumericType

from sparkps import PSContext
from sparkps.mllib import classification, regression

ESTIMATORS: dict[str, Any] = {
    name: getattr(module, name)
    for module in (classification, regression)
    for name in module.__all__
    if hasattr(getattr(module, name), "fit")
}
#: What is told of held-out rows: names of metrics as the evaluators have them.
METRICS: dict[str, list[tuple[Any, str]]] = {
    "two classes": [
        *((evaluation.BinaryClassificationEvaluator, name) for name in ("areaUnderROC", "areaUnderPR")),
        (evaluation.MulticlassClassificationEvaluator, "accuracy"),
    ],
    "classes": [(evaluation.MulticlassClassificationEvaluator, name) for name in ("accuracy", "f1")],
    "numbers": [(evaluation.RegressionEvaluator, name) for name in ("r2", "rmse", "mae")],
}


def arguments() -> argparse.Namespace:
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--estimator", default="LogisticRegression", choices=sorted(ESTIMATORS))
    chosen = first.parse_known_args()[0].estimator
    parser = argparse.ArgumentParser(description=__doc__, parents=[first], formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", required=True, help="file, directory (of Parquet, if nothing else is said) or table")
    parser.add_argument("--test", help="held-out rows (default: 20 %% of the input)")
    parser.add_argument("--format", help="libsvm, parquet, csv, table or another that Spark reads; default: by the input's name")
    parser.add_argument("--output", default="out/model", help="path or URL")
    params = parser.add_argument_group(f"Params of {chosen}")
    for param in ESTIMATORS[chosen]().params:
        params.add_argument(f"--{param.name}", help=param.doc.replace("%", "%%"), metavar="VALUE", dest=f"param {param.name}")
    return parser.parse_args()


def value_of(estimator: Params, name: str, text: str) -> Any:
    """A Param's value out of what stands on the command line: JSON, or a list as a,b,c; crosses as a,b;c,d."""
    converter = estimator.getParam(name).typeConverter
    if converter is TypeConverters.toString:
        return text
    if name == "crosses" and not text.startswith("["):
        return [each.split(",") for each in text.split(";")]
    if converter is TypeConverters.toListString and not text.startswith("["):
        return text.split(",")
    if converter is TypeConverters.toBoolean:
        return {"true": True, "false": False}[text.lower()]
    value = json.loads(text if text.startswith("[") or converter in (TypeConverters.toInt, TypeConverters.toFloat) else f"[{text}]")
    if converter is TypeConverters.toMatrix:
        return Matrices.dense(len(value), len(value[0]), [row[at] for at in range(len(value[0])) for row in value])
    return Vectors.dense(value) if converter is TypeConverters.toVector else value


def load(spark: SparkSession, args: argparse.Namespace, label: str) -> list[DataFrame]:
    """Training and held-out rows, with the same classes and as many features."""
    kinds = {".parquet": "parquet", ".csv": "csv", ".json": "json", ".orc": "orc", "": "parquet"}
    is_table = "/" not in args.input and spark.catalog.tableExists(args.input)
    kind = args.format or ("table" if is_table else kinds.get(pathlib.PurePath(args.input).suffix, "libsvm"))
    sources = [args.input, args.test] if args.test else [args.input]
    reader = spark.read.format(kind).options(**({"header": True, "inferSchema": True} if kind == "csv" else {}))
    frames = [spark.table(source) if kind == "table" else reader.load(source) for source in sources]
    if kind == "libsvm" and args.test:
        size = max(row.features.size for df in frames for row in df.take(1))
        frames = [reader.option("numFeatures", size).load(source) for source in sources]
    if args.estimator in classification.__all__ and not are_numbers_of_classes(frames[0], label):
        indexed = StringIndexer(inputCol=label, outputCol="number of class", stringOrderType="alphabetAsc").fit(frames[0])
        frames = [indexed.transform(df).withColumn(label, functions.col("number of class")).drop("number of class") for df in frames]
    return frames if args.test else frames[0].randomSplit([0.8, 0.2], seed=1)


def are_numbers_of_classes(df: DataFrame, label: str) -> bool:
    """Whether labels are 0, 1, 2, ... already; others, as -1 and 1 or names, are numbered in the order of their names."""
    if not isinstance(df.schema[label].dataType, NumericType):
        return False
    value = functions.col(label)
    return df.where((value < 0) | (value != functions.floor(value))).isEmpty() and not df.where(value == 0).isEmpty()


def main() -> None:
    args = arguments()
    given = {name.removeprefix("param "): text for name, text in vars(args).items() if name.startswith("param ") and text is not None}
    estimator = ESTIMATORS[args.estimator]()
    estimator.setParams(**{name: value_of(estimator, name, text) for name, text in given.items()})
    spark = SparkSession.builder.appName(f"train {args.estimator}").getOrCreate()
    with PSContext(spark):  # first: what it cannot have is said before anything is read
        train, test = load(spark, args, estimator.getLabelCol())
        model = estimator.fit(train)
        model.write().overwrite().save(args.output)
        scored = model.transform(test).cache()
        kind = "numbers" if args.estimator in regression.__all__ else "two classes" if getattr(model, "numClasses", 2) == 2 else "classes"
        told = [
            f"{name} {evaluator(labelCol=estimator.getLabelCol(), metricName=name).evaluate(scored):.4f}"
            for evaluator, name in METRICS[kind]
        ]
        print(f"{scored.count()} held-out rows: {', '.join(told)}\nmodel saved in {args.output}")


if __name__ == "__main__":
    main()
