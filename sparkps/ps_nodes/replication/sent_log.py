"""A primary's log to one node that holds copies: entries get their numbers in order, are sent, and stay until they are acknowledged.

Pure: no socket, no thread, time is an argument. An entry's place is *reserved* under the lock that decides the order of changes, and
*filled* afterwards: to make its frames takes time. Entries are sent in order, as far as they are filled; where nothing was
acknowledged for a while, all from the first one that is missing are sent again (go-back-n).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

#: Bytes of entries that are sent ahead of the last acknowledged one.
WINDOW_BYTES = 32 << 20

#: Seconds without an acknowledgement after which entries are sent again; at first, and at most.
RESEND_AFTER, RESEND_AT_MOST = 0.3, 1.0

#: What an entry costs besides its frames (bytes, about).
ENTRY_BYTES = 512

#: Called once, when everything that it waits for is acknowledged.
Then = Callable[[], None]


class SentLog:
    """The log to one node.

    Parameters
    ----------
    target : int
        Id of the node.
    generation : int
        Tells it from earlier logs to the same node.

    Examples
    --------
    >>> log = SentLog(3)
    >>> one, two = log.reserve(), log.reserve()
    >>> log.fill(two, [b"second"]), log.due(0.0)
    (None, [])
    >>> log.fill(one, [b"first"])
    >>> log.due(0.0)
    [(1, [b'first']), (2, [b'second'])]
    >>> log.acknowledge(2, 0.1), log.acked
    ([], 2)
    """

    def __init__(self, target: int, generation: int = 1) -> None:
        self.target = target
        self.generation = generation
        #: Every entry up to this number is at the target. Never falls.
        self.acked = 0
        #: The last number that was reserved.
        self.last = 0
        #: Bytes of entries that are not acknowledged.
        self.nbytes = 0
        #: Nothing comes of it any more: the target is gone, or a copy could not be kept.
        self.closed = False
        #: Frames of entries after `acked`, in order; None: reserved only.
        self._entries: deque[tuple[list[Any] | None, int]] = deque()
        #: The last number that was sent, and bytes of what was sent and is not acknowledged.
        self._sent = 0
        self._sent_bytes = 0
        #: Who waits for which number; ascending, for numbers are given out in order.
        self._waiting: deque[tuple[int, Then]] = deque()
        #: When something was last acknowledged, or sent where nothing was under way (seconds).
        self._heard_at = 0.0
        self._pause = RESEND_AFTER
        self._resend_at = 0.0

    @property
    def silent_since(self) -> float | None:
        """When the target last acknowledged something, if it has not acknowledged all that was sent (seconds)."""
        return self._heard_at if self._sent > self.acked else None

    # ---- what goes in ----------------------------------------------------------------------------------------------------

    def reserve(self) -> int:
        """The next number."""
        self.last += 1
        self._entries.append((None, ENTRY_BYTES))
        self.nbytes += ENTRY_BYTES
        return self.last

    def fill(self, number: int, frames: list[Any]) -> None:
        """The frames of an entry."""
        if self.closed:
            return
        assert number > self.acked, "what is acknowledged was filled before"
        nbytes = ENTRY_BYTES + sum(getattr(frame, "nbytes", len(frame)) for frame in frames)
        self.nbytes += nbytes - ENTRY_BYTES
        self._entries[number - self.acked - 1] = frames, nbytes

    def wait(self, number: int, then: Then) -> bool:
        """Call `then` when the entry is acknowledged; False if it is already, or never will be."""
        if self.closed or number <= self.acked:
            return False
        waiting = self._waiting
        if not waiting or waiting[-1][0] <= number:
            waiting.append((number, then))
        else:
            at = next(i for i, each in enumerate(waiting) if each[0] > number)
            waiting.insert(at, (number, then))
        return True

    # ---- what comes out --------------------------------------------------------------------------------------------------

    def due(self, now: float) -> list[tuple[int, list[Any]]]:
        """Entries to send now, with their numbers."""
        if self.closed:
            return []
        if self._sent > self.acked and now >= self._resend_at:
            self._sent, self._sent_bytes = self.acked, 0
            self._pause = min(2 * self._pause, RESEND_AT_MOST)
            self._resend_at = now + self._pause
        found = []
        while self._sent < self.last:
            frames, nbytes = self._entries[self._sent - self.acked]
            if frames is None or (self._sent_bytes and self._sent_bytes + nbytes > WINDOW_BYTES):
                break
            if self._sent == self.acked and not self._sent_bytes and self._resend_at <= now:
                self._heard_at = max(self._heard_at, now) if self._pause == RESEND_AFTER else self._heard_at
                self._resend_at = now + self._pause
            self._sent += 1
            self._sent_bytes += nbytes
            found.append((self._sent, frames))
        return found

    def acknowledge(self, number: int, now: float) -> list[Then]:
        """The target has all entries up to `number`; returns whom to call."""
        number = min(number, self._sent)  # whoever says more, nothing that was not sent is there
        if self.closed or number <= self.acked:
            return []
        for _ in range(number - self.acked):
            frames, nbytes = self._entries.popleft()
            assert frames is not None, "what is acknowledged was sent"
            self.nbytes -= nbytes
            self.acked += 1
            if self.acked <= self._sent:
                self._sent_bytes -= nbytes
        self._sent = max(self._sent, self.acked)
        self._heard_at, self._pause = now, RESEND_AFTER
        self._resend_at = now + self._pause
        due = []
        while self._waiting and self._waiting[0][0] <= self.acked:
            due.append(self._waiting.popleft()[1])
        return due

    def close(self) -> list[Then]:
        """Nobody waits for it any more; returns whom to call."""
        self.closed = True
        due = [then for _, then in self._waiting]
        self._waiting.clear()
        self._entries.clear()
        self.nbytes = self._sent_bytes = 0
        return due

    def validate(self) -> None:
        """Asserts what must hold between the fields."""
        assert self.closed or len(self._entries) == self.last - self.acked
        assert self.closed or self.acked <= self._sent <= self.last
        assert self.nbytes == sum(nbytes for _, nbytes in self._entries)
        assert all(number > self.acked for number, _ in self._waiting)
        assert [number for number, _ in self._waiting] == sorted(number for number, _ in self._waiting)
