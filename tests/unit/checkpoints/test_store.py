"""Ids, what is kept and removed, and what an incremental checkpoint rests on."""

from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
from collections.abc import Sequence

import msgspec
import pytest

from sparkps.checkpoints.files import FileInfo, LocalFiles
from sparkps.checkpoints.loading import load
from sparkps.checkpoints.manifest import FORMAT, Checkpoint, Owner, id_order, manifest_name, next_id
from sparkps.checkpoints.patience import Patience, checksum
from sparkps.checkpoints.plan import LEAST_LIVE, Unchanged, assemble, live_shares, segment_names
from sparkps.checkpoints.store import LEFTOVER_SECONDS, CheckpointStore
from sparkps.errors import CheckpointDamaged, CheckpointError
from sparkps.testing.failing_files import FailingFiles, FileFault
from tests.unit.checkpoints.samples import BUCKETS, QUICK, SPECS, holds, increment, record, same, write, write_node

#: All files are older than this.
LATER = 4e9


def age(root: pathlib.Path, pattern: str) -> None:
    for path in root.glob(pattern):
        os.utime(path, (1.0, 1.0))


# ---- ids -------------------------------------------------------------------------------------------------------------------


def test_ids_ascend_also_past_eight_digits() -> None:
    ids = ["00000001-ffffffff", "00000002-00000000", "99999999-ffffffff", "100000000-00000000"]
    mixed = [ids[place] for place in (3, 0, 2, 1)]
    assert sorted(mixed, key=id_order) == ids
    assert next_id(ids, "12345678") == "100000001-12345678"


@pytest.mark.parametrize("wrong", ["", "1", "00000001", "00000001-xyz", "../00000001-aaaaaaaa", "00000001-aaaaaaaa.json"])
def test_what_is_no_id_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="must read like"):
        id_order(wrong)


def test_two_that_write_at_once_make_two_checkpoints(tmp_path: pathlib.Path) -> None:
    store = CheckpointStore(str(tmp_path))
    ids = [store.new_id(), store.new_id()]
    assert len(set(ids)) == 2
    for seed, checkpoint in enumerate(ids):
        parts = [write_node(str(tmp_path), checkpoint, 0, [record(bucket, seed) for bucket in range(BUCKETS)])]
        options = {"tier": "t", "tables": SPECS, "groups": [], "time": 0.0, "seconds": 0.0, "num_buckets": BUCKETS}
        store.publish(assemble(parts, checkpoint=checkpoint, **options))
    assert sorted(store.ids()) == sorted(ids)
    assert all(holds(tmp_path, store.read(checkpoint), seed) for seed, checkpoint in enumerate(ids))
    assert id_order(store.new_id()) > max(map(id_order, ids))


def test_a_manifest_whose_first_attempt_was_torn_counts_once(tmp_path: pathlib.Path) -> None:
    files = FailingFiles(LocalFiles(str(tmp_path)), [FileFault("torn", at=3, verb="write")], seed=1)
    made = write(files, 1)
    assert len(list(tmp_path.glob("manifest-*"))) == 2
    store = CheckpointStore(str(tmp_path), QUICK)
    assert store.ids() == [made.id]
    assert holds(tmp_path, store.newest_sound(), 1)


def test_other_files_beside_checkpoints_are_let_be(tmp_path: pathlib.Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "manifest-of-mine.json").write_text("{}")
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "part.parquet").write_text("mine")
    made = write(tmp_path, 1)
    age(tmp_path, "**/*")
    CheckpointStore(str(tmp_path)).prune(LATER, keep=1)
    others = {path.name for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".data"}
    others -= {manifest_name(made.id)}
    assert others == {"notes.txt", "manifest-of-mine.json", "part.parquet"}
    assert CheckpointStore(str(tmp_path)).newest_sound(deep=True)


# ---- retention -------------------------------------------------------------------------------------------------------------


def test_the_newest_sound_ones_are_kept(tmp_path: pathlib.Path) -> None:
    made = [write(tmp_path, seed) for seed in range(5)]
    (tmp_path / manifest_name(made[4].id)).write_bytes(b"torn")
    store = CheckpointStore(str(tmp_path), QUICK)
    removed = store.prune(LATER - LEFTOVER_SECONDS, keep=2, leftover_seconds=LATER)
    assert {name.partition("-")[2][:17] for name in removed} == {made[0].id, made[1].id}
    assert store.ids() == [each.id for each in made[2:]]
    assert all(holds(tmp_path, store.read(made[seed].id), seed) for seed in (2, 3))
    assert not (tmp_path / f"data-{made[0].id}").exists()
    assert store.prune(LATER, keep=2)
    assert store.ids() == [made[2].id, made[3].id]
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {f"data-{made[2].id}", f"data-{made[3].id}"}


def test_damaged_ones_stay_where_there_are_too_few_sound_ones(tmp_path: pathlib.Path) -> None:
    made = [write(tmp_path, seed) for seed in range(2)]
    (tmp_path / manifest_name(made[1].id)).write_bytes(b"torn")
    age(tmp_path, "**/*")
    store = CheckpointStore(str(tmp_path), QUICK)
    assert store.prune(LATER, keep=3) == []
    assert len(store.ids()) == 2


def test_leftovers_of_a_failed_checkpoint_go_when_they_are_old(tmp_path: pathlib.Path) -> None:
    made = write(tmp_path, 1)
    write_node(str(tmp_path), "00000002-aaaaaaaa", 0, [record(0, 2)])  # nobody wrote its manifest
    store = CheckpointStore(str(tmp_path), QUICK)
    now = max(path.stat().st_mtime for path in tmp_path.rglob("*"))
    assert store.prune(now + LEFTOVER_SECONDS / 2) == []
    (gone,) = store.prune(now + LEFTOVER_SECONDS * 2)
    assert gone.startswith("data-00000002-aaaaaaaa/")
    assert not (tmp_path / "data-00000002-aaaaaaaa").exists()
    assert holds(tmp_path, store.read(made.id), 1)


def test_where_files_have_no_age_leftovers_go_when_newer_checkpoints_are_there(tmp_path: pathlib.Path) -> None:
    class Ageless(LocalFiles):
        def entries(self, folder: str = "", deep: bool = False) -> list[FileInfo]:
            return [FileInfo(entry.name, entry.nbytes, 0.0) for entry in super().entries(folder, deep)]

    write(tmp_path, 1)
    write_node(str(tmp_path), "00000002-aaaaaaaa", 0, [record(0, 2)])
    store = CheckpointStore(Ageless(str(tmp_path)), QUICK)
    assert store.prune(LATER, keep=2) == []
    write_node(str(tmp_path), "00000003-bbbbbbbb", 0, [record(0, 2)])
    made = [write(tmp_path, seed, token=token) for seed, token in ((2, "cccccccc"), (3, "dddddddd"))]
    removed = store.prune(LATER, keep=2)
    assert any("data-00000002-aaaaaaaa/" in name for name in removed)
    assert (tmp_path / "data-00000003-bbbbbbbb").exists()
    assert store.ids() == [each.id for each in made]


@pytest.mark.parametrize("resting", [False, True])
def test_only_checkpoints_of_the_owner_go(tmp_path: pathlib.Path, resting: bool) -> None:
    """Also those of its earlier lives; what those of others rest on stays."""
    store, base = CheckpointStore(str(tmp_path), QUICK), None
    made: dict[str, list[str]] = {"": [], "a": [], "b": []}
    for number, name in enumerate(["b", "", "a", "b", "", "b", "a", "b", "b"]):
        owner = Owner(name, f"life {number // 4}") if name else None
        checkpoint, manifest = increment(tmp_path, [1, 1, number // 3, number], base, owner)
        base = manifest if resting else None
        made[name].append(checkpoint.id)
    assert any(manifest.incremental for manifest in store.sound()) is resting
    age(tmp_path, "**/*")
    removed = store.prune(LATER, keep=2, owner="b")
    assert sorted(name for name in removed if name.startswith("manifest")) == [manifest_name(each) for each in made["b"][:3]]
    assert store.ids() == sorted(made[""] + made["a"] + made["b"][3:])
    for manifest in store.sound():
        store.verify(manifest, deep=True)
    assert len(list(store.sound())) == 6
    if not resting:
        assert not [path for each in made["b"][:3] for path in tmp_path.glob(f"data-{each}/*")]
    assert store.prune(LATER, keep=2, owner="c") == []
    store.prune(LATER, keep=1)
    assert store.ids() == made["b"][-1:], "without an owner: all"


def test_leftovers_go_though_there_are_very_old_checkpoints_of_others(tmp_path: pathlib.Path) -> None:
    class Ageless(LocalFiles):
        def entries(self, folder: str = "", deep: bool = False) -> list[FileInfo]:
            return [FileInfo(entry.name, entry.nbytes, 0.0) for entry in super().entries(folder, deep)]

    increment(tmp_path, [1], None)
    write_node(str(tmp_path), "00000001-ffffffff", 0, [record(0, 2)])
    increment(tmp_path, [1], None, Owner("b"))
    (gone,) = CheckpointStore(Ageless(str(tmp_path)), QUICK).prune(LATER, keep=1, owner="b")
    assert gone.startswith("data-00000001-ffffffff/")


def test_a_manifest_without_an_owner_is_read_and_stays(tmp_path: pathlib.Path) -> None:
    """As all were at first."""
    checkpoint, manifest = increment(tmp_path, [1], None, Owner("b"))
    path = tmp_path / manifest_name(checkpoint.id)
    body = msgspec.json.decode(path.read_bytes())["body"]
    del body["owner"]
    text = msgspec.json.encode(body)
    path.write_bytes(msgspec.json.encode({"format": FORMAT, "crc32": checksum(text), "body": msgspec.Raw(text)}))
    store = CheckpointStore(str(tmp_path), QUICK)
    assert store.read(checkpoint.id) == msgspec.structs.replace(manifest, owner=None)
    increment(tmp_path, [2], None, Owner("b"))
    assert store.prune(LATER, keep=1, owner="b") == []


def test_what_a_checkpoint_that_failed_has_left_goes_with_its_manifests_first(tmp_path: pathlib.Path) -> None:
    made = [write(tmp_path, seed) for seed in range(2)]
    again = tmp_path / manifest_name(made[1].id).replace(".json", ".again1.json")
    again.write_bytes((tmp_path / manifest_name(made[1].id)).read_bytes())

    class Noting(LocalFiles):
        def delete(self, name: str) -> None:
            gone.append(name)
            super().delete(name)

    gone: list[str] = []
    CheckpointStore(Noting(str(tmp_path)), QUICK).discard(made[1].id)
    assert [name.startswith("manifest") for name in gone] == [True, True] + [False] * (len(gone) - 2)
    assert len(gone) > 3
    assert not list(tmp_path.glob(f"*{made[1].id}*"))
    assert holds(tmp_path, CheckpointStore(str(tmp_path)).newest_sound(deep=True), 0)


def test_manifests_go_before_what_they_name(tmp_path: pathlib.Path) -> None:
    for seed in range(4):
        write(tmp_path, seed, file_bytes=700)
    removed = CheckpointStore(str(tmp_path), QUICK).prune(0.0, keep=1)
    assert [name.startswith("manifest") for name in removed] == [True] * 3 + [False] * (len(removed) - 3)
    assert len(removed) > 10


def test_a_search_begins_before_a_checkpoint_that_did_not_restore(tmp_path: pathlib.Path) -> None:
    made = [write(tmp_path, seed) for seed in range(3)]
    store = CheckpointStore(str(tmp_path), QUICK)
    assert store.newest_sound(before=made[2].id).id == made[1].id
    assert [manifest.id for manifest in store.sound(before=made[1].id)] == [made[0].id]


def test_at_least_one_is_kept(tmp_path: pathlib.Path) -> None:
    with pytest.raises(CheckpointError, match="at least 1. Got 0"):
        CheckpointStore(str(tmp_path)).prune(0.0, keep=0)


def test_two_that_prune_at_once_do_no_harm(tmp_path: pathlib.Path) -> None:
    made = [write(tmp_path, seed) for seed in range(4)]

    class Both(LocalFiles):
        """Another one removes everything just before."""

        def delete(self, name: str) -> None:
            CheckpointStore(str(tmp_path), QUICK).prune(0.0, keep=2)
            super().delete(name)

    CheckpointStore(Both(str(tmp_path)), QUICK).prune(0.0, keep=2)
    store = CheckpointStore(str(tmp_path), QUICK)
    assert store.ids() == [made[2].id, made[3].id]
    assert all(holds(tmp_path, store.read(made[seed].id), seed) for seed in (2, 3))


def test_pruning_that_stops_anywhere_leaves_what_is_kept_sound(tmp_path: pathlib.Path) -> None:
    for at in itertools.count(1):
        root = tmp_path / str(at)
        made = chain(root, 4)
        files = FailingFiles(LocalFiles(str(root)), [FileFault("killed", at)], seed=at)
        with contextlib.suppress(CheckpointError):
            CheckpointStore(files, QUICK).prune(0.0, keep=2)
        store = CheckpointStore(str(root), QUICK)
        assert store.newest_sound(deep=True).id == made[-1].id
        store.prune(LATER, keep=2)
        assert store.ids() == [each.id for each in made[2:]]
        for each in made[2:]:
            store.verify(store.read(each.id), deep=True)
        if not files.failed:
            break
    assert at > 10


# ---- incremental -----------------------------------------------------------------------------------------------------------


def chain(root: pathlib.Path, length: int) -> list[Checkpoint]:
    """Checkpoints each of which rests on the one before: one bucket of four changes at a time."""
    versions, base, made = [1] * BUCKETS, None, []
    for number in range(length):
        checkpoint, base = increment(root, versions, base)
        made.append(checkpoint)
        versions[number % 2] += 1
    return made


def test_what_has_not_changed_is_not_written_again(tmp_path: pathlib.Path) -> None:
    full, base = increment(tmp_path, [1, 1, 1, 1], None)
    few, manifest = increment(tmp_path, [1, 2, 1, 1], base)
    none, last = increment(tmp_path, [1, 2, 1, 1], manifest)
    assert (base.incremental, manifest.base, last.base) == (False, full.id, few.id)
    assert 0 < few.bytes < full.bytes / 3
    assert none.bytes == 0
    store = CheckpointStore(str(tmp_path), QUICK)
    for checkpoint, versions in ((full, [1, 1, 1, 1]), (few, [1, 2, 1, 1]), (none, [1, 2, 1, 1])):
        found = store.read(checkpoint.id)
        store.verify(found, deep=True)
        for bucket, got in enumerate(load(str(tmp_path), found, range(BUCKETS))):
            assert same(got, record(bucket, versions[bucket]))


def test_tables_of_a_bucket_change_each_on_its_own(tmp_path: pathlib.Path) -> None:
    _, base = increment(tmp_path, [1], None)
    versions = {**dict.fromkeys(segment_names(SPECS), 1), "t2": 2, "logical": 0}
    kept, changed, under = Unchanged(base).split(0, versions)
    assert under == {}
    assert changed == {"t2", "logical"}
    assert {segment.name for segment in kept} == set(versions) - changed


def test_an_unknown_version_is_always_written(tmp_path: pathlib.Path) -> None:
    _, base = increment(tmp_path, [0], None)
    assert Unchanged(base).split(0, dict.fromkeys(segment_names(SPECS), 0)) == ([], frozenset(segment_names(SPECS)), {})


def test_what_is_left_of_a_file_that_is_mostly_outdated_is_written_anew(tmp_path: pathlib.Path) -> None:
    """So that chains of incremental checkpoints do not hold on to ever more old files."""
    full, base = increment(tmp_path, [1] * 8, None)
    _, base = increment(tmp_path, [2] * 7 + [1], base)
    assert sorted(share < LEAST_LIVE for share in live_shares(base)) == [False, True]
    last, manifest = increment(tmp_path, [2] * 7 + [1], base)
    assert last.bytes > 0
    assert not any(full.id in file.name for file in manifest.files)
    CheckpointStore(str(tmp_path)).prune(LATER, keep=1)
    assert not (tmp_path / f"data-{full.id}").exists()
    assert same(next(load(str(tmp_path), manifest, [7])), record(7, 1))


def test_what_an_old_checkpoint_rested_on_goes_with_it(tmp_path: pathlib.Path) -> None:
    """Though the checkpoint that it was written for went before: nobody waits an hour for that."""
    store = CheckpointStore(str(tmp_path), QUICK)
    full, base = increment(tmp_path, [1, 1, 1, 1], None)
    _, base = increment(tmp_path, [1, 2, 1, 1], base)
    store.prune(LATER, keep=1, leftover_seconds=1e9)
    assert (tmp_path / f"data-{full.id}").exists()
    increment(tmp_path, [5, 5, 5, 5], None)
    store.prune(LATER, keep=1, leftover_seconds=1e9)
    assert not list((tmp_path / f"data-{full.id}").glob("*"))
    store.verify(store.newest_sound(), deep=True)


def test_no_file_goes_that_a_kept_checkpoint_rests_on(tmp_path: pathlib.Path) -> None:
    made = chain(tmp_path, 3)
    store = CheckpointStore(str(tmp_path), QUICK)
    newest = store.read(made[-1].id)
    assert any(made[0].id in file.name for file in newest.files)
    age(tmp_path, "**/*")
    store.prune(LATER, keep=1)
    assert store.ids() == [made[-1].id]
    store.verify(store.newest_sound(), deep=True)
    named = {file.name for file in newest.files}
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.data")} == named


def test_a_checkpoint_whose_base_was_removed_meanwhile_is_an_error(tmp_path: pathlib.Path) -> None:
    _, base = increment(tmp_path, [1, 1], None)
    (path,) = tmp_path.rglob("*.data")
    path.unlink()
    with pytest.raises(CheckpointDamaged, match="is missing"):
        increment(tmp_path, [1, 2], base)
    assert len(CheckpointStore(str(tmp_path)).ids()) == 1


def test_what_others_remove_while_a_manifest_is_written_is_an_error(tmp_path: pathlib.Path) -> None:
    class Racing(LocalFiles):
        def write(self, name: str, chunks: Sequence[object]) -> None:
            super().write(name, chunks)
            if name.startswith("manifest"):
                CheckpointStore(str(tmp_path), QUICK).prune(0.0, keep=1)
                for path in tmp_path.glob("data-00000001-*/*"):
                    path.unlink()

    checkpoint, base = increment(tmp_path, [1, 1, 1], None)
    part = write_node(str(tmp_path), "00000002-aaaaaaaa", 0, [record(bucket, 1) for bucket in range(3)], base=base, versions=1)
    options = {"tier": "t", "tables": SPECS, "groups": [], "time": 0.0, "seconds": 0.0, "base": base, "num_buckets": 3}
    manifest = assemble([part], checkpoint="00000002-aaaaaaaa", **options)
    assert manifest.base == checkpoint.id
    with pytest.raises(CheckpointDamaged, match=f"data-{checkpoint.id}"):
        CheckpointStore(Racing(str(tmp_path)), QUICK).publish(manifest)


def test_versions_of_another_tier_mean_nothing(tmp_path: pathlib.Path) -> None:
    _, base = increment(tmp_path, [1], None)
    options = {"tables": SPECS, "groups": [], "time": 0.0, "seconds": 0.0, "num_buckets": 1}
    with pytest.raises(CheckpointError, match="the same tier, 'other'. Got one of 't'"):
        assemble([], checkpoint="00000009-aaaaaaaa", tier="other", base=base, **options)


def test_damage_of_an_old_file_is_found_through_the_checkpoint_that_rests_on_it(tmp_path: pathlib.Path) -> None:
    made = chain(tmp_path, 2)
    path = next((tmp_path / f"data-{made[0].id}").iterdir())
    path.write_bytes(path.read_bytes()[:-1])
    store = CheckpointStore(str(tmp_path), QUICK)
    with pytest.raises(CheckpointDamaged, match=path.name):
        store.verify(store.read(made[1].id))


def test_a_file_system_that_does_not_answer_is_told_at_the_deadline(tmp_path: pathlib.Path) -> None:
    files = FailingFiles(LocalFiles(str(tmp_path)), [FileFault("slow", at=1, times=0, seconds=0.5)])
    store = CheckpointStore(files, Patience(seconds=0.05, attempt_seconds=0.05, attempts=2, pause=0.0))
    with pytest.raises(CheckpointError, match=r"within 0.05 s. Got 'No answer within .* s' from file:"):
        store.ids()


@pytest.mark.parametrize("fault", ["flipped", "truncated"])
def test_a_manifest_that_was_misread_once_is_sound(tmp_path: pathlib.Path, fault: str) -> None:
    """The newest one was taken for damaged, and removed as a leftover."""
    made = [write(tmp_path, seed) for seed in range(3)]
    url = f"failing+file://{tmp_path}?fault={fault}&at=1&verb=read"
    assert [each.id for each in CheckpointStore(url, QUICK).sound()] == [each.id for each in made[::-1]]
    CheckpointStore(url, QUICK).prune(LATER, keep=2)
    assert CheckpointStore(str(tmp_path)).ids() == [each.id for each in made[1:]]
