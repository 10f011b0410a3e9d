"""Driver, nodes and Spark's Python workers agree on directories, also where a name is no text."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from sparkps import PSContext
from sparkps.kernels import places


def first_searched(worker, batches):
    """Where a Python worker looks for kernels once it has a session."""
    worker.table("w").pull([1])
    return str(places.searched()[0]), sum(batch.num_rows for batch in batches)


def test_python_workers_look_for_kernels_where_the_driver_keeps_them(spark):
    with PSContext(spark, num_nodes=1) as ps:
        ps.sparse_table("w", dim=1)
        kept_in = str(places.found().kept_in)
        assert list(ps.run(spark.range(0, 10, 1, 2), first_searched, num_workers=2)) == [(kept_in, 5)] * 2


def test_a_temporary_directory_that_is_no_text_serves_groups(spark, monkeypatch):
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as parent:
        bad = Path(parent) / os.fsdecode(b"bad\xff")
        bad.mkdir()
        monkeypatch.setenv("TMPDIR", str(bad))
        monkeypatch.setattr(tempfile, "tempdir", None)
        with PSContext(spark, num_nodes=1) as ps:
            assert tempfile.gettempdir() == str(bad)
            table = ps.sparse_table("w", dim=1)
            table.add([7], [[1.5]])
            assert table.pull([7, 8]).tolist() == [[1.5], [0.0]]
            staged = spark.range(0, 10, 1, 2).repartition(3)
            assert sum(rows for _, rows in ps.run(staged, first_searched, num_workers=2)) == 10
        assert not list(bad.iterdir())
