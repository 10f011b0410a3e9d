"""Python workers of a local Spark, started ahead: while the tier starts and the driver plans, not when the first ranks wait for them.

Spark starts a Python worker at the first task that needs one, which takes two seconds with all that a rank imports, and keeps it
for later tasks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from threading import Event
from typing import Any

from sparkps.driver_bridge.jobs import SparkJob

#: At most so many: idle ones cost memory.
MOST_WORKERS = 8


def start_python_workers(spark: Any) -> Event:
    """Run one tiny Spark job in the background that leaves Python workers behind. Does nothing on a cluster.

    Parameters
    ----------
    spark : SparkSession

    Returns
    -------
    threading.Event
        Set when the job is over, however it ended: what became of it does not matter to anybody.
    """
    context = spark.sparkContext
    if not re.fullmatch(r"local(\[.*\])?", context.master):
        nothing_to_do = Event()
        nothing_to_do.set()
        return nothing_to_do
    count = min(context.defaultParallelism, MOST_WORKERS)

    def work() -> None:
        context.parallelize(range(count), count).mapPartitions(_import_all).collect()

    return SparkJob(spark, "sparkps-prestart", "sparkps: start of Python workers", work).start().done


def _import_all(rows: Iterator[Any]) -> Iterator[Any]:
    """Imports what a rank needs."""
    import pyarrow.parquet  # noqa: F401 - the imports are the work

    import sparkps.driver_bridge.worker  # noqa: F401

    yield from rows


__all__ = ["MOST_WORKERS", "start_python_workers"]
