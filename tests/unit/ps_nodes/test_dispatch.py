"""Order within a session, parallelism across sessions and within a call."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from sparkps.ps_nodes.dispatch import INLINE_BYTES, Dispatcher
from sparkps.ps_nodes.sessions import NodeSession
from tests.harness.waiting import wait_until

LARGE = INLINE_BYTES + 1


class Gates:
    """Work that says when it has started, and ends when it is let go."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.threads: dict[str, str] = {}
        self._gates: dict[str, threading.Event] = {}

    def run(self, name: str) -> None:
        self.threads[name] = threading.current_thread().name
        self.started.append(name)
        if name in self._gates:
            assert self._gates[name].wait(10)

    def hold(self, *names: str) -> None:
        self._gates.update((name, threading.Event()) for name in names)

    def let_go(self, *names: str) -> None:
        for name in names:
            self._gates[name].set()


@pytest.fixture
def gates() -> Gates:
    return Gates()


@pytest.fixture
def dispatcher(gates: Gates) -> Iterator[Dispatcher]:
    made = Dispatcher(2, gates.run)
    yield made
    made.close()


def session(number: int) -> NodeSession:
    return NodeSession(number, b"", 0.0)


def test_small_requests_run_at_once_on_the_calling_thread(gates: Gates, dispatcher: Dispatcher) -> None:
    dispatcher.submit(session(1), "small", 10)
    assert gates.threads == {"small": threading.current_thread().name}


def test_requests_of_a_session_wait_for_each_other(gates: Gates, dispatcher: Dispatcher) -> None:
    one = session(1)
    gates.hold("a", "b")
    dispatcher.submit(one, "a", LARGE)
    dispatcher.submit(one, "b", LARGE)
    dispatcher.submit(one, "c", 10)
    assert wait_until(lambda: gates.started == ["a"], 5)
    gates.let_go("a")
    assert wait_until(lambda: gates.started == ["a", "b"], 5)
    gates.let_go("b")
    assert wait_until(lambda: gates.started == ["a", "b", "c"], 5), "a small request keeps its place behind large ones"
    assert wait_until(lambda: dispatcher.queued_bytes == 0, 5)


def test_pieces_of_one_call_run_side_by_side_and_the_next_call_waits_for_all(
    gates: Gates, dispatcher: Dispatcher
) -> None:
    one = session(1)
    gates.hold("a1", "a2", "b")
    for name, call in (("a1", 1), ("a2", 1), ("b", 2)):
        dispatcher.submit(one, name, LARGE, call)
    assert wait_until(lambda: sorted(gates.started) == ["a1", "a2"], 5)
    gates.let_go("a2")
    assert not wait_until(lambda: "b" in gates.started, 0.05)
    gates.let_go("a1")
    assert wait_until(lambda: gates.started[-1] == "b", 5)
    gates.let_go("b")


def test_sessions_do_not_wait_for_each_other(gates: Gates, dispatcher: Dispatcher) -> None:
    gates.hold("a")
    dispatcher.submit(session(1), "a", LARGE)
    assert wait_until(lambda: gates.started == ["a"], 5)
    dispatcher.submit(session(2), "b", LARGE)
    dispatcher.submit(session(3), "c", 10)
    assert wait_until(lambda: set(gates.started) == {"a", "b", "c"}, 5)
    gates.let_go("a")


def test_work_that_raises_does_not_stop_its_session(dispatcher: Dispatcher, gates: Gates) -> None:
    failing = Dispatcher(1, lambda name: gates.run(name) if name != "bad" else 1 / 0)
    one = session(1)
    failing.submit(one, "bad", LARGE)
    failing.submit(one, "good", LARGE)
    assert wait_until(lambda: gates.started == ["good"], 5)
    failing.close()
