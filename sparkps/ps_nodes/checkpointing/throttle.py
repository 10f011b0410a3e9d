"""How fast a checkpoint is copied and written beside other work: with a share of a processor while there is any. Pure.

A lower priority would not do: where the system groups processes by session, it counts among threads of one process alone.
"""

from __future__ import annotations

#: Share that a node's checkpoint takes while the node has requests: of one processor, or of all if that is more. A node may have many
#: neighbours on its host, and workers beside it: they all take checkpoints, or lose by them, together.
LEAST_SHARE, SHARE_OF_ALL = 0.05, 1 / 40

#: Seconds of a processor that nobody has to rest for: small tables are done with them.
FREE = 0.03

#: Seconds without a request after which nobody is in the way.
QUIET = 0.1

#: Bytes of tables below which a checkpoint is over so soon that nobody is the worse for it.
SMALL = 32 << 20


def share_of(processors: int, nbytes: int = SMALL) -> float:
    """Processors, or a part of one, that a checkpoint of so many bytes may keep busy while others want them.

    Examples
    --------
    >>> share_of(1), share_of(16), share_of(16, nbytes=1000)
    (0.05, 0.4, inf)
    """
    return float("inf") if nbytes < SMALL else max(LEAST_SHARE, SHARE_OF_ALL * processors)


class Throttle:
    """Says how long to rest.

    Parameters
    ----------
    share : float
        See `share_of`.
    now : float
        Seconds.
    requests : int
        That the node has had so far.

    Examples
    --------
    >>> throttle = Throttle(0.25, now=0.0, requests=0)
    >>> throttle.rest(now=1.0, spent=0.53, requests=10), throttle.rest(now=2.0, spent=0.53, requests=20)
    (1.0, 0.0)
    >>> throttle.rest(now=3.0, spent=1.03, requests=20), throttle.rest(now=3.0, spent=1.53, requests=21)
    (0.0, 2.0)
    """

    def __init__(self, share: float, now: float, requests: int) -> None:
        self._share = share
        self._requests, self._heard_at = requests, now
        #: What was spent until when: from there on it is counted.
        self._since, self._spent = now, FREE

    def rest(self, now: float, spent: float, requests: int) -> float:
        """Seconds to rest from now on.

        Parameters
        ----------
        now : float
        spent : float
            Seconds of processors' time so far.
        requests : int
            That the node has had so far.
        """
        if requests != self._requests:
            self._requests, self._heard_at = requests, now
        if now - self._heard_at >= QUIET:
            self._since, self._spent = now, spent
        return max(0.0, self._since + (spent - self._spent) / self._share - now)


__all__ = ["LEAST_SHARE", "SMALL", "Throttle", "share_of"]
