"""What goes with a lead, and what stays: marks, closes that are due, parked pulls, buffers; and placements that come out of turn."""

from __future__ import annotations

import pathlib
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from sparkps.checkpoints.manifest import Manifest
from sparkps.checkpoints.parts import cuts, part_of
from sparkps.checkpoints.plan import assemble
from sparkps.checkpoints.store import CheckpointStore
from sparkps.errors import GroupError, TierError
from sparkps.ps_nodes.checkpointing import loading, writing
from sparkps.wire.messages import control as c
from sparkps.wire.messages import data as m
from tests.unit.ps_nodes.lone_node import GROUP, Client
from tests.unit.ps_nodes.replication.clients import (
    ALONE,
    PAIR,
    SOME,
    SWAPPED,
    add,
    at_epoch,
    fail_over,
    lose_the_close,
    rank_of,
    two_nodes,
)
from tests.unit.ps_nodes.replication.nodes import Nodes


def two_ranks() -> tuple[Nodes, list[Client]]:
    """Of a BSP group, on two nodes."""
    nodes = Nodes(PAIR, 2)
    nodes.table()
    nodes.group(2, 0)
    return nodes, [rank_of(nodes, rank) for rank in range(2)]


def test_a_write_that_comes_again_is_known_where_the_lead_comes_back() -> None:
    nodes, client = two_nodes()
    message, arrays = add(client)
    nodes.deliver()
    nodes.place(SWAPPED, first=(0,))
    nodes.kill(1)
    nodes.place(ALONE)
    nodes.services[0].state.sessions.sessions.clear()
    client.send(m.Hello(5))
    client.send(at_epoch(message, nodes.epoch), arrays)
    nodes.deliver()
    assert set(nodes.rows(0, 3).values()) == {1.0}


def test_an_older_placement_changes_nothing() -> None:
    nodes, _ = two_nodes()
    nodes.place(ALONE)
    told = nodes.command(0, c.SetPlacement(0, 1, SWAPPED, nodes.infos()))
    nodes.deliver()
    assert told == [None]
    state = nodes.services[0].state
    assert (state.epoch, state.placement, state.bucket_bits) == (nodes.epoch, ALONE, (1 << 256) - 1)


def test_the_next_placement_does_not_wait_for_a_hand_over_that_cannot_be() -> None:
    nodes, client = two_nodes()
    add(client)
    nodes.pools[0].run()
    nodes.shipped.clear()  # node 0 cannot reach node 1, which is up
    first = nodes.command(0, c.SetPlacement(0, 2, SWAPPED, nodes.infos()))
    nodes.pools[0].run()
    assert first == []
    nodes.command(0, c.SetPlacement(0, 3, PAIR, nodes.infos()))
    for _ in range(3):
        nodes.pools[0].run()
    assert [type(each) for each in first] == [TierError]
    assert nodes.services[0].state.epoch == 3


def test_a_clock_that_is_due_when_its_primary_dies_is_closed_by_the_next_one() -> None:
    nodes, ranks = two_ranks()
    for rank in ranks:
        rank.send(*rank.add(SOME, 2.0))
    nodes.deliver()
    for rank in ranks:
        rank.send(rank.tick())
    lose_the_close(nodes)
    assert nodes.rows(1, 3) == {}
    fail_over(nodes)
    nodes.deliver()
    assert set(nodes.rows(1, 3).values()) == {4.0}


def test_pulls_that_wait_are_sent_on_when_the_lead_goes() -> None:
    nodes, ranks = two_ranks()
    ranks[0].send(ranks[0].tick())
    nodes.deliver()
    pull, arrays = ranks[0].pull(SOME)
    ranks[0].send(pull, arrays)
    nodes.deliver()
    group = nodes.services[0].state.groups[GROUP]
    assert group.num_parked == 1
    nodes.place(SWAPPED, first=(0,))
    assert group.num_parked == 0
    assert any(isinstance(answer, m.WrongEpoch) for answer in ranks[0].answers(pull.seq))


def test_marks_that_came_with_a_lead_go_with_their_session() -> None:
    nodes, client = two_nodes()
    add(client)
    nodes.deliver()
    fail_over(nodes)
    assert 5 in nodes.services[1].state.sessions._forgotten


def test_copies_let_go_of_what_a_failed_group_had_buffered() -> None:
    nodes, ranks = two_ranks()
    ranks[0].send(*ranks[0].add(SOME, 2.0))
    nodes.deliver()
    follower = nodes.services[1].state.followers.of(0)
    before = follower.nbytes()
    assert before
    nodes.services[0].state.groups[GROUP].end(GroupError("it failed"))
    nodes.deliver()
    assert follower.nbytes() < before


def test_states_of_ranks_do_not_pile_up_after_a_checkpoint() -> None:
    nodes, ranks = two_ranks()
    group = nodes.services[0].state.groups[GROUP]
    group.stop_closing()
    group.go_on()
    for _ in range(30):
        for rank in ranks:
            rank.send(rank.tick())
        nodes.deliver()
    assert max(len(kept) for kept in group._clock._states._kept) <= 2


# ---- a checkpoint that is loaded -----------------------------------------------------------------------------------------


class Loading:
    """Node 0 has written a checkpoint of ones, the rows are twos by now, and it is told to load what it wrote."""

    def __init__(self, folder: str) -> None:
        self.nodes, client = two_nodes()
        add(client)
        self.nodes.deliver()
        self.state = self.nodes.services[0].state
        store = CheckpointStore(folder)
        self.spec = self.state.tables.by_id[1].spec
        manifest = self._written(store)
        add(client)
        self.nodes.deliver()
        assert set(self.nodes.rows(1, 3).values()) == {2.0}
        into = [c.TableInto(1, 1, 1, 1)]
        self.told: list[BaseException | None] = []
        message = c.LoadCheckpoint(0, store.url, manifest.id, into, 0, 0, self.state.epoch)
        loading.load(self.state, message, lambda error, _: self.told.append(error))

    def _written(self, store: CheckpointStore) -> Manifest:
        found, checkpoint = list[object](), store.new_id()
        message = c.WriteCheckpoint(0, store.url, checkpoint, [self.spec], {}, self.state.epoch, "")
        writing.write(self.state, message, lambda *told: found.extend(told))
        self._work(lambda: bool(found))
        assert found[0] is None
        part = part_of(found[1]["part"])  # type: ignore[index]
        groups = cuts([], [part])
        manifest = assemble([part.files], checkpoint=checkpoint, tier="t", tables=[self.spec], groups=groups, time=0.0, seconds=0.0)
        store.publish(manifest)
        return manifest

    def _work(self, until: Callable[[], bool], seconds: float = 30.0) -> None:
        end = time.monotonic() + seconds
        while not until() and time.monotonic() < end:
            self.state.io.take_over()
            self.nodes.pools[0].run()
            self.state.io.run_posted()
            threading.Event().wait(0.002)

    def work(self, seconds: float = 30.0) -> None:
        """Until it is told what came of it."""
        self._work(lambda: bool(self.told), seconds)


def test_what_is_loaded_is_loaded_when_its_copies_have_it(tmp_path: pathlib.Path) -> None:
    scene = Loading(str(tmp_path))
    scene.work(seconds=0.5)
    assert scene.told == [], "the copies have not heard of it"
    for _ in range(200):
        scene.work(seconds=0.02)
        scene.nodes.deliver()
        if scene.told:
            break
    assert scene.told == [None]
    assert scene.nodes.rows(1, 3) == scene.nodes.rows(0, 3) == dict.fromkeys(SOME, 1.0)


def test_a_bucket_that_cannot_be_loaded_is_told(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Loading(str(tmp_path))
    adopt = type(scene.state.tables).adopt_bucket

    def refuse(tables: Any, rows: Any, *more: Any, **options: Any) -> Any:
        if rows.bucket == 3:
            raise MemoryError("struck")
        return adopt(tables, rows, *more, **options)

    monkeypatch.setattr(type(scene.state.tables), "adopt_bucket", refuse)
    for _ in range(200):
        scene.work(seconds=0.02)
        scene.nodes.deliver()
        if scene.told:
            break
    assert isinstance(scene.told[0], MemoryError)
