"""Row groups shared out over ranks, and files that are not what they were."""

from __future__ import annotations

import pathlib
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sparkps.driver_bridge.input.parquet import ParquetInput, row_groups, share_out
from sparkps.errors import InvalidInput
from tests.harness.fake_webhdfs import FakeWebHdfs


@pytest.fixture
def file(tmp_path: pathlib.Path) -> pathlib.Path:
    pq.write_table(pa.table({"x": range(100)}), tmp_path / "x.parquet", row_group_size=30)
    return tmp_path / "x.parquet"


def shared(file: pathlib.Path, num_workers: int) -> ParquetInput:
    ((groups, schema),) = row_groups([str(file)])
    return ParquetInput(schema, ("x",), share_out(groups, num_workers))


@pytest.mark.parametrize("num_workers", [1, 3, 7, 150])
def test_every_row_goes_to_one_rank_in_its_order(file: pathlib.Path, num_workers: int) -> None:
    there = pickle.loads(pickle.dumps(shared(file, num_workers)))
    read = [[i for batch in there.read(rank) for i in batch.column(0).to_pylist()] for rank in range(num_workers)]
    assert [i for rows in read for i in rows] == list(range(100))
    assert max(map(len, read)) - min(map(len, read)) <= 1


@pytest.mark.parametrize(("rows", "size"), [(100, 25), (60, 30), (100, 100)])
def test_a_file_that_was_written_anew_is_refused(file: pathlib.Path, rows: int, size: int) -> None:
    before = shared(file, 1)
    pq.write_table(pa.table({"x": range(rows)}), file, row_group_size=size)
    with pytest.raises(InvalidInput, match="must stay as it is"):
        list(before.read(0))


def test_rank_that_cannot_open_a_file_says_what_to_set(file: pathlib.Path) -> None:
    shared_out = shared(file, 1)
    file.unlink()
    with pytest.raises(InvalidInput, match=r"Every executor must be able to open.*No such file.*`spark\.sparkps\.parquetReader` to spark"):
        list(shared_out.read(0))


def test_files_by_url_are_read_by_few_large_requests(tmp_path: pathlib.Path) -> None:
    columns = {name: np.random.default_rng(0).random(50_000) for name in "abcd"}
    pq.write_table(pa.table(columns), tmp_path / "x", row_group_size=25_000)
    with FakeWebHdfs() as server:
        server.files["/a b/x"] = (tmp_path / "x").read_bytes()
        ((groups, schema),) = row_groups([f"webhdfs://{server.url.removeprefix('http://')}/a%20b/x"])
        server.asked.clear()
        read = list(ParquetInput(schema, tuple("abcd"), share_out(groups, 1)).read(0))
    np.testing.assert_array_equal(np.concatenate([batch.column(2).to_numpy() for batch in read]), columns["c"])
    assert sum(operation == "READ" for operation, _ in server.asked) <= 4, "the footer, and each row group"
