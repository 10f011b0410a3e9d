"""``sparkps tier start --spark``: the tier is a Spark application of its own, whose executors run the nodes."""

from __future__ import annotations

import argparse

from sparkps.cli import start
from sparkps.config import PREFIX, conf_of
from sparkps.driver_bridge.launchers.executors import ExecutorsTier, prepared
from sparkps.driver_bridge.spark.closures import bring_secrets
from sparkps.driver_bridge.spark.master import Master
from sparkps.driver_bridge.spark.python_workers import use_this_python
from sparkps.errors import ConfigError
from sparkps.secret import TierSecret


def tier_in_spark(arguments: argparse.Namespace, secret: TierSecret) -> ExecutorsTier:
    """A tier whose nodes will run in executors, not started yet.

    Raises
    ------
    ConfigError
        There is no cluster, or it cannot have such a tier.
    """
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.appName("sparkps tier")
    for key, value in arguments.conf:
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    master = spark.sparkContext.master or ""
    if Master(master).in_driver:
        raise ConfigError(
            f"`--spark` needs a cluster, whose executors run the nodes. Got the master {master!r}: submit the command to one"
            " (`spark-submit --master ... jobs/tier.py tier start --spark`), set `--conf spark.master=...`, or leave `--spark` out."
        )
    use_this_python(spark.sparkContext)
    bring_secrets()
    settings = start.settings_of(arguments, {key: value for key, value in conf_of(spark).items() if key.startswith(PREFIX)})
    return prepared(settings, spark, secret)


__all__ = ["tier_in_spark"]
