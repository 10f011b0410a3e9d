"""A node's part of a checkpoint: all buckets as they were at one moment, whatever happens while they are copied."""

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
from sparkps.checkpoints.parts import NodePart, cuts, part_of, times_of
from sparkps.checkpoints.plan import assemble
from sparkps.checkpoints.store import CheckpointStore
from sparkps.errors import CheckpointError, SparkPSError
from sparkps.ps_nodes.checkpointing import cuts as node_cuts
from sparkps.ps_nodes.checkpointing import writing
from sparkps.ps_nodes.tables.images import NodeImage
from sparkps.specs import UNBOUNDED, GroupSpec, TableSpec
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

        def take_and_more(image: NodeImage, bucket: int, *what: Any) -> Any:
            copied[0] += 1
            if copied[0] == 100:
                with one:
                    self.state.io.take_over()
                    meanwhile()
            return take(image, bucket, *what)

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
        assert self.state.copied_bytes == 0
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


@pytest.fixture
def scene(tmp_path, monkeypatch):
    return Scene(tmp_path, monkeypatch)


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


@pytest.mark.parametrize("staleness", [2, UNBOUNDED])
@pytest.mark.parametrize("ends", [True, False])
def test_ranks_without_a_common_clock_are_known_in_all_buckets_alike(scene: Scene, staleness: int, ends: bool) -> None:
    """A group that fails while buckets are copied had left its marks in the first ones only: it went on, and wrote twice in others."""
    (rank,) = scene.group(staleness)
    push(rank)
    scene.node.pool.run()

    def meanwhile() -> None:
        push(rank)
        if ends:
            scene.state.groups[GROUP].end(SparkPSError("struck"))

    manifest, records = scene.publish(scene.part(meanwhile))
    assert [cut.ranks[0].clock for cut in manifest.groups] == [0]
    assert [[(time.group, time.ticked) for time in times_of(record.logical_header)] for record in records] == [[(GROUP, [0])]] * 256
    assert value_in(records) == [1.0]


def test_a_group_that_comes_later_is_no_part_of_it(scene: Scene) -> None:
    part = scene.part(lambda: scene.node.group(1, 2))
    assert part.groups == []


def test_clocks_close_while_buckets_are_copied_as_they_were(scene: Scene) -> None:
    (rank,) = scene.group(0)
    push(rank)
    scene.node.pool.run()
    seen = []

    def meanwhile() -> None:
        for _ in range(3):
            push(rank)
            scene.node.pool.run()
        seen.append(scene.value())

    clocks = {str(group): clock for group, clock in node_cuts.hold(scene.state).clocks.items()}
    assert clocks == {str(GROUP): 0}
    manifest, records = scene.publish(scene.part(meanwhile, clocks))
    assert seen == [4.0]
    assert value_in(records) == [1.0]
    assert [(cut.clock, cut.ranks[0].clock) for cut in manifest.groups] == [(0, 0)]


def test_keys_that_come_while_buckets_are_copied_are_not_in_it(scene: Scene) -> None:
    session = Client(scene.node, 5)

    def meanwhile() -> None:
        session.send(*session.add([7]))
        scene.node.pool.run()

    _, records = scene.publish(scene.part(meanwhile))
    assert value_in(records) == []
    assert scene.value() == 1.0


def test_a_checkpoint_whose_clocks_have_gone_on_before_is_given_up(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    (rank,) = scene.group(0)
    push(rank)
    scene.node.pool.run()
    use = writing._Writing._use

    def gone_on(self: Any) -> Any:
        scene.node.time += node_cuts.REACH_LIMIT + 1
        node_cuts.look_around(scene.state)
        scene.node.pool.run()
        return use(self)

    clocks = {str(group): clock for group, clock in node_cuts.hold(scene.state).clocks.items()}
    with monkeypatch.context() as patch:
        patch.setattr(writing._Writing, "_use", gone_on)
        with pytest.raises(CheckpointError, match="given up waiting") as refused:
            scene.part(clocks=clocks)
    assert refused.value.attributes["again"]
    node_cuts.hold(scene.state)
    assert scene.part(clocks=clocks).groups[0].clock == 0


def test_a_placement_that_changes_meanwhile_ends_it(scene: Scene) -> None:
    def meanwhile() -> None:
        scene.state.epoch += 1

    with pytest.raises(CheckpointError, match="got another one") as refused:
        scene.part(meanwhile)
    assert refused.value.attributes["again"]


def test_a_table_that_was_dropped_ends_it_and_one_that_is_dropped_meanwhile_is_in_it(scene: Scene) -> None:
    session = Client(scene.node, 5)
    session.ask(*session.add([7]))
    part = scene.part(scene.node.drop)
    assert value_in(scene.publish(part)[1]) == [1.0]
    with pytest.raises(CheckpointError, match="dropped") as refused:
        scene.part()
    assert refused.value.attributes["again"]


def test_only_what_has_changed_is_written_again(scene: Scene) -> None:
    session = Client(scene.node, 5)
    session.ask(*session.add(list(range(2000))))
    first, before = scene.publish(scene.part())
    second, same = scene.publish(scene.part(base=first.id), first)
    assert second.incremental
    assert second.nbytes < 0.2 * first.nbytes, "logical time is always written"
    session.ask(*session.add([7]))
    third, after = scene.publish(scene.part(base=second.id), second)
    assert second.nbytes < third.nbytes < second.nbytes + 0.02 * first.nbytes
    for one, other, changed in zip(before, after, same, strict=True):
        assert one.indexes[1].tolist() == other.indexes[1].tolist() == changed.indexes[1].tolist()
        differ = one.tables[TABLE].planes[0] != other.tables[TABLE].planes[0]
        assert differ.sum() == (one.bucket == BUCKET)
    fourth, _ = scene.publish(scene.part(base="00000099-00000000"))
    assert not fourth.incremental, "what is not there any more is not rested on"
    assert fourth.nbytes >= first.nbytes


def test_of_rows_only_those_that_have_changed_are_written_again(scene: Scene) -> None:
    """Each checkpoint holds what a full one would, though its rows lie in two; after much has changed, in one again."""
    session, rng = Client(scene.node, 5), np.random.default_rng(3)
    session.ask(*session.add(list(range(400_000))))
    first, _ = scene.publish(scene.part())
    last, _ = scene.publish(scene.part(base=first.id), first)
    always, sizes = last.nbytes, []
    for number in range(5):
        come, many = range(400_000 + 100 * number, 400_100 + 100 * number), 200_000 if number == 3 else 500
        session.ask(*session.add(sorted({*rng.integers(0, 400_000, many).tolist(), *come})))
        last, found = scene.publish(scene.part(base=last.id), last)
        sizes.append((last.nbytes - always) / (first.nbytes - always))
        for record in found:
            here = scene.state.tables.copy_bucket(record.bucket)
            assert record.indexes[1].tolist() == here.keys[1].tolist()
            assert record.tables[TABLE].step == here.tables[TABLE].step
            assert np.array_equal(record.tables[TABLE].planes[0], here.tables[TABLE].planes[0])
    assert max(sizes[:3]) < 0.12, "a few rows, and the head of what they lie in"
    assert 0.45 < sizes[3] < 0.6, "all rows, but not all keys"
    assert sizes[4] < 0.12, "since these"
