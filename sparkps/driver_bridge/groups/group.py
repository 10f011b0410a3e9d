"""Worker groups at the driver: admit, start, and either collect one result a rank or raise the first cause.

A background thread watches the running group (see `watch`); the calling thread only waits, or works as the group's
driver-side solver.
"""

from __future__ import annotations

import logging
import pickle
import secrets
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from sparkps.client.control import ControlClient
from sparkps.client.session import Session, connect
from sparkps.consistency import BSP, Consistency, check_consistency
from sparkps.driver_bridge.groups.monitor import ANSWER_WITHIN, GroupMonitor
from sparkps.driver_bridge.groups.progress import ProgressBar
from sparkps.driver_bridge.groups.rank_lease import SOLVER_ATTEMPT, RankLease, acquire
from sparkps.driver_bridge.groups.report import Results, RunReport, rank_figures
from sparkps.driver_bridge.groups.worker import FINISHED, LOST_RESULT, RankTask, Train, Worker, not_started
from sparkps.driver_bridge.input.choice import GroupInput
from sparkps.driver_bridge.input.scan import check_input
from sparkps.driver_bridge.spark.jobs import SparkJob
from sparkps.driver_bridge.spark.master import Master
from sparkps.driver_bridge.spark.slots import check_platform, choose_num_workers, count_slots, observe
from sparkps.errors import DeadlineExceeded, GroupError, InvalidInput, SparkPSError, TierError, WorkerFailed, from_wire
from sparkps.plain import name_of, text_of
from sparkps.specs import GroupSpec
from sparkps.wire.messages.control import AdmitGroup, Admitted, Cause, EndGroup, FailRank, GroupReport, TierStatus

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from sparkps.driver_bridge.context import PSContext

log = logging.getLogger(__name__)

#: Seconds between two looks while waiting: how long Ctrl-C may take.
_LOOK_EVERY = 0.25

#: Seconds that tasks of an ended group have to end by themselves before they are cancelled.
_GRACE = 2.0

#: Seconds between two questions whether the group is admitted: first, and at most.
_ADMISSION_FIRST, _ADMISSION_LATER = 0.05, 1.0


class Group:
    """A worker group, from its admission to its end; a context manager.

    With a solver, the calling thread is a member of the group's clock as the last rank: `member` is its session (the same
    as this thread's own, so every table handle used in this thread is under the clock), `solver` its `Worker`.

    Parameters
    ----------
    ps : PSContext
    df, train, num_workers, consistency, deterministic, timeout, progress
        As for `PSContext.run`.
    solver : bool
        Whether the driver is a member.
    name : str
        Shown in messages and in the status, with an id that makes it unique.
    label : str
        Heads the progress bar; empty: the name and its id.

    Examples
    --------
    >>> with ps.start_group(df, train, 2, BSP(), solver=True) as group:    # doctest: +SKIP
    ...     for step in range(10):
    ...         w.call("axpy", alpha=-0.1, x="gradient")
    ...         group.solver.tick()
    ...     results = group.wait()
    """

    def __init__(
        self,
        ps: PSContext,
        df: DataFrame,
        train: Train,
        num_workers: int | None = None,
        consistency: Consistency | type[Consistency] = BSP,
        *,
        deterministic: bool = False,
        solver: bool = False,
        timeout: float | None = None,
        progress: bool | None = None,
        name: str = "run",
        label: str = "",
    ) -> None:
        if not callable(train):
            raise InvalidInput(f"`train` must be a function of (worker, batches). Got {type(train).__name__} instead.")
        check_input(df)
        _check_timeout(timeout)
        self.ps = ps
        self.consistency = check_consistency(consistency)
        master, conf, observed = observe(ps.spark)
        check_platform(conf)
        self._slots = count_slots(master, conf, observed)
        self.num_workers = choose_num_workers(num_workers, self._slots)
        self.name = f"{name}-{secrets.token_hex(3)}"
        self._label = label or self.name
        self._train = train
        self._has_solver = solver
        self._timeout = timeout
        self._show = progress
        self._settings = ps.settings.workers
        #: A local master fails a job at the first lost task, so the job is submitted again instead.
        self._submissions = (
            int(conf.get("spark.task.maxFailures", "4")) if Master(master).in_driver else 1
        )
        self._tag = f"sparkps-{self.name}"
        self._feed = GroupInput(
            df,
            self.num_workers,
            self._settings,
            deterministic=deterministic,
            group=self.name,
            tag=self._tag,
            check=ps.control.check,
        )
        self._admission_seconds = 0.0
        #: Names the request for admission, once it is made: it may have been granted though no answer came.
        self._asked = ""
        #: Set once each, in this order, by `start`.
        self._spec: GroupSpec | None = None
        self._watch: GroupMonitor | None = None
        self._lease: RankLease | None = None
        self.member: Session | None = None
        self.solver: Worker | None = None
        self._ended = False

    @property
    def spec(self) -> GroupSpec:
        """The group as it was admitted."""
        if self._spec is None:
            raise GroupError("A worker group has an id once it is admitted. Call start() first.", group=self.name)
        return self._spec

    # ---- start ---------------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Stage the input if need be, get admitted, start the ranks; with a solver, wait until all have started."""
        try:
            self._feed.prepare()
            began = time.monotonic()
            self._spec = self._admit()
            self._admission_seconds = time.monotonic() - began
            self._begin()
            if self._has_solver:
                self._join_as_solver()
        except BaseException as error:
            self._stop(error)
            self._raise_instead(error)
            raise
        return self

    def _admit(self) -> GroupSpec:
        limit = (
            self._settings.admission_timeout
            if self._timeout is None
            else min(self._timeout, self._settings.admission_timeout)
        )
        slots = self._slots.limit or self._slots.default
        ranks = self.num_workers + self._has_solver
        self._asked = secrets.token_hex(8)
        asking = AdmitGroup(0, self.name, self.num_workers, ranks, self.consistency.bound, slots, self._asked)
        return admit(self.ps.control, asking, limit, self._slots.remedy)

    def _begin(self) -> None:
        # What this thread reads when the ranks have ended must not need the coordinator then.
        connect(self.ps.address)
        stage = self._feed.stage_of(
            lambda fetched: RankTask(
                self.ps.address,
                self.spec,
                self._train,
                self._feed.schema,
                self._settings,
                self._slots.limit or 0,
                fetched,
            )
        )

        def submit() -> SparkJob[list[Any]]:
            return SparkJob(self.ps.spark, self._tag, f"sparkps: training of {self.name}", stage).start()

        self._watch = GroupMonitor(
            self.ps.control,
            self.spec,
            submit,
            submissions=self._submissions,
            start_timeout=self._settings.group_start_timeout,
            slots=self._slots.limit or 0,
            bar=ProgressBar(self._label, self._show, self.ps.spark),
        )

    def _join_as_solver(self) -> None:
        assert self._watch is not None, "the solver joins a running group"
        rank = self.spec.num_ranks - 1
        lease = acquire(self.ps.control, self.spec, rank, SOLVER_ATTEMPT, self._settings.lease_ttl)
        assert isinstance(lease, RankLease), "nobody else leases the solver's rank"
        self._lease = lease
        timeout = self._settings.group_start_timeout
        if not lease.wait_started(timeout + 2 * _GRACE):
            raise not_started(lease.state(), self.spec, timeout, self._slots.limit or 0)
        self.member = connect(self.ps.address)
        self.member.takeover(self.spec.group, rank, lease.incarnation)
        self.solver = Worker(self.member, lease, None, None)
        # Nodes release a solver that waits for a lost rank, unless nobody is left to tell them.
        self.member.check = self._watch.check
        self._watch.solver = self.solver.counters

    # ---- wait ----------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self if self._spec is not None else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop(error)
        if error is not None:
            self._raise_instead(error)

    def wait(self) -> Results:
        """Wait for all ranks. A solver's clock becomes infinite first.

        Returns
        -------
        Results
            One result a rank; ``report`` has the figures.

        Raises
        ------
        WorkerFailed
            A rank's function raised; ``rank``, ``cause`` and ``traceback`` tell where and what.
        DeadlineExceeded
            The ranks did not start in time, or took longer than `timeout`.
        """
        try:
            self._leave_as_solver()
            self._wait_settled()
            results = self._results()
        except BaseException as error:
            self._stop(error)
            self._raise_instead(error)
            raise
        self._stop(None)
        return results

    def _leave_as_solver(self) -> None:
        if self.member is not None and self._lease is not None:
            self.member.finish()
            self.member.check = None
            self._lease.finish(None)
            self._lease = self.member = self.solver = None

    def _wait_settled(self) -> None:
        assert self._watch is not None, "wait() follows start()"
        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        while not self._watch.settled.wait(_LOOK_EVERY):
            if deadline is not None and time.monotonic() > deadline:
                raise DeadlineExceeded(
                    f"Worker group {self.name!r} must end within `timeout` = {self._timeout:g} s. It has not, and was ended.",
                    group=self.name,
                )
        if self._watch.cause is not None:
            raise told(self._watch.cause)

    def _results(self) -> Results:
        assert self._watch is not None
        rows = {row.rank: row for row in self._watch.job.get()}
        for rank in range(self.num_workers):
            outcome = rows[rank].outcome if rank in rows else "none"
            if outcome != FINISHED:
                why = (
                    "was over 1 MiB and went with its task; keep large results on the tier or in files"
                    if outcome == LOST_RESULT
                    else outcome
                )
                raise WorkerFailed(
                    f"Every rank must end with a result. That of rank {rank} of worker group {self.name!r}: {why}.",
                    rank=rank,
                    group=self.name,
                )
        return Results(
            (pickle.loads(bytes(rows[rank].result)) for rank in range(self.num_workers)), self._report(self._watch)
        )

    def _report(self, watch: GroupMonitor) -> RunReport:
        """Figures of the run; where the coordinator does not answer, the last that it gave."""
        report = watch.look() or GroupReport(0, self.spec.group, "finished", None, True, [])
        measured: dict[str, Any] = {}
        try:
            groups = self.ps.control.request(TierStatus(0, fresh=True), timeout=ANSWER_WITHIN).report.get("groups", [])
            measured = next((entry for entry in groups if entry.get("id") == self.spec.group), {})
        except TierError as error:
            log.warning("the figures of worker group %s are not complete: %s", self.name, error)
        return RunReport(
            group=self.name,
            num_workers=self.num_workers,
            consistency=repr(self.consistency),
            reader=self._feed.reader,
            staged=self._feed.why_staged,
            staging_seconds=self._feed.staging_seconds,
            admission_seconds=self._admission_seconds,
            start_seconds=watch.start_seconds,
            train_seconds=watch.train_seconds,
            ranks=rank_figures(report, measured, self.num_workers),
        )

    def _raise_instead(self, error: BaseException) -> None:
        """Raise the group's first cause where `error` is but its echo in this thread."""
        cause = self._watch.cause if self._watch is not None else None
        if (
            cause is not None
            and isinstance(error, SparkPSError)
            and not isinstance(error, WorkerFailed)
            and isinstance(cause, WorkerFailed)
        ):
            raise told(cause) from error

    # ---- end -----------------------------------------------------------------------------------------------------------

    def _stop(self, error: BaseException | None) -> None:
        """End the group, whatever state it is in; the tier lives on."""
        if self._ended:
            return
        self._ended = True
        steps: list[Callable[[], None]] = [
            lambda: self._fail(error),
            self._end_job,
            self._release_solver,
            self._end_group,
        ]
        for step in [*steps, self._feed.remove]:
            try:
                step()
            except Exception as trouble:  # every step must be tried, and `error` is what counts
                log.warning("while ending worker group %s: %s: %s", self.name, type(trouble).__name__, trouble)

    def _fail(self, error: BaseException | None) -> None:
        """Tell ranks and nodes that it is over, unless it is."""
        if self._spec is None or (self._watch is not None and self._watch.settled.is_set()):
            return
        if isinstance(error, SparkPSError):
            why = error
        else:
            said = (
                "its driver left it"
                if error is None
                else f"{name_of(error)}{f': {text}' if (text := text_of(error)) else ''} at the driver"
            )
            why = GroupError(f"Worker group {self.name!r} was ended: {said}.", group=self.name)
        failing = FailRank(0, self._spec.group, -1, SOLVER_ATTEMPT, Cause.of(why))
        self.ps.control.request(failing, timeout=ANSWER_WITHIN)

    def _end_job(self) -> None:
        if self._watch is None:
            return
        self._watch.abandon()
        if not self._watch.job.done.wait(_GRACE):
            self._watch.job.cancel()
        self._watch.settled.wait(_GRACE)

    def _release_solver(self) -> None:
        if self._lease is not None:
            self._lease.stop()
        if self.member is not None:
            self.member.check = None
            self.member.leave()
        self._lease = self.member = self.solver = None

    def _end_group(self) -> None:
        if self._spec is not None:
            self.ps.control.request(EndGroup(0, self._spec.group))
        elif self._asked:
            self.ps.control.request(EndGroup(0, 0, self._asked), timeout=ANSWER_WITHIN)


def admit(control: ControlClient, asking: AdmitGroup, limit: float, remedy: str) -> GroupSpec:
    """Wait for admission: one group at a time, unless the free slots cover this one, too.

    Raises
    ------
    DeadlineExceeded
        Not within `limit` seconds; names the groups that hold the slots.
    """
    deadline = time.monotonic() + limit
    pause, waiting = _ADMISSION_FIRST, threading.Event()
    while True:
        answer = control.request(asking)
        if isinstance(answer, Admitted):
            return answer.spec
        if time.monotonic() > deadline:
            raise DeadlineExceeded(
                f"Worker group {asking.name!r} must be admitted within {limit:g} s. Groups {answer.running} hold the slots, and"
                f" {answer.position} are ahead: wait for them, raise `spark.sparkps.admissionTimeout`, or {remedy}.",
                running=answer.running,
            )
        waiting.wait(pause)
        pause = min(1.5 * pause, _ADMISSION_LATER)


def told(cause: SparkPSError) -> SparkPSError:
    """The group's first cause as an error to raise: caused by the error of sparkps that it came from, with the worker's traceback."""
    name = cause.attributes.get("cause")
    if isinstance(cause, WorkerFailed) and isinstance(name, str):
        details = {key: value for key, value in cause.attributes.items() if key not in ("cause", "traceback")}
        inner = from_wire(name, cause.message, details)
        if type(inner).__name__ == name:
            cause.__cause__ = inner
        text = cause.attributes.get("traceback")
        if text and not getattr(cause, "__notes__", None):
            cause.add_note(f"Traceback of the worker:\n{text}")
    return cause


def start_group(ps: PSContext, df: DataFrame, train: Train, num_workers: int | None = None, **options: Any) -> Group:
    """An admitted, running group; see `Group` for the options. Use it as a context manager."""
    return Group(ps, df, train, num_workers, **options).start()


def _check_timeout(timeout: Any) -> None:
    if timeout is None:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0:
        raise InvalidInput(f"`timeout` must be a number of seconds above 0, or None. Got {timeout!r} instead.")


def run_group(
    ps: PSContext,
    df: DataFrame,
    train: Train,
    num_workers: int | None = None,
    consistency: Consistency | type[Consistency] = BSP,
    **options: Any,
) -> Results:
    """Run `train(worker, batches)` on W workers at once, and wait for them.

    Parameters
    ----------
    ps : PSContext
    df : DataFrame
        Each worker gets its own part of the rows; a part may be empty.
    train : callable
        ``train(worker, batches)``; see `Worker` and `Batches`. Called again for a rank whose task was lost: `worker.clock` and
        `worker.state` tell where it stopped.
    num_workers : int, optional
        None: what the cluster can run at once.
    consistency : BSP, SSP(staleness) or ASP
    **options
        ``deterministic=True``: a row's worker and place depend on the rows alone. ``timeout``: seconds that the group may take.
        ``progress``: True or False for a bar in any case; None: where somebody sees it. ``name``: for messages. ``label``: heads the
        bar in place of the name.

    Returns
    -------
    Results
        A list, one result a rank; ``report`` has the figures.

    Raises
    ------
    WorkerFailed
        A worker's function raised: the first one that did.
    NotEnoughSlots
        The cluster can never run so many workers at once.
    DeadlineExceeded
        Not admitted, not started or not ended in time.
    """
    return Group(ps, df, train, num_workers, consistency, **options).start().wait()


__all__ = ["Group", "admit", "run_group", "start_group", "told"]
