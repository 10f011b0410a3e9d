"""A Hadoop on loopback for a person to try things on: ``make cluster`` starts it, ``make cluster-stop`` or Ctrl-C ends it."""

from __future__ import annotations

import argparse
import os
import pathlib
import shlex
import signal
import sys
import time

import pyspark

from tests.harness.hadoop import ROOT, HadoopCluster
from tests.harness.hadoop_files import why_not
from tests.harness.waiting import wait_until

FOLDER = ROOT / "out" / "cluster"
_PID = FOLDER / "pid"
#: The file with settings of applications, in the folder.
_PROPERTIES = "spark.conf"
_SAMPLE = "/data/sample_libsvm_data.txt"

#: Seconds that the cluster has to end.
_END = 40.0

#: Over the settings of the cluster's own tests: what users of YARN have. Nodes get containers beside those of workers, and a
#: program that fails does so once.
_SETTINGS = {
    "spark.dynamicAllocation.enabled": "true",
    "spark.dynamicAllocation.shuffleTracking.enabled": "true",
    "spark.dynamicAllocation.maxExecutors": "4",
    "spark.executor.instances": "0",
    "spark.yarn.maxAppAttempts": "1",
}

_MESSAGE = """
HDFS and YARN are up after {seconds:.0f} s.

    YARN       {resource_manager}/cluster
    HDFS       {webhdfs}/explorer.html

Train on it, from another terminal, by

    {submit}

`--deploy-mode client` runs the driver in your terminal. What containers wrote: {logs}
Stop it with Ctrl-C here, or with

    make -C {root} cluster-stop
"""


def start(memory_mb: int, vcores: int) -> int:
    """Start the cluster, say how to use it, and wait until it shall end; returns the exit status."""
    if reason := why_not():
        return _fail(f"No cluster can be started here: {reason}.")
    if (pid := running()) is not None:
        return _fail(f"A cluster runs already, as process {pid}: make cluster-stop ends it.")
    FOLDER.mkdir(parents=True, exist_ok=True)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    _PID.write_text(str(os.getpid()))
    began = time.monotonic()
    _say("Starting HDFS and YARN ...")
    try:
        with HadoopCluster(FOLDER, memory_mb=memory_mb, vcores=vcores) as cluster:
            sample = pathlib.Path(pyspark.__file__).parent / "data" / "mllib" / pathlib.PurePath(_SAMPLE).name
            cluster.put(_SAMPLE, sample.read_bytes())
            _say(message(cluster, time.monotonic() - began))
            while True:
                signal.pause()
    except KeyboardInterrupt:
        _say("The cluster has ended.")
    finally:
        _PID.unlink(missing_ok=True)
        (FOLDER / _PROPERTIES).unlink(missing_ok=True)
    return 0


def message(cluster: HadoopCluster, seconds: float) -> str:
    """How to use the cluster; the properties that its applications need are written to a file beside it."""
    properties = FOLDER / _PROPERTIES
    settings = {**cluster.spark_conf(), **_SETTINGS, "spark.sparkps.stagingDir": f"{cluster.hdfs}/tmp/sparkps"}
    properties.write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    inherited = cluster.environment()
    needed = ("HADOOP_CONF_DIR", "PYSPARK_PYTHON", "PYTHONPATH", "SPARK_LOCAL_IP")
    words = ["env", *(f"{key}={inherited[key]}" for key in needed)]
    words += [str(pathlib.Path(sys.executable).parent / "spark-submit"), "--properties-file", str(properties)]
    words += ["--deploy-mode", "cluster", str(ROOT / "jobs" / "train_logistic.py")]
    words += ["--input", cluster.hdfs + _SAMPLE, "--format", "libsvm", "--output", f"{cluster.hdfs}/models/sample"]
    return _MESSAGE.format(
        seconds=seconds,
        resource_manager=cluster.resource_manager,
        webhdfs=cluster.webhdfs,
        submit=shlex.join(words),
        logs=cluster.conf_dir.parent / "data" / "*" / "log",
        root=ROOT,
    )


def stop() -> int:
    """End the cluster that runs; returns the exit status."""
    pid = running()
    if pid is None:
        return _fail("No cluster runs that `make cluster` started here.")
    os.kill(pid, signal.SIGTERM)
    if not wait_until(lambda: running() is None, _END, 0.1):
        return _fail(f"The cluster, process {pid}, must end within {_END:g} s. It has not.")
    return 0


def running() -> int | None:
    """The process that runs a cluster of this folder."""
    try:
        pid = int(_PID.read_text())
        command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if b"hadoop_console" in command and pid != os.getpid() else None


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _fail(why: str) -> int:
    sys.stderr.write(why + "\n")
    return 1


def main() -> int:
    """Obey the command line."""
    parser = argparse.ArgumentParser(prog="scripts/cluster", description=__doc__)
    parser.add_argument("--stop", action="store_true", help="end the one that runs")
    parser.add_argument("--memory-mb", type=int, default=6144, help="of each of the two NodeManagers")
    parser.add_argument("--vcores", type=int, default=8)
    args = parser.parse_args()
    return stop() if args.stop else start(args.memory_mb, args.vcores)


if __name__ == "__main__":
    sys.exit(main())
