"""A node's part of a checkpoint, while groups end, come and go on between two of its buckets."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from sparkps.checkpoints.parts import NodePart, part_of
from sparkps.errors import CheckpointError, SparkPSError
from sparkps.ps_nodes.checkpointing import cuts, writing
from sparkps.specs import UNBOUNDED
from sparkps.wire.messages import control as c
from tests.unit.ps_nodes.lone_node import GROUP, Client, LoneNode


class Scene:
    """A node that writes a checkpoint; something happens when it copies its 100th bucket."""

    def __init__(self, folder: Any) -> None:
        self.node = LoneNode()
        self.spec = self.node.table()
        self.folder = str(folder)

    def part(self, meanwhile: Callable[[], None], clocks: dict[str, int] | None = None) -> NodePart:
        """What the node has written.

        Raises
        ------
        BaseException
            Why it has not.
        """
        state, copied, told, over = self.node.service.state, [0], list[Any](), threading.Event()
        copy = state.tables.copy_bucket

        def copy_bucket(bucket: int) -> Any:
            copied[0] += 1
            if copied[0] == 100:
                meanwhile()
            return copy(bucket)

        def done(*what: Any) -> None:
            told.extend(what)
            over.set()

        state.tables.copy_bucket = copy_bucket  # type: ignore[method-assign]
        message = c.WriteCheckpoint(1, self.folder, "00000001-3f2a9c01", [self.spec], clocks or {}, state.epoch)
        writing.write(state, message, done)
        self.node.pool.run()
        assert over.wait(30)
        assert copied[0] == 256 or told[0] is not None
        if told[0] is not None:
            raise told[0]
        return part_of(told[1]["part"])


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path)


@pytest.mark.parametrize("staleness", [2, UNBOUNDED])
def test_a_group_that_ends_between_two_buckets_is_no_part_of_it(scene: Scene, staleness: int) -> None:
    """Its marks are in the first buckets only: ranks that went on from there would write twice what the others have."""
    scene.node.group(2, staleness)
    rank = Client.of_rank(scene.node, 0)
    rank.ask(*rank.add([7]))
    rank.ask(rank.tick())
    part = scene.part(lambda: scene.node.service.state.groups[GROUP].end(SparkPSError("struck")))
    assert part.groups == []


def test_a_group_that_comes_between_two_buckets_is_no_part_of_it(scene: Scene) -> None:
    part = scene.part(lambda: scene.node.group(1, 2))
    assert part.groups == []


def test_a_group_that_goes_on_says_where_its_ranks_were_at_the_first_bucket(scene: Scene) -> None:
    scene.node.group(1, 2)
    rank = Client.of_rank(scene.node, 0)
    rank.ask(rank.tick())

    def meanwhile() -> None:
        rank.send(*rank.add([7]))
        rank.send(rank.tick())

    (group,) = scene.part(meanwhile).groups
    assert [at and at.clock for at in group.ranks] == [0]
    assert rank.member is not None
    assert rank.member.clock == 2


def test_a_checkpoint_whose_clocks_have_gone_on_is_given_up(scene: Scene) -> None:
    scene.node.group(1, 0)
    rank = Client.of_rank(scene.node, 0)
    rank.ask(rank.tick())
    state = scene.node.service.state

    def meanwhile() -> None:
        scene.node.time += cuts.REACH_LIMIT + 1
        cuts.look_around(state)
        scene.node.pool.run()

    clocks = {str(group): clock for group, clock in cuts.hold(state).clocks.items()}
    with pytest.raises(CheckpointError, match="given up waiting") as refused:
        scene.part(meanwhile, clocks)
    assert refused.value.attributes["again"]
    cuts.hold(state)
    assert scene.part(lambda: None, clocks).groups[0].clock == 0
