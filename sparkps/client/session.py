"""A session: one thread's calls to a tier, in order.

A session may be *bound* to a rank of a worker group; its calls then carry the rank's logical time, and the nodes hold
pulls back until the group's consistency allows them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from typing import Any

from sparkps.client.control import ControlClient
from sparkps.client.futures import Future
from sparkps.client.items import Item, pack
from sparkps.client.membership import Membership
from sparkps.client.transport import Transport
from sparkps.errors import TierError
from sparkps.wire import messages as m
from sparkps.wire.control import TierAddress


class Session(Transport):
    """One thread's calls to a tier. Use `connect` to get one.

    Parameters
    ----------
    address : TierAddress
    control : ControlClient
        To the tier's coordinator.
    """

    def __init__(self, address: TierAddress, control: ControlClient) -> None:
        super().__init__(address, control)
        #: Number of calls so far.
        self._calls = 0
        #: The rank that this session speaks for, if any.
        self.member: Membership | None = None
        #: Writes and ticks that nobody has waited for yet.
        self._unfinished: list[Future[Any]] = []
        #: Key sets that the nodes know, by id; owner: `keyset`.
        self.registered: dict[int, Any] = {}

    @property
    def limit(self) -> float:
        """Seconds that a call may take: longer for a rank, whose pulls wait for other ranks."""
        limit: float = self.settings.wait_timeout if self.member else self.settings.request_timeout
        return limit

    # ---- calls ---------------------------------------------------------------------------------------------------------

    def steps(self, future: Future[Any], items: Iterable[Item], *, together: bool = False) -> None:
        """Send the items of one call, under the membership if there is one.

        With `together`, for items of several tables, as many as fit in one request per node; else one a request.

        All requests of a call share one ordinal: how a call is cut must not matter to what a shard has of it.
        """
        member: m.Member | None = None
        self._calls += 1
        call = self._calls
        batches = pack(items, self.settings.chunk_bytes) if together else ((item.node, [item]) for item in items)
        for node, batch in batches:
            if member is None and self.member is not None:
                member = self.member.wire(write=batch[0].values is not None)
            self._step(future, node, batch, member, call)

    def _step(self, future: Future[Any], node: int, batch: list[Item], member: m.Member | None, call: int) -> None:
        ops = [item.op for item in batch]
        pulls = [item for item in batch if item.values is None]

        def make(session: int, seq: int, acked: int, epoch: int) -> m.Message:
            return m.Step(session, seq, acked, epoch, ops, member, call)

        def deliver(_: Any, arrays: list[Any]) -> None:
            for item, rows in zip(pulls, arrays, strict=True):
                item.deliver(rows)

        def again(refusal: m.Message) -> None:
            if isinstance(refusal, m.WrongEpoch):
                self.refresh()
            for registration in self.registered.values():
                registration.forget(node, refusal)
            others = [other for item in batch for other in item.reroute(self.routing)]
            for other, part in pack(others, self.settings.chunk_bytes):
                self._step(future, other, part, member, call=0)

        arrays = [array for item in batch for array in item.arrays()]
        up, down = sum([array.nbytes for array in arrays]), sum([item.down for item in pulls])
        self.send(future, node, make, arrays, deliver, up=up, down=down, again=again)

    def remember(self, future: Future[Any]) -> None:
        """`flush` waits for this write."""
        self._unfinished = [f for f in self._unfinished if not f.told()]
        self._unfinished.append(future)

    def flush(self) -> None:
        """Wait until every write of this session was acknowledged; raises the first failure."""
        unfinished, self._unfinished = self._unfinished, []
        for future in unfinished:
            if not future.told():
                future.result()

    def node_reports(self) -> dict[int, dict[str, Any]]:
        """What each node says of itself, by node id."""
        reports: dict[int, dict[str, Any]] = {}

        def take(message: Any, _: list[Any]) -> None:
            reports[message.report["node"]] = message.report

        self.broadcast("status", lambda s, q, a, e: m.Status(s, q, a), take).result()
        return reports

    # ---- membership ----------------------------------------------------------------------------------------------------

    def takeover(self, group: int, rank: int, incarnation: int) -> tuple[int, bytes | None]:
        """Become `rank` of `group`: fence older incarnations, find where they stopped, and go on from there.

        Returns
        -------
        clock : int
            The first clock of this incarnation: one more than the highest that the rank ticked on any shard.
        state : bytes or None
            What was stored with that tick.
        """
        asking = Membership(group, rank, incarnation, clock=-1)
        best: list[m.TakenOver] = []
        self.broadcast(
            f"takeover of rank {rank}",
            lambda s, q, a, e: m.Takeover(s, q, a, asking.wire(write=False)),
            lambda message, _: best.append(message),
        ).result()
        latest = max(best, key=lambda answer: answer.clock)
        settled = Membership(group, rank, incarnation, clock=latest.clock)
        self.broadcast(
            f"settling of rank {rank}",
            lambda s, q, a, e: m.Settle(s, q, a, settled.wire(write=False), latest.state),
        ).result()
        if latest.finished:  # a node that the finish did not reach must hear of it, or other ranks wait there for ever
            self.broadcast(
                f"finish of rank {rank}",
                lambda s, q, a, e: m.Tick(s, q, a, settled.wire(write=False), latest.state, True),
            ).result()
        self.member = Membership(group, rank, incarnation, clock=latest.clock + 1)
        return self.member.clock, latest.state

    def tick(self, state: bytes | None = None, *, finish: bool = False) -> None:
        """The current clock is done: wait until its pushes are acknowledged, then tell every node.

        Parameters
        ----------
        state : bytes, optional
            The worker's own state at this clock; a successor gets it back.
        finish : bool
            The rank's function has returned: its clock becomes infinite. Waits for the nodes' answer.
        """
        member = self.member
        if member is None:
            raise TierError("A session must be bound to a rank of a worker group to tick. Got one outside any group.")
        self.flush()
        at = member.wire(write=False)
        future = self.broadcast(
            f"tick {member.clock} of rank {member.rank}", lambda s, q, a, e: m.Tick(s, q, a, at, state, finish)
        )
        if finish:
            future.result()
            self.member = None
        else:
            self.remember(future)
            member.advance()

    def finish(self, state: bytes | None = None) -> None:
        """The rank's function has returned; see `tick`."""
        self.tick(state, finish=True)

    def leave(self) -> None:
        """Speak for no rank any more, without telling the nodes (after a failure)."""
        self.member = None
        self._unfinished = []


_local = threading.local()


def connect(address: TierAddress) -> Session:
    """This thread's session with a tier, made at the first call.

    Parameters
    ----------
    address : TierAddress

    Returns
    -------
    Session
        Of this thread and process: a forked child gets one of its own.
    """
    sessions: dict[str, Session] = _local.__dict__.setdefault("sessions", {})
    session = sessions.get(address.tier_id)
    if session is None or session.closed or session.pid != os.getpid():
        session = sessions[address.tier_id] = Session(address, ControlClient.of(address))
    return session


def disconnect(address: TierAddress) -> None:
    """Close this thread's session with a tier, if there is one."""
    session = _local.__dict__.get("sessions", {}).pop(address.tier_id, None)
    if session is not None:
        session.close()


__all__ = ["Session", "connect", "disconnect"]
