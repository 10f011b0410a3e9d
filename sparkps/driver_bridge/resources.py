"""What nodes and workers ask of Spark's resource manager: ResourceProfiles, as pure functions of the configuration.

Spark knows two kinds of profiles besides its default one, both on clusters only (YARN, Kubernetes, standalone, local-cluster):

- With dynamic allocation a profile has executors of its own: Spark starts them for its tasks, and no other task runs there.
- Without it a profile says only what a task needs (Spark's TaskResourceProfile); its tasks run on the executors that the
  application was given at its start.

A node needs cores, a little heap for the JVM that Spark starts around it, and memory beside the heap for its rows::

    container of a node = NODE_HEAP + (nodeMemory + NODE_PROCESSES)        nodeMemory: DEFAULT_NODE_MEMORY where none is set

Never a GPU; and never `spark.executor.pyspark.memory`, which limits the address space of a process. A worker asks for what the
default profile has, and for GPUs where `spark.sparkps.worker.gpus` says so. Everything else of the application stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import PurePosixPath

from sparkps.config import PREFIX, Settings
from sparkps.driver_bridge.profiles import GPU, Executor, Held, Profile, build, describe, gpu_slots
from sparkps.driver_bridge.spark import conf_values as values
from sparkps.driver_bridge.spark.conf_values import MIB, shown_size
from sparkps.driver_bridge.spark.master import Master
from sparkps.errors import ConfigError

#: Heap of the JVM around a node, which only starts and watches its process. Spark itself takes no less than 450 MiB.
NODE_HEAP = 512 * MIB

#: Beside that heap and the rows: the rest of the JVM, Python's daemon, and the task that watches the node.
NODE_PROCESSES = 512 * MIB

#: `spark.executor.instances` where nothing is set and dynamic allocation is off.
DEFAULT_INSTANCES = 2

#: `nodeMemory` of a node in an executor, where none is set: the host's memory is not ours there.
DEFAULT_NODE_MEMORY = 1 << 30

#: The discovery script's name; on YARN it comes by `--files`, which puts it into every container's directory.
DISCOVERY_SCRIPT = "discover-gpu.sh"

#: Where the image of conf/kubernetes/Dockerfile has it: files that are sent with the application arrive after the discovery.
DISCOVERY_IN_IMAGE = f"/opt/sparkps/{DISCOVERY_SCRIPT}"

#: Who makes the GPUs, as Kubernetes names them, where nothing is said.
VENDOR = "nvidia.com"

_LONG_TASKS = "spark.speculation.task.duration.threshold"
_DYNAMIC = "spark.dynamicAllocation."
_EXECUTOR_GPU = f"spark.executor.resource.{GPU}."
_GPUS = f"{PREFIX}worker.gpus"


def node_profile(master: str, conf: Mapping[str, str], settings: Settings) -> Profile:
    """The profile that all nodes of a tier share: an executor of it holds exactly one node.

    Parameters
    ----------
    master : str
        ``spark.master``.
    conf : mapping of str to str
        Entries of the SparkConf.
    settings : Settings

    Raises
    ------
    ConfigError
        Spark could never run such nodes; names the keys.

    Examples
    --------
    >>> node_profile("yarn", {"spark.dynamicAllocation.enabled": "true"}, Settings()).executor.overhead >> 20
    1536
    >>> print(node_profile("yarn", {}, Settings()).executor)
    None
    """
    _check_master(master, f"Nodes in executors (`{PREFIX}launch`)", "say `launch='local'`, which starts them beside the driver")
    _check_python_memory(conf)
    cores = settings.node_cores
    if not values.is_dynamic(master, conf):
        _check_node_cores(master, conf, cores)
        return Profile("nodes", None, cores)
    check_dynamic(conf)
    check_most(conf, settings.num_nodes, "nodes")
    memory = settings.node.node_memory or DEFAULT_NODE_MEMORY
    # Of the JVM around a node, which needs none; Spark takes no less where the application has some.
    off_heap = MIB if values.flag(conf, "spark.memory.offHeap.enabled") else None
    return Profile("nodes", Executor(cores, NODE_HEAP, memory + NODE_PROCESSES, off_heap=off_heap), cores)


def worker_profile(master: str, conf: Mapping[str, str], gpus: float) -> Profile | None:
    """The profile of workers that have GPUs; None: they run in Spark's default profile, as it is.

    On a local master that is so in any case, for Spark gives its tasks no resources there: the workers share out what
    `spark.driver.resource.gpu.amount` gives to the driver.

    Parameters
    ----------
    master : str
    conf : mapping of str to str
    gpus : float
        `spark.sparkps.worker.gpus`, or what a group says in its place. Spark lets floor(1 / gpus) tasks share a GPU where it is a fraction.

    Raises
    ------
    ConfigError
        Spark could never run such workers; names the keys.

    Examples
    --------
    >>> conf = {"spark.dynamicAllocation.enabled": "true", "spark.executor.cores": "4", "spark.files": "conf/discover-gpu.sh"}
    >>> worker_profile("yarn", conf, 0.5).executor.gpus
    2
    >>> worker_profile("yarn", conf, 0) is None
    True
    """
    if not gpus:
        return None
    if Master(master).in_driver:
        _check_gpus_of_driver(conf, gpus)
        return None
    cpus = _task_cpus(conf)
    if not values.is_dynamic(master, conf):
        _check_gpus_of_executors(conf, gpus)
        return Profile("workers", None, cpus, gpus)
    check_dynamic(conf)
    return Profile("workers", _gpu_executor(master, conf, cpus, gpus), cpus, gpus)


def warnings(master: str, conf: Mapping[str, str], num_nodes: int, node_memory: int = 0) -> list[str]:
    """What works, but not as one would wish, for nodes in executors. One sentence or two each.

    Parameters
    ----------
    master : str
    conf : mapping of str to str
    num_nodes : int
    node_memory : int
        Bytes of `nodeMemory`; 0: none is set.
    """
    found = []
    if conf.get("spark.speculation", "false").lower() == "true" and conf.get(_LONG_TASKS):
        found.append(
            f"`{_LONG_TASKS}` has Spark copy every task that runs for so long, those of nodes too: a copy waits in an executor of its own"
            " until its node is gone. Leave the setting out, or count with twice as many executors for nodes."
        )
    if not values.is_dynamic(master, conf):
        return found + _warnings_of_fixed(master, conf, num_nodes, node_memory or DEFAULT_NODE_MEMORY)
    nodes = f"{num_nodes} node{'s' if num_nodes > 1 else ''}"
    if (least := values.number(conf, f"{_DYNAMIC}minExecutors", 0)) > num_nodes:
        found.append(
            f"`{_DYNAMIC}minExecutors` = {least} applies to each profile: Spark keeps {least} executors of the size of a node for"
            f" {nodes}, {least - num_nodes} of them idle. Set it to {num_nodes} or less."
        )
    first = max((f"{_DYNAMIC}initialExecutors", "spark.executor.instances"), key=lambda key: values.number(conf, key, 0))
    if (count := values.number(conf, first, 0)) > max(num_nodes, least):
        found.append(
            f"`{first}` = {count} applies to each profile: Spark may start {count} executors of the size of a node for {nodes}, and keep"
            f" them until they have been idle for `{_DYNAMIC}executorIdleTimeout`. Leave it out, or set it to {num_nodes} or less."
        )
    if Master(master).is_standalone and not conf.get("spark.executor.cores"):
        found.append(
            "An executor of Spark's default profile takes all free cores of its Worker, and leaves none for nodes that come later. Set"
            " `spark.executor.cores`."
        )
    return found


def describe_workers(master: str, conf: Mapping[str, str], profile: Profile | None, count: int) -> str:
    """What `count` workers ask for, as a part of a sentence; `profile` None: of the default one.

    Examples
    --------
    >>> describe_workers("yarn", {"spark.executor.cores": "2"}, None, 4)
    "2 executors of 2 cores, 1 GiB of heap and Spark's usual overhead beside it, no GPU"
    >>> describe_workers("local[2]", {}, None, 4)
    "4 threads of 'local[2]'"
    """
    if Master(master).in_driver:
        return f"{count} threads of {master!r}"
    if profile is None:
        executor = Executor(
            _executor_cores(master, conf),
            values.size(conf, "spark.executor.memory", 1 << 30),
            values.size(conf, "spark.executor.memoryOverhead", 0),
            values.number(conf, f"{_EXECUTOR_GPU}amount", 0),
        )
        gpus = values.fraction(conf, f"spark.task.resource.{GPU}.amount", 0.0, or_zero=True)
        profile = Profile("default", executor, _task_cpus(conf), gpus)
    return describe(profile, count)


def held_by_nodes(master: str, conf: Mapping[str, str], settings: Settings, num_nodes: int) -> Held:
    """What nodes take of the cores of workers; nothing where they get executors of their own beside them.

    On standalone and local-cluster executors of all profiles share the cores that there are.
    """
    if Master(master).in_driver or (Master(master).accounts_memory and values.is_dynamic(master, conf)):
        return Held()
    return Held(num_nodes, settings.node_cores)


# ---- what Spark would refuse, or wait for without end ------------------------------------------------------------------


def check_dynamic(conf: Mapping[str, str]) -> None:
    """Refuse dynamic allocation that Spark does not start, or that gives a group only some of its executors.

    Raises
    ------
    ConfigError
        Names the key.
    """
    moved = values.flag(conf, "spark.storage.decommission.shuffleBlocks.enabled", default=True)
    is_kept = (
        values.flag(conf, f"{_DYNAMIC}shuffleTracking.enabled", default=True)
        or values.flag(conf, "spark.shuffle.service.enabled")
        or (moved and values.flag(conf, "spark.decommission.enabled"))
        or "spark.shuffle.sort.io.plugin.class" in conf
    )
    if not is_kept:
        raise ConfigError(
            f"`{_DYNAMIC}enabled` = true needs somebody to keep shuffled rows of executors that go. Set"
            f" `{_DYNAMIC}shuffleTracking.enabled` to true, or start a shuffle service and set `spark.shuffle.service.enabled`.",
            key=f"{_DYNAMIC}shuffleTracking.enabled",
        )
    share = values.fraction(conf, f"{_DYNAMIC}executorAllocationRatio", 1.0)
    if share < 1:
        raise ConfigError(
            f"All nodes, and all workers of a group, run at once. With `{_DYNAMIC}executorAllocationRatio` = {share:g} Spark asks for"
            " executors for only so many of their tasks. Set it to 1.",
            key=f"{_DYNAMIC}executorAllocationRatio",
        )


def check_most(conf: Mapping[str, str], executors: int, what: str) -> None:
    """Refuse more executors of one profile than dynamic allocation may have.

    Raises
    ------
    ConfigError
    """
    key = f"{_DYNAMIC}maxExecutors"
    most = values.number(conf, key, executors)
    if most < executors:
        raise ConfigError(
            f"Each of {executors} {what} needs an executor, and `{key}`, which applies to each profile, must be at least that. Got {most}"
            " instead.",
            key=key,
        )


def _check_master(master: str, what: str, instead: str) -> None:
    if Master(master).in_driver:
        raise ConfigError(
            f"{what} need a master that starts executors: yarn, k8s://, spark:// or local-cluster. Got {master!r}: {instead}.",
            master=master,
            key="spark.master",
        )


def _check_python_memory(conf: Mapping[str, str]) -> None:
    key = "spark.executor.pyspark.memory"
    if conf.get(key):
        raise ConfigError(
            f"`{key}` limits the address space of Python processes (RLIMIT_AS), under which a node's tables and compiled kernels cannot be."
            f" Got {conf[key]!r}: remove it, and set `{PREFIX}nodeMemory` and `spark.executor.memoryOverhead` instead.",
            key=key,
        )


def _check_node_cores(master: str, conf: Mapping[str, str], cores: int) -> None:
    has = _executor_cores(master, conf)
    if has and has < cores:
        raise ConfigError(
            f"Without dynamic allocation a node runs on an executor of the default profile: `{PREFIX}nodeCores` must be at most"
            f" `spark.executor.cores` ({has}). Got {cores} instead.",
            key=f"{PREFIX}nodeCores",
        )


def _check_gpus_of_driver(conf: Mapping[str, str], gpus: float) -> None:
    key = f"spark.driver.resource.{GPU}.amount"
    has = values.number(conf, key, 0)
    if not gpu_slots(has, gpus):
        raise ConfigError(
            f"On a local master workers have the GPUs of the driver: with `{_GPUS}` = {gpus:g}, `{key}` must be at least"
            f" {math.ceil(gpus)}, and `spark.driver.resource.{GPU}.discoveryScript` the path of conf/{DISCOVERY_SCRIPT}. Got {has}"
            f" instead. To train without a GPU set `{_GPUS}` (or `gpusPerWorker` of the estimator) to 0.",
            key=key,
        )


def _check_gpus_of_executors(conf: Mapping[str, str], gpus: float) -> None:
    key = f"{_EXECUTOR_GPU}amount"
    has = values.number(conf, key, 0)
    if not gpu_slots(has, gpus):
        raise ConfigError(
            f"Without dynamic allocation workers run on executors of the default profile: with `{_GPUS}` = {gpus:g}, `{key}` must be at"
            f" least {math.ceil(gpus)}. Got {has} instead. Or set `{_DYNAMIC}enabled` to true: then workers have executors with GPUs of"
            " their own, and everything else of the application has none.",
            key=key,
        )


# ---- executors of workers ----------------------------------------------------------------------------------------------


def _gpu_executor(master: str, conf: Mapping[str, str], cpus: float, gpus: float) -> Executor:
    """An executor of the default profile's size, with a GPU, or its share, for each of its slots."""
    cores = _executor_cores(master, conf)
    if not cores:
        raise ConfigError(
            f"With dynamic allocation on standalone, `{_GPUS}` needs `spark.executor.cores`: it says how many workers an executor has,"
            " and so how many GPUs. It is not set.",
            key="spark.executor.cores",
        )
    slots = int(cores / cpus + 1e-9)
    if not slots:
        raise ConfigError(f"`spark.task.cpus` must be at most `spark.executor.cores` ({cores}). Got {cpus:g}.", key="spark.task.cpus")
    amount = values.number(conf, f"{_EXECUTOR_GPU}amount", 0) or _gpus_for(slots, gpus)
    if not gpu_slots(amount, gpus):
        raise ConfigError(
            f"`{_EXECUTOR_GPU}amount` must be at least the GPUs of one worker, `{_GPUS}` = {gpus:g}. Got {amount} instead.",
            key=f"{_EXECUTOR_GPU}amount",
        )
    vendor = VENDOR if Master(master).is_kubernetes else ""
    return Executor(
        cores,
        values.size(conf, "spark.executor.memory", 1 << 30),
        values.size(conf, "spark.executor.memoryOverhead", 0),
        amount,
        _discovery(master, conf),
        conf.get(f"{_EXECUTOR_GPU}vendor", vendor),
        values.size(conf, "spark.memory.offHeap.size", 0, 1) if values.flag(conf, "spark.memory.offHeap.enabled") else None,
    )


def _gpus_for(slots: int, each: float) -> int:
    """GPUs that so many workers need, each `each` of them: a whole number."""
    return math.ceil(slots / int(1 / each + 1e-9)) if each < 1 else slots * int(each)


def _discovery(master: str, conf: Mapping[str, str]) -> str:
    """The discovery script as executors see it. On standalone the Workers have said what they have."""
    given = conf.get(f"{_EXECUTOR_GPU}discoveryScript", "")
    if given or Master(master).workers_have_gpus:
        return given
    if Master(master).is_kubernetes:
        return DISCOVERY_IN_IMAGE
    sent = ",".join(conf.get(key, "") for key in ("spark.files", "spark.yarn.dist.files"))
    if DISCOVERY_SCRIPT in (PurePosixPath(name.partition("#")[0]).name for name in sent.split(",")):
        return f"./{DISCOVERY_SCRIPT}"
    raise ConfigError(
        f"Executors with GPUs find them by a script. Send ours with the application (`--files conf/{DISCOVERY_SCRIPT}`), or set"
        f" `{_EXECUTOR_GPU}discoveryScript` to the path of one that every host has.",
        key=f"{_EXECUTOR_GPU}discoveryScript",
    )


def _executor_cores(master: str, conf: Mapping[str, str]) -> int:
    """Cores of an executor of the default profile; 0: all those of its Worker."""
    asked = values.number(conf, "spark.executor.cores", 0)
    if asked or Master(master).is_standalone:
        return asked
    return Master(master).cores_of_worker or 1


def _task_cpus(conf: Mapping[str, str]) -> float:
    cpus = values.fraction(conf, "spark.task.cpus", 1.0)
    return int(cpus) if cpus == int(cpus) else cpus


def _warnings_of_fixed(master: str, conf: Mapping[str, str], num_nodes: int, node_memory: int) -> list[str]:
    if not Master(master).accounts_memory:
        return []
    has = values.size(conf, "spark.executor.memoryOverhead", _usual_overhead(master, conf))
    executors = max(values.number(conf, "spark.executor.instances", DEFAULT_INSTANCES), 1)
    on_one = math.ceil(num_nodes / executors)
    needs = on_one * (node_memory + NODE_PROCESSES)
    if has >= needs:
        return []
    nodes = "a node is" if on_one == 1 else f"{on_one} nodes are"
    warning = (
        "Without dynamic allocation nodes keep their rows in executors of the default profile, beside the heap. With"
        f" `{PREFIX}nodeMemory` of {shown_size(node_memory)}, `spark.executor.memoryOverhead` should be at least {needs // MIB}m where"
        f" {nodes} on one executor, and as much more for each further one. It is {shown_size(has)}, and the cluster kills a container that"
        " takes more."
    )
    return [warning]


def _usual_overhead(master: str, conf: Mapping[str, str]) -> int:
    heap = values.size(conf, "spark.executor.memory", 1 << 30)
    usual = 0.4 if Master(master).is_kubernetes else 0.1  # of an application in Python
    share = values.fraction(conf, "spark.executor.memoryOverheadFactor", usual)
    return max(int(share * heap), values.size(conf, "spark.executor.minMemoryOverhead", 384 * MIB))




__all__ = [
    "DEFAULT_INSTANCES",
    "DEFAULT_NODE_MEMORY",
    "NODE_HEAP",
    "NODE_PROCESSES",
    "Executor",
    "Profile",
    "build",
    "check_dynamic",
    "check_most",
    "describe",
    "describe_workers",
    "gpu_slots",
    "held_by_nodes",
    "node_profile",
    "warnings",
    "worker_profile",
]
