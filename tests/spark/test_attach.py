"""Applications attach to a tier that runs already: they train, transform, leave, and come again, side by side with others."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
from pyspark.ml.linalg import Vectors

from sparkps import PSContext
from sparkps.cli.keeper import Keeper
from sparkps.errors import ConfigError, NoCheckpoint, NotAdmitted, TierError
from sparkps.mllib.classification import LogisticRegression
from sparkps.secret import TierSecret, held
from sparkps.secret_files import read_secret_file, write_secret_file
from sparkps.wire.messages.control import AdmitGroup, EndGroup
from tests.harness.leaks import in_files, spellings
from tests.harness.shared_tiers import shared_tier, sparse
from tests.harness.waiting import wait_until

#: A second application has a JVM of its own, which starts beside all else that the machine does.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with shared_tier(tmp_path_factory.mktemp("tier")) as tier:
        yield tier


@pytest.fixture(scope="module", autouse=True)
def _patience(spark):
    """Two applications start their Python workers at once, beside all else that the machine does."""
    spark.conf.set("spark.sparkps.groupStartTimeout", "4m")
    yield
    spark.conf.unset("spark.sparkps.groupStartTimeout")


@pytest.fixture(scope="module")
def rows(spark):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(400, 3))
    y = (x @ [1.0, -2.0, 0.5] + rng.normal(size=400) > 0).astype(float)
    data = [(float(label), Vectors.dense(row)) for label, row in zip(y, x, strict=True)]
    return spark.createDataFrame(data, ["label", "features"]).cache()


def attached(spark, shared, **more: Any) -> PSContext:
    return PSContext(spark, launch="attach", url=shared.url, secret_file=shared.secret_file, **more)


@pytest.fixture
def owner(spark):
    """Sets the owner of the session's tables."""
    yield lambda name: spark.conf.set("spark.sparkps.owner", name)
    spark.conf.unset("spark.sparkps.owner")


#: Another application: when it is told to, it trains through the same estimator, and writes to a table of its own.
OTHER = """
import json, sys
import numpy as np
from pyspark.sql import SparkSession
from pyspark.ml.linalg import Vectors
from sparkps import PSContext
from sparkps.mllib.classification import LogisticRegression
url, secret_file = sys.argv[1:]
spark = (SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").config("spark.driver.host", "127.0.0.1")
    .config("spark.sparkps.attach", url).config("spark.sparkps.secretFile", secret_file).config("spark.sparkps.owner", "bob")
    .config("spark.sparkps.groupStartTimeout", "4m").getOrCreate())
spark.sparkContext.setLogLevel("ERROR")
rng = np.random.default_rng(4)
x = rng.normal(size=(300, 3))
rows = spark.createDataFrame([(float(r @ [1.0, 1.0, 1.0] > 0), Vectors.dense(r)) for r in x], ["label", "features"])
sys.stdin.readline()
with PSContext(spark) as ps:
    before = ps.table("ann/w").pull([1]).tolist()
    model = LogisticRegression(maxIter=10, regParam=0.1).fit(rows)
    shares = model.transform(rows).where("prediction = label").count() / rows.count()
    w = ps.sparse_table("w", dim=1)
    def train(worker, batches):
        for batch in batches:
            worker.table("w").add([worker.rank], [[float(batch.num_rows)]])
        return worker.table("w").name
    names = list(ps.run(rows, train, num_workers=2))
    total = float(w.pull([0, 1]).sum())
print("RESULT " + json.dumps({"before": before, "shares": shares, "names": names, "total": total}))
spark.stop()
"""


def test_two_applications_and_a_plain_program_share_a_tier(spark, shared, rows, owner):
    """This application trains, leaves and comes again while another one trains, and a program without Spark reads."""
    owner("ann")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    other = subprocess.Popen([sys.executable, "-c", OTHER, shared.url, str(shared.secret_file)], text=True, **pipes)
    said: list[str] = []
    ends = threading.Thread(target=lambda: said.extend(other.communicate("now\n")))
    try:
        with attached(spark, shared) as ps:
            ps.sparse_table("w", dim=1).add([1], [[5.0]])
            model = LogisticRegression(maxIter=10, regParam=0.1).fit(rows)
            kept = np.array(model.coefficients.toArray())
            assert model.transform(rows).where("prediction = label").count() > 340
        assert held(shared.running.address.tier_id) is None, "the application has left"
        ends.start()
        fits = 0
        with shared.connect("ann") as program, attached(spark, shared) as ps:
            while fits < 1 or (fits < 3 and ends.is_alive()):
                again = LogisticRegression(maxIter=10, regParam=0.1).fit(rows)
                np.testing.assert_allclose(again.coefficients.toArray(), kept, atol=1e-6)
                fits += 1
            while ends.is_alive():
                assert program.table("w").pull([1, 2]).tolist() == [[5.0], [0.0]]
                ends.join(0.1)
            ps.table("w").add([1], [[1.0]])
            assert program.table("w").pull([1]).tolist() == [[6.0]]
    finally:
        if not ends.is_alive() and other.poll() is None:
            other.kill()
            other.communicate()
    output, errors = said
    assert other.returncode == 0, errors[-3000:]
    result = json.loads(output.partition("RESULT ")[2])
    assert result["before"] == [[5.0]]
    assert result["shares"] > 0.9
    assert (result["names"], result["total"]) == (["bob/w"] * 2, 300.0)
    with shared.connect("ann") as program:
        names = {table["name"] for table in program.tables()}
        assert {"ann/w", "bob/w"} <= names
        assert program.status()["groups"] == []
        assert not [name for name in names if "LogisticRegression" in name and not name.startswith(("ann/", "bob/"))]


def test_what_is_saved_holds_no_secret(spark, shared, rows, owner, tmp_path):
    """Models, estimators and checkpoints of an application that has attached."""
    owner("gina")
    with attached(spark, shared) as ps:
        model = LogisticRegression(maxIter=2, regParam=0.1).fit(rows)
        model.save(str(tmp_path / "model"))
        LogisticRegression(maxIter=2).save(str(tmp_path / "estimator"))
        ps.checkpoint(str(tmp_path / "checkpoints"))
    assert all(any((tmp_path / name).iterdir()) for name in ("model", "estimator", "checkpoints"))
    assert in_files([tmp_path], spellings(read_secret_file(shared.secret_file))) == []


def test_tasks_get_the_secret_with_their_closures(spark, shared, owner):
    """A Python worker of Spark that has never attached pulls rows through a handle that its function has captured."""
    owner("carol")
    with attached(spark, shared) as ps:
        w = ps.sparse_table("udf", dim=1)
        w.add(range(10), np.arange(10.0).reshape(-1, 1))
        found = spark.sparkContext.parallelize(range(10), 2).map(lambda key: float(w.pull([key])[0, 0])).collect()
        assert found == [float(key) for key in range(10)]
        assert ps.table("carol/udf") == w
        assert repr(ps).startswith("<PSContext ")
        assert "2 nodes, active" in repr(ps)
        assert sorted(row.key for row in w.to_dataframe().collect()) == list(range(10))


def test_functions_are_the_owners(spark, shared, owner):
    owner("dave")
    with attached(spark, shared) as ps:
        w = ps.sparse_table("w", dim=1, group="g")
        w.add([1, 2], [[1.0], [2.0]])
        assert ps.function(lambda shard: float(len(shard.keys)), name="count") == "dave/count"
        assert w.call("count") == 2.0
        other = ps.sparse_table("other", dim=1, group="g")
        assert (w.spec.group, other.spec.group) == ("dave/g", "dave/g")
        assert other.call("axpy", alpha=2.0, x="w") is None
        assert other.pull([2]).tolist() == [[4.0]]


@pytest.mark.renews_nodes
def test_the_tier_is_scaled_drained_and_looked_at_by_whoever_has_attached(spark, shared):
    """The process that has started the tier starts nodes that lack, as its keeper does (`tests/unit/cli/test_keeper.py`)."""
    keeper = Keeper(shared.running)
    thread = threading.Thread(target=lambda: [keeper._look() for _ in iter(lambda: keeper._told.wait(0.05), True)])
    thread.start()
    try:
        with attached(spark, shared) as ps:
            ps.scale(3, timeout=60)
            nodes = [node["id"] for node in ps.status()["nodes"] if node["state"] == "up"]
            assert len(nodes) == 3
            ps.drain(nodes[0], timeout=60)
            assert ps.status()["num_nodes"] == 2
    finally:
        keeper.stop()
        thread.join(10)


def test_checkpoints_bring_back_ones_own_tables_alone(spark, shared, owner, tmp_path):
    owner("erin")
    with attached(spark, shared) as ps, shared.connect("finn") as finn:
        mine, others = ps.sparse_table("kept", dim=1), sparse(finn, "kept")
        mine.add([1], [[1.0]])
        others.add([1], [[1.0]])
        ps.checkpoint(tmp_path / "both")
        mine.add([1], [[1.0]])
        others.add([1], [[1.0]])
        ps.restore(tmp_path / "both")
        assert mine.pull([1]).tolist() == [[1.0]]
        assert others.pull([1]).tolist() == [[2.0]]
    owner("nobody")
    with attached(spark, shared) as ps, pytest.raises(NoCheckpoint, match="tables of one's own.*erin/kept"):
        ps.restore(tmp_path / "both")


def test_a_run_resumes_on_a_tier_that_others_use(spark, shared, rows, owner, tmp_path):
    owner("gina")

    def train(worker, batches):
        w = worker.table("steps")
        while worker.clock < 6:
            if worker.clock == 4 and worker.rank == 0 and w.pull([9])[0, 0] == 0:
                raise RuntimeError("halfway")
            w.add([worker.rank], [[1.0]])
            worker.tick(b"")

    with attached(spark, shared) as ps:
        w = ps.sparse_table("steps", dim=1)
        options: dict[str, Any] = {"num_workers": 2, "checkpoint_dir": tmp_path / "run", "checkpoint_every": 2, "name": "gina's"}
        with pytest.raises(Exception, match="halfway"):
            ps.run(rows, train, **options)
        assert list((tmp_path / "run").iterdir())
        w.assign([9], [[1.0]])
        # what the run restores is older: the mark is set again by whoever runs it, through a table of its own
        flag = ps.sparse_table("flag", dim=1)
        flag.add([1], [[1.0]])

        def goes_on(worker, batches):
            w = worker.table("steps")
            while worker.clock < 6:
                w.add([worker.rank], [[1.0]])
                worker.tick(b"")

        results = ps.run(rows, goes_on, **options)
        assert results.report.resumed_from
        assert w.pull([0, 1]).tolist() == [[6.0], [6.0]]
        assert flag.pull([1]).tolist() == [[1.0]]


def test_leaving_in_the_middle_ends_this_applications_groups_alone(spark, shared, rows, owner):
    owner("hugo")
    with shared.connect("ann") as program:
        others = program.request(AdmitGroup(0, "ann/other-1", 1, 1, 0, 1, "tag-of-others", (), "others")).spec
        ps = attached(spark, shared)
        running = ps.start_group(rows, lambda worker, batches: worker.meet(timeout=600.0) or list(batches), num_workers=1)
        assert wait_until(lambda: len(program.status()["groups"]) == 2, 30)
        ps.stop()
        assert [group["name"] for group in program.status()["groups"]] == ["ann/other-1"]
        with pytest.raises(TierError, match="must be running. It was stopped"):
            ps.sparse_table("w", dim=1)
        with pytest.raises(Exception, match="leaves the tier|has left the tier|must have its secret"):
            running.wait()
        program.request(EndGroup(0, others.group))


def test_what_cannot_be_attached_to_is_said(spark, shared, tmp_path):
    write_secret_file(tmp_path / "other", TierSecret.new())
    with pytest.raises(NotAdmitted, match="must have its secret"):
        PSContext(spark, launch="attach", url=shared.url, secret_file=tmp_path / "other")
    with pytest.raises(NotAdmitted, match="This process has none"):
        PSContext(spark, launch="attach", url=shared.url)
    with pytest.raises(ConfigError, match="its URL must be given.*sparkps tier start"):
        PSContext(spark, launch="attach")
    assert PSContext.active() is None


def test_a_log_level_is_for_a_tier_of_ones_own(spark, shared, caplog):
    spark.conf.set("spark.sparkps.logLevel", "INFO")
    try:
        with caplog.at_level(logging.WARNING, "sparkps"), attached(spark, shared):
            assert "spark.sparkps.logLevel" in caplog.text
    finally:
        spark.conf.unset("spark.sparkps.logLevel")
