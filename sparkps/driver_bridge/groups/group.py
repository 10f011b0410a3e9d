"""Worker groups at the driver: checked, given their rows, admitted, started. What runs then is a `RunningGroup`."""

from __future__ import annotations

import dataclasses
import inspect
import os
import secrets
import time
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from sparkps.client.session import connect
from sparkps.config import FRACTION, is_fraction
from sparkps.consistency import BSP, Consistency, check_consistency
from sparkps.driver_bridge.groups import admission, solver
from sparkps.driver_bridge.groups.causes import left
from sparkps.driver_bridge.groups.checkpoints import plan_of
from sparkps.driver_bridge.groups.life import EndStep, Life
from sparkps.driver_bridge.groups.monitor import ANSWER_WITHIN, GroupMonitor
from sparkps.driver_bridge.groups.progress import ProgressBar
from sparkps.driver_bridge.groups.rank_lease import SOLVER_ATTEMPT
from sparkps.driver_bridge.groups.rank_task import RankTask
from sparkps.driver_bridge.groups.report import Results
from sparkps.driver_bridge.groups.resuming import CheckpointedRun, waited_for
from sparkps.driver_bridge.groups.resumption import Resumption, Source
from sparkps.driver_bridge.groups.running import RunningGroup, Terms, ended_if_it_fails
from sparkps.driver_bridge.groups.stand_in import StandIn, check_on_worker_loss
from sparkps.driver_bridge.groups.states import Event
from sparkps.driver_bridge.groups.worker import Train
from sparkps.driver_bridge.groups.workers_plan import plan_workers
from sparkps.driver_bridge.input.choice import GroupInput
from sparkps.driver_bridge.input.scan import check_input
from sparkps.driver_bridge.spark.cluster import what_there_is
from sparkps.driver_bridge.spark.jobs import SparkJob
from sparkps.errors import InvalidInput
from sparkps.namespaces import SEPARATOR
from sparkps.specs import GroupSpec, RankStart
from sparkps.wire.messages.control import AdmitGroup, Cause, FailRank

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from sparkps.checkpoints.manifest import Manifest
    from sparkps.driver_bridge.context import PSContext

#: Seconds that tasks of an ended group have to end by themselves before they are cancelled.
_GRACE = 2.0


class Group:
    """A worker group before its start; a context manager that starts it, and gives the `RunningGroup`.

    With a solver, the calling thread is a member of the group's clock as the last rank: its session is under the clock, and
    `RunningGroup.solver` is its `Worker`.

    Parameters
    ----------
    ps : PSContext
    df, train, num_workers, consistency, deterministic, timeout, progress
        As for `PSContext.run`.
    solver : bool
        Whether the driver is a member.
    on_worker_loss : {"wait", "continue"}
        As for `PSContext.run`.
    name : str
        Shown in messages and in the status, with an id that makes it unique.
    label : str
        Heads the progress bar; empty: the name and its id.
    resume_from : Source, optional
        The group continues the newest of these checkpoints. Tables are restored when it starts.
    gpus_per_worker : float, optional
        As for `PSContext.run`.

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
        on_worker_loss: str = "wait",
        name: str = "run",
        label: str = "",
        resume_from: Source | None = None,
        gpus_per_worker: float | None = None,
    ) -> None:
        if not callable(train):
            raise InvalidInput(f"`train` must be a function of (worker, batches). Got {type(train).__name__} instead.")
        check_input(df)
        _check_timeout(timeout)
        _check_words(name, label, deterministic=deterministic, progress=progress)
        self._on_worker_loss = check_on_worker_loss(on_worker_loss)
        self.consistency = check_consistency(consistency)
        self._plan = plan_workers(ps, num_workers, _checked_gpus(gpus_per_worker))
        self.num_workers = self._plan.num_workers
        self.name = f"{name}-{secrets.token_hex(3)}"
        self._ps = ps
        self._settings = ps.settings.workers
        self._train = train
        self._has_solver = solver
        self._timeout = timeout
        self._progress = progress
        self._label = label or self.name
        #: What the group's Spark jobs are cancelled by.
        self._tag = f"sparkps-{self.name}"
        #: Planned; notes what is to be undone from the start on.
        self._life = Life(self.name)
        self._resumption: Resumption | None = None
        if resume_from is not None:
            ranks = self.num_workers + solver
            shape = self.num_workers, ranks, self.consistency.bound
            own = dataclasses.replace(resume_from, restores=lambda table: ps.owns(table) and resume_from.restores(table))
            self._resumption = Resumption(ps.control, own, self._shared(name), *shape)
        #: Looked at, and staged if need be, before admission: slots are not held meanwhile.
        self._rows = GroupInput(
            df,
            self.num_workers,
            self._settings,
            deterministic=deterministic,
            group=self.name,
            tag=self._tag,
            check=ps.control.check,
            profile=self._plan.profile,
        )
        #: The running group, while a `with` block is in it.
        self._block = ExitStack()

    def __enter__(self) -> RunningGroup:
        return self._block.enter_context(self.start())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._block.__exit__(kind, error, trace)

    def start(self) -> RunningGroup:
        """Stage the input if need be, get admitted, start the ranks; with a solver, wait until all have started.

        Raises
        ------
        GroupError
            It was started before.
        DeadlineExceeded
            Not admitted in time, or, with a solver, not started in time.
        """
        self._life.enter(Event.START)
        try:
            return self._started()
        except BaseException as error:
            self._life.end(error)
            raise

    def _started(self) -> RunningGroup:
        life = self._life
        life.at_end(EndStep.ROWS, lambda _: self._rows.remove())
        self._rows.prepare()
        life.enter(Event.PREPARED)
        began = time.monotonic()
        begun = self._resumption.restore() if self._resumption is not None else ()
        if begun:  # this thread may have met buckets that were lost, and are back now
            connect(self._ps.address).refresh()
        spec = self._admitted(begun)
        if self._resumption is not None:
            self._resumption.mark(spec)
        terms = Terms(self.consistency, self._timeout, self._rows, time.monotonic() - began, self._ps.address.tier_id)
        life.enter(Event.ADMITTED)
        monitor = self._monitored(spec)
        with ended_if_it_fails(life, monitor):
            member = None
            if self._has_solver:
                ps, ttl = self._ps, self._settings.lease_ttl
                member = solver.join(ps.address, ps.control, spec, monitor, life, ttl=ttl)
            life.enter(Event.STARTED)
        return RunningGroup(self._ps.control, spec, terms, life, monitor, member)

    def _shared(self, name: str) -> str:
        """A name as others know it who share the tier."""
        owner = self._ps.address.owner
        return f"{owner}{SEPARATOR}{name}" if owner else name

    @property
    def restored(self) -> Manifest | None:
        """The checkpoint that it continues, once it has started; None: it begins at the beginning."""
        return None if self._resumption is None else self._resumption.manifest

    def _admitted(self, start: tuple[RankStart, ...]) -> GroupSpec:
        """Ask for admission, and wait for it."""
        control, longest, tag = self._ps.control, self._settings.admission_timeout, secrets.token_hex(8)
        self._life.at_end(EndStep.GROUP, lambda _: admission.withdraw(control, tag, ANSWER_WITHIN))
        ranks = self.num_workers + self._has_solver
        slots = self._plan.slots.limit or self._plan.slots.default
        shape = self.num_workers, ranks, self.consistency.bound, slots
        asking = AdmitGroup(0, self._shared(self.name), *shape, tag, start, self._ps.application)
        limit = longest if self._timeout is None else min(self._timeout, longest)
        spec = admission.admit(control, asking, limit, self._plan.slots.remedy)
        self._life.at_end(EndStep.GROUP, lambda _: admission.end(control, spec))
        self._life.at_end(EndStep.TELL, lambda error: self._tell(spec, error))
        return spec

    def _monitored(self, spec: GroupSpec) -> GroupMonitor:
        """Start the group's Spark job, and watch over it."""
        ps, slots = self._ps, self._plan.slots.limit or 0
        settings, level = self._settings, self._ps.settings.log_level
        # What this thread reads when the ranks have ended must not need the coordinator then.
        connect(ps.address)
        task = RankTask(
            ps.address, replace(spec, start=()), self._train, self._rows.schema, settings, slots, of_driver=self._plan.gpus, log_level=level
        )
        stage = self._rows.stage_of(lambda fetched: dataclasses.replace(task, fetched=fetched))

        def submit() -> SparkJob[list[Any]]:
            return SparkJob(ps.spark, self._tag, f"sparkps: training of {self.name}", stage).start()

        monitor = GroupMonitor(
            ps.control,
            spec,
            submit,
            StandIn(ps.address, ps.control, spec, self._on_worker_loss, self._settings.lease_ttl),
            most_failures=self._plan.most_failures,
            start_timeout=self._settings.group_start_timeout,
            slots=slots,
            bar=ProgressBar(self._label, self._progress, ps.spark),
            look_around=lambda: f"Spark was asked for {self._plan.asked}. {what_there_is(ps.spark)}",
            remedy=self._plan.slots.remedy,
        )
        self._life.at_end(EndStep.TELL, lambda error: None if monitor.settled.is_set() else self._tell(spec, error))
        self._life.at_end(EndStep.JOB, lambda _: _end_job(monitor))
        return monitor

    def _tell(self, spec: GroupSpec, error: BaseException | None) -> None:
        """Tell ranks and nodes that it is over."""
        failing = FailRank(0, spec.group, -1, SOLVER_ATTEMPT, Cause.of(left(self.name, error)))
        self._ps.control.request(failing, timeout=ANSWER_WITHIN)


def _end_job(monitor: GroupMonitor) -> None:
    monitor.abandon()
    try:
        monitor.job.done.wait(_GRACE)
    finally:  # also when a second Ctrl-C ends the wait
        if not monitor.job.done.is_set():
            monitor.job.cancel()
    monitor.settled.wait(_GRACE)


def _check_timeout(timeout: Any) -> None:
    if timeout is None:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0:
        raise InvalidInput(f"`timeout` must be a number of seconds above 0, or None. Got {timeout!r} instead.")


def _checked_gpus(gpus: Any) -> float | None:
    if gpus is not None and not is_fraction(gpus):
        raise InvalidInput(f"`gpus_per_worker` must be {FRACTION}, or None. Got {gpus!r} instead.")
    return None if gpus is None else float(gpus)


def start_group(
    ps: PSContext, df: DataFrame, train: Train, num_workers: int | None = None, **options: Any
) -> RunningGroup:
    """An admitted, running group; see `Group` for the options. Use it as a context manager."""
    _check_names(options)
    return Group(ps, df, train, num_workers, **options).start()


def run_group(
    ps: PSContext,
    df: DataFrame,
    train: Train,
    num_workers: int | None = None,
    consistency: Consistency | type[Consistency] = BSP,
    *,
    checkpoint_dir: str | os.PathLike[str] | None = None,
    checkpoint_every: int | None = None,
    checkpoint_seconds: float | None = None,
    resume: bool | None = None,
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
    checkpoint_dir : str or os.PathLike, optional
        URL of a directory where checkpoints are written while the group trains: all tables, and where each rank is, with what it
        has stored with its last `tick(state)`. The last three of a run of this `name` are kept; others there stay. If buckets are lost
        with their nodes, the run goes on by itself from the newest one that it has taken, or had gone on from. One that is under way
        when the run ends is waited for 3 s.
    checkpoint_every : int, optional
        A checkpoint is due so many clocks after the last one; default 10, unless `checkpoint_seconds` is given.
    checkpoint_seconds : float, optional
        A checkpoint is due so many seconds after the last one.
    resume : bool, optional
        Whether the run continues the newest sound checkpoint in `checkpoint_dir` of a run of the same `name`, number of workers and
        consistency; default True. Without any of that `name` it begins at the beginning. The tables are as they were, and ranks go on at
        the clock after their last one, with `worker.state`. A run that was killed and is started again ends as if it had not been, in
        BSP bit for bit, if ranks get the same rows again (``deterministic=True``, or the same files).
    **options
        ``deterministic=True``: a row's worker and place depend on the rows alone. ``timeout``: seconds that the group may take.
        ``gpus_per_worker``: in the place of `spark.sparkps.worker.gpus`.
        ``progress``: True or False for a bar in any case; None: where somebody sees it. ``on_worker_loss="continue"``: the group
        goes on without a worker that is lost, if no successor has come by the end of its lease (`spark.sparkps.leaseTtl`) or Spark has
        given it up; what it had ticked counts, others do not wait for it, and its result is a `WorkerLost`. The last worker is
        always waited for, as "wait", the default, does for all. ``name``: for messages, and what checkpoints
        are known by. ``label``: heads the bar in place of the name.

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
    _check_names(options, ("solver", "resume_from"), ("checkpoint_dir", "checkpoint_every", "checkpoint_seconds", "resume"))
    plan = plan_of(checkpoint_dir, checkpoint_every, checkpoint_seconds, resume)
    if plan is None:
        return Group(ps, df, train, num_workers, consistency, **options).start().wait()

    def make(source: Source | None) -> Group:
        return Group(ps, df, train, num_workers, consistency, resume_from=source, **options)

    run = CheckpointedRun(make, ps.control, plan, patience_of(ps), waited_for)
    return run.with_figures(run.run())


def _check_words(name: str, label: str, **flags: bool | None) -> None:
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise InvalidInput(f"`name` must be a str that can be read, as 'clicks'. Got {name!r} instead.")
    if not isinstance(label, str):
        raise InvalidInput(f"`label` must be a str. Got {label!r} instead.")
    for flag, value in flags.items():
        if not (isinstance(value, bool) or (value is None and flag == "progress")):
            raise InvalidInput(f"`{flag}` must be True or False{', or None' if flag == 'progress' else ''}. Got {value!r} instead.")


def _check_names(options: dict[str, Any], without: Sequence[str] = (), more: Sequence[str] = ()) -> None:
    known = [name for name in inspect.signature(Group).parameters if name not in without][4:]  # those before have a place of their own
    for name in options.keys() - set(known):
        told = [each for each in (*known, *more) if each != "resume_from"]
        raise TypeError(f"An option of a worker group must be one of {', '.join(told)}. Got {name!r} instead.")


def patience_of(ps: PSContext) -> float:
    """Seconds after which a tier's coordinator knows of every node that is dead."""
    return 2 * ps.settings.node.heartbeat_deadline


__all__ = ["Group", "patience_of", "run_group", "start_group"]
