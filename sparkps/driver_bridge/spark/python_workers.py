"""Python workers of a local Spark: those of the driver's own Python, and started ahead, while the tier starts and the driver plans.

Spark starts a Python worker at the first task that needs one, which takes two seconds with all that a rank imports, and keeps it
for later tasks.
"""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

from sparkps.driver_bridge.spark.jobs import SparkJob
from sparkps.driver_bridge.spark.master import Master
from sparkps.environment import python_is_named

log = logging.getLogger(__name__)

#: At most so many: idle ones cost memory.
MOST_WORKERS = 8

#: Types of numbers that kernels are loaded for.
_DTYPES = ("float32", "float64")

#: Owners of kernels that most ranks call: those of the client, and what was wanted.
_wanted = dict.fromkeys(("sparkps.kernels.movement", "sparkps.kernels.partition", "sparkps.kernels.rows"))


def want(*owners: str) -> None:
    """Have workers that start later load the kernels of these packages and modules while nobody waits, as far as they are compiled."""
    _wanted.update(dict.fromkeys(owners))


def use_this_python(context: Any) -> None:
    """Let the workers on the driver's own host run the Python of the driver, unless the user has named another one.

    Spark takes the first ``python3`` of the PATH: with a virtual environment that was not activated one without our packages.
    """
    if not Master(context.master).on_this_host or python_is_named() or context.getConf().contains("spark.pyspark.python"):
        return
    taken = shutil.which(context.pythonExec)
    if taken is not None and Path(taken).absolute() == Path(sys.executable).absolute():
        return
    log.info("Spark's Python workers run %s as the driver does, not %s (PYSPARK_PYTHON names another)", sys.executable, taken)
    context.pythonExec = sys.executable


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
    if not Master(context.master).in_driver:
        nothing_to_do = Event()
        nothing_to_do.set()
        return nothing_to_do
    count = min(context.defaultParallelism, MOST_WORKERS)

    def work() -> None:
        context.parallelize(range(count), count).mapPartitions(partial(_make_ready, tuple(_wanted))).collect()

    return SparkJob(spark, "sparkps-python-workers", "sparkps: start of Python workers", work).start().done


def _make_ready(owners: tuple[str, ...], rows: Iterator[Any]) -> Iterator[Any]:
    """Imports what a rank needs, and loads kernels."""
    import pyarrow.compute
    import pyarrow.parquet  # noqa: F401 - the imports are the work

    import sparkps.driver_bridge.groups.rank_task  # noqa: F401
    from sparkps.kernels import ahead

    for dtype in _DTYPES:
        ahead.load_kept(dtype, *owners)
    yield from rows


__all__ = ["MOST_WORKERS", "start_python_workers", "use_this_python", "want"]
