"""A run with checkpoints: it continues where an earlier one was killed, and rolls back by itself when buckets are lost."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from sparkps.checkpoints.manifest import Manifest
from sparkps.client.control import ControlClient
from sparkps.driver_bridge.groups.checkpoints import Checkpointer, CheckpointPlan
from sparkps.driver_bridge.groups.monitor import ANSWER_WITHIN
from sparkps.driver_bridge.groups.report import Results
from sparkps.driver_bridge.groups.running import RunningGroup
from sparkps.errors import NodeUnreachable, ShardLost, SparkPSError, TierError
from sparkps.wire.messages.control import TierStatus

if TYPE_CHECKING:
    from sparkps.driver_bridge.groups.group import Group

log = logging.getLogger(__name__)

#: So often may a run be rolled back to one and the same checkpoint.
MOST_TO_ONE = 3

#: Seconds between two looks whether the coordinator knows that buckets are lost.
_LOOK_EVERY = 0.05

#: What a rank meets when a node is gone, before anybody knows whether there are copies.
_GONE = (ShardLost, NodeUnreachable, TierError)


T = TypeVar("T")


@dataclass(frozen=True)
class Attempt:
    """A run until it ends, or is rolled back."""

    running: RunningGroup
    #: What it goes on from; None: it has begun at the beginning.
    restored: Manifest | None
    checkpointer: Checkpointer


def waited_for(attempt: Attempt) -> Results:
    """Wait for the ranks while checkpoints are taken."""
    with attempt.checkpointer:
        return attempt.running.wait()


class CheckpointedRun(Generic[T]):
    """A run that goes on from its last checkpoint whenever buckets are lost.

    Parameters
    ----------
    make : callable
        Makes the group; takes whether it continues the newest checkpoint, if there is one.
    control : ControlClient
    plan : CheckpointPlan
    patience : float
        Seconds after which the coordinator knows of every node that is dead.
    work : callable
        Works with the group until it has ended, as `waited_for` does; takes an `Attempt`.
    """

    def __init__(
        self,
        make: Callable[[bool], Group],
        control: ControlClient,
        plan: CheckpointPlan,
        patience: float,
        work: Callable[[Attempt], T],
    ) -> None:
        self._make = make
        self._control = control
        self._plan = plan
        self._patience = patience
        self._work = work
        #: Last clock that all ranks are known to have ticked, in any attempt.
        self._reached = -1
        self._redone = self._taken = 0
        #: Ids of checkpoints from which the run went on.
        self._resumed: list[str] = []

    def run(self) -> T:
        """Run until the group has ended well."""
        resume = self._plan.resume
        while True:
            try:
                return self._once(self._make(resume))
            except SparkPSError as error:
                if not self._can_roll_back(error):
                    raise
                log.warning("the run is rolled back to its last checkpoint: %s", error.message)
                resume = True

    def with_figures(self, results: Results) -> Results:
        """What the run came to, with its checkpoints in the report."""
        report = dataclasses.replace(
            results.report, checkpoints=self._taken, resumed_from=tuple(self._resumed), redone_clocks=self._redone
        )
        return Results(results, report)

    def _once(self, group: Group) -> T:
        with group as running:
            start = min((rank.clock for rank in running.spec.start), default=-1)
            if group.restored is not None:
                self._resumed.append(group.restored.id)
                self._redone += max(0, self._reached - start)
            self._reached = start
            checkpointer = Checkpointer(self._control, self._plan, running.spec)
            try:
                return self._work(Attempt(running, group.restored, checkpointer))
            finally:
                self._taken += len(checkpointer.taken)
                self._reached = max(start, checkpointer.clock, running.clock)

    def _can_roll_back(self, error: SparkPSError) -> bool:
        """Whether the run has failed for want of buckets that a checkpoint has."""
        if not _may_be_lost(error) or not self._plan.store.ids():
            return False
        most = max(Counter(self._resumed).values(), default=0)
        return most < MOST_TO_ONE and self._is_degraded()

    def _is_degraded(self) -> bool:
        deadline, pause = time.monotonic() + self._patience, threading.Event()
        while True:
            try:
                report = self._control.request(TierStatus(0, fresh=False), timeout=ANSWER_WITHIN).report
            except SparkPSError:
                return False
            if report["state"] == "degraded" or time.monotonic() > deadline:
                return bool(report["state"] == "degraded")
            pause.wait(_LOOK_EVERY)


def _may_be_lost(error: SparkPSError) -> bool:
    names = {kind.__name__ for kind in _GONE}
    return isinstance(error, _GONE) or isinstance(error.__cause__, _GONE) or error.attributes.get("cause") in names


__all__ = ["MOST_TO_ONE", "Attempt", "CheckpointedRun", "waited_for"]
