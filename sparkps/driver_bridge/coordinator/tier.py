"""The coordinator without its socket: messages and time in, messages out. Pure.

What may happen when is in `states`; what then happens, a module a subject, in `handlers`; what they work on is `core.Core`.
"""

from __future__ import annotations

import logging
from typing import Any

from sparkps.driver_bridge.coordinator.core import Core, Handlers, Outgoing, refused
from sparkps.driver_bridge.coordinator.handlers import groups, lifecycle, moving, nodes, scaling, tables
from sparkps.driver_bridge.coordinator.states import Own, TierState
from sparkps.errors import ProtocolError, SparkPSError
from sparkps.wire.messages import control as c

log = logging.getLogger(__name__)

#: What is done with each message, once `states` allows it.
HANDLERS: Handlers = {**nodes.HANDLERS, **tables.HANDLERS, **groups.HANDLERS, **scaling.HANDLERS, **lifecycle.HANDLERS}

#: Of these a repetition does no harm, and nobody waits for the answer of one.
_NOTICES = (c.Heartbeat, c.CommandDone)

#: Absences of the coordinator that are worth a line in the log (seconds).
_LONG_ABSENCE = 1.0


class Tier(Core):
    """The control plane of one tier: a `Core` that takes events.

    Parameters
    ----------
    tier_id : str
    settings : Settings
    """

    @property
    def over(self) -> bool:
        """Whether nothing is left to do but to exit."""
        return self.state is TierState.STOPPED

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
            What to send.
        """
        self._come_to(now)
        if type(message) not in HANDLERS:
            self.garbage += 1
            error = ProtocolError(f"The coordinator must be sent requests. Got {type(message).__name__} instead.")
            self.send(sender, refused(getattr(message, "seq", 0), error))
        elif isinstance(message, _NOTICES):
            self._handle(sender, message)
        elif self.connections.begin(sender, message.seq, now):
            self._request(sender, message)
        elif (reply := self.connections.answer(sender, message.seq)) is not None:
            self.send(sender, reply)
        return self._settle()

    def tick(self, now: float) -> list[Outgoing]:
        """Time has passed; returns what to send."""
        self._come_to(now)
        nodes.expire(self)
        groups.end_unheard(self)
        self.commands.expire(now)
        scaling.expire(self)
        self.connections.forget(now)
        return self._settle()

    def stop(self, now: float) -> list[Outgoing]:
        """Tell the nodes to exit; `over` follows when they have answered, or have not in time. Returns what to send."""
        self._come_to(now)
        self.enter(Own.STOP)
        lifecycle.stop_nodes(self, lambda: None)
        return self._settle()

    def _settle(self) -> list[Outgoing]:
        """What follows from an event; returns what to send."""
        moving.go_on(self)
        scaling.go_on(self)
        return self.flush()

    def _request(self, sender: bytes, message: Any) -> None:
        try:
            reply = self._handle(sender, message)
        except SparkPSError as error:
            reply = refused(message.seq, error)
        except Exception as error:
            log.exception("request %s failed", type(message).__name__)
            reply = refused(message.seq, error)
        if reply is not None:
            self.reply(sender, reply)

    def _handle(self, sender: bytes, message: Any) -> c.ControlMessage | None:
        kind = type(message)
        self.enter(kind)
        return HANDLERS[kind](self, sender, message)

    def _come_to(self, now: float) -> None:
        """It is `now`. Time in which the coordinator did not run counts for nobody (see `clock.Clock`)."""
        absent = self.clock.come_to(now)
        if not absent:
            return
        if absent > _LONG_ABSENCE:
            log.warning("the coordinator did not run for %.1f s: all time limits are moved by so much", absent)
        self.nodes.shift(absent)
        self.groups.shift(absent)
        self.commands.shift(absent)
        self.connections.shift(absent)
        self.moves.shift(absent)
        if self.scaling is not None:
            self.scaling.deadline += absent


__all__ = ["HANDLERS", "Outgoing", "Tier"]
