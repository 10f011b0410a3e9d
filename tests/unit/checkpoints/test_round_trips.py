"""What is written comes back bit by bit, whatever the tables, the number of nodes and the size of files."""

from __future__ import annotations

import io
import pathlib
import tempfile
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparkps.checkpoints import plan
from sparkps.checkpoints.files import LocalFiles
from sparkps.checkpoints.format import (
    LOGICAL,
    BucketRecord,
    TableRecord,
    decode_logical,
    encode_logical,
    encode_table,
    index_segment,
    table_segment,
)
from sparkps.checkpoints.loading import load
from sparkps.checkpoints.manifest import decode, encode, manifest_name
from sparkps.checkpoints.reader import read_checkpoint
from sparkps.checkpoints.store import CheckpointStore
from sparkps.checkpoints.writer import BucketWriter
from sparkps.errors import CheckpointDamaged, CheckpointError, InvalidInput, NoCheckpoint
from sparkps.optim import SGD
from sparkps.specs import NUM_BUCKETS, TableSpec
from sparkps.testing.failing_files import FailingFiles
from tests.unit.checkpoints.samples import BUCKETS, GROUP, QUICK, SPECS, holds, record, same, write, write_node


@st.composite
def table_specs(draw: st.DrawFn) -> tuple[TableSpec, ...]:
    specs = []
    for table in range(1, draw(st.integers(1, 4)) + 1):
        dtype = draw(st.sampled_from(["float32", "float64"]))
        if draw(st.booleans()):
            shape = tuple(draw(st.lists(st.integers(1, 7), min_size=1, max_size=3)))
            specs.append(TableSpec(name=f"d{table}", kind="dense", dim=1, dtype=dtype, shape=shape, table=table))
        else:
            index, dim = draw(st.integers(1, 2)), draw(st.integers(1, 5))
            storage = draw(st.sampled_from(["", "bfloat16", "float16"])) if dtype == "float32" else ""
            specs.append(TableSpec(name=f"s{table}", kind="sparse", dim=dim, dtype=dtype, table=table, index=index, storage=storage))
    return tuple(specs)


@settings(max_examples=40, deadline=None)
@given(
    specs=table_specs(),
    rows=st.sampled_from([0, 1, 2, 17]),
    nodes=st.integers(1, 3),
    file_bytes=st.sampled_from([1, 700, 1 << 20]),
    threads=st.integers(1, 3),
    compression=st.sampled_from(["", "zstd"]),
    seed=st.integers(0, 1 << 30),
)
def test_any_tables_come_back_as_they_were(
    specs: tuple[TableSpec, ...], rows: int, nodes: int, file_bytes: int, threads: int, compression: str, seed: int
) -> None:
    with tempfile.TemporaryDirectory() as url:
        options = {"file_bytes": file_bytes, "threads": threads, "compression": compression}
        made = write(url, seed, specs, nodes, rows=rows, **options)
        manifest = CheckpointStore(url).newest_sound(deep=True)
        assert (manifest.id, manifest.clocks, manifest.groups) == (made.id, {"train": 7}, (GROUP,))
        assert made.bytes == sum(file.nbytes for file in manifest.files)
        assert holds(url, manifest, seed, rows)


def test_every_byte_of_a_full_checkpoint_belongs_to_one_segment(tmp_path: pathlib.Path) -> None:
    write(tmp_path, 1, file_bytes=900)
    manifest = CheckpointStore(str(tmp_path)).newest_sound()
    assert len(manifest.files) > 3
    for number, file in enumerate(manifest.files):
        ends = 0
        for segment in sorted((s for s in manifest.segments if s.file == number), key=lambda s: s.offset):
            assert segment.offset == ends
            ends += segment.length
        assert ends == file.nbytes == (tmp_path / file.name).stat().st_size


def test_a_checkpoint_of_two_nodes_loads_in_any_shares_and_order(tmp_path: pathlib.Path) -> None:
    write(tmp_path, 5, nodes=2)
    manifest = CheckpointStore(str(tmp_path)).newest_sound()
    for shares in ([[3, 1, 0, 2]], [[0, 1], [2, 3]], [[2], [0], [1], [3]], [[], [0, 1, 2, 3]]):
        for share in shares:
            for threads, ahead in ((1, 1), (4, 1 << 20)):
                got = list(load(str(tmp_path), manifest, share, threads=threads, ahead_bytes=ahead))
                assert [each.bucket for each in got] == share
                assert all(same(each, record(each.bucket, 5)) for each in got)


def test_arrays_come_back_aligned_and_cannot_be_written(tmp_path: pathlib.Path) -> None:
    """Kernels take no others; logical time, of any length, lies between the buckets."""
    write(tmp_path, 5, rows=3)
    for got in load(str(tmp_path), CheckpointStore(str(tmp_path)).newest_sound(), range(BUCKETS)):
        arrays = [*got.indexes.values(), *(plane for part in got.tables.values() for plane in part.planes)]
        assert all(each.flags.aligned and each.flags.c_contiguous for each in arrays)
        assert not any(each.flags.writeable for each in arrays if each.size)


def test_a_bucket_is_read_in_one_piece(tmp_path: pathlib.Path) -> None:
    write(tmp_path, 5, nodes=1)
    files = FailingFiles(LocalFiles(str(tmp_path)), [])
    manifest = CheckpointStore(str(tmp_path)).newest_sound()
    assert len(list(load(files, manifest, range(BUCKETS)))) == BUCKETS
    assert files.calls["read"] == BUCKETS


def test_a_load_that_is_given_up_leaves_no_thread(tmp_path: pathlib.Path) -> None:
    """`no_leaks` looks."""
    write(tmp_path, 5)
    manifest = CheckpointStore(str(tmp_path)).newest_sound()
    buckets = load(str(tmp_path), manifest, range(BUCKETS), threads=1)
    assert same(next(buckets), record(0, 5))
    buckets.close()


def test_plain_python_reads_tables_by_name(tmp_path: pathlib.Path) -> None:
    dense = TableSpec(name="dense", kind="dense", dim=1, shape=(40, 9), optimizer=SGD(0.1), table=3)
    specs = (SPECS[0], SPECS[1], dense, SPECS[3])
    made = write(tmp_path, 9, specs, buckets=NUM_BUCKETS, rows=2)
    contents = read_checkpoint(str(tmp_path))
    records = [record(bucket, 9, specs, 2) for bucket in range(NUM_BUCKETS)]
    linear, factors, bias, empty = (contents[spec.name] for spec in specs)
    assert contents.id == made.id
    assert contents.clocks == {"train": 7}
    assert linear.keys.tolist() == np.concatenate([r.indexes[1] for r in records]).tolist()
    assert linear.rows.tobytes() == b"".join(r.tables[1].planes[0].tobytes() for r in records)
    assert linear.state[0].tobytes() == b"".join(r.tables[1].planes[1].tobytes() for r in records)
    assert factors.keys.tolist() == np.concatenate([r.indexes[1][:1] for r in records]).tolist()
    assert (factors.rows.shape, factors.rows.dtype, len(factors.state)) == ((NUM_BUCKETS, 3), np.float64, 2)
    assert (bias.rows.shape, bias.keys.tolist()) == ((40, 9), list(range(360)))
    assert bias.rows.tobytes() == b"".join(r.tables[3].planes[0].tobytes() for r in records)
    assert (empty.keys.shape, empty.rows.shape) == ((0,), (0, 2))
    assert list(read_checkpoint(str(tmp_path), tables=["dense"]).tables) == ["dense"]
    assert isinstance(contents, Mapping)
    assert "dense" in contents
    assert "nowhere" not in contents
    assert contents.get("nowhere") is None
    assert list(contents) == list(contents.keys()) == list(contents.tables)
    assert len(contents) == len(contents.tables)
    assert dict(read_checkpoint(tmp_path))["dense"].rows.shape == contents["dense"].rows.shape
    with pytest.raises(InvalidInput, match="one of .*'linear'"):
        read_checkpoint(str(tmp_path), tables=["nowhere"])


def test_an_older_checkpoint_is_read_by_its_id_and_an_unknown_one_is_named(tmp_path: pathlib.Path) -> None:
    first = write(tmp_path, 1, (SPECS[3],), buckets=NUM_BUCKETS)
    write(tmp_path, 2, (SPECS[3],), buckets=NUM_BUCKETS)
    assert read_checkpoint(str(tmp_path), first.id).id == first.id
    with pytest.raises(NoCheckpoint, match="00000009"):
        read_checkpoint(str(tmp_path), "00000009-aaaaaaaa")


def test_segments_are_arrow_streams_that_need_nothing_of_ours(tmp_path: pathlib.Path) -> None:
    write(tmp_path, 3)
    manifest = CheckpointStore(str(tmp_path)).newest_sound()
    for name, columns in ((table_segment(1), ["row", "state_1"]), (index_segment(1), ["key"])):
        segment = manifest.by_place[2, name]
        data = (tmp_path / manifest.files[segment.file].name).read_bytes()[segment.offset :][: segment.length]
        table = pa.ipc.open_stream(io.BytesIO(data)).read_all()
        assert table.column_names == columns
        assert len(table) == 5
    assert table.column("key").to_pylist() == record(2, 3).indexes[1].tolist()


def test_planes_that_are_not_contiguous_are_written_as_they_look(tmp_path: pathlib.Path) -> None:
    spec = TableSpec(name="w", kind="sparse", dim=2, table=1, index=1)
    wide, keys = np.arange(24, dtype=np.float32).reshape(4, 6), np.arange(8)[::2]
    with BucketWriter(str(tmp_path), "00000001-aaaaaaaa", 0, [spec]) as writer:
        writer.put(BucketRecord(0, {1: keys}, {1: TableRecord((wide[:, ::3],))}))
        part = writer.finish()
    manifest = plan.Manifest(
        id="00000001-aaaaaaaa", tier="t", time=0, seconds=0, nbytes=0, tables=(spec,), files=part.files, segments=part.segments
    )
    (got,) = load(str(tmp_path), manifest, [0])
    assert got.indexes[1].tolist() == [0, 2, 4, 6]
    assert got.tables[1].planes[0].tolist() == wide[:, ::3].tolist()


def test_the_plan_names_segments_as_the_format_does() -> None:
    names = [LOGICAL, index_segment(1), table_segment(1), table_segment(2), table_segment(3), index_segment(2), table_segment(4)]
    assert plan.segment_names(SPECS) == names


@pytest.mark.parametrize("shape", [(3, 2), (3,), (3, 1, 1)])
def test_planes_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(CheckpointError, match="'linear' must be of one length, 1 wide"):
        encode_table(SPECS[0], TableRecord((np.zeros(shape, np.float32),)))


def test_records_that_are_no_part_of_the_checkpoint_are_refused(tmp_path: pathlib.Path) -> None:
    with BucketWriter(str(tmp_path), "00000001-aaaaaaaa", 0, SPECS) as writer:
        with pytest.raises(CheckpointError, match="Got 9 instead"):
            writer.put(BucketRecord(0, {}, {9: TableRecord((np.zeros((1, 1)),))}))
        with pytest.raises(CheckpointError, match="no planes"):
            writer.put(BucketRecord(0, {}, {1: TableRecord(())}))
        with pytest.raises(CheckpointError, match="must hold numbers"):
            writer.put(BucketRecord(0, logical_header={}, logical_arrays=[np.array(["text"])]))


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_garbage_in_place_of_logical_time_is_damage_and_nothing_else(data: st.DataObject) -> None:
    whole = b"".join(encode_logical({"a": [1]}, [np.arange(3), np.ones((2, 2), np.float32)]))
    start = data.draw(st.integers(0, len(whole)))
    noise = data.draw(st.binary(max_size=8))
    for cut in [whole + noise] * bool(noise) + [whole[:start]] * (start < len(whole)):
        with pytest.raises(CheckpointDamaged, match="must be logical time"):
            decode_logical(cut)
    garbage = whole[:start] + noise + whole[data.draw(st.integers(start, len(whole))) :]
    try:
        _, arrays = decode_logical(garbage)
    except CheckpointDamaged:
        return
    assert all(array.dtype.kind in "biuf" for array in arrays), "numbers and nothing else are taken"
    assert sum(array.nbytes for array in arrays) <= len(garbage), "no array is larger than what lies there"


def test_a_manifest_is_told_from_garbage(tmp_path: pathlib.Path) -> None:
    write(tmp_path, 3)
    manifest = CheckpointStore(str(tmp_path)).newest_sound()
    name, whole = manifest_name(manifest.id), encode(manifest)
    assert decode(whole, name, "u") == manifest
    random = np.random.default_rng(1)
    for place in [*range(60), *random.integers(0, len(whole), 300).tolist(), len(whole) - 1]:
        for spoilt in (whole[:place], whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :]):
            with pytest.raises(CheckpointDamaged, match=name):
                decode(spoilt, name, "u")
    with pytest.raises(CheckpointDamaged, match="that of checkpoint"):
        decode(whole, manifest_name("00000009-aaaaaaaa"), "u")
    with pytest.raises(CheckpointDamaged, match="of format 3"):
        decode(whole.replace(b'"format":2', b'"format":3', 1), name, "u")


def test_a_part_that_is_missing_or_there_twice_makes_no_checkpoint(tmp_path: pathlib.Path) -> None:
    options = {"checkpoint": "00000001-aaaaaaaa", "tier": "t", "tables": SPECS, "groups": [], "time": 0.0, "seconds": 0.0}
    part = write_node(str(tmp_path), "00000001-aaaaaaaa", 0, [record(bucket, 1) for bucket in range(2)])
    assert plan.assemble([part], num_buckets=2, **options)
    with pytest.raises(CheckpointError, match=r"nobody wrote beginning with 'i1' of bucket 2"):
        plan.assemble([part], num_buckets=3, **options)
    with pytest.raises(CheckpointError, match="two nodes wrote"):
        plan.assemble([part, part], num_buckets=2, **options)
    with pytest.raises(CheckpointError, match="nobody asked for"):
        plan.assemble([part], num_buckets=2, **{**options, "tables": SPECS[:3]})


def test_a_writer_lets_go_of_what_it_has_written(tmp_path: pathlib.Path) -> None:
    """Memory is bounded: files on their way, the one that is filled, and no more."""
    spec = TableSpec(name="w", kind="sparse", dim=1, table=1, index=1)
    alive: list[int] = []

    class Watched(BucketWriter):
        def _send(self) -> None:
            super()._send()
            alive.append(sum(bool(file.chunks) for _, file in self._done) + len(self._flight))

    with Watched(str(tmp_path), "00000001-aaaaaaaa", 0, [spec], file_bytes=1, threads=2, patience=QUICK) as writer:
        for bucket in range(20):
            writer.put(BucketRecord(bucket, {1: np.arange(1)}, {1: TableRecord((np.ones((1, 1), np.float32),))}))
        writer.finish()
    assert len(alive) == 20
    assert max(alive) <= 2
