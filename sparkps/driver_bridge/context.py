"""`PSContext`: the parameter-server tier as a Spark user sees it."""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self

from sparkps.client.control import ControlClient
from sparkps.client.session import disconnect, end_all
from sparkps.client.tables import DenseTable, SparseTable
from sparkps.config import PREFIX, Settings, conf_of
from sparkps.consistency import BSP, Consistency
from sparkps.driver_bridge.driver_control import DriverControl
from sparkps.driver_bridge.launchers import ANSWER_GRACE, RunningTier, launch
from sparkps.driver_bridge.signals import EndOfDriver, EndOfSpark
from sparkps.driver_bridge.spark.python_workers import start_python_workers, use_this_python
from sparkps.driver_bridge.table_specs import dense_spec, sparse_spec
from sparkps.errors import ConfigError, InvalidInput, SparkPSError, TierError
from sparkps.initializers import Initializer, Zeros
from sparkps.optim import SGD, Optimizer
from sparkps.plain import name_of, text_of
from sparkps.specs import TableSpec
from sparkps.wire.messages.control import CreateTable, DrainNode, FindTable, RegisterFunction, TierAddress, TierStatus

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from sparkps.checkpoints.manifest import Checkpoint
    from sparkps.driver_bridge.groups.report import Results
    from sparkps.driver_bridge.groups.running import RunningGroup
    from sparkps.driver_bridge.groups.worker import Train

log = logging.getLogger(__name__)

_ZEROS, _SGD = Zeros(), SGD(1.0)

#: Seconds that `stop` waits for the start of Python workers, where that is still under way.
_START_PATIENCE = 5.0


class PSContext:
    """A tier of parameter-server nodes beside a Spark session; a context manager.

    Parameters
    ----------
    spark : SparkSession
        With a SparkContext of its own: Spark Connect is not supported yet.
    num_nodes : int, optional
        Nodes of the tier; default `spark.sparkps.numNodes`, which is 2.
    replication : int, optional
        Copies of every bucket, each on another node, at most 3 and at most `num_nodes`; default `spark.sparkps.replication`, which is 1.
        With 2 or more a node may die at any moment: others lead what it led, and nothing that was acknowledged is lost.
    replication_ack : {"sync", "async"}, optional
        When a write is acknowledged: "sync", when every copy has it; "async", when the primary has it, which is faster, and what was
        acknowledged last may be lost with a node. Default `spark.sparkps.replicationAck`, which is "sync".
    launch : str, optional
        How nodes are started, by the name of a launcher: "local" makes them child processes of the driver, and "auto" does that on
        a `local[*]` master. Default `spark.sparkps.launch`, which is "auto".

    Raises
    ------
    ConfigError
        A setting or an argument is wrong, there is no usable session, or the session has a PSContext already.
    TierError
        The tier did not start.

    Notes
    -----
    The tier ends with `stop()`, with the ``with`` block, at the interpreter's exit, on SIGTERM, and when the driver is killed.
    Ctrl-C ends the call under way, and the tier goes on. Only one PSContext is active at a time.

    Each node has a memory limit, `spark.sparkps.nodeMemory`: by default half the memory of its host or container, shared out among the
    nodes there. A node that comes to 90 % of it refuses new rows and tables with `OutOfNodeMemory`, and goes on with the rows that it
    has; `status()` has ``memory_bytes`` and ``memory_limit`` of each.

    Examples
    --------
    >>> with PSContext(spark, num_nodes=2) as ps:                     # doctest: +SKIP
    ...     w = ps.sparse_table("w", dim=1)
    ...     w.add([7], [[1.5]])
    ...     w.pull([7, 8])
    array([[1.5],
           [0. ]], dtype=float32)
    """

    #: The current one. Owner: `_lock`.
    _active: PSContext | None = None
    #: Held while a context starts or stops. Re-entrant, since a signal handler may stop what its own thread is starting.
    _lock = threading.RLock()

    def __init__(
        self,
        spark: SparkSession,
        num_nodes: int | None = None,
        replication: int | None = None,
        launch: str | None = None,
        replication_ack: str | None = None,
    ) -> None:
        context = _spark_context(spark)
        self.spark = spark
        self.settings = _settings(spark, num_nodes, replication, launch, replication_ack)
        self._spark_context = context
        self._pid = os.getpid()
        self._stopped = False
        self._tier: RunningTier | None = None
        #: Set when no job of our own runs any more.
        self._workers_started = threading.Event()
        self._workers_started.set()
        #: Nobody has asked for this context itself: it was made for whoever needs one.
        self._is_shared = False
        #: None until the tier has started.
        self._end_of_spark: EndOfSpark | None = None
        with PSContext._lock:
            _make_room(context)
            self._end = EndOfDriver(self.stop)
            self._end.arm()
            try:
                use_this_python(context)
                self._workers_started = start_python_workers(spark)
                self._start(context.master)
            except BaseException:
                self.stop()
                raise
            self._end_of_spark = EndOfSpark(lambda: _has_stopped(context), self.stop)
            PSContext._active = self

    def _start(self, master: str) -> None:
        self._tier = launch(self.settings, master)
        #: What table handles carry.
        self.address: TierAddress = self._tier.address
        #: To the coordinator.
        self.control = DriverControl.for_tier(self.address, self._tier.ended)
        log.info("tier %s is ready: %d nodes", self.address.tier_id, self.settings.num_nodes)

    # ---- life ----------------------------------------------------------------------------------------------------------

    @classmethod
    def active(cls) -> PSContext | None:
        """The current context of this process, or None."""
        active = cls._active
        return active if active is not None and active._pid == os.getpid() and active._is_usable() else None

    @classmethod
    def get_or_create(cls, spark: SparkSession) -> PSContext:
        """The active context if it belongs to the session's SparkContext, else a new one from its `spark.sparkps.*` settings.

        A context made here lives on for the next caller, until `stop()`, the end of Spark or the interpreter's exit, or until
        somebody makes one explicitly. If a process of its tier was lost it is started anew; tables that were on it are gone.
        """
        context = _spark_context(spark)
        with cls._lock:
            active = cls.active()
            if active is not None and active._spark_context is context:
                lost = active._lost() if active._is_shared else None
                if lost is None:
                    return active
                log.warning("a new tier takes the place of the one that was started before: %s", lost)
            made = cls(spark)
            made._is_shared = True
            return made

    def _lost(self) -> SparkPSError | None:
        return None if self._tier is None else self._tier.lost()

    def stop(self) -> None:
        """End the tier: its processes and all tables. Does nothing the second time, and in a forked child."""
        if self._stopped or os.getpid() != self._pid:
            return
        self._stopped = True
        with PSContext._lock:
            self._end.disarm()
            if self._end_of_spark is not None:
                self._end_of_spark.cancel()
            if PSContext._active is self:
                PSContext._active = None
            # A Spark that is stopped next would report its workers as crashed.
            self._workers_started.wait(_START_PATIENCE)
            if self._tier is None:
                return
            disconnect(self._tier.address)
            end_all(self._tier.address)
            self._tier.stop()
            ControlClient.of(self._tier.address).close()
            log.info("tier %s has stopped", self._tier.address.tier_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "stopped" if self._stopped else "active"
        tier = "" if self._tier is None else f" {self._tier.address.tier_id}"
        return f"<PSContext{tier}: {self.settings.num_nodes} nodes, {state}>"

    def __reduce__(self) -> NoReturn:
        raise InvalidInput(
            "A function that runs on executors must use table handles. Got the PSContext, which lives on the driver:"
            ' say `w = ps.table("w")` outside the function, and use `w` inside, or `worker.table("w")` in a worker group.'
        )

    def _is_usable(self) -> bool:
        return not self._stopped and not _has_stopped(self._spark_context)

    def _check_running(self) -> None:
        if self._stopped or os.getpid() != self._pid:
            raise TierError("The PSContext must be running. It was stopped: make a new one.")

    def _check_can_start(self) -> None:
        """Before a group's input is staged, which may take long."""
        self._check_running()
        if _has_stopped(self._spark_context):
            raise TierError("The SparkSession of the PSContext must be running. It was stopped: make new ones of both.")
        self.control.check()

    # ---- tables and functions ------------------------------------------------------------------------------------------

    def sparse_table(
        self,
        name: str,
        dim: int,
        dtype: Literal["float32", "float64"] = "float32",
        init: Initializer = _ZEROS,
        optimizer: Optimizer = _SGD,
        seed: int = 0,
        group: str = "",
    ) -> SparseTable:
        """Create a sparse table, or find the one that is the same.

        Parameters
        ----------
        name : str
            Letters, digits, ``_``, ``.`` and ``-``.
        dim : int
            Values per row.
        dtype : {"float32", "float64"}
            Of the rows and of the optimizer's state.
        init : Initializer
            Gives a row its first value, by `seed` and key.
        optimizer : Optimizer
            Applies pushes, on the nodes.
        seed : int
        group : str
            Name of a table group: its tables share one key index, so that server functions can take several of them.

        Returns
        -------
        SparseTable
            A picklable handle.

        Raises
        ------
        TableMismatch
            A table of that name exists, and differs.
        """
        return SparseTable(self._address(), self._create(sparse_spec(name, dim, dtype, init, optimizer, seed, group)))

    def dense_table(
        self,
        name: str,
        shape: int | Sequence[int],
        dtype: Literal["float32", "float64"] = "float32",
        init: Initializer = _ZEROS,
        optimizer: Optimizer = _SGD,
        seed: int = 0,
    ) -> DenseTable:
        """Create a dense table of a fixed `shape`, or find the one that is the same; otherwise as `sparse_table`."""
        return DenseTable(self._address(), self._create(dense_spec(name, shape, dtype, init, optimizer, seed)))

    def table(self, name: str) -> SparseTable | DenseTable:
        """The handle of a table that exists.

        Raises
        ------
        UnknownTable
        """
        self._check_running()
        spec = self.control.request(FindTable(0, name)).spec
        return (SparseTable if spec.kind == "sparse" else DenseTable)(self.address, spec)

    def function(self, fn: Callable[..., Any], name: str | None = None) -> str:
        """Register a server function on every node; tables then take it by name in ``call``.

        Parameters
        ----------
        fn : callable
            ``fn(shard, **args)``, run once for each bucket of a node: returns an array or a number, which the client adds up in the
            order of the buckets, or None. ``shard.bucket`` is the bucket, ``shard.keys`` its keys, ``shard.rows(name)`` the rows of
            one of the tables that the call names: copies of one moment. What the function writes to the rows, in place, is
            written to the table when it has returned on every bucket of the node; until then reads go on and other writes wait. If it
            raises, or takes longer than the call's deadline (`spark.sparkps.requestTimeout`), nothing is changed. A rank of a worker
            group may only read.
        name : str, optional
            Default: the function's own.

        Returns
        -------
        str
            The name.
        """
        import cloudpickle

        name = name if name is not None else getattr(fn, "__name__", "")
        if not callable(fn) or not isinstance(name, str) or not name or name == "<lambda>":
            raise InvalidInput(
                f"A server function must be callable, and have a name. Got {fn!r} as {name!r}: say `ps.function(fn, name=...)`."
            )
        self._check_running()
        try:
            pickled = cloudpickle.dumps(fn)
        except Exception as error:  # what it has captured may raise anything
            raise InvalidInput(
                f"Server function {name!r} must be picklable, with all that it has captured. It is not: {name_of(error)}: {text_of(error)}"
            ) from error
        self.control.request(RegisterFunction(0, name, pickled))
        return name

    def _create(self, spec: TableSpec) -> TableSpec:
        created: TableSpec = self.control.request(CreateTable(0, spec)).spec
        return created

    def _address(self) -> TierAddress:
        self._check_running()
        return self.address

    # ---- worker groups -------------------------------------------------------------------------------------------------

    def run(
        self,
        df: DataFrame,
        train: Train,
        num_workers: int | None = None,
        consistency: Consistency | type[Consistency] = BSP,
        **options: Any,
    ) -> Results:
        """Run ``train(worker, batches)`` on W workers at once; see `sparkps.driver_bridge.groups.group.run_group`.

        Returns
        -------
        list
            One result a rank; its ``report`` has the figures.
        """
        from sparkps.driver_bridge.groups.group import run_group

        self._check_can_start()
        return run_group(self, df, train, num_workers, consistency, **options)

    def start_group(self, df: DataFrame, train: Train, num_workers: int | None = None, **options: Any) -> RunningGroup:
        """An admitted, running group to work with, a context manager; for the options see `sparkps.driver_bridge.groups.group.Group`."""
        from sparkps.driver_bridge.groups.group import start_group

        self._check_can_start()
        return start_group(self, df, train, num_workers, **options)

    # ---- more and fewer nodes ------------------------------------------------------------------------------------------

    def scale(self, num_nodes: int, timeout: float = 600.0) -> None:
        """Make the tier larger or smaller while work goes on, and wait until every bucket is where it shall be.

        New nodes get their share of the buckets; of nodes that are too many the youngest give up theirs, and end. What reads and
        writes the tables meanwhile goes on.

        Parameters
        ----------
        num_nodes : int
            At least `replication`.
        timeout : float
            Seconds.

        Raises
        ------
        InvalidInput
            A number that cannot be.
        TierError
            Another change of the number of nodes is under way.
        DeadlineExceeded
            It is not done in time; what was begun goes on, and `status()` shows it.
        """
        self._check_running()
        assert self._tier is not None
        self._tier.scale(_whole("num_nodes", num_nodes), _seconds(timeout))

    def drain(self, node: int, timeout: float = 600.0) -> None:
        """Let a node give up its buckets, and end, while work goes on; there is one node less then.

        Parameters
        ----------
        node : int
            Its id, as in ``status()["nodes"]``.
        timeout : float
            Seconds.

        Raises
        ------
        InvalidInput
            The node is not up, or fewer than `replication` would remain.
        TierError, DeadlineExceeded
            As `scale`.
        """
        self._check_running()
        seconds = _seconds(timeout)
        self.control.request(DrainNode(0, _whole("node", node), seconds), seconds + ANSWER_GRACE)

    # ---- checkpoints ---------------------------------------------------------------------------------------------------

    def checkpoint(self, url: str | os.PathLike[str], timeout: float = 3600.0) -> Checkpoint:
        """Write all tables, and where worker groups are, to files; what reads and writes the tables meanwhile goes on.

        It is one cut: in a BSP group all rows are as they were when one and the same clock had closed; otherwise each bucket is
        as it was at one moment, with what it knows of the writes that it has. Nodes write side by side, and the manifest is
        written last: what is not complete is no checkpoint.

        Parameters
        ----------
        url : str or os.PathLike
            A directory, as ``/data/checkpoints`` or ``s3://bucket/path``: any file system that pyarrow or fsspec can open, on
            the driver and on the nodes. It may hold other checkpoints, of other jobs, too.
        timeout : float
            Seconds.

        Returns
        -------
        Checkpoint
            ``url``, ``id``, ``clocks`` (by worker group), ``bytes``, ``seconds``.

        Raises
        ------
        ConfigError
            No such file system.
        CheckpointError
            It could not be written; older checkpoints are as they were.

        Examples
        --------
        >>> ps.checkpoint("/data/checkpoints").id    # doctest: +SKIP
        '00000001-3f2a9c01'
        """
        from sparkps.driver_bridge import checkpointing

        self._check_running()
        return checkpointing.take(self.control, url, _seconds(timeout))

    def restore(  # `id` as in `Checkpoint`
        self, url: str | os.PathLike[str], id: str | None = None, timeout: float = 3600.0  # noqa: A002
    ) -> Checkpoint:
        """Bring all tables of a checkpoint back, optimizer state included; tables that are not there are created.

        The checkpoint may be of another tier, with any number of nodes. What the tables hold is replaced; tables that the checkpoint
        lacks stay as they are. Buckets whose last copies were lost with their nodes are placed anew, so that a degraded tier is
        whole again. No worker group may be running; one that is to begin waits until the restore is over.

        Nothing is changed before all nodes have seen that all of the checkpoint is sound. Then whoever reads or writes waits until all
        of it is loaded. If that fails, as where the file system goes away in between, tables are neither what they were nor what they
        were to become: the tier is degraded, and reads and writes raise `ShardLost`, until a restore succeeds.

        Parameters
        ----------
        url : str or os.PathLike
            Where checkpoints were written to.
        id : str, optional
            Default: the newest one that is sound; damaged ones are named in the log.
        timeout : float
            Seconds.

        Returns
        -------
        Checkpoint
            The one that was restored.

        Raises
        ------
        NoCheckpoint
            There is none that is sound.
        CheckpointDamaged
            The one of that `id` is not sound.
        TableMismatch
            A table of that name exists, and differs.
        CheckpointError
            Files could not be read, or nodes have died, while it was loaded.
        """
        from sparkps.driver_bridge import checkpointing

        self._check_running()
        return checkpointing.restore(self.control, url, id, _seconds(timeout))

    # ---- status --------------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """The tier as it is now, in plain values.

        Returns
        -------
        dict
            ``state``: "ready", or "degraded" once the last copies of buckets went with a node. Then ``lost_nodes`` has the ids of such
            nodes and ``lost_buckets`` says how many of the 256 buckets went with them; what the other nodes hold can still be read
            and written, and nothing new can be created. ``under_replicated``: how many buckets have fewer copies than there shall be;
            ``moving``: the plan that restores replication and balance (``buckets`` and ``copies`` that are left, ``reason``,
            ``failure``: the last one), None where there is nothing to do; ``rebalance``: how uneven the nodes' load is (``skew``: the
            heaviest node's as a multiple of the mean, by "bytes" and by "requests"), how often buckets were moved for it
            (``decisions``), and why a skew that lasts cannot be mended (``stuck``, or "");
            ``num_nodes``: how many nodes there shall be; ``draining``: ids
            of those that are to go; ``scaling``: the request of `scale` or `drain` under way; ``coordinator``: its ``pid``, and how
            often it was started again (``restarts``); ``checkpoint``: the last one, as plain values, or None; ``restoring``: whether reads
            and writes wait since one is being restored. ``nodes``, ``tables``, ``groups`` and what else there is: see
            `sparkps.driver_bridge.coordinator.status.tier_status`.
        """
        self._check_running()
        report: dict[str, Any] = self.control.request(TierStatus(0)).report
        return report


def _spark_context(spark: Any) -> Any:
    """The running SparkContext of a session."""
    if type(spark).__module__.startswith("pyspark.sql.connect"):
        raise ConfigError("A PSContext needs a SparkSession with a SparkContext. Spark Connect is not supported yet.")
    context = getattr(spark, "sparkContext", None)
    if context is None:
        raise ConfigError(
            f"A PSContext needs a SparkSession: `PSContext(SparkSession.builder.getOrCreate())`. Got {spark!r} instead."
        )
    if _has_stopped(context):
        raise ConfigError("A PSContext needs a running SparkSession. This one was stopped: make a new one.")
    return context


def _has_stopped(context: Any) -> bool:
    """pyspark itself knows by this attribute."""
    return getattr(context, "_jsc", None) is None


def _settings(
    spark: Any, num_nodes: int | None, replication: int | None, launch: str | None, replication_ack: str | None
) -> Settings:
    given: dict[str, Any] = {"num_nodes": num_nodes, "replication": replication, "launch": launch}
    settings = dataclasses.replace(
        Settings.from_spark(spark), **{name: value for name, value in given.items() if value is not None}
    )
    if replication_ack is not None:
        settings = dataclasses.replace(settings, node=dataclasses.replace(settings.node, replication_ack=replication_ack))
    if settings.replication > settings.num_nodes:
        raise ConfigError(
            f"`replication` (`{PREFIX}replication`) must be at most `num_nodes` (`{PREFIX}numNodes`), {settings.num_nodes}: the copies of"
            f" a bucket are on different nodes. Got {settings.replication}.",
            key=PREFIX + "replication",
        )
    return settings if PREFIX + "heartbeatDeadline" in conf_of(spark) else settings.for_replicas()


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidInput(f"`{name}` must be an int. Got {value!r} instead.")
    return value


def _seconds(timeout: Any) -> float:
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout < float("inf"):
        raise InvalidInput(f"`timeout` must be a positive number of seconds. Got {timeout!r} instead.")
    return float(timeout)


def _make_room(context: Any) -> None:
    """Only one context is active: one that nobody has asked for goes, and one of a SparkContext that was stopped."""
    active = PSContext._active
    if active is None or active._pid != os.getpid():
        return
    if not (active._is_shared or _has_stopped(active._spark_context)):
        raise ConfigError(
            f"Only one PSContext may be active. {active!r} is: use it (`PSContext.active()`), or stop it first."
        )
    active.stop()


__all__ = ["PSContext"]
