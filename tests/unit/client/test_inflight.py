"""Requests in flight: numbers, credits, retries and deadlines, on a clock of the test's own."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from sparkps.client.inflight import Lane, RetryPolicy, deadline_error


@dataclass
class Call:
    what: str = "push of table 'w'"
    up: int = 0
    down: int = 0
    write: bool = False
    errors: list[BaseException] = field(default_factory=list)

    def fail(self, error: BaseException) -> None:
        self.errors.append(error)


def lane(push: int = 100, pull: int = 100) -> Lane:
    return Lane(3, push_credit=push, pull_credit=pull, policy=RetryPolicy(first=1.0, longest=4.0))


def add(to: Lane, *, up: int = 0, down: int = 0, now: float = 0.0, deadline: float = 60.0) -> int:
    seq = to.next_seq()
    to.add(seq, [b"frame"], Call(up=up, down=down, write=not down), now=now, deadline=deadline)
    return seq


def test_acknowledged_means_everything_up_to_it_was_answered() -> None:
    line = lane()
    first, second, third = add(line), add(line), add(line)
    line.take(second)
    assert line.acked == 0
    line.take(first)
    assert line.acked == second
    line.take(third)
    assert line.acked == third
    assert line.take(third) is None, "an answer that comes twice ends nothing"


def test_credits_of_pushes_and_pulls_are_apart() -> None:
    line = lane(push=100, pull=50)
    push = add(line, up=90)
    assert not line.has_credit(up=20, down=0)
    assert line.has_credit(up=20, down=50), "a push under way keeps back no pull"
    pull = add(line, up=20, down=50)
    assert not line.has_credit(up=8, down=8)
    line.take(push)
    assert line.has_credit(up=100, down=0), "a parked pull keeps back no push"
    line.take(pull)
    assert line.has_credit(up=10_000, down=0), "one request is let through, however large"


def test_ticks_always_have_credit() -> None:
    line = lane(push=10, pull=10)
    add(line, up=10)
    add(line, up=1, down=10)
    assert line.has_credit(up=0, down=0)


def test_retries_back_off_until_the_deadline() -> None:
    line = lane()
    seq = add(line, now=0.0, deadline=12.0)
    sent = []
    for tenth in range(130):
        now = tenth / 10
        expired = line.expired(now)
        for request in expired:
            line.give_up(request.seq, [b"nothing"], now)
        sent += [now for _ in line.due(now)]
        if expired:
            assert [r.seq for r in expired] == [seq]
            assert now == 12.0
            break
    assert sent == [1.0, 3.0, 7.0, 11.0]
    assert line.next_due() == float("inf")


def test_what_is_given_up_leaves_a_filler_while_something_else_is_in_flight() -> None:
    line = lane()
    first, second, third = add(line, up=10), add(line, up=20), add(line, down=5)
    line.give_up(second, [b"nothing"], 5.0)
    assert [r.frames for r in line.requests.values()] == [[b"frame"], [b"nothing"], [b"frame"]]
    assert (line._up, line.writes, line.pulls) == (10, 1, 1)
    assert [r.seq for r in line.due(5.0)] == [first, second, third]
    assert line.take(second) is not None, "the node has answered the filler"
    line.give_up(first, [b"nothing"], 5.0)
    assert line.acked == 0
    line.take(third)
    assert (line.acked, line.requests, line.next_due()) == (third, {}, float("inf")), "a filler alone is needed by nobody"
    last = add(line)
    line.give_up(last, [b"nothing"], 6.0)
    assert (line.acked, line.requests) == (last, {})


def test_holes_are_the_numbers_below_one_in_flight_that_were_answered() -> None:
    line = lane()
    for _ in range(5):
        add(line)
    line.take(2)
    line.take(3)
    line.take(5)
    assert (line.acked, line.holes()) == (0, [2, 3])
    for seq in line.holes():
        line.fill(seq, [b"nothing"], 0.0)
    assert list(line.requests) == [1, 2, 3, 4]
    line.take(1)
    assert line.acked == 1
    line.take(4)
    assert (line.acked, line.requests) == (5, {})


def test_time_in_which_nobody_looked_counts_for_no_request() -> None:
    line = lane()
    old = add(line, now=0.0, deadline=10.0)
    young = add(line, now=6.0, deadline=16.0)
    assert [now for now in (0.25, 0.5, 0.75, 1.0, 1.75) if line.is_silent(now)] == [0.25, 0.75, 1.75]
    line.unseen(2.0, 8.0)
    assert [(r.made_at, r.resend_at, r.deadline, r.sent_at) for r in line.requests.values()] == [
        (6.0, 7.0, 16.0, 0.0),
        (8.0, 9.0, 18.0, 6.0),
    ]
    assert line.next_due() == 7.0
    assert not line.expired(15.9)
    assert [r.seq for r in line.expired(16.0)] == [old]
    assert young == 2


def asked(line: Lane, since: float, until: float) -> list[float]:
    """When the coordinator would be asked."""
    return [now for now in np.arange(since, until, 0.0625).tolist() if line.is_silent(now)]


def test_a_node_that_does_not_answer_is_asked_about_soon_and_then_after_growing_pauses() -> None:
    line = lane()
    add(line, now=1.0)
    assert line.next_due() == 1.25
    assert asked(line, 1.0, 6.0) == [1.25, 1.75, 2.75, 3.75, 4.75, 5.75]
    line.heard(6.0)
    assert asked(line, 6.0, 8.0) == [6.25, 6.75, 7.75], "it is there: and so its next silence is a new one"
    assert not lane().is_silent(100.0), "nothing is awaited of it"
    line.take(1)
    add(line, now=50.0)
    assert asked(line, 50.0, 50.5) == [50.25], "nothing was awaited of it meanwhile"


def test_a_node_that_has_parked_all_it_was_asked_is_asked_about_only_when_it_does_not_say_so_again() -> None:
    line = lane()
    pull, push = add(line, down=1, now=0.0), add(line, now=0.0)
    line.heard(0.0)
    line.park(pull, clock=3, waiting_for=[1])
    assert asked(line, 0.0, 0.5) == [0.25]
    line.heard(0.5)
    line.take(push)
    assert asked(line, 0.5, 1.0) == []
    assert [r.seq for r in line.due(1.0)] == [pull]
    assert asked(line, 1.0, 1.5) == [1.25]
    line.heard(1.5)
    line.park(pull, clock=3, waiting_for=[1])
    assert asked(line, 1.5, 3.0) == []
    add(line, now=3.0)
    assert asked(line, 3.0, 3.5) == [3.25], "a new request is not parked"


def test_deadline_error_names_who_was_waited_for() -> None:
    line = lane()
    seq = add(line, down=10)
    line.park(seq, clock=4, waiting_for=[1, 2])
    error = deadline_error(line.requests[seq], 3, "ipc://x", 60.0)
    assert (error.ranks, error.clock, error.node) == ([1, 2], 4, 3)
    assert "rank(s) 1, 2" in str(error)
    silent = deadline_error(line.requests[add(line)], 3, "ipc://x", 60.0)
    assert "Node 3 at ipc://x gave no answer" in str(silent)
    assert isinstance(silent, TimeoutError)


@pytest.mark.parametrize("seed", range(20))
def test_random_schedules_keep_the_books(seed: int) -> None:
    rng = np.random.default_rng(seed)
    line = lane(push=64, pull=64)
    open_: dict[int, tuple[int, int]] = {}
    for step in range(400):
        up, down = (int(rng.integers(1, 40)), 0) if rng.random() < 0.5 else (0, int(rng.integers(1, 40)))
        if rng.random() < 0.6 and line.has_credit(up=up, down=down):
            open_[add(line, up=up, down=down, now=float(step), deadline=float(step + 1000))] = (up, down)
        elif open_:
            seq = int(rng.choice(list(open_)))
            assert line.take(seq) is not None
            del open_[seq]
        ups, downs = sum(u for u, _ in open_.values()), sum(d for _, d in open_.values())
        assert max(ups, downs) <= 64
        assert (line._up, line._down) == (ups, downs)
        assert line.acked == (min(open_) - 1 if open_ else line._last)


def test_a_lane_that_is_abandoned_gives_what_was_not_answered_in_order_without_fillers() -> None:
    line = lane()
    first, second, third = add(line), add(line, down=1), add(line)
    line.give_up(first, [b"nothing"], 0.0)
    assert [request.seq for request in line.abandon()] == [second, third]
    assert line.next_due() == float("inf")
