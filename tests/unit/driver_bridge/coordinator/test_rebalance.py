"""The policy: what lasts and can be mended is mended once; what comes and goes, or cannot be mended, moves nothing."""

from __future__ import annotations

import itertools
import random

import pytest

from sparkps.driver_bridge.coordinator.rebalance import (
    CALM,
    FLOORS,
    LONGEST_PAUSE,
    LOOK_EVERY,
    LOOKS,
    MENDED,
    SHORTEST_PAUSE,
    SKEWED,
    Decision,
    Rebalance,
    skew_of,
)
from sparkps.driver_bridge.coordinator.weights import leads_by_weight
from sparkps.wire.placement import Placement

MB = float(1 << 20)
NODES = [0, 1, 2]
#: Four buckets for each of three nodes.
PLACEMENT: Placement = [[bucket // 4] for bucket in range(12)]


def on(*nodes: float) -> list[float]:
    """A load that is spread over the buckets of each node."""
    return [nodes[bucket // 4] / 4 for bucket in range(12)]


class Run:
    """A policy whose decisions are carried out at once."""

    def __init__(self, placement: Placement = PLACEMENT, nodes: list[int] = NODES) -> None:
        self.policy = Rebalance()
        self.placement, self.nodes = placement, nodes
        self.now = 0.0
        self.made: list[tuple[float, Decision]] = []
        #: Buckets that changed hands, in order: (bucket, from, to).
        self.moved: list[tuple[int, int, int]] = []

    def look(self, nbytes: list[float], requests: list[float] | None = None) -> Decision | None:
        self.now += LOOK_EVERY
        load = {"bytes": nbytes, "requests": requests or [0.0] * len(nbytes)}
        found = self.policy.look(self.placement, self.nodes, load, self.now)
        if found is not None:
            self.policy.decided(self.now)
            self.made.append((self.now, found))
            leads = leads_by_weight(self.placement, self.nodes, found.weights)
            for bucket, (row, lead) in enumerate(zip(self.placement, leads, strict=True)):
                if row[0] != lead:
                    self.moved.append((bucket, row[0], lead))
            self.placement = [[lead] for lead in leads]
        return found


def test_a_skew_that_lasts_is_mended_by_few_moves_and_then_left_alone() -> None:
    run = Run()
    nbytes = on(80 * MB, 20 * MB, 20 * MB)
    for _ in range(LOOKS - 1):
        assert run.look(nbytes) is None
    found = run.look(nbytes)
    assert found is not None
    assert found.reason == "node 0 has 2.0 times the mean of bytes"
    assert len(run.moved) == 2
    assert skew_of(run.placement, NODES, nbytes).ratio < MENDED
    for _ in range(1000):
        assert run.look(nbytes) is None
    assert run.policy.stuck == ""


@pytest.mark.parametrize("measure", sorted(FLOORS))
def test_less_than_matters_is_never_moved(measure: str) -> None:
    run, load = Run(), on(FLOORS[measure] - 1, 0.0, 0.0)
    for _ in range(20):
        found = run.look(load) if measure == "bytes" else run.look([0.0] * 12, load)
        assert found is None
    assert run.policy.stuck == ""


def test_an_even_load_moves_nothing_whatever_its_size() -> None:
    run = Run()
    for size in range(200):
        assert run.look(on(*[size * 10 * MB] * 3), on(*[size * 100.0] * 3)) is None


#: Loads of three nodes in one look: even, node 0 or node 1 overloaded, between the limits, and too little to matter.
EVEN, ZERO, ONE, BETWEEN, LITTLE = (
    on(40 * MB, 40 * MB, 40 * MB), on(80 * MB, 20 * MB, 20 * MB), on(20 * MB, 80 * MB, 20 * MB),
    on(56 * MB, 32 * MB, 32 * MB), on(4 * MB, 0.0, 0.0),
)  # fmt: skip


def test_every_history_of_five_looks() -> None:
    """A decision is made in the first look that ends `LOOKS` of the same skew, and in no other."""
    for history in itertools.product((EVEN, ZERO, ONE, BETWEEN, LITTLE), repeat=5):
        run = Run()
        first = next(
            (end for end in range(LOOKS, 6) if history[end - 1] in (ZERO, ONE) and len({id(h) for h in history[end - LOOKS : end]}) == 1),
            None,
        )
        made = [number for number, load in enumerate(history, 1) if run.look(load) is not None]
        assert made == ([] if first is None else [first]), history


@pytest.mark.parametrize("period", [1, 2])
def test_a_load_that_swings_faster_than_it_is_looked_for_moves_nothing(period: int) -> None:
    run = Run()
    for turn in range(300):
        assert run.look((ZERO, ONE)[turn // period % 2]) is None
    assert run.policy.stuck == ""


@pytest.mark.parametrize("period", [4, 10, 100])
def test_a_load_that_swings_slowly_is_not_run_after(period: int) -> None:
    """Buckets' own loads swing: what was moved for one half of the swing is moved again at most at pauses that double."""
    run = Run()
    hours = 2
    for turn in range(int(hours * 3600 / LOOK_EVERY)):
        run.look((ZERO, ONE)[turn // period % 2])
    times = [now for now, _ in run.made]
    pauses = [after - before for before, after in itertools.pairwise(times)]
    assert all(pause >= min(SHORTEST_PAUSE * 2**n, LONGEST_PAUSE) for n, pause in enumerate(pauses))
    assert len(times) <= 7 + hours


def test_after_a_long_calm_pauses_begin_anew() -> None:
    policy = Rebalance()
    for now in range(0, 600, 100):
        policy.decided(now)
    assert policy.resume_at == 500 + 32 * SHORTEST_PAUSE
    policy.decided(501 + CALM)
    assert policy.resume_at == 501 + CALM + SHORTEST_PAUSE


def test_one_hot_bucket_moves_nothing_and_is_said_once() -> None:
    run = Run()
    hot = [1.0 * MB] * 12
    hot[2] = 100 * MB
    said = []
    for _ in range(50):
        before = run.policy.stuck
        assert run.look(hot) is None
        said += [run.policy.stuck] if run.policy.stuck != before else []
    assert len(said) == 1
    assert said[0].startswith("node 0 has 2.8 times the mean of bytes: no other distribution of the buckets")
    assert run.policy.status("auto")["stuck"] == said[0]
    run.look(EVEN)
    assert run.policy.stuck == "", "it is over"


def test_a_hot_bucket_among_others_moves_if_that_evens_out_best() -> None:
    run = Run()
    load = [6 * MB] * 12
    load[0] = 30 * MB
    load[1] = load[2] = load[3] = 15 * MB
    for _ in range(LOOKS):
        run.look(load)
    assert run.moved[0] == (0, 0, 1)
    assert len(run.moved) <= 3
    assert skew_of(run.placement, NODES, load).ratio < MENDED


def test_requests_are_not_evened_out_at_the_cost_of_bytes() -> None:
    """All requests go to bucket 0 and 1, which have hardly any bytes: one of them moves, and no bytes with it."""
    run = Run()
    nbytes = [0.1 * MB] * 4 + [40 * MB] * 8
    nbytes[2] = nbytes[3] = 80 * MB
    requests = [5_000.0, 5_000.0] + [0.0] * 10
    for _ in range(40):
        run.look(nbytes, requests)
    assert run.made
    assert len(run.moved) == 1
    assert skew_of(run.placement, NODES, nbytes).ratio <= SKEWED
    assert skew_of(run.placement, NODES, requests).ratio == pytest.approx(1.5)


def test_time_in_which_the_coordinator_did_not_run_ends_what_was_seen() -> None:
    run = Run()
    run.look(ZERO)
    run.look(ZERO)
    run.policy.shift(5.0)
    assert run.look(ZERO) is None
    assert run.look(ZERO) is None
    assert run.look(ZERO) is not None


def test_looks_are_a_while_apart() -> None:
    policy = Rebalance()
    looks = [tick * 0.25 for tick in range(1000) if policy.is_due(tick * 0.25)]
    assert {after - before for before, after in itertools.pairwise(looks)} == {LOOK_EVERY}


@pytest.mark.parametrize("seed", range(60))
def test_random_loads_that_stay_are_mended_or_reported_and_nothing_comes_back(seed: int) -> None:
    rng = random.Random(seed)
    nodes = list(range(rng.randint(2, 6)))
    placement: Placement = [[rng.choice(nodes)] for _ in range(rng.choice([12, 64, 256]))]
    nbytes = [rng.paretovariate(rng.choice([0.7, 1.5, 5.0])) * MB for _ in placement]
    requests = [rng.choice([0.0, 0.0, 1.0, 200.0]) * rng.random() for _ in placement]
    run = Run(placement, nodes)
    for _ in range(30):
        run.now += LONGEST_PAUSE / 3
        run.look(nbytes, requests)
    assert len(run.made) <= 3
    for load, measure in ((nbytes, "bytes"), (requests, "requests")):
        skew = skew_of(run.placement, nodes, load)
        assert skew.ratio <= SKEWED or skew.load < FLOORS[measure] or run.policy.stuck
    left = {(bucket, giver) for bucket, giver, _ in run.moved}
    assert not [move for move in run.moved if (move[0], move[2]) in left], "no bucket goes back to where it was"
