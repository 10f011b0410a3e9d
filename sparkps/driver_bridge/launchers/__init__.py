"""Launchers: how the coordinator and the nodes of a tier come to run.

A launcher is a module with one function ``launch(settings) -> RunningTier``, and one line in `launcher`.
"""

from __future__ import annotations

from typing import Protocol

from sparkps.config import LAUNCHES, PREFIX, Settings
from sparkps.driver_bridge.spark.master import Master
from sparkps.errors import ConfigError, SparkPSError
from sparkps.wire.messages.control import TierAddress


class RunningTier(Protocol):
    """A tier that has been started, and can be stopped."""

    #: What table handles carry.
    address: TierAddress

    def ended(self) -> SparkPSError | None:
        """Why nobody can ask the coordinator anything any more; None: it runs, as far as is known. Never waits."""

    def lost(self) -> SparkPSError | None:
        """Why the tier cannot be used any more, or not all of it: a process of it has ended; None as long as none has. Never waits."""

    def stop(self) -> None:
        """End all processes of the tier; does nothing the second time."""


def launch(settings: Settings, master: str) -> RunningTier:
    """Start a tier, and wait until it is ready.

    Parameters
    ----------
    settings : Settings
    master : str
        Spark's master, which "auto" goes by.

    Raises
    ------
    ConfigError
        A launch that does not exist, or that does not fit the master.
    TierError
        The tier is not ready in time.
    """
    _check(settings.launch, master)
    from sparkps.driver_bridge.launchers import local

    return local.launch(settings)


def _check(asked: str, master: str) -> None:
    if asked not in LAUNCHES:
        exist = ", ".join(repr(name) for name in LAUNCHES)
        raise ConfigError(
            f"`launch` (`{PREFIX}launch`) must be one of the launches that exist now: {exist}. Got {asked!r} instead.",
            launch=asked,
        )
    if asked == "auto" and not Master(master).on_this_host:
        raise ConfigError(
            f"`launch='auto'` needs a local master, `local[*]`: its nodes are processes beside the driver. Got master {master!r}."
            " Where all executors run on the driver's host, say `launch='local'`.",
            master=master,
        )


__all__ = ["RunningTier", "launch"]
