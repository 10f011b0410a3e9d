"""A node's part of a checkpoint: all buckets as they were at one moment, whatever happens while they are copied."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sparkps.checkpoints.parts import times_of
from sparkps.errors import CheckpointError, SparkPSError
from sparkps.ps_nodes.checkpointing import cuts as node_cuts
from sparkps.ps_nodes.checkpointing import writing
from sparkps.specs import UNBOUNDED
from tests.unit.ps_nodes.lone_node import GROUP, TABLE, Client
from tests.unit.ps_nodes.writing_scene import BUCKET, Scene, push, value_in


@pytest.fixture
def scene(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(tmp_path, monkeypatch)


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
    use = writing.Writing._use

    def gone_on(self: Any) -> Any:
        scene.node.time += node_cuts.REACH_LIMIT + 1
        node_cuts.look_around(scene.state)
        scene.node.pool.run()
        return use(self)

    clocks = {str(group): clock for group, clock in node_cuts.hold(scene.state).clocks.items()}
    with monkeypatch.context() as patch:
        patch.setattr(writing.Writing, "_use", gone_on)
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
