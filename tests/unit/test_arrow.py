"""Small Arrow columns from Python values."""

from __future__ import annotations

import subprocess
import sys

import pyarrow as pa
import pytest

from sparkps.arrow import bytes_column, int_column, numbers


@pytest.mark.parametrize("values", [[], [0], [-1, 2**31 - 1, 7]])
@pytest.mark.parametrize("kind", [pa.int32(), pa.int64()])
def test_integers(values, kind):
    column = int_column(values, kind)
    column.validate(full=True)
    assert column.type == kind
    assert column.to_pylist() == values


@pytest.mark.parametrize("values", [[], [None], [b""], ["grüße".encode(), None, b"x", *[b"y"] * 9]])
def test_bytes_and_strings(values):
    for kind, want in ((pa.binary(), values), (pa.string(), [None if v is None else v.decode() for v in values])):
        column = bytes_column(values, kind)
        column.validate(full=True)
        assert column.to_pylist() == want


def test_values_of_a_slice():
    assert numbers(int_column([1, 2, 3, 4], pa.int32())[1:3]).tolist() == [2, 3]


def test_no_pandas():
    code = (
        "import sys, pyarrow as pa; from sparkps.arrow import *;"
        "c = [int_column([1], pa.int32()), bytes_column([b'x'], pa.string())];"
        "b = pa.RecordBatch.from_arrays(c, ['a', 'b']); numbers(b.column(0)); sys.exit('pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
