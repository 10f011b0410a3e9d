"""A relay in a process of its own: it goes on while the process that commands it is busy, and is gone with it.

It takes commands at its standard input, one JSON list a line, [method, arguments ...], and answers each with a line of JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
from types import TracebackType
from typing import Any, Literal, Self

from sparkps.errors import InvalidInput, TierError
from sparkps.testing.relay import Direction, Relay

#: What may be asked of it.
_COMMANDS = frozenset({"cut", "heal", "delay", "throttle", "drop", "refuse", "passed", "connections", "endpoint"})

#: Seconds that it has to end.
_GRACE = 10.0


class RelayProcess:
    """As `Relay`, in a process of its own.

    Parameters
    ----------
    target, endpoint : str
        As of `Relay`.

    Examples
    --------
    >>> with RelayProcess("tcp://127.0.0.1:9") as relay:    # doctest: +SKIP
    ...     relay.delay(0.2)
    """

    def __init__(self, target: str, endpoint: str = "") -> None:
        self.target = target
        command = [sys.executable, "-m", "sparkps.testing.relay_process", target, "--endpoint", endpoint]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            self.endpoint: str = self._ask("endpoint")
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def cut(self, direction: Direction = "both", pid: int | None = None) -> None:
        """See `Relay.cut`."""
        self._ask("cut", direction, pid)

    def heal(self, direction: Direction = "both", pid: int | None = None) -> None:
        """See `Relay.heal`."""
        self._ask("heal", direction, pid)

    def delay(self, seconds: float, direction: Direction = "both") -> None:
        """See `Relay.delay`."""
        self._ask("delay", seconds, direction)

    def throttle(self, bytes_per_second: float | None, direction: Direction = "both") -> None:
        """See `Relay.throttle`."""
        self._ask("throttle", bytes_per_second, direction)

    def drop(self) -> int:
        """See `Relay.drop`."""
        return int(self._ask("drop"))

    def refuse(self, refusing: bool = True) -> None:
        """See `Relay.refuse`."""
        self._ask("refuse", refusing)

    def passed(self, direction: Literal["up", "down"]) -> int:
        """See `Relay.passed`."""
        return int(self._ask("passed", direction))

    @property
    def connections(self) -> int:
        """See `Relay.connections`."""
        return int(self._ask("connections"))

    def _ask(self, *command: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except (BrokenPipeError, ValueError):
            line = ""
        if not line:
            raise TierError(f"The relay to {self.target} must run. Its process, {self.pid}, has ended.")
        refused, answer = json.loads(line)
        if refused is not None:
            raise InvalidInput(refused)
        return answer

    def close(self) -> None:
        """End it; does nothing the second time."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):  # the process has ended, and does not take what is left to be written
                    stream.close()
        try:
            self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _done(relay: Relay, command: str, *args: Any) -> Any:
    """Carry a command out."""
    if command not in _COMMANDS:
        raise InvalidInput(f"A relay must be told one of {sorted(_COMMANDS)}. Got {command!r} instead.")
    found = getattr(relay, command)
    return found(*args) if callable(found) else found


def main() -> None:
    """The process: carry out what standard input says, until it ends."""
    parser = argparse.ArgumentParser(description="A relay that is commanded through standard input.")
    parser.add_argument("target")
    parser.add_argument("--endpoint", default="")
    arguments = parser.parse_args()
    with Relay(arguments.target, arguments.endpoint) as relay:
        for line in sys.stdin:
            try:
                answer: tuple[Any, Any] = None, _done(relay, *json.loads(line))
            except InvalidInput as error:
                answer = str(error), None
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()


__all__ = ["RelayProcess"]
