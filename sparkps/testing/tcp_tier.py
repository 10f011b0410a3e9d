"""A local tier that listens at TCP ports of loopback, with a secret: connections as between hosts, without any.

::

    from sparkps.testing import tcp_tier

    tcp_tier.enable()
    with PSContext(spark, launch="tcp") as ps:
        ...
"""

from __future__ import annotations

import socket
import sys
from typing import Any

import msgspec

from sparkps.client.control import ControlClient
from sparkps.config import Settings
from sparkps.driver_bridge.launchers import LAUNCHERS
from sparkps.driver_bridge.launchers.children import node_options
from sparkps.driver_bridge.launchers.local import LocalTier
from sparkps.secret import forget


def free_port() -> int:
    """A TCP port at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class TcpTier(LocalTier):
    """A tier of child processes at ports of loopback; use `launch`, or `PSContext(launch="tcp")` after `enable`.

    Parameters
    ----------
    settings : Settings
    is_secured : bool
        False: anybody may connect, and nothing is encrypted.
    """

    def __init__(self, settings: Settings, is_secured: bool = True) -> None:
        self._port = free_port()
        super().__init__(settings)
        if not is_secured:
            forget(self.address.tier_id)
            self.secret = None
            self.address = msgspec.structs.replace(self.address, is_secured=False)
            self.control = ControlClient(self.address.coordinator, settings.control_timeout)

    def _advertised(self) -> str:
        return f"tcp://127.0.0.1:{self._port}"

    def _start_node(self, number: int) -> None:
        endpoint = f"tcp://127.0.0.1:{free_port()}"
        command = [sys.executable, "-m", "sparkps.ps_nodes", "--coordinator", self.address.coordinator, "--bind", endpoint]
        command += ["--threads", str(self._threads()), "--watch-stdin", "--watch-parent", *node_options(self._settings, self.secret)]
        self._nodes[endpoint] = self._child(f"node{number}", command)


#: What `launch` starts.
_how = {"is_secured": True}


def enable(is_secured: bool = True) -> None:
    """Let `PSContext(launch="tcp")` start such tiers, in this process, from now on with keys or in the clear."""
    LAUNCHERS["tcp"] = __name__
    _how["is_secured"] = is_secured


def launch(settings: Settings, spark: Any = None) -> TcpTier:
    """Start a tier at TCP ports of loopback, and wait until it is ready.

    Parameters
    ----------
    settings : Settings
    spark : SparkSession, optional
        Not needed: nodes are no Spark tasks.
    """
    return TcpTier(settings, **_how).start()


__all__ = ["TcpTier", "enable", "free_port", "launch"]
