"""One request to all nodes: in every order of answers, refusals, deaths and placements it is done once, by all nodes of one of them."""

from __future__ import annotations

from typing import Any

import pytest

from sparkps.client.everywhere import Everywhere
from sparkps.client.futures import Future
from sparkps.client.order import GONE
from sparkps.client.pieces import Piece
from sparkps.client.routing import Routing
from sparkps.errors import Fenced
from sparkps.wire.messages import data as m

TICK = m.Tick(m.Member(1, 0, 1, 0))

#: Nodes of the placements of epochs 1, 2 and 3.
NODES = ((0, 1), (1, 2), (0, 2))


def routing(epoch: int) -> Routing:
    """Half of the buckets on each of two nodes."""
    first, second = NODES[epoch - 1]
    return Routing.of(epoch, [[first]] * 128 + [[second]] * 128)


class Run:
    """One request, the pieces that nobody has answered, and the newest placement."""

    def __init__(self) -> None:
        self.future: Future[Any] = Future(None, "tick", lambda: None)  # type: ignore[arg-type]
        self.future.expect()
        self.answers: list[tuple[int, int]] = []
        self.request = Everywhere(self.future, TICK, lambda message, _: self.answers.append(message), 60.0)
        self.newest = routing(1)
        self.open: list[Piece] = self.request.begin(self.newest)

    def moves(self) -> list[tuple[str, int]]:
        """What may happen next: a piece is answered, is refused, or its node goes; the placement changes."""
        kinds = ["answer", "refuse", "go"]
        some = [(kind, place) for place in range(len(self.open)) for kind in kinds]
        return [*some, ("place", 0)] if self.newest.epoch < len(NODES) else some

    def move(self, kind: str, place: int) -> None:
        """Let it happen."""
        if kind == "place":
            self.newest = routing(self.newest.epoch + 1)
            if not self.request.over:
                self.open += self.request.begin(self.newest)
            return
        piece = self.open.pop(place)
        if kind == "answer":
            piece.sink((piece.epoch, piece.node), [])
            piece.future.arrived()
            return
        assert piece.again is not None
        again = piece.again(GONE if kind == "go" else m.WrongEpoch(0, piece.epoch - 1, []), self.newest)
        assert len(again) == (piece.epoch == self.newest.epoch and not self.request.over), "once for each placement"
        if kind == "refuse":  # one that is behind is asked again; one that is gone waits for another placement
            self.open += again
        piece.future.arrived()


def explore(path: list[tuple[str, int]], seen: set[str]) -> int:
    """Every order of at most so many events; how many ends were reached."""
    run = Run()
    for step in path:
        run.move(*step)
    over = run.future.settled()
    assert over == run.request.over
    if over:
        ((epoch, _), *_) = run.answers
        assert sorted(run.answers) == [(epoch, node) for node in NODES[epoch - 1]], "all nodes of one placement, each once"
        ends = 1
    else:
        assert run.answers == []
        ends = 0
    state = repr((over, run.answers, run.newest.epoch, [(p.epoch, p.node) for p in run.open], sorted(run.request.missing)))
    if state in seen or len(path) == 7:
        return ends
    seen.add(state)
    return ends + sum(explore([*path, move], seen) for move in run.moves())


def test_in_every_order_of_events_it_is_done_once_by_all_nodes_of_the_newest_placement() -> None:
    seen: set[str] = set()
    assert explore([], seen) > 50
    assert len(seen) > 200


def test_a_request_that_is_done_when_a_newer_placement_is_known_is_done_by_that() -> None:
    run = Run()
    run.move("answer", 0)
    run.move("place", 0)
    run.move("answer", 0)
    assert not run.future.settled(), "the last answer by the older placement counts no more"
    run.move("answer", 0)
    run.move("answer", 0)
    assert run.answers == [(2, 1), (2, 2)]


def test_a_failure_counts_only_if_it_is_of_the_round_that_is_waited_for() -> None:
    run = Run()
    old = run.open[0]
    run.move("place", 0)
    old.fail(Fenced("of the round before"))
    assert not run.future.settled()
    run.open[-1].fail(Fenced("another attempt has the rank"))
    assert run.future.settled()
    assert run.request.over
    with pytest.raises(Fenced, match="another attempt"):
        run.future.result()
    run.open[-2].fail(Fenced("too late"))
    with pytest.raises(AssertionError):
        run.request.begin(routing(3))
