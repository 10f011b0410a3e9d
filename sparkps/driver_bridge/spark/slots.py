"""What the cluster can run at once, and settings of Spark that would kill long tasks: pure functions of the configuration.

A configuration is a mapping of Spark keys to strings; what only the running application knows is in `Observed`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from operator import index
from typing import Any

from sparkps.driver_bridge.profiles import Held, Profile, gpu_slots
from sparkps.driver_bridge.resources import DEFAULT_INSTANCES, check_dynamic, worker_profile
from sparkps.driver_bridge.spark.conf_values import flag, fraction, is_dynamic, number
from sparkps.driver_bridge.spark.master import Master
from sparkps.errors import ConfigError, InvalidInput, NotEnoughSlots

#: (switch, time limit): keys with which Spark kills a Python worker that sends nothing for a while.
_IDLE_KILLERS = (
    ("spark.python.worker.killOnIdleTimeout", "spark.python.worker.idleTimeoutSeconds"),
    ("spark.sql.execution.pyspark.udf.killOnIdleTimeout", "spark.sql.execution.pyspark.udf.idleTimeoutSeconds"),
)

#: Spark's "no limit" for numbers of executors.
_INFINITE = (1 << 31) - 1

_TIME = re.compile(r"\s*([0-9]+)\s*(us|ms|s|m|min|h|d)?\s*\Z")


#: Where nodes hold no cores of workers' executors.
_NOTHING = Held()


@dataclass(frozen=True)
class Observed:
    """What the running application sees."""

    #: Processors of the driver's machine, as the JVM counts them: what `local[*]` means.
    cpus: int
    #: Tasks of the default profile that the executors registered so far can run at once.
    running_slots: int
    #: Executors registered so far.
    executors: int = 0


@dataclass(frozen=True)
class Slots:
    """Tasks of workers that can run at once."""

    #: What a group gets when nothing else is asked for: >= 1.
    default: int
    #: More can never run at once; None: no bound is known.
    limit: int | None
    #: What to change to get more, as the end of a sentence.
    remedy: str
    #: Slots beside them that nodes hold.
    reserved: int = 0


def count_slots(
    master: str, conf: Mapping[str, str], observed: Observed, *, gpus: float = 0.0, held: Held = _NOTHING
) -> Slots:
    """Tasks of workers that the cluster can run at once under `conf`.

    Parameters
    ----------
    master : str
        ``spark.master``.
    conf : mapping of str to str
        Entries of the SparkConf.
    observed : Observed
    gpus : float
        GPUs of one worker: `spark.sparkps.worker.gpus`.
    held : Held
        What nodes hold of the default profile's executors (`resources.held_by_nodes`).

    Returns
    -------
    Slots

    Raises
    ------
    ConfigError
        Such workers could never run, or never all at once.

    Examples
    --------
    >>> count_slots("local[4]", {}, Observed(cpus=8, running_slots=4)).limit
    4
    >>> yarn = {"spark.executor.instances": "3", "spark.executor.cores": "4", "spark.task.cpus": "2"}
    >>> count_slots("yarn", yarn, Observed(cpus=8, running_slots=0)).default
    6
    >>> count_slots("yarn", yarn, Observed(cpus=8, running_slots=0), held=Held(2, 2)).limit
    4
    """
    kind, profile = Master(master), worker_profile(master, conf, gpus)
    reserved = held.slots(fraction(conf, "spark.task.cpus", 1.0))
    if is_dynamic(master, conf):
        check_dynamic(conf)
    if kind.in_driver:
        return _in_driver(kind, conf, observed, gpus)
    if kind.accounts_memory and is_dynamic(master, conf):
        return _dynamic(conf, observed, profile)
    if kind.is_standalone:
        return _standalone(conf, observed, profile, held, reserved)
    if kind.cores_of_worker and profile is not None and profile.executor is not None:
        return _local_cluster(kind, conf, profile, reserved)
    executors = _fixed_executors(kind, conf)
    each = _fit(executors.cores, conf)
    served = _served_by_gpus(executors.gpus, profile, conf, each)
    # Nodes may be where their cores cost the fewest slots, or the most.
    beside = _fit(executors.count * executors.cores - held.nodes * held.cores, conf)
    limit = max(min(executors.count * each, beside, executors.count * served), 0)
    sure = executors.count * served - _lost_to_nodes(each, served, reserved)
    return Slots(max(sure, 1), limit, executors.remedy, executors.count * each - max(beside, 0) if held.nodes else 0)


@dataclass(frozen=True)
class _Executors:
    """Executors that an application has from its start to its end, all alike."""

    count: int
    cores: int
    gpus: int
    remedy: str


def _in_driver(kind: Master, conf: Mapping[str, str], observed: Observed, gpus: float) -> Slots:
    """Slots of a local master: its threads, and where workers have GPUs, those of the driver."""
    limit = _fit(kind.cores(observed.cpus) or 1, conf)
    remedy = f"give `spark.master` a thread for each worker (it is {kind.name!r})"
    if gpus:
        served = gpu_slots(number(conf, "spark.driver.resource.gpu.amount", 0), gpus)
        if served < limit:
            limit, remedy = served, "raise `spark.driver.resource.gpu.amount`, or lower `spark.sparkps.worker.gpus`"
    return Slots(max(limit, 1), limit, remedy)


def _local_cluster(kind: Master, conf: Mapping[str, str], profile: Profile, reserved: int) -> Slots:
    """Slots of executors with GPUs, which the Workers of a local-cluster start when they are asked for."""
    assert profile.executor is not None
    gpus, cores = number(conf, "spark.worker.resource.gpu.amount", 0), kind.cores_of_worker
    total = kind.cores(0) or 0
    executors = total // cores * min(cores // profile.executor.cores, gpus // profile.executor.gpus)
    limit = max(min(_fit(total, conf) - reserved, executors * profile.tasks_per_executor), 0)
    remedy = f"give `spark.master` more cores (it is {kind.name!r}), or raise `spark.worker.resource.gpu.amount` (it is {gpus})"
    return Slots(max(limit, 1), limit, remedy, reserved)


def _fixed_executors(kind: Master, conf: Mapping[str, str]) -> _Executors:
    """The executors, where the configuration says how many there are."""
    gpus = number(conf, "spark.executor.resource.gpu.amount", 0)
    if kind.cores_of_worker:
        cores = min(max(number(conf, "spark.executor.cores", kind.cores_of_worker), 1), kind.cores_of_worker)
        count = (kind.cores(0) or 0) // cores
        return _Executors(count, cores, gpus, f"give `spark.master` more cores (it is {kind.name!r})")
    return _Executors(
        number(conf, "spark.executor.instances", DEFAULT_INSTANCES),
        number(conf, "spark.executor.cores", 1),
        gpus,
        "raise `spark.executor.instances` or `spark.executor.cores` (or lower `spark.task.cpus`)",
    )


def _standalone(conf: Mapping[str, str], observed: Observed, profile: Profile | None, held: Held, reserved: int) -> Slots:
    """Slots on standalone: executors take what the Workers offer, up to `spark.cores.max`."""
    most = number(conf, "spark.cores.max", 0) or number(conf, "spark.deploy.defaultCores", 0)
    limit = max(_fit(most - held.nodes * held.cores, conf), 0) if most else None
    running = observed.running_slots - reserved if observed.running_slots else limit or 0
    if profile is not None and profile.executor is None and observed.executors:
        gpus = number(conf, "spark.executor.resource.gpu.amount", 0)
        running = min(running, observed.executors * gpu_slots(gpus, profile.gpus))
    remedy = "raise `spark.cores.max` (or lower `spark.task.cpus`), and give the cluster more Workers"
    taken = _fit(most, conf) - limit if most and limit is not None else reserved
    return Slots(max(running, 1), limit, remedy, taken)


def _dynamic(conf: Mapping[str, str], observed: Observed, profile: Profile | None) -> Slots:
    """Slots on YARN or Kubernetes with dynamic allocation, whose limits hold for each profile."""
    cores = number(conf, "spark.executor.cores", 1)
    if profile is None:
        gpus = number(conf, "spark.executor.resource.gpu.amount", 0)
        each, running = _served_by_gpus(gpus, None, conf, _fit(cores, conf)), observed.running_slots
    else:
        each, running = profile.tasks_per_executor, 0
    most = number(conf, "spark.dynamicAllocation.maxExecutors", _INFINITE)
    first = max(
        number(conf, "spark.dynamicAllocation.minExecutors", 0),
        number(conf, "spark.dynamicAllocation.initialExecutors", 0),
        number(conf, "spark.executor.instances", 0),
    )
    limit = most * each if most < _INFINITE else None
    default = limit if limit is not None else max(first * each, running)
    return Slots(max(default, 1), limit, "raise `spark.dynamicAllocation.maxExecutors` or `spark.executor.cores`")


def _served_by_gpus(gpus: int, profile: Profile | None, conf: Mapping[str, str], slots: int) -> int:
    """How many of an executor's slots its GPUs serve: all of them where a task needs none."""
    each = profile.gpus if profile is not None else fraction(conf, "spark.task.resource.gpu.amount", 0.0, or_zero=True)
    return min(slots, gpu_slots(gpus, each)) if each else slots


def _lost_to_nodes(each: int, served: int, reserved: int) -> int:
    """Slots of workers that nodes may cost: on executors where GPUs do not serve all slots nodes first take the others, or come
    together on few of them, as Spark likes."""
    if not each:
        return 0
    full, rest = divmod(reserved, each)
    return full * served + max(0, rest - (each - served))


def observe(spark: Any) -> tuple[str, dict[str, str], Observed]:
    """Master, configuration (session settings included) and observations of a running SparkSession."""
    context = spark.sparkContext
    conf = dict(context.getConf().getAll())
    conf.update({key: value for key, value in spark.conf.getAll.items() if key.startswith("spark.sql.")})
    java = context._jsc.sc()
    profile = java.resourceProfileManager().defaultResourceProfile()
    cpus = context._jvm.java.lang.Runtime.getRuntime().availableProcessors()
    executors = java.getExecutorMemoryStatus().size() - 1  # the driver is one of them
    return context.master, conf, Observed(cpus, java.maxNumConcurrentTasks(profile), executors)


def choose_num_workers(asked: int | None, slots: Slots) -> int:
    """Number of workers of a group: `asked`, or what can run at once.

    Raises
    ------
    InvalidInput
        `asked` is not a positive integer.
    NotEnoughSlots
        The cluster can never run so many tasks at once.
    """
    if asked is None:
        asked = slots.default
    elif isinstance(asked, bool) or not hasattr(asked, "__index__") or asked < 1:
        raise InvalidInput(
            f"`num_workers` must be an int >= 1, or None for what can run at once. Got {asked!r} instead."
        )
    asked = index(asked)  # of numpy's, too
    if slots.limit is not None and asked > slots.limit:
        raise _too_many(asked, slots, slots.limit)
    return asked


def _too_many(asked: int, slots: Slots, limit: int) -> NotEnoughSlots:
    fewer = "ask for fewer (`num_workers`), or " if limit else ""
    if slots.reserved:
        has = (
            f"The cluster has {limit + slots.reserved} task slots, of which nodes hold {slots.reserved}. {asked} workers were asked for,"
            f" for which it must have {asked + slots.reserved} in all"
        )
    else:
        has = f"The cluster has {limit} task slots, {asked} workers were asked for"
    return NotEnoughSlots(
        f"All workers of a group run at once. {has}: {fewer}{slots.remedy}.",
        slots=limit,
        reserved=slots.reserved,
        asked=asked,
    )


def check_platform(conf: Mapping[str, str]) -> None:
    """Refuse settings under which Spark kills long Python tasks.

    Raises
    ------
    ConfigError
        Names the key.
    """
    for switch, limit in _IDLE_KILLERS:
        seconds = _seconds(conf.get(limit, "0"))
        if seconds > 0 and flag(conf, switch):
            raise ConfigError(
                f"A worker trains for a long time without sending rows to Spark, and `{limit}` = {conf[limit]} with `{switch}` = true would"
                f" kill it. Set `{switch}` to false, or `{limit}` to 0.",
                key=switch,
            )
    memory = conf.get("spark.executor.pyspark.memory")
    if memory:
        raise ConfigError(
            "`spark.executor.pyspark.memory` limits the address space of Python workers (RLIMIT_AS), under which memory maps and compiled"
            f" kernels fail. Got {memory!r}; remove it, and set `spark.executor.memoryOverhead` instead.",
            key="spark.executor.pyspark.memory",
        )


def _fit(cores: int, conf: Mapping[str, str]) -> int:
    """Tasks that `cores` run at once; a task may take a fraction of a core."""
    cpus = fraction(conf, "spark.task.cpus", 1.0)
    return int(cores / cpus + 1e-9)


def _seconds(raw: str) -> float:
    """Seconds of a Spark time; a plain number is seconds."""
    match = _TIME.match(raw)
    if match is None:
        return 1.0  # not understood: take it as set
    scale = {"us": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
    return float(match[1]) * scale[match[2] or "s"]


__all__ = ["Observed", "Slots", "check_platform", "choose_num_workers", "count_slots", "observe"]
