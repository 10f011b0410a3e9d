"""Rows a second of ranks that read Parquet themselves, and by Spark's scan; from files of this machine and from an HDFS on it.

python -m benchmarks.parquet_reader [--rows 2e6]
"""

from __future__ import annotations

import argparse
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from benchmarks.common import count, machine, session, table
from sparkps import PSContext
from tests.harness.hadoop import HadoopCluster
from tests.harness.hadoop_files import why_not

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

FILES, COLUMNS, WORKERS = 4, 20, 2

#: Names of the readers in `spark.sparkps.parquetReader` and in the report of a run.
READERS = {"files": "parquet", "spark": "spark"}


def write(folder: pathlib.Path, rows: int) -> None:
    """Files of float columns."""
    rng = np.random.default_rng(0)
    for number in range(FILES):
        columns = {f"x{i}": rng.normal(size=rows // FILES).astype(np.float32) for i in range(COLUMNS)}
        pa.parquet.write_table(pa.table(columns), folder / f"part-{number}.parquet", row_group_size=125_000)


def read_all(worker: Any, batches: Any) -> float:
    """Seconds that a rank takes to get its rows."""
    began, seen = time.perf_counter(), 0
    for batch in batches:
        seen += batch.num_rows
    assert seen > 0
    return time.perf_counter() - began


def seconds(ps: PSContext, rows: DataFrame, reader: str, repeats: int) -> float:
    """Median of the time of the slowest rank, after a run that does not count."""
    times: list[float] = []
    for _ in range(repeats + 1):
        ran = ps.run(rows, read_all, num_workers=WORKERS, progress=False)
        assert ran.report.reader == READERS[reader], ran.report.reader
        times.append(max(ran))
    return statistics.median(times[1:])


@contextmanager
def sources(folder: pathlib.Path, rows: int) -> Iterator[dict[str, str]]:
    """URLs of the same files, on this machine and on HDFS."""
    here = folder / "rows"
    here.mkdir()
    write(here, rows)
    with HadoopCluster(folder) as cluster:
        for file in here.iterdir():
            cluster.put(f"/rows/{file.name}", file.read_bytes())
        os.environ["HADOOP_CONF_DIR"] = str(cluster.conf_dir)
        yield {"file:": here.as_uri(), "hdfs:": f"{cluster.hdfs}/rows"}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rows", type=count, default=2_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    if reason := why_not():
        raise SystemExit(f"No cluster can be started here: {reason}.")
    print(machine())
    lines: list[list[object]] = []
    with tempfile.TemporaryDirectory() as folder, sources(pathlib.Path(folder), args.rows) as urls:
        for name, url in urls.items():
            found = {}
            for reader in READERS:
                with (
                    session(f"local[{WORKERS}]", **{"spark.sparkps.parquetReader": reader}) as spark,
                    PSContext(spark, num_nodes=1) as ps,
                ):
                    found[reader] = seconds(ps, spark.read.parquet(url), reader, args.repeats)
            each = [args.rows / 1e6 / taken for taken in found.values()]
            lines.append([name, *each, found["spark"] / found["files"]])
        print(f"load {os.getloadavg()[0]:.1f}; {args.rows:,} rows of {COLUMNS} float32")
    print(table(["", "ranks, Mrows/s", "Spark, Mrows/s", "ratio"], lines))


if __name__ == "__main__":
    main()
