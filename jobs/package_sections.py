"""Tells the section of a Debian package from its description: 57 classes, word 1- and 2-grams of raw text, one program from file to score.

    spark-submit jobs/package_sections.py debian_packages.parquet
"""

from __future__ import annotations

import argparse
import time

from pyspark.ml.evaluation import MulticlassClassificationEvaluator
from pyspark.ml.feature import IndexToString, StringIndexer
from pyspark.sql import SparkSession, functions

from sparkps import PSContext
from sparkps.mllib.classification import LogisticRegression


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", help="Parquet with the columns package, section and text")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--regParam", type=float, default=1e-4)
    args = parser.parse_args()
    spark = SparkSession.builder.appName("package sections").getOrCreate()
    packages = spark.read.parquet(args.input).select("package", "section", "text")
    sections = StringIndexer(inputCol="section", outputCol="label").fit(packages)
    # A package is always on the same side, whatever else is in the file.
    side = functions.xxhash64("package") % 5 == 0
    train, test = (sections.transform(packages.where(which)) for which in (~side, side))
    estimator = LogisticRegression(inputCols=["text"], textCols=["text"], ngrams=2, numFeatures=1 << 22, family="multinomial")
    estimator.setParams(solver="online", maxIter=args.epochs, regParam=args.regParam)
    with PSContext(spark):
        began = time.monotonic()
        model = estimator.fit(train)
        seconds = time.monotonic() - began
        scored = model.transform(test).cache()
        accuracy = MulticlassClassificationEvaluator(metricName="accuracy").evaluate(scored)
        print(f"{train.count()} packages learned in {seconds:.1f} s; {scored.count()} others: accuracy {accuracy:.4f}")
        named = IndexToString(inputCol="prediction", outputCol="told", labels=sections.labels).transform(scored)
        named.where("told != section").select("package", "section", "told").show(5, truncate=False)


if __name__ == "__main__":
    main()
