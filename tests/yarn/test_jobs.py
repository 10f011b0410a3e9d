"""jobs/train_logistic.py by spark-submit on YARN, input, checkpoints and model on HDFS: the model of a laptop, to twelve digits."""

from __future__ import annotations

import pathlib
import signal
import subprocess
from typing import TYPE_CHECKING

import numpy as np
import pyspark
import pytest

from sparkps import PSContext
from sparkps.mllib.classification import LogisticRegression
from sparkps.mllib.scoring import load_model
from tests.conftest import ROOT
from tests.harness.cases import cases
from tests.harness.hadoop import HadoopCluster
from tests.harness.waiting import wait_until

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SAMPLE = pathlib.Path(pyspark.__file__).parent / "data" / "mllib" / "sample_libsvm_data.txt"


def settings() -> dict[str, str]:
    """What users of YARN have: dynamic allocation and speculation."""
    return {
        "spark_dynamicAllocation_enabled": "true",
        "spark_dynamicAllocation_maxExecutors": "4",
        "spark_executor_instances": "0",
        "spark_speculation": "true",
        "spark_sparkps_nodeMemory": "256m",
    }


ITERATIONS = 10

#: Trains until it is killed.
ENDLESS = ("--solver", "adagrad", "--iterations", "1000000")


@pytest.fixture(scope="module")
def on_hdfs(hadoop: HadoopCluster) -> str:
    """The sample, on HDFS."""
    hadoop.put("/jobs/sample.txt", SAMPLE.read_bytes())
    return f"{hadoop.hdfs}/jobs"


@pytest.fixture(scope="module")
def expected(spark: SparkSession) -> np.ndarray:
    """The coefficients that local[2] finds."""
    rows = spark.read.format("libsvm").option("numFeatures", 692).load(SAMPLE.as_uri())
    estimator = LogisticRegression(solver="lbfgs", regParam=1e-4, maxIter=ITERATIONS, seed=0)
    estimator.setParams(numWorkers=2, deterministic=True)
    with PSContext(spark, num_nodes=1):
        return estimator.fit(rows).coefficients.toArray()


def arguments(on_hdfs: str, output: str, *more: str) -> list[str]:
    job = [str(ROOT / "jobs" / "train_logistic.py"), "--input", f"{on_hdfs}/sample.txt", "--test", f"{on_hdfs}/sample.txt"]
    return [*job, "--deterministic", "--num-workers", "2", "--output", output, "--terminal", "/dev/null", *more]


@pytest.mark.parametrize("mode", cases(["cluster"], long=["client"]))
def test_a_submitted_job_gives_the_model_of_a_laptop(
    hadoop: HadoopCluster, on_hdfs: str, expected: np.ndarray, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = f"{on_hdfs}/model-{mode}"
    more = ["--iterations", str(ITERATIONS), "--checkpoints", f"{on_hdfs}/checkpoints-{mode}"]
    command = hadoop.submit("--deploy-mode", mode, *arguments(on_hdfs, output, *more), **settings())
    ran = subprocess.run(command, env=hadoop.environment(), capture_output=True, text=True, timeout=280, check=False)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-3000:] + hadoop.logs(hadoop.applications()[-1].id)[-6000:]
    monkeypatch.setenv("HADOOP_CONF_DIR", str(hadoop.conf_dir))
    model = load_model(output)  # in plain Python: no Spark is asked
    found = np.zeros(len(expected))
    found[model.coefficients.keys] = model.coefficients.values
    # Processes of a container may round sums otherwise than those of this one.
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-16, strict=True)
    assert wait_until(lambda: not hadoop.containers(), 30)


@pytest.mark.parametrize("how", cases(["SIGKILL of the driver"], long=["yarn application -kill"]))
def test_an_application_that_is_killed_leaves_nothing_behind(hadoop: HadoopCluster, on_hdfs: str, how: str) -> None:
    mode = "cluster" if how.startswith("yarn") else "client"
    command = hadoop.submit("--deploy-mode", mode, *arguments(on_hdfs, f"{on_hdfs}/never", *ENDLESS), **settings())
    before = {one.id for one in hadoop.applications()}
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    submitted = subprocess.Popen(command, env=hadoop.environment(), start_new_session=True, **silent)
    try:
        def is_training() -> bool:
            return sum(not one.is_master for one in hadoop.containers()) >= 4  # two nodes and two workers

        assert wait_until(is_training, 200, 0.5)
        (application,) = [one.id for one in hadoop.applications() if one.id not in before]
        if mode == "cluster":
            hadoop.kill(application)
        else:
            submitted.send_signal(signal.SIGKILL)
        assert wait_until(lambda: not hadoop.containers(), 30), hadoop.containers()
    finally:
        submitted.kill()
        submitted.wait(30)
