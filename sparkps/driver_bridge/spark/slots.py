"""What the cluster can run at once, and settings of Spark that would kill long tasks: pure functions of the configuration.

A configuration is a mapping of Spark keys to strings; what only the running application knows is in `Observed`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from operator import index
from typing import Any

from sparkps.driver_bridge.spark.master import Master
from sparkps.errors import ConfigError, InvalidInput, NotEnoughSlots

#: (switch, time limit): keys with which Spark kills a Python worker that sends nothing for a while.
_IDLE_KILLERS = (
    ("spark.python.worker.killOnIdleTimeout", "spark.python.worker.idleTimeoutSeconds"),
    ("spark.sql.execution.pyspark.udf.killOnIdleTimeout", "spark.sql.execution.pyspark.udf.idleTimeoutSeconds"),
)

#: Spark's own defaults (`spark.executor.instances` where dynamic allocation is off).
_DEFAULT_INSTANCES = 2

#: Spark's "no limit" for numbers of executors.
_INFINITE = (1 << 31) - 1

_TIME = re.compile(r"\s*([0-9]+)\s*(us|ms|s|m|min|h|d)?\s*\Z")


@dataclass(frozen=True)
class Observed:
    """What the running application sees."""

    #: Processors of the driver's machine, as the JVM counts them: what `local[*]` means.
    cpus: int
    #: Tasks that the executors registered so far can run at once.
    running_slots: int


@dataclass(frozen=True)
class Slots:
    """Tasks that can run at once."""

    #: What a group gets when nothing else is asked for: >= 1.
    default: int
    #: More can never run at once; None: no bound is known.
    limit: int | None
    #: What to change to get more, as the end of a sentence.
    remedy: str


def count_slots(master: str, conf: Mapping[str, str], observed: Observed) -> Slots:
    """Tasks that the cluster can run at once under `conf`.

    Parameters
    ----------
    master : str
        ``spark.master``.
    conf : mapping of str to str
        Entries of the SparkConf.
    observed : Observed

    Returns
    -------
    Slots

    Examples
    --------
    >>> count_slots("local[4]", {}, Observed(cpus=8, running_slots=4)).limit
    4
    >>> yarn = {"spark.executor.instances": "3", "spark.executor.cores": "4", "spark.task.cpus": "2"}
    >>> count_slots("yarn", yarn, Observed(cpus=8, running_slots=0)).default
    6
    """
    local = Master(master).cores(observed.cpus)
    if local is not None:
        limit = _fit(local, conf)
        return Slots(
            max(limit, 1), limit, f"give `spark.master` a thread for each worker (it is {master!r})"
        )
    if Master(master).is_standalone:
        return _standalone(conf, observed)
    return _managed(conf, observed)


def _standalone(conf: Mapping[str, str], observed: Observed) -> Slots:
    """Slots on standalone: executors take what the Workers offer, up to `spark.cores.max`."""
    most = conf.get("spark.cores.max") or conf.get("spark.deploy.defaultCores")
    limit = _fit(int(most), conf) if most else None
    default = observed.running_slots if limit is None or observed.running_slots else limit
    return Slots(
        max(default, 1),
        limit,
        "raise `spark.cores.max` (or lower `spark.task.cpus`), and give the cluster more Workers",
    )


def _managed(conf: Mapping[str, str], observed: Observed) -> Slots:
    """Slots on YARN or Kubernetes: executors of a fixed size, their number fixed or dynamic."""
    each = _slots_per_executor(conf)
    if _flag(conf, "spark.dynamicAllocation.enabled"):
        most = conf.get("spark.dynamicAllocation.maxExecutors")
        first = max(
            _number(conf, "spark.dynamicAllocation.minExecutors", 0),
            _number(conf, "spark.dynamicAllocation.initialExecutors", 0),
            _number(conf, "spark.executor.instances", 0),
        )
        limit = int(most) * each if most and int(most) < _INFINITE else None
        default = limit if limit is not None else max(first * each, observed.running_slots)
        return Slots(max(default, 1), limit, "raise `spark.dynamicAllocation.maxExecutors` or `spark.executor.cores`")
    total = _number(conf, "spark.executor.instances", _DEFAULT_INSTANCES) * each
    return Slots(
        max(total, 1), total, "raise `spark.executor.instances` or `spark.executor.cores` (or lower `spark.task.cpus`)"
    )


def _slots_per_executor(conf: Mapping[str, str]) -> int:
    slots = _fit(_number(conf, "spark.executor.cores", 1), conf)
    per_task = conf.get("spark.task.resource.gpu.amount")
    if per_task and float(per_task) > 0:
        slots = min(slots, int(float(conf.get("spark.executor.resource.gpu.amount", "0")) / float(per_task) + 1e-9))
    return slots


def observe(spark: Any) -> tuple[str, dict[str, str], Observed]:
    """Master, configuration (session settings included) and observations of a running SparkSession."""
    context = spark.sparkContext
    conf = dict(context.getConf().getAll())
    conf.update({key: value for key, value in spark.conf.getAll.items() if key.startswith("spark.sql.")})
    java = context._jsc.sc()
    profile = java.resourceProfileManager().defaultResourceProfile()
    cpus = context._jvm.java.lang.Runtime.getRuntime().availableProcessors()
    return context.master, conf, Observed(cpus=cpus, running_slots=java.maxNumConcurrentTasks(profile))


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
        raise NotEnoughSlots(
            f"All workers of a group run at once. The cluster has {slots.limit} task slots, {asked} workers were asked for:"
            f" ask for fewer (`num_workers`), or {slots.remedy}.",
            slots=slots.limit,
            asked=asked,
        )
    return asked


def check_platform(conf: Mapping[str, str]) -> None:
    """Refuse settings under which Spark kills long Python tasks.

    Raises
    ------
    ConfigError
        Names the key.
    """
    for switch, limit in _IDLE_KILLERS:
        seconds = _seconds(conf.get(limit, "0"))
        if seconds > 0 and _flag(conf, switch):
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
    cpus = float(conf.get("spark.task.cpus") or 1)
    return int(cores / cpus + 1e-9)


def _number(conf: Mapping[str, str], key: str, default: int) -> int:
    raw = conf.get(key)
    if raw is None or raw == "":
        return default
    try:
        return int(float(raw))
    except ValueError:
        raise ConfigError(f"`{key}` must be a number. Got {raw!r} instead.", key=key) from None


def _flag(conf: Mapping[str, str], key: str) -> bool:
    return conf.get(key, "false").strip().lower() == "true"


def _seconds(raw: str) -> float:
    """Seconds of a Spark time; a plain number is seconds."""
    match = _TIME.match(raw)
    if match is None:
        return 1.0  # not understood: take it as set
    scale = {"us": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
    return float(match[1]) * scale[match[2] or "s"]


__all__ = ["Observed", "Slots", "check_platform", "choose_num_workers", "count_slots", "observe"]
