"""jobs/train_linear.py on real data, as a program of its own: estimators by name, with the figures that they must reach."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]

#: Arguments of the job, and the least value of a metric that it prints.
CASES = {
    "a9a": (
        "--test {data}/a9a.test.libsvm --input {data}/a9a.train.libsvm --regParam 0.0003 --standardization false", "areaUnderROC", 0.9020,
    ),
    "a9a by factors": (
        "--estimator FMClassifier --test {data}/a9a.test.libsvm --input {data}/a9a.train.libsvm --stepSize 0.1 --seed 1",
        "areaUnderROC",
        0.9020,
    ),
    "dna": ("--test {data}/dna.test.libsvm --input {data}/dna.train.libsvm --regParam 0.03", "accuracy", 0.945),
    "abalone": ("--estimator LinearRegression --test {data}/abalone.libsvm --input {data}/abalone.libsvm", "r2", 0.53),
}  # fmt: skip


def run(arguments: list[str], cwd: pathlib.Path) -> str:
    settings = "--master local[2] --driver-memory 2g --conf spark.ui.enabled=false --conf spark.sql.shuffle.partitions=2 pyspark-shell"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYSPARK_SUBMIT_ARGS": settings}
    command = [sys.executable, str(ROOT / "jobs/train_linear.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=cwd, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(250)
@pytest.mark.parametrize("case", CASES)
def test_an_estimator_by_name_reaches_its_figure(shared_data, tmp_path, case):
    arguments, metric, least = CASES[case]
    said = run(arguments.format(data=shared_data).split(), tmp_path)
    assert float(re.search(rf"{metric} ([0-9.]+)", said)[1]) >= least, said
    assert (tmp_path / "out/model/metadata").is_dir()


@pytest.mark.slow
@pytest.mark.timeout(250)
def test_raw_columns_and_lists_are_options_as_all_params(tmp_path):
    rows = "\n".join(f"{'yes' if i % 3 else 'no'},{'abc'[i % 3]},{i % 7}.5" for i in range(200))
    (tmp_path / "rows.csv").write_text(f"click,town,price\n{rows}\n")
    arguments = ["--input", "rows.csv", "--labelCol", "click", "--inputCols", "town,price", "--crosses", "town,price", "--maxIter", "5"]
    said = run([*arguments, "--thresholds", "0.4,0.6", "--output", "model"], tmp_path)
    assert "areaUnderROC 1.0000" in said
    assert (tmp_path / "model/metadata").is_dir()
