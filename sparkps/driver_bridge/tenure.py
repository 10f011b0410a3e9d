"""One attempt's hold on a rank: leased from the coordinator, renewed by a thread of its own, given up at the end."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from sparkps.client.control import ControlClient
from sparkps.errors import Fenced, NodeUnreachable, SparkPSError
from sparkps.specs import GroupSpec
from sparkps.wire.control import (
    Cause,
    FailRank,
    FinishRank,
    GroupReport,
    GroupState,
    Lease,
    Leased,
    Recorded,
    Renew,
    Renewed,
)

log = logging.getLogger(__name__)

#: Attempt number of the driver-side solver; Spark numbers task attempts from 0.
SOLVER_ATTEMPT = -1

#: Seconds between two questions to the coordinator while waiting: first, and at most.
_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 0.2

#: Seconds between two renewals at most, so that progress at the driver is never older.
_REPORT_EVERY = 0.5


class Tenure:
    """A leased rank. Made by `acquire`.

    Parameters
    ----------
    control : ControlClient
    group : GroupSpec
    rank : int
    attempt : int
        Spark's taskAttemptId, or `SOLVER_ATTEMPT`.
    leased : Leased
        The coordinator's answer.
    ttl : float
        Seconds that a lease lasts without renewal.
    """

    def __init__(
        self, control: ControlClient, group: GroupSpec, rank: int, attempt: int, leased: Leased, ttl: float
    ) -> None:
        self.control = control
        self.group = group
        self.rank = rank
        self.attempt = attempt
        #: Nodes fence lower ones.
        self.incarnation = leased.incarnation
        #: What to send with the next renewal. Replaced as a whole, by the rank's thread.
        self.counters: Callable[[], dict[str, Any]] = dict
        self._ttl = ttl
        #: Set by the renewing thread, or by the lease itself: every rank has been leased.
        self._started = threading.Event()
        if leased.started:
            self._started.set()
        #: Why the rank must stop; set once, by the renewing thread.
        self._over: SparkPSError | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"sparkps-renew-{group.group}-{rank}", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> bool:
        """Whether another attempt has the rank, or the group has ended."""
        return isinstance(self._over, Fenced)

    @property
    def group_failed(self) -> bool:
        """Whether the group has failed."""
        return self._over is not None and not self.lost

    def check(self) -> None:
        """Raise if the rank must stop: the group's first cause, or `Fenced`."""
        if self._over is not None:
            raise self._over

    def wait_started(self, timeout: float) -> bool:
        """Whether every rank of the group has started within `timeout` seconds.

        Raises
        ------
        SparkPSError
            As `check`.
        """
        deadline = time.monotonic() + timeout
        while not self._started.wait(_LONGEST_PAUSE):
            self.check()
            if time.monotonic() > deadline:
                return False
        self.check()
        return True

    def finish(self, result: bytes | None) -> None:
        """Record the rank's result."""
        self.stop()
        counters = self.counters()
        self.control.request(FinishRank(0, self.group.group, self.rank, self.attempt, result, counters))

    def fail(self, cause: Cause) -> None:
        """Fail the group with `cause`, unless it has failed before."""
        self.stop()
        self.control.request(FailRank(0, self.group.group, self.rank, self.attempt, cause))

    def state(self) -> GroupReport:
        """How the group is doing."""
        report: GroupReport = self.control.request(GroupState(0, self.group.group))
        return report

    def stop(self) -> None:
        """Stop renewing. The lease ends by itself."""
        self._ended.set()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _renew(self) -> None:
        pause = _FIRST_PAUSE
        while not self._ended.wait(pause):
            try:
                answer = self.control.request(Renew(0, self.group.group, self.rank, self.attempt, self.counters()))
            except (NodeUnreachable, TimeoutError) as error:
                # The coordinator is control plane only: training goes on, and nobody can take the rank meanwhile.
                log.warning("rank %d of group %d could not renew its lease: %s", self.rank, self.group.group, error)
                answer = None
            except SparkPSError as error:
                self._over = error
                return
            if isinstance(answer, Renewed):
                if answer.failed is not None:
                    self._over = answer.failed.exception()
                    return
                if answer.all_started:
                    self._started.set()
            steady = min(_REPORT_EVERY, self._ttl / 4)
            pause = steady if self._started.is_set() else min(1.5 * pause, _LONGEST_PAUSE, steady)


def acquire(control: ControlClient, group: GroupSpec, rank: int, attempt: int, ttl: float) -> Tenure | Recorded:
    """Lease a rank, waiting while another attempt holds it, for as long as the group lives.

    Returns
    -------
    Tenure or Recorded
        The rank, or the result of the attempt that has finished it.

    Raises
    ------
    SparkPSError
        The group's first cause if it failed; `Fenced` if it ended.
    """
    pause = _FIRST_PAUSE
    waiting = threading.Event()
    while True:
        answer = control.request(Lease(0, group.group, rank, attempt))
        if isinstance(answer, Leased):
            return Tenure(control, group, rank, attempt, answer, ttl)
        if isinstance(answer, Recorded):
            return answer
        waiting.wait(pause)
        pause = min(1.5 * pause, _LONGEST_PAUSE)


__all__ = ["SOLVER_ATTEMPT", "Tenure", "acquire"]
