"""Threads for users' functions: every caller is answered once and in time, whatever the function does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from sparkps.errors import DeadlineExceeded, FunctionFailed, InvalidInput, TierError
from sparkps.ps_nodes import user_functions
from sparkps.ps_nodes.user_functions import UserThreads, past_deadline

#: Longest wait for what must come; never waited out by a test that passes.
SOON = 20.0


class Caller:
    """Writes down what it is told."""

    def __init__(self, log: list[str] | None = None, name: str = "fn") -> None:
        self.name = name
        self.log = [] if log is None else log
        self.result: Any = None
        self.error: Any = None
        self._answered, self._over = threading.Event(), threading.Event()

    def done(self, result: Any, error: Any) -> None:
        self.result, self.error = result, error
        self.log.append(f"{self.name} done")
        self._answered.set()

    def ended(self) -> None:
        self.log.append(f"{self.name} ended")
        self._over.set()

    def answer(self) -> Any:
        assert self._answered.wait(SOON)
        return self.result if self.error is None else self.error

    def over(self) -> None:
        assert self._over.wait(SOON)

    def is_over(self) -> bool:
        return self._over.is_set()


class Gate:
    """A function that has begun when `entered`, and returns when `opened`."""

    def __init__(self) -> None:
        self.began, self.opened = threading.Event(), threading.Event()
        self.was_late: bool | None = None

    def __call__(self) -> str:
        self.began.set()
        assert self.opened.wait(SOON)
        self.was_late = past_deadline()
        return "through"

    def entered(self) -> None:
        assert self.began.wait(SOON)


class Clock:
    """Time stands still until the test moves it on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_for(self, threads: UserThreads, seconds: float) -> None:
        self.now += seconds
        with threads._changed:
            threads._changed.notify_all()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(clock: Clock) -> Iterator[Callable[[int], UserThreads]]:
    made: list[UserThreads] = []

    def threads(count: int) -> UserThreads:
        made.append(UserThreads(count, clock))
        return made[-1]

    before = set(threading.enumerate())
    yield threads
    for each in made:
        each.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(SOON)
        assert not thread.is_alive()


def begin(threads: UserThreads, job: Callable[[], Any], seconds: float = SOON, name: str = "fn", log: Any = None) -> Caller:
    caller = Caller(log, name)
    threads.start(job, seconds, caller.done, caller.ended, name=name)
    return caller


def test_caller_gets_the_result_and_then_hears_of_the_end(make: Callable[[int], UserThreads]) -> None:
    caller = begin(make(1), lambda: (threading.current_thread().name, threading.current_thread().daemon, past_deadline()))
    name, daemon, late = caller.answer()
    assert name.startswith("sparkps-user")
    assert (daemon, late) == (True, False)
    caller.over()
    assert caller.log == ["fn done", "fn ended"]


class Untold(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (ValueError("seven"), FunctionFailed, "'fn' raised ValueError: seven"),
        (SystemExit(1), FunctionFailed, "raised SystemExit: 1"),
        (KeyboardInterrupt(), FunctionFailed, "raised KeyboardInterrupt"),
        (GeneratorExit(), FunctionFailed, "raised GeneratorExit"),
        (InvalidInput("as it is"), InvalidInput, "^as it is$"),
        (Untold(), FunctionFailed, "raised Untold: .its text cannot be had: SystemExit"),
        (OSError("\udcff.txt"), FunctionFailed, r"raised OSError: \\udcff.txt"),
    ],
)
def test_whatever_a_function_raises_is_an_error_of_its_caller(
    make: Callable[[int], UserThreads], error: BaseException, kind: type[Exception], text: str
) -> None:
    def fail() -> None:
        raise error

    threads = make(1)
    caller = begin(threads, fail)
    with pytest.raises(kind, match=text):
        raise caller.answer()
    caller.error.message.encode()
    assert begin(threads, lambda: 7).answer() == 7  # the thread goes on


def test_text_of_an_exception_is_cut() -> None:
    assert len(user_functions.raised("fn", ValueError("x" * 80_000_000)).message) < 3000


def test_deadline_answers_while_the_function_runs_and_its_result_is_thrown_away(
    make: Callable[[int], UserThreads], clock: Clock
) -> None:
    threads, gate = make(1), Gate()
    caller = begin(threads, gate, seconds=2.5, name="slow")
    gate.entered()
    clock.pass_for(threads, 2.5)
    error = caller.answer()
    assert isinstance(error, DeadlineExceeded)
    for part in ("'slow'", "2.5 s", "spark.sparkps.requestTimeout", "still runs"):
        assert part in error.message
    assert not caller.is_over()
    gate.opened.set()
    caller.over()
    assert caller.log == ["slow done", "slow ended"]
    assert caller.result is None
    assert gate.was_late is True


def test_end_is_told_after_the_answer_though_the_function_returns_meanwhile(
    make: Callable[[int], UserThreads], clock: Clock
) -> None:
    threads, gate, answering, log, over = make(2), Gate(), Gate(), [], threading.Event()
    behind = Gate()

    def done(_result: Any, error: Any) -> None:
        assert isinstance(error, DeadlineExceeded)
        answering()
        log.append("done")

    def ended() -> None:
        log.append("ended")
        over.set()

    threads.start(gate, 1.0, done, ended)
    gate.entered()
    other = begin(threads, behind)
    behind.entered()
    waiting = begin(threads, lambda: 3)
    clock.pass_for(threads, 1.0)
    answering.entered()
    gate.opened.set()
    assert waiting.answer() == 3  # the thread has left the function
    assert log == []
    behind.opened.set()
    assert other.answer() == "through"
    answering.opened.set()
    assert over.wait(SOON)
    assert log == ["done", "ended"]


def test_earlier_deadline_of_a_later_call_comes_first(make: Callable[[int], UserThreads], clock: Clock) -> None:
    threads, gates = make(2), [Gate(), Gate()]
    long = begin(threads, gates[0], seconds=9.0)
    short = begin(threads, gates[1], seconds=1.0)
    for gate in gates:
        gate.entered()
    clock.pass_for(threads, 1.0)
    assert isinstance(short.answer(), DeadlineExceeded)
    for gate in gates:
        gate.opened.set()
    assert long.answer() == "through"


def test_deadline_comes_by_itself() -> None:
    threads, gate = UserThreads(1), Gate()
    caller = begin(threads, gate, seconds=0.05)
    assert isinstance(caller.answer(), DeadlineExceeded)
    gate.opened.set()
    caller.over()
    threads.close()


def test_more_functions_than_threads_wait_and_their_deadline_runs(
    make: Callable[[int], UserThreads], clock: Clock
) -> None:
    threads, first, second, third = make(2), Gate(), Gate(), Gate()
    running = [begin(threads, gate) for gate in (first, second)]
    first.entered()
    second.entered()
    waiting = begin(threads, third)
    late = begin(threads, lambda: pytest.fail("must never begin"), seconds=1.0, name="patient")
    clock.pass_for(threads, 1.0)
    assert isinstance(late.answer(), DeadlineExceeded)
    assert "waited for a thread" in late.error.message
    late.over()
    assert not third.began.is_set()
    first.opened.set()
    third.entered()
    second.opened.set()
    third.opened.set()
    assert [caller.answer() for caller in (*running, waiting)] == ["through"] * 3
    assert late.log == ["patient done", "patient ended"]


def test_threads_that_are_stuck_past_their_deadline_refuse_more(
    make: Callable[[int], UserThreads], clock: Clock
) -> None:
    threads, gates = make(2), [Gate(), Gate()]
    stuck = [begin(threads, gate, 1.0, f"stuck{i}") for i, gate in enumerate(gates)]
    for gate in gates:
        gate.entered()
    waiting = begin(threads, lambda: pytest.fail("must never begin"), name="behind")
    clock.pass_for(threads, 1.0)
    for caller in stuck:
        assert isinstance(caller.answer(), DeadlineExceeded)
    for refused in (waiting, begin(threads, lambda: pytest.fail("must never begin"))):
        assert isinstance(refused.answer(), FunctionFailed)
        assert "stuck0, stuck1" in refused.error.message
        refused.over()
    gates[0].opened.set()
    stuck[0].over()
    assert begin(threads, lambda: 5).answer() == 5  # a thread is free again
    gates[1].opened.set()


def test_function_that_is_being_answered_for_is_not_stuck(make: Callable[[int], UserThreads]) -> None:
    threads, answering = make(1), Gate()

    def commit(_result: Any, _error: Any) -> None:
        answering()

    threads.start(lambda: 1, SOON, commit, lambda: None, name="writes")
    answering.entered()
    behind = begin(threads, lambda: 2)
    answering.opened.set()
    assert behind.answer() == 2


def test_close_answers_everyone_and_waits_for_nobody(make: Callable[[int], UserThreads]) -> None:
    threads, gate, log = make(1), Gate(), []
    running = begin(threads, gate, name="running", log=log)
    gate.entered()
    begin(threads, gate, name="waiting", log=log)
    threads.close()
    assert log == ["running done", "waiting done", "waiting ended"]
    assert isinstance(running.error, TierError)
    assert "ending" in running.error.message
    refused = begin(threads, gate, name="refused", log=log)
    assert isinstance(refused.answer(), TierError)
    threads.close()
    gate.opened.set()
    running.over()
    assert log == ["running done", "waiting done", "waiting ended", "refused done", "refused ended", "running ended"]


@pytest.mark.parametrize("seconds", [float("nan"), -1.0, 0.0, -float("inf")])
def test_no_time_at_all_is_a_deadline(make: Callable[[int], UserThreads], seconds: float) -> None:
    threads, gate = make(1), Gate()
    busy = begin(threads, gate)
    gate.entered()
    assert isinstance(begin(threads, lambda: 1, seconds).answer(), DeadlineExceeded)
    gate.opened.set()
    assert busy.answer() == "through"


@pytest.mark.parametrize("seconds", [float("inf"), 1e300])
def test_endless_time_is_bounded(make: Callable[[int], UserThreads], seconds: float) -> None:
    threads = make(1)
    assert begin(threads, lambda: 1, seconds).answer() == 1
    assert begin(threads, lambda: 2, seconds).answer() == 2


def test_process_that_cannot_start_a_thread_says_so(
    make: Callable[[int], UserThreads], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = make(2)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", lambda _self: (_ for _ in ()).throw(RuntimeError("can't start new thread")))
        refused = begin(threads, lambda: 1)
        assert isinstance(refused.answer(), TierError)
        assert "can't start new thread" in refused.error.message
        refused.over()
    gate = Gate()
    busy = begin(threads, gate)
    gate.entered()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", lambda _self: (_ for _ in ()).throw(RuntimeError("can't start new thread")))
        waiting = begin(threads, lambda: 3)  # waits for the thread that there is
    gate.opened.set()
    assert (busy.answer(), waiting.answer()) == ("through", 3)


def test_callbacks_that_raise_do_not_take_the_thread_along(
    make: Callable[[int], UserThreads], caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> None:
        raise ValueError("socket closed")

    threads = make(1)
    threads.start(lambda: 1, SOON, broken, broken, name="unheard")
    assert begin(threads, lambda: 2).answer() == 2
    assert "could not be told" in caplog.text


def test_each_caller_is_answered_once_whatever_races() -> None:
    threads, rng = UserThreads(4), np.random.default_rng(7)
    callers = []
    for number in range(2000):
        steps, seconds = int(rng.integers(0, 2000)), float(rng.choice([0.0, 0.0005, 0.002, SOON]))
        callers.append(begin(threads, lambda steps=steps: sum(range(steps)), seconds, f"fn{number}"))
    for caller in callers:
        caller.answer()
        caller.over()
        assert caller.log == [f"{caller.name} done", f"{caller.name} ended"]
    threads.close()
    kinds = {type(caller.answer()) for caller in callers}
    assert kinds <= {int, DeadlineExceeded, FunctionFailed}
    assert {int, DeadlineExceeded} <= kinds
