"""A rank's rows can be read again, within and beyond the memory budget."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest

from sparkps.driver_bridge.input.batches import Batches, input_failure
from sparkps.errors import Fenced, GroupError, InputFailed, InvalidInput
from tests.harness.disks import no_file_larger_than

SCHEMA = pa.schema(
    [
        ("x", pa.int64()),
        ("name", pa.string()),
        ("features", pa.struct([("indices", pa.list_(pa.int32())), ("values", pa.list_(pa.float64()))])),
    ]
)


def some(n: int, start: int = 0) -> pa.RecordBatch:
    xs = range(start, start + n)
    features = [{"indices": [x, x + 1], "values": [0.5 * x, 1.0]} for x in xs]
    return pa.RecordBatch.from_pydict({"x": list(xs), "name": [f"row {x}" for x in xs], "features": features}, SCHEMA)


class Once:
    """A source that may be asked once."""

    def __init__(self, *batches: pa.RecordBatch) -> None:
        self.batches = batches
        self.asked = 0
        self.given = 0

    def __call__(self) -> Iterator[pa.RecordBatch]:
        self.asked += 1
        for batch in self.batches:
            self.given += 1
            yield batch


def once(*, budget: int = 1 << 20, **kwargs) -> tuple[Once, Batches]:
    source = Once(some(100), some(0), some(50, 100), some(7, 150))
    return source, Batches(SCHEMA, source, again=False, budget=budget, **kwargs)


@pytest.mark.parametrize("budget", [0, 6000, 1 << 20])
def test_every_pass_gives_the_same_rows(budget, tmp_path):
    source, batches = once(budget=budget, scratch=str(tmp_path))
    want = pa.Table.from_batches([b for b in source.batches if b.num_rows])
    for _ in range(3):
        got = list(batches)
        assert pa.Table.from_batches(got).equals(want)
        for batch in got:
            batch.validate(full=True)
    assert source.asked == 1
    assert (batches.spilled_bytes > 0) == (budget < 1 << 20)
    assert not list(tmp_path.iterdir()), "the file has no name, so that nothing stays behind"
    batches.close()


def test_first_pass_streams():
    source, batches = once()
    next(iter(batches))
    assert source.given == 1


def test_a_pass_that_was_broken_off_loses_nothing():
    _, batches = once(budget=0)
    for _ in batches:
        break
    assert [b.num_rows for b in batches] == [100, 50, 7]
    assert [b.num_rows for b in batches] == [100, 50, 7]
    batches.close()


def test_two_passes_at_once():
    _, batches = once()
    assert [(a.num_rows, b.num_rows) for a, b in zip(batches, batches, strict=True)] == [(100, 100), (50, 50), (7, 7)]


def test_stream_keeps_nothing_and_says_so():
    source, batches = once()
    assert [b.num_rows for b in batches.stream()] == [100, 50, 7]
    with pytest.raises(InvalidInput, match="stream"):
        list(batches)
    with pytest.raises(InvalidInput, match="stream"):
        list(batches.stream())
    assert source.asked == 1


def test_stream_after_a_pass_reads_what_was_kept():
    _, batches = once()
    assert [b.num_rows for b in batches] == [b.num_rows for b in batches.stream()]


def test_a_source_that_can_be_asked_again_is():
    source = Once(some(3), some(4))
    batches = Batches(SCHEMA, source, again=True, budget=0)
    assert [b.num_rows for b in batches] == [b.num_rows for b in batches] == [b.num_rows for b in batches.stream()]
    assert source.asked == 3
    assert batches.spilled_bytes == 0


def test_no_rows_still_have_a_schema():
    batches = Batches(SCHEMA, Once(), again=False, budget=0)
    assert list(batches) == []
    assert batches.schema == SCHEMA


def test_a_rank_that_must_stop_stops_between_batches():
    def stop() -> None:
        raise Fenced("taken over")

    _, batches = once(check=stop)
    with pytest.raises(Fenced):
        list(batches)


# ---- disks -------------------------------------------------------------------------------------------------------------


def test_the_directory_of_spilled_rows_is_made(tmp_path):
    _, batches = once(budget=0, scratch=str(tmp_path / "new" / "below"))
    assert sum(batch.num_rows for batch in batches) == 157
    assert not list((tmp_path / "new" / "below").iterdir())
    batches.close()


def test_a_full_disk_is_named_and_never_passes_for_all_rows(tmp_path):
    source, batches = once(budget=0, scratch=str(tmp_path))
    with no_file_larger_than(batches_bytes := 4096):
        with pytest.raises(GroupError, match=r"File too large.*bytes are free.*`spark\.sparkps\.localDir`") as caught:
            list(batches)
    assert caught.value.directory == str(tmp_path)
    assert caught.value.key == "spark.sparkps.localDir"
    assert batches.spilled_bytes < batches_bytes
    with pytest.raises(GroupError, match="File too large"):  # room again, but the batch is gone
        list(batches)
    assert source.asked == 1
    assert not list(tmp_path.iterdir())
    batches.close()


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    _, batches = once(budget=0, scratch=str(tmp_path / "file" / "below"))
    with pytest.raises(GroupError, match=r"Not a directory.*`spark\.sparkps\.localDir`"):
        list(batches)


def test_a_source_that_failed_once_never_passes_for_all_rows():
    def source():
        yield some(100)
        raise OSError("gone")

    batches = Batches(SCHEMA, source, again=False, budget=1 << 20)
    for _ in range(2):
        with pytest.raises(OSError, match="gone"):
            list(batches)


def test_what_broke_the_input_is_found_behind_any_other_error() -> None:
    broken = InputFailed("the rows end")
    wrapped = ValueError("mine")
    wrapped.__cause__ = broken
    assert input_failure(wrapped) is broken
    assert input_failure(broken) is broken
    own_cause = ValueError("boom")
    own_cause.__cause__ = own_cause
    assert input_failure(own_cause) is None
    assert input_failure(None) is None
