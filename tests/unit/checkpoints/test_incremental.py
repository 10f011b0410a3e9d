"""Changes that lie over the segments of an older checkpoint."""

from __future__ import annotations

import pathlib
from typing import Any

import msgspec
import numpy as np
import pytest

from sparkps.checkpoints.format import BucketRecord, TableChange, TableRecord, changed
from sparkps.checkpoints.loading import load
from sparkps.checkpoints.manifest import Segment, why_impossible
from sparkps.checkpoints.plan import LONGEST_CHAIN, assemble, segment_names, to_rest_on
from sparkps.checkpoints.store import CheckpointStore
from sparkps.checkpoints.writer import BucketWriter
from sparkps.errors import CheckpointDamaged, CheckpointError
from tests.unit.checkpoints.samples import QUICK, SPECS, increment, record, same


def changes_of(bucket: int, seed: int, known: BucketRecord) -> tuple[BucketRecord, BucketRecord]:
    """A record of changes over `known`: two rows of three that were there, two behind, one key more; and what is then there."""
    other = record(bucket, seed, rows=7)
    slots = {table: np.array([0, 2, *range(len(known.tables[table].planes[0]), count)], np.int32) for table, count in ((1, 7), (2, 6))}
    keys = np.concatenate([known.indexes[1], other.indexes[1][5:]])
    changes, tables = {}, dict(known.tables)
    for table, some in slots.items():
        new = other.tables[table]
        changes[table] = TableChange(some, TableRecord(tuple(plane[some] for plane in new.planes), new.step))
        is_new = np.isin(np.arange(len(new.planes[0])), some)[:, None]
        padded = [np.concatenate([old, own[len(old) :]]) for old, own in zip(known.tables[table].planes, new.planes, strict=True)]
        planes = tuple(np.where(is_new, own, old) for own, old in zip(new.planes, padded, strict=True))
        tables[table] = TableRecord(planes, new.step)
    logical: Any = (other.logical_header, other.logical_arrays)
    written = BucketRecord(bucket, {}, {}, *logical, changes=changes, more_keys={1: other.indexes[1][5:]})
    return written, BucketRecord(bucket, {**known.indexes, 1: keys}, tables, *logical)


def test_changes_lie_over_what_an_older_checkpoint_has(tmp_path: pathlib.Path) -> None:
    """Those of a later one take the place of those before, and rest on the same whole; where nothing has changed both stay."""
    full, base = increment(tmp_path, [1], None)
    known, since = record(0, 1), {"t1": 1, "t2": 1, "i1": 1, "t3": 9, "logical": 0}
    store, expected = CheckpointStore(str(tmp_path), QUICK), known
    for number, seed in ((2, 5), (3, 6), (3, 6)):
        versions = {**dict.fromkeys(segment_names(SPECS), 1), "t1": number, "t2": number, "i1": number, "logical": 0}
        checkpoint = store.new_id()
        with BucketWriter(str(tmp_path), checkpoint, 0, SPECS, base=base, patience=QUICK) as writer:
            names = writer.keep(0, versions, since)
            written, after = changes_of(0, seed, known)
            if {"t1", "t2", "i1"} <= names:
                expected = after
            else:
                written = BucketRecord(0, {}, {}, written.logical_header, written.logical_arrays)
            writer.put(written, versions)
            part = writer.finish()
        base = assemble(
            [part], checkpoint=checkpoint, tier="t", tables=SPECS, groups=[], time=0.0, seconds=0.0, base=base, num_buckets=1
        )
        made = store.publish(base)
        found = store.read(made.id)
        store.verify(found, deep=True)
        assert {segment.name for segment in found.segments} == {*segment_names(SPECS), "t1+", "t2+", "i1+"}
        (got,) = load(str(tmp_path), found, [0])
        assert same(got, expected)
        assert {file.name.split("/")[0] for file in found.files} > {f"data-{full.id}"}
    assert len({segment.file for segment in found.segments if segment.file >= 0}) == 3


def test_changes_over_nothing_are_refused(tmp_path: pathlib.Path) -> None:
    _, base = increment(tmp_path, [1], None)
    written, _ = changes_of(0, 5, record(0, 1))
    versions = dict.fromkeys(segment_names(SPECS), 2)
    for since in (None, {"t1": 1, "t2": 1, "i1": 7}):
        with BucketWriter(str(tmp_path), "00000009-00000000", 0, SPECS, base=base, patience=QUICK) as writer:
            writer.keep(0, versions, since)
            with pytest.raises(CheckpointError, match="must lie over a segment of the older checkpoint"):
                writer.put(written, versions)
    others = [each for each in base.segments if each.name != "t1"]
    orphan = msgspec.structs.replace(base, segments=(*others, Segment("t1+", 0)))
    assert why_impossible(orphan) == "segment 't1+' of bucket 0 lies over none"


@pytest.mark.parametrize("slots", [[0, 0, 5, 6], [2, 0, 5, 6], [-1, 2, 5, 6], [0, 2, 6, 7], [0, 2, 5, 7]])
def test_changes_that_do_not_fit_are_damaged(slots: list[int]) -> None:
    """They change some rows in order, and the next ones come behind the last."""
    base, other = record(0, 1).tables[1], record(0, 2, rows=4).tables[1]
    with pytest.raises(CheckpointDamaged, match="changes of a table as it was written"):
        changed(base, TableChange(np.array(slots, np.int32), other))


def test_after_a_while_one_is_full_and_one_that_rests_on_other_files_stays(tmp_path: pathlib.Path) -> None:
    """A bit that has gone bad in a file is in all checkpoints that rest on it: not in all that there are."""
    store, base, chains = CheckpointStore(str(tmp_path), QUICK), None, []
    versions = [1] * 4
    for number in range(2 * LONGEST_CHAIN + 4):
        _, base = increment(tmp_path, versions, to_rest_on(base))
        versions[number % 2] += 1
        chains.append(base.chain)
        store.prune(4e9, keep=2)
        kept = [store.read(each) for each in store.ids()]
        assert len(kept) <= 3
        if number > LONGEST_CHAIN:
            newest = {file.name for file in kept[-1].files}
            assert any(newest.isdisjoint(file.name for file in each.files) for each in kept)
    assert chains[: LONGEST_CHAIN + 3] == [*range(LONGEST_CHAIN + 1), 0, 1]
    damaged = tmp_path / next(file.name for file in kept[-1].files if kept[-1].id not in file.name)
    spoilt = bytearray(damaged.read_bytes())
    spoilt[len(spoilt) // 2] ^= 1
    damaged.write_bytes(spoilt)
    assert [each.id for each in store.sound(deep=True)] == [kept[0].id]
