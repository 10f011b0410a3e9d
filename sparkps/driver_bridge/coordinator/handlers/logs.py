"""Records of loggers: they come from all processes, and the driver fetches them."""

from __future__ import annotations

from sparkps.driver_bridge.coordinator.core import Core, Handlers
from sparkps.wire.messages import control as c


def logged(core: Core, sender: bytes, message: c.LogLines) -> None:
    """A process has logged something."""
    core.log_book.add(message.origin, message.lines, message.dropped)


def fetch(core: Core, sender: bytes, message: c.FetchLog) -> c.ControlMessage:
    """The driver wants to know what."""
    return c.LogFetched(message.seq, *core.log_book.after(message.after))


HANDLERS: Handlers = {c.LogLines: logged, c.FetchLog: fetch}

__all__ = ["HANDLERS"]
