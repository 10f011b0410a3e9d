"""Trains any estimator of sparkps.mllib on a file or table, prints how good it is on held-out rows, and saves the model.

Every Param of the estimator is an option of the same name: --regParam 0.01, --inputCols town,weekday. --estimator NAME --help lists them.
"""

from __future__ import annotations

from typing import Any

from pyspark.sql import SparkSession

from by_name import METRICS, estimator_of, figures, load, parser_of
from sparkps import PSContext
from sparkps.mllib import classification, regression

ESTIMATORS: dict[str, Any] = {
    name: getattr(module, name)
    for module in (classification, regression)
    for name in module.__all__
    if hasattr(getattr(module, name), "fit")
}


def main() -> None:
    args = parser_of(__doc__, ESTIMATORS, "LogisticRegression").parse_args()
    estimator = estimator_of(args, ESTIMATORS)
    label, is_classifier = estimator.getLabelCol(), args.estimator in classification.__all__
    spark = SparkSession.builder.appName(f"train {args.estimator}").getOrCreate()
    with PSContext(spark):  # first: what it cannot have is said before anything is read
        train, test = load(spark, args, [label] if is_classifier else [])
        model = estimator.fit(train)
        model.write().overwrite().save(args.output)
        scored = model.transform(test).cache()
        kind = "numbers" if not is_classifier else "two classes" if getattr(model, "numClasses", 2) == 2 else "classes"
        print(f"{scored.count()} held-out rows: {figures(scored, METRICS[kind], label)}\nmodel saved in {args.output}")


if __name__ == "__main__":
    main()
