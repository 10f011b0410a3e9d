"""HDFS: files, checkpoints, staged rows, Parquet and models there; and daemons of it that stand still."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from pyspark.ml.linalg import Vectors

from sparkps.checkpoints.files import open_files
from sparkps.checkpoints.patience import Patience, PatientFiles, checksum
from sparkps.config import Settings
from sparkps.driver_bridge import checkpointing
from sparkps.driver_bridge.launchers import local
from sparkps.driver_bridge.spark.tokens import held_token, obtain_token
from sparkps.errors import CheckpointError, DeadlineExceeded
from sparkps.filesystems.opening import open_filesystem, webhdfs_of
from sparkps.filesystems.tokens import Token
from sparkps.mllib.classification import LogisticRegression, LogisticRegressionModel
from sparkps.mllib.scoring import load_model
from tests.cluster.conftest import Tier
from tests.harness.hadoop import HadoopCluster
from tests.harness.waiting import wait_until

KEYS = np.random.default_rng(0).choice(1 << 40, 20_000, replace=False)


@pytest.fixture(scope="module")
def hdfs(hadoop: HadoopCluster) -> Iterator[HadoopCluster]:
    """The cluster, whose configuration this process, its nodes and its workers know."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HADOOP_CONF_DIR", str(hadoop.conf_dir))
        yield hadoop


# ---- files ---------------------------------------------------------------------------------------------------------------


def test_files_are_written_once_read_in_parts_and_removed(hdfs: HadoopCluster) -> None:
    files = open_files(f"{hdfs.hdfs}/files/a b")
    assert files.entries(deep=True) == []
    big = np.random.default_rng(1).bytes(9_000_000)
    files.write("folder/big", [big[:5], memoryview(big)[5:8_000_000], big[8_000_000:]])
    files.write("empty", [])
    with pytest.raises(FileExistsError):
        files.write("empty", [b"again"])
    assert (files.size("folder/big"), files.size("empty")) == (len(big), 0)
    assert files.read("folder/big", 4_000_000, 1000) == big[4_000_000:4_001_000]
    assert files.read("folder/big", len(big) - 3, 100) == big[-3:]
    assert b"".join(bytes(block) for block in files.blocks("folder/big")) == big
    assert {one.name: one.nbytes for one in files.entries(deep=True)} == {"folder/big": len(big), "empty": 0}
    for call in (lambda: files.read("none"), lambda: files.size("none"), lambda: list(files.blocks("none"))):
        with pytest.raises(FileNotFoundError):
            call()
    files.delete("folder/big")
    files.delete("folder/big")
    assert [one.name for one in files.entries(deep=True)] == ["empty"]


@pytest.mark.parametrize("daemon", ["namenode", "datanode"])
def test_stopped_daemon_is_waited_for_until_the_deadline_and_no_longer(hdfs: HadoopCluster, daemon: str) -> None:
    patience = Patience(seconds=4.0, attempt_seconds=2.0)
    files = PatientFiles(open_files(f"{hdfs.hdfs}/stopped/{daemon}"), patience)
    files.write("before", [b"x" * 1000])
    stopped = getattr(hdfs, daemon)
    stopped.stop()
    try:
        for call in (lambda: files.write("during", [b"y" * 1000]), lambda: files.read("before")):
            began = time.monotonic()
            with pytest.raises(CheckpointError, match="No answer within"):
                call()
            assert time.monotonic() - began < 6.0
    finally:
        stopped.go_on()
    assert files.read("before") == b"x" * 1000
    assert files.write("after", [b"z"], [(1, checksum(b"z"))]) == "after"


# ---- checkpoints ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def tier_of(num_nodes: int) -> Iterator[Tier]:
    running = local.launch(Settings(num_nodes=num_nodes))
    try:
        made = Tier(running)
        yield made
        made.disconnect()
    finally:
        running.stop()


def trained(tier: Tier) -> Any:
    table = tier.sparse("rows", dim=4)
    table.assign(KEYS, np.random.default_rng(2).normal(size=(len(KEYS), 4)).astype(np.float32))
    return table


def test_checkpoint_is_restored_onto_another_number_of_nodes(hdfs: HadoopCluster) -> None:
    url = f"{hdfs.hdfs}/checkpoints/restored"
    with tier_of(2) as tier:
        rows = trained(tier).pull(KEYS)
        made = checkpointing.take(tier.control, url)
    with tier_of(3) as tier:
        assert checkpointing.restore(tier.control, url).id == made.id
        np.testing.assert_array_equal(tier.sparse("rows", dim=4).pull(KEYS), rows)


@pytest.mark.parametrize("daemon", ["namenode", "datanode"])
def test_checkpoint_ends_at_its_deadline_while_a_daemon_is_stopped_and_the_next_one_is_whole(
    hdfs: HadoopCluster, daemon: str
) -> None:
    url = f"{hdfs.hdfs}/checkpoints/{daemon}"
    with tier_of(2) as tier:
        table = trained(tier)
        first = checkpointing.take(tier.control, url)
        rows = table.pull(KEYS)
        stopped = getattr(hdfs, daemon)
        stopped.stop()
        try:
            began = time.monotonic()
            with pytest.raises((CheckpointError, DeadlineExceeded)):
                checkpointing.take(tier.control, url, 5.0)
            with pytest.raises((CheckpointError, DeadlineExceeded)):
                checkpointing.restore(tier.control, url, first.id, 5.0)
            assert time.monotonic() - began < 45.0
            np.testing.assert_array_equal(table.pull(KEYS), rows)
        finally:
            stopped.go_on()
        second = checkpointing.take(tier.control, url)
        table.assign(KEYS, np.zeros((len(KEYS), 4), np.float32))
        assert checkpointing.restore(tier.control, url).id == second.id
        np.testing.assert_array_equal(table.pull(KEYS), rows)


# ---- input ---------------------------------------------------------------------------------------------------------------


def ids_of(worker: Any, batches: Any) -> list[int]:
    return [i for batch in batches for i in batch.column("id").to_pylist()]


def test_ranks_read_parquet_on_hdfs_themselves(hdfs: HadoopCluster, spark: Any, ps: Any) -> None:
    spark.conf.set("parquet.block.size", "8192")
    spark.range(0, 20_000, 1, 3).selectExpr("id", "id * 0.5 x").write.parquet(f"{hdfs.hdfs}/rows/a b")
    spark.conf.unset("parquet.block.size")
    results = ps.run(spark.read.parquet(f"{hdfs.hdfs}/rows/a b").select("id"), ids_of, num_workers=2)
    assert results.report.reader == "parquet"
    assert sorted(i for ids in results for i in ids) == list(range(20_000))


def test_staged_rows_on_hdfs_are_read_once_and_removed(hdfs: HadoopCluster, spark: Any, ps: Any, monkeypatch: Any) -> None:
    workers = dataclasses.replace(ps.settings.workers, staging_dir=f"{hdfs.hdfs}/staged")
    monkeypatch.setattr(ps, "settings", dataclasses.replace(ps.settings, workers=workers))
    results = ps.run(spark.range(10_000).repartition(3), ids_of, num_workers=2, deterministic=True)
    assert results.report.reader == "staged"
    assert sorted(i for ids in results for i in ids) == list(range(10_000))
    assert open_files(f"{hdfs.hdfs}/staged").entries(deep=True) == []
    filesystem, path = open_filesystem(f"{hdfs.hdfs}/staged")
    assert webhdfs_of(hdfs.hdfs).listing(path) == [], "no empty directory either"
    assert filesystem.type_name == "py::webhdfs"


# ---- models --------------------------------------------------------------------------------------------------------------


def test_saved_model_scores_in_a_plain_process(hdfs: HadoopCluster, spark: Any, ps: Any, tmp_path: pathlib.Path) -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(200, 3))
    y = (x @ [1.0, -2.0, 0.5] > 0).astype(float)
    rows = spark.createDataFrame([(float(b), Vectors.dense(a.tolist())) for a, b in zip(x, y, strict=True)], ["label", "features"])
    url = f"{hdfs.hdfs}/models/one"
    LogisticRegression(maxIter=5, regParam=0.01).fit(rows).save(url)
    probabilities = np.stack([row.probability.toArray() for row in LogisticRegressionModel.load(url).transform(rows).collect()])
    np.testing.assert_allclose(load_model(url).predict_proba(x), probabilities, rtol=1e-9)
    np.save(tmp_path / "x.npy", x)
    code = "import sys, numpy as np; from sparkps.mllib.scoring import load_model as load\n"
    code += "np.save(sys.argv[2] + '/p.npy', load(sys.argv[1]).predict_proba(np.load(sys.argv[2] + '/x.npy')))\n"
    code += "assert 'pyspark' not in sys.modules and 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, url, str(tmp_path)], check=True, timeout=60)
    np.testing.assert_allclose(np.load(tmp_path / "p.npy"), probabilities, rtol=1e-9)


# ---- delegation tokens ---------------------------------------------------------------------------------------------------


def test_token_is_issued_renewed_and_cancelled(hdfs: HadoopCluster) -> None:
    client = webhdfs_of(hdfs.hdfs)
    text = client.delegation_token(hdfs.user)
    token = Token.from_url_string(text)
    assert token.kind in ("HDFS_DELEGATION_TOKEN", "WEBHDFS delegation")
    assert Token.from_url_string(token.url_string()) == token
    first = client.renew_token(text)
    assert first > time.time() + 3600
    assert wait_until(lambda: client.renew_token(text) > first, 10), "each renewal gives it a whole day again"
    client.cancel_token(text)
    with pytest.raises(PermissionError, match=r"[Tt]oken"):
        client.renew_token(text)


def test_driver_obtains_a_token_from_the_jvm_that_python_can_renew(hdfs: HadoopCluster, spark: Any) -> None:
    text = obtain_token(spark, f"{hdfs.hdfs}/any", hdfs.user).text
    token = Token.from_url_string(text)
    assert (token.kind, token.service) == ("HDFS_DELEGATION_TOKEN", hdfs.hdfs.removeprefix("hdfs://"))
    client = webhdfs_of(hdfs.hdfs, text)
    assert client.renew_token(text) > time.time() + 3600
    assert client.status("/") is not None
    client.cancel_token(text)
    assert obtain_token(spark, "file:///tmp", hdfs.user).text == ""
    jvm = spark.sparkContext._jvm
    user = jvm.org.apache.hadoop.security.UserGroupInformation.createRemoteUser("ann")
    assert held_token(spark, user, token.service) == ""
    given = jvm.org.apache.hadoop.security.token.Token()
    given.decodeFromUrlString(text)
    user.addToken(given)
    assert [held_token(spark, user, service) for service in (token.service, "other:1", None)] == [text, "", text]
