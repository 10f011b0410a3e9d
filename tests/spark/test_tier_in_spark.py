"""``sparkps tier start --spark``: a tier that is a Spark application of its own, on a cluster of this machine."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

import sparkps
from tests.harness.shared_tiers import sparse

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(300)]

CONF = {
    "spark.master": "local-cluster[1,2,1024]", "spark.driver.host": "127.0.0.1", "spark.ui.enabled": "false",
    "spark.sparkps.nodeMemory": "256m", "spark.sparkps.allowPlaintextKeys": "true",
}  # fmt: skip


def tier(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "sparkps", "tier", *words], capture_output=True, text=True, timeout=240)


def test_it_starts_grows_is_used_and_ends_with_a_checkpoint(tmp_path: pathlib.Path) -> None:
    conf = [word for key, value in CONF.items() for word in ("--conf", f"{key}={value}")]
    kept = ["--secret-file", str(tmp_path / "secret"), "--log", str(tmp_path / "log"), "--checkpoint-dir", str(tmp_path / "checkpoints")]
    started = tier("start", "--spark", *conf, "--nodes", "1", "--detach", *kept)
    assert started.returncode == 0, started.stderr
    url = started.stdout.strip()
    about = ["--url", url, "--secret-file", str(tmp_path / "secret")]
    try:
        with sparkps.connect(url, tmp_path / "secret", owner="ann") as connection:
            w = sparse(connection, "w")
            w.add([1], [[5.0]])
            grown = tier("scale", "2", *about)
            assert grown.returncode == 0, grown.stderr
            assert w.pull([1]).tolist() == [[5.0]]
            assert [node["job"] for node in connection.status()["nodes"]] == [0, 1], "they are tasks of Spark"
    finally:
        stopped = tier("stop", *about)
    assert stopped.stdout == "The tier has ended.\n"
    assert list((tmp_path / "checkpoints").glob("manifest-*"))
    secret = (tmp_path / "secret").read_text().strip()
    assert secret not in (tmp_path / "log").read_text()
    assert secret not in started.stdout + started.stderr


def test_without_a_cluster_it_says_what_to_do(tmp_path: pathlib.Path) -> None:
    conf = ["--conf", "spark.master=local[1]", "--conf", "spark.ui.enabled=false", "--conf", "spark.driver.host=127.0.0.1"]
    refused = tier("start", "--spark", *conf, "--secret-file", str(tmp_path / "secret"))
    assert refused.returncode == 1
    assert "`--spark` needs a cluster" in refused.stderr
    assert "jobs/tier.py" in refused.stderr
