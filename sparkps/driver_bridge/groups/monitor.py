"""The watch over a running worker group: a thread at the driver that asks the coordinator how the group is doing.

It feeds the progress bar, enforces the start deadline, submits the group's Spark job again where a local master gave it up
at the first lost task, and fails the group when its job is gone for good, so that whoever waits on a node for a lost rank
is released.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from sparkps.client.control import ControlClient
from sparkps.driver_bridge.groups.causes import not_started, worker_lost
from sparkps.driver_bridge.groups.progress import ProgressBar
from sparkps.driver_bridge.groups.rank_lease import SOLVER_ATTEMPT, is_unreached
from sparkps.driver_bridge.groups.rank_task import RankEnd
from sparkps.driver_bridge.groups.stand_in import StandIn, are_lost
from sparkps.driver_bridge.spark.failures import input_failed, is_lost_worker, lost_task, root_cause, was_cancelled
from sparkps.driver_bridge.spark.jobs import SparkJob
from sparkps.errors import DeadlineExceeded, GroupError, InputFailed, NodeUnreachable, SparkPSError, WorkerFailed
from sparkps.plain import name_of, text_of
from sparkps.specs import GroupSpec
from sparkps.wire.messages.control import Cause, FailRank, GroupReport, GroupState

log = logging.getLogger(__name__)

#: Seconds between two looks at the group: until all ranks have started, and later.
_LOOK_FIRST, _LOOK_LATER = 0.05, 0.25

#: Seconds that the Spark job of a group whose input has failed has to fail, too.
_LAST_WORDS = 10.0

#: Seconds from the job's next submission in which no rank is given up: all of them get new tasks, which take a while to start.
_RESTART = 15.0

#: Seconds that the coordinator has to answer what it answers at once, before the driver goes on without an answer.
ANSWER_WITHIN = 5.0


class GroupMonitor:
    """Watches one group from its first submission until its job is done or its cause is known.

    Parameters
    ----------
    control : ControlClient
    group : GroupSpec
    submit : callable
        Starts the group's Spark job.
    stand_in : StandIn
        Gives up the ranks of lost workers, if that is wanted.
    most_failures : int
        The job is submitted again until one and the same task was lost so often.
    start_timeout : float
        Seconds from now until every rank must have started.
    slots : int
        Task slots of the cluster, for messages.
    bar : ProgressBar
    look_around : callable
        Says what the group has asked Spark for, and what the cluster has, where ranks have not started in time.
    remedy : str
        What to change to get more slots, as a part of a sentence.
    """

    def __init__(
        self,
        control: ControlClient,
        group: GroupSpec,
        submit: Callable[[], SparkJob[list[RankEnd]]],
        stand_in: StandIn,
        *,
        most_failures: int,
        start_timeout: float,
        slots: int,
        bar: ProgressBar,
        look_around: Callable[[], str] = str,
        remedy: str = "",
    ) -> None:
        self.control = control
        self.group = group
        self.start_seconds = 0.0
        self.train_seconds = 0.0
        #: The group's first cause, once it is known. Set before `settled`.
        self.cause: SparkPSError | None = None
        #: Nothing to watch any more: the job is done, or the group has failed.
        self.settled = threading.Event()
        #: Seconds and task slots, as they were given.
        self.start_timeout = start_timeout
        self.slots = slots
        #: Counters of a driver-side solver; none where there is no solver. Replaced as a whole, by the solver's thread.
        self.solver: Callable[[], dict[str, Any]] = dict
        self._submit = submit
        self._stand_in = stand_in
        self._most_failures = most_failures
        #: How often a job was lost with a task, by rank; -1: Spark did not say with which.
        self._failures: Counter[int] = Counter()
        self._bar = bar
        self._look_around = look_around
        self._remedy = remedy
        #: Until then tasks of a job that was submitted again start.
        self._restarted_by = 0.0
        #: When every rank had finished, by a look; 0: not yet.
        self._finished_at = 0.0
        #: How the ranks have ended, where the job has not ended with them.
        self._ends: list[RankEnd] | None = None
        self._latest: GroupReport | None = None
        #: Whether the last question to the coordinator was answered.
        self._answered = True
        #: Why nobody listens at the coordinator's endpoint any more, while that is so.
        self._alone: SparkPSError | None = None
        self._abandoned = False
        self._began = time.monotonic()
        #: When every rank had started; 0: not yet.
        self._started_at = 0.0
        self.job = submit()
        self._thread = threading.Thread(target=self._watch, name=f"sparkps-watch-{group.name}", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise the group's first cause, if it is known.

        Raises
        ------
        SparkPSError
        """
        if self.cause is not None:
            raise self.cause

    def hear_out(self, error: BaseException | None) -> None:
        """Where `error` is that the rows ended too early: wait until Spark has said why, and `cause` tells it."""
        if isinstance(error, InputFailed):
            self.settled.wait(2 * _LAST_WORDS)

    def abandon(self) -> None:
        """Submit the job no more: the group is being ended."""
        self._abandoned = True

    def look(self) -> GroupReport | None:
        """Ask for the group's state and show it; the last one where the coordinator does not answer, or has ended the group."""
        try:
            report: GroupReport = self.control.request(GroupState(0, self.group.group), timeout=ANSWER_WITHIN)
        except SparkPSError as error:
            self._without_news(error)
            return self._latest
        self._latest, self._answered, self._alone = report, True, None
        solver, lost = self.solver(), are_lost(report.ranks)
        workers = [rank.counters for rank in report.ranks[: self.group.num_workers] if rank.rank not in lost]
        self._bar.update([solver] if "epoch" in solver else workers, len(lost))
        return report

    @property
    def clock(self) -> int:
        """Last clock that every worker has said to have ticked, by the last look; -1 for none."""
        ranks = [] if self._latest is None else self._latest.ranks[: self.group.num_workers]
        return min((int(rank.counters.get("clock", 0)) for rank in ranks), default=0) - 1

    def ends(self) -> list[RankEnd]:
        """How the ranks of a group without a cause have ended."""
        return self.job.get() if self._ends is None else self._ends

    def _without_news(self, error: SparkPSError) -> None:
        """The coordinator does not answer: the group runs on without it, and says how it ended through its Spark job."""
        if not is_unreached(error, self.control) and not self.settled.is_set():
            raise error
        if isinstance(error, NodeUnreachable):
            self._alone = error
        if self._answered:
            log.warning("no news of worker group %s: %s", self.group.name, error)
        self._answered = False

    def fail(self, error: SparkPSError) -> SparkPSError:
        """Fail the group with a cause of the driver's own, unless it has one already; the cause that counts."""
        try:
            failing = FailRank(0, self.group.group, -1, SOLVER_ATTEMPT, Cause.of(error))
            self.control.request(failing, timeout=ANSWER_WITHIN)
        except SparkPSError as untold:
            if not is_unreached(untold, self.control):
                raise
            return error
        report = self.look()
        return report.cause.exception() if report is not None and report.cause is not None else error

    def _watch(self) -> None:
        try:
            while not self._over(self.job.done.wait(_LOOK_LATER if self._started_at else _LOOK_FIRST)):
                pass
        except Exception as error:  # the watch must never leave a waiter behind
            group = self.group.name
            self.cause = (
                error
                if isinstance(error, SparkPSError)
                else GroupError(f"{name_of(error)}: {text_of(error)}", group=group)
            )
        finally:
            self._bar.close(well=self.cause is None)
            self.settled.set()

    def _over(self, done: bool) -> bool:
        """One look; whether it was the last one."""
        report = self.look()
        now = time.monotonic()
        if report is not None and report.cause is not None:
            self.cause = self._explained(report.cause.exception())
            return True
        if report is not None and report.all_started and not self._started_at:
            self._started_at = now
            self.start_seconds = now - self._began
        if done:
            return self._job_is_done(now)
        if report is not None:
            if now > self._restarted_by and (silent := self._stand_in.look(report, now)) is not None:
                self.cause = self.fail(silent)
                return True
            if self._stand_in.lost and report.state == "finished":
                return self._job_hangs(now)
        if self._alone is not None and not self._started_at:
            self.cause = self._alone
            return True
        if not self._started_at and now > self._began + self.start_timeout:
            late = self._late(report)  # takes a while: meanwhile they may have started
            again = self.look()
            if again is None or not again.all_started:
                self.cause = self.fail(late)
                return True
        return False

    def _job_is_done(self, now: float) -> bool:
        error = self.job.error
        if error is None:
            self.train_seconds = now - (self._started_at or self._began)
            return True
        if self._alone is None and is_lost_worker(error) and self._goes_on(error):
            log.warning("submitting worker group %s again: %s", self.group.name, root_cause(error))
            self.job = self._submit()
            self._restarted_by = time.monotonic() + _RESTART
            return False
        said = root_cause(error)
        if self._alone is not None:
            self.cause = self._lost_without_coordinator(said)
            return True
        if not (is_lost_worker(error) or was_cancelled(error)):  # no rank has seen a row of it
            failed = InputFailed("", group=self.group.name)
            self.cause = input_failed(self.fail(input_failed(failed, error)), error)
            return True
        self.cause = self.fail(worker_lost(error, self.group) or self._unexplained(said))
        return True

    def _unexplained(self, said: str) -> SparkPSError:
        return WorkerFailed(
            f"The Spark job of worker group {self.group.name!r} failed, and no rank could say why: {said}. A worker's process may have"
            " been killed (memory?); see the executors' logs.",
            group=self.group.name,
            cause=said,
        )

    def _goes_on(self, error: BaseException) -> bool:
        """Whether the job may succeed if it is submitted again: as it is, or without the rank that it was lost with too often."""
        rank = lost_task(error)
        self._failures[rank] += 1
        again = self._failures[rank] < self._most_failures or self._stand_in.give_up_now(rank, lambda: self._abandoned)
        return again and not self._abandoned

    def _job_hangs(self, now: float) -> bool:
        """Every rank has finished, some in the place of lost workers, whose tasks Spark may wait for without end: not we."""
        self._finished_at = self._finished_at or now
        if now < self._finished_at + _LAST_WORDS:
            return False
        self._ends = self._stand_in.recorded()
        self.train_seconds = now - self._started_at
        return True

    def _explained(self, cause: SparkPSError) -> SparkPSError:
        """A rank sees of a failed plan only that its rows end; Spark knows why, and says it when the job has failed."""
        if isinstance(cause, InputFailed) and self.job.done.wait(_LAST_WORDS):
            return input_failed(cause, self.job.error)
        return cause

    def _lost_without_coordinator(self, said: str) -> SparkPSError:
        assert self._alone is not None
        return WorkerFailed(
            f"A worker of group {self.group.name!r} was lost or failed: {said}. No other can take its place, for {self._alone.message}",
            group=self.group.name,
            cause=said,
        )

    def _late(self, report: GroupReport | None) -> SparkPSError:
        if report is None:
            timeout = self.start_timeout
            return DeadlineExceeded(
                f"The workers of group {self.group.name!r} must start within {timeout:g} s.", group=self.group.name
            )
        return not_started(report, self.group, self.start_timeout, self.slots, self._look_around(), self._remedy)


__all__ = ["ANSWER_WITHIN", "GroupMonitor"]
