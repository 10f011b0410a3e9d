"""One rank of a worker group, inside its Spark task: lease, start together, take over, train, finish.

A rank whose function raises fails the whole group with its cause, which is recorded at the coordinator; the task itself then
ends in good order, so that Spark neither tries it again nor buries the cause under its own messages. What cannot be told to
the coordinator fails the task: then Spark is the one to tell.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from sparkps.client.control import ControlClient
from sparkps.client.session import Session, connect, disconnect
from sparkps.client.tables import DenseTable, SparseTable
from sparkps.config import WorkerSettings
from sparkps.driver_bridge.columns import bytes_column, int_column
from sparkps.driver_bridge.groups.rank_lease import RankLease, acquire, is_unreached
from sparkps.driver_bridge.input.batches import Batches, input_failure, rows_of_spark
from sparkps.driver_bridge.input.scan import RankRows, with_names
from sparkps.errors import DeadlineExceeded, Fenced, InvalidInput, SparkPSError, to_wire
from sparkps.plain import INT_RANGE, LONGEST_NAME, cut, fit, name_of, shown, text_of
from sparkps.specs import GroupSpec
from sparkps.wire.messages.control import (
    MAX_PROGRESS,
    MAX_PROGRESS_BYTES,
    MAX_RECORDED_RESULT,
    Cause,
    FindTable,
    GroupReport,
    Recorded,
    Renew,
    TierAddress,
)

log = logging.getLogger(__name__)

#: What a rank's task says of itself to the driver.
FINISHED, FAILED, LOST_RESULT = "finished", "failed", "lost result"

#: Of a remote traceback, the end is kept.
_TRACEBACK_CHARACTERS = 8000

#: Of a text that a train function reports, beginning and end are kept.
_PROGRESS_CHARACTERS = 500

#: A worker waits so much longer than the driver for the other ranks: the driver's message is the better one.
_START_GRACE = 30.0

#: First byte of what is stored with a tick: a worker's own state, or, with the last tick, its result.
_STATE, _RESULT, _LARGE_RESULT = b"s", b"r", b"x"

Train = Callable[["Worker", Batches], Any]


class Worker:
    """What a train function knows of its rank. Made by sparkps.

    Attributes
    ----------
    rank : int
        0 .. num_workers - 1.
    num_workers : int
    device : str or None
        Address of the GPU that Spark gave to this task.
    """

    def __init__(self, session: Session, lease: RankLease, state: bytes | None, device: str | None) -> None:
        self.rank = lease.rank
        self.num_workers = lease.group.num_workers
        self.device = device
        self._session = session
        self._lease = lease
        self._state = state
        self._tables: dict[str, SparseTable | DenseTable] = {}
        #: What `report` was told, all calls together. Read by the renewing thread; replaced, never changed.
        self._progress: dict[str, Any] = {}
        lease.counters = self.counters

    def __repr__(self) -> str:
        return f"Worker(rank={self.rank}, num_workers={self.num_workers}, clock={self.clock})"

    @property
    def session(self) -> Session:
        """The session that speaks for this rank."""
        return self._session

    @property
    def clock(self) -> int:
        """Logical time: number of ticks so far, those of earlier attempts at this rank included.

        A rank whose task was lost starts again at its successor with the clock after the last tick, so a train function that
        counts its steps by the clock goes on where the lost one stopped.
        """
        member = self._session.member
        return member.clock if member is not None else -1

    @property
    def state(self) -> bytes | None:
        """What the last `tick(state)` stored, by this attempt or an earlier one."""
        return self._state

    def table(self, name: str) -> SparseTable | DenseTable:
        """The table `name`, under this rank's clock.

        Raises
        ------
        UnknownTable
        """
        if name not in self._tables:
            spec = self._session.control.request(FindTable(0, name)).spec
            handle = (SparseTable if spec.kind == "sparse" else DenseTable)(self._session.address, spec)
            self._tables[name] = handle.bind(self._session)  # type: ignore[assignment]
        return self._tables[name]

    def tick(self, state: bytes | None = None) -> None:
        """The clock is done: its pushes are acknowledged, other ranks may go on, and the clock advances.

        Parameters
        ----------
        state : bytes, optional
            Kept with the tick; a successor of this rank finds it in `state`. Without it the last one is kept no longer.
        """
        if state is not None and not isinstance(state, (bytes, bytearray, memoryview)):
            raise InvalidInput(
                f"The `state` of tick() must be bytes. Got {type(state).__name__} instead; pickle it.", rank=self.rank
            )
        self._lease.check()
        self._session.tick(None if state is None else _STATE + bytes(state))
        self._state = None if state is None else bytes(state)

    def report(self, progress: Mapping[str, Any] | None = None, **values: Any) -> None:
        """Tell the driver how training goes; the last value of each name counts.

        Parameters
        ----------
        progress, **values
            Numbers, strings or booleans by name, `MAX_PROGRESS` in all. ``epoch``, ``epochs`` and ``loss`` drive the progress bar.
            Long text is cut.

        Raises
        ------
        InvalidInput
            A value of another type, an int beyond 64 bits, or too many values.

        Examples
        --------
        >>> worker.report(epoch=3, epochs=10, loss=0.41)    # doctest: +SKIP
        """
        given = {cut(str(name), LONGEST_NAME): value for name, value in {**(progress or {}), **values}.items()}
        told = {**self._progress, **{name: _plain(name, value, self.rank) for name, value in given.items()}}
        if len(told) > MAX_PROGRESS or sum(map(_length, told.items())) > MAX_PROGRESS_BYTES:
            raise InvalidInput(
                f"A rank may report at most {MAX_PROGRESS} values of {MAX_PROGRESS_BYTES} bytes together, names included. Got"
                f" {len(told)} values of {sum(map(_length, told.items()))} bytes with {shown(list(given))}: results go into tables, or"
                " are returned.",
                rank=self.rank,
            )
        self._progress = told

    def counters(self) -> dict[str, Any]:
        """What the coordinator is told of this rank."""
        return {"clock": self.clock, "waited_seconds": round(self._session.waited_seconds, 6), **self._progress}


def _plain(name: str, value: Any, rank: int) -> Any:
    """`value` as a type that every message carries; text that is too long is cut."""
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        value = value.item()
    if isinstance(value, str):
        return cut(value, _PROGRESS_CHARACTERS)
    if isinstance(value, int) and not INT_RANGE[0] <= value < INT_RANGE[1]:
        raise InvalidInput(
            f"report() takes ints of at most 64 bits. Got one of {value.bit_length()} bits for {name!r}: report it as a float, or as"
            " text.",
            rank=rank,
        )
    if value is None or isinstance(value, (bool, int, float)):
        return fit(value)
    raise InvalidInput(
        f"report() takes numbers, strings and booleans. Got {type(value).__name__} for {name!r}.", rank=rank
    )


def _length(told: tuple[str, Any]) -> int:
    """Bytes that a name and its value take in a message, about."""
    name, value = told
    return len(name.encode()) + (len(value.encode()) if isinstance(value, str) else 8) + 4


class RankEnd(NamedTuple):
    """How a rank's task ended."""

    rank: int
    #: `FINISHED`, `FAILED` or `LOST_RESULT`.
    outcome: str
    #: The pickled result.
    result: bytes | None


@dataclass(frozen=True)
class RankTask:
    """The function of every task of a training stage: from the rows of a partition to one row that says how it ended. Picklable."""

    address: TierAddress
    group: GroupSpec
    train: Train
    schema: pa.Schema
    settings: WorkerSettings
    #: Task slots of the cluster, for messages; 0: not known.
    slots: int
    #: Rows by rank, or None: the rows are those that the task is given.
    fetched: RankRows | None = None

    def __call__(self, rows: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """As a task of `mapInArrow`, with the rows of its partition."""
        for ended in self._as_task(rows):
            columns = [
                int_column([ended.rank], pa.int32()),
                bytes_column([ended.outcome.encode()], pa.string()),
                bytes_column([ended.result], pa.binary()),
            ]
            yield pa.RecordBatch.from_arrays(columns, ["rank", "outcome", "result"])

    def on_partition(self, _: Iterable[Any]) -> Iterator[RankEnd]:
        """As a task of `RDD.mapPartitions`, whose elements do not matter: the rank fetches its rows."""
        return self._as_task(iter(()))

    def _as_task(self, rows: Iterator[pa.RecordBatch]) -> Iterator[RankEnd]:
        from pyspark import TaskContext

        context = TaskContext.get()
        assert context is not None, "runs in a Spark task"
        gpus = context.resources().get("gpu")
        device = gpus.addresses[0] if gpus is not None and gpus.addresses else None
        rank = context.partitionId()
        yield RankEnd(rank, *self.run(rank, context.taskAttemptId(), rows, device))

    def run(
        self, rank: int, attempt: int, rows: Iterator[pa.RecordBatch], device: str | None
    ) -> tuple[str, bytes | None]:
        """Be `rank` until it has finished, here or at another attempt; outcome and pickled result."""
        batches, lease_check = self._batches(rank, rows)
        control = ControlClient.of(self.address)
        try:
            while True:
                try:
                    held = acquire(control, self.group, rank, attempt, self.settings.lease_ttl)
                except SparkPSError as error:  # the group's first cause, or that it has ended
                    if is_unreached(error, control):
                        raise  # so that Spark tries the task again
                    log.info("rank %d of group %d has nothing to do: %s", rank, self.group.group, error)
                    return FAILED, None
                if isinstance(held, Recorded):
                    return (FINISHED, held.result) if held.result is not None else (LOST_RESULT, None)
                lease_check.append(held.check)
                outcome = self._hold(held, batches, device)
                if outcome is not None:
                    return outcome
        finally:
            batches.close()
            disconnect(self.address)

    def _batches(self, rank: int, rows: Iterator[pa.RecordBatch]) -> tuple[Batches, list[Callable[[], None]]]:
        """The rank's rows, and a list whose last element is called before each batch."""
        checks: list[Callable[[], None]] = [lambda: None]
        fetched, names = self.fetched, self.schema.names

        def source() -> Iterator[pa.RecordBatch]:
            return with_names(rows_of_spark(rows, rank, self.group) if fetched is None else fetched.read(rank), names)

        batches = Batches(
            self.schema,
            source,
            again=fetched is not None and fetched.rereadable,
            budget=self.settings.memory_budget,
            scratch=self.settings.local_dir,
            check=lambda: checks[-1](),
        )
        return batches, checks

    def _hold(self, lease: RankLease, batches: Batches, device: str | None) -> tuple[str, bytes | None] | None:
        """Train as long as the rank is ours; None: another attempt has it."""
        session = connect(self.address)
        try:
            result = self._train(session, lease, batches, device)
            lease.finish(result if len(result) <= MAX_RECORDED_RESULT else None)
            return FINISHED, result
        except _LargeResultLostError:
            lease.finish(None)
            return LOST_RESULT, None
        except BaseException as error:  # whatever ends a train function must end its group
            session.leave()
            if lease.lost or (isinstance(error, Fenced) and self._is_taken(lease)):
                return None
            broken = input_failure(error)
            if not lease.group_failed:
                self._fail(lease, broken or error)
            if broken is not None:
                raise  # the task fails: what Spark says of it is the first cause
            return FAILED, None
        finally:
            lease.release()

    def _fail(self, lease: RankLease, error: BaseException) -> None:
        """Fail the group with what the train function raised; where nobody can be told, fail the task with it."""
        cause = cause_of(error, lease.rank, self.group)
        try:
            lease.fail(cause)
        except SparkPSError as untold:
            if is_unreached(untold, lease.control):
                raise cause.exception() from error
            raise

    def _is_taken(self, lease: RankLease) -> bool:
        """Whether another attempt has the rank: nodes know of it before our next renewal."""
        try:
            lease.control.request(Renew(0, self.group.group, lease.rank, lease.attempt))
        except Fenced:
            return True
        except SparkPSError:
            return False
        return False

    def _train(self, session: Session, lease: RankLease, batches: Batches, device: str | None) -> bytes:
        if not lease.wait_started(self.settings.group_start_timeout + _START_GRACE):
            raise not_started(lease.state(), self.group, self.settings.group_start_timeout, self.slots)
        _, stored = session.takeover(self.group.group, lease.rank, lease.incarnation)
        kind, state = (stored[:1], stored[1:]) if stored else (b"", b"")
        if kind == _RESULT:
            return state
        if kind == _LARGE_RESULT:
            raise _LargeResultLostError
        session.waited_seconds = 0.0
        worker = Worker(session, lease, state if kind == _STATE else None, device)
        returned = self.train(worker, batches)
        pickled = pickle_result(returned)
        worker._progress = {**worker._progress, "clock": worker.clock}
        session.finish(_RESULT + pickled if len(pickled) < MAX_RECORDED_RESULT else _LARGE_RESULT)
        return pickled


def pickle_result(value: Any) -> bytes:
    """As a rank's task returns it: functions and classes of the driver's main module travel by value."""
    from pyspark import cloudpickle

    dumps: Any = cloudpickle.dumps
    return bytes(dumps(value))


class _LargeResultLostError(Exception):
    """An earlier attempt finished the rank with a result too large to be recorded, and was lost with it."""


def cause_of(error: BaseException, rank: int, group: GroupSpec) -> Cause:
    """What the driver is told of `error`: rank, what it was, where it came from. Fit to be sent, whatever `error` is."""
    name, message, attributes = to_wire(error)
    if name in ("WorkerFailed", "InputFailed"):
        return Cause(name, message, attributes)
    raised = name_of(error)
    text = message if issubclass(type(error), SparkPSError) else text_of(error)
    details = {"rank": rank, "group": group.name, "cause": raised, "traceback": _traceback_of(error)}
    return Cause(
        "WorkerFailed",
        cut(f"Rank {rank} of worker group {group.name!r} failed: {raised}: {text}"),
        {**attributes, **details},
    )


def _traceback_of(error: BaseException) -> str:
    """The end of the traceback, and of each line in it beginning and end."""
    try:
        lines = traceback.format_exception(type(error), error, _beneath_sparkps(error))
        return cut("".join(cut(line, _TRACEBACK_CHARACTERS) for line in lines)[-_TRACEBACK_CHARACTERS:])
    except BaseException as failure:  # what a user's exception holds may raise anything when it is looked at
        return f"<the traceback cannot be had: {name_of(failure)}>"


def _beneath_sparkps(error: BaseException) -> Any:
    """The traceback from the train function on."""
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename == __file__:
        frame = frame.tb_next
    return frame or error.__traceback__


def not_started(report: GroupReport, group: GroupSpec, timeout: float, slots: int) -> DeadlineExceeded:
    """The error for ranks that have not started in time; names them, and the cluster's slots."""
    missing = [rank.rank for rank in report.ranks if rank.incarnation == 0]
    has = f"The cluster has {slots} task slots" if slots else "The number of task slots is not known"
    return DeadlineExceeded(
        f"All {group.num_workers} workers of group {group.name!r} must start within {timeout:g} s. Ranks {missing} have not: other jobs"
        f" hold the slots, or the resource manager gives none. {has}, {group.num_workers} workers were asked for; ask for fewer"
        " (`num_workers`), end the other jobs, or raise `spark.sparkps.groupStartTimeout`.",
        group=group.name,
        missing=missing,
        slots=slots,
        asked=group.num_workers,
    )


__all__ = [
    "FAILED",
    "FINISHED",
    "LOST_RESULT",
    "RankTask",
    "Train",
    "Worker",
    "cause_of",
    "not_started",
    "pickle_result",
]
