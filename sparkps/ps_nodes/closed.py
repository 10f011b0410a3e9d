"""Whether a node serves rows: not while a checkpoint is restored, nor after one that was not restored to its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sparkps.errors import ShardLost
from sparkps.wire.messages import data as m


@dataclass(frozen=True)
class Serving:
    """What a placement says of requests that are made by it."""

    #: A checkpoint is being restored: they are to be made again.
    is_restoring: bool = False
    #: Why there is nothing to be read or written; empty: there is.
    torn: str = ""

    @property
    def is_open(self) -> bool:
        """Whether requests are carried out."""
        return not self.is_restoring and not self.torn

    def refusal(self, seq: int, message: Any) -> m.WrongEpoch:
        """The answer to a request that was made by this placement, where it is not open.

        Raises
        ------
        ShardLost
            To make it again is of no use.
        """
        if self.torn:
            raise ShardLost(
                f"Every bucket must hold what was written last. {self.torn}. Restore a checkpoint (`PSContext.restore`), or start the"
                " tier again and train anew."
            )
        return m.WrongEpoch(seq, message.epoch - 1, [])  # as a node says that lags behind the placement


__all__ = ["Serving"]
