"""Seconds from `spark-submit` to the first training step on YARN (tests' own, on this machine), by part, and of a second fit.

make pack
python -m benchmarks.first_step [--cold]
"""

from __future__ import annotations

import argparse
import io
import json
import os
import pathlib
import subprocess
import tempfile
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from benchmarks.common import count, machine, table
from tests.harness.hadoop import ROOT, HadoopCluster
from tests.harness.hadoop_files import why_not

ARCHIVE = ROOT / "out" / "environment.tar.gz"

_DYNAMIC = {
    "spark.dynamicAllocation.enabled": "true",
    "spark.dynamicAllocation.shuffleTracking.enabled": "true",
    "spark.dynamicAllocation.maxExecutors": "4",
    "spark.executor.instances": "0",
    "spark.yarn.maxAppAttempts": "1",
    "spark.pyspark.python": "./environment/bin/python",
}

#: A processor that this one can stand for: no kernels were shipped for it.
_ANOTHER = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma,+bmi,+bmi2"}

#: Settings of the cluster's own tests that would stand in for what the archive brings.
_NOT_SHIPPED = ("PYTHONPATH", "PYSPARK_PYTHON", "SPARKPS_KERNEL_CACHE_DIR")

_COMPILES = "sparkps compiles"

#: What a line of the table is, and between which two moments; the tier's and the fit's have a prefix.
_PARTS = (
    ("spark-submit: its JVM, upload, until YARN has the application", "submitted", "accepted"),
    ("container of the driver: archive unpacked, JVM, until its Python", "accepted", "python"),
    ("driver: imports", "python", "entered"),
    ("driver: Spark session", "entered", "session"),
    ("tier: executors of the nodes", "session", "tier.executors"),
    ("tier: their Python, until the nodes' processes", "tier.executors", "tier.processes"),
    ("tier: nodes' imports, welcomed, ready", "tier.processes", "tier.ready"),
    ("fit: plan and tables, until the group is admitted", "fit.began", "fit.admitted"),
    ("group: executors, until the last task is sent", "fit.admitted", "fit.tasks"),
    ("group: Python workers and imports, until all ranks are there", "fit.tasks", "fit.ranks"),
    ("group: input read, first clock", "fit.ranks", "fit.rows"),
    ("group: first loss and gradient", "fit.rows", "fit.step"),
)


def rows_as_parquet(number: int, seed: int) -> bytes:
    """A file of rows with 20 features, and labels that depend on them."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(number, 20)).astype(np.float32)
    label = (features @ np.linspace(-1, 1, 20) + rng.normal(size=number) > 0).astype(np.float64)
    columns = {"label": label, "features": pa.FixedSizeListArray.from_arrays(features.ravel(), 20).cast(pa.list_(pa.float32()))}
    file = io.BytesIO()
    pa.parquet.write_table(pa.table(columns), file)
    return file.getvalue()


def command(cluster: HadoopCluster, program: list[str], more: dict[str, str]) -> list[str]:
    """spark-submit, with the archive and nothing of this checkout but the program."""
    given = cluster.spark_conf()
    conf = {key: value for key, value in given.items() if key.rpartition(".")[2] not in _NOT_SHIPPED} | _DYNAMIC | more
    words = [word for key, value in conf.items() for word in ("--conf", f"{key}={value}")]
    first = cluster.submit()[0]
    return [first, *words, "--deploy-mode", "cluster", "--archives", f"{ARCHIVE}#environment", *program]


def run(cluster: HadoopCluster, directory: pathlib.Path, more: dict[str, str]) -> dict[str, Any]:
    """Submit the job, and collect what it tells."""
    answer = directory / f"told-{time.time_ns()}.json"
    program = [str(ROOT / "benchmarks" / "first_step_job.py"), f"{cluster.hdfs}/rows", str(answer)]
    environment = {key: value for key, value in cluster.environment().items() if key not in _NOT_SHIPPED}
    submitted = time.time()
    ran = subprocess.run(command(cluster, program, more), env=environment, capture_output=True, text=True, check=False)
    application = cluster.applications()[-1].id
    logs = cluster.logs(application, 10_000)
    if ran.returncode != 0:
        raise SystemExit(f"{ran.stderr[-2000:]}\n{logs[-6000:]}")
    told: dict[str, Any] = json.loads(answer.read_text())
    return {**told, "submitted": submitted, "accepted": cluster.submitted_at(application), "compiled": _COMPILES in logs}


def moments(told: dict[str, Any], fit: int) -> dict[str, float]:
    """All moments of a run and one of its fits."""
    found = {key: value for key, value in told.items() if isinstance(value, float)}
    found |= {f"tier.{key}": value for key, value in told["tier"].items()}
    found |= {f"fit.{key}": value for key, value in told["fits"][fit].items()}
    # Executors that were there before have registered before.
    found["fit.tasks"] = max(found["fit.tasks"], found["fit.admitted"])
    return found


def column(told: dict[str, Any], fit: int) -> list[object]:
    """Seconds of each part; a second fit has those of a fit."""
    at = moments(told, fit)
    parts: list[object] = ["" if fit and not begins.startswith("fit.") else at[ends] - at[begins] for _, begins, ends in _PARTS]
    kernels = told["fits"][fit]["kernels"] + (0.0 if fit else told["tier kernels"])
    return [*parts, at["fit.step"] - (at["fit.began"] if fit else at["submitted"]), kernels, at["fit.ended"] - at["fit.began"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rows", type=count, default=100_000)
    parser.add_argument("--cold", action="store_true", help="also with kernels that have to be compiled")
    args = parser.parse_args()
    if reason := why_not():
        raise SystemExit(f"No cluster can be started here: {reason}.")
    if not ARCHIVE.exists():
        subprocess.run([ROOT / "scripts" / "pack"], check=True)
    print(machine())
    with tempfile.TemporaryDirectory() as folder, HadoopCluster(pathlib.Path(folder)) as cluster:
        for number in range(4):
            cluster.put(f"/rows/part-{number}.parquet", rows_as_parquet(args.rows // 4, number))
        print(f"load {os.getloadavg()[0]:.1f} before; the archive has {ARCHIVE.stat().st_size / 1e6:.0f} MB")
        warm = run(cluster, pathlib.Path(folder), {})
        columns = {"shipped kernels": column(warm, 0), "second fit": column(warm, 1)}
        print(f"load {os.getloadavg()[0]:.1f}; {warm['package']}; kernels compiled: {warm['compiled']}", flush=True)
        if args.cold:
            more = {f"spark.{of}.{key}": value for of in ("executorEnv", "yarn.appMasterEnv") for key, value in _ANOTHER.items()}
            cold = run(cluster, pathlib.Path(folder), {**more, "spark.sparkps.kernelCacheDir": f"{folder}/kernels"})
            columns["no kernels"] = column(cold, 0)
            print(f"load {os.getloadavg()[0]:.1f}; kernels compiled: {cold['compiled']}")
    names = [name for name, _, _ in _PARTS] + ["**first step**, in all", "kernels at the driver, of that", "fit, to its end"]
    print(table(["seconds", *columns], [[name, *cells] for name, *cells in zip(names, *columns.values(), strict=True)]))


if __name__ == "__main__":
    main()
