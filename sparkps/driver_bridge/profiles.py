"""Profiles: what an executor and its tasks have, as values; as Spark takes them, and in words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sparkps.driver_bridge.spark.conf_values import MIB, shown_size

if TYPE_CHECKING:
    from pyspark.resource import ResourceProfile

#: Name of the GPU among Spark's resources.
GPU = "gpu"


@dataclass(frozen=True)
class Executor:
    """What one executor of a profile has. Sizes are bytes."""

    #: 0: what the manager gives, as Spark's default on standalone is.
    cores: int
    memory: int
    #: Beside the heap; 0: what Spark adds by itself.
    overhead: int
    gpus: int = 0
    #: Path of the discovery script, as executors see it; empty: the resource manager says which GPUs an executor has.
    discovery: str = ""
    #: Only Kubernetes asks for it.
    vendor: str = ""
    #: Off the heap; None: what the default profile has.
    off_heap: int | None = None


@dataclass(frozen=True)
class Profile:
    """What tasks of one kind ask for."""

    name: str
    #: None: these tasks run on the executors of the default profile.
    executor: Executor | None
    #: Cores of a task.
    cpus: float
    #: GPUs of a task, or its share of one.
    gpus: float = 0.0

    @property
    def tasks_per_executor(self) -> int:
        """Tasks that an executor of its own runs at once; 0: not known."""
        if self.executor is None or not self.executor.cores:
            return 0
        slots = int(self.executor.cores / self.cpus + 1e-9)
        return min(slots, gpu_slots(self.executor.gpus, self.gpus)) if self.gpus else slots


def build(profile: Profile) -> ResourceProfile:
    """The profile as Spark takes it, for `RDD.withResources` and `DataFrame.mapInArrow`. Needs a running SparkContext.

    Where Spark knows an equal one already it is that, so that tasks find the executors of earlier ones.
    """
    from pyspark.resource import ExecutorResourceRequests, ResourceProfileBuilder, TaskResourceRequests

    tasks = TaskResourceRequests().cpus(profile.cpus)
    if profile.gpus:
        tasks = tasks.resource(GPU, profile.gpus)
    builder = ResourceProfileBuilder().require(tasks)
    if profile.executor is not None:
        executor = profile.executor
        asked = ExecutorResourceRequests().memory(_in_mib(executor.memory))
        if executor.cores:
            asked = asked.cores(executor.cores)
        if executor.overhead:
            asked = asked.memoryOverhead(_in_mib(executor.overhead))
        if executor.off_heap is not None:
            asked = asked.offheapMemory(_in_mib(executor.off_heap))
        if executor.gpus:
            asked = asked.resource(GPU, executor.gpus, executor.discovery, executor.vendor)
        builder = builder.require(asked)
    return _known(builder.build)


def _known(built: ResourceProfile) -> ResourceProfile:
    """The equal one that Spark knows; else `built`."""
    from pyspark import SparkContext
    from pyspark.resource import ResourceProfile

    java: Any = built._java_resource_profile
    context: Any = SparkContext._active_spark_context
    equal = context._jsc.sc().resourceProfileManager().getEquivalentProfile(java)
    return ResourceProfile(_java_resource_profile=equal.get()) if equal.isDefined() else built


@dataclass(frozen=True)
class Held:
    """Cores of workers' executors that nodes hold: so many nodes, each so many cores."""

    nodes: int = 0
    cores: int = 1

    def slots(self, cpus: float) -> int:
        """Slots of tasks of `cpus` cores that they may cost, wherever Spark puts them."""
        return self.nodes * math.ceil(self.cores / cpus - 1e-9)


def describe(profile: Profile, count: int) -> str:
    """What `count` tasks of a profile ask for, as a part of a sentence.

    Examples
    --------
    >>> describe(Profile("nodes", Executor(1, 512 << 20, 1536 << 20), 1), 2)
    '2 executors of 1 core, 512 MiB of heap and 1.5 GiB beside it, no GPU'
    >>> describe(Profile("workers", None, 1, 0.5), 4)
    "4 tasks of 1 core and 0.5 GPU each, on executors of Spark's default profile"
    """
    if profile.executor is None:
        gpus = f" and {_counted(profile.gpus, 'GPU')}" if profile.gpus else ""
        each = " each" if count > 1 else ""
        return f"{_counted(count, 'task')} of {_counted(profile.cpus, 'core')}{gpus}{each}, on executors of Spark's default profile"
    executor = profile.executor
    per_executor = profile.tasks_per_executor
    executors = math.ceil(count / per_executor) if per_executor else count
    cores = _counted(executor.cores, "core") if executor.cores else "all cores of a Worker"
    beside = shown_size(executor.overhead) if executor.overhead else "Spark's usual overhead"
    gpus = _counted(executor.gpus, "GPU") if executor.gpus else "no GPU"
    return f"{_counted(executors, 'executor')} of {cores}, {shown_size(executor.memory)} of heap and {beside} beside it, {gpus}"


def gpu_slots(gpus: int, each: float) -> int:
    """Tasks that so many GPUs serve, if each takes `each` of them: Spark shares one out to floor(1 / each) tasks.

    Examples
    --------
    >>> gpu_slots(2, 0.5), gpu_slots(2, 0.4), gpu_slots(5, 2), gpu_slots(1, 2)
    (4, 4, 2, 0)
    """
    return gpus * int(1 / each + 1e-9) if each < 1 else gpus // int(each)


def _in_mib(count: int) -> str:
    return f"{math.ceil(count / MIB)}m"


def _counted(count: float, what: str) -> str:
    return f"{count:g} {what}{'' if count <= 1 else 's'}"


__all__ = ["GPU", "Executor", "Profile", "build", "describe", "gpu_slots"]
