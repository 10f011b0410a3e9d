"""``launch="executors"``: every node is a one-task Spark job, so that Spark's resource manager starts, restarts and removes it.

All these jobs share one ResourceProfile: with dynamic allocation Spark starts an executor for each of them, and takes it back when the
node has gone; without it they take slots of the executors that there are. The coordinator is a child process of the driver, and all
are connected by TCP.

Whose node it was that a failed attempt ran is known by the attempt's number. Where the node's process ends, its task says so; where
the executor goes with it, Spark's scheduler tells, or the node's silence.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import socket
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from sparkps.config import PREFIX, Settings, conf_of
from sparkps.driver_bridge import resources
from sparkps.driver_bridge.launchers.launched import STATE_WITHIN, LaunchedTier
from sparkps.driver_bridge.launchers.locations import Location, executors, hosts_of_yarn, patience, spread
from sparkps.driver_bridge.launchers.node_jobs import NodeJob
from sparkps.driver_bridge.launchers.node_task import NodeTask
from sparkps.driver_bridge.profiles import Held
from sparkps.driver_bridge.spark.channel import check_channel
from sparkps.driver_bridge.spark.cluster import check_fits, what_there_is
from sparkps.driver_bridge.spark.console import KeepOff
from sparkps.driver_bridge.spark.interrupts import SpareNodes
from sparkps.driver_bridge.spark.master import Master
from sparkps.driver_bridge.spark.session import has_stopped
from sparkps.driver_bridge.spark.slots import check_platform
from sparkps.errors import ConfigError, SparkPSError, TierError
from sparkps.secret import TierSecret
from sparkps.wire.messages.control import NodeGone, TierStatus

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

#: Seconds between two looks at the attempts of the nodes' tasks.
LOOK_EVERY = 0.5

#: Seconds that the first executor of the default profile has to register before nodes are started wherever there will be room.
FIRST_WITHIN = 10.0

_NO_PACKAGE = (
    ". The Python that executors run must have sparkps and what it needs: name one that does (PYSPARK_PYTHON or `spark.pyspark.python`), or"
    " send an environment with the application (`--archives`, see docs/clusters.md)."
)


class ExecutorsTier(LaunchedTier):
    """A tier of nodes in executors; use `launch`.

    Parameters
    ----------
    settings : Settings
    spark : SparkSession
    secret : TierSecret, optional
        See `LaunchedTier`.
    """

    def __init__(self, settings: Settings, spark: SparkSession, secret: TierSecret | None = None) -> None:
        #: The session whose executors run the nodes.
        self.spark = spark
        conf, master = conf_of(spark), spark.sparkContext.master or ""
        self._is_yarn = Master(master).is_yarn
        #: Executors of the default profile that there will be, where Spark was told; else as many as there are nodes.
        self._expected = int(conf.get("spark.executor.instances") or settings.num_nodes)
        self.profile = resources.node_profile(master, conf, settings)
        for warning in resources.warnings(master, conf, settings.num_nodes, settings.node.node_memory):
            log.warning("%s", warning)
        check_fits(spark, self.profile, settings.num_nodes)
        resources.worker_profile(master, conf, settings.workers.gpus)  # what is wrong with it is told now, not at the first run
        self._java_profile = resources.build(self.profile)
        self._held_by = partial(resources.held_by_nodes, master, conf, settings)
        network = settings.network
        self._host = network.coordinator_address or conf.get("spark.driver.host", "127.0.0.1")
        listens_at = network.coordinator_bind_address or conf.get("spark.driver.bindAddress", self._host)
        self._listens_at = f"tcp://{_numeric(listens_at)}"
        self._port = network.coordinator_port or _free_port(self._listens_at)
        #: What Spark does to all jobs, and must not do to those of nodes.
        self._keep_off, self._spare = KeepOff(spark), SpareNodes(spark)
        #: By number; those that have ended go. Owner: `_lock`.
        self._jobs: dict[int, NodeJob] = {}
        #: Why a job has failed for good while the tier started.
        self._failed = ""
        super().__init__(settings, secret)
        self._watcher = threading.Thread(target=self._watch, name="sparkps-node-jobs", daemon=True)

    @property
    def held_by_nodes(self) -> Held:
        """See `RunningTier.held_by_nodes`."""
        return self._held_by(len(self._jobs))

    def _advertised(self) -> str:
        return f"tcp://{self._host}:{self._port}"

    def _bound(self) -> str:
        return f"{self._listens_at}:{self._port}"

    # ---- nodes ---------------------------------------------------------------------------------------------------------

    def _start_node(self, number: int) -> None:
        if not self._watcher.is_alive():
            self._keep_off.begin()
            self._spare.begin()
            self._watcher.start()
        task = NodeTask(self.address, self._settings, number)
        places = spread(self._candidates(), self._taken())
        self._jobs[number] = NodeJob(self.spark, task, self._java_profile, places, self._ended)
        self._jobs[number].start()

    def _candidates(self) -> list[Location]:
        """Where nodes may be, as far as that is known. Standalone spreads executors by itself, Kubernetes by its pod templates."""
        if self.profile.executor is None:
            return self._executors()
        return hosts_of_yarn(self.spark) if self._is_yarn else []

    def _taken(self) -> list[Location]:
        """Where the nodes are; of those that have not joined yet, where they shall be."""
        hosts: dict[int, str] = {}
        if self._is_started:
            with contextlib.suppress(SparkPSError):
                nodes = self.control.request(TierStatus(0, fresh=False), STATE_WITHIN).report["nodes"]
                hosts = {node["job"]: node["host"] for node in nodes if node["state"] == "up"}
        found = []
        for number, job in self._jobs.items():
            intended = job.places[0] if job.places else None
            # On executors that there are the executor counts: Spark may know its host by another name than the machine's, as a pod's.
            if number in hosts and self.profile.executor is None and (running := job.running()) is not None:
                found.append(Location(running.host, running.executor))
            elif number in hosts and (intended is None or intended.host != hosts[number]):
                found.append(Location(hosts[number]))
            elif intended is not None:
                found.append(intended)
        return found

    def _executors(self) -> list[Location]:
        """The executors of the default profile; at the start of an application some are on their way still (see `patience`)."""
        number, cores = min(self._settings.num_nodes, self._expected), self._settings.num_nodes * self._settings.node_cores
        began, pause = time.time(), threading.Event()
        while not self._is_started:
            seen, now = executors(self.spark), time.time()
            if len(seen) >= number and sum(each.cores for each in seen) >= cores:
                break
            if now > (patience(self.spark.sparkContext.startTime / 1e3, seen) if seen else began + FIRST_WITHIN):
                break
            pause.wait(LOOK_EVERY)
        return executors(self.spark)

    def _number_staying(self, going: set[int], report: dict[str, Any]) -> int:
        # the job of a node that is dead has another attempt
        leaving = {node["job"] for node in report["nodes"] if node["id"] in going and node["state"] != "dead"}
        return len(set(self._jobs) - leaving)

    def _check_nodes(self) -> None:
        if self._failed:
            advice = _NO_PACKAGE if "ModuleNotFoundError" in self._failed else ""
            raise TierError(f"The jobs of the nodes must run while the tier starts. One has failed: {self._failed}{advice}")

    def _why_late(self) -> str:
        said = [f"Asked for: {resources.describe(self.profile, self._settings.num_nodes)}."]
        said += [f"Node job {job.number} has failed {job.failure}." for job in self._jobs.values() if job.failure]
        less = f"`{PREFIX}numNodes`, `{PREFIX}nodeCores`, `{PREFIX}nodeMemory`"
        remedy = f"Ask for less ({less}), end other applications, or raise `{PREFIX}startTimeout`."
        return " ".join([*said, what_there_is(self.spark), remedy])

    def _watch(self) -> None:
        """Tell the coordinator of nodes that have gone with their tasks, until the tier ends."""
        while not self._stopping.wait(LOOK_EVERY):
            for job in list(self._jobs.values()):
                self._tell_of_failures(job)

    def _tell_of_failures(self, job: NodeJob) -> None:
        for attempt in job.newly_failed():
            log.warning("node job %d has failed on %s: %s", job.number, attempt.host, attempt.failure)
            with contextlib.suppress(SparkPSError):
                self.control.request(NodeGone(0, "", attempt.failure, attempt.id))

    def _ended(self, job: NodeJob) -> None:
        """A job has ended: in good order where its node was told to stop, or else another one takes its place."""
        threading.Thread(target=self._replace, args=(job,), name="sparkps-node-job", daemon=True).start()

    def _replace(self, job: NodeJob) -> None:
        job.wait()
        if self._stopping.is_set() or has_stopped(self.spark.sparkContext):  # what has ended it is no failure
            return
        if why := job.why():
            log.error("node job %d has failed: %s", job.number, why)
            self._failed = self._failed or why
        self._tell_of_failures(job)
        with self._lock:
            self._jobs.pop(job.number, None)
        with contextlib.suppress(SparkPSError):
            report = self.control.request(TierStatus(0, fresh=False)).report
            with self._lock:
                if self._is_started and not self._stopping.is_set():
                    self._start_missing(report, is_restart=True)

    def scale(self, num_nodes: int, seconds: float) -> None:
        """See `RunningTier.scale`; more nodes than can ever be placed are refused."""
        check_fits(self.spark, self.profile, num_nodes)
        super().scale(num_nodes, seconds)

    # ---- end -----------------------------------------------------------------------------------------------------------

    def _lost_data(self) -> SparkPSError | None:
        with contextlib.suppress(SparkPSError):
            report = self.control.request(TierStatus(0, fresh=False), STATE_WITHIN).report
            if report["state"] == "degraded":
                lost = ", ".join(map(str, report["lost_nodes"]))
                return TierError(f"The nodes of the tier must be running. The only copies of some buckets went with nodes {lost}.")
        return None

    def _coordinator_lost(self) -> None:
        """Nodes go on as long as their tasks."""

    def _end_nodes(self, grace: float) -> None:
        deadline = time.monotonic() + grace
        for job in list(self._jobs.values()):
            if not job.end(max(0.0, deadline - time.monotonic())):
                log.warning("node job %d has not ended: Spark ends it with the application", job.number)
        self._spare.end()
        self._keep_off.end()
        self._end_children([], grace)


def _numeric(host: str) -> str:
    """The address of a host's name: zmq listens at addresses."""
    try:
        return socket.gethostbyname(host)
    except OSError as error:
        raise _not_here(host, error) from None


def _not_here(host: str, error: OSError) -> ConfigError:
    return ConfigError(
        f"`spark.driver.host` and `spark.driver.bindAddress` must name this machine. Got {host!r}: {error}. Set them to an address"
        " that the executors reach.",
        key="spark.driver.host",
    )


def _free_port(listens_at: str) -> int:
    """A TCP port at which nobody listens."""
    address = listens_at.removeprefix("tcp://")
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError as error:
            raise _not_here(address, error) from None
        port: int = probe.getsockname()[1]
        return port


def launch(settings: Settings, spark: SparkSession) -> ExecutorsTier:
    """Start a tier of nodes in executors, and wait until it is ready.

    Parameters
    ----------
    settings : Settings
        Without `nodeMemory` a node takes `resources.DEFAULT_NODE_MEMORY`: a container's memory is counted.
    spark : SparkSession
        On a cluster: YARN, Kubernetes, standalone or local-cluster.

    Raises
    ------
    ConfigError
        The nodes can never be placed, or a setting of Spark would kill them.
    TierError
        A job of the nodes has failed, or the tier was not ready in time; the message says what was asked for, and what there is.

    Examples
    --------
    >>> tier = launch(Settings(num_nodes=2), spark)      # doctest: +SKIP
    >>> tier.stop()                                      # doctest: +SKIP
    """
    return prepared(settings, spark).start()


def prepared(settings: Settings, spark: SparkSession, secret: TierSecret | None = None) -> ExecutorsTier:
    """As `launch`, without starting it; with a secret that the tier has already, if it has one."""
    check_platform(conf_of(spark))
    check_channel(conf_of(spark), settings.network.allow_plaintext_keys)
    if not settings.node.node_memory:
        node = dataclasses.replace(settings.node, node_memory=resources.DEFAULT_NODE_MEMORY)
        settings = dataclasses.replace(settings, node=node)
    return ExecutorsTier(settings, spark, secret)


__all__ = ["ExecutorsTier", "launch", "prepared"]
