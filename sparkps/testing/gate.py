"""What a relay does to the bytes of one direction: how late they are, how many a second, and whether any pass. Time is an argument."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from sparkps.errors import InvalidInput

#: A rate lets the bytes of so many seconds pass at once, and at least one.
BURST_SECONDS = 0.05

#: Bytes of one connection and direction that a relay keeps; then it reads no more, and the sender waits.
MOST_KEPT = 8 << 20

#: Bytes that pass at once where there is no rate.
_UNBOUNDED = 1 << 20


class Gate:
    """The rules of one direction.

    Examples
    --------
    >>> gate = Gate()
    >>> gate.throttle(1000.0, now=0.0)
    >>> gate.allowance(now=0.05)
    50
    >>> gate.passed(50)
    >>> gate.allowance(now=0.06)
    10
    """

    def __init__(self) -> None:
        #: Seconds that each byte is late.
        self.delay = 0.0
        #: Bytes a second; None: as many as come.
        self.rate: float | None = None
        #: Nothing passes.
        self.is_cut = False
        #: Processes of which nothing passes, by process id.
        self.cut_pids: set[int] = set()
        #: Bytes that have passed.
        self.total = 0
        self._tokens = 0.0
        self._filled_at = 0.0

    def cut(self, pid: int | None) -> None:
        """Let nothing pass; of one process, or of all."""
        if pid is None:
            self.is_cut = True
        else:
            self.cut_pids.add(pid)

    def heal(self, pid: int | None) -> None:
        """End what `cut` has begun: of one process, or of all."""
        if pid is None:
            self.is_cut = False
            self.cut_pids.clear()
        else:
            self.cut_pids.discard(pid)

    def set_delay(self, seconds: float) -> None:
        """Let each byte that comes from now on be so late."""
        if not seconds >= 0.0:
            raise InvalidInput(f"The delay of a relay must be at least 0 seconds. Got {seconds} instead.")
        self.delay = seconds

    def throttle(self, rate: float | None, now: float) -> None:
        """Let so many bytes pass a second, of all connections together; None: as many as come."""
        if rate is not None and not rate > 0.0:
            raise InvalidInput(f"The rate of a relay must be more than 0 bytes a second, or None. Got {rate} instead.")
        self.rate, self._tokens, self._filled_at = rate, 0.0, now

    def shuts_out(self, pid: int) -> bool:
        """Whether nothing of a connection passes that this process has opened."""
        return self.is_cut or pid in self.cut_pids

    def allowance(self, now: float) -> int:
        """Bytes that may pass now."""
        if self.rate is None:
            return _UNBOUNDED
        self._tokens = min(self._most(), self._tokens + (now - self._filled_at) * self.rate)
        self._filled_at = now
        return int(self._tokens + 1e-9)

    def next_time(self, now: float) -> float:
        """When there may be an allowance of at least one byte."""
        if self.rate is None or self.allowance(now):
            return now
        return now + (1.0 - self._tokens) / self.rate

    def passed(self, count: int) -> None:
        """So many bytes have passed."""
        self.total += count
        if self.rate is not None:
            self._tokens -= count

    def _most(self) -> float:
        assert self.rate is not None
        return max(1.0, self.rate * BURST_SECONDS)


@dataclass
class Backlog:
    """The bytes of one connection and direction that have come and not gone yet, in order."""

    #: (time at which they may go, bytes).
    chunks: deque[tuple[float, bytes]] = field(default_factory=deque)
    kept: int = 0

    @property
    def has_room(self) -> bool:
        """Whether more may be read."""
        return self.kept < MOST_KEPT

    def put(self, due: float, data: bytes) -> None:
        """Bytes have come; they may go at `due`."""
        self.chunks.append((due, data))
        self.kept += len(data)

    def due(self, now: float, most: int) -> bytes:
        """What may go now, at most so many bytes; it stays until it is `gone`."""
        if not self.chunks or self.chunks[0][0] > now:
            return b""
        return self.chunks[0][1][:most]

    def gone(self, count: int) -> None:
        """So many bytes have gone."""
        due, data = self.chunks.popleft()
        self.kept -= count
        if count < len(data):
            self.chunks.appendleft((due, data[count:]))


__all__ = ["MOST_KEPT", "Backlog", "Gate"]
