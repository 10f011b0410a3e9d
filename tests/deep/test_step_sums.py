"""Ranks that add up in the midst of a step come to the same bits, whichever is lost at whichever sum, and its successor adds nothing twice.

As `test_replicas`, whose ranks go through layers here that ask for sums over all of them, each of what the one before gave.
"""

from __future__ import annotations

import itertools
import json
import random

import numpy as np
import pytest
import torch

from sparkps.mllib.deep.step_sums import StepSums
from tests.deep.test_replicas import MOMENTS, STEPS, Rank, World, assert_equal

LAYERS = 3
#: Within a step, before what `test_replicas` has.
WITHIN = [f"{when} layer {layer}" for layer in range(LAYERS) for when in ("before", "after")]


class LayeredRank(Rank):
    """A rank whose gradient depends on sums over all ranks."""

    def go_through(self) -> None:
        seen = torch.full((2,), float(self.rank + 1), dtype=torch.float64) / (self.step + 3)
        for layer in range(LAYERS):
            self.may_be_lost(f"before layer {layer}")
            summed = self.dense.summed(seen)
            self.may_be_lost(f"after layer {layer}")
            seen = torch.cat([summed.sin() + self.rank, torch.ones(layer, dtype=torch.float64)])[: 2 + layer]
        for each in self.module.parameters():
            each.grad = (each.detach() + float(seen.sum())) * (self.rank + 1) / 3.0


@pytest.fixture(scope="module")
def undisturbed():
    found = {ranks: World(ranks, set(), kind=LayeredRank).run() for ranks in (1, 2, 3)}
    assert not torch.equal(found[1][0], found[2][0])
    return found


@pytest.mark.parametrize("moment", WITHIN)
def test_a_rank_lost_at_any_sum_of_any_step_changes_no_bit(undisturbed, moment):
    for rank, step in itertools.product(range(2), (0, 2)):
        assert_equal(World(2, {(rank, step, moment)}, kind=LayeredRank).run(), undisturbed[2])


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_rank_lost_after_the_sums_takes_the_step_again_with_those_of_the_others(undisturbed, moment):
    for rank, step in itertools.product(range(2), (0, 2)):
        assert_equal(World(2, {(rank, step, moment)}, kind=LayeredRank).run(), undisturbed[2])


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", range(8))
def test_several_losses_of_three_ranks_change_no_bit(undisturbed, seed):
    draw = random.Random(seed)
    # One rank is not lost: somebody must have what the others need.
    losses = {(draw.randrange(2), draw.randrange(STEPS), draw.choice([*WITHIN, *MOMENTS])) for _ in range(4)}
    assert_equal(World(3, losses, kind=LayeredRank).run(), undisturbed[3])


@pytest.mark.parametrize("moments", [("before barrier", "after barrier"), ("after tick", "after barrier")])
def test_ranks_that_are_all_lost_find_the_sums_on_their_host(undisturbed, tmp_path, moments):
    for step in (0, 2):
        losses = {(rank, step, moment) for rank, moment in enumerate(moments)}
        assert_equal(World(2, losses, tmp_path / str(step), LayeredRank).run(), undisturbed[2])


def test_what_is_said_at_a_meeting_is_short_however_many_sums_a_step_has():
    sums = StepSums(torch.device("cpu"))
    for step in range(2):
        sums.begin(step)
        sums.known.extend(torch.ones(257, dtype=torch.float64) for _ in range(2000))
    assert len(json.dumps({"step": 10**6, "versions": [10**6, 10**6 + 1], "sums": sums.counts()})) < 200


def test_sums_of_old_steps_are_forgotten_and_what_is_packed_is_known_again():
    sums = StepSums(torch.device("cpu"))
    for step in range(4):
        sums.begin(step)
        assert [sums.next(), sums.next()] == [0, 1]
        sums.known.extend([torch.full((3,), float(step), dtype=torch.float64), torch.ones(1, dtype=torch.float64)])
    assert (sums.counts(), sums.lengths(3)) == ({2: 2, 3: 2}, [3, 1])
    other = StepSums(torch.device("cpu"))
    assert other.unpack(3, np.append(sums.packed(3), [7.0, 8.0])).tolist() == [7.0, 8.0]
    assert other.unpack(2, StepSums(torch.device("cpu")).packed(2)).tolist() == []
    assert (other.counts(), other.lengths(3)) == ({3: 2}, [3, 1])
    assert other.flat(3).tolist() == [3.0, 3.0, 3.0, 1.0]
    other.learn(3, torch.zeros(3, dtype=torch.float64), [3])
    assert other.lengths(3) == [3, 1], "what is known is not less than before"
