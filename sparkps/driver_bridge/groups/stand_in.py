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
    purpose_of,
    result_stored,
    stored_result,
)
from sparkps.driver_bridge.groups.report import WorkerLost
from sparkps.errors import GroupError, InvalidInput, SparkPSError, WorkerFailed
from sparkps.secret import sealed, secret_of
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

#: Where all workers that are left are silent for so long, nobody is left to go on with (seconds, and of the time of a lease).
ALL_SILENT, ALL_SILENT_TTLS = 60.0, 3.0

#: Of the time between two looks no more counts as silence (seconds): while nobody could look, workers may have been heard.
_LONGEST_GAP = 5.0

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
        #: For how long all workers that are left were seen to be silent, and when that was seen last (seconds); None: they are not.
        self._silent = 0.0
        self._silent_at: float | None = None

    def look(self, report: GroupReport, now: float) -> WorkerFailed | None:
        """Give up the ranks that nobody holds and no successor has come for.

        Parameters
        ----------
        report : GroupReport
        now : float
            Seconds, monotonic.

        Returns
        -------
        WorkerFailed or None
            Why the group cannot go on: the last workers are not given up, and have been silent for too long.
        """
        if not self._is_wanted or report.cause is not None:
            return None
        workers = report.ranks[: self._group.num_workers]
        for rank in workers:
            if rank.state == "vacant" and rank.incarnation and rank.rank not in self._done:
                self._give_up(Lease(0, self._group.group, rank.rank, GIVES_UP), self._control.request)
        left = [rank for rank in workers if rank.state not in ("finished", "lost") and rank.rank not in {*self.lost, *self._done}]
        if not left or any(rank.state != "vacant" or not rank.incarnation for rank in left):
            self._silent, self._silent_at = 0.0, None
            return None
        self._silent += 0.0 if self._silent_at is None else min(now - self._silent_at, _LONGEST_GAP)
        self._silent_at = now
        is_long = self._silent > max(ALL_SILENT, ALL_SILENT_TTLS * self._ttl)
        return self._all_silent([rank.rank for rank in left], self._silent) if is_long else None

    def _all_silent(self, ranks: list[int], seconds: float) -> WorkerFailed:
        name = self._group.name
        return WorkerFailed(
            f"A worker of group {name!r} must be left to go on. Those that are, of ranks {ranks}, were silent for {seconds:.0f} s, and no"
            " successor has come: their processes stand still, or their machines cannot be reached.",
            group=name,
            rank=ranks[0],
            cause="silent",
        )

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
        result = sealed(secret_of(self._address), self._address.tier_id, purpose_of(group, rank), pickled)
        self._control.request(FinishRank(0, group.group, rank, GIVES_UP, result, {"clock": clock}))
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
