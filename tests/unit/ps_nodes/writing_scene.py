"""A lone node that writes checkpoints, and what comes of that."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sparkps.checkpoints.format import BucketRecord
from sparkps.checkpoints.loading import load
from sparkps.checkpoints.manifest import Manifest
from sparkps.checkpoints.parts import NodePart, cuts, part_of
from sparkps.checkpoints.plan import assemble
from sparkps.checkpoints.store import CheckpointStore
from sparkps.ps_nodes.checkpointing import writing
from sparkps.ps_nodes.tables.images import NodeImage
from sparkps.specs import GroupSpec, TableSpec
from sparkps.wire.hashing import buckets_of
from sparkps.wire.messages import control as c
from tests.unit.ps_nodes.lone_node import GROUP, TABLE, Client, LoneNode

BUCKET = int(buckets_of(np.array([7]))[0])


class Scene:
    """A node that writes checkpoints."""

    def __init__(self, folder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.node = LoneNode()
        self.state = self.node.service.state
        self.spec = self.node.table()
        self.store = CheckpointStore(str(folder))
        self._patch = monkeypatch
        self._groups: list[GroupSpec] = []

    def group(self, staleness: int, ranks: int = 1) -> list[Client]:
        self.node.group(ranks, staleness)
        self._groups.append(self.state.groups[GROUP].spec)
        return [Client.of_rank(self.node, rank) for rank in range(ranks)]

    def value(self) -> float:
        return self.node.values([7])[0]

    def part(
        self, meanwhile: Callable[[], None] = lambda: None, clocks: dict[str, int] | None = None, tables: list[TableSpec] | None = None,
        base: str = "",
    ) -> NodePart:  # fmt: skip
        """What the node has written; something happens before it copies its 100th bucket.

        Raises
        ------
        BaseException
            Why it has not.
        """
        copied, told, over, take, one = [0], list[Any](), threading.Event(), NodeImage.take, threading.RLock()

        def take_and_more(image: NodeImage, bucket: int, *what: Any, **options: Any) -> Any:
            copied[0] += 1
            if copied[0] == 100:
                with one:
                    self.state.io.take_over()
                    meanwhile()
            return take(image, bucket, *what, **options)

        def done(*what: Any) -> None:
            told.extend(what)
            over.set()

        self.id = self.store.new_id()
        message = c.WriteCheckpoint(
            1, self.store.url, self.id, [self.spec] if tables is None else tables, clocks or {}, self.state.epoch, base
        )
        with self._patch.context() as patch:
            patch.setattr(NodeImage, "take", take_and_more)
            writing.write(self.state, message, done)
            deadline = time.monotonic() + 30
            while not over.wait(0.01):
                with one:
                    self.state.io.take_over()
                    self.node.pool.run()
                    self.state.io.run_posted()
                assert time.monotonic() < deadline
        assert self.state.writing is None
        if told[0] is not None:
            raise told[0]
        assert copied[0] == 256
        return part_of(told[1]["part"])

    def publish(self, part: NodePart, base: Manifest | None = None) -> tuple[Manifest, list[BucketRecord]]:
        """Make it a checkpoint, and read that."""
        groups = cuts(self._groups, [part])
        manifest = assemble(
            [part.files], checkpoint=self.id, tier="tier", tables=[self.spec], groups=groups, time=0.0, seconds=0.0, base=base
        )
        self.store.publish(manifest)
        return manifest, sorted(load(self.store.url, manifest, range(256)), key=lambda record: record.bucket)


def value_in(records: list[BucketRecord]) -> list[float]:
    """Of key 7, if it is there."""
    record = records[BUCKET]
    assert record.indexes[1].tolist() in ([], [7])
    values: list[float] = record.tables[TABLE].planes[0].reshape(-1).tolist()
    return values


def push(rank: Client) -> None:
    """Adds 1 to key 7, and ticks; not answered before the pool runs."""
    rank.send(*rank.add([7]))
    rank.send(rank.tick())
