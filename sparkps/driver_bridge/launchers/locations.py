"""Where nodes shall run: on different hosts, and on different executors, as far as there are any.

A resource manager that starts an executor for each node may put all of them on one host. Spark tells it where a waiting task would
like to be, so a node's task likes a host that has fewer nodes than others.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from py4j.protocol import Py4JError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)


class Location(NamedTuple):
    """Where a node may run."""

    host: str
    #: Spark's id of an executor there; empty: any, such as one that is still to be started.
    executor: str = ""
    cores: int = 0
    #: When it registered (seconds since 1970).
    since: float = 0.0

    @property
    def preference(self) -> str:
        """As Spark writes the preference of a task: a host, or an executor (its ExecutorCacheTaskLocation)."""
        return f"executor_{self.host}_{self.executor}" if self.executor else self.host


def executors(spark: SparkSession) -> list[Location]:
    """The executors of the default profile that are there."""
    found = spark.sparkContext._jsc.sc().statusStore().executorList(True)
    seen = [found.apply(i) for i in range(found.size())]
    return [
        Location(each.hostPort().rpartition(":")[0], each.id(), each.totalCores(), each.addTime().getTime() / 1e3)
        for each in seen
        if each.id() != "driver" and each.resourceProfileId() == 0
    ]


def patience(started: float, seen: Sequence[Location]) -> float:
    """Until when to wait for executors that are on their way: one takes about as long as another on a machine that is as busy.

    Parameters
    ----------
    started : float
        When the application did (seconds since 1970).
    seen : sequence of Location
        Executors that have registered; at least one.

    Examples
    --------
    >>> patience(100.0, [Location("here", "0", 1, since=106.0)])
    111.0
    """
    first = min(place.since for place in seen)
    return first + 0.5 * max(first - started, 0.0) + 2.0


def hosts_of_yarn(spark: SparkSession) -> list[Location]:
    """The hosts whose NodeManagers run, those with the most free memory first; none where YARN does not say."""
    context: Any = spark.sparkContext
    jvm = context._jvm
    try:
        client = jvm.org.apache.hadoop.yarn.client.api.YarnClient.createYarnClient()
        client.init(jvm.org.apache.hadoop.yarn.conf.YarnConfiguration(context._jsc.hadoopConfiguration()))
        client.start()
        try:
            state = jvm.org.apache.hadoop.yarn.api.records.NodeState
            states = context._gateway.new_array(state, 1)
            states[0] = state.RUNNING
            free = {report.getNodeId().getHost(): _free(report) for report in client.getNodeReports(states)}
        finally:
            client.stop()
    except Py4JError as error:
        log.debug("YARN does not tell its hosts: %s", error)
        return []
    return [Location(host) for host in sorted(free, key=lambda host: -free[host])]


def _free(report: Any) -> int:
    used = report.getUsed()
    return int(report.getCapability().getMemorySize()) - (int(used.getMemorySize()) if used is not None else 0)


def spread(candidates: Sequence[Location], taken: Iterable[Location]) -> list[Location]:
    """The place where one more node is best: on a host with the fewest nodes, there on an executor with the fewest.

    Parameters
    ----------
    candidates : sequence of Location
    taken : iterable of Location
        Where each of the other nodes is, or shall be.

    Returns
    -------
    list of Location
        One, or none where there are no candidates.

    Examples
    --------
    >>> a, b, c = Location("here", "0"), Location("here", "1"), Location("there", "2")
    >>> [place.executor for place in spread([a, b, c], [a])]
    ['2']
    >>> [place.executor for place in spread([a, b, c], [a, c])]
    ['1']
    """
    nodes = list(taken)
    hosts, on = Counter(place.host for place in nodes), Counter((place.host, place.executor) for place in nodes)
    return sorted(candidates, key=lambda each: (hosts[each.host], on[each.host, each.executor]))[:1]


__all__ = ["Location", "executors", "hosts_of_yarn", "spread"]
