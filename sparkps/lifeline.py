"""What ties a process of the tier to the driver that started it.

The driver holds the other end of the process's standard input and never writes to it: when the driver is gone, however it
went, the pipe ends.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable


def watch_stdin(gone: Callable[[], object], descriptor: int = 0) -> None:
    """Call `gone` when standard input ends, from a thread of its own.

    Parameters
    ----------
    gone : callable
    descriptor : int
        What to read in place of standard input.
    """

    def wait() -> None:
        # Not sys.stdin: its lock, held while reading, would keep the interpreter from ending.
        with contextlib.suppress(OSError):
            while os.read(descriptor, 4096):
                continue
        gone()

    threading.Thread(target=wait, daemon=True, name="sparkps-stdin").start()


__all__ = ["watch_stdin"]
