"""Mini-batch solvers on Criteo-shaped rows: rows per second, and held-out loss over time.

    python -m benchmarks.minibatch                                     every solver, 1, 2 and 4 epochs, BSP
    python -m benchmarks.minibatch --solvers adagrad --consistency ssp

Each line is a fit of its own; its seconds hold everything from the DataFrame to the model, and so do rows/s. The held-out rows
come from the same planted model.
"""

from __future__ import annotations

import argparse
import time

from benchmarks import criteo
from benchmarks.common import count, machine, session, table

SOLVERS = ("sgd", "momentum", "adagrad", "adam", "ftrl")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rows", type=count, default=1_000_000)
    parser.add_argument("--features", type=count, default=1_000_000)
    parser.add_argument("--solvers", nargs="+", choices=SOLVERS, default=list(SOLVERS))
    parser.add_argument("--epochs", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--batch-size", type=int, default=10_000)
    parser.add_argument("--step-size", type=float, help="default: the estimator's")
    parser.add_argument("--consistency", default="bsp")
    parser.add_argument("--master", default="local[2]")
    parser.add_argument("--directory", help="where data sets are kept")
    run(parser.parse_args())


def run(args: argparse.Namespace) -> None:
    """Fit and score every solver with every number of epochs."""
    from pyspark.ml.evaluation import BinaryClassificationEvaluator, MulticlassClassificationEvaluator

    from sparkps import PSContext
    from sparkps.mllib.classification import LogisticRegression

    train = criteo.write(args.rows, args.features, 1, args.directory)
    held_out = criteo.write(args.rows // 10, args.features, 2, args.directory)
    print(machine())
    print(
        f"{train.rows:,} rows, {train.distinct:,} distinct keys, {args.master}, batches of {args.batch_size:,}, {args.consistency}"
    )
    lines = []
    with session(args.master, "4g") as spark, PSContext(spark, num_nodes=2):
        log_loss = MulticlassClassificationEvaluator(metricName="logLoss")  # type: ignore[arg-type]  # a name it lacks a type for
        df, test = spark.read.parquet(train.path), spark.read.parquet(held_out.path)
        for solver in args.solvers:
            for epochs in args.epochs:
                estimator = LogisticRegression(solver=solver, maxIter=epochs, batchSize=args.batch_size, seed=1)
                estimator.setParams(consistency=args.consistency)
                if args.step_size:
                    estimator.setParams(stepSize=args.step_size)
                start = time.perf_counter()
                model = estimator.fit(df)
                seconds = time.perf_counter() - start
                scored = model.transform(test).select("label", "rawPrediction", "probability", "prediction").cache()
                loss = log_loss.evaluate(scored)
                auc = BinaryClassificationEvaluator().evaluate(scored)
                scored.unpersist()
                lines.append(
                    [solver, epochs, seconds, f"{train.rows * epochs / seconds:,.0f}", f"{loss:.4f}", f"{auc:.4f}"]
                )
    print(table(["solver", "epochs", "seconds", "rows/s", "held-out log loss", "AUC"], lines))


if __name__ == "__main__":
    main()
