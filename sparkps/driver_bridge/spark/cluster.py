"""What the cluster has now, for messages, and what it can never give: asked of the running application and of YARN.

Nothing here raises for want of an answer, or waits long for one: whoever asks has worse to tell.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from sparkps.driver_bridge.profiles import Profile, describe
from sparkps.driver_bridge.resources import DEFAULT_INSTANCES, check_most
from sparkps.driver_bridge.spark.conf_values import MIB, fraction, is_dynamic, number, shown_size
from sparkps.driver_bridge.spark.master import Master
from sparkps.errors import ConfigError

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds that one look may take: resource managers that are gone are asked for minutes by their own clients.
_PATIENCE = 2.0

_QUEUE = "spark.yarn.queue"


@dataclass(frozen=True)
class Executors:
    """The executors of one profile."""

    #: 0 is Spark's default one.
    profile: int
    count: int
    cores: int
    #: Tasks that run there now.
    tasks: int


@dataclass(frozen=True)
class Yarn:
    """What YARN has. Sizes are bytes."""

    hosts: int
    memory: int
    cores: int
    free_memory: int
    free_cores: int
    queue: str
    #: Shares of the cluster: what the queue has for sure, at most, and of what it has now in use. None: there is no such queue.
    capacity: float | None
    most: float
    used: float
    #: Of one container; 0: not known.
    largest_memory: int
    largest_cores: int


def what_there_is(spark: Any) -> str:
    """What the cluster has now, in a few sentences. Never raises; takes some seconds at most.

    Parameters
    ----------
    spark : SparkSession
    """
    context = spark.sparkContext
    executors = _within(_PATIENCE, lambda: executors_of(context))
    found = ["What executors Spark has is not known." if executors is None else in_words(executors)]
    if Master(context.master).is_yarn:
        yarn = _within(_PATIENCE, lambda: yarn_of(context))
        found.append("YARN's ResourceManager did not answer." if yarn is None else yarn_in_words(yarn))
    return " ".join(found)


def check_fits(spark: Any, profile: Profile, count: int) -> None:
    """Refuse what the cluster can never give: that many tasks of a profile, all at once.

    Parameters
    ----------
    spark : SparkSession
    profile : Profile
    count : int

    Raises
    ------
    ConfigError
        Says what was asked for, what there is, and what to set. What may yet come, as a host that joins, is no error.
    """
    context = spark.sparkContext
    conf = dict(context.getConf().getAll())
    kind = Master(context.master)
    if profile.executor is None:
        _check_slots(kind, conf, profile, count)
        return
    if is_dynamic(context.master, conf) and profile.tasks_per_executor:
        check_most(conf, -(-count // profile.tasks_per_executor), f"executors for the {profile.name}")
    if kind.cores_of_worker:
        largest = kind.memory_of_worker, kind.cores_of_worker, f"A Worker of {kind.name!r}", "spark.master"
        _check_container(profile, count, profile.executor.memory, *largest)
    elif kind.is_yarn:
        yarn = _within(_PATIENCE, lambda: yarn_of(context))
        if yarn is not None:
            check_yarn(profile, count, yarn)


def check_yarn(profile: Profile, count: int, yarn: Yarn) -> None:
    """Refuse what YARN, as it is, will never give.

    Raises
    ------
    ConfigError
    """
    if yarn.capacity is None:
        raise ConfigError(f"`{_QUEUE}` must name a queue that YARN has. Got {yarn.queue!r} instead.", key=_QUEUE)
    assert profile.executor is not None
    executor = profile.executor
    memory = executor.memory + executor.overhead + (executor.off_heap or 0)
    most = "The largest container of YARN (`yarn.scheduler.maximum-allocation-mb`, `-vcores`)"
    if yarn.largest_memory:
        _check_container(profile, count, memory, yarn.largest_memory, yarn.largest_cores, most, "yarn.scheduler.maximum-allocation-mb")


def _check_container(profile: Profile, count: int, memory: int, most: int, cores: int, what: str, key: str) -> None:
    assert profile.executor is not None
    if memory <= most and profile.executor.cores <= cores:
        return
    less = (
        "Set less `spark.sparkps.nodeMemory`, with more nodes, or fewer `spark.sparkps.nodeCores`"
        if profile.name == "nodes"
        else "Set less `spark.executor.memory` or `spark.executor.cores`"
    )
    raise ConfigError(
        f"Each executor must fit where it is to run. Asked for were {describe(profile, count)}: {shown_size(memory)} and"
        f" {_counted(profile.executor.cores, 'core')} each. {what} has {shown_size(most)} and {_counted(cores, 'core')}. {less}.",
        key=key,
        asked=memory,
        largest=most,
    )


def _check_slots(kind: Master, conf: dict[str, str], profile: Profile, count: int) -> None:
    """Tasks on the executors of the default profile, whose number is fixed."""
    if kind.in_driver:
        return
    # One worker, at least, is to run beside nodes.
    worker = fraction(conf, "spark.task.cpus", 1.0) if profile.name == "nodes" else 0.0
    if kind.is_standalone:
        _check_most_cores(conf, profile, count, worker)
        return
    cores = max(number(conf, "spark.executor.cores", kind.cores_of_worker or 1), 1)
    executors = (kind.cores(0) or 0) // cores if kind.cores_of_worker else number(conf, "spark.executor.instances", DEFAULT_INSTANCES)
    each = int(cores / profile.cpus + 1e-9)
    if count <= executors * each and _is_room(executors, cores, each, count, profile.cpus, worker):
        return
    workers = f", and {_counted(worker, 'core')} at least on one executor for a worker beside them: {count + 1} in all" if worker else ""
    raise ConfigError(
        f"Without dynamic allocation {profile.name} run on the executors of the default profile. There are {executors} of"
        f" {_counted(cores, 'core')}, which hold {_counted(executors * each, 'task')} of {_counted(profile.cpus, 'core')}. {count} were"
        f" asked for{workers}. Raise `spark.executor.instances` or `spark.executor.cores`, ask for fewer {profile.name}, or set"
        " `spark.dynamicAllocation.enabled` to true.",
        key="spark.executor.instances",
        slots=executors * each,
        asked=count,
    )


def _is_room(executors: int, cores: int, each: int, count: int, cpus: float, worker: float) -> bool:
    """Whether a worker fits beside `count` tasks that are put together as closely as they can be."""
    if not worker:
        return True
    full, rest = divmod(count, max(each, 1))
    free = cores - rest * cpus if full < executors else 0.0
    return free + 1e-9 >= worker or (full + bool(rest) < executors and cores + 1e-9 >= worker)


def _check_most_cores(conf: dict[str, str], profile: Profile, count: int, worker: float) -> None:
    """What an application on standalone may have at most; how many cores the Workers have is not known."""
    key = "spark.cores.max"
    most = number(conf, key, 0)
    needs = count * profile.cpus + worker
    if most and needs > most + 1e-9:
        beside = f" and one worker beside them {_counted(worker, 'core')}" if worker else ""
        raise ConfigError(
            f"`{key}` must be at least {needs:g}: {count} {profile.name} need {_counted(profile.cpus, 'core')} each{beside}. Got {most}"
            f" instead. Raise it, or ask for fewer {profile.name}.",
            key=key,
            slots=most,
            asked=count,
        )


# ---- looking ---------------------------------------------------------------------------------------------------------


def executors_of(context: Any) -> list[Executors]:
    """The executors that the application has now, by profile."""
    found: dict[int, Executors] = {}
    listed = context._jsc.sc().statusStore().executorList(True)
    for i in range(listed.size()):
        each = listed.apply(i)
        if each.id() == "driver":
            continue
        profile = int(each.resourceProfileId())
        before = found.get(profile, Executors(profile, 0, 0, 0))
        cores, tasks = before.cores + int(each.totalCores()), before.tasks + int(each.activeTasks())
        found[profile] = Executors(profile, before.count + 1, cores, tasks)
    return [found[profile] for profile in sorted(found)]


def yarn_of(context: Any) -> Yarn:
    """What YARN has now, by its own client in the driver's JVM."""
    jvm = context._jvm
    conf = jvm.org.apache.hadoop.yarn.conf.YarnConfiguration(context._jsc.hadoopConfiguration())
    client = jvm.org.apache.hadoop.yarn.client.api.YarnClient.createYarnClient()
    client.init(conf)
    client.start()
    try:
        return _ask(context, client)
    finally:
        client.stop()


def _ask(context: Any, client: Any) -> Yarn:
    jvm, queue = context._jvm, context.getConf().get(_QUEUE, "default")
    state = jvm.org.apache.hadoop.yarn.api.records.NodeState
    states = context._gateway.new_array(state, 1)
    states[0] = state.RUNNING
    hosts = list(client.getNodeReports(states))
    memory = sum(int(host.getCapability().getMemorySize()) for host in hosts)
    cores = sum(int(host.getCapability().getVirtualCores()) for host in hosts)
    used = [host.getUsed() for host in hosts if host.getUsed() is not None]
    found = client.getQueueInfo(queue)
    largest = client.createApplication().getNewApplicationResponse().getMaximumResourceCapability()
    return Yarn(
        hosts=len(hosts),
        memory=memory * MIB,
        cores=cores,
        free_memory=(memory - sum(int(each.getMemorySize()) for each in used)) * MIB,
        free_cores=cores - sum(int(each.getVirtualCores()) for each in used),
        queue=queue,
        capacity=None if found is None else float(found.getCapacity()),
        most=1.0 if found is None else float(found.getMaximumCapacity()),
        used=0.0 if found is None else float(found.getCurrentCapacity()),
        largest_memory=int(largest.getMemorySize()) * MIB,
        largest_cores=int(largest.getVirtualCores()),
    )


# ---- saying ----------------------------------------------------------------------------------------------------------


def in_words(executors: list[Executors]) -> str:
    """Executors as a sentence.

    Examples
    --------
    >>> in_words([Executors(0, 2, 4, 1), Executors(2, 1, 1, 1)])
    'Spark has 2 executors of the default profile with 4 cores and 1 running task; 1 executor of profile 2 with 1 core and 1 running task.'
    >>> in_words([])
    'Spark has no executor.'
    """
    if not executors:
        return "Spark has no executor."

    def told(each: Executors) -> str:
        of = f"profile {each.profile}" if each.profile else "the default profile"
        cores, tasks = _counted(each.cores, "core"), _counted(each.tasks, "running task")
        return f"{_counted(each.count, 'executor')} of {of} with {cores} and {tasks}"

    return f"Spark has {'; '.join(told(each) for each in executors)}."


def yarn_in_words(yarn: Yarn) -> str:
    """What YARN has, in sentences."""
    hosts = (
        f"YARN has {_counted(yarn.hosts, 'host')} with {shown_size(yarn.memory)} and {_counted(yarn.cores, 'core')}, of which"
        f" {shown_size(yarn.free_memory)} and {_counted(yarn.free_cores, 'core')} are free; its largest container has"
        f" {shown_size(yarn.largest_memory)} and {_counted(yarn.largest_cores, 'core')}."
    )
    if yarn.capacity is None:
        return f"{hosts} It has no queue {yarn.queue!r} (`{_QUEUE}`)."
    most = int(yarn.most * yarn.memory)
    return (
        f"{hosts} Queue {yarn.queue!r} has {yarn.capacity:.0%} of it, at most {yarn.most:.0%} ({shown_size(most)}), and uses"
        f" {yarn.used:.0%} of what it has."
    )


def _counted(count: float, what: str) -> str:
    return f"{count:g} {what}{'' if count == 1 else 's'}"


def _within(seconds: float, look: Callable[[], T]) -> T | None:
    """What `look` finds within `seconds`; None: nothing, in time or at all."""
    found: list[T] = []

    def run() -> None:
        try:
            found.append(look())
        except Exception as error:  # of the JVM, or of a Spark that is being stopped
            log.debug("the cluster could not be asked", exc_info=error)

    thread = threading.Thread(target=run, name="sparkps-look-at-cluster", daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else None


__all__ = ["Executors", "Yarn", "check_fits", "check_yarn", "executors_of", "in_words", "what_there_is", "yarn_in_words", "yarn_of"]
