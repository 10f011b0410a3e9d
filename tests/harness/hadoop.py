"""A real HDFS and YARN on loopback: NameNode, DataNode, ResourceManager and two NodeManagers, each a JVM of its own.

::

    with HadoopCluster(directory) as hadoop:
        subprocess.run(hadoop.submit("--deploy-mode", "cluster", "job.py"), env=hadoop.environment(), check=True)

The NodeManagers are on 127.0.0.1 and 127.0.0.2: two hosts to YARN and to Spark.
"""

from __future__ import annotations

import getpass
import json
import os
import pathlib
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import pyspark

from sparkps.kernels import places
from tests.harness.daemons import Daemon, Guard
from tests.harness.hadoop_conf import HOSTS, free_ports, hdfs_site, host_names, write_configuration, yarn_site
from tests.harness.hadoop_files import SPARK_JARS, classpath, java, spark_archive, why_not
from tests.harness.jvm import SHORT_LIVED
from tests.harness.waiting import wait_until

ROOT = pathlib.Path(__file__).resolve().parents[2]

#: Seconds for a daemon to be ready, and for an answer over HTTP.
_READY, _ANSWER = 120.0, 10.0

_MAIN = {
    "namenode": "org.apache.hadoop.hdfs.server.namenode.NameNode",
    "datanode": "org.apache.hadoop.hdfs.server.datanode.DataNode",
    "resourcemanager": "org.apache.hadoop.yarn.server.resourcemanager.ResourceManager",
    "nodemanager": "org.apache.hadoop.yarn.server.nodemanager.NodeManager",
}

_JVM = (
    *SHORT_LIVED,
    "-Dlog4j2.configurationFile=conf/log4j2.properties",
    "-Djdk.net.hosts.file=conf/hosts",
    "-Djava.net.preferIPv4Stack=true",
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
    "--add-opens=java.base/java.io=ALL-UNNAMED",
)


@dataclass(frozen=True)
class Application:
    """An application, as the ResourceManager has it."""

    id: str
    name: str
    #: NEW, SUBMITTED, ACCEPTED, RUNNING, FINISHED, FAILED or KILLED.
    state: str
    #: UNDEFINED while it runs; SUCCEEDED, FAILED or KILLED.
    final: str
    diagnostics: str


@dataclass(frozen=True)
class Container:
    """A container that runs, as its NodeManager has it."""

    id: str
    application: str
    host: str
    memory_mb: int
    vcores: int

    @property
    def is_master(self) -> bool:
        """Whether it holds the application's master: Spark's driver in cluster mode."""
        return self.id.endswith("_000001")


class HadoopCluster:
    """The five daemons; a context manager, at whose end they and their files are gone.

    Parameters
    ----------
    directory : Path
        A directory of its own is made there.
    memory_mb : int
        What each NodeManager has for containers.
    vcores : int
    pmem_check : bool
        Whether a container that takes more memory than it asked for is killed.
    tokens : bool
        Whether HDFS issues delegation tokens although nobody has to prove who they are (``always-use``).
    yarn : bool
        Whether there is a YARN, too.
    heap_mb : int
        Of each daemon.
    settings : dict, optional
        More properties, by file: ``{"yarn-site.xml": {"yarn.nodemanager...": 1}}``.

    Attributes
    ----------
    conf_dir : Path
        For HADOOP_CONF_DIR.
    hdfs, webhdfs : str
        ``hdfs://127.0.0.1:PORT``, and the NameNode's web address ``http://127.0.0.1:PORT``.
    resource_manager : str
        The ResourceManager's web address.
    namenode, datanode, resourcemanager : Daemon
    nodemanagers : list of Daemon
    """

    def __init__(
        self,
        directory: pathlib.Path,
        *,
        memory_mb: int = 6144,
        vcores: int = 8,
        pmem_check: bool = False,
        tokens: bool = False,
        yarn: bool = True,
        heap_mb: int = 512,
        settings: Mapping[str, Mapping[str, object]] | None = None,
    ) -> None:
        self.user = getpass.getuser()
        self._base = directory / f"hadoop-{os.getpid()}-{time.time_ns()}"
        self.conf_dir = self._base / "conf"
        self._size = (memory_mb, vcores)
        self._pmem_check, self._tokens, self._heap, self._has_yarn = pmem_check, tokens, heap_mb, yarn
        self._more = settings or {}
        self.hdfs = self.webhdfs = self.resource_manager = ""
        self._guard: Guard | None = None
        self.nodemanagers: list[Daemon] = []

    # ---- start and end ---------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        if reason := why_not():
            raise AssertionError(reason)
        self._classpath = os.pathsep.join(["conf", *classpath()])
        write_configuration(self.conf_dir, self._configuration())
        (self.conf_dir / "hosts").write_text(host_names())
        self._guard = Guard(self._base)
        try:
            self._start()
        except BaseException:
            self.end()
            raise
        return self

    def _start(self) -> None:
        """All at once: each waits for those that it needs."""
        if self._has_yarn:
            self.resourcemanager = self._daemon("resourcemanager")
        self.namenode = self._daemon("namenode")
        self.datanode = self._daemon("datanode")
        for host in HOSTS if self._has_yarn else ():
            self.nodemanagers.append(self._daemon("nodemanager", host))
        if self._has_yarn:
            self.resourcemanager.wait_for("Transitioned to active state", _READY)
        self.datanode.wait_for("successfully registered with NN", _READY)
        for one in self.nodemanagers:
            one.wait_for("Registered with ResourceManager", _READY)
        self._wait_for(self._can_be_written, "HDFS must take files", self.namenode)
        if not self._has_yarn:
            return
        self._wait_for(lambda: self._nodes() == len(HOSTS), f"{len(HOSTS)} NodeManagers must be ready", self.resourcemanager)

    def _daemon(self, name: str, host: str = "") -> Daemon:
        assert self._guard is not None
        scratch = self._base / "tmp"  # of the daemons' web servers, which remove nothing when they are killed
        scratch.mkdir(exist_ok=True)
        command = [java(), f"-Xmx{self._heap}m", f"-Djava.io.tmpdir={scratch}", *_JVM, "-cp", self._classpath, _MAIN[name]]
        if host:
            folders = {key: self._base / "data" / host / key for key in ("local", "log")}
            properties = {f"yarn.nodemanager.{key}-dirs": str(folder) for key, folder in folders.items()}
            properties["yarn.nodemanager.bind-host"] = properties["yarn.nodemanager.hostname"] = host
            properties["yarn.nodemanager.address"] = properties["yarn.nodemanager.localizer.address"] = f"{host}:0"
            properties["yarn.nodemanager.webapp.address"] = f"{host}:0"
            command += [word for key, value in properties.items() for word in ("-D", f"{key}={value}")]
        if name == "namenode":  # made by the first of two runs of it
            shell = " ".join(f"'{word}'" for word in command)
            command = ["/bin/sh", "-c", f"{shell} -format -nonInteractive && exec {shell}"]
        return self._guard.start(f"{name}-{host}" if host else name, command, self._daemon_environment())

    def _daemon_environment(self) -> dict[str, str]:
        """Containers inherit it: nothing of the test's environment, but what any process needs."""
        kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "JAVA_HOME", "TMPDIR") if key in os.environ}
        return {**kept, "HADOOP_CONF_DIR": str(self.conf_dir), "SPARKPS_TEST_RUN": os.environ.get("SPARKPS_TEST_RUN", "")}

    def _wait_for(self, condition: Callable[[], bool], what: str, daemon: Daemon) -> None:
        if not wait_until(condition, _READY, 0.1):
            raise AssertionError(f"{what} within {_READY:g} s. They do not. The end of the log of {daemon.name}:\n{daemon.tail()}")

    def _can_be_written(self) -> bool:
        state = self._jmx("Hadoop:service=NameNode,name=FSNamesystemState")
        info = self._jmx("Hadoop:service=NameNode,name=NameNodeInfo")
        return state.get("NumLiveDataNodes") == 1 and info.get("Safemode") == ""

    def _jmx(self, bean: str) -> dict[str, Any]:
        with suppress(OSError, ValueError, LookupError):
            found: dict[str, Any] = _get(f"{self.webhdfs}/jmx?qry={bean}")["beans"][0]
            return found
        return {}

    def _nodes(self) -> int:
        with suppress(OSError, ValueError):
            return int(_get(f"{self.resource_manager}/ws/v1/cluster/metrics")["clusterMetrics"]["activeNodes"])
        return 0

    def end(self) -> None:
        """End the daemons and all containers, and remove their files."""
        if self._guard is not None:
            self._guard.end()
            self._guard = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    # ---- configuration ---------------------------------------------------------------------------------------------

    def _configuration(self) -> dict[str, dict[str, object]]:
        ports = free_ports(HOSTS[0])
        here = [f"{HOSTS[0]}:{next(ports)}" for _ in range(7)]
        self.hdfs, self.webhdfs, self.resource_manager = f"hdfs://{here[0]}", f"http://{here[1]}", f"http://{here[2]}"
        files: dict[str, dict[str, object]] = {
            "core-site.xml": {
                "fs.defaultFS": self.hdfs,
                "hadoop.http.staticuser.user": self.user,
                "hadoop.tmp.dir": self._base / "data" / "tmp",
            },
            "hdfs-site.xml": hdfs_site(self._base / "data", here[1], tokens=self._tokens),
            "yarn-site.xml": yarn_site(here[2:], *self._size, pmem_check=self._pmem_check),
            "capacity-scheduler.xml": {
                "yarn.scheduler.capacity.root.queues": "default",
                "yarn.scheduler.capacity.root.default.capacity": 100,
                "yarn.scheduler.capacity.maximum-am-resource-percent": 0.8,
                "yarn.scheduler.capacity.resource-calculator": (
                    "org.apache.hadoop.yarn.util.resource.DominantResourceCalculator"
                ),
            },
        }
        for name, properties in self._more.items():
            files.setdefault(name, {}).update(properties)
        return files

    # ---- what programs need ----------------------------------------------------------------------------------------

    def environment(self) -> dict[str, str]:
        """The environment of spark-submit, and of a driver in client mode."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SPARK_", "HADOOP_", "YARN_"))}
        return {
            **kept,
            "HADOOP_CONF_DIR": str(self.conf_dir),
            "PYSPARK_PYTHON": sys.executable,
            "PYSPARK_DRIVER_PYTHON": sys.executable,
            "PYTHONPATH": str(ROOT),
            "SPARK_LOCAL_IP": HOSTS[0],
            "SPARK_SUBMIT_OPTS": " ".join(SHORT_LIVED),
        }

    def spark_conf(self, archive: bool = False) -> dict[str, str]:
        """Settings of a small application on this cluster.

        Parameters
        ----------
        archive : bool
            Containers get Spark's jars as users' clusters give them: from a zip on HDFS, which is put there once, and which each
            NodeManager unpacks once. Otherwise they are taken from where they are, which is faster on one machine.
        """
        jars = {"spark.yarn.archive": self._archive()} if archive else {"spark.yarn.jars": f"local:{SPARK_JARS}/*"}
        return {
            "spark.master": "yarn",
            **jars,
            "spark.driver.host": HOSTS[0],  # in client mode; Spark leaves it out in cluster mode
            "spark.driver.bindAddress": HOSTS[0],
            "spark.driver.memory": "512m",
            "spark.driver.defaultJavaOptions": " ".join(SHORT_LIVED),
            "spark.executor.defaultJavaOptions": " ".join(SHORT_LIVED),
            "spark.yarn.am.extraJavaOptions": " ".join(SHORT_LIVED),
            "spark.executor.memory": "512m",
            "spark.executor.cores": "1",
            "spark.executor.instances": "2",
            "spark.sql.shuffle.partitions": "2",
            "spark.authenticate": "true",
            "spark.network.crypto.enabled": "true",
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.yarn.appMasterEnv.SPARK_LOCAL_IP": HOSTS[0],
            "spark.yarn.appMasterEnv.PYSPARK_PYTHON": sys.executable,
            "spark.yarn.appMasterEnv.PYTHONPATH": str(ROOT),
            "spark.executorEnv.PYTHONPATH": str(ROOT),
            "spark.executorEnv.PYSPARK_PYTHON": sys.executable,
            # Containers have another home: without it each compiles kernels for the first time.
            "spark.executorEnv.SPARKPS_KERNEL_CACHE_DIR": str(places.found().kept_in),
            "spark.yarn.appMasterEnv.SPARKPS_KERNEL_CACHE_DIR": str(places.found().kept_in),
            "spark.yarn.scheduler.heartbeat.interval-ms": "500",
            "spark.yarn.report.interval": "200ms",
        }

    def submit(self, *arguments: str, archive: bool = False, **settings: str) -> list[str]:
        """A command line of spark-submit.

        Parameters
        ----------
        *arguments : str
            Its options, the program, and what follows.
        archive : bool
            See `spark_conf`.
        **settings : str
            Over those of `spark_conf`; names with ``_`` for ``.``, as ``spark_executor_cores="2"``.
        """
        conf = {**self.spark_conf(archive), **{key.replace("_", "."): value for key, value in settings.items()}}
        program = pathlib.Path(pyspark.__file__).parent / "bin" / "spark-submit"
        return [str(program), *(word for key, value in conf.items() for word in ("--conf", f"{key}={value}")), *arguments]

    def _archive(self) -> str:
        made = spark_archive()
        at = f"/spark/{made.name}"
        if self.status(at) is None:
            self.put(at, made.read_bytes())
        return f"{self.hdfs}{at}"

    # ---- HDFS, without what is under test --------------------------------------------------------------------------

    def put(self, path: str, data: bytes) -> None:
        """Make a file on HDFS, or replace it."""
        request = urllib.request.Request(self._webhdfs(path, "CREATE", "&overwrite=true&noredirect=true"), method="PUT")
        with urllib.request.urlopen(request, timeout=_ANSWER) as answer:
            at = json.load(answer)["Location"]
        request = urllib.request.Request(at, data, {"Content-Type": "application/octet-stream"}, method="PUT")
        with urllib.request.urlopen(request, timeout=_READY):
            return

    def get(self, path: str) -> bytes:
        """A file of HDFS."""
        with urllib.request.urlopen(self._webhdfs(path, "OPEN"), timeout=_ANSWER) as answer:
            data: bytes = answer.read()
            return data

    def status(self, path: str) -> dict[str, Any] | None:
        """What HDFS knows of a path; None if there is no such."""
        try:
            found: dict[str, Any] = _get(self._webhdfs(path, "GETFILESTATUS"))["FileStatus"]
            return found
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise

    def _webhdfs(self, path: str, operation: str, more: str = "") -> str:
        return f"{self.webhdfs}/webhdfs/v1{path}?op={operation}&user.name={self.user}{more}"

    # ---- YARN ------------------------------------------------------------------------------------------------------

    def applications(self) -> list[Application]:
        """All applications so far, the oldest first."""
        found = (_get(f"{self.resource_manager}/ws/v1/cluster/apps")["apps"] or {}).get("app", [])
        made = [
            Application(one["id"], one["name"], one["state"], one["finalStatus"], one.get("diagnostics", ""))
            for one in found
        ]
        return sorted(made, key=lambda one: one.id)

    def submitted_at(self, application: str) -> float:
        """When the ResourceManager took it (seconds since 1970)."""
        return float(_get(f"{self.resource_manager}/ws/v1/cluster/apps/{application}")["app"]["startedTime"]) / 1e3

    def containers(self, application: str = "") -> list[Container]:
        """Containers that run, of one application or of all, by their ids."""
        nodes = (_get(f"{self.resource_manager}/ws/v1/cluster/nodes")["nodes"] or {}).get("node", [])
        found = []
        for node in nodes:
            listed = (_get(f"http://{node['nodeHTTPAddress']}/ws/v1/node/containers")["containers"] or {}).get("container", [])
            for one in listed:
                if one["state"] not in ("COMPLETE", "DONE") and not one["state"].startswith(("EXITED", "CONTAINER_CLEAN")):
                    host = node["nodeHostName"]
                    size = (int(one["totalMemoryNeededMB"]), int(one["totalVCoresNeeded"]))
                    found.append(Container(one["id"], _application_of(one["id"]), host, *size))
        return sorted((one for one in found if application in ("", one.application)), key=lambda one: one.id)

    def kill(self, application: str) -> None:
        """End an application, as ``yarn application -kill`` does."""
        _put(f"{self.resource_manager}/ws/v1/cluster/apps/{application}/state?user.name={self.user}", {"state": "KILLED"})

    def kill_container(self, container: Container) -> None:
        """Kill all processes of a container with SIGKILL, behind YARN's back."""
        for file in (self._base / "data" / container.host).rglob(f"{container.id}.pid"):
            with suppress(ProcessLookupError):
                os.killpg(int(file.read_text()), signal.SIGKILL)
            return
        raise AssertionError(f"container {container.id} must run on {container.host}; it has no pid file there")

    def logs(self, application: str, lines: int = 60) -> str:
        """The ends of what an application's containers wrote."""
        shown = []
        for file in sorted(self._base.glob(f"data/*/log/{application}/*/std*")):
            text = file.read_text(errors="replace").splitlines()[-lines:]
            shown.append("\n".join([f"==== {file.parent.name}/{file.name}", *text]))
        return "\n".join(shown)


def _application_of(container: str) -> str:
    """container_1700000000000_0001_01_000002 -> application_1700000000000_0001; some have an epoch `e17_` in front."""
    cluster, number = [part for part in container.split("_")[1:] if not part.startswith("e")][:2]
    return f"application_{cluster}_{number}"


def _get(url: str) -> Any:
    request = urllib.request.Request(url, headers={"Accept": "application/json"})
    with urllib.request.urlopen(request, timeout=_ANSWER) as answer:
        return json.load(answer)


def _put(url: str, what: dict[str, str]) -> None:
    data = json.dumps(what).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method="PUT")
    with urllib.request.urlopen(request, timeout=_ANSWER):
        return


__all__ = ["HOSTS", "Application", "Container", "HadoopCluster"]
