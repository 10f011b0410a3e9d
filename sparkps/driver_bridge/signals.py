"""What must happen when the driver's interpreter ends, at its exit or on SIGTERM, and when its SparkContext is stopped.

SIGINT is left alone: Ctrl-C raises KeyboardInterrupt in the call under way, whose own clean-up ends it, and the tier's processes
run in sessions of their own, which Ctrl-C does not reach.
"""

from __future__ import annotations

import atexit
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

#: Seconds between two looks whether Spark was stopped.
LOOK_EVERY = 0.5


class EndOfDriver:
    """Calls a function when the interpreter exits or is told to by SIGTERM, whichever comes first.

    The previous SIGTERM handler is called afterwards; the default one ends the process as without us. A forked child, which
    inherits both hooks, does nothing.

    Parameters
    ----------
    then : callable
    """

    def __init__(self, then: Callable[[], None]) -> None:
        self._then = then
        self._pid = os.getpid()
        #: Handler of SIGTERM before ours; None while ours is not installed.
        self._previous: Any = None
        self._installed = False

    def arm(self) -> None:
        """Install both hooks; the signal handler from the main thread only, which is where Python allows it."""
        atexit.register(self._at_exit)
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.getsignal(signal.SIGTERM)
            signal.signal(signal.SIGTERM, self._on_sigterm)
            self._installed = True

    def disarm(self) -> None:
        """Remove both hooks; the signal handler stays if another was installed on top of it, and then only passes on."""
        self._then = _nothing
        atexit.unregister(self._at_exit)
        on_main_thread = threading.current_thread() is threading.main_thread()
        if self._installed and on_main_thread and signal.getsignal(signal.SIGTERM) == self._on_sigterm:
            signal.signal(signal.SIGTERM, self._default())
            self._installed = False

    def _at_exit(self) -> None:
        if os.getpid() == self._pid:
            self._then()

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() == self._pid:
            self._then()
        previous = self._default()
        if callable(previous):
            previous(number, frame)
        elif previous == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _default(self) -> Any:
        """The previous handler; one that was not installed from Python (None) counts as the default."""
        return signal.SIG_DFL if self._previous is None else self._previous


class EndOfSpark:
    """Calls a function, in a thread of its own, when a SparkContext was stopped; Spark itself tells nobody in Python.

    Parameters
    ----------
    has_stopped : callable
        Cheap: it is asked twice a second.
    then : callable
    """

    def __init__(self, has_stopped: Callable[[], bool], then: Callable[[], None]) -> None:
        self._has_stopped = has_stopped
        self._then = then
        self._over = threading.Event()
        threading.Thread(target=self._look, name="sparkps-end-of-spark", daemon=True).start()

    def cancel(self) -> None:
        """It does not matter any more."""
        self._over.set()

    def _look(self) -> None:
        while not self._over.wait(LOOK_EVERY):
            if self._has_stopped():
                self._then()
                return


def _nothing() -> None:
    """After `disarm`."""


__all__ = ["EndOfDriver", "EndOfSpark"]
