"""Whether a node serves rows: not while a checkpoint is restored, nor after one that was not restored to its end.

Nor those of tables that no checkpoint had, in buckets that were lost: there they would read as if nobody had ever written them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sparkps.errors import ShardLost
from sparkps.specs import TableSpec
from sparkps.wire.buckets import buckets_in
from sparkps.wire.messages import data as m


@dataclass(frozen=True)
class Serving:
    """What a placement says of requests that are made by it."""

    #: A checkpoint is being restored: they are to be made again.
    is_restoring: bool = False
    #: Why there is nothing to be read or written; empty: there is.
    torn: str = ""
    #: By table, the buckets of which nobody has its rows, as bits.
    missing: Mapping[int, int] = field(default_factory=dict)

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

    def check(self, wanted: Iterable[tuple[TableSpec, int]]) -> None:
        """See that rows of tables are there, in sets of buckets.

        Raises
        ------
        ShardLost
            They were lost.
        """
        for spec, buckets in wanted:
            lost = self.missing.get(spec.table, 0)
            if lost & buckets:
                raise ShardLost(
                    f"Table {spec.name!r} must hold what was written last. Its rows in {lost.bit_count()} buckets were lost with their"
                    " nodes, and the checkpoint that was restored since does not have the table. Drop it and make it anew, or restore a"
                    " checkpoint that has it (`PSContext.restore`).",
                    table=spec.name,
                    bucket=next(buckets_in(lost & buckets)),
                )


__all__ = ["Serving"]
