"""Python workers of a local Spark, started ahead: while the tier starts and the driver plans, not when the first ranks wait for them.

Spark starts a Python worker at the first task that needs one, which takes two seconds with all that a rank imports, and keeps it
for later tasks.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Any

from sparkps.driver_bridge.jobs import SparkJob

log = logging.getLogger(__name__)

#: At most so many: idle ones cost memory.
MOST_WORKERS = 8


class Prestart:
    """One tiny Spark job, in the background, that leaves Python workers behind. Does nothing on a cluster.

    Parameters
    ----------
    spark : SparkSession
    """

    def __init__(self, spark: Any) -> None:
        context = spark.sparkContext
        self._job: SparkJob[Any] | None = None
        if re.fullmatch(r"local(\[.*\])?", context.master):
            count = min(context.defaultParallelism, MOST_WORKERS)

            def work() -> None:
                context.parallelize(range(count), count).mapPartitions(_import_all).collect()

            self._job = SparkJob(spark, "sparkps-prestart", "sparkps: start of Python workers", work).start()

    def cancel(self) -> None:
        """End the job if it still runs; what became of it does not matter to anybody."""
        if self._job is not None:
            self._job.cancel()
            log.debug("start of Python workers: %s", self._job.error or "done")
            self._job = None


def _import_all(rows: Iterator[Any]) -> Iterator[Any]:
    """Imports what a rank needs."""

    import sparkps.driver_bridge.worker  # noqa: F401 - the imports are the work

    yield from rows


__all__ = ["MOST_WORKERS", "Prestart"]
