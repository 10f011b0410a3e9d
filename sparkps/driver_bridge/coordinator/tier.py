"""The coordinator without its socket: messages and time in, messages out. Pure.

What may happen when is in `states`; what then happens, a module a subject, in `handlers`; what they work on is `core.Core`. What
changes the state is also an event for the journal (see `events`), from which another process can go on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from sparkps.config import Settings
from sparkps.driver_bridge.coordinator import events as e
from sparkps.driver_bridge.coordinator import snapshot
from sparkps.driver_bridge.coordinator.core import Core, Handlers, Outgoing, refused
from sparkps.driver_bridge.coordinator.handlers import (
    checkpoints,
    groups,
    lifecycle,
    logs,
    moving,
    nodes,
    rebalancing,
    restoring,
    scaling,
    tables,
    tokens,
)
from sparkps.driver_bridge.coordinator.recovery import go_on_at
from sparkps.driver_bridge.coordinator.reports import silent_replicas
from sparkps.driver_bridge.coordinator.states import Own, TierState
from sparkps.errors import ProtocolError, SparkPSError, TierError
from sparkps.wire.codec import decode, encode
from sparkps.wire.messages import control as c

log = logging.getLogger(__name__)

#: What is done with each message, once `states` allows it.
HANDLERS: Handlers = {
    **nodes.HANDLERS,
    **tables.HANDLERS,
    **groups.HANDLERS,
    **scaling.HANDLERS,
    **checkpoints.HANDLERS,
    **restoring.HANDLERS,
    **lifecycle.HANDLERS,
    **logs.HANDLERS,
    **tokens.HANDLERS,
}

#: Of these a repetition does no harm, and nobody waits for the answer of one.
_NOTICES = (c.Heartbeat, c.CommandDone, c.LogLines)

#: Requests that change nothing that a coordinator which is started again does not learn anew.
_QUESTIONS = (c.Attach, c.FindTable, c.Renew, c.Meet, c.GroupState, c.TierStatus, c.FetchLog, c.FindDueTokens, c.AskToStop)
#: What makes something that lasts as long as the tier.
_MAKES = (c.CreateTable, c.DropTable, c.RegisterFunction, c.AdmitGroup, c.RestoreCheckpoint)
#: Answers that say the same: ask again.
_ASK_AGAIN = (c.Refused, c.Wait, c.Queued)

#: Absences of the coordinator that are worth a line in the log (seconds).
_LONG_ABSENCE = 1.0


class Tier(Core):
    """The control plane of one tier: a `Core` that takes events.

    Parameters
    ----------
    tier_id : str
    settings : Settings
    """

    def __init__(self, tier_id: str, settings: Settings) -> None:
        super().__init__(tier_id, settings)
        #: What is to be journaled before anything is sent; emptied by `take_events`.
        self._events: list[e.AnyEvent] = []
        #: Nodes that have not been heard since a coordinator went on from a journal.
        self._returning: set[int] = set()

    @property
    def over(self) -> bool:
        """Whether nothing is left to do but to exit."""
        return self.state is TierState.STOPPED

    # ---- what happens --------------------------------------------------------------------------------------------------

    def receive(self, sender: bytes, message: Any, now: float) -> list[Outgoing]:
        """A message has arrived.

        Parameters
        ----------
        sender : bytes
            Routing id of its connection.
        message : ControlMessage
        now : float

        Returns
        -------
        list of Outgoing
            What to send, after what `take_events` gives was journaled.
        """
        self._come_to(now)
        if self._returning:
            self._returns(sender)
        if type(message) not in HANDLERS:
            self.garbage += 1
            error = ProtocolError(f"The coordinator must be sent requests. Got {type(message).__name__} instead.")
            self.send(sender, refused(getattr(message, "seq", 0), error))
        elif isinstance(message, _NOTICES):
            self._notice(sender, message)
        elif c.is_for_another(sender, self.tier_id) and not isinstance(message, c.TierStatus):
            self.send(sender, refused(message.seq, _another(self.tier_id)))
        elif self.connections.begin(sender, message.seq, now):
            command, reply = self.commands.next, self._request(sender, message)
            if not isinstance(message, _QUESTIONS) and not isinstance(reply, _ASK_AGAIN):
                self._record(e.Taken(now, command, sender, _frames(message)))
        elif (kept := self.connections.answer(sender, message.seq)) is not None:
            self.send(sender, kept)
        return self.flush()

    def tick(self, now: float) -> list[Outgoing]:
        """Time has passed; returns what to send, as `receive`."""
        self._come_to(now)
        for node, reason in self.nodes.silent(now).items():
            self._own(e.Died(now, self.commands.next, node, reason))
        unheard = [group.spec.group for group in self.groups.unheard(now)]
        if unheard:
            self._own(e.Unheard(now, self.commands.next, unheard))
        late = self.commands.late(now)
        if late:
            self._own(e.Late(now, self.commands.next, late))
        if self.scaling is not None and now >= self.scaling.deadline:
            self._own(e.ScalingLate(now, self.commands.next))
        if self.moves.is_due(now):
            self._own(e.Woke(now, self.commands.next))
        decision = rebalancing.look(self)
        if decision is not None:
            self._own(e.Weighed(now, self.commands.next, decision.weights, decision.reason))
        if expired := tables.look(self):
            self._own(e.Expired(now, self.commands.next, expired))
        self.connections.forget(now)
        return self.flush()

    def stop(self, now: float) -> list[Outgoing]:
        """Tell the nodes to exit; `over` follows when they have answered, or have not in time. Returns what to send."""
        self._come_to(now)
        self.enter(Own.STOP)
        lifecycle.stop_nodes(self, lambda: None)
        return self.flush()

    # ---- the journal ---------------------------------------------------------------------------------------------------

    def begin(self, now: float, pid: int) -> None:
        """A process begins to be the coordinator."""
        self._own(e.Started(now, self.commands.next, pid))

    def take_events(self) -> list[bytes]:
        """What is to be journaled before anything else is sent."""
        taken, self._events = self._events, []
        return [e.to_bytes(event) for event in taken]

    def snapshot(self) -> bytes | None:
        """A record that stands for all that was journaled so far; None: not now, something is under way."""
        if self._events or not snapshot.is_quiet(self):
            return None
        return e.to_bytes(e.Snapshot(self.clock.now, self.commands.next, snapshot.taken(self)))

    def replay(self, records: Iterable[bytes]) -> None:
        """Come to the state that an earlier process had, whose journal this is; nothing is sent."""
        for record in records:
            event = e.from_bytes(record)
            self.clock.set(event.now)
            self.commands.next = event.command
            self._happen(event)
            self.flush()
        self._events = []

    def recover(self, now: float) -> list[Outgoing]:
        """Go on from what was replayed: whoever was waited for has all of its time again. Returns what to send."""
        self._own(e.Recovered(now, self.commands.next))
        self._returning = set(self.nodes.up())
        return self.flush()

    def _returns(self, sender: bytes) -> None:
        """A node is heard for the first time since this process began: what it was told last may not have reached it."""
        for node in [node for node in self._returning if self.node_at[node] == sender]:
            self._returning.discard(node)
            for message in self.commands.of(node):
                self.send(sender, message)

    # ---- inside --------------------------------------------------------------------------------------------------------

    def _own(self, event: e.AnyEvent) -> None:
        """An event that is no message happens."""
        self._record(event)
        self._happen(event)

    def _record(self, event: e.AnyEvent) -> None:
        self._events.append(event)

    def _happen(self, event: e.AnyEvent) -> None:
        match event:
            case e.Snapshot(parts=parts):
                snapshot.put_back(self, parts)
            case e.Started(pid=pid):
                self.processes.append(pid)
            case e.Taken(sender=sender, frames=frames):
                self._again(sender, decode(frames)[0])
            case e.Died(node=node, reason=reason):
                if node in self.nodes.up():
                    nodes.died(self, node, reason)
            case e.CutOff(primary=primary, silent=silent):
                moving.cut_off(self, primary, silent)
            case e.Late(numbers=numbers):
                for number in numbers:
                    self.commands.give_up(number)
            case e.Unheard(groups=unheard):
                self._end_unheard(unheard)
            case e.ScalingLate():
                scaling.give_up(self)
            case e.Woke():
                self.moves.wake()
            case e.Weighed(weights=weights, reason=reason):
                rebalancing.weighed(self, weights, reason)
            case e.Expired(tables=expired):
                tables.expire(self, expired)
            case e.Recovered(now=now):
                go_on_at(self, now)
                checkpoints.interrupted(self)
        self._settle()

    def _again(self, sender: bytes, message: Any) -> None:
        """A message is replayed."""
        if isinstance(message, _NOTICES):
            self._handle(sender, message)
        elif self.connections.begin(sender, message.seq, self.clock.now):
            self._request(sender, message)

    def _end_unheard(self, unheard: list[int]) -> None:
        """End these groups and no others; of a replay it is not known who was heard when."""
        limit = self.clock.now - self.groups.patience
        for number, group in self.groups.running.items():
            group.heard_at = min(group.heard_at, limit - 0.1) if number in unheard else max(group.heard_at, limit)
        groups.end_unheard(self)

    def _notice(self, sender: bytes, message: c.Heartbeat | c.CommandDone | c.LogLines) -> None:
        """A message that nobody waits to be answered; of those that change nothing there is no event."""
        try:
            self._take_notice(sender, message)
        except Exception:  # a fault of ours that a message has found: it must not cost all others their coordinator
            self.garbage += 1
            log.exception("a %s could not be taken", type(message).__name__)

    def _take_notice(self, sender: bytes, message: c.Heartbeat | c.CommandDone | c.LogLines) -> None:
        command = self.commands.next
        if isinstance(message, c.LogLines):
            self._handle(sender, message)
            return
        if isinstance(message, c.Heartbeat):
            self._handle(sender, message)
            silent = silent_replicas(message.report) if self.node_at.get(message.node) == sender else []
            if silent and message.node in self.nodes.up() and moving.cut_off(self, message.node, silent):
                self._record(e.CutOff(self.clock.now, command, message.node, silent))
                self._settle()
            return
        waited_for = self.commands.under_way.get(message.seq) if self.node_at.get(message.node) == sender else None
        self._handle(sender, message)
        if waited_for is not None and not isinstance(waited_for.message, c.ReportNow):
            self._record(e.Taken(self.clock.now, command, sender, _frames(_without_part(message))))
            self._settle()

    def _request(self, sender: bytes, message: Any) -> c.ControlMessage | None:
        """Carry a request out; returns its answer, if there is one yet."""
        try:
            reply = self._handle(sender, message)
        except SparkPSError as error:
            reply = refused(message.seq, error)
        except Exception as error:
            log.exception("request %s failed", type(message).__name__)
            reply = refused(message.seq, error)
        if reply is not None:
            self.reply(sender, reply)
        self._settle()
        return reply

    def _handle(self, sender: bytes, message: Any) -> c.ControlMessage | None:
        kind = type(message)
        self.enter(kind)
        if kind in _MAKES:
            lifecycle.check_open(self)
        return HANDLERS[kind](self, sender, message)

    def _settle(self) -> None:
        """What follows from an event."""
        scaling.choose(self)
        checkpoints.go_on(self)
        restoring.go_on(self)
        moving.go_on(self)
        scaling.go_on(self)
        lifecycle.go_on(self)

    def _come_to(self, now: float) -> None:
        """It is `now`. Time in which the coordinator did not run counts for nobody (see `clock.Clock`)."""
        absent = self.clock.come_to(now)
        if not absent:
            return
        if absent > _LONG_ABSENCE:
            log.warning("the coordinator did not run for %.1f s: all time limits are moved by so much", absent)
        for part in (self.nodes, self.groups, self.commands, self.connections, self.moves, self.rebalance, self.usage):
            part.shift(absent)
        if self.scaling is not None:
            self.scaling.deadline += absent


def _without_part(message: Any) -> Any:
    """What a node says, without its part of a checkpoint: that is large, and one that is interrupted is taken again."""
    report = getattr(message, "report", {})
    return replace(message, report={key: value for key, value in report.items() if key != "part"}) if "part" in report else message


def _another(tier_id: str) -> SparkPSError:
    """What a client learns that means a tier which was here before."""
    return TierError(
        f"What is asked for must be of the tier that runs, {tier_id}. The one that it is of has ended, and this one is in its place, as"
        " when it was started again: take tables from this one (`PSContext`, `sparkps.connect`)."
    )


def _frames(message: Any) -> list[bytes]:
    return [bytes(frame) for frame in encode(message)]


__all__ = ["HANDLERS", "Outgoing", "Tier"]
