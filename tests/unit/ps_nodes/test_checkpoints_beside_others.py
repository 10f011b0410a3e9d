"""A checkpoint that a node writes, and what else comes meanwhile: the same one again, another one, functions, too many writes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import cloudpickle
import pytest

from sparkps.checkpoints.parts import part_of
from sparkps.checkpoints.patience import PatientFiles
from sparkps.checkpoints.writer import BucketWriter
from sparkps.errors import CheckpointError, OutOfNodeMemory
from sparkps.ps_nodes import functions
from sparkps.ps_nodes.checkpointing import cuts as node_cuts
from sparkps.ps_nodes.checkpointing import loading, writing
from sparkps.ps_nodes.checkpointing.throttle import Throttle
from sparkps.ps_nodes.tables.images import LOOK_AT_ROOM, NodeImage
from sparkps.specs import UNBOUNDED
from sparkps.wire.messages import control as c
from tests.unit.ps_nodes.lone_node import Client
from tests.unit.ps_nodes.writing_scene import BUCKET, Scene, push, value_in


@pytest.fixture
def scene(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(tmp_path, monkeypatch)


_reached, _on = threading.Event(), threading.Event()


def stands(_: Any) -> None:
    _reached.set()
    assert _on.wait(30)


def pumped(scene: Scene, until: Callable[[], bool]) -> None:
    """Let the node work until something is so."""
    deadline = time.monotonic() + 30
    while not until():
        scene.state.io.take_over()
        scene.node.pool.run()
        scene.state.io.run_posted()
        assert time.monotonic() < deadline
        threading.Event().wait(0.002)


class Held:
    """A checkpoint that stands before it copies a bucket, until it is let go on."""

    def __init__(self, scene: Scene, monkeypatch: pytest.MonkeyPatch, bucket: int = 100) -> None:
        self.scene, self.told = scene, list[Any]()
        self._there, self._on = threading.Event(), threading.Event()
        copy = writing.Writing._copy

        def held(itself: writing.Writing, image: NodeImage, number: int, *what: Any) -> None:
            if number == bucket:
                self._there.set()
                assert self._on.wait(30)
            copy(itself, image, number, *what)

        monkeypatch.setattr(writing.Writing, "_copy", held)
        scene.id = scene.store.new_id()
        self.message = c.WriteCheckpoint(1, scene.store.url, scene.id, [scene.spec], {}, scene.state.epoch, "")
        self.write(self.message)
        pumped(scene, self._there.is_set)

    def write(self, message: c.WriteCheckpoint) -> None:
        writing.write(self.scene.state, message, lambda *what: self.told.append(what))

    def end(self) -> list[Any]:
        """Let it go on; what came of it, to each who has asked."""
        self._on.set()
        pumped(self.scene, lambda: self.scene.state.writing is None)
        return self.told


def test_a_checkpoint_that_is_asked_for_again_is_one(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a coordinator that was started again. A second image took the place of the first, which went on with rows as they are."""
    (rank,) = scene.group(UNBOUNDED)
    push(rank)
    scene.node.pool.run()
    held = Held(scene, monkeypatch, bucket=BUCKET)
    held.write(held.message)
    push(rank)
    scene.node.pool.run()
    (first, one), (second, other) = held.end()
    assert (first, second) == (None, None)
    assert one == other
    manifest, records = scene.publish(part_of(one["part"]))
    assert [cut.ranks[0].clock for cut in manifest.groups] == [0]
    assert value_in(records) == [1.0]


def test_another_checkpoint_ends_one_that_nobody_wants_any_more(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(scene, monkeypatch)
    later = c.WriteCheckpoint(2, scene.store.url, scene.store.new_id(), [scene.spec], {}, scene.state.epoch, "")
    with pytest.raises(CheckpointError, match="still at an older checkpoint") as refused:
        held.write(later)
    assert refused.value.attributes["again"]
    ((error, _),) = held.end()
    assert "write another checkpoint" in str(error)
    monkeypatch.undo()
    assert value_in(scene.publish(scene.part())[1]) == []


def test_a_checkpoint_that_waits_for_files_ends_with_its_placement(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies of a lost node's buckets wait for it."""
    stuck, on = threading.Event(), threading.Event()

    def never(*_: Any) -> Any:
        stuck.set()
        assert on.wait(30)

    monkeypatch.setattr(BucketWriter, "finish", never)
    told = list[Any]()
    message = c.WriteCheckpoint(1, scene.store.url, scene.store.new_id(), [scene.spec], {}, scene.state.epoch, "")
    writing.write(scene.state, message, lambda *what: told.append(what))
    pumped(scene, stuck.is_set)
    scene.state.epoch += 1
    scene.node.service.look_around()
    pumped(scene, lambda: bool(told))
    on.set()
    assert told[0][0].attributes["again"]
    assert scene.state.writing is None


def test_a_function_on_one_table_does_not_keep_writers_from_another_while_a_checkpoint_begins(scene: Scene) -> None:
    other = scene.node.table(2)
    functions.register("stands", cloudpickle.dumps(stands))
    caller, writer = Client(scene.node, 5), Client(scene.node, 6)
    caller.send(caller.call("stands", limit=60.0))
    pumped(scene, _reached.is_set)
    told = list[Any]()
    message = c.WriteCheckpoint(1, scene.store.url, scene.store.new_id(), [scene.spec, other], {}, scene.state.epoch, "")
    writing.write(scene.state, message, lambda *what: told.append(what))
    pumped(scene, lambda: scene.state.cut is None)
    sent = writer.add([7], table=2)
    writer.send(*sent)
    try:
        pumped(scene, lambda: bool(writer.answers(sent[0].seq)))
    finally:
        _on.set()
    pumped(scene, lambda: bool(told))
    assert told[0][0] is None


def test_rows_that_are_kept_aside_stay_within_the_nodes_memory(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint is given up; writes of rows that are there go on."""
    session = Client(scene.node, 5)
    keys = list(range(200_000))
    session.ask(*session.add(keys))
    held, memory = Held(scene, monkeypatch), scene.state.memory
    memory.measure()
    memory.limit = memory.used + 500_000
    session.ask(*session.add(keys))
    assert memory.used < memory.limit + LOOK_AT_ROOM
    ((error, _),) = held.end()
    assert "nodeMemory" in str(error)
    assert scene.value() == 2.0


def test_an_older_cut_does_not_let_the_clocks_of_a_newer_one_go_on(scene: Scene) -> None:
    (rank,) = scene.group(0)
    push(rank)
    scene.node.pool.run()
    old = node_cuts.hold(scene.state)
    new = node_cuts.hold(scene.state)
    reached = list[Any]()
    new.reach(new.clocks, reached.append)
    old.release()
    push(rank)
    scene.node.pool.run()
    assert reached == [None]
    assert scene.value() == 1.0, "the next clock waits"
    new.release()
    scene.node.pool.run()
    assert scene.value() == 2.0


def test_copies_that_wait_for_files_stay_within_their_share(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were given to the files, too."""
    session, on, asked = Client(scene.node, 5), threading.Event(), threading.Event()
    session.ask(*session.add(list(range(200_000))))
    write = PatientFiles.write

    def late(*what: Any) -> str:
        asked.set()
        assert on.wait(30)
        return write(*what)

    monkeypatch.setattr(writing, "MOST_COPIED", 1 << 18)
    monkeypatch.setattr(PatientFiles, "write", late)
    told = list[Any]()
    message = c.WriteCheckpoint(1, scene.store.url, scene.store.new_id(), [scene.spec], {}, scene.state.epoch, "")
    writing.write(scene.state, message, lambda *what: told.append(what))
    pumped(scene, asked.is_set)
    until = time.monotonic() + 0.3
    pumped(scene, lambda: time.monotonic() > until)
    assert scene.state.writing is not None
    assert 1 << 17 < scene.state.writing.nbytes < 1 << 19
    on.set()
    pumped(scene, lambda: bool(told))
    assert told[0][0] is None


def test_a_checkpoint_that_cannot_be_in_the_nodes_memory_is_not_restored(scene: Scene) -> None:
    session = Client(scene.node, 5)
    session.ask(*session.add(list(range(50_000))))
    manifest, _ = scene.publish(scene.part())
    assert loading.memory_of(manifest) == 50_000 * (8 + 12)
    told = list[Any]()

    def verified() -> Any:
        told.clear()
        loading.verify(scene.state, c.VerifyCheckpoint(1, scene.store.url, manifest.id, [0]), lambda *what: told.append(what))
        pumped(scene, lambda: bool(told))
        return told[0][0]

    assert verified() is None
    scene.state.memory.limit = 900_000
    refused = verified()
    assert isinstance(refused, OutOfNodeMemory)
    assert "`spark.sparkps.nodeMemory`). Nothing was changed" in str(refused)


def test_near_its_limit_a_node_does_not_take_its_time(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """What writers change meanwhile has to be kept."""
    monkeypatch.setattr(Throttle, "rest", lambda *_: 3600.0)
    scene.state.memory.near = True
    assert value_in(scene.publish(scene.part())[1]) == []


def test_a_node_that_gets_no_thread_for_a_checkpoint_takes_the_next_one(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    told = list[Any]()
    message = c.WriteCheckpoint(1, scene.store.url, scene.store.new_id(), [scene.spec], {}, scene.state.epoch, "")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none)
        writing.write(scene.state, message, lambda *what: told.append(what))
        pumped(scene, lambda: bool(told))
    assert isinstance(told[0][0], RuntimeError)
    assert value_in(scene.publish(scene.part())[1]) == []
