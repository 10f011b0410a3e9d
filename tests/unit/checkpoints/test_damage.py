"""A checkpoint that is torn, truncated or corrupted is refused by name, and the newest sound one is used."""

from __future__ import annotations

import contextlib
import itertools
import logging
import pathlib
from collections.abc import Callable

import pytest

from sparkps.checkpoints.files import FileInfo, Files, LocalFiles
from sparkps.checkpoints.manifest import manifest_name
from sparkps.checkpoints.reader import read_checkpoint
from sparkps.checkpoints.store import CheckpointStore, Skipped
from sparkps.errors import CheckpointDamaged, CheckpointError, NoCheckpoint
from sparkps.testing.failing_files import FailingFiles, FileFault
from tests.unit.checkpoints.samples import QUICK, SPECS, holds, write

#: What can happen to a file, and whether it shows without reading all of it.
DAMAGES: dict[str, tuple[Callable[[pathlib.Path], object], bool]] = {
    "missing": (lambda path: path.unlink(), True),
    "empty": (lambda path: path.write_bytes(b""), True),
    "half": (lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]), True),
    "one byte less": (lambda path: path.write_bytes(path.read_bytes()[:-1]), True),
    "one byte more": (lambda path: path.write_bytes(path.read_bytes() + b"\0"), True),
    "zeros at the end": (lambda path: path.write_bytes(path.read_bytes()[:-20] + bytes(20)), False),
    "all zeros": (lambda path: path.write_bytes(bytes(path.stat().st_size)), False),
}


def files_of(root: pathlib.Path, checkpoint: str) -> list[pathlib.Path]:
    return [root / manifest_name(checkpoint), *sorted((root / f"data-{checkpoint}").iterdir())]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_and_the_older_checkpoint_is_used(
    tmp_path: pathlib.Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    older = write(tmp_path, 1)
    for place in range(5):
        newer = write(tmp_path, 2, file_bytes=700)
        path = files_of(tmp_path, newer.id)[place]
        spoil, at_once = DAMAGES[damage]
        spoil(path)
        store = CheckpointStore(str(tmp_path), QUICK)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            skipped: list[Skipped] = []
            manifest = next(store.sound(deep=not at_once, skipped=skipped))
        assert manifest.id == older.id
        assert holds(tmp_path, manifest, 1)
        if damage != "missing" or place:  # without a manifest it is no checkpoint
            (found,) = (each for each in skipped if each.checkpoint == newer.id)
            assert found.file == str(path.relative_to(tmp_path))
            assert found.why
            assert any(path.name in line.getMessage() and found.why in line.getMessage() for line in caplog.records)


def test_a_flipped_bit_in_any_byte_of_a_data_file_is_noticed(tmp_path: pathlib.Path) -> None:
    write(tmp_path, 1)
    made = write(tmp_path, 2, buckets=1, nodes=1)
    store = CheckpointStore(LocalFiles(str(tmp_path)), QUICK)
    manifest = store.read(made.id)
    (_, path) = files_of(tmp_path, made.id)
    whole = path.read_bytes()
    (file,) = manifest.files
    for segment in manifest.segments:
        if segment.file < 0:
            continue
        for place in range(segment.offset, segment.offset + segment.length, 7):
            with path.open("r+b") as raw:
                raw.seek(place)
                raw.write(bytes([whole[place] ^ (1 << place % 8)]))
            with pytest.raises(CheckpointDamaged, match=rf"{file.name}.*checksum of '{segment.name}' of bucket 0"):
                store.check_segment(manifest, segment)
            path.write_bytes(whole)
        store.check_segment(manifest, segment)


def test_a_load_names_the_damaged_file(tmp_path: pathlib.Path) -> None:
    made = write(tmp_path, 1)
    path = files_of(tmp_path, made.id)[1]
    DAMAGES["all zeros"][0](path)
    manifest = CheckpointStore(str(tmp_path)).newest_sound()
    with pytest.raises(CheckpointDamaged, match=path.name) as caught:
        holds(tmp_path, manifest, 1)
    assert caught.value.file == str(path.relative_to(tmp_path))


def test_reading_goes_on_with_the_older_checkpoint_where_damage_shows_late(tmp_path: pathlib.Path) -> None:
    options = {"specs": (SPECS[2],), "buckets": 256, "nodes": 1}
    older, newer = write(tmp_path, 1, **options), write(tmp_path, 2, **options)
    DAMAGES["all zeros"][0](files_of(tmp_path, newer.id)[1])
    assert read_checkpoint(str(tmp_path)).id == older.id
    with pytest.raises(CheckpointDamaged):
        read_checkpoint(str(tmp_path), newer.id)


def test_where_nothing_is_sound_the_error_names_all_that_was_found(tmp_path: pathlib.Path) -> None:
    with pytest.raises(NoCheckpoint, match=r"Got none\. Give the URL"):
        CheckpointStore(str(tmp_path / "nothing")).newest_sound()
    made = [write(tmp_path, 1), write(tmp_path, 2)]
    for each in made:
        DAMAGES["half"][0](tmp_path / manifest_name(each.id))
    with pytest.raises(NoCheckpoint, match=f"{made[1].id}.*{made[0].id}"):
        CheckpointStore(str(tmp_path)).newest_sound()


def test_a_read_that_fails_once_is_no_damage(tmp_path: pathlib.Path) -> None:
    write(tmp_path, 1)
    manifest = CheckpointStore(str(tmp_path)).newest_sound()
    for fault in ("flipped", "truncated", "error"):
        files = FailingFiles(LocalFiles(str(tmp_path)), [FileFault(fault, at=3, verb="read")], seed=1)
        assert holds(files, manifest, 1)
        assert [each[2] for each in files.failed] == [fault]


class LateFiles(LocalFiles):
    """Others remove a checkpoint between the listing and the reading."""

    def entries(self, folder: str = "", deep: bool = False) -> list[FileInfo]:
        found = super().entries(folder, deep)
        for entry in super().entries(deep=True):
            if "00000002" in entry.name:
                self.delete(entry.name)
        return found


def test_a_checkpoint_that_vanishes_meanwhile_is_passed_over(tmp_path: pathlib.Path) -> None:
    older = write(tmp_path, 1)
    write(tmp_path, 2)
    assert CheckpointStore(LateFiles(str(tmp_path)), QUICK).newest_sound().id == older.id


# ---- a file system that fails at every call --------------------------------------------------------------------------------


def attempt(files: Files, root: pathlib.Path, older: str, **options: bool) -> bool:
    """Take a second checkpoint on a failing file system; whether it is there. Sound or not, the newest sound one restores."""
    made = None
    with contextlib.suppress(CheckpointError):
        made = write(files, 2, file_bytes=700, threads=1, **options)
    store = CheckpointStore(str(root), QUICK)  # the fault is over: somebody restores
    manifest = store.newest_sound()
    if made is not None:
        assert manifest.id == made.id
    newest = 1 if manifest.id == older else 2
    store.verify(manifest, deep=True)
    assert holds(root, manifest, newest)
    return made is not None


@pytest.mark.parametrize("fault", ["truncated", "dropped"])
def test_a_look_at_sizes_finds_what_was_not_written(tmp_path: pathlib.Path, fault: str) -> None:
    for at in range(1, 5):
        root = tmp_path / str(at)
        older = write(root, 1)
        files = FailingFiles(LocalFiles(str(root)), [FileFault(fault, at, verb="write")], seed=at)
        assert attempt(files, root, older.id, read_back=False)
        assert files.failed


@pytest.mark.parametrize("fault", ["error", "torn", "truncated", "dropped", "flipped", "killed"])
@pytest.mark.parametrize("times", [1, 0], ids=["once", "for ever"])
def test_a_failing_file_system_leaves_a_sound_checkpoint_or_an_error_and_the_older_one(
    tmp_path: pathlib.Path, fault: str, times: int
) -> None:
    there = []
    for at in itertools.count(1):
        root = tmp_path / str(at)
        older = write(root, 1)
        files = FailingFiles(LocalFiles(str(root)), [FileFault(fault, at, times)], seed=at)
        there.append(attempt(files, root, older.id))
        if not files.failed:
            break
    assert len(there) > 10
    assert there[-1]
    if times == 1 and fault != "killed":
        assert all(there), f"one {fault} is mended; it was not at calls {[n + 1 for n, ok in enumerate(there) if not ok]}"
    elif fault in ("error", "killed"):
        assert not any(there[:-2])
