"""`PSContext`: the parameter-server tier as a Spark user sees it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from sparkps.client.tables import DenseTable, SparseTable
from sparkps.consistency import BSP, Consistency
from sparkps.driver_bridge.arguments import function_name, pickled_function, positive_seconds, whole_number
from sparkps.driver_bridge.launchers import ANSWER_GRACE
from sparkps.driver_bridge.profiles import Held
from sparkps.driver_bridge.table_specs import dense_spec, sparse_spec
from sparkps.driver_bridge.tier_life import TierLife
from sparkps.initializers import Initializer, Zeros
from sparkps.namespaces import owner_of
from sparkps.optim import SGD, Optimizer
from sparkps.secret import sealed, secret_of
from sparkps.specs import TableSpec, check_table_name
from sparkps.wire.messages.control import CreateTable, DrainNode, FindTable, RegisterFunction, TierAddress, TierStatus

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from sparkps.checkpoints.manifest import Checkpoint
    from sparkps.driver_bridge.groups.report import Results
    from sparkps.driver_bridge.groups.running import RunningGroup
    from sparkps.driver_bridge.groups.worker import Train

_ZEROS, _SGD = Zeros(), SGD(1.0)


class PSContext(TierLife):
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
        How nodes are started, by the name of a launcher: "local" makes them child processes of the driver, "executors" one-task
        Spark jobs, "attach" takes a tier that runs already, and "auto" is the one that fits the master, or the URL, if there is one.
        Default `spark.sparkps.launch`, which is "auto".
    url : str, optional
        Of a tier that runs already, as ``sparkps tier start`` prints it; default `spark.sparkps.attach`.
    secret_file : str or os.PathLike, optional
        That tier's secret file, on the driver's machine; default `spark.sparkps.secretFile`.

    Raises
    ------
    ConfigError
        A setting or an argument is wrong, there is no usable session, or the session has a PSContext already.
    TierError
        The tier did not start.
    NotAdmitted
        The secret is not that of the tier at that URL.

    Notes
    -----
    The tier ends with `stop()`, with the ``with`` block, at the interpreter's exit, on SIGTERM, and when the driver is killed.
    Ctrl-C ends the call under way, and the tier goes on. Only one PSContext is active at a time.

    A tier that was attached to goes on in all these cases, with its tables: the application leaves it. What it calls ``w`` is ``owner/w``
    there, with `spark.sparkps.owner`, by default the session's user; ``other/w`` is another owner's table. Other applications may use the
    tier at the same time.

    Each node has a memory limit, `spark.sparkps.nodeMemory`: by default half the memory of its host or container, shared out among the
    nodes there, and 1 GiB in an executor. A node that comes to 90 % of it refuses new rows and tables with `OutOfNodeMemory`, and goes on
    with the rows that it has; `status()` has ``memory_bytes`` and ``memory_limit`` of each.

    Examples
    --------
    >>> with PSContext(spark, num_nodes=2) as ps:                     # doctest: +SKIP
    ...     w = ps.sparse_table("w", dim=1)
    ...     w.add([7], [[1.5]])
    ...     w.pull([7, 8])
    array([[1.5],
           [0. ]], dtype=float32)
    """

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
        storage: str | None = None,
    ) -> SparseTable:
        """Create a sparse table, or find the one that is the same.

        Parameters
        ----------
        name : str
            Letters, digits, ``_``, ``.`` and ``-``. On a tier that several owners share (``launch="attach"``) it is a name of this
            application's owner, `spark.sparkps.owner`: ``owner/name`` to others.
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
        storage : {"float32", "float16", "bfloat16"}, optional
            How rows lie on the nodes; default: as `dtype` says. In 16 bits they take half of the memory, and the optimizer's state
            and all that is computed stay float32. What a push or an `add` gives is rounded at random, so that small steps are not lost
            (*stochastic rounding*: Zhang et al., *Training with Low-precision Embedding Tables*, 2018), the same way on each node and
            each time; `assign` rounds to the nearest. Not for the optimizer `Consensus`, and of the built-in server functions for
            "topk" and "copy" only.

        Returns
        -------
        SparseTable
            A picklable handle.

        Raises
        ------
        TableMismatch
            A table of that name exists, and differs.
        """
        name, group = self._full(name), self._full(group)
        return SparseTable(self._address(), self._create(sparse_spec(name, dim, dtype, init, optimizer, seed, group, storage)))

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
        return DenseTable(self._address(), self._create(dense_spec(self._full(name), shape, dtype, init, optimizer, seed)))

    def table(self, name: str) -> SparseTable | DenseTable:
        """The handle of a table that exists.

        Parameters
        ----------
        name : str
            On a tier that several owners share, a plain name is one's own; ``owner/name`` is anybody's.

        Raises
        ------
        InvalidInput
            It is no name of a table.
        UnknownTable
        """
        self._check_running()
        spec = self.control.request(FindTable(0, check_table_name(self._full(name)))).spec
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
            The name; on a tier that several owners share with its owner, ``owner/name``.
        """
        name = function_name(fn, name)
        self._check_running()
        pickled, name = pickled_function(fn, name), self._full(name)
        pickled = sealed(secret_of(self.address), self.address.tier_id, f"function {name}", pickled)
        self.control.request(RegisterFunction(0, name, pickled))
        return name

    def _create(self, spec: TableSpec) -> TableSpec:
        created: TableSpec = self.control.request(CreateTable(0, spec)).spec
        return created

    def _full(self, name: str) -> str:
        """What a name means on the tier, which several owners may share."""
        return self._address().full_name(name)

    def owns(self, name: str) -> bool:
        """Whether a table of that full name is this application's own: on a tier that it has for itself, all are."""
        owner = self._address().owner
        return not owner or owner_of(name) == owner

    def _address(self) -> TierAddress:
        self._check_running()
        return self.address

    @property
    def application(self) -> str:
        """Names this application where several share the tier; else empty."""
        return "" if self._tier is None else self._tier.application

    @property
    def held_by_nodes(self) -> Held:
        """Cores of Spark's executors that the tier's nodes hold, and workers cannot have; none where nodes run elsewhere."""
        return Held() if self._tier is None else self._tier.held_by_nodes

    # ---- worker groups -------------------------------------------------------------------------------------------------

    def run(
        self,
        df: DataFrame,
        train: Train,
        num_workers: int | None = None,
        consistency: Consistency | type[Consistency] = BSP,
        **options: Any,
    ) -> Results:
        """Run ``train(worker, batches)`` on W workers at once.

        Parameters
        ----------
        df : DataFrame
            Each worker gets its own part of the rows.
        train : callable
            Called once for each worker, and again, with all of its rows, where that was lost: `worker.clock` and `worker.state` tell
            where to go on.
        num_workers : int, optional
            None: what the cluster can run at once.
        consistency : BSP, SSP(staleness) or ASP
        **options
            ``name``, ``label``, ``timeout``, ``deterministic``, ``progress``, ``on_worker_loss``, ``checkpoint_dir``, ``checkpoint_every``,
            ``checkpoint_seconds``, ``resume``, ``gpus_per_worker``: see `sparkps.driver_bridge.groups.group.run_group`.

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
        self._tier.scale(whole_number("num_nodes", num_nodes), positive_seconds(timeout))

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
        seconds = positive_seconds(timeout)
        self.control.request(DrainNode(0, whole_number("node", node), seconds), seconds + ANSWER_GRACE)

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
        return checkpointing.take(self.control, url, positive_seconds(timeout))

    def restore(  # `id` as in `Checkpoint`
        self, url: str | os.PathLike[str], id: str | None = None, timeout: float = 3600.0  # noqa: A002
    ) -> Checkpoint:
        """Bring all tables of a checkpoint back, optimizer state included; tables that are not there are created.

        Where several owners share the tier, only this application's owner's tables are brought back.

        The checkpoint may be of another tier, with any number of nodes. What the tables hold is replaced; tables that the checkpoint
        lacks stay as they are. Buckets whose last copies were lost with their nodes are placed anew, so that a degraded tier is
        whole again. In those, tables that the checkpoint lacks raise `ShardLost` until they are dropped, and no checkpoint has them. No
        worker group may be running; one that is to begin waits until the restore is over.

        Nothing is changed before all nodes have seen that all of the checkpoint is sound. Then whoever reads or writes waits until
        all of it is loaded, as long as its own deadline allows (`spark.sparkps.requestTimeout`). If that fails, as where the file
        system goes away in between, tables are neither what they were nor what they were to become: the tier is degraded, and reads
        and writes raise `ShardLost`, until a restore succeeds.

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
        return checkpointing.restore(self.control, url, id, positive_seconds(timeout), self.owns)

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
            and writes wait since one is being restored; ``settings``: what of the tier's settings those must know who have attached;
            ``asked_to_stop``: whether one of them has asked for its end. ``nodes``, ``tables``, ``groups`` and what else there is: see
            `sparkps.driver_bridge.coordinator.status.tier_status`.
        """
        self._check_running()
        report: dict[str, Any] = self.control.request(TierStatus(0)).report
        return report


__all__ = ["PSContext"]
