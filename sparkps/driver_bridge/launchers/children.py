"""Child processes of the driver: started out of reach of Ctrl-C, watched, and ended within a deadline."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO

from sparkps.config import Settings
from sparkps.errors import TierError
from sparkps.secret import TierSecret
from sparkps.storage import reason, why_unwritable

#: Lines of a log that an error shows.
LAST_LINES = 15

#: Bytes that a log needs to say why a process has failed.
LOG_BYTES = 64 << 10

_REMEDY = "free space there, or set TMPDIR to a directory that can be written"

#: Seconds between the two ways of ending a process, SIGTERM and SIGKILL.
TERM_GRACE = 2.0


class Child:
    """One child process.

    Its standard input is a pipe that the driver writes at most `first_words` to: when the driver is gone, however it went, the pipe
    ends, and so does the child. It runs in a session of its own, so that Ctrl-C in a terminal does not reach it.

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
    first_words : bytes
        Written to its standard input at once.

    Raises
    ------
    TierError
        The log cannot be written, or the process cannot be started.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        log: Path,
        environment: Mapping[str, str],
        on_exit: Callable[[Child], None] | None = None,
        first_words: bytes = b"",
    ) -> None:
        self.name = name
        self.log = log
        self._on_exit = on_exit
        #: Set by the watching thread when the process is gone and was reaped.
        self.exited = threading.Event()
        try:
            output = log.open("ab")  # that of a process which is started again goes on
        except OSError as error:
            raise TierError(
                f"The log of {name} must be writable. Got {reason(error)!r} for {str(log)!r}: {_REMEDY}."
            ) from None
        with output:
            self.process = _started(name, command, output, environment)
        speak_first(self.process, first_words)
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

    def ending(self, name: str = "", then: str = "") -> str:
        """What became of the child, with the end of its log, or why there is none.

        Parameters
        ----------
        name : str, optional
            As those know it who read this; by default its own.
        then : str, optional
            What follows from that.
        """
        lines, why = self.last_lines(), why_unwritable(self.log.parent, LOG_BYTES)
        said = "The end of its log:\n" + lines if lines else f"Its log, {str(self.log)!r}, is empty."
        if why:
            where = str(self.log.parent)
            said = f"Its log cannot be written: {why!r} in {where!r}; {_REMEDY}." + ("\n" + said if lines else "")
        return f"{name or self.name}: {self.fate()}.{then and ' '}{then} {said}"

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


def speak_first(process: subprocess.Popen[bytes], words: bytes) -> None:
    """Write to the standard input of a process, which stays open; one that has ended already does not hear it."""
    if words and process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.write(words)
            process.stdin.flush()


def node_options(settings: Settings, secret: TierSecret | None) -> list[str]:
    """The words of a node's command that are the same wherever it runs: what it takes of whom."""
    network = settings.network
    options = ["--max-message-bytes", str(settings.node.max_message_bytes), "--peer-connections", str(network.max_peer_connections)]
    return [*options, "--peer-handshakes", str(network.max_peer_handshakes), *secret_option(secret)]


def secret_option(secret: TierSecret | None) -> list[str]:
    """The words of a command by which a process reads its secret as the first line of standard input, if there is one."""
    return [] if secret is None else ["--secret-on-stdin"]


def _started(name: str, command: list[str], output: IO[bytes], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            start_new_session=True,
        )
    except OSError as error:
        raise TierError(f"The process of {name} must start. Got {error} for {command[0]!r}.") from None


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


__all__ = ["Child", "end", "node_options", "secret_option", "speak_first"]
