"""`ps.run` with checkpoints: taken while ranks train, resumed with their positions, rolled back when buckets are lost."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest

from sparkps import ASP, SSP, PSContext
from sparkps.checkpoints.store import CheckpointStore
from sparkps.errors import CheckpointError, ConfigError, WorkerFailed
from sparkps.optim import Adam
from tests.harness.stateful_training import KEYS, Killing, StatefulTraining, fail, has_checkpoint

CLOCKS = 60

#: Each test starts tiers of its own.
pytestmark = pytest.mark.timeout(240)


def made(ps):
    return ps.sparse_table("w", dim=2, dtype="float64", optimizer=Adam(0.1))


@pytest.fixture(scope="module")
def frame(spark, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("rows") / "rows")
    spark.range(0, 1000, 1, 4).write.parquet(path)
    return spark.read.parquet(path)


@pytest.fixture
def expected(spark, frame):
    with PSContext(spark, num_nodes=2) as ps:
        table = made(ps)
        ps.run(frame, StatefulTraining(CLOCKS), num_workers=2)
        return table.pull(KEYS).tobytes()


def test_a_run_that_failed_goes_on_in_another_tier_bit_for_bit(spark, frame, expected, tmp_path):
    url, mark = str(tmp_path / "checkpoints"), str(tmp_path / "mark")
    train = StatefulTraining(CLOCKS, strike=fail, mark=mark, kept=url, seconds=0.01)
    with PSContext(spark, num_nodes=3) as ps:
        made(ps)
        with pytest.raises(WorkerFailed, match="struck"):
            ps.run(frame, train, num_workers=2, checkpoint_dir=url, checkpoint_every=5)
        assert ps.status()["checkpoint"]["url"].endswith("checkpoints")
    kept = CheckpointStore(url).ids()
    assert 1 <= len(kept) <= 3 + 1, "old ones go; one more may stay, of those that share no file with the newest"
    with PSContext(spark, num_nodes=2, replication=2) as ps:
        table = made(ps)
        results = ps.run(frame, train, num_workers=2, checkpoint_dir=url, checkpoint_every=5)
        assert table.pull(KEYS).tobytes() == expected
        assert all(began > 0 for began, _ in results)
        assert results.report.resumed_from == (kept[-1],)
        assert results.report.redone_clocks == 0


def test_without_resume_it_begins_at_the_beginning(spark, frame, tmp_path):
    with PSContext(spark, num_nodes=1) as ps:
        made(ps)
        first = ps.run(frame, StatefulTraining(CLOCKS), num_workers=2, checkpoint_dir=str(tmp_path), checkpoint_every=5)
        assert first.report.checkpoints > 0
        again = ps.run(frame, StatefulTraining(20), num_workers=2, checkpoint_dir=str(tmp_path), resume=False)
        assert [began for began, _ in again] == [0, 0]
        with pytest.raises(CheckpointError, match="'run' of 2 workers in BSP"):
            ps.run(frame, StatefulTraining(20), num_workers=1, checkpoint_dir=str(tmp_path))


def test_each_name_has_checkpoints_of_its_own_in_one_directory(spark, frame, tmp_path):
    url, store = str(tmp_path), CheckpointStore(str(tmp_path))
    with PSContext(spark, num_nodes=1) as ps:
        made(ps)
        mine = ps.checkpoint(url).id
        for _ in range(3):
            for name in ("a", "b"):
                run = ps.run(frame, StatefulTraining(6), num_workers=2, checkpoint_dir=url, name=name, resume=False)
                assert run.report.checkpoints > 0
        newest: dict[str, list[str]] = {"a": [], "b": [], "c": []}
        for manifest in store.sound():
            if manifest.owner is not None:
                newest[manifest.owner.name].append(manifest.id)
        assert [len(ids) for ids in newest.values()] == [3, 3, 0], "each removes its own"
        for name, ids in newest.items():
            again = ps.run(frame, StatefulTraining(6), num_workers=2, checkpoint_dir=url, name=name)
            assert again.report.resumed_from == tuple(ids[:1])
        assert ps.restore(url, id=mine).id == mine


def test_arguments_that_cannot_be_are_refused(spark, frame):
    refused = [
        {"checkpoint_every": 5}, {"checkpoint_seconds": 1.0}, {"resume": True}, {"checkpoint_dir": ""},
        {"checkpoint_dir": "x", "checkpoint_every": 0}, {"checkpoint_dir": "x", "checkpoint_every": 1.5},
        {"checkpoint_dir": "x", "checkpoint_seconds": -1}, {"checkpoint_dir": "x", "resume": 1},
        {"checkpoint_dir": "nonsense://x"},
    ]  # fmt: skip
    with PSContext(spark, num_nodes=1) as ps:
        for arguments in refused:
            with pytest.raises(ConfigError):
                ps.run(frame, StatefulTraining(2), num_workers=1, **arguments)


class Counting:
    """Pushes that depend on no pull: each (rank, clock) is to count once."""

    def __init__(self, clocks: int, mark: str, kept: str) -> None:
        self.clocks, self.mark, self.kept = clocks, mark, kept

    def __call__(self, worker, batches):
        for _ in batches:
            pass
        table = worker.table("c")
        while worker.clock < self.clocks:
            if worker.rank == 0 and worker.clock >= self.clocks // 2 and not pathlib.Path(self.mark).exists() and has_checkpoint(self.kept):
                pathlib.Path(self.mark).touch()
                fail()
            for _ in range(3):
                table.push(KEYS, -np.ones((len(KEYS), 1)))
            worker.tick()
        return worker.clock


@pytest.mark.parametrize("consistency", [SSP(3), ASP])
def test_each_push_counts_once_without_a_common_clock(spark, frame, tmp_path, consistency):
    url, mark = str(tmp_path / "checkpoints"), str(tmp_path / "mark")
    for number, nodes in enumerate((3, 2)):
        with PSContext(spark, num_nodes=nodes) as ps:
            table = ps.sparse_table("c", dim=1, dtype="float64")
            if not number:
                with pytest.raises(WorkerFailed, match="struck"):
                    ps.run(frame, Counting(400, mark, url), 2, consistency, checkpoint_dir=url, checkpoint_seconds=0.2)
                assert CheckpointStore(url).ids()
            else:
                results = ps.run(frame, Counting(400, mark, url), 2, consistency, checkpoint_dir=url, checkpoint_seconds=0.2)
                assert results == [400, 400]
                assert len(results.report.resumed_from) == 1
                assert (table.pull(KEYS) == 2 * 400 * 3).all()


@pytest.mark.parametrize("every_node", [False, True])
def test_lost_buckets_roll_the_run_back_to_its_last_checkpoint(spark, frame, expected, tmp_path, every_node):
    url, mark = str(tmp_path / "checkpoints"), str(tmp_path / "mark")
    with PSContext(spark, num_nodes=2) as ps:
        table = made(ps)
        pids = [node["pid"] for node in ps.status()["nodes"]]
        strike = Killing(pids if every_node else pids[:1])
        train = StatefulTraining(CLOCKS, strike=strike, mark=mark, kept=url, seconds=0.01)
        results = ps.run(frame, train, num_workers=2, checkpoint_dir=url, checkpoint_every=5)
        assert pathlib.Path(mark).exists()
        assert len(results.report.resumed_from) == 1
        (began, _), _ = results
        struck = int(pathlib.Path(mark).read_text())  # all had ticked the clock before; the driver may not have seen that yet
        assert results.report.redone_clocks <= struck - began
        assert table.pull(KEYS).tobytes() == expected
        assert ps.status()["state"] == "ready"
