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
from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec

from sparkps.client.control import ControlClient
from sparkps.config import PREFIX, Settings, child_environment, is_text, with_client_kernels
from sparkps.driver_bridge.launchers import ANSWER_GRACE
from sparkps.driver_bridge.launchers.children import Child, end
from sparkps.driver_bridge.launchers.restarts import Restarts
from sparkps.errors import ConfigError, DeadlineExceeded, NodeUnreachable, SparkPSError, TierError
from sparkps.kernels import places
from sparkps.lifeline import JOURNAL
from sparkps.storage import why_unwritable
from sparkps.wire.messages.control import NodeGone, ScaleTier, StopTier, TierAddress, TierStatus

log = logging.getLogger(__name__)

#: Longest path of a Unix socket on Linux is 107 bytes; a name in the directory takes some of them.
LONGEST_DIRECTORY = 90
#: Bytes that the directory of sockets and logs must have room for.
ROOM_FOR_LOGS = 1 << 20
#: Seconds that compiling all kernels may take.
COMPILE_LIMIT = 900.0
#: Seconds that the coordinator has to answer that the tier has stopped, before it is asked again.
STOP_ASK_AGAIN = 2.5
#: Seconds that the coordinator has to say whether what was lost with a node is back.
STATE_WITHIN = 5.0
#: Seconds between two looks while waiting for the tier.
LOOK_EVERY = 0.02

#: Compiles all kernels; ends at once when the driver, the other end of its standard input, is gone.
_WARM = """
import os
from sparkps.lifeline import watch_stdin
watch_stdin(lambda: os._exit(1))
from sparkps.kernels.ahead import TIER, warm
warm(TIER)
"""


class LocalTier:
    """A tier of child processes; use `launch`.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings) -> None:
        places.use(settings.kernel_cache_dir)
        self._settings = with_client_kernels(settings, places.given() or places.found().kept_in)
        self.directory = _socket_directory()
        endpoint = f"ipc://{self.directory}/coordinator"
        self.address = TierAddress(secrets.token_hex(8), endpoint, settings.control_timeout)
        self.control = ControlClient(endpoint, settings.control_timeout)
        self._environment = child_environment(settings)
        self._stopping = threading.Event()
        self._coordinator: Child | None = None
        #: By endpoint; those that have ended, too, until the coordinator knows. Owner: `_lock`.
        self._nodes: dict[str, Child] = {}
        #: Number of the next node. Owner: `_lock`.
        self._next_node = 0
        #: Re-entrant, since a signal handler may stop what its own thread is starting.
        self._lock = threading.RLock()
        #: The tier was ready: from then on a process that ends is started again.
        self._is_started = False
        #: How often processes are started again.
        self.node_restarts, self.coordinator_restarts = Restarts(), Restarts()
        #: From which another coordinator goes on; clients wait for one as long as this is there.
        self._journal = self.directory / f"coordinator{JOURNAL}"
        #: The coordinator has ended, and is not started again.
        self._coordinator_is_gone = False
        #: Why data is gone with a node; None: it is not. A restore brings it back, which only the coordinator knows: see `lost`.
        self._data_lost: SparkPSError | None = None
        #: Held while the number of nodes is changed.
        self._scaling = threading.Lock()

    # ---- start ---------------------------------------------------------------------------------------------------------

    def start(self) -> LocalTier:
        """Start all processes, and wait until the tier is ready; stops what was started if it is not."""
        try:
            self._start_coordinator()
            for _ in range(self._settings.num_nodes):
                self._start_next_node()
            self._warm_kernels()
            self._wait_ready()
            self._is_started = True
        except BaseException:
            self.stop()
            raise
        return self

    def _start_coordinator(self) -> None:
        command = [sys.executable, "-m", "sparkps.driver_bridge.coordinator.server"]
        command += ["--bind", self.address.coordinator, "--tier", self.address.tier_id]
        command += ["--settings", msgspec.json.encode(self._settings).decode()]
        command += ["--parent", str(os.getpid()), "--watch-stdin", "--scratch", str(self.directory)]
        command += ["--journal", str(self._journal)]
        self._coordinator = self._child("coordinator", command)

    def _start_next_node(self) -> None:
        with self._lock:
            self._next_node += 1
            self._start_node(self._next_node - 1)

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
        """Compile the tier's kernels, if this machine has none that fit. Nodes start meanwhile: they need none until they have a table."""
        from sparkps.kernels import ahead

        if ahead.is_warm(ahead.TIER):
            return
        found = places.found()
        if found.kept_in is None:
            _no_place_for_kernels(found)
            return
        log.warning(
            "sparkps compiles its kernels for this machine, once: up to a minute. They are kept in %r%s.",
            str(found.kept_in),
            f" ({found.why_not})" if found.refused else "",
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
        if not ahead.is_warm(ahead.TIER):
            log.warning("Not all of them could be kept: processes compile them again. %s", child.last_lines())

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
        """Why nobody can ask the coordinator anything any more: how its process ended; None while it runs, or is started again."""
        if self._stopping.is_set():
            return TierError("The PSContext must be running. It was stopped, and its tables are gone: make a new one.")
        child = self._coordinator
        if child is None or not child.exited.is_set() or not self._coordinator_is_gone:
            return None
        return NodeUnreachable(
            f"The coordinator of the tier must be running. It is not: {child.fate()}. Threads and workers that have used"
            " the tier before can still read and write its tables, and worker groups that run go on to their end; nothing new can be"
            " created, started or asked. Save what you need, stop this PSContext, and make a new one.",
            endpoint=self.address.coordinator,
        )

    def lost(self) -> SparkPSError | None:
        """See `RunningTier.lost`."""
        gone = {endpoint: child for endpoint, child in list(self._nodes.items()) if child.exited.is_set()}
        if gone and self._settings.replication == 1 and self._data_lost is None:
            fate = next(iter(gone.values())).fate()
            self._data_lost = TierError(f"The nodes of the tier must be running. One is not: {fate}.")
        if self._data_lost is not None and self.ended() is None and self._is_whole_again(gone):
            self._data_lost = None
        return self.ended() or self._data_lost

    def _is_whole_again(self, gone: Collection[str]) -> bool:
        """Whether the coordinator, which knows of all nodes that have exited, has all buckets: a checkpoint was restored."""
        try:
            report = self.control.request(TierStatus(0, fresh=False), STATE_WITHIN).report
        except SparkPSError:
            return False
        up = {node["endpoint"] for node in report["nodes"] if node["state"] == "up"}
        return report["state"] == "ready" and up.isdisjoint(gone)

    def _exited(self, child: Child) -> None:
        """A child has exited: if nobody told it to, the coordinator learns of it at once. The child's own thread."""
        if self._stopping.is_set():
            return
        if child is self._coordinator:
            log.error("%s", child.ending())
            self._after_coordinator(child)
            return
        endpoint = next((e for e, node in list(self._nodes.items()) if node is child), None)
        if endpoint is not None and self.ended() is None:
            with contextlib.suppress(SparkPSError):
                self.control.request(NodeGone(0, endpoint, child.fate()))
                self._after_node(child, endpoint, self.control.request(TierStatus(0, fresh=False)).report)

    def _after_coordinator(self, child: Child) -> None:
        """Another process goes on from the journal, at the same address; if none does, whoever waits for it is told so at once."""
        child.hang_up()
        with self._lock:
            if self._stopping.is_set():
                return
            if self._is_started and self._journal.exists() and self.coordinator_restarts.take(time.monotonic()):
                with contextlib.suppress(SparkPSError):
                    self._start_coordinator()
                    log.warning("the coordinator is started again; training goes on meanwhile")
                    return
            self._coordinator_is_gone = True
            with contextlib.suppress(OSError):
                self._journal.unlink(missing_ok=True)
        for node in list(self._nodes.values()):
            if node.exited.is_set():
                self._data_lost = self._data_lost or TierError(f"The nodes of the tier must be running. One is not: {node.fate()}.")

    def _after_node(self, child: Child, endpoint: str, report: dict[str, Any]) -> None:
        """What follows when the coordinator knows that a node has exited: another one takes its place, unless it was told to go."""
        child.hang_up()
        with self._lock:
            self._nodes.pop(endpoint, None)
        known = next((node for node in report["nodes"] if node["endpoint"] == endpoint), None)
        name = child.name if known is None else f"node {known['id']}"
        if known is not None and known["state"] == "left":
            log.info("%s has left the tier", name)
            return
        is_led = self._settings.replication > 1 and report["state"] != "degraded"
        log.error("%s", child.ending(name, "Other nodes lead what it led." if is_led else ""))
        if report["state"] == "degraded":
            self._data_lost = TierError(f"The nodes of the tier must be running. One is not: {child.fate()}.")
        with self._lock:
            if self._is_started and not self._stopping.is_set():
                self._start_missing(report, is_restart=True)

    def _start_missing(self, report: dict[str, Any], is_restart: bool) -> None:
        """Start as many nodes as lack, by the coordinator's report."""
        # processes of those that are gone may still be about to end
        draining = set(report["draining"])
        going = {node["endpoint"] for node in report["nodes"] if node["state"] != "up" or node["id"] in draining}
        staying = sum(not child.exited.is_set() for endpoint, child in self._nodes.items() if endpoint not in going)
        for _ in range(report["num_nodes"] - staying):
            if is_restart and not self.node_restarts.take(time.monotonic()):
                log.warning(
                    "a node that has ended is not started again: %d were within %g s. The tier goes on with those that are left;"
                    " `ps.scale` starts others.",
                    self.node_restarts.most,
                    self.node_restarts.within,
                )
                return
            self._start_next_node()

    # ---- more and fewer nodes ------------------------------------------------------------------------------------------

    def scale(self, num_nodes: int, seconds: float) -> None:
        """See `RunningTier.scale`."""
        if not self._scaling.acquire(blocking=False):
            raise TierError("Only one change of the number of nodes may be under way. Another one is: wait until it is done.")
        try:
            with self.control.ask(ScaleTier(0, num_nodes, seconds), seconds + ANSWER_GRACE) as inquiry:
                is_begun = False
                while inquiry.answer() is None:
                    is_begun = is_begun or self._begin_scaling(num_nodes)
                    if is_begun:
                        inquiry.wait()
        finally:
            self._scaling.release()

    def _begin_scaling(self, num_nodes: int) -> bool:
        """Start the nodes that lack, once the coordinator has said that there shall be so many; whether it has."""
        report = self.control.request(TierStatus(0, fresh=False)).report
        if report["num_nodes"] != num_nodes or report["scaling"] is None:
            threading.Event().wait(LOOK_EVERY)
            return False
        with self._lock:
            self._start_missing(report, is_restart=False)
        return True

    def stop(self) -> None:
        """End all processes and remove their directory; does nothing the second time."""
        if self._stopping.is_set():
            return
        with self._lock:  # whoever is starting a node has done so then
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


def _no_place_for_kernels(found: places.Places) -> None:
    """Compiled kernels cannot be kept: an error where a directory was asked for, a warning where none of the usual ones will do."""
    if places.given() is not None:
        raise ConfigError(
            f"`{PREFIX}kernelCacheDir` (or SPARKPS_KERNEL_CACHE_DIR) must be a directory that this user can write, or one that holds"
            f" all compiled kernels. Got {found.why_not}. Set it to another one, or to none: then kernels are kept in the user's cache"
            " directory or the temporary one.",
            key=PREFIX + "kernelCacheDir",
        )
    log.warning(
        "sparkps cannot keep compiled kernels: every process compiles those it needs, up to a minute in all, at each start. %s. Set"
        " `%skernelCacheDir` to a directory that can be written.",
        found.why_not,
        PREFIX,
    )


def _socket_directory() -> Path:
    """A new directory of this user alone for sockets and logs, with a path that Unix sockets and messages take."""
    refused: list[str] = []
    for parent in _temporary_directories():
        why = _unfit_for_sockets(parent)
        if not why:
            directory = Path(tempfile.mkdtemp(prefix="sparkps-", dir=parent))
            if refused:
                log.warning("sockets and logs of the tier are in %s: %s", directory, "; ".join(refused))
            return directory
        refused.append(f"{parent!r} will not do, {why}")
    raise ConfigError(
        f"The tier must have a temporary directory with a short path, and room for {ROOM_FOR_LOGS} bytes of sockets and logs."
        f" Got none: {'; '.join(refused)}. Set TMPDIR to one, or free space there."
    )


def _temporary_directories() -> list[str]:
    """The system's temporary directory, and the one that every system has."""
    named = "/tmp"
    with contextlib.suppress(OSError):  # nothing can be written in any directory that it knows
        named = tempfile.gettempdir()
    return list(dict.fromkeys([named, "/tmp"]))


def _unfit_for_sockets(parent: str) -> str:
    """Why sockets and logs cannot be in a directory; empty if they can."""
    if not is_text(parent):
        return "its name is not UTF-8, in which addresses travel"
    if len(os.fsencode(parent)) + len("/sparkps-12345678") > LONGEST_DIRECTORY:
        return f"its path is too long for sockets (longer than {LONGEST_DIRECTORY} bytes)"
    return why_unwritable(parent, ROOM_FOR_LOGS)


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
