"""Processes that end with this one, even when it is killed: all are children of one `guard`."""

from __future__ import annotations

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from sparkps.errors import InvalidInput
from sparkps.testing.processes import ProcessName
from tests.harness import guard
from tests.harness.waiting import wait_until

#: Seconds until all have ended.
_END = 30.0

#: Last lines of a log that an error shows.
_SHOWN = 40


class Daemon:
    """A process that a guard has started.

    Parameters
    ----------
    name : str
        For messages.
    pid : int
    log : Path
        What it writes.
    """

    def __init__(self, name: str, pid: int, log: pathlib.Path) -> None:
        self.name = name
        self.log = log
        try:
            self.process = ProcessName.of(pid, name)
        except InvalidInput:
            self.process = ProcessName(pid, "", name)  # it has ended at once: its log says why

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self.process.runs

    def tail(self, lines: int = _SHOWN) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def wait_for(self, words: str, timeout: float) -> re.Match[str]:
        """The first place in its log that matches; fails with the end of the log at once when it ends, and after `timeout` seconds."""
        found: list[re.Match[str]] = []

        def look() -> bool:
            match = re.search(words, self.log.read_text(errors="replace"))
            if match is not None:
                found.append(match)
            return bool(found) or not self.runs

        wait_until(look, timeout, 0.1)
        if not found:
            why = f"said nothing of {words!r} within {timeout:g} s" if self.runs else "has ended"
            raise AssertionError(f"{self.name} {why}. The end of its log:\n{self.tail()}")
        return found[0]

    def stop(self) -> None:
        """It stands still (SIGSTOP)."""
        self.process.send(signal.SIGSTOP)

    def go_on(self) -> None:
        """It goes on after `stop`."""
        self.process.send(signal.SIGCONT)


class Guard:
    """Starts daemons, and ends them with itself; a context manager.

    Parameters
    ----------
    directory : Path
        Removed when all have ended.
    """

    def __init__(self, directory: pathlib.Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._guard = subprocess.Popen(
            [sys.executable, "-S", guard.__file__, str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for us, who then end it
        )

    def start(self, name: str, command: list[str], environment: dict[str, str]) -> Daemon:
        """Start a process in the directory; its output goes to ``logs/NAME.log`` there."""
        assert self._guard.stdin is not None
        assert self._guard.stdout is not None
        log = self._directory / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        order = {"command": command, "log": str(log), "environment": environment, "folder": str(self._directory)}
        with self._lock:
            self._guard.stdin.write(json.dumps(order) + "\n")
            self._guard.stdin.flush()
            answer = json.loads(self._guard.stdout.readline() or '{"error": "the guard has ended"}')
        if "error" in answer:
            raise AssertionError(f"{name} did not start: {answer['error']}")
        return Daemon(name, answer["pid"], log)

    def end(self) -> None:
        """End all, and remove the directory."""
        assert self._guard.stdin is not None
        assert self._guard.stdout is not None
        with suppress(OSError):
            self._guard.stdin.close()
        try:
            self._guard.wait(_END)
        except subprocess.TimeoutExpired:
            os.kill(self._guard.pid, signal.SIGKILL)
            self._guard.wait(10)
        self._guard.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


__all__ = ["Daemon", "Guard"]
