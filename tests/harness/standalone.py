"""A standalone Spark cluster on loopback: a Master, and a Worker on each of two addresses, which are two hosts to Spark.

On one host Spark never runs a speculative copy.
"""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import pyspark

from tests.harness.waiting import wait_until

#: Addresses of the Workers.
HOSTS = ("127.0.0.1", "127.0.0.2")

_ENDPOINT = re.compile(r"Starting Spark master at (spark://[0-9.]+:[0-9]+)")
_REGISTERED = "Successfully registered with master"


class _Daemon:
    """A JVM of Spark's own; its log is read to the end, so that it never waits for us."""

    def __init__(self, name: str, host: str, directory: pathlib.Path, *arguments: str, options: str = "") -> None:
        home = pathlib.Path(pyspark.__file__).parent
        environment = {**os.environ, "SPARK_HOME": str(home), "SPARK_LOCAL_IP": host, "SPARK_DAEMON_MEMORY": "256m"}
        environment["SPARK_WORKER_OPTS"] = options
        self._process = subprocess.Popen(
            [str(home / "bin" / "spark-class"), f"org.apache.spark.deploy.{name}", "--host", host, *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=directory,
            env=environment,
        )
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        self._lines.extend(self._process.stderr)

    @property
    def log(self) -> str:
        """All lines so far."""
        return "".join(self._lines)

    def wait_for(self, words: str) -> re.Match[str]:
        """The first place in the log that says so."""
        assert wait_until(lambda: re.search(words, self.log) is not None, 40, 0.05), f"{words!r} is not in: {self.log}"
        found = re.search(words, self.log)
        assert found is not None
        return found

    def end(self) -> None:
        """End it; a Worker ends its executors."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self._reader.join(10)
        assert self._process.stderr is not None
        self._process.stderr.close()


class StandaloneCluster:
    """A Master, and Workers of `cores` cores each; a context manager that ends them.

    Parameters
    ----------
    directory : Path
        What the Workers write.
    cores : int
    memory : str
        Of each Worker.
    settings : mapping, optional
        Spark's settings of the Workers, as ``{"spark.worker.resource.gpu.amount": "1"}``.
    """

    def __init__(
        self, directory: pathlib.Path, cores: int = 2, memory: str = "1g", settings: Mapping[str, str] | None = None
    ) -> None:
        self._directory = directory
        self._cores, self._memory = str(cores), memory
        self._options = " ".join(f"-D{key}={value}" for key, value in (settings or {}).items())
        self._daemons: list[_Daemon] = []
        #: For `spark.master`.
        self.endpoint = ""

    def __enter__(self) -> Self:
        try:
            master = self._start("master.Master", HOSTS[0], "--port", "0", "--webui-port", "0")
            self.endpoint = master.wait_for(_ENDPOINT.pattern)[1]
            for host in HOSTS:
                work = str(self._directory / host)
                size = ("--cores", self._cores, "--memory", self._memory, "--webui-port", "0", "--work-dir", work)
                self._start("worker.Worker", host, *size, self.endpoint)
            for worker in self._daemons[1:]:
                worker.wait_for(_REGISTERED)
        except BaseException:
            self.end()
            raise
        return self

    def _start(self, name: str, host: str, *arguments: str) -> _Daemon:
        self._daemons.append(_Daemon(name, host, self._directory, *arguments, options=self._options))
        return self._daemons[-1]

    def end(self) -> None:
        """End all, the Workers first."""
        while self._daemons:
            self._daemons.pop().end()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def session(self) -> str:
        """Lines of a driver program that make `spark`, a session that speculates, of four task slots on two hosts."""
        return f"""
from pyspark.sql import SparkSession
spark = (
    SparkSession.builder.master({self.endpoint!r})
    .config("spark.driver.host", "127.0.0.1").config("spark.driver.bindAddress", "127.0.0.1").config("spark.driver.memory", "512m")
    .config("spark.executor.memory", "512m").config("spark.executor.cores", "{self._cores}")
    .config("spark.ui.enabled", "false").config("spark.ui.showConsoleProgress", "false")
    .config("spark.pyspark.python", {sys.executable!r}).config("spark.sql.shuffle.partitions", "2")
    .config("spark.local.dir", {str(self._directory / "local")!r})
    .config("spark.speculation", "true").config("spark.speculation.interval", "100ms")
    .config("spark.speculation.task.duration.threshold", "1s").config("spark.speculation.minTaskRuntime", "100ms")
    .config("spark.task.maxFailures", "4").config("spark.sparkps.leaseTtl", "1s").config("spark.sparkps.launch", "local")
    .config("spark.sparkps.stagingDir", {str(self._directory / "staged")!r})
    .getOrCreate()
)
spark.sparkContext.setLogLevel("ERROR")
def speculative_tasks():
    "Copies that Spark has started so far."
    context = spark.sparkContext._jsc.sc()
    context.listenerBus().waitUntilEmpty()
    count = 0
    for stage in range(10_000):
        try:
            context.statusStore().lastStageAttempt(stage)
        except Exception:
            return count
        summary = context.statusStore().speculationSummary(stage, 0)
        count += summary.get().numTasks() if summary.isDefined() else 0
"""


__all__ = ["HOSTS", "StandaloneCluster"]
