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
from sparkps.driver_bridge.groups.resumption import Source
from sparkps.driver_bridge.groups.running import RunningGroup
from sparkps.errors import NoCheckpoint, NodeUnreachable, ShardLost, SparkPSError
from sparkps.wire.messages.control import TierStatus

if TYPE_CHECKING:
    from sparkps.driver_bridge.groups.group import Group

log = logging.getLogger(__name__)

#: So often may a run be rolled back to one and the same checkpoint.
MOST_TO_ONE = 3

#: Seconds between two looks whether the coordinator knows that buckets are lost.
_LOOK_EVERY = 0.05

#: What a rank meets when a node is gone, before anybody knows whether there are copies. Whatever else it meets no roll-back mends.
_GONE = (ShardLost, NodeUnreachable)

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

    That is one that it has taken itself, or that it had gone on from: others in the same directory are of other tables.

    Parameters
    ----------
    make : callable
        Makes the group; takes the `Source` of checkpoints that it may go on from, or None.
    control : ControlClient
    plan : CheckpointPlan
    patience : float
        Seconds after which the coordinator knows of every node that is dead.
    work : callable
        Works with the group until it has ended, as `waited_for` does; takes an `Attempt`.
    """

    def __init__(
        self,
        make: Callable[[Source | None], Group],
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
        source = Source(self._plan.store) if self._plan.resume else None
        first: SparkPSError | None = None
        while True:
            try:
                return self._once(self._make(source))
            except SparkPSError as error:
                if first is not None and isinstance(error, NoCheckpoint):
                    raise first  # noqa: B904 -- why the run has failed; that what it had written is damaged is its context
                if not self._can_roll_back(error):
                    raise
                why = error.message.partition(" Restore a checkpoint")[0]  # that is what is being done
                log.warning("the run is rolled back to its last checkpoint: %s", why)
                source, first = Source(self._plan.store, self._is_own, must_be=True), error

    def with_figures(self, results: Results) -> Results:
        """What the run came to, with its checkpoints in the report."""
        report = dataclasses.replace(
            results.report, checkpoints=self._taken, resumed_from=tuple(self._resumed), redone_clocks=self._redone
        )
        return Results(results, report)

    def _once(self, group: Group) -> T:
        try:
            with group as running:
                return self._worked(group, running)
        finally:
            if group.restored is not None:
                self._resumed.append(group.restored.id)

    def _worked(self, group: Group, running: RunningGroup) -> T:
        start = min((rank.clock for rank in running.spec.start), default=-1)
        if group.restored is not None:
            self._redone += max(0, self._reached - start)
        self._reached = start
        checkpointer = Checkpointer(self._control, self._plan, running.spec)
        try:
            return self._work(Attempt(running, group.restored, checkpointer))
        finally:
            self._taken += len(checkpointer.taken)
            self._reached = max(start, checkpointer.clock, running.clock)

    def _can_roll_back(self, error: SparkPSError) -> bool:
        """Whether the run has failed for want of buckets that a checkpoint of its own has."""
        most = max(Counter(self._resumed).values(), default=0)
        return _may_be_lost(error) and most < MOST_TO_ONE and self._has_own() and self._is_degraded()

    def _is_own(self, manifest: Manifest) -> bool:
        """Whether the run has taken a checkpoint itself, or has gone on from it."""
        is_mine = manifest.owner is not None and manifest.owner.life == self._plan.life
        return is_mine or manifest.id in self._resumed

    def _has_own(self) -> bool:
        try:
            return any(self._is_own(manifest) for manifest in self._plan.store.sound())
        except SparkPSError as error:
            log.warning("the run is not rolled back: %s", error)
            return False

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
