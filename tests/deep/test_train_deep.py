"""jobs/train_deep.py on real data and on rows of its own, as a program: estimators by name, the figures that it tells, and the curve."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import pytest

from jobs.demo_rows import A9A, a9a_rows, write
from tests.harness.jobs_here import JobHere

ROOT = pathlib.Path(__file__).parents[2]


def run(arguments: list[str], cwd: pathlib.Path) -> subprocess.CompletedProcess[str]:
    settings = "--master local[2] --driver-memory 2g --conf spark.ui.enabled=false --conf spark.sql.shuffle.partitions=2 pyspark-shell"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYSPARK_SUBMIT_ARGS": settings}
    command = [sys.executable, str(ROOT / "jobs/train_deep.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=cwd, env=environment, check=False)


def said(arguments: list[str], cwd: pathlib.Path) -> str:
    done = run(arguments, cwd)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture
def job(spark, monkeypatch, capsys, tmp_path):
    """In this process."""
    return JobHere("train_deep", tmp_path, monkeypatch, capsys, "--terminal /dev/null")


def figure(text: str, name: str) -> float:
    return float(re.search(rf"{name} ([0-9.]+)", text)[1])


@pytest.mark.slow
@pytest.mark.timeout(250)
def test_fields_of_real_data_reach_their_figure_and_the_curve_is_drawn(shared_data, tmp_path):
    for part in ("train", "test"):
        write(tmp_path / f"{part}.csv", list(A9A), a9a_rows(shared_data / f"a9a.{part}.libsvm"))
    arguments = f"--input train.csv --test test.csv --categoricalCols {','.join(A9A)} --plot pictures/loss.png"
    arguments += " --embeddingDim 8 --hiddenUnits 64,32 --dropout 0.3 --optimizer adam:0.001 --embeddingOptimizer Adam(0.001)"
    text = said([*arguments.split(), "--batchSize", "256", "--maxIter", "3", "--validation", "0.1", "--seed", "0"], tmp_path)
    assert len(re.findall(r"^epoch \d: loss 0\.\d+, on the rows for validation 0\.\d+$", text, re.MULTILINE)) == 3
    assert "16281 held-out rows: logLoss" in text
    assert figure(text, "areaUnderROC") >= 0.9
    assert figure(text, "logLoss") < 0.33
    assert (tmp_path / "pictures/loss.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "out/model/metadata").is_dir()


@pytest.mark.timeout(120)
def test_every_task_has_its_figures(job, tmp_path):
    rows = [("yes" if i % 3 else "no", int(i % 7 < 3), "abc"[i % 3], i % 7) for i in range(400)]
    lines = "\n".join(",".join(map(str, row)) for row in rows)
    (tmp_path / "rows.csv").write_text(f"clicked,bought,town,hour\n{lines}\n")
    arguments = "--estimator MMoEClassifier --input {here}/rows.csv --labelCols clicked,bought --categoricalCols town,hour --numExperts 2"
    arguments += " --optimizer adam:0.02 --embeddingOptimizer adam:0.02 --batchSize 50 --maxIter 15"
    text = job.said(f"{arguments} --output {{here}}/model")
    for label in ("clicked", "bought"):
        told = re.search(rf"^  {label}: (.*)$", text, re.MULTILINE)[1]
        assert figure(told, "areaUnderROC") > 0.95
        assert figure(told, "logLoss") < 0.6
    assert (tmp_path / "model/metadata").is_dir()


@pytest.mark.timeout(120)
def test_numbers_of_a_libsvm_file_are_learned(job, tmp_path):
    rows = "\n".join(f"{i % 5}.0 {1 + i % 5}:1.0 {6 + i % 3}:1.0" for i in range(300))
    (tmp_path / "rows.libsvm").write_text(f"{rows}\n")
    arguments = "--estimator DeepFMRegressor --input {here}/rows.libsvm --test {here}/rows.libsvm --batchSize 50 --maxIter 20"
    text = job.said(f"{arguments} --numWorkers 1 --optimizer adam:0.02 --embeddingOptimizer adam:0.02 --output {{here}}/model")
    assert figure(text, "r2") > 0.8


@pytest.mark.timeout(120)
def test_a_recommender_tells_its_loss_and_is_saved(job, tmp_path):
    (tmp_path / "rows.csv").write_text("country,item\n" + "\n".join(f"{'ab'[i % 2]},f{i % 2 + 2 * (i % 5)}" for i in range(400)) + "\n")
    arguments = "--estimator YouTubeDNNRecommender --input {here}/rows.csv --categoricalCols country --batchSize 50"
    text = job.said(f"{arguments} --output {{here}}/model")
    assert re.search(r"^epoch 1: loss \d\.\d+$", text, re.MULTILINE)
    assert "held-out rows: nothing is measured of a recommender but its loss" in text
    assert (tmp_path / "model/metadata").is_dir()


def test_params_of_the_estimator_are_options(tmp_path):
    text = said(["--estimator", "PLEClassifier", "--help"], tmp_path)
    assert "Params of PLEClassifier" in text
    assert all(f"--{name} VALUE" in text for name in ("numLevels", "labelCols", "hiddenUnits", "optimizer", "embeddingOptimizer"))
    told = " ".join(text.split())
    assert "rows of one worker in one step (>= 1) (default: 1024)" in told
    assert "units of the hidden layers (default: 128,64)" in told
    assert not re.search(r"L-BFGS|online|mini-batch", told)
    assert "YouTubeDNNRecommender" in told


def test_an_optimizer_that_there_is_not_is_told_before_anything_starts(tmp_path):
    done = run(["--input", "rows.csv", "--optimizer", "adamant:0.1"], tmp_path)
    assert done.returncode == 1
    assert "--optimizer must be: of dense parameters" in done.stderr
    assert "Got 'adamant:0.1'" in done.stderr
    assert "Traceback" not in done.stderr
