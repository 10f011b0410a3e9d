"""One attempt's hold on a rank: leased from the coordinator, renewed by a thread of its own, given up at the end."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec

from sparkps.client.control import ControlClient
from sparkps.errors import DeadlineExceeded, Fenced, NodeUnreachable, SparkPSError
from sparkps.lifeline import is_gone, this_process
from sparkps.specs import GroupSpec
from sparkps.wire.messages.control import (
    Cause,
    FailRank,
    FinishRank,
    GroupReport,
    GroupState,
    Lease,
    Leased,
    Recorded,
    ReleaseRank,
    Renew,
    Renewed,
    Wait,
)

log = logging.getLogger(__name__)

#: Attempt number of the driver-side solver; Spark numbers task attempts from 0.
SOLVER_ATTEMPT = -1

#: Seconds between two questions to the coordinator while waiting: first, and at most.
_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 0.2

#: Seconds between two renewals at most, so that progress at the driver is never older.
_REPORT_EVERY = 0.5

#: Seconds that the end of a rank waits for a coordinator that is silent: to record a result that travels through Spark as well, to
#: give a rank back that its lease's end frees as well, and for a renewal under way.
_PARTING = 5.0


class RankLease:
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
        #: Number of the meeting that another worker waits for, as of the last renewal; 0: none. Set by the renewing thread.
        self.meeting = 0
        #: Why the rank must stop; set once, by the renewing thread.
        self._over: SparkPSError | None = None
        #: Nothing is left to give back: the rank has finished, or its group has failed.
        self._settled = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"sparkps-renew-{group.group}-{rank}", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> bool:
        """Whether another attempt has the rank, or the group has ended."""
        return isinstance(self._over, Fenced)

    @property
    def group_failed(self) -> bool:
        """Whether the group is known to have failed."""
        return self._over is not None and not self.lost and not is_unreached(self._over, self.control)

    def check(self) -> None:
        """Raise if the rank must stop: the group's first cause, `Fenced`, or that it can never start."""
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
        """Record the rank's result, where the coordinator can be reached.

        Without it training ends rightly all the same: the nodes have the rank's last tick, and the result travels through Spark.
        """
        self.stop()
        counters = self.counters()
        try:
            self.control.request(
                FinishRank(0, self.group.group, self.rank, self.attempt, result, counters), timeout=_PARTING
            )
        except SparkPSError as error:
            if not is_unreached(error, self.control):
                raise
            log.warning("the end of rank %d of group %d was not recorded: %s", self.rank, self.group.group, error)
        self._settled = True

    def fail(self, cause: Cause) -> None:
        """Fail the group with `cause`, unless it has failed before.

        Raises
        ------
        NodeUnreachable, DeadlineExceeded
            The coordinator could not be told, so nobody knows.
        """
        self.stop()
        self.control.request(FailRank(0, self.group.group, self.rank, self.attempt, cause))
        self._settled = True

    def release(self) -> None:
        """Give a rank that has neither finished nor failed to the next attempt, where the coordinator can be told."""
        self.stop()
        if not self._settled and self._over is None:
            give_back(self.control, self.group, self.rank, self.attempt)
            self._settled = True

    def state(self) -> GroupReport:
        """How the group is doing."""
        report: GroupReport = self.control.request(GroupState(0, self.group.group))
        return report

    def stop(self) -> None:
        """Stop renewing. The lease ends by itself."""
        self._ended.set()
        if self._thread is not threading.current_thread():
            self._thread.join(_PARTING)  # a renewal that waits for a silent coordinator changes nothing any more

    def _renew(self) -> None:
        pause, answered = _FIRST_PAUSE, True
        while not self._ended.wait(pause):
            answer = None
            try:
                answer = self.control.request(Renew(0, self.group.group, self.rank, self.attempt, self.counters()))
            except SparkPSError as error:
                is_final = not is_unreached(error, self.control)
                if is_final or (isinstance(error, NodeUnreachable) and not self._started.is_set()):
                    # Without a coordinator nobody ever learns that the last rank has started.
                    self._over = error
                    return
                # The coordinator is control plane only: training goes on, and nobody can take the rank meanwhile.
                if answered:
                    log.warning("rank %d of group %d cannot renew its lease: %s", self.rank, self.group.group, error)
            answered = answer is not None
            if isinstance(answer, Renewed):
                if answer.failed is not None:
                    self._over = answer.failed.exception()
                    return
                self.meeting = answer.meeting
                if answer.all_started:
                    self._started.set()
            steady = min(_REPORT_EVERY, self._ttl / 4)
            pause = steady if self._started.is_set() else min(1.5 * pause, _LONGEST_PAUSE, steady)


def acquire(control: ControlClient, group: GroupSpec, rank: int, attempt: int, ttl: float) -> RankLease | Recorded:
    """Lease a rank, waiting while another attempt holds it, for as long as the group lives.

    A holder whose process is seen to be gone is not waited for.

    Returns
    -------
    RankLease or Recorded
        The rank, or the result of the attempt that has finished it.

    Raises
    ------
    SparkPSError
        The group's first cause if it failed; `Fenced` if it ended; what `is_unreached` tells if there was no answer.
    """
    pause, waiting = _FIRST_PAUSE, threading.Event()
    asking = Lease(0, group.group, rank, attempt, this_process())
    while True:
        try:
            answer = acquire_once(control, asking)
        except SparkPSError:
            raise
        except BaseException:  # interrupted: the rank may be ours by now
            give_back(control, group, rank, attempt)
            raise
        if isinstance(answer, Leased):
            return RankLease(control, group, rank, attempt, answer, ttl)
        if isinstance(answer, Recorded):
            return answer
        waiting.wait(pause)
        pause = min(1.5 * pause, _LONGEST_PAUSE)


def acquire_once(control: ControlClient, asking: Lease) -> Leased | Recorded | Wait:
    """Ask for a rank; a holder whose process is seen to be gone has it no more."""
    answer: Leased | Recorded | Wait = control.request(asking)
    if isinstance(answer, Wait) and answer.holder and is_gone(answer.holder):
        log.info("rank %d of group %d: the process of its holder is gone", asking.rank, asking.group)
        answer = control.request(msgspec.structs.replace(asking, gone=answer.holder))
    return answer


def give_back(control: ControlClient, group: GroupSpec, rank: int, attempt: int) -> None:
    """Release a rank, so that the next attempt need not wait for the lease's end; which does it where this cannot."""
    try:
        control.request(ReleaseRank(0, group.group, rank, attempt), timeout=_PARTING)
    except SparkPSError as error:
        log.info("rank %d of group %d was not given back: %s", rank, group.group, error)


def is_unreached(error: SparkPSError, control: ControlClient) -> bool:
    """Whether a request failed for want of an answer from the coordinator; any other error is its answer.

    A group may have failed with an error of the same class, about a node or a deadline of its own.
    """
    silent = isinstance(error, (NodeUnreachable, DeadlineExceeded))
    return silent and error.attributes.get("endpoint") == control.endpoint


__all__ = ["SOLVER_ATTEMPT", "RankLease", "acquire", "acquire_once", "give_back", "is_unreached"]
