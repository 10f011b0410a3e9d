"""``launch="local"``: coordinator and nodes are child processes of the driver, connected through ipc sockets.

The sockets lie in the tier's directory, each beside the log of its process. Right where all Spark tasks run on the driver's host.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Collection
from typing import Any

from sparkps.config import Settings
from sparkps.driver_bridge.launchers.children import Child, node_options
from sparkps.driver_bridge.launchers.launched import STATE_WITHIN, LaunchedTier
from sparkps.driver_bridge.profiles import Held
from sparkps.errors import SparkPSError, TierError
from sparkps.secret import TierSecret
from sparkps.wire.messages.control import NodeGone, TierStatus

log = logging.getLogger(__name__)


class LocalTier(LaunchedTier):
    """A tier of child processes; use `launch`.

    Parameters
    ----------
    settings : Settings
    secret : TierSecret, optional
        See `LaunchedTier`.
    """

    def __init__(self, settings: Settings, secret: TierSecret | None = None) -> None:
        super().__init__(settings, secret)
        #: By their endpoints, or as `_name_of` says; those that have ended, too, until the coordinator knows. Owner: `_lock`.
        self._nodes: dict[str, Child] = {}
        #: Why data is gone with a node; None: it is not. A restore brings it back, which only the coordinator knows: see `lost`.
        self._data_lost: SparkPSError | None = None

    @property
    def held_by_nodes(self) -> Held:
        """See `RunningTier.held_by_nodes`: nodes are no tasks."""
        return Held()

    def _advertised(self) -> str:
        return f"ipc://{self.directory}/coordinator"

    # ---- start ---------------------------------------------------------------------------------------------------------

    def _start_node(self, number: int) -> None:
        endpoint = f"ipc://{self.directory}/node{number}"
        command = [sys.executable, "-m", "sparkps.ps_nodes", "--coordinator", self.address.coordinator]
        command += ["--bind", endpoint, "--threads", str(self._threads()), "--watch-stdin", "--watch-parent"]
        command += ["--scratch", str(self.directory), *node_options(self._settings, self.secret)]
        self._nodes[endpoint] = self._child(f"node{number}", command)

    def _name_of(self, node: dict[str, Any]) -> str:
        """By which name a node of the coordinator's report is known here."""
        return str(node["endpoint"])

    def _gone(self, name: str, reason: str) -> NodeGone:
        """What tells the coordinator that a node has exited."""
        return NodeGone(0, name, reason)

    def _threads(self) -> int:
        """Kernel threads of one node: its share of the cores."""
        return self._settings.node_threads or max(1, (os.cpu_count() or 1) // self._settings.num_nodes)

    def _check_nodes(self) -> None:
        self._check_alive(list(self._nodes.values()))

    def _why_late(self) -> str:
        return "\n".join(child.ending() for child in self._nodes.values())

    def _number_staying(self, going: set[int], report: dict[str, Any]) -> int:
        # processes of those that are gone may still be about to end
        names = {self._name_of(node) for node in report["nodes"] if node["id"] in going}
        return sum(not child.exited.is_set() for name, child in self._nodes.items() if name not in names)

    # ---- end -----------------------------------------------------------------------------------------------------------

    def _lost_data(self) -> SparkPSError | None:
        gone = {name: child for name, child in list(self._nodes.items()) if child.exited.is_set()}
        if gone and self._settings.replication == 1 and self._data_lost is None:
            fate = next(iter(gone.values())).fate()
            self._data_lost = TierError(f"The nodes of the tier must be running. One is not: {fate}.")
        if self._data_lost is not None and self.ended() is None and self._is_whole_again(gone):
            self._data_lost = None
        return self._data_lost

    def _is_whole_again(self, gone: Collection[str]) -> bool:
        """Whether the coordinator, which knows of all nodes that have exited, has all buckets: a checkpoint was restored."""
        try:
            report = self.control.request(TierStatus(0, fresh=False), STATE_WITHIN).report
        except SparkPSError:
            return False
        up = {self._name_of(node) for node in report["nodes"] if node["state"] == "up"}
        return report["state"] == "ready" and up.isdisjoint(gone)

    def _exited(self, child: Child) -> None:
        """If nobody told a node to exit, the coordinator learns of it at once."""
        super()._exited(child)
        name = next((known for known, node in list(self._nodes.items()) if node is child), None)
        if name is not None and not self._stopping.is_set() and self.ended() is None:
            with contextlib.suppress(SparkPSError):
                self.control.request(self._gone(name, child.fate()))
                self._after_node(child, name, self.control.request(TierStatus(0, fresh=False)).report)

    def _coordinator_lost(self) -> None:
        for node in list(self._nodes.values()):
            if node.exited.is_set():
                self._data_lost = self._data_lost or TierError(f"The nodes of the tier must be running. One is not: {node.fate()}.")

    def _after_node(self, child: Child, known_as: str, report: dict[str, Any]) -> None:
        """What follows when the coordinator knows that a node has exited: another one takes its place, unless it was told to go."""
        child.hang_up()
        with self._lock:
            if self._is_started:  # before, whoever waits for the nodes is to find why one has ended
                self._nodes.pop(known_as, None)
        known = next((node for node in report["nodes"] if self._name_of(node) == known_as), None)
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

    def _end_nodes(self, grace: float) -> None:
        self._end_children(list(self._nodes.values()), grace)


def launch(settings: Settings, spark: Any = None) -> LocalTier:
    """Start a tier of child processes, and wait until it is ready.

    Parameters
    ----------
    settings : Settings
    spark : SparkSession, optional
        Not needed: nodes are no Spark tasks.

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
