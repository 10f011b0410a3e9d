"""A session: one thread's calls to a tier, in order.

A session may be *bound* to a rank of a worker group; its calls then carry the rank's logical time, and the nodes hold
pulls back until the group's consistency allows them.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Iterable
from typing import Any

from sparkps.client.control import ControlClient
from sparkps.client.futures import Future
from sparkps.client.items import Item, pack
from sparkps.client.membership import Membership
from sparkps.client.network import Network
from sparkps.client.pieces import Piece, Sink
from sparkps.client.routing import Routing
from sparkps.client.transport import Transport
from sparkps.errors import InvalidInput, ProtocolError, TierError
from sparkps.specs import NUM_BUCKETS, STALENESS_LIMIT, UNBOUNDED, TableSpec
from sparkps.wire.buckets import mask_of
from sparkps.wire.functions import BUILT_IN, spec_of
from sparkps.wire.marks import MAX_CLOCK
from sparkps.wire.messages import data as m
from sparkps.wire.messages.base import DataMessage
from sparkps.wire.messages.control import TierAddress


class Session(Transport):
    """One thread's calls to a tier. Use `connect` to get one.

    Parameters
    ----------
    address : TierAddress
    control : ControlClient
        To the tier's coordinator.
    network : Network, optional
        By default zmq.
    """

    def __init__(self, address: TierAddress, control: ControlClient, network: Network | None = None) -> None:
        super().__init__(address, control, network)
        #: Number of calls so far. A call's number is the stamp of its writes: they reach every shard in ascending order.
        self._calls = 0
        #: The rank that this session speaks for, if any.
        self.member: Membership | None = None
        #: Writes and ticks that nobody has waited for yet.
        self._unfinished: list[Future[Any]] = []
        #: How many of them there are before those that are done are taken out.
        self._prune_at = 16
        #: Key sets that the nodes know, by id; owner: `keyset`.
        self.registered: dict[int, Any] = {}
        #: Key sets that nobody holds any more, with the nodes that must be told. Appended by finalizers, on any thread.
        self.dropped: deque[tuple[int, Iterable[int]]] = deque()
        #: Tables by name, as the coordinator said; owner: `calls`.
        self.specs: dict[str, TableSpec] = {}

    @property
    def limit(self) -> float:
        """Seconds that a call may take: longer for a rank, whose pulls wait for other ranks."""
        limit: float = self.settings.wait_timeout if self.member else self.settings.request_timeout
        return limit

    # ---- calls ---------------------------------------------------------------------------------------------------------

    def steps(self, future: Future[Any], items: Iterable[Item], *, together: bool = False) -> None:
        """Send the items of one call, under the membership if there is one.

        With `together`, for items of several tables, as many as fit in one request per node; else one a request.

        All requests of a call share one number and one ordinal: how a call is cut must not matter to what a shard has of it.
        """
        batches = pack(items, self.settings.chunk_bytes) if together else ((item.node, [item]) for item in items)
        with self._lock:
            call, sent, member = 0, 0, None
            try:
                for node, batch in batches:
                    if sent == 0:
                        call, member = self._begin(future, write=batch[0].values is not None)
                    self.send(self._step(future, node, batch, member, (call, sent)))
                    sent += 1
            except BaseException as error:
                # What the client itself refuses before anything was sent is as if the call had not been made.
                if sent or not isinstance(error, InvalidInput):
                    _note(future, error)
                raise

    def _begin(self, future: Future[Any], *, write: bool) -> tuple[int, m.Member | None]:
        """Number and logical time of a new call."""
        if self.dropped:
            self._tell_dropped()
        if self._dead:
            self.hope()
        membership = self.member
        if membership is not None and write:
            membership.faults.check(membership.rank)
            future.faults = membership.faults
        self._calls += 1
        return self._calls, None if membership is None else membership.wire(write=write)

    def _step(
        self, future: Future[Any], node: int, batch: list[Item], member: m.Member | None, place: tuple[int, int]
    ) -> Piece:
        pulls = [item for item in batch if item.values is None]

        def deliver(_: Any, arrays: list[Any]) -> None:
            for item, rows in zip(pulls, arrays, strict=True):
                item.deliver(rows)

        def again(refusal: DataMessage, routing: Routing) -> list[Piece]:
            found = self.registered.get(refusal.keyset) if isinstance(refusal, m.UnknownKeySet) else None
            if found is not None:
                found.forget(node)
            others = [other for item in batch for other in item.reroute(routing)]
            parts = pack(others, self.settings.chunk_bytes)
            return [self._step(future, other, part, member, place) for other, part in parts]

        arrays = [array for item in batch for array in item.arrays()]
        up, down = sum([array.nbytes for array in arrays]), sum([item.down for item in pulls])
        # Items of one call may have been cut by two placements; the node refuses the older one.
        epoch = batch[0].epoch if len(batch) == 1 else min([item.epoch for item in batch])
        return Piece(
            future,
            node,
            m.Step(epoch, [item.op for item in batch], member, place[0]),
            arrays,
            deliver,
            up=up,
            down=down,
            write=not pulls,
            lasting=member is not None,
            place=place,
            again=again,
        )

    def functions(self, future: Future[Any], calls: list[m.FunctionCall], sink: Sink) -> None:
        """Run server functions on every bucket, under the membership if there is one; a call that writes counts as a push.

        Each piece names its buckets; what a node refuses goes to others, cut by bucket, so that each bucket answers once. Outside groups
        a function of a user counts as one that writes: only the node knows whether it does.
        """
        with self._lock:
            users = self.member is None and any(call.function not in BUILT_IN for call in calls)
            write = users or any(spec_of(call.function).writes for call in calls)
            routing = self.routing
            call, member = self._begin(future, write=write)
            if write:
                self.remember(future)
            limit = self.limit

            def pieces(epoch: int, masks: dict[int, int]) -> list[Piece]:
                return [piece(epoch, node, buckets) for node, buckets in masks.items()]

            def piece(epoch: int, node: int, buckets: int) -> Piece:
                def again(refusal: DataMessage, newest: Routing) -> list[Piece]:
                    cut = {other: mine for other, held in newest.masks.items() if (mine := held & buckets)}
                    return pieces(newest.epoch, cut)

                message = m.Call(epoch, calls, member, call, limit, buckets.to_bytes(NUM_BUCKETS // 8, "little"))
                place, lasting = (call, node), member is not None
                take = _of_buckets(calls, buckets, sink)
                return Piece(future, node, message, [], take, down=1, write=write, lasting=lasting, place=place, again=again)

            try:
                for each in pieces(routing.epoch, routing.masks):
                    self.send(each)
            except BaseException as error:
                _note(future, error)
                raise

    def _tell_dropped(self) -> None:
        """Let the nodes forget the key sets that nobody holds any more; nobody waits for their answer."""
        while self.dropped:
            keyset, nodes = self.dropped.popleft()
            future: Future[None] = Future(self, "drop of a key set", lambda: None)
            for node in nodes:
                if node in self._lanes:
                    self.send(Piece(future, node, m.Unregister(keyset), [], again=_not_again))

    def remember(self, future: Future[Any]) -> None:
        """`flush` waits for this write."""
        with self._lock:
            if len(self._unfinished) >= self._prune_at:
                self._unfinished = [f for f in self._unfinished if not f.told()]
                self._prune_at = 2 * len(self._unfinished) + 16
            self._unfinished.append(future)

    def flush(self) -> None:
        """Wait until every write of this session was acknowledged; raises the first failure."""
        try:
            for future in list(self._unfinished):
                if not future.told():
                    future.result()
        finally:  # what was waited for in vain is waited for again
            with self._lock:
                self._unfinished = [future for future in self._unfinished if not future.told()]

    def node_reports(self) -> dict[int, dict[str, Any]]:
        """What each node of the placement says of itself, by node id."""
        reports: dict[int, dict[str, Any]] = {}

        def take(message: Any, _: list[Any]) -> None:
            reports[message.report["node"]] = message.report

        self.broadcast("status", m.Status(), take).result()
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
            m.Takeover(asking.wire(write=False)),
            lambda message, _: best.append(_possible(message)),
        ).result()
        # The rank has finished if any node says so: its last tick may have reached that one alone.
        latest = max(best, key=lambda answer: (answer.finished, answer.clock))
        settled = Membership(group, rank, incarnation, clock=latest.clock)
        self.broadcast(
            f"settling of rank {rank}",
            m.Settle(settled.wire(write=False), latest.state),
        ).result()
        if latest.finished:  # a node that the finish did not reach must hear of it, or other ranks wait there for ever
            self.broadcast(
                f"finish of rank {rank}",
                m.Tick(settled.wire(write=False), latest.state, True),
            ).result()
        self.member = Membership(group, rank, incarnation, latest.clock + 1, latest.staleness)
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
        member.faults.check(member.rank)  # also what the caller was told of, and caught
        if member.staleness == 0:
            self.await_pulls()  # in BSP a pull of this clock must not see the next one
        future: Future[None] = Future(self, f"tick {member.clock} of rank {member.rank}", lambda: None)
        future.faults = member.faults
        try:
            self.tell_all(future, m.Tick(member.wire(write=False), state, finish))
        except BaseException as error:
            _note(future, error)
            raise
        if finish:
            future.result()
            self.member = None
        else:
            self.remember(future)
            member.advance()

    def finish(self, state: bytes | None = None) -> None:
        """The rank's function has returned; see `tick`."""
        self.tick(state, finish=True)

    def close(self) -> None:
        """Say good-bye and close the connections, from any thread, once no other is within a call. What is in flight is given up."""
        with self._lock:
            if self.over is not None:
                self._fail_all(self.over)
            super().close()

    def close_if_idle(self) -> bool:
        """As `close`, unless another thread is within a call; whether it was done."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            self.close()
        finally:
            self._lock.release()
        return True

    def leave(self) -> None:
        """Speak for no rank any more, without telling the nodes (after a failure)."""
        self.member = None
        self._unfinished = []


def _of_buckets(calls: list[m.FunctionCall], buckets: int, sink: Sink) -> Sink:
    """Takes the answer to a piece of a call, which names the buckets that it speaks for: no others may count, or they count twice."""

    def take(message: Any, arrays: list[Any]) -> None:
        at = 0
        if len(arrays) != sum(1 + spec_of(call.function).arrays for call in calls):
            raise ProtocolError(f"An answer to {len(calls)} calls must have the arrays of all. Got {len(arrays)}.")
        for call in calls:
            where = arrays[at]
            if where.dtype != "int32" or where.ndim != 1 or (len(where) and not 0 <= where.min() <= where.max() < NUM_BUCKETS):
                raise ProtocolError(f"An answer to {call.function!r} must begin with bucket numbers. Got {where.dtype} of {where.shape}.")
            if mask_of(where) & ~buckets:
                raise ProtocolError(f"An answer to {call.function!r} must be of the buckets that were asked for. Got others as well.")
            at += 1 + spec_of(call.function).arrays
        sink(message, arrays)

    return take


def _possible(standing: m.TakenOver) -> m.TakenOver:
    """Where a rank stands at a node, if it can stand there."""
    if not (-1 <= standing.clock < MAX_CLOCK and UNBOUNDED <= standing.staleness < STALENESS_LIMIT):
        raise ProtocolError(
            f"A rank must stand at a clock in [-1, {MAX_CLOCK}), of a group with a staleness in [{UNBOUNDED}, {STALENESS_LIMIT}). Got clock"
            f" {standing.clock} and staleness {standing.staleness}."
        )
    return standing


def _not_again(refusal: DataMessage, newest: Routing) -> list[Piece]:
    """For requests that say nothing to any other node."""
    return []


def _note(future: Future[Any], error: BaseException) -> None:
    """A call of a rank was half made."""
    if future.faults is not None:
        future.faults.note(future.what, error)


_local = threading.local()

#: Sessions that `connect` has made in this process, of all threads. Owner of this and the next: `_connected_lock`.
_connected: weakref.WeakSet[Session] = weakref.WeakSet()
#: Tiers that have ended for this process, by their ids, and why: nobody here gets a session with one.
_ended: dict[str, str] = {}
_connected_lock = threading.Lock()


def connect(address: TierAddress) -> Session:
    """This thread's session with a tier, made at the first call.

    Parameters
    ----------
    address : TierAddress

    Returns
    -------
    Session
        Of this thread and process: a forked child gets one of its own.

    Raises
    ------
    TierError
        The tier has ended for this process: it was stopped, or left.
    """
    sessions: dict[TierAddress, Session] = _local.__dict__.setdefault("sessions", {})
    session = sessions.get(address)
    if session is not None and session.over is None and not session.closed and session.pid == os.getpid():
        return session
    _check_begun(address)
    _drop_ended(sessions)
    session = Session(address, ControlClient.of(address))
    with _connected_lock:
        if address.tier_id not in _ended:
            _connected.add(session)
            sessions[address] = session
            return session
    session.close()  # it has ended meanwhile
    _check_begun(address)
    return connect(address)


def _check_begun(address: TierAddress) -> None:
    why = _ended.get(address.tier_id)
    if why is not None:
        raise TierError(why)


def disconnect(address: TierAddress) -> None:
    """Close this thread's session with a tier, if there is one."""
    session = _local.__dict__.get("sessions", {}).pop(address, None)
    if session is not None:
        session.close()


_STOPPED = "The PSContext must be running. It was stopped, and its tables are gone: make a new one."


def end_all(address: TierAddress, why: str = _STOPPED) -> None:
    """The tier has ended, or was left: calls of any thread of this process end at once, those under way within a second.

    Sessions are closed, those within a call as soon as that has ended, and no new ones are made before `begin_again`.
    """
    with _connected_lock:
        _ended[address.tier_id] = why
        sessions = [session for session in _connected if session.address.tier_id == address.tier_id and session.pid == os.getpid()]
    for session in sessions:
        session.over = TierError(why)
    busy = [session for session in sessions if not session.close_if_idle()]
    if busy:
        threading.Thread(target=_close_all, args=(busy,), name="sparkps-leave", daemon=True).start()
    _drop_ended(_local.__dict__.get("sessions", {}))


def begin_again(tier_id: str) -> None:
    """This process uses a tier, which it may have left before."""
    with _connected_lock:
        _ended.pop(tier_id, None)


def _close_all(sessions: Iterable[Session]) -> None:
    """Close sessions as soon as no call uses them."""
    for session in sessions:
        session.close()


def _drop_ended(sessions: dict[TierAddress, Session]) -> None:
    """Forget those sessions of this thread that are closed."""
    for address in [address for address, session in sessions.items() if session.closed]:
        del sessions[address]


__all__ = ["Session", "begin_again", "connect", "disconnect", "end_all"]
