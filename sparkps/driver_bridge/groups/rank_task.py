"""One rank of a worker group, inside its Spark task: lease, start together, take over, train, finish.

A rank whose function raises fails the whole group with its cause, which is recorded at the coordinator; the task itself then
ends in good order, so that Spark neither tries it again nor buries the cause under its own messages. What cannot be told to
the coordinator fails the task: then Spark is the one to tell.
"""

from __future__ import annotations

import logging
import pickle
import socket
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from sparkps.arrow import bytes_column, int_column
from sparkps.client.control import ControlClient
from sparkps.client.session import Session, connect, disconnect
from sparkps.config import PREFIX, WorkerSettings
from sparkps.driver_bridge.groups.causes import not_started
from sparkps.driver_bridge.groups.devices import DriverGpus, devices_of
from sparkps.driver_bridge.groups.rank_lease import RankLease, acquire, is_unreached
from sparkps.driver_bridge.groups.worker import STATE, Train, Worker
from sparkps.driver_bridge.input.batches import Batches, input_failure, rows_of_spark
from sparkps.driver_bridge.input.scan import RankRows, with_names
from sparkps.errors import Fenced, InvalidInput, SparkPSError, to_wire
from sparkps.log_forwarding import LogForwarder
from sparkps.plain import cut, name_of, text_of
from sparkps.secret import SIGNATURE_BYTES, TierSecret, opened, sealed, secret_of
from sparkps.specs import GroupSpec
from sparkps.wire.messages.control import MAX_RECORDED_RESULT, Cause, Recorded, Renew, TierAddress

log = logging.getLogger(__name__)

#: What a rank's task says of itself to the driver.
FINISHED, FAILED, LOST_RESULT = "finished", "failed", "lost result"

#: Of a remote traceback, the end is kept.
_TRACEBACK_CHARACTERS = 8000

#: A worker waits so much longer than the driver for the other ranks: the driver's message is the better one.
_START_GRACE = 30.0

#: First byte of what is stored with the last tick: the rank's result, or that it was too large to be stored.
_RESULT, _LARGE_RESULT = b"r", b"x"


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
    #: GPUs of the driver, where the ranks share those out; None: what Spark gives to the task counts.
    of_driver: DriverGpus | None = None
    #: What is logged here at this level or above, the user's function included, also reaches the driver's log; empty: nothing does.
    log_level: str = ""

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
        rank = context.partitionId()
        devices = devices_of(context.resources(), rank, self.of_driver)
        with self._log_forwarded(rank):
            ended = self.run(rank, context.taskAttemptId(), rows, devices)
        yield RankEnd(rank, *ended)

    def _log_forwarded(self, rank: int) -> AbstractContextManager[Any]:
        if not self.log_level:
            return nullcontext()
        return LogForwarder(self.address.coordinator, f"rank {rank} on {socket.gethostname()}", self.log_level, secret_of(self.address))

    def run(
        self, rank: int, attempt: int, rows: Iterator[pa.RecordBatch], devices: tuple[str, ...]
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
                outcome = self._hold(held, batches, devices)
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

    def _hold(self, lease: RankLease, batches: Batches, devices: tuple[str, ...]) -> tuple[str, bytes | None] | None:
        """Train as long as the rank is ours; None: another attempt has it."""
        session = connect(self.address)
        try:
            pickled = self._train(session, lease, batches, devices)
            result = sealed(secret_of(self.address), self.address.tier_id, purpose_of(self.group, lease.rank), pickled)
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

    def _train(self, session: Session, lease: RankLease, batches: Batches, devices: tuple[str, ...]) -> bytes:
        if not lease.wait_started(self.settings.group_start_timeout + _START_GRACE):
            raise not_started(lease.state(), self.group, self.settings.group_start_timeout, self.slots)
        _, stored = session.takeover(self.group.group, lease.rank, lease.incarnation)
        kind, state = (stored[:1], stored[1:]) if stored else (b"", b"")
        if kind == _RESULT:
            return state
        if kind == _LARGE_RESULT:
            raise _LargeResultLostError
        session.waited_seconds = 0.0
        worker = Worker(session, lease, state if kind == STATE else None, devices)
        returned = self.train(worker, batches)
        pickled = pickle_result(returned)
        self._check_size(pickled)
        worker.keep_clock()
        session.finish(stored_result(pickled))
        return pickled

    def _check_size(self, pickled: bytes) -> None:
        limit = self.settings.max_result_bytes
        if len(pickled) > limit:
            raise InvalidInput(
                f"The result of a rank must have at most {limit} bytes, pickled (`{PREFIX}maxResultBytes`). Got {len(pickled)} bytes: keep"
                " what is large in a table of the tier or in files, and return where it is.",
            )


def purpose_of(group: GroupSpec, rank: int) -> str:
    """What a result is signed for."""
    return f"result of rank {rank} of group {group.group}"


def stored_result(pickled: bytes) -> bytes:
    """What is stored with a rank's last tick."""
    return _RESULT + pickled if len(pickled) + SIGNATURE_BYTES <= MAX_RECORDED_RESULT else _LARGE_RESULT


def result_stored(stored: bytes | None) -> bool:
    """Whether what was stored with a rank's last tick says that its function has returned."""
    return bool(stored) and stored[:1] in (_RESULT, _LARGE_RESULT)  # type: ignore[index]


def pickle_result(value: Any) -> bytes:
    """As a rank's task returns it: functions and classes of the driver's main module travel by value."""
    from pyspark import cloudpickle

    dumps: Any = cloudpickle.dumps
    return bytes(dumps(value))


def unpickled_result(secret: TierSecret | None, tier_id: str, group: GroupSpec, rank: int, result: bytes) -> Any:
    """What a rank's task has returned, or recorded at the coordinator: the one place where the driver unpickles it.

    Raises
    ------
    NotAdmitted
        Nobody of the tier has signed it for this rank.
    """
    return pickle.loads(opened(secret, tier_id, purpose_of(group, rank), result))


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


__all__ = [
    "FAILED", "FINISHED", "LOST_RESULT", "RankEnd", "RankTask", "cause_of", "pickle_result", "purpose_of", "result_stored", "stored_result",
    "unpickled_result",
]  # fmt: skip
