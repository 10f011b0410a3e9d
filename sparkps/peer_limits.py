"""How many connections one host may have to a process of a tier, and how many new ones in a second. Pure: time is an argument.

A connection costs its acceptor a descriptor, some 100 KiB and, with CURVE, a fifth of a millisecond of a processor before it is known
whether the peer has the secret. What is more than the limits is hung up on before any of that.
"""

from __future__ import annotations

from collections import Counter

#: New connections that a host may make at once after a quiet time, as seconds of its rate: all workers of a host begin together.
BURST_SECONDS = 10.0

#: Connections of one host that have not shown yet that they have the secret. All workers of a host begin together, and what is more
#: than that tries again; each may cost its acceptor `descriptors.MOST_HANDSHAKE_BYTES`.
MOST_UNFINISHED = 512

#: Hosts that are remembered without a connection; the longest quiet ones go.
MOST_QUIET = 4096


class PeerLimits:
    """Connections of hosts to one endpoint.

    Parameters
    ----------
    most : int
        Connections of one host at a time.
    rate : float
        New connections of one host in a second, in the long run.

    Examples
    --------
    >>> limits = PeerLimits(most=2, rate=100.0)
    >>> [limits.accepted(connection, "10.0.0.7", 0.0) for connection in (1, 2, 3)]
    [True, True, False]
    >>> limits.gone(3); limits.gone(1); limits.accepted(4, "10.0.0.7", 0.0), limits.accepted(5, "10.0.0.8", 0.0)
    (True, True)
    """

    def __init__(self, most: int, rate: float) -> None:
        self.most, self.rate = most, rate
        #: Connections that were hung up on.
        self.refused = 0
        #: Host by connection, and how many each has.
        self._hosts: dict[int, str] = {}
        self._held: Counter[str] = Counter()
        #: Those whose handshake goes on: host by connection, and how many each has.
        self.unfinished: dict[int, str] = {}
        self._begun: Counter[str] = Counter()
        self._since: dict[int, float] = {}
        #: By host: what is left of its burst, and when that was so (seconds); the longest quiet one first.
        self._left: dict[str, tuple[float, float]] = {}

    def accepted(self, connection: int, host: str, now: float) -> bool:
        """Whether a new connection may stay; one that may not is `gone` when it has ended, too.

        Parameters
        ----------
        connection : int
            A number that no other one has meanwhile.
        host : str
            Address of the peer.
        now : float
            Seconds, monotonic.
        """
        self.gone(connection)
        most = BURST_SECONDS * self.rate
        left, since = self._left.pop(host, (most, now))
        left = min(most, left + (now - since) * self.rate)
        stays = left >= 1.0 and self._held[host] < self.most and self._begun[host] < MOST_UNFINISHED
        self._left[host] = (left - 1.0 if stays else left, now)
        self._hosts[connection] = host
        self._held[host] += 1
        if stays:
            self.unfinished[connection], self._since[connection] = host, now
            self._begun[host] += 1
        else:
            self.refused += 1
        if len(self._left) > MOST_QUIET:
            self._forget_one()
        return stays

    def finished(self, connection: int) -> None:
        """The handshake of a connection has ended."""
        self._since.pop(connection, None)
        _leave(connection, self.unfinished, self._begun)

    def finish_old(self, before: float) -> None:
        """Handshakes that began before so long must have ended, though nobody has seen it: libzmq hangs up on those that do not."""
        for connection in [connection for connection, since in self._since.items() if since < before]:
            self.finished(connection)

    def gone(self, connection: int) -> None:
        """A connection has ended."""
        self.finished(connection)
        _leave(connection, self._hosts, self._held)

    def _forget_one(self) -> None:
        """A host without connections; whoever has many addresses starts a burst from each anyway."""
        for host in self._left:
            if host not in self._held:
                del self._left[host]
                return


def _leave(connection: int, hosts: dict[int, str], counts: Counter[str]) -> None:
    host = hosts.pop(connection, None)
    if host is not None:
        counts[host] -= 1
        if not counts[host]:
            del counts[host]


__all__ = ["PeerLimits"]
