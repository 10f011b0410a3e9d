"""`LogisticRegression(checkpointDir=...)`: a fit that was disturbed goes on from its last checkpoint, and ends as if it had not been."""

from __future__ import annotations

import logging
import pathlib
import shutil

import pytest
from pyspark.ml import Pipeline
from pyspark.ml.linalg import DenseMatrix, Vectors

from sparkps import PSContext
from sparkps.checkpoints.store import CheckpointStore
from sparkps.errors import CheckpointError, ConfigError, NoCheckpoint, SparkPSError, WorkerFailed
from sparkps.mllib.checkpoints import FitRecord
from sparkps.mllib.classification import LogisticRegression
from tests.harness.cases import cases
from tests.harness.fits import FITS, SCHEMA, bits_of, labelled
from tests.harness.stateful_training import Killing, fail
from tests.harness.striking_loss import StrikingLogistic

#: Each test starts tiers of its own.
pytestmark = pytest.mark.timeout(240)

WENT_ON = "goes on after clock"

INF = float("inf")


@pytest.fixture(scope="module")
def rows(spark, tmp_path_factory):
    return written(spark, tmp_path_factory.mktemp("rows") / "parquet", labelled())


def written(spark, path, made):
    spark.createDataFrame(made, SCHEMA).repartition(2).write.parquet(str(path))
    return spark.read.parquet(str(path))


@pytest.fixture(scope="module")
def undisturbed(spark, rows):
    """Of a solver: the bits of a fit without checkpoints. Outside of any tier."""
    known = {}

    def of(solver):
        if solver not in known:
            with PSContext(spark, num_nodes=2):
                known[solver] = bits_of(estimator(solver).fit(rows))
        return known[solver]

    return of


def estimator(solver, url="", interval=1, **more):
    given = {**FITS[solver], **more}
    made = LogisticRegression(solver=solver, numWorkers=2, **given)
    return made.setCheckpointDir(str(url)).setCheckpointInterval(interval) if url else made


def striking(made, strike, tmp_path, seconds=0.02):
    loss = StrikingLogistic(strike, str(tmp_path / "mark"), made.getCheckpointDir(), seconds)
    made._objective = lambda: loss
    return made


def failed_fit(spark, rows, solver, tmp_path, nodes=2, **more):
    """The directory of checkpoints that a fit has left which was ended by a rank."""
    url = tmp_path / "checkpoints"
    with PSContext(spark, num_nodes=nodes) as ps:
        with pytest.raises(WorkerFailed, match="struck"):
            striking(estimator(solver, url, **more), fail, tmp_path).fit(rows)
        assert ps.status()["tables"] == [], "they are dropped"
    assert CheckpointStore(str(url)).ids()
    return url


def again(solver, url, tmp_path, **more):
    """The same fit, which is not struck a second time."""
    return striking(estimator(solver, url, **more), fail, tmp_path)


@pytest.mark.parametrize("solver", cases(["lbfgs", "adam"], long=sorted(FITS.keys() - {"lbfgs", "adam"})))
def test_a_fit_that_failed_goes_on_in_another_tier_bit_for_bit(spark, rows, undisturbed, tmp_path, caplog, solver):
    expected = undisturbed(solver)
    url = failed_fit(spark, rows, solver, tmp_path, nodes=3)
    with PSContext(spark, num_nodes=2, replication=2) as ps:
        other = ps.sparse_table("other", dim=1)
        other.assign([7], [[2.5]])
        with caplog.at_level(logging.WARNING, "sparkps"):
            model = again(solver, url, tmp_path).fit(rows)
        assert WENT_ON in caplog.text
        assert bits_of(model) == expected
        assert other.pull([7]).tolist() == [[2.5]]
        assert [table["name"] for table in ps.status()["tables"]] == ["other"]
    assert [path for path in url.rglob("*") if path.is_file()] == [], "checkpoints that have served are removed"


@pytest.mark.parametrize("centred", cases([True], long=[False]))
def test_a_fit_under_bounds_that_failed_goes_on_bit_for_bit(spark, rows, tmp_path, caplog, centred):
    bounds = {"lowerBoundsOnCoefficients": DenseMatrix(1, 60, [-0.3, -INF, -2.0] * 20)}
    if not centred:
        bounds["upperBoundsOnIntercepts"] = Vectors.dense([-0.1])
    with PSContext(spark, num_nodes=2):
        expected = bits_of(estimator("lbfgs", **bounds).fit(rows))
    url = failed_fit(spark, rows, "lbfgs", tmp_path, nodes=1, **bounds)
    with PSContext(spark, num_nodes=2), caplog.at_level(logging.WARNING, "sparkps"):
        model = again("lbfgs", url, tmp_path, **bounds).fit(rows)
    assert WENT_ON in caplog.text
    assert bits_of(model) == expected


@pytest.mark.parametrize(("solver", "every_node"), cases([("lbfgs", True), ("adam", False)], long=[("lbfgs", False)]))
def test_lost_buckets_roll_a_fit_back_to_its_last_checkpoint(spark, rows, undisturbed, tmp_path, caplog, solver, every_node):
    expected = undisturbed(solver)
    with PSContext(spark, num_nodes=2) as ps:
        other = ps.sparse_table("other", dim=1)
        other.assign(range(100), [[1.5]] * 100)
        pids = [node["pid"] for node in ps.status()["nodes"]]
        strike = Killing(pids if every_node else pids[:1])
        with caplog.at_level(logging.WARNING, "sparkps"):
            model = striking(estimator(solver, tmp_path / "checkpoints"), strike, tmp_path).fit(rows)
        assert (tmp_path / "mark").exists()
        assert "rolled back" in caplog.text
        assert bits_of(model) == expected
        assert ps.status()["state"] == "ready"
        assert (other.pull(range(100)) == 1.5).all(), "other tables have lost buckets, too, and got them back"


def test_a_lost_node_ends_a_fit_without_checkpoints(spark, rows, tmp_path):
    kept = failed_fit(spark, rows, "adam", tmp_path)  # so that the strike finds a checkpoint
    (tmp_path / "mark").unlink()
    with PSContext(spark, num_nodes=2) as ps:
        made, strike = estimator("adam"), Killing([ps.status()["nodes"][0]["pid"]])
        made._objective = lambda: StrikingLogistic(strike, str(tmp_path / "mark"), str(kept), 0.02)
        with pytest.raises(SparkPSError):
            made.fit(rows)
    assert (tmp_path / "mark").exists()


@pytest.mark.parametrize("consistency", ["ssp", "asp"])
def test_without_a_common_clock_a_fit_goes_on_and_learns(spark, tmp_path, caplog, consistency):
    easy = written(spark, tmp_path / "easy", labelled(plain=True))
    more = {"consistency": consistency, "staleness": 2}
    url = failed_fit(spark, easy, "adam", tmp_path, **more)
    with PSContext(spark, num_nodes=1), caplog.at_level(logging.WARNING, "sparkps"):
        model = again("adam", url, tmp_path, **more).fit(easy)
    assert WENT_ON in caplog.text
    history = model.summary.objectiveHistory
    assert len(history) == FITS["adam"]["maxIter"]
    assert history[-1] < 0.8 * history[0]


# ---- checkpoints of others -----------------------------------------------------------------------------------------------


def test_checkpoints_of_another_fit_are_refused_by_what_differs(spark, rows, tmp_path):
    url = failed_fit(spark, rows, "adam", tmp_path)
    before = CheckpointStore(str(url)).ids()
    with PSContext(spark, num_nodes=1) as ps:
        with pytest.raises(CheckpointError, match="`maxIter` was 8 and is 9, `seed` was 3 and is 4: fit with the same Params"):
            again("adam", url, tmp_path, maxIter=9, seed=4).fit(rows)
        with pytest.raises(CheckpointError, match="`solver` was adam and is lbfgs"):
            again("lbfgs", url, tmp_path).fit(rows)
        with pytest.raises(CheckpointError, match="`loss` was"):
            estimator("adam", url).fit(rows)
        fewer = written(spark, tmp_path / "fewer", labelled(900))
        with pytest.raises(CheckpointError, match=r"rows of rank \d must be those .* rows \d+ then and \d+ now.*`checkpointDir`"):
            again("adam", url, tmp_path).fit(fewer)
        assert ps.status()["tables"] == []
    assert CheckpointStore(str(url)).ids()[: len(before)] == before, "nobody else's work is touched"


def test_checkpoints_that_are_not_of_a_fit_are_refused(spark, rows, tmp_path):
    with PSContext(spark, num_nodes=1) as ps:
        ps.checkpoint(str(tmp_path / "of-a-tier"))
        with pytest.raises(CheckpointError, match="They are not of a fit"):
            estimator("adam", tmp_path / "of-a-tier").fit(rows)
        with pytest.raises(ConfigError):
            estimator("adam", "nonsense://x").fit(rows)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-10])


def test_damaged_checkpoints_are_not_taken_for_none(spark, rows, undisturbed, tmp_path):
    expected = undisturbed("lbfgs")
    url = failed_fit(spark, rows, "lbfgs", tmp_path)
    whole = shutil.copytree(url, tmp_path / "whole")
    for path in url.glob("manifest-*"):
        cut_short(path)
    with PSContext(spark, num_nodes=1), pytest.raises(NoCheckpoint, match="only damaged ones"):
        again("lbfgs", url, tmp_path).fit(rows)
    shutil.rmtree(url)
    shutil.copytree(whole, url)
    newest = max(url.glob("manifest-*"))
    older = shutil.copy(newest, newest.with_name(newest.name.replace("-0000", "-9000")))
    cut_short(pathlib.Path(older))
    with PSContext(spark, num_nodes=1):
        assert bits_of(again("lbfgs", url, tmp_path).fit(rows)) == expected
    assert [path for path in url.rglob("*") if path.is_file() and path != older] == []


# ---- fits that end well ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_checkpoints_change_no_bit_and_the_next_fit_begins_anew(spark, rows, undisturbed, tmp_path, caplog, monkeypatch, solver):
    expected = undisturbed(solver)
    seen = []
    published = CheckpointStore.publish

    def publish(store, manifest):
        seen.append(FitRecord.of(manifest))
        return published(store, manifest)

    monkeypatch.setattr(CheckpointStore, "publish", publish)
    url = tmp_path / "checkpoints"
    with PSContext(spark, num_nodes=2), caplog.at_level(logging.WARNING, "sparkps"):
        slow = striking(estimator(solver, url), None, tmp_path)
        assert bits_of(slow.fit(rows)) == expected
        assert len(seen) >= 1
        assert len({record.prefix for record in seen}) == 1
        assert [path for path in url.rglob("*") if path.is_file()] == []
        other = written(spark, tmp_path / "other", labelled(seed=12))
        assert bits_of(estimator(solver, url).fit(other)) != expected
        assert bits_of(estimator(solver, url).fit(rows)) == expected
    assert WENT_ON not in caplog.text


def test_minus_one_disables_checkpoints(spark, rows, undisturbed, tmp_path):
    expected = undisturbed("lbfgs")
    url: pathlib.Path = tmp_path / "checkpoints"
    with PSContext(spark, num_nodes=1):
        assert bits_of(estimator("lbfgs", url, interval=-1).fit(rows)) == expected
    assert not url.exists()


def test_the_params_are_kept_with_the_estimator_and_its_pipeline(spark, tmp_path):
    made = estimator("adam", "/somewhere", interval=4)
    made.save(str(tmp_path / "estimator"))
    Pipeline(stages=[made]).save(str(tmp_path / "pipeline"))
    stages = Pipeline.load(str(tmp_path / "pipeline")).getStages()
    for loaded in (LogisticRegression.load(str(tmp_path / "estimator")), *stages):
        assert (loaded.getCheckpointDir(), loaded.getCheckpointInterval()) == ("/somewhere", 4)
