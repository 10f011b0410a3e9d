"""All settings, parsed once from ``spark.sparkps.*`` into frozen dataclasses; nothing else reads SparkConf.

Sections::

    Settings            numNodes, launch, time limits of start and stop     PSContext and the launchers
    ├── node            NodeSettings        travel to a node in `Welcome`
    ├── client          ClientSettings      travel to a client in `Attached`
    ├── workers         WorkerSettings      worker groups: leases, staging, memory
    └── network         NetworkSettings     ports, addresses and limits of connections

Times are seconds (a plain number, or ``10s``, ``500ms``, ``2m``, ``1h``), sizes are bytes (a plain number, or ``64k``, ``2m``,
``1g``). ``conf/sparkps-defaults.conf`` lists every key with its reason.
"""

from __future__ import annotations

import dataclasses
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparkps.errors import ConfigError
from sparkps.namespaces import is_owner
from sparkps.plain import is_text

PREFIX = "spark.sparkps."

#: Heartbeats of a node within the deadline, where only that is set, and the usual interval is longer: four may be late or lost.
BEATS_PER_DEADLINE = 5

#: Seconds of silence after which a node is dead, where replicas take over and no other deadline was given.
REPLICATED_DEADLINE = 2.5

#: Most nodes of a tier.
MOST_NODES = 256

_SECONDS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}


@dataclass(frozen=True)
class Key:
    """How one key is read: its type in words, its parser, and what must hold."""

    name: str
    parse: Callable[[str], Any]
    holds: Callable[[Any], bool]
    must: str

    def read(self, raw: str) -> Any:
        """The value of `raw`, checked."""
        try:
            value = self.parse(raw.strip())
        except ValueError:
            raise self.error(raw) from None
        return self.check(value, raw)

    def check(self, value: Any, raw: object = None) -> Any:
        """`value`, if it is one that this key takes."""
        if not self.holds(value):
            raise self.error(value if raw is None else raw)
        return value

    def error(self, got: object) -> ConfigError:
        """The error for a value that this key does not take."""
        return ConfigError(f"`{PREFIX}{self.name}` must be {self.must}. Got {got!r} instead.", key=PREFIX + self.name)


def parse_seconds(raw: str) -> float:
    """Seconds of ``10``, ``10s``, ``500ms``, ``2m``, ``1h``."""
    match = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*([a-z]*)", raw.lower())
    if match is None or (match[2] or "s") not in _SECONDS:
        raise ValueError(raw)
    return float(match[1]) * _SECONDS[match[2] or "s"]


def parse_bytes(raw: str) -> int:
    """Bytes of ``4096``, ``64k``, ``2m``, ``1g``; ``kb`` and ``kib`` are the same as ``k``."""
    match = re.fullmatch(r"([0-9]+)\s*([bkmgtp]?)(?:i?b)?", raw.lower())
    if match is None:
        raise ValueError(raw)
    return int(match[1]) * _BYTES[match[2] or "b"]


def parse_switch(raw: str) -> bool:
    """Whether ``true``, and not ``false``."""
    if raw.lower() not in ("true", "false"):
        raise ValueError(raw)
    return raw.lower() == "true"


def _count(name: str, default: int, low: int, high: int) -> Any:
    must = f"an int in [{low}, {high}]"
    key = Key(name, int, lambda v: isinstance(v, int) and not isinstance(v, bool) and low <= v <= high, must)
    return field(default=default, metadata={"key": key})


def _time(name: str, default: float, low: float = 0.001, high: float = 30 * 86400.0) -> Any:
    must = f"a time in [{low:g}, {high:g}] seconds, as '10s', '500ms', '2m' or '1h'"
    key = Key(name, parse_seconds, lambda v: isinstance(v, (int, float)) and low <= v <= high, must)
    return field(default=default, metadata={"key": key})


def _size(name: str, default: int, low: int, high: int = 1 << 50) -> Any:
    must = f"a size in [{low}, {high}] bytes, as '4096', '64k', '2m' or '1g'"
    key = Key(name, parse_bytes, lambda v: isinstance(v, int) and low <= v <= high, must)
    return field(default=default, metadata={"key": key})


def _size_or_none(name: str, low: int, high: int = 1 << 50) -> Any:
    """A size, or empty, which is 0: whoever needs it finds out."""
    must = f"a size in [{low}, {high}] bytes, as '512m' or '8g', or empty"

    def parse(raw: str) -> int:
        return parse_bytes(raw) if raw else 0

    key = Key(name, parse, lambda v: isinstance(v, int) and not isinstance(v, bool) and (v == 0 or low <= v <= high), must)
    return field(default=0, metadata={"key": key})


#: What must hold of an amount of GPUs.
FRACTION = "0, a number in (0, 0.5], or a whole number up to 1024"


def is_fraction(v: Any) -> bool:
    """Whether `v` is a whole number, or a part of one, as Spark takes amounts of a resource for a task.

    Examples
    --------
    >>> [is_fraction(v) for v in (0, 0.25, 2.0, 0.7, 1.5, True, "1")]
    [True, True, True, False, False, False, False]
    """
    return isinstance(v, (int, float)) and not isinstance(v, bool) and (0 <= v <= 0.5 or (1 <= v <= 1024 and v == int(v)))


def _fraction(name: str) -> Any:
    """A whole number, or a part of one, as Spark takes amounts of a resource for a task."""
    return field(default=0.0, metadata={"key": Key(name, float, is_fraction, FRACTION)})


def _choice(name: str, default: str, choices: tuple[str, ...]) -> Any:
    must = "one of " + ", ".join(map(repr, choices))
    return field(default=default, metadata={"key": Key(name, str, lambda v: v in choices, must)})


def _name(name: str, default: str) -> Any:
    must = "a name of letters, digits, '_' and '-'"
    key = Key(name, str, lambda v: isinstance(v, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", v) is not None, must)
    return field(default=default, metadata={"key": key})


def _switch(name: str, default: bool) -> Any:
    key = Key(name, parse_switch, lambda v: isinstance(v, bool), "one of true, false")
    return field(default=default, metadata={"key": key})


def _host(name: str, may_vary: bool = False) -> Any:
    """A name or an address; one that differs from host to host may be the value of an environment variable there."""
    pattern = r"[A-Za-z0-9_.-]{0,255}" + (r"|\$[A-Za-z_][A-Za-z0-9_]{0,255}" if may_vary else "")
    varies = ", or `$NAME`, an environment variable there," if may_vary else ""
    must = f"a name or an IPv4 address of a host{varies} or empty; IPv6 is not supported"
    key = Key(name, str, lambda v: isinstance(v, str) and re.fullmatch(pattern, v) is not None, must)
    return field(default="", metadata={"key": key})


def ports(raw: str) -> range:
    """The ports of ``7100`` or ``7100-7199``; of nothing, port 0: whichever is free.

    Examples
    --------
    >>> ports("7100-7102"), ports("7100"), ports("")
    (range(7100, 7103), range(7100, 7101), range(0, 1))
    """
    first, _, last = raw.partition("-")
    return range(int(first or 0), int(last or first or 0) + 1)


def _ports(name: str) -> Any:
    def holds(v: Any) -> bool:
        if not isinstance(v, str) or re.fullmatch(r"([0-9]{1,5}(-[0-9]{1,5})?)?", v) is None:
            return False
        found = ports(v)
        return len(found) > 0 and (not v or found[0] > 0) and found[-1] <= 65535

    return field(default="", metadata={"key": Key(name, str, holds, "a range of ports as '7100-7199', one port, or empty")})


def _path(name: str) -> Any:
    key = Key(name, str, _can_travel, "a path or a URL, or empty")
    return field(default="", metadata={"key": key})


def _local_path(name: str) -> Any:
    key = Key(name, str, lambda v: _can_travel(v) and "://" not in v, "a path on each machine, or empty")
    return field(default="", metadata={"key": key})


def _url(name: str) -> Any:
    key = Key(name, str, _can_travel, "the URL of a tier, as sparkps://host:port, or empty")
    return field(default="", metadata={"key": key})


def _owner(name: str) -> Any:
    must = "a name of a letter or '_', and then letters, digits, '_', '.' and '-', 64 characters in all, or empty"
    return field(default="", metadata={"key": Key(name, str, lambda v: v == "" or is_owner(v), must)})


def _time_or_none(name: str, low: float, high: float = 3650 * 86400.0) -> Any:
    """A time, or empty, which is 0: for ever."""
    must = f"a time in [{low:g}, {high:g}] seconds, as '12h' or '30d', or empty"

    def parse(raw: str) -> float:
        return parse_seconds(raw) if raw else 0.0

    def holds(v: Any) -> bool:
        return isinstance(v, (int, float)) and not isinstance(v, bool) and (v == 0 or low <= v <= high)

    return field(default=0.0, metadata={"key": Key(name, parse, holds, must)})


def _can_travel(value: Any) -> bool:
    """Settings go to other processes as JSON: text in UTF-8."""
    return isinstance(value, str) and "\0" not in value and is_text(value)


@dataclass(frozen=True)
class NodeSettings:
    """What a node needs to know; sent to it in `Welcome`."""

    #: Seconds between two heartbeats of a node.
    heartbeat_interval: float = _time("heartbeatInterval", 1.0, 0.01, 3600)
    #: A node that was silent for so long is dead; a node that heard nothing for so long exits.
    heartbeat_deadline: float = _time("heartbeatDeadline", 30.0, 0.05, 3600)
    #: A client session that was silent for so long is forgotten, with its key sets.
    session_ttl: float = _time("sessionTtl", 3600.0, 1)
    #: Largest message that a node takes, all frames together.
    max_message_bytes: int = _size("maxMessageBytes", 256 << 20, 1 << 20, 1 << 40)
    #: BSP: bytes of pushes of clocks that are still open, per node and worker group; a rank that is ahead of others waits above.
    buffer_bytes: int = _size("bufferBytes", 256 << 20, 1 << 16)
    #: Bytes that a node may use; 0: its share of the host's or container's memory (see `host_memory`). Near it new rows are refused.
    node_memory: int = _size_or_none("nodeMemory", 64 << 20)
    #: Bytes that a node keeps for one session, which is one thread of a client: its key sets, answers that it may ask for again, requests
    #: that wait for other ranks. More are refused. 0: a quarter of what the node may use.
    session_memory: int = _size_or_none("sessionMemory", 1 << 20)
    #: Whether nodes take functions of users (`PSContext.function`): pickled code, which they run. Everything else on the wire is data.
    allow_functions: bool = _switch("allowFunctions", True)
    #: When a write is acknowledged: "sync", when every replica has it; "async", when its primary has it: faster, and what was
    #: acknowledged last is lost with a node.
    replication_ack: str = _choice("replicationAck", "sync", ("sync", "async"))
    #: Bytes of requests that may wait on a node for earlier ones of their session; more are dropped, and sent again. More than
    #: the credits of `ClientSettings`, from which it is derived.
    session_bytes: int = field(default=256 << 20, metadata={"derived": True})

    def __post_init__(self) -> None:
        _check_fields(self)
        if self.heartbeat_deadline < 2 * self.heartbeat_interval:
            raise ConfigError(
                f"`{PREFIX}heartbeatDeadline` must be at least twice `{PREFIX}heartbeatInterval` ({self.heartbeat_interval:g} s)."
                f" Got {self.heartbeat_deadline:g} s instead.",
                key=PREFIX + "heartbeatDeadline",
            )


@dataclass(frozen=True)
class ClientSettings:
    """What a client needs to know; sent to it in `Attached`."""

    #: Deadline of one call (pull, push, call ...), unless it waits for a group's clock.
    request_timeout: float = _time("requestTimeout", 60.0)
    #: Deadline of a pull that waits for other ranks of its group.
    wait_timeout: float = _time("waitTimeout", 600.0)
    #: A request without an answer is sent again after this time, then after twice that, up to `retry_max`.
    retry_initial: float = _time("retryInitial", 2.0)
    #: Longest time between two sendings of one request.
    retry_max: float = _time("retryMax", 15.0)
    #: Payload of one message; larger requests are cut at bucket borders and pipelined.
    chunk_bytes: int = _size("chunkBytes", 1 << 20, 4096, 64 << 20)
    #: Bytes of pulls that may be under way per session and node (of their answers).
    pull_credit_bytes: int = _size("pullCreditBytes", 32 << 20, 4096)
    #: Bytes of pushes that may be under way per session and node.
    push_credit_bytes: int = _size("pushCreditBytes", 32 << 20, 4096)
    #: Where the tier's processes keep compiled kernels, for clients to look there first.
    kernel_cache_dir: str = ""
    #: `NodeSettings.session_ttl`: a write that was first sent longer ago cannot be sent again to a node that forgot the session.
    session_ttl: float = field(default=3600.0, metadata={"derived": True})

    def __post_init__(self) -> None:
        _check_fields(self)
        for name, credit in (("pullCreditBytes", self.pull_credit_bytes), ("pushCreditBytes", self.push_credit_bytes)):
            if credit < self.chunk_bytes:
                raise ConfigError(
                    f"`{PREFIX}{name}` must be at least `{PREFIX}chunkBytes` ({self.chunk_bytes}). Got {credit} instead.",
                    key=PREFIX + name,
                )


@dataclass(frozen=True)
class WorkerSettings:
    """Settings of worker groups."""

    #: GPUs of one worker, or the share of one that it has; 0: workers run in Spark's default profile, with what that gives to tasks.
    gpus: float = _fraction("worker.gpus")
    #: All ranks of an admitted group must have started by then.
    group_start_timeout: float = _time("groupStartTimeout", 60.0)
    #: Longest wait for admission behind other groups.
    admission_timeout: float = _time("admissionTimeout", 24 * 3600.0)
    #: A rank whose worker was silent for so long may be taken over by another attempt.
    lease_ttl: float = _time("leaseTtl", 20.0, 0.05, 3600)
    #: Memory of one worker for its rows; more are spilled to files and read in windows.
    memory_budget: int = _size("workerMemoryBudget", 1 << 30, 1 << 16)
    #: Largest result of a rank, pickled: it goes through the memory of Spark's JVMs, which a larger one can end.
    max_result_bytes: int = _size("maxResultBytes", 64 << 20, 1 << 10, 1 << 30)
    #: Who reads plain Parquet files: "auto", the ranks themselves where they reach them for sure; "files", the ranks; "spark", Spark.
    parquet_reader: str = _choice("parquetReader", "auto", ("auto", "files", "spark"))
    #: Where staged input goes; every executor must reach it. Empty: `local_dir`, right on one host only.
    staging_dir: str = _path("stagingDir")
    #: Where workers spill and local staging goes. Empty: the system's temporary directory.
    local_dir: str = _path("localDir")

    def __post_init__(self) -> None:
        _check_fields(self)

    @property
    def scratch(self) -> Path:
        """`local_dir`, or the system's temporary directory."""
        return Path(self.local_dir or tempfile.gettempdir())


@dataclass(frozen=True)
class NetworkSettings:
    """Where the processes of a tier listen, and to how much of what comes from outside."""

    #: TCP port of the coordinator; 0: a free one.
    coordinator_port: int = _count("coordinatorPort", 0, 0, 65535)
    #: Address at which the coordinator listens. Empty: `spark.driver.bindAddress`, else what the next one says.
    coordinator_bind_address: str = _host("coordinatorBindAddress")
    #: Name or address by which others reach the coordinator. Empty: `spark.driver.host`.
    coordinator_address: str = _host("coordinatorAddress")
    #: TCP ports of nodes, of which each takes the first that is free on its host: "7100-7199". Empty: any.
    node_ports: str = _ports("nodePorts")
    #: Address at which nodes listen. Empty: that by which Spark knows their host.
    node_bind_address: str = _host("nodeBindAddress", may_vary=True)
    #: Name or address by which others reach a node. Empty: that by which Spark knows its host.
    node_address: str = _host("nodeAddress", may_vary=True)
    #: Connections that a process takes from one host at a time, and new ones in a second (ten times as many at once after a pause).
    max_peer_connections: int = _count("maxPeerConnections", 4096, 1, 1 << 20)
    max_peer_handshakes: int = _count("maxPeerHandshakes", 500, 1, 1 << 20)
    #: Let keys travel through Spark although its own connections are neither authenticated nor encrypted.
    allow_plaintext_keys: bool = _switch("allowPlaintextKeys", False)

    def __post_init__(self) -> None:
        _check_fields(self)


@dataclass(frozen=True)
class Settings:
    """All settings of one tier.

    Examples
    --------
    >>> Settings.parse({"spark.sparkps.numNodes": "3"}).num_nodes
    3
    """

    #: Nodes of the tier.
    num_nodes: int = _count("numNodes", 2, 1, MOST_NODES)
    #: Copies of every bucket.
    replication: int = _count("replication", 1, 1, 3)
    #: Whether buckets move by themselves to other nodes where a node has much more to do than the others: "auto" or "off".
    rebalance: str = _choice("rebalance", "auto", ("auto", "off"))
    #: Name of the launcher that starts the nodes. Which ones there are only the driver knows, in `driver_bridge.launchers`.
    launch: str = _name("launch", "auto")
    #: URL of a running tier, which applications attach to instead of starting one, and the file that holds its secret.
    attach: str = _url("attach")
    secret_file: str = _local_path("secretFile")
    #: Whose name space an application that attaches works in; empty: that of the session's user.
    owner: str = _owner("owner")
    #: A tier drops tables that nobody has used for so long; 0: none.
    table_ttl: float = _time_or_none("tableTtl", 1.0)
    #: Cores of one node's executor, where nodes run as Spark tasks.
    node_cores: int = _count("nodeCores", 1, 1, 1024)
    #: What nodes and workers log at this level or above also reaches the driver's log; empty: nothing does.
    log_level: str = _choice("logLevel", "", ("", "DEBUG", "INFO", "WARNING", "ERROR"))
    #: Kernel threads of one node; 0: as many as its share of the machine's cores.
    node_threads: int = _count("nodeThreads", 0, 0, 1024)
    #: The tier must be ready by then; compiling kernels, which happens once per machine, is not counted.
    start_timeout: float = _time("startTimeout", 60.0)
    #: Nodes that have not exited by then are killed.
    stop_timeout: float = _time("stopTimeout", 10.0)
    #: Deadline of a request to the coordinator.
    control_timeout: float = _time("controlTimeout", 30.0)
    #: Compiled kernels are kept here. Empty: `SPARKPS_KERNEL_CACHE_DIR`, else the user's cache directory, else the temporary one.
    kernel_cache_dir: str = _local_path("kernelCacheDir")
    node: NodeSettings = field(default_factory=NodeSettings)
    client: ClientSettings = field(default_factory=ClientSettings)
    workers: WorkerSettings = field(default_factory=WorkerSettings)
    network: NetworkSettings = field(default_factory=NetworkSettings)

    def __post_init__(self) -> None:
        _check_fields(self)

    @classmethod
    def parse(cls, conf: Mapping[str, str]) -> Settings:
        """Settings from the entries of `conf` that start with ``spark.sparkps.``.

        Raises
        ------
        ConfigError
            A key that does not exist, or a value that its key does not take.
        """
        given = {k[len(PREFIX) :]: v for k, v in conf.items() if k.startswith(PREFIX)}
        known = {key.name for _, key in keys()}
        for name in sorted(set(given) - known):
            raise ConfigError(
                f"`{PREFIX}{name}` is not a setting of sparkps{_nearest(name, known)}; conf/sparkps-defaults.conf lists all of them.",
                key=PREFIX + name,
            )
        sections = {section: _read(kind, _with_interval(given)) for section, kind in _SECTIONS.items()}
        settings: Settings = _read(cls, given)
        sections["client"] = dataclasses.replace(
            sections["client"],
            kernel_cache_dir=settings.kernel_cache_dir,
            session_ttl=sections["node"].session_ttl,
        )
        under_way = sections["client"].pull_credit_bytes + sections["client"].push_credit_bytes
        sections["node"] = dataclasses.replace(sections["node"], session_bytes=max(256 << 20, 4 * under_way))
        return dataclasses.replace(settings, **sections)

    def for_replicas(self) -> Settings:
        """The same with a short deadline of heartbeats where replicas take over; for settings in which none was given.

        To be wrong about a node's death costs a tier with replicas some copying, and one without them the rows.
        """
        if self.replication == 1:
            return self
        interval = min(self.node.heartbeat_interval, REPLICATED_DEADLINE / BEATS_PER_DEADLINE)
        node = dataclasses.replace(self.node, heartbeat_deadline=REPLICATED_DEADLINE, heartbeat_interval=interval)
        return dataclasses.replace(self, node=node)

    @classmethod
    def from_spark(cls, spark: Any) -> Settings:
        """Settings of a running SparkSession: its SparkConf, overridden by what was set on the session."""
        return cls.parse(conf_of(spark))


def conf_of(spark: Any) -> dict[str, str]:
    """What a running SparkSession was told: its SparkConf, overridden by what was set on the session."""
    conf = dict(spark.sparkContext.getConf().getAll())
    conf.update({k: v for k, v in spark.conf.getAll.items() if k.startswith(PREFIX)})
    return conf


_SECTIONS: dict[str, type] = {"node": NodeSettings, "client": ClientSettings, "workers": WorkerSettings, "network": NetworkSettings}


def _with_interval(given: Mapping[str, str]) -> dict[str, str]:
    """Settings with an interval of heartbeats that fits a short deadline, where only the deadline was given."""
    fields = {key.name: (f, key) for f, key in keys()}
    (interval, _), (_, deadline) = fields["heartbeatInterval"], fields["heartbeatDeadline"]
    if "heartbeatDeadline" not in given or "heartbeatInterval" in given:
        return dict(given)
    seconds = min(interval.default, deadline.read(given["heartbeatDeadline"]) / BEATS_PER_DEADLINE)
    return {**given, "heartbeatInterval": f"{max(seconds, 0.01):.3f}s"}


def keys() -> Iterator[tuple[dataclasses.Field[Any], Key]]:
    """Every key with the field it fills, section by section."""
    for kind in (Settings, *_SECTIONS.values()):
        for f in dataclasses.fields(kind):
            if "key" in f.metadata:
                yield f, f.metadata["key"]


def _check_fields(section: Any) -> None:
    for f in dataclasses.fields(section):
        if "key" in f.metadata:
            f.metadata["key"].check(getattr(section, f.name))


def _read(kind: type, given: Mapping[str, str]) -> Any:
    found = {}
    for f in dataclasses.fields(kind):
        key = f.metadata.get("key")
        if key is not None and key.name in given:
            found[f.name] = key.read(given[key.name])
    return kind(**found)


def _nearest(name: str, known: set[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f" (did you mean `{PREFIX}{near[0]}`?)" if near else ""
