"""What the tiers of all launchers have in common: a coordinator beside the driver, started again where it ends; start, scaling and end.

The coordinator's journal and log lie in a directory that only this user can enter; the driver removes it with the tier, or, if the
driver is gone, the processes that it leaves (see `lifeline`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import msgspec

from sparkps.client.control import ControlClient
from sparkps.config import PREFIX, Settings
from sparkps.driver_bridge.launchers import ANSWER_GRACE
from sparkps.driver_bridge.launchers.children import Child, end, secret_option
from sparkps.driver_bridge.launchers.restarts import Restarts
from sparkps.driver_bridge.launchers.scratch import socket_directory
from sparkps.driver_bridge.launchers.warming import warm_kernels
from sparkps.environment import child_environment, with_client_kernels
from sparkps.errors import DeadlineExceeded, NodeUnreachable, SparkPSError, TierError
from sparkps.kernels import places
from sparkps.lifeline import JOURNAL
from sparkps.secret import TierSecret, keep
from sparkps.secret_files import for_stdin
from sparkps.wire.messages.control import ScaleTier, StopTier, TierAddress, TierStatus

log = logging.getLogger(__name__)

#: Seconds that the coordinator has to answer that the tier has stopped, before it is asked again.
STOP_ASK_AGAIN = 2.5
#: Seconds that the coordinator has to say whether what was lost with a node is back.
STATE_WITHIN = 5.0
#: Seconds between two looks while waiting for the tier.
LOOK_EVERY = 0.02


class LaunchedTier(ABC):
    """A tier whose coordinator is a child process of the driver; a launcher says where its nodes run.

    Parameters
    ----------
    settings : Settings
    secret : TierSecret, optional
        Of the tier, where there is one already; by default a new one, if the tier listens at TCP endpoints.
    """

    #: It has the tier for itself.
    application = ""

    def __init__(self, settings: Settings, secret: TierSecret | None = None) -> None:
        places.use(settings.kernel_cache_dir)
        self._settings = with_client_kernels(settings, places.given() or places.found().kept_in)
        self.directory = socket_directory()
        #: None: what listens does so in a directory of this user alone.
        self.secret = secret or (TierSecret.new() if self._advertised().startswith("tcp://") else None)
        self.address = TierAddress(secrets.token_hex(8), self._advertised(), settings.control_timeout, self.secret is not None)
        if self.secret is not None:
            keep(self.address.tier_id, self.secret)
        self.control = ControlClient(self.address.coordinator, settings.control_timeout, self.secret)
        self._environment = child_environment(settings)
        self._stopping = threading.Event()
        self._coordinator: Child | None = None
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
        #: Held while the number of nodes is changed.
        self._scaling = threading.Lock()

    @property
    def settings(self) -> Settings:
        """See `RunningTier.settings`."""
        return self._settings

    # ---- what a launcher says ------------------------------------------------------------------------------------------

    @abstractmethod
    def _advertised(self) -> str:
        """Endpoint of the coordinator, as all processes of the tier and all clients reach it."""

    def _bound(self) -> str:
        """Endpoint at which the coordinator listens, where that is another name of it."""
        return self.address.coordinator

    @abstractmethod
    def _start_node(self, number: int) -> None:
        """Start one more node. `_lock` is held."""

    @abstractmethod
    def _number_staying(self, going: set[int], report: dict[str, Any]) -> int:
        """How many nodes are running or about to, without those that are `going` by their ids. `_lock` is held."""

    @abstractmethod
    def _check_nodes(self) -> None:
        """While the tier starts: raise why it cannot."""

    @abstractmethod
    def _why_late(self) -> str:
        """What is known of nodes that have not joined in time."""

    @abstractmethod
    def _lost_data(self) -> SparkPSError | None:
        """Why data is gone with a node, and has not been restored."""

    @abstractmethod
    def _coordinator_lost(self) -> None:
        """The coordinator has ended, and is not started again. `_lock` is not held."""

    @abstractmethod
    def _end_nodes(self, grace: float) -> None:
        """End what is left of the nodes, and then the coordinator, which have so many seconds to exit by themselves."""

    # ---- start ---------------------------------------------------------------------------------------------------------

    def start(self) -> Self:
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
        command += ["--bind", self._bound(), "--tier", self.address.tier_id]
        command += ["--settings", msgspec.json.encode(self._settings).decode()]
        command += ["--parent", str(os.getpid()), "--watch-stdin", "--scratch", str(self.directory)]
        command += ["--journal", str(self._journal), *secret_option(self.secret)]
        self._coordinator = self._child("coordinator", command)

    def _start_next_node(self) -> None:
        with self._lock:
            self._next_node += 1
            self._start_node(self._next_node - 1)

    def _child(self, name: str, command: list[str]) -> Child:
        return Child(name, command, self.directory / f"{name}.log", self._environment, self._exited, for_stdin(self.secret))

    def _warm_kernels(self) -> None:
        """Compile the kernels of this machine. Nodes start meanwhile: they need none until they have a table."""
        warm_kernels(self.directory, self._environment)

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
        raise DeadlineExceeded(
            f"The tier must be ready within {limit:g} s (`{PREFIX}startTimeout`)."
            f" {joined} of {self._settings.num_nodes} nodes have joined.\n{self._why_late()}"
        )

    def _check_children(self) -> None:
        self._check_alive([self._coordinator] if self._coordinator is not None else [])
        self._check_nodes()

    @staticmethod
    def _check_alive(children: Sequence[Child]) -> None:
        for child in children:
            if child.exited.is_set():
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
        return self.ended() or self._lost_data()

    def _exited(self, child: Child) -> None:
        """A child has exited. The child's own thread."""
        if not self._stopping.is_set() and child is self._coordinator:
            log.error("%s", child.ending())
            self._after_coordinator(child)

    def start_missing(self, report: dict[str, Any]) -> None:
        """Start nodes that lack, where somebody else has asked the coordinator to have more; `report` is its status."""
        if report["scaling"] is None or not self._scaling.acquire(blocking=False):
            return  # nobody asks, or `scale` does it
        try:
            with self._lock:
                if self._is_started and not self._stopping.is_set():
                    self._start_missing(report, is_restart=False)
        finally:
            self._scaling.release()

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
        self._coordinator_lost()

    def _start_missing(self, report: dict[str, Any], is_restart: bool) -> None:
        """Start as many nodes as lack, by the coordinator's report."""
        # processes of those that are gone may still be about to end
        going = {node["id"] for node in report["nodes"] if node["state"] != "up"} | set(report["draining"])
        for _ in range(report["num_nodes"] - self._number_staying(going, report)):
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
        try:
            grace = self._settings.stop_timeout if self._tell_to_stop() else 0.0
            self.control.close()
            self._end_nodes(grace)
        except BaseException:  # an interrupt: nothing may be left all the same
            self._end_nodes(0.0)
            raise
        finally:
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

    def _end_children(self, children: Sequence[Child], grace: float) -> None:
        """End these and the coordinator, side by side."""
        end([*children, *([self._coordinator] if self._coordinator is not None else [])], grace)


__all__ = ["LOOK_EVERY", "STATE_WITHIN", "LaunchedTier"]
