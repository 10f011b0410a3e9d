"""What checkpoints of a fit say of it, and which files go when it has ended well."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import numpy as np
import pytest

from sparkps.checkpoints.manifest import DataFile, Manifest, encode, folder_of, manifest_name
from sparkps.consistency import BSP, SSP
from sparkps.errors import CheckpointError, NoCheckpoint
from sparkps.mllib.checkpoints import FitCheckpoints, FitRecord, FitSaver, differences
from sparkps.mllib.classification import LogisticRegression
from sparkps.mllib.data.raw_columns import RawColumns
from sparkps.mllib.data.rows import Columns
from sparkps.mllib.linear.losses.logistic import Logistic
from sparkps.mllib.linear.softmax import Softmax
from sparkps.mllib.solvers.bounds import Bounds
from sparkps.mllib.solvers.job import TrainingJob

JOB = TrainingJob(
    uid="LogisticRegression_1", columns=Columns("label", "features"), objective=Logistic(), solver="adam", max_iter=5, tol=1e-6,
    l1=0.0, l2=0.1, standardization=True, fit_intercept=True, step_size=0.01, batch_size=100, consistency=BSP(), num_workers=2,
    deterministic=False, seed=7,
)  # fmt: skip


def test_a_description_has_what_a_fit_depends_on() -> None:
    was = JOB.described(2)
    assert differences(was, dataclasses.replace(JOB, uid="another", tol=0.5, standardization=False).described(2)) == []
    other = dataclasses.replace(JOB, max_iter=6, l2=0.2, consistency=SSP(2), columns=Columns("label", "x", num_features=9))
    assert differences(was, other.described(3)) == [
        "`featuresCol` was features and is x",
        "`numFeatures` was 0 and is 9",
        "`maxIter` was 5 and is 6",
        "`regParam` was 0.1 and is 0.2",
        "`consistency` was BSP() and is SSP(staleness=2)",
        "`numWorkers` was 2 and is 3",
    ]
    assert "`tol` was not there and is 1e-06" in differences(was, dataclasses.replace(JOB, solver="lbfgs").described(2))


FULL = dataclasses.replace(JOB, solver="lbfgs", standardization=False, any_steps=True)


@pytest.mark.parametrize(
    "more",
    [
        {"any_steps": False}, {"bounds": Bounds(np.zeros((1, 3)))}, {"objective": Softmax(3)}, {"l1": 0.05, "l2": 0.05}, {"tol": 1e-3},
        {"standardization": True}, {"fit_intercept": False}, {"deterministic": True}, {"seed": 1},
        *({"columns": dataclasses.replace(FULL.columns, **each)} for each in (
            {"weight": "w"}, {"offset": "o"}, {"validation": "v"}, {"handle_invalid": "skip"}, {"label": "l"}, {"origin": 2.0},
            {"raw": RawColumns(("town",), buckets=8)},
        )),
    ],
    ids=lambda more: str(more)[:60],
)  # fmt: skip
def test_fits_that_differ_in_one_thing_do_not_go_on_from_each_other(more: dict[str, Any]) -> None:
    quiet = {"early_stopping_rounds": 0, "validation_tol": 0.0}
    was, now = (dataclasses.replace(FULL, **quiet, **each).described(2) for each in ({}, more))
    assert differences(was, now)


def test_numbers_of_an_objective_are_part_of_its_fits() -> None:
    three, four = (dataclasses.replace(FULL, objective=Softmax(each)).described(2) for each in (3, 4))
    assert differences(three, four)


def test_momentum_is_part_of_the_fits_that_use_it() -> None:
    for solver, count in (("adam", 0), ("lbfgs", 0), ("momentum", 1)):
        was, now = (dataclasses.replace(JOB, solver=solver, momentum=each).described(2) for each in (0.9, 0.5))
        assert len(differences(was, now)) == count


def test_a_record_comes_back_out_of_a_manifest() -> None:
    record = FitRecord({"solver": "adam"}, "prefix", b"standing")
    assert FitRecord.of(manifest_of("00000001-aaaaaaaa", record.encoded())) == record
    for other in (b"", b"\xff", FitRecord({}, "p", format=99).encoded()):
        assert FitRecord.of(manifest_of("00000001-aaaaaaaa", other)) is None


def manifest_of(checkpoint: str, extra: bytes, *files: str) -> Manifest:
    named = tuple(DataFile(name, 3) for name in files)
    return Manifest(id=checkpoint, tier="t", time=0.0, seconds=0.0, nbytes=3, tables=(), files=named, segments=(), extra=extra)


def lay(root: pathlib.Path, checkpoint: str, extra: bytes = b"", *, more: tuple[str, ...] = (), manifest: bool = True) -> None:
    """A checkpoint with one file of its own, and files of older ones."""
    own = f"{folder_of(checkpoint)}/0.data"
    (root / own).parent.mkdir(parents=True)
    (root / own).write_bytes(b"abc")
    if manifest:
        (root / manifest_name(checkpoint)).write_bytes(encode(manifest_of(checkpoint, extra, own, *more)))


def left(root: pathlib.Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def job_at(root: pathlib.Path) -> TrainingJob:
    return dataclasses.replace(JOB, checkpoint_dir=str(root), checkpoint_interval=3)


def test_what_a_fit_has_written_goes_and_nothing_else(tmp_path: pathlib.Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    mine = FitRecord(JOB.described(2), "p").encoded()
    lay(tmp_path, "00000001-aaaaaaaa", b"another job's")
    lay(tmp_path, "00000002-aaaaaaaa", b"another job's", manifest=False)  # it may still be written
    lay(tmp_path, "00000003-aaaaaaaa", mine)
    with FitCheckpoints(job_at(tmp_path)) as kept:
        assert kept.prefix == "p"
        kept.begin(2)
        lay(tmp_path, "00000004-aaaaaaaa", mine)
        lay(tmp_path, "00000005-aaaaaaaa", manifest=False)  # given up
        others = "data-00000003-aaaaaaaa/0.data"  # an incremental checkpoint of somebody else rests on it
        lay(tmp_path, "00000006-aaaaaaaa", b"another job's", more=(others,))
        lay(tmp_path, "00000007-aaaaaaaa", mine)
        torn = tmp_path / manifest_name("00000007-aaaaaaaa")
        torn.write_bytes(torn.read_bytes()[:-5])
        kept.remove()
    assert left(tmp_path) == sorted([
        "notes.txt", others,
        "data-00000001-aaaaaaaa/0.data", manifest_name("00000001-aaaaaaaa"), "data-00000002-aaaaaaaa/0.data",
        "data-00000006-aaaaaaaa/0.data", manifest_name("00000006-aaaaaaaa"),
    ])  # fmt: skip


def test_a_fit_goes_on_from_checkpoints_of_its_own_alone(tmp_path: pathlib.Path) -> None:
    """Not from one that `PSContext.checkpoint` has taken while it trained, which does not say where its solver stood."""
    lay(tmp_path, "00000003-aaaaaaaa", FitRecord(JOB.described(2), "p").encoded())
    with FitCheckpoints(job_at(tmp_path)) as kept:
        records = (FitRecord({}, "p").encoded(), FitRecord({}, "q").encoded(), b"")
        assert [kept.is_mine(manifest_of("00000004-aaaaaaaa", extra)) for extra in records] == [True, False, False]


def test_a_directory_belongs_to_one_fit_at_a_time(tmp_path: pathlib.Path) -> None:
    with FitCheckpoints(job_at(tmp_path)) as kept:
        assert kept.prefix.startswith(JOB.uid), "a new fit"
        with pytest.raises(CheckpointError, match="used by one fit at a time"), FitCheckpoints(job_at(tmp_path)):
            pass
    with FitCheckpoints(job_at(tmp_path)):
        pass


def test_checkpoints_of_others_are_refused(tmp_path: pathlib.Path) -> None:
    record = FitRecord(dataclasses.replace(JOB, seed=8).described(2), "p")
    lay(tmp_path, "00000001-aaaaaaaa", record.encoded())
    with FitCheckpoints(job_at(tmp_path)) as kept, pytest.raises(CheckpointError, match="`seed` was 8 and is 7"):
        kept.begin(2)
    lay(tmp_path, "00000002-aaaaaaaa")
    with pytest.raises(CheckpointError, match="not of a fit"), FitCheckpoints(job_at(tmp_path)):
        pass
    for path in tmp_path.glob("manifest-*"):
        path.write_bytes(b"{")
    for _ in range(2):  # the directory is given back
        with pytest.raises(NoCheckpoint), FitCheckpoints(job_at(tmp_path)):
            pass


class Attempt:
    """Notes what is taken."""

    def __init__(self, restored: Manifest | None = None) -> None:
        self.restored = restored
        self.running = self.checkpointer = self
        self.is_over = False
        self.taken: list[FitRecord] = []

    def take(self, extra: bytes, unless: Any) -> bool:
        assert unless() is self.is_over
        self.taken.append(FitRecord.of(manifest_of("00000001-aaaaaaaa", extra)))
        return True


@pytest.mark.parametrize("first", [0, 4])
def test_a_solver_saves_every_so_many_iterations_from_where_it_stands(first: int) -> None:
    record = FitRecord({"solver": "lbfgs"}, "p")
    begun = manifest_of("00000001-aaaaaaaa", FitRecord({}, "p", b"4").encoded())
    attempt: Any = Attempt(begun if first else None)
    saver = FitSaver(attempt, record, 3)
    assert saver.standing == (b"4" if first else None)
    for iteration in range(first, first + 8):
        if saver.is_due(iteration):
            saver.save(iteration, str(iteration).encode())
        assert not saver.is_due(iteration)
    assert attempt.taken == [FitRecord(record.fit, "p", str(first + n).encode()) for n in (3, 6)]


# ---- Params --------------------------------------------------------------------------------------------------------------


def test_params_are_named_and_kept_as_in_pyspark() -> None:
    plain = LogisticRegression()
    assert plain.getCheckpointInterval() == 10
    assert not plain.isDefined(plain.checkpointDir)
    assert plain._job(plain._objective()).checkpoint_dir == ""
    assert "checkpointDir: URL of a directory" in plain.explainParams()
    set_ = LogisticRegression(checkpointDir="/a", checkpointInterval=3)
    assert (set_.getCheckpointDir(), set_.getCheckpointInterval()) == ("/a", 3)
    assert set_.setCheckpointDir("/b").setCheckpointInterval(4) is set_
    job = set_.copy()._job(set_._objective())
    assert (job.checkpoint_dir, job.checkpoint_interval) == ("/b", 4)
    assert set_.copy({set_.checkpointInterval: -1})._job(set_._objective()).checkpoint_dir == ""
    assert set_.setCheckpointDir("")._job(set_._objective()).checkpoint_dir == ""


@pytest.mark.parametrize("interval", [0, -2])
def test_intervals_that_cannot_be_are_refused(interval: int) -> None:
    with pytest.raises(ValueError, match=f"`checkpointInterval` of LogisticRegression must be an int >= 1, or -1.* Got {interval}"):
        LogisticRegression(checkpointInterval=interval)._check()
