"""The delegation tokens that the tier has given to this process, by the HDFS that takes them: one place, which clients of WebHDFS ask.

At a node the coordinator fills it, at the driver the driver itself. A client asks before each request, so that one which lives for days
goes on with the next token when the tier has that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

#: Token by service: the host and port, or the name service, of the URLs that it is for. Owner: `_lock`.
_held: dict[str, str] = {}
#: At a driver with a tier: sees to it that there is a token for a URL, if it needs one. Owner: `_lock`.
_source: Callable[[str], None] | None = None
_lock = threading.Lock()


def hold(service: str, token: str) -> None:
    """Use this token from now on for an HDFS; empty: none.

    Parameters
    ----------
    service : str
        As `opening.service_of` names it.
    token : str
        As URLs have it.
    """
    with _lock:
        if token:
            _held[service] = token
        else:
            _held.pop(service, None)


def held(service: str) -> str:
    """The token for an HDFS; empty: the tier has given none.

    Examples
    --------
    >>> held("nobody:8020")
    ''
    """
    with _lock:
        return _held.get(service, "")


def ask_for_more(source: Callable[[str], None] | None) -> None:
    """From now on `see_to(url)` calls `source(url)`; None: it does nothing."""
    global _source
    with _lock:
        _source = source


def see_to(url: str) -> None:
    """Nodes are about to open a URL: if it needs a token, and this driver's tier has none for it, get one. Never raises."""
    with _lock:
        source = _source
    if source is not None:
        source(url)


__all__ = ["ask_for_more", "held", "hold", "see_to"]
