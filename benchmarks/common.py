"""What the benchmarks share: a Spark session, medians, tables and the description of the machine."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import pathlib
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@contextlib.contextmanager
def session(master: str, driver_memory: str = "2g", **conf: object) -> Iterator[SparkSession]:
    """A quiet Spark session on this machine; `driver_memory` counts in the first session of a process only."""
    from pyspark.sql import SparkSession

    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    log = pathlib.Path(__file__).resolve().parent.parent / "conf" / "log4j2.properties"
    builder = SparkSession.builder.master(master).appName("sparkps-benchmark")
    builder = builder.config("spark.driver.memory", driver_memory).config("spark.ui.enabled", "false")
    builder = builder.config("spark.ui.showConsoleProgress", "false")
    builder = builder.config("spark.driver.extraJavaOptions", f"-Dlog4j2.configurationFile={log.as_uri()}")
    for key, value in conf.items():
        builder = builder.config(key, str(value))
    spark = builder.getOrCreate()
    try:
        yield spark
    finally:
        spark.stop()


def median_seconds(call: Callable[[], object], repeats: int) -> float:
    """Median time of `repeats` calls, after one that does not count."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def resident_bytes(pid: int) -> tuple[int, int]:
    """Resident memory of a process: now, and at its highest so far."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return int(fields["VmRSS"].split()[0]) * 1024, int(fields["VmHWM"].split()[0]) * 1024


def machine() -> str:
    """One line: processor, cores, memory, and the versions that matter."""
    model = platform.processor() or platform.machine()
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("pyspark", "numba", "numpy", "pyzmq")
    )
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB; Python {platform.python_version()}, {versions}"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """`rows` as a Markdown table with columns lined up; floats are given two decimals."""
    cells = [list(header), *([f"{c:.2f}" if isinstance(c, float) else str(c) for c in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = ["| " + " | ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in cells]
    lines.insert(1, "|" + "|".join("-" * (w + 1) + ":" for w in widths) + "|")
    return "\n".join(lines)


def count(text: str) -> int:
    """A whole number that may be written as 1e6."""
    return int(float(text))
