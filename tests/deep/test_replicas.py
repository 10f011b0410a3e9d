"""Copies of dense parameters stay equal, bit by bit, whichever rank is lost at whichever moment, and its successor gets them from others.

Ranks are threads with process groups of their own, over real sockets. The coordinator is its own state machine; of the tier there is the
rule of its clock: a rank waits in a clock until all have ticked the one before.
"""

from __future__ import annotations

import contextlib
import itertools
import pathlib
import random
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from sparkps.driver_bridge.coordinator.leases import Groups
from sparkps.errors import GroupError
from sparkps.mllib.deep.dense import FlatParameters
from sparkps.mllib.deep.replicas import DenseReplicas
from sparkps.nn.process_group import Collective
from sparkps.optim import Adam
from sparkps.wire.messages.control import AdmitGroup, TierAddress

STEPS = 4
#: Parameters of the module before the first step.
FIRST = np.linspace(-1.0, 1.0, 8, dtype=np.float32)
#: Moments of a step at which a rank may be lost.
MOMENTS = ("begin", "before sum", "after sum", "before barrier", "after barrier", "after tick")


class LostError(Exception):
    """The rank's process is gone."""


class World:
    """A group of ranks, those who take their places, and when some of them are lost."""

    def __init__(
        self, ranks: int, losses: set[tuple[int, int, str]], directory: pathlib.Path | None = None, kind: type[Rank] | None = None,
        *, silent: bool = False,
    ) -> None:  # fmt: skip
        self.ranks, self.losses, self.directory, self.kind = ranks, set(losses), directory, kind or Rank
        #: Ranks that were lost while their connections stay open, as those of a process that stands still; None: connections end.
        self.standing: list[Rank] | None = [] if silent else None
        self.groups = Groups(30.0)
        self.spec, _ = self.groups.admit(AdmitGroup(0, "g", ranks, ranks, 0, ranks, "tag"), 0.0)
        self.lock = threading.RLock()
        self.ticked = [-1] * ranks
        self.attempts = itertools.count(1)
        self.final: dict[int, torch.Tensor] = {}
        self.errors: list[BaseException] = []
        self.deadline = time.monotonic() + 20

    def run(self) -> dict[int, torch.Tensor]:
        threads = [threading.Thread(target=self.live, args=(rank,)) for rank in range(self.ranks)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        for each in self.standing or ():
            Collective.close(each.peers)
        if self.errors:
            raise self.errors[0]
        return self.final

    def live(self, rank: int) -> None:
        """A rank and its successors, until it has come to the end."""
        while True:
            try:
                attempt = next(self.attempts)
                with self.lock:
                    held = self.groups.lease(self.spec.group, rank, attempt, time.monotonic())
                one = self.kind(self, rank, attempt, held.incarnation)
                with contextlib.closing(one.dense):
                    one.run()
                return
            except LostError:
                with self.lock:
                    self.groups.release(self.spec.group, rank, attempt)
            except BaseException as error:  # told by the thread that waits for all
                self.errors.append(error)
                return


class Rank:
    """One attempt at a rank."""

    def __init__(self, world: World, rank: int, attempt: int, incarnation: int) -> None:
        self.world, self.rank, self.attempt, self.num_workers = world, rank, attempt, world.ranks
        self.session = SimpleNamespace(address=TierAddress("t1", "ipc:///nobody"))
        self.meetings = 0
        self.module = nn.Linear(3, 2)
        self.flat = FlatParameters(self.module)
        self.flat.load(FIRST)
        self.peers = Collective(self, torch.device("cpu"), done_within=20.0)
        for name in ("add", "barrier"):
            setattr(self.peers, name, self._struck(name, getattr(self.peers, name)))
        self.dense = DenseReplicas(self.flat, Adam(0.1), self.peers, torch.device("cpu"), None, (None, None), world.directory)

    def _struck(self, name, done):
        moments = ("before sum", "after sum") if name == "add" else ("before barrier", "after barrier")

        def run(*args):
            in_step = getattr(self, "in_step", False)  # the barrier that ends the forming of a group is none of a step
            if in_step:
                self.may_be_lost(moments[0])
            done(*args)
            if in_step:
                self.may_be_lost(moments[1])

        return run

    # ---- as a worker ----

    def meet(self, said: bytes) -> list[bytes | None]:
        self.in_step, was = False, getattr(self, "in_step", False)
        while True:
            assert time.monotonic() < self.world.deadline, "a meeting takes place"
            with self.world.lock:
                found = self.world.groups.meet(self.world.spec.group, self.rank, self.attempt, self.meetings, said, time.monotonic())
            if found is not None:
                self.meetings, told = found
                self.formed = was
                return [told.get(rank) for rank in range(self.num_workers)]
            threading.Event().wait(0.003)

    @property
    def meeting_called(self) -> bool:
        with self.world.lock:
            return self.world.groups.running[self.world.spec.group].meetings.called(time.monotonic()) > self.meetings

    # ---- as a rank ----

    def may_be_lost(self, moment: str) -> None:
        if (self.rank, self.step, moment) in self.world.losses:
            self.world.losses.discard((self.rank, self.step, moment))
            if self.world.standing is None:
                self.peers.close()
            else:
                self.world.standing.append(self)
                self.peers.close = lambda: None
            raise LostError

    def run(self) -> None:
        first = self.world.ticked[self.rank] + 1
        self.dense.start(first)
        for step in range(first, STEPS):
            self.step = step
            self.await_ticks(self.step - 1)
            self.may_be_lost("begin")
            self.dense.begin(self.step, [])
            self.go_through()
            self.in_step = True
            self.dense.end(0.7)
            self.in_step = True
            self.dense.commit(ends_epoch=False)
            self.in_step = False
            self.world.ticked[self.rank] = self.step
            self.may_be_lost("after tick")
        self.await_ticks(STEPS - 1)
        with self.world.lock:
            self.world.groups.finish(self.world.spec.group, self.rank, self.attempt, None, {})
        self.world.final[self.rank] = self.dense.versions[STEPS][0] if STEPS in self.dense.versions else None

    def go_through(self) -> None:
        """Forward and backward."""
        for each in self.module.parameters():
            each.grad = (each.detach() + 0.1) * (self.rank + 1) * (self.step + 1) / 3.0

    def await_ticks(self, clock: int) -> None:
        while min(self.world.ticked) < clock:
            assert time.monotonic() < self.world.deadline, "all ranks tick"
            if self.meeting_called:
                self.dense.meet()
            threading.Event().wait(0.003)


@pytest.fixture(scope="module")
def undisturbed():
    return {ranks: World(ranks, set()).run() for ranks in (1, 2, 3)}


def assert_equal(found, expected):
    held = {rank: each for rank, each in found.items() if each is not None}
    assert held, "somebody has the last version"
    for each in held.values():
        assert torch.equal(each, expected[0])


def test_all_ranks_come_to_the_same(undisturbed):
    for ranks, found in undisturbed.items():
        assert len(found) == ranks
        assert_equal(found, found)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_rank_lost_at_any_moment_of_any_step_changes_no_bit(undisturbed, moment):
    for rank, step in itertools.product(range(2), range(STEPS)):
        world = World(2, {(rank, step, moment)})
        assert_equal(world.run(), undisturbed[2])
        assert not world.losses, "it was lost"


@pytest.mark.timeout(240)
@pytest.mark.parametrize("moment", MOMENTS)
def test_nobody_waits_for_a_lost_rank_whose_connections_are_open(undisturbed, moment):
    for rank, step in itertools.product(range(2), (0, 2)):
        assert_equal(World(2, {(rank, step, moment)}, silent=True).run(), undisturbed[2])


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", range(12))
def test_several_losses_of_three_ranks_change_no_bit(undisturbed, seed):
    draw = random.Random(seed)
    # One rank is not lost: somebody must have what the others need.
    losses = {(draw.randrange(2), draw.randrange(STEPS), draw.choice(MOMENTS)) for _ in range(3)}
    assert_equal(World(3, losses).run(), undisturbed[3])


@pytest.mark.timeout(240)
@pytest.mark.parametrize("moments", list(itertools.product(MOMENTS[1:5], repeat=2)))
def test_ranks_that_are_all_lost_find_their_versions_on_their_host(undisturbed, tmp_path, moments):
    for step in (0, 2):
        directory = tmp_path / str(step)
        losses = {(rank, step, moment) for rank, moment in enumerate(moments)}
        assert_equal(World(2, losses, directory).run(), undisturbed[2])


def test_versions_that_nobody_has_are_an_error():
    with pytest.raises(GroupError, match="checkpointDir"):
        World(2, {(0, 2, "before sum"), (1, 2, "before sum")}).run()


def test_a_single_rank_goes_on_from_what_lies_on_the_tier():
    world = World(1, set())
    lost = Rank(world, 0, 1, 1)
    lost.dense.versions[3] = torch.full((3, 8), 0.5), torch.zeros(0, dtype=torch.float64)
    saved = SimpleNamespace(pull=lambda: np.append(lost.dense._packed(3), 3.0))
    dense = DenseReplicas(lost.flat, Adam(0.1), Collective(lost, torch.device("cpu")), torch.device("cpu"), saved, (None, None), None)
    dense.start(3)
    dense.begin(3, [])
    assert lost.flat.values().tolist() == [0.5] * 8


def test_a_file_that_was_not_written_to_its_end_is_no_version(tmp_path):
    world = World(1, set(), tmp_path)
    world.run()
    rank = Rank(world, 0, 1, 1)
    assert sorted(rank.dense._in_files()) == [STEPS - 1, STEPS]
    newest = tmp_path / f"0.{STEPS % 2}"
    newest.write_bytes(newest.read_bytes()[:-8])
    assert sorted(rank.dense._in_files()) == [STEPS - 1]
    newest.write_bytes(b"")
    assert sorted(rank.dense._in_files()) == [STEPS - 1]


def test_steps_are_those_of_one_process():
    world = World(1, set())
    world.run()
    module = nn.Linear(3, 2)
    FlatParameters(module).load(FIRST)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
    for step in range(STEPS):
        for each in module.parameters():
            each.grad = (each.detach() + 0.1) * (step + 1) / 3.0 * 0.7
        optimizer.step()
    np.testing.assert_allclose(world.final[0][0], FlatParameters(module).values(), rtol=1e-5)
