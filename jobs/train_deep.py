"""Trains any estimator of sparkps.mllib.deep on a file or table, prints how good it is on held-out rows, and saves the model.

Every Param of the estimator is an option of the same name: --categoricalCols town,weekday, --hiddenUnits 128,64, --optimizer adam:0.001.
--estimator NAME --help lists them. Needs torch: pip install 'sparkps[torch]'.
"""

from __future__ import annotations

import argparse
import pathlib
from contextlib import redirect_stderr
from typing import Any

from pyspark.ml.evaluation import MulticlassClassificationEvaluator
from pyspark.ml.functions import array_to_vector, vector_to_array
from pyspark.sql import DataFrame, SparkSession, functions

from by_name import METRICS, estimator_of, figures, load, optimizer_of, parser_of
from sparkps import PSContext
from sparkps.mllib import deep
from sparkps.mllib.deep.params import an_optimizer

#: Those that bring a module of their own.
ESTIMATORS = {name: getattr(deep, name) for name in deep.__all__ if name.endswith(("Classifier", "Regressor", "Recommender"))}


def arguments() -> argparse.Namespace:
    parser = parser_of(__doc__, ESTIMATORS, "DeepFMClassifier")
    parser.add_argument("--validation", type=float, metavar="SHARE", help="of the training rows: measured after each epoch, not learned")
    parser.add_argument("--plot", metavar="FILE", help="draws the loss of each epoch, as PNG or what the name's ending says")
    parser.add_argument("--terminal", default="/dev/stderr", help="draws progress (default: stderr; of spark-submit a pipe: /dev/tty)")
    return parser.parse_args()


def of_task(scored: DataFrame, place: int, label: str) -> DataFrame:
    """Of a model of several tasks one, as a classifier of two classes adds it."""
    one = vector_to_array(functions.col("probability"))[place]
    both = array_to_vector(functions.array(1 - one, one)).alias("probability")
    return scored.select(label, both, one.alias("rawPrediction"), (one > 0.5).cast("double").alias("prediction"))


def held_out(model: Any, scored: DataFrame, labels: list[str]) -> str:
    """What is told of held-out rows: loss and metrics, of each task."""
    if isinstance(model, deep.YouTubeDNNRecommenderModel):
        return " nothing is measured of a recommender but its loss; --validation tells that of rows set aside"
    loss = (MulticlassClassificationEvaluator, "logLoss")
    if len(labels) > 1:
        of_each, tasks = [loss, *METRICS["two classes"]], enumerate(labels)
        return "".join(f"\n  {label}: {figures(of_task(scored, i, label), of_each, label)}" for i, label in tasks)
    metrics = METRICS["numbers"] if not model.numClasses else [loss, *METRICS["two classes" if model.numClasses == 2 else "classes"]]
    return f" {figures(scored, metrics, labels[0])}"


def main() -> None:
    args = arguments()
    estimator = estimator_of(args, ESTIMATORS, {an_optimizer: optimizer_of})
    labels = list(estimator.getLabelCols()) if estimator.hasParam("labelCols") else [estimator.getLabelCol()]
    spark = SparkSession.builder.appName(f"train {args.estimator}").getOrCreate()
    with PSContext(spark):  # first: what it cannot have is said before anything is read
        train, test = load(spark, args, labels if args.estimator.endswith("Classifier") else [])
        if args.validation:
            train = train.withColumn("set aside", functions.rand(1) < args.validation)
            estimator.setParams(validationIndicatorCol="set aside")
        with pathlib.Path(args.terminal).open("w") as terminal, redirect_stderr(terminal):
            model = estimator.fit(train)
        summary = model.summary
        aside = [f", on the rows for validation {each:.4f}" for each in summary.validationHistory] or [""] * len(summary.objectiveHistory)
        for epoch, (loss, beside) in enumerate(zip(summary.objectiveHistory, aside, strict=False), 1):
            print(f"epoch {epoch}: loss {loss:.4f}{beside}")
        model.write().overwrite().save(args.output)
        scored = model.transform(test).cache()
        print(f"{scored.count()} held-out rows:{held_out(model, scored, labels)}\nmodel saved in {args.output}")
        if args.plot:
            pathlib.Path(args.plot).parent.mkdir(parents=True, exist_ok=True)
            summary.plot("loss", path=args.plot)
            print(f"loss of each epoch drawn in {args.plot}")


if __name__ == "__main__":
    main()
