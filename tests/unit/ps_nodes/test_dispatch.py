"""Order within a session, parallelism across sessions and within a call."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from sparkps.ps_nodes.dispatch import AHEAD, INLINE_BYTES, Dispatcher
from sparkps.ps_nodes.sessions import NodeSession

LARGE = INLINE_BYTES + 1


@dataclass(eq=False)
class Job:
    name: str
    session: NodeSession
    size: int
    call: int = 0
    nbytes: int = 10
    in_line: bool = False
    held: bool = False


class Pool:
    """Threads that run when they are told to."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.waiting: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()

    def submit(self, function: Callable[..., Any], *args: Any) -> None:
        self.waiting.append((function, args))

    def run(self) -> None:
        while self.waiting:
            function, args = self.waiting.popleft()
            function(*args)


class World:
    """A dispatcher whose jobs end at once, or when they are told to."""

    def __init__(self, threads: int = 1) -> None:
        self.pool = Pool(threads)
        self.begun: list[str] = []
        self.held: set[str] = set()
        self.dispatcher = Dispatcher(self.pool, self._run)

    def _run(self, job: Job) -> None:
        self.begun.append(job.name)
        if job.name not in self.held:
            self.dispatcher.ended(job)

    def submit(self, *jobs: Job) -> None:
        for job in jobs:
            self.dispatcher.submit(job)


def session(number: int = 1) -> NodeSession:
    return NodeSession(number, b"", 0.0)


def test_small_requests_run_at_once() -> None:
    world = World()
    world.submit(Job("small", session(), 10))
    assert world.begun == ["small"]
    assert not world.pool.waiting


def test_requests_of_a_session_wait_for_each_other() -> None:
    world, one = World(), session()
    jobs = [Job("a", one, LARGE), Job("b", one, LARGE), Job("c", one, 10)]
    world.submit(*jobs)
    assert len(world.pool.waiting) == 1
    assert world.begun == []
    assert world.dispatcher.queued_bytes == 30
    world.pool.run()
    assert world.begun == ["a", "b", "c"], "a small request keeps its place behind large ones"
    assert world.dispatcher.queued_bytes == one.waiting_bytes == one.running == 0


def test_pieces_of_one_call_run_side_by_side_and_the_next_call_waits_for_all() -> None:
    world, one = World(threads=2), session()
    pieces = [Job(f"a{i}", one, LARGE, call=1) for i in range(6)]
    after = Job("b", one, LARGE, call=2)
    world.held = {job.name for job in pieces}
    world.submit(*pieces, after)
    world.pool.run()
    assert world.begun == [job.name for job in pieces[: 2 + AHEAD]]
    for piece in reversed(pieces[:4]):
        world.dispatcher.ended(piece)
    world.pool.run()
    assert world.begun == [job.name for job in pieces]
    world.dispatcher.ended(pieces[4])
    world.pool.run()
    assert "b" not in world.begun
    world.dispatcher.ended(pieces[5])
    world.pool.run()
    assert world.begun[-1] == "b"


def test_a_request_that_lets_later_ones_pass_ends_once() -> None:
    world, one = World(), session()
    parked, after = Job("parked", one, 10), Job("after", one, 10)
    world.held = {"parked"}
    world.submit(parked, after)
    assert world.begun == ["parked"]
    world.dispatcher.ended(parked)
    world.dispatcher.ended(parked)
    assert world.begun == ["parked", "after"]
    assert one.running == 0
    world.dispatcher.again(parked)
    assert world.begun[-1] == "parked"
    assert one.running == 0


def test_sessions_do_not_wait_for_each_other() -> None:
    world = World()
    world.held = {"a"}
    world.submit(Job("a", session(1), 10), Job("b", session(2), 10))
    assert world.begun == ["a", "b"]


@pytest.mark.parametrize("queued", [5000])
def test_a_long_queue_of_small_requests_is_no_deep_recursion(queued: int) -> None:
    world, one = World(), session()
    first = Job("first", one, 10)
    world.held = {"first"}
    world.submit(first, *(Job(str(i), one, 10) for i in range(queued)))
    world.dispatcher.ended(first)
    assert world.begun[1:] == [str(i) for i in range(queued)]


def test_a_request_that_waits_for_others_takes_its_session_out_of_what_is_to_be_worked_off() -> None:
    world, one, two = World(), session(1), session(2)
    waits, behind, other = Job("waits", one, 10), Job("behind", one, 10), Job("other", two, LARGE)
    world.held = {"waits"}
    world.submit(waits)
    world.dispatcher.hold(waits)
    world.dispatcher.hold(waits)
    world.submit(behind, other)
    assert (one.line_bytes, world.dispatcher.queued_bytes) == (20, 10)
    world.dispatcher.ended(waits)
    assert world.begun == ["waits", "behind"]
    world.dispatcher.hold(waits)
    world.pool.run()
    assert one.line_bytes == one.held == two.line_bytes == world.dispatcher.queued_bytes == 0
