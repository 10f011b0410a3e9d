"""jobs/package_sections.py on real data: 57 sections of Debian packages from their texts, as a program of its own."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]

#: That of scikit-learn's SGDClassifier(loss="log_loss", random_state=0) on the same counts of hashed words and on the same split, in 21
#: epochs of one core; and by how much less accurate a model may be.
SCIKIT_LEARN, LESS = 0.7870, 0.003


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(250)
def test_sections_of_packages_are_told_as_well_as_by_a_local_learner(shared_data, tmp_path):
    settings = "--master local[2] --driver-memory 2g --conf spark.ui.enabled=false --conf spark.sql.shuffle.partitions=2 pyspark-shell"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYSPARK_SUBMIT_ARGS": settings}
    command = [sys.executable, str(ROOT / "jobs/package_sections.py"), str(shared_data / "debian_packages.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert float(re.search(r"accuracy ([0-9.]+)", done.stdout)[1]) >= SCIKIT_LEARN - LESS, done.stdout
