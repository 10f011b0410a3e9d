"""A driver-side solver: the calling thread as the last rank of its worker group, a member of the group's clock."""

from __future__ import annotations

from sparkps.client.control import ControlClient
from sparkps.client.session import Session, connect
from sparkps.driver_bridge.groups.causes import not_started
from sparkps.driver_bridge.groups.life import EndStep, Life
from sparkps.driver_bridge.groups.monitor import GroupMonitor
from sparkps.driver_bridge.groups.rank_lease import SOLVER_ATTEMPT, RankLease, acquire
from sparkps.driver_bridge.groups.worker import Worker
from sparkps.specs import GroupSpec
from sparkps.wire.messages.control import TierAddress

#: Seconds that the solver waits longer for the ranks than the monitor, whose message says more.
_START_GRACE = 4.0


class SolverMember:
    """The solver of a running group. Made by `join`.

    Parameters
    ----------
    lease : RankLease
        On the group's last rank.
    session : Session
        The calling thread's own, so every table handle used in this thread is under the group's clock.
    """

    def __init__(self, lease: RankLease, session: Session) -> None:
        #: What the calling thread works with; it reports as any other rank does.
        self.worker = Worker(session, lease, None, ())
        #: Renewed in the background until `finish`, or the group's end.
        self._lease = lease
        self._session = session

    def finish(self) -> None:
        """The solver is done: its clock becomes infinite, so that no rank waits for it."""
        self._session.finish()
        self._session.check = None
        self._lease.finish(None)


def join(
    address: TierAddress, control: ControlClient, group: GroupSpec, monitor: GroupMonitor, life: Life, *, ttl: float
) -> SolverMember:
    """Become the last rank of a group, as soon as all others have started.

    Parameters
    ----------
    address : TierAddress
    control : ControlClient
    group : GroupSpec
    monitor : GroupMonitor
        Of the group.
    life : Life
        Learns how the solver leaves at the group's end.
    ttl : float
        Seconds that a lease lasts without renewal.

    Raises
    ------
    DeadlineExceeded
        Not all ranks have started in time.
    SparkPSError
        The group's first cause, if it failed.
    """
    rank = group.num_ranks - 1
    lease = acquire(control, group, rank, SOLVER_ATTEMPT, ttl)
    assert isinstance(lease, RankLease), "nobody else leases the solver's rank"
    life.at_end(EndStep.SOLVER, lambda _: lease.stop())
    if not lease.wait_started(monitor.start_timeout + _START_GRACE):
        raise not_started(lease.state(), group, monitor.start_timeout, monitor.slots)
    session = connect(address)
    life.at_end(EndStep.SOLVER, lambda _: _leave(lease, session))
    session.takeover(group.group, rank, lease.incarnation)
    member = SolverMember(lease, session)
    # Nodes release a solver that waits for a lost rank, unless nobody is left to tell them.
    session.check = monitor.check
    monitor.solver = member.worker.counters
    return member


def _leave(lease: RankLease, session: Session) -> None:
    """The thread speaks for no rank any more; nothing where it has finished."""
    lease.stop()
    session.check = None
    session.leave()


__all__ = ["SolverMember", "join"]
