"""What ties a process of the tier to the driver that started it, and what is left to do when the driver is gone.

The driver holds the other end of the process's standard input and never writes to it: when the driver is gone, however it
went, the pipe ends.

The directory of a local tier (see `driver_bridge.launchers.local`) then is the coordinator's to remove. Where the
coordinator was killed, too, nodes remove what they can prove to be left over, and the last one takes the directory with it.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

#: Sockets and logs in the directory of a local tier.
_OURS = re.compile(r"(coordinator|node[0-9]+)(\.log)?|kernels\.log")

#: Seconds between two looks while waiting.
_LOOK_EVERY = 0.05


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


def tidy_up(directory: Path, patience: float = 4.0) -> None:
    """Remove what is left in the directory of a tier whose driver is gone, unless its coordinator is there to do it.

    Parameters
    ----------
    directory : Path
    patience : float
        Seconds that processes which still answer have to go: they may have been killed together with the driver, and those
        that are killed at one moment do not end at one moment. A node that tidies up answers no more.
    """
    deadline, pause = time.monotonic() + patience, threading.Event()
    while any(answers(path) for path in _ours(directory)) and time.monotonic() < deadline:
        pause.wait(_LOOK_EVERY)
    if not answers(directory / "coordinator"):
        remove_leftovers(directory)


def remove_leftovers(directory: Path) -> None:
    """Remove sockets at which nobody listens, logs of processes that do not listen, and the directory if it is empty then.

    Whatever else is there stays, and so does the directory. Any number of processes may do this at once.

    Parameters
    ----------
    directory : Path
        Of a local tier; it may be gone already.
    """
    with contextlib.suppress(OSError):
        for path in _ours(directory):
            if _is_left_over(path):
                path.unlink(missing_ok=True)
        directory.rmdir()


def _ours(directory: Path) -> list[Path]:
    """Files by names of ours; none in a directory that is gone."""
    with contextlib.suppress(OSError):
        return [path for path in directory.iterdir() if _OURS.fullmatch(path.name)]
    return []


def _is_left_over(path: Path) -> bool:
    """Whether a file by a name of ours is of our kind, and belongs to no process that listens."""
    right_kind = path.is_file() if path.suffix == ".log" else path.is_socket()
    return right_kind and not path.is_symlink() and not answers(path.with_suffix(""))


def answers(path: Path) -> bool:
    """Whether some process listens at a Unix socket; of one that cannot be asked, yes."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)  # a full backlog answers, too
        try:
            probe.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
    return True


__all__ = ["answers", "remove_leftovers", "tidy_up", "watch_stdin"]
