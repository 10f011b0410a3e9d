"""The order in which a rank asks, computes, pushes and ticks: it waits for no link, and no row is older than it may be."""

from __future__ import annotations

from collections import deque
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from sparkps.mllib.deep.rank import _STATE, DeepRank


class Recorded(DeepRank):
    """A rank that computes nothing, and notes what it does and at which clock. Steps in `without` have no rows of this rank."""

    def __init__(
        self, ahead: int, steps: int, epochs: int, without: frozenset[int] = frozenset(), *, clock: int = 1, measures: bool = False
    ) -> None:
        self.notes: list[tuple[str, int, int]] = []
        self.job = SimpleNamespace(ahead=ahead, epochs=epochs)
        self.worker = SimpleNamespace(clock=clock, tick=self._ticked)
        self.dense = SimpleNamespace(start=lambda t: None, begin=self._began, end=lambda scale: None, commit=lambda ends_epoch: None)
        self.losses = SimpleNamespace(pull_async=lambda: None)
        self.wait = lambda future: future
        self.measuring = SimpleNamespace(measure=self._measured, decide=self._decided) if measures else None
        self.known_steps, self.running, self.steps = steps, (0.0, 0.0), 0
        self._next, self._ready, self._asked, self._due = 0, deque(), deque(), None
        self._planned, self._without = steps, without

    def _timed(self, part):
        return nullcontext()

    def _note(self, what: str, t: int) -> None:
        self.notes.append((what, t, self.worker.clock))

    def _ticked(self, state: bytes) -> None:
        assert len(state) == _STATE.size
        self._note("tick", self.worker.clock - 1)
        self.worker.clock += 1

    def _began(self, t: int, dense: list[object]) -> None:
        self._note("begin", t)

    def _count(self):
        return SimpleNamespace(steps=self._planned), 1.0

    def _prepared(self, t: int):
        return None if t in self._without else SimpleNamespace(t=t)

    def _ask(self, t, prepared):
        assert prepared is None or prepared.t == t, "rows are asked for in the order of their steps"
        self._note("ask", t)
        return lambda: ({}, [])

    def _measured(self, epoch: int) -> None:
        assert self._due is None, "what is measured has all pushes of its epoch"
        self._note("measure", epoch)

    def _decided(self, epoch: int) -> bool:
        self._note("decide", epoch)
        return False

    def _step(self, prepared, rows) -> None:
        self._note("forward", prepared.t)
        self._catch_up()
        self._note("backward", prepared.t)
        self._note("push", prepared.t)

    def _end_epoch(self, epoch: int) -> None:
        self._note("epoch", epoch)


CASES = [
    (ahead, steps, epochs, frozenset(without), measures)
    for ahead in range(5)
    for steps in range(1, 6)
    for epochs in (1, 3)
    for without in ([], [0], [1, 2], [steps * epochs - 1])
    for measures in (False, True)
]


def test_every_order_keeps_what_is_promised():
    for case in CASES:
        assert_kept(*case)


def assert_kept(ahead, steps, epochs, without, measures):
    rank = Recorded(ahead, steps, epochs, without, measures=measures)
    rank.run()
    clocks, at = steps + 2 * measures, {}
    for place, (what, t, clock) in enumerate(rank.notes):
        assert (what, t) not in at, "nothing is done twice"
        at[what, t] = place, clock
    assert [t for what, t, _ in rank.notes if what == "tick"] == list(range(clocks * epochs))
    assert [t for what, t, _ in rank.notes if what == "ask"] == list(range(steps * epochs))
    for epoch in range(epochs):
        for step in range(steps):
            t, own = epoch * steps + step, 1 + epoch * clocks + step  # clock 0 counts the rows
            assert 0 <= own - at["ask", t][1] <= ahead, "rows are as new as the group's staleness has it"
            assert at["ask", t][0] < at["begin", t][0]
            if t not in without:
                assert at["push", t][1] == own, "what a step pushes belongs to its clock"
                assert at["push", t][0] < at["tick", own - 1][0]
        for place, what in enumerate(("measure", "decide") if measures else ()):
            assert at[what, epoch][1] == 1 + epoch * clocks + steps + place


@pytest.mark.parametrize("ahead", [1, 2, 3])
def test_neither_rows_nor_acknowledgements_are_waited_for_within_an_epoch(ahead):
    rank = Recorded(ahead, 5, 1)
    rank.run()
    order = [(what, t) for what, t, _ in rank.notes]
    for t in range(1, 5):
        assert order.index(("forward", t)) < order.index(("tick", t - 1)) < order.index(("backward", t))
        between = order[order.index(("ask", t)) : order.index(("begin", t))]
        assert ("backward", t - 1) in between, "something is computed while rows are under way"


def test_without_rows_ahead_a_step_is_ticked_before_the_next_asks():
    rank = Recorded(0, 3, 1)
    rank.run()
    each = ["ask", "begin", "forward", "backward", "push", "tick"]
    assert [what for what, _, _ in rank.notes if what != "epoch"] == each * 3


@pytest.mark.parametrize("clock", [1, 2, 4])
def test_a_successor_goes_on_at_its_clock(clock):
    rank = Recorded(2, 6, 1, clock=clock)
    rank.run()
    assert [t for what, t, _ in rank.notes if what == "push"] == list(range(clock - 1, 6))
