"""The coordinator without its socket: messages and time in, messages out. Pure.

`Tier` joins the state machines of nodes (`membership`), tables (`registry`), groups (`leases`) and commands (`commands`), and
de-duplicates requests: per connection it keeps the last request's reply, since a connection has one request at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sparkps.config import Settings
from sparkps.driver_bridge.coordinator.commands import Commands, Then
from sparkps.driver_bridge.coordinator.leases import Groups, GroupState, HasFinished, HeldByOther, Holds
from sparkps.driver_bridge.coordinator.membership import Membership, described
from sparkps.driver_bridge.coordinator.registry import Registry
from sparkps.driver_bridge.coordinator.status import tier_status
from sparkps.errors import GroupError, ProtocolError, ShardLost, SparkPSError, TierError
from sparkps.specs import GroupSpec
from sparkps.wire.messages import control as c

log = logging.getLogger(__name__)

#: A message and the routing id of the connection that it goes to.
Outgoing = tuple[bytes, c.ControlMessage]

#: A connection that was silent for so long (seconds) is forgotten.
FORGET_AFTER = 900.0
#: Seconds that nodes have to answer `ReportNow`; later the last heartbeat's report does.
REPORT_LIMIT = 1.0
#: Seconds that nodes have to answer `StopNode`.
STOP_LIMIT = 2.0
#: A coordinator that runs takes messages or looks at its timers at least so often (seconds): longer gaps are its own absence.
LONGEST_STEP = 0.25


@dataclass
class Connection:
    """De-duplication state of one connection."""

    #: Its latest request.
    seq: int = 0
    #: The answer; None while the request is under way.
    reply: c.ControlMessage | None = None
    heard_at: float = 0.0


class Tier:
    """The control plane of one tier.

    Parameters
    ----------
    tier_id : str
    settings : Settings
    """

    def __init__(self, tier_id: str, settings: Settings) -> None:
        self.tier_id = tier_id
        self.settings = settings
        self.members = Membership(settings.num_nodes, settings.node.heartbeat_deadline, settings.replication)
        self.registry = Registry()
        self.groups = Groups(settings.workers.lease_ttl)
        self.commands = Commands()
        #: "starting", "ready" (all nodes have joined), "stopping".
        self.state = "starting"
        #: Nothing is left to do but to exit.
        self.over = False
        #: Frames that were no message, and messages that no coordinator takes; counted by the shell, too.
        self.garbage = 0
        self._connections: dict[bytes, Connection] = {}
        self._node_at: dict[int, bytes] = {}
        #: `Attach` requests that wait until all nodes have joined.
        self._attaching: list[tuple[bytes, c.Attach]] = []
        self._out: list[Outgoing] = []
        self._now = 0.0
        #: When the coordinator last ran, for `_come_to`; None: it has not yet.
        self._ran_at: float | None = None

    # ---- events --------------------------------------------------------------------------------------------------------

    def receive(self, sender: bytes, message: Any, now: float) -> list[Outgoing]:
        """A message has arrived; returns what to send."""
        self._come_to(now)
        if isinstance(message, c.CommandDone):
            self.commands.answered(message)
        elif isinstance(message, c.Heartbeat):
            self._send(sender, c.Alive(message.seq, self.members.heartbeat(message.node, message.report, now)))
        elif type(message) in REQUESTS:
            self._request(sender, message)
        else:
            self.garbage += 1
            refusal = ProtocolError(f"The coordinator must be sent requests. Got {type(message).__name__} instead.")
            self._send(sender, _refused(getattr(message, "seq", 0), refusal))
        return self._flush()

    def tick(self, now: float) -> list[Outgoing]:
        """Time has passed; returns what to send."""
        self._come_to(now)
        for info in self.members.expire(now):
            self._node_died(info)
        for group in self.groups.unheard(now):
            self._abandon(group)
        self.commands.expire(now)
        for sender, connection in list(self._connections.items()):
            if now - connection.heard_at > FORGET_AFTER:
                del self._connections[sender]
        return self._flush()

    def stop(self, now: float, then: Callable[[], None] | None = None) -> list[Outgoing]:
        """Tell the nodes to exit; `over` follows when they have answered, or have not in time."""
        self._come_to(now)
        self._stop_nodes(then)
        return self._flush()

    def _come_to(self, now: float) -> None:
        """It is `now`. Time in which the coordinator did not run, as in a long pause of its host, counts for nobody.

        Others could not be heard then, however often they spoke: nodes would be declared dead and ranks given away for what
        lies unread in the socket.
        """
        absent = 0.0 if self._ran_at is None else now - self._ran_at - LONGEST_STEP
        self._now = self._ran_at = now
        if absent <= 0:
            return
        if absent > 1.0:
            log.warning("the coordinator did not run for %.1f s: all time limits are moved by so much", absent)
        self.members.shift(absent)
        self.groups.shift(absent)
        self.commands.shift(absent)
        for connection in self._connections.values():
            connection.heard_at += absent

    def _stop_nodes(self, then: Callable[[], None] | None) -> None:
        self.state = "stopping"
        for sender, attach in self._attaching:
            self._reply(sender, _refused(attach.seq, TierError("The tier must be running. It is being stopped.")))
        self._attaching = []

        def stopped(cause: c.Cause | None, _: dict[int, Any]) -> None:
            for node in self.members.up():
                self.members.leave(node)
            if then is not None:
                then()
            self.over = True

        self._command("Stopping the tier", c.StopNode, stopped, STOP_LIMIT)

    # ---- requests ------------------------------------------------------------------------------------------------------

    def _request(self, sender: bytes, message: Any) -> None:
        connection = self._connections.setdefault(sender, Connection())
        connection.heard_at = self._now
        if message.seq <= connection.seq:
            if message.seq == connection.seq and connection.reply is not None:
                self._send(sender, connection.reply)
            return
        connection.seq, connection.reply = message.seq, None
        try:
            if self.state == "stopping" and not isinstance(message, (c.StopTier, c.TierStatus, c.NodeGone)):
                raise TierError("The tier must be running. It is being stopped.")
            reply = REQUESTS[type(message)](self, sender, message)
        except SparkPSError as error:
            reply = _refused(message.seq, error)
        except Exception as error:
            log.exception("request %s failed", type(message).__name__)
            reply = _refused(message.seq, error)
        if reply is not None:
            self._reply(sender, reply)

    def _reply(self, sender: bytes, reply: Any) -> None:
        connection = self._connections.get(sender)
        if connection is not None and connection.seq == reply.seq:
            connection.reply = reply
        self._send(sender, reply)

    def _send(self, receiver: bytes, message: c.ControlMessage) -> None:
        self._out.append((receiver, message))

    def _flush(self) -> list[Outgoing]:
        out, self._out = self._out, []
        return out

    # ---- nodes ---------------------------------------------------------------------------------------------------------

    def _hello(self, sender: bytes, hello: c.NodeHello) -> Any:
        info = self.members.join(hello.endpoint, hello.host, hello.pid, self._now)
        self._node_at[info.node] = sender
        log.info("%s joined", described(info))
        welcome = c.Welcome(
            hello.seq,
            info.node,
            self.tier_id,
            0,
            [],
            list(self.registry.tables.values()),
            list(self.registry.functions.items()),
            [group.spec for group in self.groups.running.values()],
            self.settings.node,
        )
        self._reply(sender, welcome)
        if self.members.epoch and self.state == "starting":
            placing = (self.members.epoch, self.members.placement, self.members.infos())
            self._command("Placing buckets", lambda seq: c.SetPlacement(seq, *placing), self._placed)

    def _placed(self, cause: c.Cause | None, _: Any) -> None:
        if cause is not None or self.state != "starting":
            log.error("the tier is not complete: %s", cause)
            return
        self.state = "ready"
        log.info("the tier is ready: %d nodes", len(self.members.up()))
        waiting, self._attaching = self._attaching, []
        for sender, attach in waiting:
            self._reply(sender, self._attached(attach))

    def _gone(self, sender: bytes, gone: c.NodeGone) -> Any:
        info = self.members.gone(gone.endpoint, gone.reason)
        if info is not None:
            self._node_died(info)
        return c.Accepted(gone.seq)

    def _node_died(self, info: c.NodeInfo) -> None:
        """A dead node's buckets are lost: what waits for it fails now, and so does every group."""
        if self.state != "stopping":
            log.error("%s is dead: %s", described(info), info.reason)
        cause = c.Cause.of(_lost(info))
        self.commands.node_gone(info.node, cause)
        if self.state != "stopping" and self.members.lost():
            for group in list(self.groups.running):
                self._fail_group(group, cause)

    def _command(self, what: str, make: Callable[[int], c.ControlMessage], then: Then, limit: float = 0.0) -> None:
        """Send a command to every node that is up; `then` follows when all have answered."""
        nodes = self.members.up()
        number = self.commands.start(what, nodes, then, self._now, limit or self.settings.control_timeout * 0.8)
        for node in nodes:
            self._send(self._node_at[node], make(number))

    def _check_complete(self) -> None:
        if self.state == "starting":
            up, all_nodes = len(self.members.up()), self.settings.num_nodes
            raise TierError(f"All {all_nodes} nodes of the tier must have joined. {up} have: the tier is starting.")
        lost = self.members.lost()
        if lost:
            raise _lost(lost[0])

    # ---- clients and tables --------------------------------------------------------------------------------------------

    def _attach(self, sender: bytes, attach: c.Attach) -> Any:
        if attach.tier_id and attach.tier_id != self.tier_id:
            raise TierError(
                f"A table handle must belong to the running tier, {self.tier_id!r}. It belongs to {attach.tier_id!r}, which has stopped."
            )
        if self.state == "starting":
            self._attaching.append((sender, attach))
            return None
        return self._attached(attach)

    def _attached(self, attach: c.Attach) -> c.Attached:
        members = self.members
        return c.Attached(
            attach.seq, self.tier_id, members.epoch, members.placement, members.infos(), self.settings.client
        )

    def _create(self, sender: bytes, create: c.CreateTable) -> Any:
        self._check_complete()
        spec, new = self.registry.propose(create.spec)
        if not new and spec.table in self.registry.ready:
            return c.TableCreated(create.seq, spec)

        def created(cause: c.Cause | None, _: Any) -> None:
            if cause is None and self.registry.confirm(spec.table):
                self._reply(sender, c.TableCreated(create.seq, spec))
                return
            if self.registry.drop(spec.name, spec.table):
                self._command("Undoing a table", lambda seq: c.DropTable(seq, spec.name, spec.table), _nothing)
            dropped = TierError(
                f"Table {spec.name!r} must not be dropped while it is created. It was.", table=spec.name
            )
            self._reply(sender, _refused(create.seq, dropped if cause is None else cause.exception()))

        # A second caller's command follows the first one's on every connection, and finds the table made.
        self._command(f"Creating table {spec.name!r}", lambda seq: c.CreateTable(seq, spec), created)
        return None

    def _find(self, sender: bytes, find: c.FindTable) -> Any:
        return c.TableCreated(find.seq, self.registry.find(find.name))

    def _drop(self, sender: bytes, drop: c.DropTable) -> Any:
        if not self.registry.drop(drop.name, drop.table):
            return c.Accepted(drop.seq)
        self._command(
            f"Dropping table {drop.name!r}",
            lambda seq: c.DropTable(seq, drop.name, drop.table),
            lambda cause, _: self._accept(sender, drop.seq, cause),
        )
        return None

    def _register(self, sender: bytes, register: c.RegisterFunction) -> Any:
        self._check_complete()
        previous = self.registry.register(register.name, register.blob)

        def registered(cause: c.Cause | None, _: Any) -> None:
            if cause is not None:
                self.registry.restore(register.name, previous)
            self._accept(sender, register.seq, cause)

        self._command(
            f"Registering function {register.name!r}",
            lambda seq: c.RegisterFunction(seq, register.name, register.blob),
            registered,
        )
        return None

    def _accept(self, sender: bytes, seq: int, cause: c.Cause | None) -> None:
        self._reply(sender, c.Accepted(seq) if cause is None else _refused(seq, cause.exception()))

    # ---- groups --------------------------------------------------------------------------------------------------------

    def _admit(self, sender: bytes, admit: c.AdmitGroup) -> Any:
        self._check_complete()
        spec, new = self.groups.admit(admit, self._now)
        if spec is None:
            running = [group.spec.name for group in self.groups.running.values()]
            return c.Queued(admit.seq, self.groups.position(admit.tag), running)
        if new:
            log.info("group %d (%s) of %d ranks is admitted", spec.group, spec.name, spec.num_ranks)
        self._open_group(sender, admit.seq, spec)
        return None

    def _open_group(self, sender: bytes, seq: int, spec: GroupSpec) -> None:
        def opened(cause: c.Cause | None, _: Any) -> None:
            if cause is None:
                self._reply(sender, c.Admitted(seq, spec))
                return
            self.groups.end(spec.group)
            self._command("Undoing a group", lambda seq: c.CloseGroup(seq, spec.group), _nothing)
            self._reply(sender, _refused(seq, cause.exception()))

        self._command(f"Opening group {spec.name!r}", lambda seq: c.OpenGroup(seq, spec), opened)

    def _end(self, sender: bytes, end: c.EndGroup) -> Any:
        group = end.group or (self.groups.withdraw(end.tag) if end.tag else 0)
        # A dead node has nothing left to forget.
        if not self._close_group(group, lambda cause, _: self._accept(sender, end.seq, None)):
            return c.Accepted(end.seq)
        return None

    def _close_group(self, group: int, then: Then) -> bool:
        """End a group, here and on the nodes; whether it was there."""
        if not self.groups.end(group):
            return False
        log.info("group %d has ended", group)
        self._command("Closing a group", lambda seq: c.CloseGroup(seq, group), then)
        return True

    def _abandon(self, group: GroupState) -> None:
        """Nobody has been heard of a group for long: its slots go to others."""
        spec, silent = group.spec, self._now - group.heard_at
        log.warning("group %d (%s) is ended: nobody was heard of it for %.0f s", spec.group, spec.name, silent)
        if group.state == "running":
            why = f"Somebody must be heard of worker group {spec.name!r}. Neither its driver nor a rank was for {silent:.0f} s."
            self._fail_group(spec.group, c.Cause.of(GroupError(why, group=spec.name)))
        self._close_group(spec.group, _nothing)

    def _lease(self, sender: bytes, lease: c.Lease) -> Any:
        answer = self.groups.lease(
            lease.group, lease.rank, lease.attempt, self._now, process=lease.process, gone=lease.gone
        )
        match answer:
            case Holds(incarnation, started):
                return c.Leased(lease.seq, incarnation, started)
            case HeldByOther(reason, process):
                return c.Wait(lease.seq, reason, process)
            case HasFinished(result):
                return c.Recorded(lease.seq, result)

    def _renew(self, sender: bytes, renew: c.Renew) -> Any:
        group = self.groups.renew(renew.group, renew.rank, renew.attempt, renew.counters, self._now)
        return c.Renewed(renew.seq, group.all_started, group.cause)

    def _release(self, sender: bytes, release: c.ReleaseRank) -> Any:
        self.groups.release(release.group, release.rank, release.attempt)
        return c.Accepted(release.seq)

    def _finish(self, sender: bytes, finish: c.FinishRank) -> Any:
        self.groups.finish(finish.group, finish.rank, finish.attempt, finish.result, finish.counters)
        return c.Accepted(finish.seq)

    def _fail(self, sender: bytes, fail: c.FailRank) -> Any:
        self._fail_group(fail.group, fail.cause)
        return c.Accepted(fail.seq)

    def _fail_group(self, group: int, cause: c.Cause) -> None:
        if self.groups.fail(group, cause):
            log.info("group %d failed: %s", group, cause.message)
            self._command("Failing a group", lambda seq: c.FailGroup(seq, group, cause), _nothing)

    def _group_state(self, sender: bytes, asked: c.GroupState) -> Any:
        group = self.groups.hear(asked.group, self._now)
        ranks = [state.report(rank, self._now) for rank, state in enumerate(group.ranks)]
        return c.GroupReport(asked.seq, asked.group, group.state, group.cause, group.all_started, ranks)

    # ---- the tier ------------------------------------------------------------------------------------------------------

    def _status(self, sender: bytes, asked: c.TierStatus) -> Any:
        if not asked.fresh or self.state != "ready":
            return c.TierReport(asked.seq, self.report())

        def reported(cause: c.Cause | None, reports: dict[int, dict[str, Any]]) -> None:
            for node, report in reports.items():
                self.members.heartbeat(node, report, self._now)
            self._reply(sender, c.TierReport(asked.seq, self.report()))

        self._command("Reporting", c.ReportNow, reported, REPORT_LIMIT)
        return None

    def report(self) -> dict[str, Any]:
        """Status of the tier as plain values, see `status.tier_status`."""
        own = {"tier_id": self.tier_id, "state": self.state, "garbage_frames": self.garbage}
        return {**own, **tier_status(self.members, self.registry, self.groups, self._now)}

    def _stop(self, sender: bytes, asked: c.StopTier) -> Any:
        self._stop_nodes(lambda: self._reply(sender, c.Accepted(asked.seq)))

    def validate(self) -> None:
        """Check the invariants of all parts."""
        self.members.validate()
        self.registry.validate()
        self.groups.validate()
        assert set(self._node_at) == set(self.members.nodes)
        assert all(command.waiting for command in self.commands.under_way.values())
        assert self.state == "starting" or not self._attaching


def _lost(info: c.NodeInfo) -> ShardLost:
    return ShardLost(
        f"Every bucket must be on a node that is alive. The buckets of {described(info)} are lost, since it died: {info.reason}."
        " Stop the PSContext and start a new one.",
        node=info.node,
        endpoint=info.endpoint,
    )


def _refused(seq: int, error: BaseException) -> c.Refused:
    cause = c.Cause.of(error)
    return c.Refused(seq, cause.error, cause.message, cause.attributes)


def _nothing(cause: c.Cause | None, _: Any) -> None:
    """After a command that nobody waits for."""


REQUESTS: dict[type[c.ControlMessage], Callable[[Tier, bytes, Any], Any]] = {
    c.NodeHello: Tier._hello,
    c.NodeGone: Tier._gone,
    c.Attach: Tier._attach,
    c.CreateTable: Tier._create,
    c.FindTable: Tier._find,
    c.DropTable: Tier._drop,
    c.RegisterFunction: Tier._register,
    c.AdmitGroup: Tier._admit,
    c.EndGroup: Tier._end,
    c.Lease: Tier._lease,
    c.Renew: Tier._renew,
    c.ReleaseRank: Tier._release,
    c.FinishRank: Tier._finish,
    c.FailRank: Tier._fail,
    c.GroupState: Tier._group_state,
    c.TierStatus: Tier._status,
    c.StopTier: Tier._stop,
}

__all__ = ["Outgoing", "Tier"]
