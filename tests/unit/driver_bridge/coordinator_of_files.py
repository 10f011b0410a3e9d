"""Stands for a coordinator and one node without tables: checkpoints are written to files, and restored by name only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sparkps.checkpoints.format import BucketRecord
from sparkps.checkpoints.parts import GroupPart, NodePart, encoded
from sparkps.checkpoints.plan import segment_names
from sparkps.checkpoints.writer import BucketWriter
from sparkps.specs import NUM_BUCKETS, GroupSpec, RankStart
from sparkps.wire.messages import control as c


class CoordinatorOfFiles:
    """As a `ControlClient`."""

    endpoint = "nowhere"

    def __init__(self) -> None:
        #: Worker groups that run, with the clock of each.
        self.running: dict[GroupSpec, int] = {}
        self.state = "ready"
        #: All requests.
        self.asked: list[Any] = []
        #: Called when nodes have written; may raise.
        self.when_written: Callable[[], None] = lambda: None
        #: Called before the end of a checkpoint is noted; may raise.
        self.when_taken: Callable[[], None] = lambda: None

    def request(self, message: Any, timeout: float | None = None) -> Any:
        """Answer at once."""
        self.asked.append(message)
        match message:
            case c.TakeCheckpoint():
                return self._written(message)
            case c.TierStatus():
                return c.TierReport(0, {"state": self.state, "groups": []})
            case c.CheckpointTaken():
                self.when_taken()
            case c.RestoreCheckpoint():
                self.state = "ready"
        return c.Accepted(0)

    @property
    def restored(self) -> list[str]:
        """Ids of the checkpoints that were restored."""
        return [message.checkpoint for message in self.asked if isinstance(message, c.RestoreCheckpoint)]

    def _written(self, message: c.TakeCheckpoint) -> c.CheckpointWritten:
        with BucketWriter(message.url, message.checkpoint, 0, []) as writer:
            for bucket in range(NUM_BUCKETS):
                writer.put(BucketRecord(bucket, {}, {}, {}, [np.arange(3)]), dict.fromkeys(segment_names([]), 0))
            files = writer.finish()
        self.when_written()
        groups = [
            GroupPart(spec.group, clock, [RankStart(clock, False, None)] * spec.num_ranks) for spec, clock in self.running.items()
        ]
        return c.CheckpointWritten(0, "tier", [], list(self.running), [encoded(NodePart(files, groups))])
