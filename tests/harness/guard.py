"""A process that starts others, and ends all of them with itself; it ends as soon as its standard input does.

So nothing outlives a test run, however that ends: a pipe is closed by the kernel, too, when its owner is killed. The guard adopts
what its processes leave behind (as YARN's NodeManagers do with containers), and whoever starts a session of its own is found as well.
It is started as ``python guard.py DIRECTORY``, and imports nothing of ours. Linux only.

    in   {"command": [...], "log": PATH, "environment": {...}, "folder": PATH}       a line of JSON each
    out  {"pid": N}  or  {"error": TEXT}
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36

#: Seconds until the last process is gone.
_END = 20.0

_libc = ctypes.CDLL(None, use_errno=True)


def _start(order: dict[str, Any]) -> int:
    """Start one process, in a session of its own; it is killed when the guard is."""
    with Path(str(order["log"])).open("ab") as log:
        process = subprocess.Popen(
            order["command"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=order["environment"],
            cwd=str(order["folder"]),
            start_new_session=True,
            preexec_fn=lambda: _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0),
        )
    return int(process.pid)


def _descendants() -> list[int]:
    """All that run below this process; what has ended, but has not been waited for, is left out."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                # The second field is the name of the program, in parentheses, and may hold anything.
                state, parent = (entry / "stat").read_bytes().rpartition(b")")[2].split()[:2]
            except (OSError, ValueError):
                continue
            if state not in (b"Z", b"X"):
                parents[int(entry.name)] = int(parent)
    found, below = set(), {os.getpid()}
    while below:
        below = {child for child, parent in parents.items() if parent in below}
        found |= below
    return sorted(found)


def _end_all() -> None:
    """Kill all descendants, again and again: those that are left may start others meanwhile."""
    began = time.monotonic()
    while not _all_reaped() and time.monotonic() - began < _END:
        for pid in _descendants():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _all_reaped() -> bool:
    """Take leave of children that have ended; whether there are no others. Who loses its parent is a child."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return True
    return False


def main() -> None:
    """Obey until standard input ends; then end all, and remove the directory."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # only the end of standard input counts
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        for line in sys.stdin:
            try:
                answer: dict[str, object] = {"pid": _start(json.loads(line))}
            except (OSError, ValueError, KeyError) as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
    finally:
        _end_all()
        shutil.rmtree(sys.argv[1], ignore_errors=True)


if __name__ == "__main__":
    main()
