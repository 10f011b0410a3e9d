"""What becomes of a worker that is lost: its group waits for a successor, or goes on without it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Literal, get_args

from sparkps.client.control import ControlClient
from sparkps.client.session import Session
from sparkps.driver_bridge.groups.rank_lease import acquire_once, give_back
from sparkps.driver_bridge.groups.rank_task import (
    FINISHED,
    LOST_RESULT,
    RankEnd,
    pickle_result,
    result_stored,
    stored_result,
)
from sparkps.driver_bridge.groups.report import WorkerLost
from sparkps.errors import GroupError, InvalidInput, SparkPSError
from sparkps.specs import GroupSpec
from sparkps.wire.messages.control import (
    GIVES_UP,
    FinishRank,
    GroupReport,
    Lease,
    Leased,
    RankReport,
    Recorded,
    TierAddress,
)

log = logging.getLogger(__name__)

#: Seconds between two tries to give a rank up, and how long they go on after the end of its lease.
_LOOK_EVERY, _GRACE = 0.2, 5.0

#: "wait": the group waits for a successor of a lost worker. "continue": it goes on without it when none comes.
OnWorkerLoss = Literal["wait", "continue"]


def check_on_worker_loss(given: object) -> OnWorkerLoss:
    """The argument `on_worker_loss`.

    Raises
    ------
    InvalidInput
        It is none of those that there are.
    """
    for known in get_args(OnWorkerLoss):
        if isinstance(given, str) and given == known:
            return known  # type: ignore[no-any-return]
    raise InvalidInput(
        f'`on_worker_loss` must be "wait" (for a successor of a lost worker) or "continue" (without it). Got {given!r} instead.'
    )


class StandIn:
    """Finishes the ranks of lost workers in their place, so that nobody waits for them. Owner: the thread that watches the group.

    It speaks for such a rank as a successor does, as a new incarnation: what the lost worker had ticked counts, what it had
    written above its last tick is dropped in BSP, and the rank's clock becomes infinite. An attempt that comes later finds a
    `WorkerLost` recorded as the rank's result, and ends.

    Parameters
    ----------
    address : TierAddress
    control : ControlClient
    group : GroupSpec
    on_worker_loss : str
        With "wait" no rank is ever given up.
    ttl : float
        Seconds that a lease lasts without renewal.
    """

    def __init__(
        self, address: TierAddress, control: ControlClient, group: GroupSpec, on_worker_loss: OnWorkerLoss, ttl: float
    ) -> None:
        self._address = address
        self._control = control
        self._group = group
        self._is_wanted = on_worker_loss == "continue"
        self._ttl = ttl
        #: By rank: what was given up.
        self.lost: dict[int, WorkerLost] = {}
        #: Ranks that had finished at the nodes before their worker was lost: an attempt that comes fetches the result from there.
        self._done: set[int] = set()

    def look(self, report: GroupReport) -> None:
        """Give up the ranks that nobody holds and no successor has come for."""
        if self._is_wanted and report.cause is None:
            for rank in report.ranks[: self._group.num_workers]:
                if rank.state == "vacant" and rank.incarnation and rank.rank not in self._done:
                    self._give_up(Lease(0, self._group.group, rank.rank, GIVES_UP), self._control.request)

    def give_up_now(self, rank: int, stopped: Callable[[], bool]) -> bool:
        """Give up a rank to which no successor will come; whether nothing is left to do for it.

        Where its last holder's process is seen to be gone this is at once, else at the end of its lease.

        Parameters
        ----------
        rank : int
        stopped : callable
            Whether there is no group any more to do this for.
        """
        if not self._is_wanted or rank < 0:
            return False
        asking, pause = Lease(0, self._group.group, rank, GIVES_UP), threading.Event()
        deadline = time.monotonic() + self._ttl + _GRACE
        while rank not in self.lost and rank not in self._done:
            is_last = len(self.lost) + 1 >= self._group.num_workers
            if is_last or stopped() or time.monotonic() > deadline:
                return False
            if not self._give_up(asking, lambda lease: acquire_once(self._control, lease)):
                pause.wait(_LOOK_EVERY)
        return True

    def _give_up(self, asking: Lease, ask: Callable[[Lease], Any]) -> bool:
        """Finish a rank in the place of its lost worker, if it can be had; whether it is finished."""
        rank = asking.rank
        try:
            answer = ask(asking)
            if isinstance(answer, Leased):
                self._finish(rank, answer.incarnation)
            elif isinstance(answer, Recorded):
                self._done.add(rank)
            return isinstance(answer, (Leased, Recorded))
        except GroupError as error:  # the group has failed or ended, which is told elsewhere
            log.debug("rank %d of worker group %s was not given up: %s", rank, self._group.name, error)
        except SparkPSError as error:
            log.warning("rank %d of worker group %s cannot be given up now: %s", rank, self._group.name, error)
            give_back(self._control, self._group, rank, GIVES_UP)
        return False

    def _finish(self, rank: int, incarnation: int) -> None:
        group = self._group
        session = Session(self._address, self._control)
        try:
            clock, stored = session.takeover(group.group, rank, incarnation)
            if result_stored(stored):
                self._done.add(rank)
                give_back(self._control, group, rank, GIVES_UP)
                return
            lost = WorkerLost(rank, clock)
            pickled = pickle_result(lost)
            session.finish(stored_result(pickled))
        finally:
            session.close()
        self._control.request(FinishRank(0, group.group, rank, GIVES_UP, pickled, {"clock": clock}))
        self.lost[rank] = lost
        log.warning(
            "worker group %s goes on without rank %d: its worker was lost after %d clocks, and no successor has come",
            group.name,
            rank,
            clock,
        )

    def recorded(self) -> list[RankEnd]:
        """How all ranks of a group that has finished have ended, as the coordinator has it: results over 1 MiB are not there."""
        ends = []
        for rank in range(self._group.num_workers):
            answer = self._control.request(Lease(0, self._group.group, rank, GIVES_UP))
            assert isinstance(answer, Recorded), "asked when every rank has finished"
            ends.append(RankEnd(rank, LOST_RESULT if answer.result is None else FINISHED, answer.result))
        return ends


def are_lost(ranks: list[RankReport]) -> tuple[int, ...]:
    """The ranks that were given up."""
    return tuple(rank.rank for rank in ranks if rank.state == "lost")


__all__ = ["OnWorkerLoss", "StandIn", "are_lost", "check_on_worker_loss"]
