"""Child processes of the driver: started out of reach of Ctrl-C, watched, and ended within a deadline."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

#: Lines of a log that an error shows.
LAST_LINES = 15

#: Seconds between the two ways of ending a process, SIGTERM and SIGKILL.
TERM_GRACE = 2.0


class Child:
    """One child process.

    Its standard input is a pipe that the driver never writes to: when the driver is gone, however it went, the pipe ends, and
    so does the child. It runs in a session of its own, so that Ctrl-C in a terminal does not reach it.

    Parameters
    ----------
    name : str
        For messages.
    command : list of str
    log : Path
        Takes what the child writes.
    environment : mapping
    on_exit : callable
        Called with the child, in a thread of its own, as soon as it has exited.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        log: Path,
        environment: Mapping[str, str],
        on_exit: Callable[[Child], None] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self._on_exit = on_exit
        #: Set by the watching thread when the process is gone and was reaped.
        self.exited = threading.Event()
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,
            )
        threading.Thread(target=self._watch, name=f"sparkps-{name}", daemon=True).start()

    @property
    def pid(self) -> int:
        """Process id."""
        return self.process.pid

    @property
    def status(self) -> int | None:
        """Exit status; None while it runs."""
        return self.process.returncode if self.exited.is_set() else None

    def fate(self) -> str:
        """What became of the child, in one phrase."""
        status = self.status
        if status is None:
            return f"process {self.pid} is running"
        how = f"exited with status {status}" if status >= 0 else f"was killed by signal {-status}"
        return f"process {self.pid} {how}"

    def ending(self) -> str:
        """What became of the child, with the end of its log."""
        lines = self.last_lines()
        return f"{self.name}: {self.fate()}. " + ("The end of its log:\n" + lines if lines else "Its log is empty.")

    def last_lines(self) -> str:
        """The last lines of the log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-LAST_LINES:])
        except OSError:
            return ""

    def hang_up(self) -> None:
        """Close the child's standard input: it exits by itself."""
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()

    def _watch(self) -> None:
        self.process.wait()
        self.exited.set()
        if self._on_exit is not None:
            self._on_exit(self)


def end(children: Iterable[Child], grace: float) -> None:
    """End children: they have `grace` seconds to exit by themselves; then comes SIGTERM, then SIGKILL."""
    left = list(children)
    for child in left:
        child.hang_up()
    left = _wait(left, grace)
    for child in left:
        child.process.terminate()
    left = _wait(left, TERM_GRACE)
    for child in left:
        child.process.kill()
    _wait(left, TERM_GRACE)


def _wait(children: list[Child], seconds: float) -> list[Child]:
    """The children that have not exited within so many seconds."""
    deadline = time.monotonic() + seconds
    return [child for child in children if not child.exited.wait(max(0.0, deadline - time.monotonic()))]


__all__ = ["Child", "end"]
