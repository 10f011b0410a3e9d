"""What jobs share that train an estimator by its name: options of the command line, rows, and figures of rows that are held out."""

from __future__ import annotations

import argparse
import json
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

from pyspark.ml import evaluation
from pyspark.ml.feature import StringIndexer
from pyspark.ml.linalg import Matrices, Vectors
from pyspark.ml.param import Params, TypeConverters
from pyspark.sql import DataFrame, SparkSession, functions
from pyspark.sql.types import NumericType

from sparkps.errors import ConfigError
from sparkps.optim import Optimizer

#: Makes a Param's value of text, by the Param's type converter.
Readers = Mapping[Callable[[Any], Any], Callable[[str], Any]]

#: What is told of held-out rows: names of metrics as the evaluators have them.
METRICS: dict[str, list[tuple[Any, str]]] = {
    "two classes": [
        *((evaluation.BinaryClassificationEvaluator, name) for name in ("areaUnderROC", "areaUnderPR")),
        (evaluation.MulticlassClassificationEvaluator, "accuracy"),
    ],
    "classes": [(evaluation.MulticlassClassificationEvaluator, name) for name in ("accuracy", "f1")],
    "numbers": [(evaluation.RegressionEvaluator, name) for name in ("r2", "rmse", "mae")],
}

#: By a Param's type converter, what its text must be.
WORDS: dict[Callable[[Any], Any], str] = {
    TypeConverters.toBoolean: "true or false",
    TypeConverters.toInt: "an integer",
    TypeConverters.toFloat: "a number",
    TypeConverters.toListInt: "integers, as 128,64",
    TypeConverters.toListFloat: "numbers, as 0.3,0.7",
    TypeConverters.toVector: "numbers, as 0.3,0.7",
    TypeConverters.toMatrix: "rows of numbers, as [[1,0],[0,1]]",
}

#: Optimizers by name, in small letters.
OPTIMIZERS: dict[str, Any] = {each.__name__.lower(): each for each in get_args(Optimizer) if each.__name__ != "Consensus"}


def parser_of(doc: str, estimators: Mapping[str, Any], default: str) -> argparse.ArgumentParser:
    """Options of files, and one for each Param of the estimator that the command line names."""
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--estimator", default=default, choices=sorted(estimators), help=f"(default: {default})")
    chosen = first.parse_known_args()[0].estimator
    parser = argparse.ArgumentParser(description=doc, parents=[first], formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", required=True, help="file, directory (of Parquet, if nothing else is said) or table")
    parser.add_argument("--test", help="held-out rows (default: 20 %% of the input)")
    parser.add_argument("--format", help="libsvm, parquet, csv, table or another that Spark reads; default: by the input's name")
    parser.add_argument("--output", default="out/model", help="path or URL (default: out/model)")
    params = parser.add_argument_group(f"Params of {chosen}")
    estimator = estimators[chosen]()
    for param in estimator.params:
        told = f"{param.doc}{default_of(estimator, param.name)}".replace("%", "%%")
        params.add_argument(f"--{param.name}", help=told, metavar="VALUE", dest=f"param {param.name}")
    return parser


def default_of(estimator: Params, name: str) -> str:
    """A Param's default as the command line would give it, in words; empty where it has none."""
    if not estimator.hasDefault(name):
        return ""
    value = estimator.getOrDefault(name)
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value).lower() if isinstance(value, bool) else str(value)
    return f" (default: {text or 'none'})"


def estimator_of(args: argparse.Namespace, estimators: Mapping[str, Any], readers: Readers | None = None) -> Any:
    """The estimator that the command line names, with the Params that it gives."""
    given = {name.removeprefix("param "): text for name, text in vars(args).items() if name.startswith("param ") and text is not None}
    estimator = estimators[args.estimator]()
    for name, text in given.items():
        try:
            estimator.setParams(**{name: value_of(estimator, name, text, readers or {})})
        except (KeyError, TypeError, ValueError) as error:
            param = estimator.getParam(name)
            must = f"it must be {WORDS[param.typeConverter]}" if param.typeConverter in WORDS else error
            raise SystemExit(f"--{name} must be: {param.doc.rstrip('.')}. Got {text!r}: {must}") from None
    return estimator


def value_of(estimator: Params, name: str, text: str, readers: Readers) -> Any:
    """A Param's value out of what stands on the command line: JSON, or a list as a,b,c; crosses as a,b;c,d."""
    converter = estimator.getParam(name).typeConverter
    if converter in readers:
        return readers[converter](text)
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


def optimizer_of(text: str) -> Optimizer:
    """An optimizer of `sparkps.optim` out of its name, its learning rate and numbers by name.

    Examples
    --------
    >>> optimizer_of("adam:0.001") == optimizer_of("Adam(0.001)"), optimizer_of("AdamW(0.01, weight_decay=0.1)").weight_decay
    (True, 0.1)
    """
    found = re.fullmatch(r"(\w+)(?::([^()]+)|\(([^()]+)\))", text.strip())
    rate, *named = (part.strip() for part in ((found[2] or found[3]) if found else "").split(","))
    try:
        made: Optimizer = OPTIMIZERS[found[1].lower() if found else ""](float(rate), **dict(map(_number, named)))
    except (ConfigError, KeyError, TypeError, ValueError) as error:
        names = ", ".join(sorted(OPTIMIZERS))
        why = "" if isinstance(error, KeyError) else f" ({error})"
        raise ValueError(
            f"An optimizer must be one of {names} with its learning rate, as adam:0.001 or AdamW(0.001, weight_decay=0.01). Got"
            f" {text!r}{why}"
        ) from None
    return made


def _number(text: str) -> tuple[str, float | bool]:
    name, _, value = text.partition("=")
    return name.strip(), {"true": True, "false": False}[value.strip().lower()] if value.strip().isalpha() else float(value)


def load(spark: SparkSession, args: argparse.Namespace, classes: Sequence[str]) -> list[DataFrame]:
    """Training and held-out rows, with as many features; `classes` are label columns of classes, the same in both."""
    kinds = {".parquet": "parquet", ".csv": "csv", ".json": "json", ".orc": "orc", "": "parquet"}
    is_table = "/" not in args.input and spark.catalog.tableExists(args.input)
    kind = args.format or ("table" if is_table else kinds.get(pathlib.PurePath(args.input).suffix, "libsvm"))
    sources = [args.input, args.test] if args.test else [args.input]
    reader = spark.read.format(kind).options(**({"header": True, "inferSchema": True} if kind == "csv" else {}))
    frames = [spark.table(source) if kind == "table" else reader.load(source) for source in sources]
    if kind == "libsvm" and args.test:
        size = max(row.features.size for df in frames for row in df.take(1))
        frames = [reader.option("numFeatures", size).load(source) for source in sources]
    for label in classes:
        if not are_numbers_of_classes(frames[0], label):
            indexed = StringIndexer(inputCol=label, outputCol="number of class", stringOrderType="alphabetAsc").fit(frames[0])
            frames = [indexed.transform(df).withColumn(label, functions.col("number of class")).drop("number of class") for df in frames]
    return frames if args.test else frames[0].randomSplit([0.8, 0.2], seed=1)


def are_numbers_of_classes(df: DataFrame, label: str) -> bool:
    """Whether labels are 0, 1, 2, ... already; others, as -1 and 1 or names, are numbered in the order of their names."""
    if not isinstance(df.schema[label].dataType, NumericType):
        return False
    value = functions.col(label)
    return df.where((value < 0) | (value != functions.floor(value))).isEmpty() and not df.where(value == 0).isEmpty()


def figures(scored: DataFrame, metrics: Sequence[tuple[Any, str]], label: str) -> str:
    """Metrics of rows that were scored, in one line."""
    return ", ".join(f"{name} {evaluator(labelCol=label, metricName=name).evaluate(scored):.4f}" for evaluator, name in metrics)
