"""A process finds a tier that others have started, by its URL and its secret."""

from __future__ import annotations

import os
import threading
from collections import Counter
from urllib.parse import urlsplit

from sparkps.client.control import ControlClient
from sparkps.client.handshake import check_admitted
from sparkps.client.session import begin_again, end_all
from sparkps.errors import ConfigError
from sparkps.plain import shown
from sparkps.secret import TierSecret, forget, held, keep
from sparkps.wire.messages.control import Attach, Attached, TierAddress

#: How the URL of a tier begins.
SCHEME = "sparkps"

#: Seconds that a tier has to answer whoever comes.
ANSWER_WITHIN = 10.0

#: How often this process has attached to each tier, by its id, without having left it again. Owner: `_lock`.
_attached: Counter[str] = Counter()
_lock = threading.Lock()


def endpoint_of(url: str | os.PathLike[str]) -> str:
    """Where the coordinator listens of a tier with this URL.

    Raises
    ------
    ConfigError
        It is none.

    Examples
    --------
    >>> endpoint_of("sparkps://gateway.example:7077")
    'tcp://gateway.example:7077'
    """
    try:
        parts = urlsplit(str(url))
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    is_address = bool(host) and ":" not in str(host) and bool(port)
    if not isinstance(url, str) or parts.scheme != SCHEME or not is_address or parts.path not in ("", "/") or parts.username:
        raise ConfigError(
            f"The URL of a tier must be {SCHEME}://host:port, as `sparkps tier start` prints it, with a name or an IPv4 address"
            f" (IPv6 is not supported). Got {shown(url)} instead.",
            key="spark.sparkps.attach",
        )
    return f"tcp://{host}:{port}"


def url_of(endpoint: str) -> str:
    """The URL of the tier whose coordinator listens there.

    Examples
    --------
    >>> url_of("tcp://gateway.example:7077")
    'sparkps://gateway.example:7077'
    """
    return f"{SCHEME}://{endpoint.removeprefix('tcp://')}"


def attach(url: str, secret: TierSecret | None, owner: str = "", timeout: float = 30.0) -> TierAddress:
    """The address of a tier that runs, for handles of its tables; this process keeps its secret until it leaves.

    Parameters
    ----------
    url : str
    secret : TierSecret or None
    owner : str
        Whose names plain ones shall be.
    timeout : float
        Seconds that a request to its coordinator may take from now on.

    Raises
    ------
    ConfigError
        It is no URL of a tier.
    NotAdmitted
        The secret is not that of the tier.
    NodeUnreachable, DeadlineExceeded
        No tier listens there, or it does not answer.
    """
    endpoint = endpoint_of(url)
    check_admitted(endpoint, secret)
    asking = ControlClient(endpoint, timeout, secret)
    try:
        found: Attached = asking.request(Attach(0), min(timeout, ANSWER_WITHIN))
    finally:
        asking.close()
    with _lock:
        if _attached[found.tier_id] or held(found.tier_id) is None:  # else this process has started it, and does not end with a connection
            if secret is not None:
                keep(found.tier_id, secret)
            begin_again(found.tier_id)
            _attached[found.tier_id] += 1
    return TierAddress(found.tier_id, endpoint, timeout, secret is not None, owner)


def leave(address: TierAddress, why: str) -> None:
    """Undo an `attach`. With the last one this process forgets the secret, and all its sessions end, with `why` as the reason."""
    with _lock:  # who attaches meanwhile finds all of it, or nothing
        if not _attached[address.tier_id]:
            return
        _attached[address.tier_id] -= 1
        if _attached[address.tier_id]:
            return
        del _attached[address.tier_id]
        control = ControlClient.of(address)
        forget(address.tier_id)
        end_all(address, why)
        control.close()


__all__ = ["SCHEME", "attach", "endpoint_of", "leave", "url_of"]
