"""``launch="local"``: coordinator and nodes are child processes of the driver, connected through ipc sockets.

The sockets lie in a directory that only this user can enter, each beside the log of its process; the driver removes it with
the tier, or, if it is gone, the processes that it leaves (see `lifeline`). Right where all Spark tasks run on the driver's host.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

import msgspec

from sparkps.client.control import ControlClient
from sparkps.config import PREFIX, Settings, child_environment
from sparkps.driver_bridge.launchers.children import Child, end
from sparkps.errors import ConfigError, DeadlineExceeded, NodeUnreachable, SparkPSError, TierError
from sparkps.wire.control import NodeGone, StopTier, TierAddress, TierStatus

log = logging.getLogger(__name__)

#: Longest path of a Unix socket on Linux is 107 bytes; a name in the directory takes some of them.
LONGEST_DIRECTORY = 90
#: Seconds that compiling all kernels may take.
COMPILE_LIMIT = 900.0
#: Seconds that the coordinator has to answer that the tier has stopped, before it is asked again.
STOP_ASK_AGAIN = 2.5
#: Seconds between two looks while waiting for the tier.
LOOK_EVERY = 0.02

#: Compiles all kernels; ends at once when the driver, the other end of its standard input, is gone.
_WARM = """
import os
from sparkps.lifeline import watch_stdin
watch_stdin(lambda: os._exit(1))
from sparkps.kernels.compiled import warm
warm()
"""


class LocalTier:
    """A tier of child processes; use `launch`.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.directory = _socket_directory()
        self.address = TierAddress(secrets.token_hex(8), f"ipc://{self.directory}/coordinator")
        self.control = ControlClient(self.address.coordinator, settings.control_timeout)
        self._environment = child_environment(settings)
        self._stopping = threading.Event()
        self._coordinator: Child | None = None
        #: By endpoint.
        self._nodes: dict[str, Child] = {}

    # ---- start ---------------------------------------------------------------------------------------------------------

    def start(self) -> LocalTier:
        """Start all processes, and wait until the tier is ready; stops what was started if it is not."""
        try:
            self._start_coordinator()
            for number in range(self._settings.num_nodes):
                self._start_node(number)
            self._warm_kernels()
            self._wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def _start_coordinator(self) -> None:
        command = [sys.executable, "-m", "sparkps.driver_bridge.coordinator"]
        command += ["--bind", self.address.coordinator, "--tier", self.address.tier_id]
        command += ["--settings", msgspec.json.encode(self._settings).decode()]
        command += ["--parent", str(os.getpid()), "--watch-stdin", "--scratch", str(self.directory)]
        self._coordinator = self._child("coordinator", command)

    def _start_node(self, number: int) -> None:
        endpoint = f"ipc://{self.directory}/node{number}"
        command = [sys.executable, "-m", "sparkps.ps_nodes", "--coordinator", self.address.coordinator]
        command += ["--bind", endpoint, "--threads", str(self._threads()), "--watch-stdin", "--watch-parent"]
        command += ["--scratch", str(self.directory)]
        self._nodes[endpoint] = self._child(f"node{number}", command)

    def _threads(self) -> int:
        """Kernel threads of one node: its share of the cores."""
        return self._settings.node_threads or max(1, (os.cpu_count() or 1) // self._settings.num_nodes)

    def _child(self, name: str, command: list[str]) -> Child:
        return Child(name, command, self.directory / f"{name}.log", self._environment, self._exited)

    def _warm_kernels(self) -> None:
        """Compile the kernels, if this machine has none that fit. Nodes start meanwhile: they need none until they have a table."""
        from sparkps.kernels import compiled

        if self._settings.kernel_cache_dir:
            compiled.use_cache_dir(self._settings.kernel_cache_dir)
        if compiled.is_warm():
            return
        log.warning(
            "sparkps compiles its kernels for this machine, once: about half a minute. They are kept in %s.",
            compiled.cache_dir(),
        )
        began = time.monotonic()
        child = Child("kernels", [sys.executable, "-c", _WARM], self.directory / "kernels.log", self._environment)
        try:
            if not child.exited.wait(COMPILE_LIMIT) or child.status != 0:
                raise TierError(
                    f"Compiling the kernels must succeed within {COMPILE_LIMIT:g} s. It has not: {child.ending()}"
                )
        finally:
            end([child], 0.0)
        log.warning("sparkps has compiled its kernels in %.0f s.", time.monotonic() - began)

    def _wait_ready(self) -> None:
        """Wait for every node; `startTimeout` runs from here."""
        deadline, pause = time.monotonic() + self._settings.start_timeout, threading.Event()
        report: dict[str, object] = {}
        while time.monotonic() < deadline:
            self._check_children()
            with contextlib.suppress(TierError):  # nobody listens yet, or not in time
                report = self.control.request(TierStatus(0, fresh=False), min(1.0, self._settings.start_timeout)).report
            if report.get("state") == "ready":
                return
            pause.wait(LOOK_EVERY)
        limit, nodes = self._settings.start_timeout, report.get("nodes")
        joined = len(nodes) if isinstance(nodes, list) else 0
        logs = "\n".join(child.ending() for child in self._nodes.values())
        raise DeadlineExceeded(
            f"The tier must be ready within {limit:g} s (`{PREFIX}startTimeout`)."
            f" {joined} of {self._settings.num_nodes} nodes have joined.\n{logs}"
        )

    def _check_children(self) -> None:
        for child in (self._coordinator, *self._nodes.values()):
            if child is not None and child.exited.is_set():
                raise TierError(f"The processes of the tier must stay alive while it starts. {child.ending()}")

    # ---- end -----------------------------------------------------------------------------------------------------------

    def ended(self) -> SparkPSError | None:
        """Why nobody can ask the coordinator anything any more: how its process ended; None while it runs."""
        child = self._coordinator
        if child is None or not child.exited.is_set():
            return None
        return NodeUnreachable(
            f"The coordinator of the tier must be running. It is not: {child.fate()}. Tables can still be read and written, and"
            " worker groups that run go on to their end; nothing new can be created, started or asked. Save what you need, stop this"
            " PSContext (`PSContext.active().stop()`), and make a new one.",
            endpoint=self.address.coordinator,
        )

    def _exited(self, child: Child) -> None:
        """A child has exited: if nobody told it to, the coordinator learns of it at once. The child's own thread."""
        if self._stopping.is_set():
            return
        log.error("%s", child.ending())
        endpoint = next((e for e, node in self._nodes.items() if node is child), None)
        if endpoint is not None and self.ended() is None:
            with contextlib.suppress(SparkPSError):
                self.control.request(NodeGone(0, endpoint, child.fate()))

    def stop(self) -> None:
        """End all processes and remove their directory; does nothing the second time."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        grace = self._settings.stop_timeout if self._tell_to_stop() else 0.0
        self.control.close()
        end([*self._nodes.values(), *([self._coordinator] if self._coordinator is not None else [])], grace)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _tell_to_stop(self) -> bool:
        """Whether the coordinator has told the nodes to exit; what cannot be told is ended by signals."""
        deadline = time.monotonic() + self._settings.stop_timeout
        while self._coordinator is not None and time.monotonic() < deadline:
            if self._coordinator.exited.is_set():
                return self._coordinator.status == 0
            with contextlib.suppress(SparkPSError):  # its answer may have been lost with its end: look again
                self.control.request(StopTier(0), STOP_ASK_AGAIN)
                return True
        return False


def _socket_directory() -> Path:
    """A new directory of this user alone, with a path short enough for Unix sockets."""
    for parent in (tempfile.gettempdir(), "/tmp"):
        if len(os.fsencode(parent)) + len("/sparkps-12345678") <= LONGEST_DIRECTORY:
            try:
                return Path(tempfile.mkdtemp(prefix="sparkps-", dir=parent))
            except OSError as error:
                reason = str(error)
                continue
        reason = f"{parent!r} is longer than {LONGEST_DIRECTORY} bytes"
    raise ConfigError(
        f"A temporary directory with a short path must be writable for the tier's sockets. {reason}: set TMPDIR."
    )


def launch(settings: Settings) -> LocalTier:
    """Start a tier of child processes, and wait until it is ready.

    Parameters
    ----------
    settings : Settings

    Raises
    ------
    TierError
        A process of the tier has exited, or the tier was not ready in time; the message has the end of the log.

    Examples
    --------
    >>> tier = launch(Settings(num_nodes=1))      # doctest: +SKIP
    >>> tier.stop()                               # doctest: +SKIP
    """
    return LocalTier(settings).start()


__all__ = ["LocalTier", "launch"]
