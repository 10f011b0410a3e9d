"""Which function carries out which request: handlers enter themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sparkps.ps_nodes.state import ServerState
from sparkps.ps_nodes.work import Work

#: Carries a request out, on any thread, and answers it, unless it is parked. What it raises is the answer.
Handler = Callable[[ServerState, Work], None]

#: How each request is carried out, by the class of its message; filled by the modules of this package.
REQUESTS: dict[type[Any], Handler] = {}


def handles(message: type[Any]) -> Callable[[Handler], Handler]:
    """Enters the decorated function into `REQUESTS`."""

    def enter(handler: Handler) -> Handler:
        assert message not in REQUESTS, f"{message.__name__} has a handler"
        REQUESTS[message] = handler
        return handler

    return enter
