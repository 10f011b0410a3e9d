"""What ties a process of the tier to the driver that started it, and what is left to do when the driver is gone.

The driver holds the other end of the process's standard input and never writes to it: when the driver is gone, however it
went, the pipe ends.

The directory of a local tier (see `driver_bridge.launchers.local`) then is the coordinator's to remove. Where the
coordinator was killed, too, nodes remove what they can prove to be left over, and the last one takes the directory with it.

A process can be named so that others on its host can tell whether it is gone: see `this_process`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

#: Sockets, logs and the coordinator's journal in the directory of a local tier; those with a suffix were put aside by `descriptors`.
_OURS = re.compile(r"(coordinator|node[0-9]+)(\.log|\.listening|\.full)?|kernels\.log|coordinator\.journal")

#: Suffix of the file beside a process's socket from which another process can go on where that one ends; without it none does.
JOURNAL = ".journal"

#: Exit status of a node that found another attempt's node in its place: whoever started it may try again when that one is gone.
PLACE_TAKEN = 5

#: Seconds between two times that the directory of a tier is touched.
FRESH_EVERY = 6 * 3600.0

#: Seconds between two looks while waiting.
_LOOK_EVERY = 0.05

#: Of Linux (linux/prctl.h).
_PR_SET_PDEATHSIG = 1


def wake_with_parent() -> None:
    """Let the system wake this process up when the one that has started it ends: stopped (SIGSTOP), it would never find that out."""
    with contextlib.suppress(OSError, AttributeError):  # not on this system
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGCONT, 0, 0, 0)


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


def keep_fresh(directory: Path, every: float = FRESH_EVERY) -> None:
    """Touch what is in the directory of a tier now and then, from a thread of its own, until the directory is gone.

    Whoever cleans directories of temporary files takes what was not touched for some days; a tier may live for months.
    """

    def touch() -> None:
        while directory.is_dir():
            for path in (directory, *_ours(directory)):
                with contextlib.suppress(OSError):
                    os.utime(path, follow_symlinks=False)
            pause.wait(every)

    pause = threading.Event()
    threading.Thread(target=touch, daemon=True, name="sparkps-fresh").start()


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
    right_kind = path.is_file() if path.suffix in (".log", JOURNAL) else path.is_socket()
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


# ---- names of processes ------------------------------------------------------------------------------------------------


def this_process() -> str:
    """A name of the calling process that no other process ever has; empty where /proc does not tell.

    Boot of the machine, namespace of process ids, process id and time of its start, with spaces between. A forked child has a
    name of its own.
    """
    return name_of(os.getpid())


def name_of(pid: int) -> str:
    """The name of the process that has an id now, as `this_process` has it; empty where there is none, or /proc does not tell."""
    here, process = _here(), _look_up(pid)
    return f"{here} {pid} {process.start}" if here and process is not None and not process.is_dead else ""


def is_gone(name: str) -> bool:
    """Whether a process, named by `this_process`, is provably gone: it could be seen from here, and is not there any more.

    Parameters
    ----------
    name : str
        Of a process on another host, in another container, or of none, nothing can be proved.
    """
    here, _, process = name.rpartition(" ")[0].rpartition(" ")
    start = name.rpartition(" ")[2]
    if not here or here != _here() or not process.isdecimal():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except OSError:  # it belongs to somebody else, and /proc may hide it
        pass
    found = _look_up(int(process))
    return found is not None and (found.start != start or found.is_dead)


class _Process(NamedTuple):
    """What /proc tells of a process."""

    #: In clock ticks since the machine's start.
    start: str
    #: Nothing of it runs any more, though its parent has not asked for its end yet.
    is_dead: bool


def _look_up(pid: int) -> _Process | None:
    """What /proc tells of a process; None: nothing."""
    try:
        # The second field is the name of the program, in parentheses, and may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        state, threads, start = fields[0], int(fields[17]), fields[19].decode()
    except (OSError, ValueError, IndexError):
        return None
    return _Process(start, state in (b"Z", b"X") and threads <= 1)


def _here() -> str:
    """This boot of the machine and the namespace in which process ids mean something here; empty where /proc does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = Path("/proc/self/ns/pid").readlink()
        is_ours = Path("/proc/self").readlink().name == str(os.getpid())  # a container may be given the /proc of its host
        return f"{boot} {namespace}" if is_ours else ""
    except OSError:
        return ""


__all__ = ["JOURNAL", "PLACE_TAKEN", "answers", "is_gone", "name_of", "remove_leftovers", "this_process", "tidy_up", "watch_stdin"]
