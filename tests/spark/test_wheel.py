"""`--py-files` with the wheel, where the environment has all that sparkps needs, and not sparkps: it works from inside the archive."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys

import pyspark
import pytest

from tests.harness.wheels import wheel_in

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

#: Trains, and says where each kind of process has its sparkps from.
SCRIPT = """
import json, sys

from pyspark.sql import SparkSession

import sparkps
from sparkps import PSContext
from sparkps.mllib.classification import LogisticRegression

def where(worker, batches):
    import sparkps.ps_nodes
    return sparkps.__file__

spark = SparkSession.builder.getOrCreate()
with PSContext(spark, num_nodes=1) as ps:
    rows = spark.range(0, 40, 1, 2).selectExpr("cast(id % 2 AS DOUBLE) AS label", "array(cast(id % 2 AS DOUBLE), 1.0D) AS features")
    model = LogisticRegression(maxIter=3, numWorkers=2).fit(rows)
    said = {"driver": sparkps.__file__, "workers": ps.run(rows, where, num_workers=2), "slope": float(model.coefficients[0])}
    said["node"] = open(f"/proc/{ps.status()['nodes'][0]['pid']}/environ").read().split("PYTHONPATH=")[1].split(chr(0))[0]
print("SAID " + json.dumps(said))
spark.stop()
"""


def submitted(command: list[str], directory: pathlib.Path, environment: dict[str, str]) -> str:
    """What a program writes, which has four minutes."""
    with (directory / "output").open("w+") as output:
        process = subprocess.Popen(command, cwd=directory, env=environment, stdout=output, stderr=output, start_new_session=True)
        try:
            process.wait(240)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
        output.seek(0)
        return output.read()


def test_a_model_is_trained_from_a_wheel(tmp_path: pathlib.Path) -> None:
    wheel = wheel_in(tmp_path)
    (tmp_path / "script").mkdir()
    script = tmp_path / "script" / "train.py"
    script.write_text(SCRIPT)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    settings = {
        "spark.driver.host": "127.0.0.1",
        "spark.executor.memory": "512m",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.pyspark.python": sys.executable,
        "spark.sparkps.launch": "local",
        "spark.sparkps.stagingDir": str(tmp_path / "staged"),
    }
    submit = [str(pathlib.Path(pyspark.__file__).parent / "bin" / "spark-submit"), "--master", "local-cluster[1,2,1024]"]
    submit += [word for key, value in settings.items() for word in ("--conf", f"{key}={value}")]
    output = submitted([*submit, "--py-files", str(wheel), str(script)], tmp_path, environment)
    lines = [line for line in output.splitlines() if line.startswith("SAID ")]
    assert lines, output[-5000:]
    said = json.loads(lines[0][5:])
    assert said["slope"] > 0, said
    assert f"{wheel.name}/sparkps/__init__.py" in said["driver"]
    assert all(f"{wheel.name}/sparkps/__init__.py" in place for place in said["workers"]), said["workers"]
    assert wheel.name in said["node"].split(os.pathsep)[0]
