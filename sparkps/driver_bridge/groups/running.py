"""A worker group that runs: waited for, or worked with as its solver, and ended.

A background thread watches the group (see `monitor`); the calling thread only waits, or is the group's driver-side solver.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from sparkps.client.control import ControlClient
from sparkps.consistency import Consistency
from sparkps.driver_bridge.groups.causes import raise_first_cause, told
from sparkps.driver_bridge.groups.life import Life
from sparkps.driver_bridge.groups.monitor import ANSWER_WITHIN, GroupMonitor
from sparkps.driver_bridge.groups.rank_task import FINISHED, LOST_RESULT, unpickled_result
from sparkps.driver_bridge.groups.report import Results, RunReport, rank_figures
from sparkps.driver_bridge.groups.solver import SolverMember
from sparkps.driver_bridge.groups.stand_in import are_lost
from sparkps.driver_bridge.groups.states import Event, GroupStage
from sparkps.driver_bridge.groups.worker import Worker
from sparkps.driver_bridge.input.choice import GroupInput
from sparkps.errors import DeadlineExceeded, GroupError, TierError, WorkerFailed
from sparkps.secret import TierSecret
from sparkps.specs import GroupSpec
from sparkps.wire.messages.control import GroupReport, TierStatus

log = logging.getLogger(__name__)

#: Seconds between two looks while waiting: how long Ctrl-C may take.
_LOOK_EVERY = 0.25

#: Of a rank whose result Spark did not bring.
_NOT_BROUGHT = "Spark did not bring it; where the driver's JVM has run out of memory, return less, or raise `spark.driver.memory`"


@dataclass(frozen=True)
class Terms:
    """What a group was started with, as far as its end and its report need it."""

    consistency: Consistency
    #: Seconds that it may take from now on; None: any time.
    timeout: float | None
    rows: GroupInput
    #: Seconds that it waited behind other groups.
    admission_seconds: float
    #: The tier that its ranks sign their results for.
    tier_id: str


class RunningGroup:
    """A worker group whose ranks run; a context manager that ends it. Made by `Group.start`.

    Parameters
    ----------
    control : ControlClient
    spec : GroupSpec
        The group as it was admitted.
    terms : Terms
    life : Life
    monitor : GroupMonitor
    solver : SolverMember or None
        None: the driver is no member.
    """

    def __init__(
        self,
        control: ControlClient,
        spec: GroupSpec,
        terms: Terms,
        life: Life,
        monitor: GroupMonitor,
        solver: SolverMember | None,
    ) -> None:
        #: As it was admitted; its id is what coordinator and nodes know it by.
        self.spec = spec
        self._control = control
        self._terms = terms
        #: At least "running"; what is undone at the group's end is noted there.
        self._life = life
        #: Knows first whether the group has failed, and why.
        self._monitor = monitor
        #: In the group's clock until the group finishes or is ended.
        self._solver = solver

    @property
    def name(self) -> str:
        """Shown in messages and in the status."""
        return self.spec.name

    @property
    def num_workers(self) -> int:
        """Ranks that are Spark tasks."""
        return self.spec.num_workers

    @property
    def clock(self) -> int:
        """Last clock that every worker has said to have ticked, -1 for none."""
        return self._monitor.clock

    @property
    def is_over(self) -> bool:
        """Whether its ranks have ended, or it has failed."""
        return self._monitor.settled.is_set()

    @property
    def solver(self) -> Worker:
        """The driver as the group's last rank: what this thread reads and writes is under the group's clock.

        Raises
        ------
        GroupError
            The group was started without one.
        """
        if self._solver is None:
            raise GroupError(
                f"Worker group {self.name!r} must have a solver. It was started without one: say `solver=True`.",
                group=self.name,
            )
        return self._solver.worker

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._monitor.hear_out(error)
        self._life.end(error)
        if error is not None:
            raise_first_cause(error, self._monitor.cause)

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
        GroupError
            The group was ended before.
        """
        with ended_if_it_fails(self._life, self._monitor):
            self._life.enter(Event.WAIT)
            if self._solver is not None and self._life.state is GroupStage.RUNNING:
                self._solver.finish()
            self._wait_settled()
            results = Results(results_of(self._monitor.ends(), self.spec, self._control.secret, self._terms.tier_id), self._report())
        self._life.finish()
        return results

    def _wait_settled(self) -> None:
        timeout = self._terms.timeout
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._monitor.settled.wait(_LOOK_EVERY):
            if deadline is not None and time.monotonic() > deadline:
                raise DeadlineExceeded(
                    f"Worker group {self.name!r} must end within `timeout` = {timeout:g} s. It has not, and was ended.",
                    group=self.name,
                )
        if self._monitor.cause is not None:
            raise told(self._monitor.cause)

    def _report(self) -> RunReport:
        """Figures of the run; where the coordinator does not answer, the last that it gave."""
        monitor, rows = self._monitor, self._terms.rows
        report = monitor.look() or GroupReport(0, self.spec.group, "finished", None, True, [])
        return RunReport(
            group=self.name,
            num_workers=self.num_workers,
            consistency=repr(self._terms.consistency),
            reader=rows.reader,
            staged=rows.why_staged,
            staging_seconds=rows.staging_seconds,
            admission_seconds=self._terms.admission_seconds,
            start_seconds=monitor.start_seconds,
            train_seconds=monitor.train_seconds,
            ranks=rank_figures(report, self._measured(), self.num_workers),
            lost=are_lost(report.ranks),
        )

    def _measured(self) -> dict[str, Any]:
        """The group's entry in the tier's status: what the nodes measured; empty where the coordinator does not answer."""
        try:
            status = self._control.request(TierStatus(0, fresh=True), timeout=ANSWER_WITHIN).report
        except TierError as error:
            log.warning("the figures of worker group %s are not complete: %s", self.name, error)
            return {}
        return next((entry for entry in status.get("groups", []) if entry.get("id") == self.spec.group), {})


@contextmanager
def ended_if_it_fails(life: Life, monitor: GroupMonitor) -> Iterator[None]:
    """End the group if the block fails, and raise the group's first cause where the error is but its echo."""
    try:
        yield
    except BaseException as error:
        monitor.hear_out(error)
        life.end(error)
        raise_first_cause(error, monitor.cause)
        raise


def results_of(ends: list[Any], group: GroupSpec, secret: TierSecret | None, tier_id: str) -> list[Any]:
    """One result a rank, in the order of ranks.

    Parameters
    ----------
    ends : list of RankEnd
        What the tasks of the group's Spark job gave, in any order.
    group : GroupSpec
    secret : TierSecret or None
        Of the tier: with it ranks have signed their results.
    tier_id : str
        For which they have signed them.

    Raises
    ------
    WorkerFailed
        A rank has none.
    NotAdmitted
        One is not signed.
    """
    rows = {row.rank: row for row in ends}
    for rank in range(group.num_workers):
        outcome = rows[rank].outcome if rank in rows else _NOT_BROUGHT
        if outcome != FINISHED:
            why = (
                "was over 1 MiB and went with its task; keep large results on the tier or in files"
                if outcome == LOST_RESULT
                else outcome
            )
            raise WorkerFailed(
                f"Every rank must end with a result. That of rank {rank} of worker group {group.name!r}: {why}.",
                rank=rank,
                group=group.name,
            )
    return [unpickled_result(secret, tier_id, group, rank, bytes(rows[rank].result)) for rank in range(group.num_workers)]


__all__ = ["RunningGroup", "Terms", "ended_if_it_fails", "results_of"]
