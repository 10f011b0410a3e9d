"""Launchers: how the coordinator and the nodes of a tier come to run.

A launcher is a module with one function ``launch(settings, spark) -> RunningTier``, and one line in `LAUNCHERS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from sparkps.config import PREFIX, Settings
from sparkps.driver_bridge.profiles import Held
from sparkps.driver_bridge.spark.master import Master
from sparkps.errors import ConfigError, SparkPSError
from sparkps.wire.messages.control import TierAddress

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

#: Name, as `spark.sparkps.launch` has it -> module. Only the one that is chosen is imported: others may need what is not installed.
LAUNCHERS: dict[str, str] = {
    "local": "sparkps.driver_bridge.launchers.local",
    "executors": "sparkps.driver_bridge.launchers.executors",
    "attach": "sparkps.driver_bridge.launchers.attach",
}

#: The launcher that fits the master.
AUTO = "auto"

#: Seconds by which an answer may come later than the deadline that the coordinator itself keeps.
ANSWER_GRACE = 10.0


class RunningTier(Protocol):
    """A tier that has been started, or found, and can be stopped, or left."""

    #: What table handles carry.
    address: TierAddress
    #: Where several applications share the tier, names this one; else empty.
    application: str

    @property
    def settings(self) -> Settings:
        """Of the tier: as it was asked for, or as it is."""

    @property
    def held_by_nodes(self) -> Held:
        """Cores of executors of Spark's default profile that the nodes hold."""

    def ended(self) -> SparkPSError | None:
        """Why nobody can ask the coordinator anything any more; None: it runs, as far as is known. Never waits."""

    def lost(self) -> SparkPSError | None:
        """Why the tier cannot be used any more, or not all of it: buckets or the coordinator are lost. None: all is there.

        Waits only where something was lost: some seconds at most, for the coordinator to say whether a restore has brought it back.
        """

    def scale(self, num_nodes: int, seconds: float) -> None:
        """Have so many nodes, and wait until every bucket is where it shall be; see `PSContext.scale`."""

    def stop(self) -> None:
        """End all processes of the tier, and this process's calls to it; does nothing the second time."""


def launch(settings: Settings, spark: SparkSession) -> RunningTier:
    """Start a tier, and wait until it is ready.

    Parameters
    ----------
    settings : Settings
    spark : SparkSession
        "auto" goes by its master.

    Raises
    ------
    ConfigError
        A launcher that does not exist, or that does not fit the master.
    TierError
        The tier is not ready in time.
    """
    module = importlib.import_module(LAUNCHERS[choose(settings.launch, spark.sparkContext.master or "", settings.attach)])
    start: Callable[[Settings, SparkSession], RunningTier] = module.launch
    return start(settings, spark)


def choose(asked: str, master: str, url: str = "") -> str:
    """Name of the launcher that `asked` means: itself, or the one that fits the URL of a running tier, if there is one, or the master.

    Raises
    ------
    ConfigError
        There is none of that name.

    Examples
    --------
    >>> [choose("auto", master) for master in ("local[2]", "yarn", "spark://here:7077")]
    ['local', 'executors', 'executors']
    >>> choose("local", "spark://here:7077")
    'local'
    >>> choose("auto", "yarn", "sparkps://gateway:7077")
    'attach'
    """
    if asked == AUTO and url:
        return "attach"
    if asked == AUTO:
        return "local" if Master(master).on_this_host else "executors"
    if asked not in LAUNCHERS:
        exist = ", ".join(repr(name) for name in (AUTO, *LAUNCHERS))
        raise ConfigError(
            f"`launch` (`{PREFIX}launch`) must be one of the launchers that exist now: {exist}. Got {asked!r} instead.",
            launch=asked,
            key=PREFIX + "launch",
        )
    return asked


__all__ = ["ANSWER_GRACE", "AUTO", "LAUNCHERS", "RunningTier", "choose", "launch"]
