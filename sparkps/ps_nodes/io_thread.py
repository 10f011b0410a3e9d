"""The thread that owns a node's sessions and sockets, and how other threads have something told by it."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

log = logging.getLogger(__name__)


class IoThread:
    """The I/O thread of a node: at first the one that makes this.

    Parameters
    ----------
    wake : callable
        Called, from any thread, when something was posted: `run_posted` must follow soon.
    """

    def __init__(self, wake: Callable[[], None] = lambda: None) -> None:
        #: What other threads have to tell. Any thread appends; owner of the rest: the I/O thread.
        self.posted: deque[Callable[[], None]] = deque()
        self._wake = wake
        self._ident = threading.get_ident()

    def take_over(self) -> None:
        """The calling thread is the I/O thread from now on."""
        self._ident = threading.get_ident()

    @property
    def is_current(self) -> bool:
        """Whether the caller is the I/O thread."""
        return threading.get_ident() == self._ident

    def post(self, tell: Callable[[], None]) -> None:
        """Have `tell` called by the I/O thread: now if this is it, else soon."""
        if self.is_current:
            tell()
            return
        self.posted.append(tell)
        self._wake()

    def run_posted(self) -> None:
        """Call what was posted."""
        while self.posted:
            try:
                self.posted.popleft()()
            except Exception:
                log.exception("what a thread of the pool had to tell could not be told")
