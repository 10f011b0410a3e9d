"""Driver programs as processes of their own, to be killed; and a fake node that speaks the control plane."""

from __future__ import annotations

import json
import os
import queue
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

import psutil
import zmq

from sparkps.wire.codec import decode, encode
from sparkps.wire.messages import control as c
from tests.harness.waiting import wait_until

#: How a driver program says something to its test: ``say(key=value)``, one line of JSON.
PRELUDE = """
import json, os, signal, sys
def say(**what):
    sys.stdout.write("SAY " + json.dumps(what) + "\\n"); sys.stdout.flush()
def wait_for_the_test():
    sys.stdin.readline()
"""

#: A tier of two nodes without Spark; says which processes it has.
TIER = """
from sparkps.config import Settings
from sparkps.driver_bridge.launchers.local import launch
tier = launch(Settings(num_nodes=2))
say(pids=[tier._coordinator.pid, *(node.pid for node in tier._nodes.values())], directory=str(tier.directory))
"""


class DriverProgram:
    """A Python program in a process group of its own.

    Parameters
    ----------
    program : str
        Follows `PRELUDE`.
    **environment : str
        Added to that of the test.
    """

    def __init__(self, program: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            text=True,
            env={**os.environ, **environment},
        )
        self._said: queue.Queue[dict[str, Any]] = queue.Queue()
        self._errors: list[str] = []
        self._readers = [
            threading.Thread(target=self._read_output, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read_output(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("SAY "):
                self._said.put(json.loads(line[4:]))

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self._errors.extend(self.process.stderr)

    @property
    def errors(self) -> str:
        """What the program wrote to standard error so far."""
        return "".join(self._errors)

    def hear(self, timeout: float = 120.0) -> dict[str, Any]:
        """What the program says next."""
        try:
            return self._said.get(timeout=timeout)
        except queue.Empty:
            raise AssertionError(f"the driver program said nothing; its errors: {self.errors}") from None

    def go_on(self) -> None:
        """Let the program return from ``wait_for_the_test()``."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def interrupt(self) -> None:
        """Ctrl-C in the program's terminal: SIGINT to its whole process group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def wait(self, timeout: float = 60.0) -> int:
        """Exit status."""
        return self.process.wait(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        for reader in self._readers:
            reader.join(10)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


def running(pids: Iterable[int]) -> list[int]:
    """Those of `pids` that still run; zombies do not."""
    alive = []
    for pid in pids:
        try:
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                alive.append(pid)
        except psutil.NoSuchProcess:
            continue
    return alive


def gone_within(pids: Iterable[int], seconds: float) -> bool:
    """Whether none of `pids` runs after at most so many seconds."""
    listed = list(pids)
    return wait_until(lambda: not running(listed), seconds, 0.05)


class FakeNode:
    """A thread that speaks a node's side of the control plane, and obeys every command.

    Parameters
    ----------
    coordinator : str
        Its endpoint.
    endpoint : str
        What the node says of itself; nobody listens there.
    """

    def __init__(self, coordinator: str, endpoint: str) -> None:
        self.endpoint = endpoint
        self.node = -1
        #: Commands in the order of arrival. Written by the thread.
        self.commands: list[Any] = []
        #: Commands of these classes are refused with `cause`.
        self.refuses: tuple[type, ...] = ()
        self.cause = c.Cause("TierError", "the fake node refuses")
        self._coordinator = coordinator
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name=f"fake-{endpoint}", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.ROUTING_ID, b"\x01" + secrets.token_bytes(c.ROUTING_ID_BYTES - 1))
            socket.connect(self._coordinator)
            socket.send_multipart(encode(c.NodeHello(1, self.endpoint, "fake", os.getpid())))
            seq = 1
            while not self._stop.is_set():
                if not socket.poll(50):
                    if self.node >= 0:
                        seq += 1
                        socket.send_multipart(encode(c.Heartbeat(seq, self.node, {"rows": 1})))
                    continue
                message, _ = decode(socket.recv_multipart())
                if isinstance(message, c.Welcome):
                    self.node = message.node
                elif not isinstance(message, c.Alive):
                    self.commands.append(message)
                    cause = self.cause if isinstance(message, self.refuses) else None
                    socket.send_multipart(encode(c.CommandDone(message.seq, self.node, cause)))

    def close(self) -> None:
        """End the thread: the node falls silent."""
        self._stop.set()
        self._thread.join(10)


__all__ = ["TIER", "DriverProgram", "FakeNode", "gone_within", "running"]
