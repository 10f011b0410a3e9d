"""What goes on beside a tier that is kept for others: its processes' log comes here, and nodes in Spark have delegation tokens."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sparkps.driver_bridge.launchers.launched import LaunchedTier
from sparkps.driver_bridge.log_fetching import LogFetching

if TYPE_CHECKING:
    from sparkps.driver_bridge.launchers.executors import ExecutorsTier


@contextlib.contextmanager
def helped(tier: LaunchedTier, *, is_in_spark: bool, checkpoint_dir: str | None = None) -> Iterator[None]:
    """Do for a tier that runs what its driver does for one of an application's own, until the end of the block.

    Parameters
    ----------
    tier : LaunchedTier
    is_in_spark : bool
        Its nodes are tasks of Spark (`ExecutorsTier`), whose session can have delegation tokens. Elsewhere nodes use what they find where
        they run (``HADOOP_TOKEN_FILE_LOCATION``).
    checkpoint_dir : str, optional
        Nodes will open it: they have a token for it, where it needs one, before the block begins.
    """
    with contextlib.ExitStack() as ends:
        if tier.settings.log_level:
            fetching = LogFetching(tier.control.request, tier.settings.log_level)
            ends.callback(fetching.begin().end)
        if is_in_spark:
            ends.enter_context(_with_tokens(tier, checkpoint_dir))  # type: ignore[arg-type]
        yield


@contextlib.contextmanager
def _with_tokens(tier: ExecutorsTier, checkpoint_dir: str | None) -> Iterator[None]:
    from sparkps.driver_bridge.node_tokens import NodeTokens
    from sparkps.driver_bridge.spark.tokens import known_filesystems

    tokens = NodeTokens.of(tier.spark, tier.control.request).begin(lambda: known_filesystems(tier.spark))
    try:
        if checkpoint_dir is not None:
            tokens.see_to(checkpoint_dir)
        yield
    finally:
        tokens.end()
        tokens.cancel()


__all__ = ["helped"]
