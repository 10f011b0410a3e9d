"""Files for what does not fit in memory: made where they are needed, whole or not at all, and told by name when they fail."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Callable
from contextlib import closing

import numpy as np
import pyarrow as pa
import pytest

from sparkps.driver_bridge.input.batches import Batches
from sparkps.errors import GroupError
from sparkps.mllib.data.store import Chunk, Spill
from sparkps.spill import SpilledBatches, SpillFile
from tests.harness.disks import no_file_larger_than

BATCH = pa.RecordBatch.from_pydict({"x": [1, 2, 3]})


def test_a_spill_file_gives_back_what_was_appended(tmp_path: pathlib.Path) -> None:
    file = SpillFile(str(tmp_path / "made"))
    assert [file.append(b"abc"), file.append(memoryview(b"defgh")), file.append(b"")] == [0, 3, 8]
    assert (bytes(file.read(0, 3)), bytes(file.read(4, 4)), file.size) == (b"abc", b"efgh", 8)
    assert list((tmp_path / "made").iterdir()) == []
    file.close()
    file.close()


def test_half_an_append_is_none(tmp_path: pathlib.Path) -> None:
    file = SpillFile(str(tmp_path))
    file.append(b"a" * 1000)
    with no_file_larger_than(2000), pytest.raises(GroupError, match="File too large"):
        file.append(b"b" * 1500)
    assert file.size == 1000
    assert file.append(b"c" * 10) == 1000
    assert bytes(file.read(1000, 10)) == b"c" * 10
    file.close()


def test_the_temporary_directory_is_named_where_no_other_was_set(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    file = SpillFile()
    with no_file_larger_than(10), pytest.raises(GroupError, match="TMPDIR") as caught:
        file.append(b"b" * 100)
    file.close()
    assert caught.value.directory == str(tmp_path)


def test_spilled_batches_come_back_each_with_its_schema(tmp_path: pathlib.Path) -> None:
    batches, other = SpilledBatches(str(tmp_path)), pa.RecordBatch.from_pydict({"y": ["a", None]})
    batches.append(BATCH)
    with no_file_larger_than(batches.nbytes), pytest.raises(GroupError, match="File too large"):
        batches.append(BATCH)
    batches.append(other)
    assert [batches[position] for position in range(len(batches))] == [BATCH, other]
    assert batches.nbytes > BATCH.nbytes
    batches.close()
    assert (len(batches), batches.nbytes) == (0, 0)


# ---- `spark.sparkps.localDir` ------------------------------------------------------------------------------------------


def spill_of_a_train_function(scratch: str) -> object:
    batches = Batches(BATCH.schema, lambda: iter([BATCH]), again=False, budget=0, scratch=scratch)
    with closing(batches):
        return [batch for _ in range(2) for batch in batches] == [BATCH, BATCH]


def spill_of_an_estimator(scratch: str) -> object:
    with closing(Spill(scratch)) as spill:
        spill.append(Chunk(np.ones(1), np.empty(0), np.array([0, 1], np.int32), np.zeros(1, np.int32), np.ones(1, np.float32)))
        return spill[0].labels.tolist() == [1.0]


SPILLS = [spill_of_a_train_function, spill_of_an_estimator]


@pytest.mark.parametrize("spill", SPILLS)
def test_a_local_directory_that_does_not_exist_is_made(tmp_path: pathlib.Path, spill: Callable[[str], object]) -> None:
    scratch = tmp_path / "not" / "there"
    assert spill(str(scratch))
    assert scratch.is_dir()
    assert list(scratch.iterdir()) == [], "its file has no name"


@pytest.mark.parametrize("spill", SPILLS)
def test_a_local_directory_that_cannot_be_made_is_named(tmp_path: pathlib.Path, spill: Callable[[str], object]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GroupError, match=r"'Not a directory' in .*set `spark\.sparkps\.localDir`") as caught:
        spill(str(tmp_path / "file" / "inside"))
    assert caught.value.key == "spark.sparkps.localDir"


@pytest.mark.parametrize("spill", SPILLS)
def test_a_full_local_directory_is_named(tmp_path: pathlib.Path, spill: Callable[[str], object]) -> None:
    with no_file_larger_than(10), pytest.raises(GroupError, match=r"'File too large' in .*bytes are free") as caught:
        spill(str(tmp_path))
    assert caught.value.directory == str(tmp_path)
