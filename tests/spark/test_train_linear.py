"""jobs/train_linear.py on real data, as a program and in this process: estimators by name, with the figures that they must reach."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import pytest

from tests.harness.jobs_here import JobHere

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


def assert_reached(case: str, said: str) -> None:
    _, metric, least = CASES[case]
    assert float(re.search(rf"{metric} ([0-9.]+)", said)[1]) >= least, said


@pytest.fixture
def job(spark, monkeypatch, capsys, tmp_path):
    """In this process."""
    return JobHere("train_linear", tmp_path, monkeypatch, capsys)


@pytest.mark.slow
@pytest.mark.timeout(250)
def test_a_program_reaches_its_figure(shared_data, tmp_path):
    assert_reached("a9a", run(CASES["a9a"][0].format(data=shared_data).split(), tmp_path))
    assert (tmp_path / "out/model/metadata").is_dir()


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("case", [case for case in CASES if case != "a9a"])
def test_an_estimator_by_name_reaches_its_figure(job, shared_data, tmp_path, case):
    assert_reached(case, job.said(f"{CASES[case][0].format(data=shared_data)} --output {{here}}/model"))
    assert (tmp_path / "model/metadata").is_dir()


@pytest.mark.timeout(120)
def test_raw_columns_and_lists_are_options_as_all_params(job, tmp_path):
    rows = "\n".join(f"{'yes' if i % 3 else 'no'},{'abc'[i % 3]},{i % 7}.5" for i in range(200))
    (tmp_path / "rows.csv").write_text(f"click,town,price\n{rows}\n")
    arguments = "--input {here}/rows.csv --labelCol click --inputCols town,price --crosses town,price --maxIter 5"
    said = job.said(f"{arguments} --thresholds 0.4,0.6 --output {{here}}/model")
    assert "areaUnderROC 1.0000" in said
    assert (tmp_path / "model/metadata").is_dir()
