"""One rank's task against the real rules of leases, with a coordinator and nodes that are plain objects in this process."""

from __future__ import annotations

import os
import pickle
import threading
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from sparkps.config import WorkerSettings
from sparkps.driver_bridge.coordinator.leases import Groups, HasFinished, HeldByOther
from sparkps.driver_bridge.groups import rank_task as task_module
from sparkps.driver_bridge.groups.causes import not_started
from sparkps.driver_bridge.groups.rank_lease import RankLease, acquire
from sparkps.driver_bridge.groups.rank_task import FAILED, FINISHED, LOST_RESULT, RankTask, cause_of, stored_result
from sparkps.errors import DeadlineExceeded, Fenced, InvalidInput, NonFiniteValues, WorkerFailed
from sparkps.secret import SIGNATURE_BYTES, TierSecret, forget, keep, sealed
from sparkps.wire.codec import decode, encode
from sparkps.wire.messages import control as c

ADDRESS = c.TierAddress("tier", "inproc://none")
SCHEMA = pa.schema([("x", pa.int64())])
ROWS = pa.RecordBatch.from_pydict({"x": [1, 2, 3]}, SCHEMA)


class Coordinator:
    """Answers as the coordinator does."""

    def __init__(self, num_workers: int, ttl: float = 30.0) -> None:
        self.endpoint = ADDRESS.coordinator
        self.groups = Groups(ttl)
        self.lock = threading.Lock()
        self.spec, _ = self.groups.admit(
            c.AdmitGroup(0, "g", num_workers, num_workers, 0, num_workers, "tag"), time.monotonic()
        )

    def request(self, message, timeout=None):
        with self.lock:
            return self.answer(message, time.monotonic())

    def answer(self, message, now):
        groups, group = self.groups, message.group
        match message:
            case c.Lease():
                held = groups.lease(group, message.rank, message.attempt, now)
                if isinstance(held, HasFinished):
                    return c.Recorded(0, held.result)
                if isinstance(held, HeldByOther):
                    return c.Wait(0, held.reason)
                return c.Leased(0, held.incarnation, held.started)
            case c.Renew():
                state = groups.renew(group, message.rank, message.attempt, message.counters, now)
                return c.Renewed(0, state.all_started, state.cause)
            case c.FinishRank():
                groups.finish(group, message.rank, message.attempt, message.result, message.counters)
            case c.FailRank():
                groups.fail(group, message.cause)
            case c.GroupState():
                state = groups.get(group)
                ranks = [slot.report(rank, now) for rank, slot in enumerate(state.ranks)]
                return c.GroupReport(0, group, state.state, state.cause, state.all_started, ranks)
        return c.Accepted(0)

    @property
    def cause(self):
        return self.groups.running[self.spec.group].cause


@dataclass
class Session:
    """Stands for the nodes as one rank sees them."""

    control: Coordinator
    #: Highest tick and what was stored with it; outlives the session.
    shard: dict = field(default_factory=lambda: {"clock": -1, "state": None})
    address: c.TierAddress = ADDRESS
    member: SimpleNamespace | None = None
    waited_seconds: float = 0.0
    left: bool = False

    def takeover(self, group, rank, incarnation):
        self.member = SimpleNamespace(clock=self.shard["clock"] + 1)
        return self.member.clock, self.shard["state"]

    def tick(self, state=None):
        self.shard.update(clock=self.member.clock, state=state)
        self.member.clock += 1

    def finish(self, state=None):
        self.shard.update(clock=self.member.clock, state=state)
        self.member = None

    def leave(self):
        self.left = True


@pytest.fixture
def tier(monkeypatch):
    """A coordinator of one group and the session of one rank."""
    made = SimpleNamespace(coordinator=None, session=None)

    def create(num_workers=1, **options):
        made.coordinator = Coordinator(num_workers, **options)
        made.session = Session(made.coordinator)
        return made

    monkeypatch.setattr(task_module, "connect", lambda address: made.session)
    monkeypatch.setattr(task_module, "disconnect", lambda address: None)
    monkeypatch.setattr(task_module.ControlClient, "of", lambda address: made.coordinator)
    return create


def run(tier, train, *, rank=0, attempt=7, settings=None):
    task = RankTask(ADDRESS, tier.coordinator.spec, train, SCHEMA, settings or WorkerSettings(), slots=2)
    return task.run(rank, attempt, iter([ROWS]), ())


def recorded(tier, rank=0):
    return tier.coordinator.groups.running[tier.coordinator.spec.group].ranks[rank]


def test_a_rank_trains_and_its_result_is_recorded(tier):
    t = tier()

    def train(worker, batches):
        worker.tick(b"mine")
        worker.report(epoch=1)
        return worker.rank, worker.clock, worker.state, [batch.num_rows for batch in batches]

    outcome, result = run(t, train)
    assert (outcome, pickle.loads(result)) == (FINISHED, (0, 1, b"mine", [3]))
    assert recorded(t).result == result
    assert recorded(t).counters["epoch"] == 1
    assert recorded(t).counters["clock"] == 1


def test_a_later_attempt_gives_the_recorded_result_and_trains_no_more(tier):
    t = tier()
    first = run(t, lambda worker, batches: "once")
    assert run(t, lambda worker, batches: pytest.fail("trained twice"), attempt=8) == first


def test_a_finished_rank_whose_record_was_lost_gives_the_result_stored_with_its_last_tick(tier):
    t = tier()
    t.session.shard.update(clock=5, state=b"r" + pickle.dumps("kept"))
    outcome, result = run(t, lambda worker, batches: pytest.fail("trained twice"))
    assert (outcome, pickle.loads(result)) == (FINISHED, "kept")
    assert recorded(t).finished


def test_a_large_result_that_was_lost_is_said_to_be(tier):
    t = tier()
    outcome, result = run(t, lambda worker, batches: os.urandom(c.MAX_RECORDED_RESULT + 1))
    assert outcome == FINISHED
    assert len(pickle.loads(result)) > c.MAX_RECORDED_RESULT
    assert run(t, lambda worker, batches: None, attempt=8) == (LOST_RESULT, None)


@pytest.mark.parametrize("more", [0, 1])
def test_the_largest_result_that_is_recorded_has_room_for_its_signature(more):
    pickled = bytes(c.MAX_RECORDED_RESULT - SIGNATURE_BYTES + more)
    is_kept = len(stored_result(pickled)) > len(pickled)
    assert is_kept == (more == 0)
    assert is_kept == (len(sealed(TierSecret.new(), "tier", "result", pickled)) <= c.MAX_RECORDED_RESULT)


@pytest.mark.parametrize("is_secured", [True, False])
def test_what_a_rank_logs_goes_out_with_the_secret_of_its_tier(tier, monkeypatch, is_secured):
    made = []
    monkeypatch.setattr(task_module, "LogForwarder", lambda *given: made.append(given) or nullcontext())
    secret, address = TierSecret.new(), c.TierAddress("guarded", "tcp://127.0.0.1:1", 1.0, is_secured)
    if is_secured:
        keep("guarded", secret)
    try:
        task = RankTask(address, tier().coordinator.spec, None, SCHEMA, WorkerSettings(), slots=2, log_level="INFO")
        with task._log_forwarded(3):
            pass
    finally:
        forget("guarded")
    ((endpoint, origin, level, given),) = made
    assert (endpoint, level, given) == (address.coordinator, "INFO", secret if is_secured else None)
    assert origin.startswith("rank 3 on ")


def test_a_successor_finds_clock_and_state(tier):
    t = tier()
    t.session.shard.update(clock=5, state=b"smine")
    _, result = run(t, lambda worker, batches: (worker.clock, worker.state))
    assert pickle.loads(result) == (6, b"mine")


def raises(error):
    def train(worker, batches):
        raise error

    return train


@pytest.mark.parametrize(
    ("error", "cause"),
    [(ValueError("bad day"), "ValueError"), (SystemExit(3), "SystemExit"), (KeyboardInterrupt(), "KeyboardInterrupt")],
)
def test_whatever_a_train_function_raises_is_the_cause(tier, error, cause):
    t = tier()
    assert run(t, raises(error)) == (FAILED, None)
    told = t.coordinator.cause.exception()
    assert isinstance(told, WorkerFailed)
    assert (told.rank, told.cause) == (0, cause)
    assert "in train" in told.traceback
    assert "_hold" not in told.traceback
    assert t.session.left


def test_the_first_cause_stays(tier):
    t = tier()
    run(t, raises(ValueError("first")))
    run(t, raises(ValueError("second")))
    assert "first" in t.coordinator.cause.message


def test_errors_of_sparkps_keep_what_they_are_about():
    error = NonFiniteValues("no NaN", table="w", key=5)
    cause = cause_of(error, 3, Coordinator(4).spec)
    assert cause.attributes["table"] == "w"
    assert cause.attributes["key"] == 5
    assert (cause.attributes["rank"], cause.attributes["cause"]) == (3, "NonFiniteValues")
    relayed = cause_of(cause.exception(), 1, Coordinator(4).spec)
    assert relayed.attributes["rank"] == 3, "a cause that comes back from a node is not wrapped again"


def test_a_rank_of_a_failed_group_ends_quietly(tier):
    t = tier(2)
    t.coordinator.groups.fail(1, c.Cause("WorkerFailed", "rank 1 failed"))
    assert run(t, lambda worker, batches: pytest.fail("started")) == (FAILED, None)


def test_a_rank_hears_that_another_one_failed(tier):
    t = tier(2)
    acquire(t.coordinator, t.coordinator.spec, 1, 99, 30.0).stop()

    def train(worker, batches):
        t.coordinator.request(c.FailRank(0, 1, 1, 99, c.Cause("WorkerFailed", "rank 1 failed")))
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            worker.tick()

    assert run(t, train) == (FAILED, None)
    assert t.coordinator.cause.message == "rank 1 failed"


def test_ranks_that_do_not_start_are_named(tier, monkeypatch):
    monkeypatch.setattr(task_module, "_START_GRACE", 0.0)
    t = tier(3)
    assert run(t, lambda worker, batches: None, settings=WorkerSettings(group_start_timeout=0.05)) == (FAILED, None)
    assert "Ranks [1, 2] have not" in t.coordinator.cause.message


def test_start_error_says_what_was_asked_and_what_there_is():
    coordinator = Coordinator(3)
    error = not_started(coordinator.request(c.GroupState(0, 1)), coordinator.spec, 60, 2)
    assert isinstance(error, DeadlineExceeded)
    assert (error.missing, error.slots, error.asked) == ([0, 1, 2], 2, 3)
    told = not_started(coordinator.request(c.GroupState(0, 1)), coordinator.spec, 60, 0, "Spark was asked for 3 GPUs.", "raise `x`")
    assert "not known, 3 workers were asked for. Spark was asked for 3 GPUs. Ask for fewer" in told.message
    assert "end the other jobs, raise `x`, or raise `spark.sparkps.groupStartTimeout`." in told.message


def test_a_fenced_attempt_waits_for_the_result_of_its_successor(tier):
    t = tier()

    def train(worker, batches):
        groups = t.coordinator.groups
        groups.release(1, 0, 7)
        groups.lease(1, 0, 8, time.monotonic())
        groups.finish(1, 0, 8, pickle.dumps("from the successor"), {})
        raise Fenced("a node fenced this incarnation")

    outcome, result = run(t, train)
    assert (outcome, pickle.loads(result)) == (FINISHED, "from the successor")
    assert t.coordinator.cause is None


def test_a_newcomer_waits_while_the_rank_is_held_and_takes_it_when_the_lease_ends(tier):
    t = tier(ttl=0.3)
    t.coordinator.request(c.Lease(0, 1, 0, 1))
    began = time.monotonic()
    lease = acquire(t.coordinator, t.coordinator.spec, 0, 2, 0.3)
    assert isinstance(lease, RankLease)
    assert lease.incarnation == 2
    assert time.monotonic() - began >= 0.25
    lease.stop()


def test_a_lease_is_renewed_for_as_long_as_it_is_held(tier):
    t = tier(ttl=0.3)
    lease = acquire(t.coordinator, t.coordinator.spec, 0, 1, 0.3)
    assert not threading.Event().wait(0.8)
    assert isinstance(t.coordinator.request(c.Lease(0, 1, 0, 2)), c.Wait)
    lease.check()
    lease.stop()


def test_fenced_when_the_group_has_ended(tier):
    t = tier()
    t.coordinator.groups.end(1)
    with pytest.raises(Fenced):
        acquire(t.coordinator, t.coordinator.spec, 0, 1, 30.0)
    assert run(t, lambda worker, batches: None) == (FAILED, None)


@pytest.mark.parametrize("misuse", [lambda w: w.tick(state="text"), lambda w: w.report({"loss": [1]})])
def test_misuse_is_refused(tier, misuse):
    t = tier()
    assert run(t, lambda worker, batches: misuse(worker)) == (FAILED, None)
    assert t.coordinator.cause.attributes["cause"] == InvalidInput.__name__


# ---- what a train function says, and what it raises, can be sent ---------------------------------------------------------


def sent(cause):
    """A cause as the driver gets it."""
    return decode(encode(c.FailRank(0, 1, 0, 0, cause)))[0].cause


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


class ExitsWhenAsked(Exception):
    def __str__(self):
        raise SystemExit(3)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FileNotFoundError("part-\udcff.csv"), r"FileNotFoundError: part-\udcff.csv"),
        (ValueError("begins" + "x" * 80_000_000 + "ends"), "ValueError: begins"),
        (InvalidInput("begins" + "x" * 80_000_000 + "ends", table="w"), "InvalidInput: begins"),
        (Mute(), "Mute: <Mute, whose text cannot be had: RuntimeError>"),
        (ExitsWhenAsked(), "whose text cannot be had: SystemExit>"),
        (SystemExit(3), "SystemExit: 3"),
        (ExceptionGroup("several", [ValueError("\udcff"), Mute()]), "ExceptionGroup: several (2 sub-exceptions)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_a_train_function_raises_fails_its_group_with_that_cause(tier, error, said):
    def train(worker, batches):
        raise error

    t = tier()
    assert run(t, train) == (FAILED, None)
    back = sent(t.coordinator.cause)
    assert said in back.message
    assert len(back.message) < 20_000
    assert len(back.attributes["traceback"]) <= 8000
    assert back.attributes["rank"] == 0


def test_causes_whose_traceback_cannot_be_had_are_told():
    error = ValueError("text")
    error.__notes__ = [Mute()] * 3  # a traceback shows notes
    error.__cause__ = error.__context__ = Mute()
    assert sent(cause_of(error, 0, Coordinator(1).spec)).message.endswith("ValueError: text")


@pytest.mark.parametrize(
    ("progress", "reason"),
    [
        ({"n": 2**70}, "64 bits. Got one of 71 bits for 'n'"),
        ({"n": -(2**63) - 1}, "64 bits"),
        ({"n": [1]}, "Got list for 'n'"),
        ({"n": 1j}, "Got complex for 'n'"),
        ({f"n{n}": n for n in range(100)}, "at most 24 values"),
        ({f"n{n}": "x" * 200 for n in range(20)}, "2048 bytes"),
    ],
)
def test_reports_that_cannot_be_sent_are_refused_at_the_call(tier, progress, reason):
    def train(worker, batches):
        worker.report(epoch=1)
        with pytest.raises(InvalidInput, match=reason):
            worker.report(progress)
        return worker.counters()["epoch"], len(worker.counters())

    t = tier()
    outcome, result = run(t, train)
    assert (outcome, pickle.loads(result)) == (FINISHED, (1, 3))


def test_what_can_be_made_fit_is_reported(tier):
    def train(worker, batches):
        worker.report(name="part-\udcff.csv", text="x" * 80_000_000, nan=float("nan"), top=2**64 - 1, low=-(2**63))
        worker.report({"\udcff": np.float32(0.5), 3: np.int64(7), "y" * 1000: np.bool_(True)})
        return worker.counters()

    t = tier()
    counters = pickle.loads(run(t, train)[1])
    message, _ = decode(encode(c.Renew(0, 1, 0, 0, counters)))
    told = message.counters
    assert told["name"] == r"part-\udcff.csv"
    assert (told[r"\udcff"], told["3"], told["top"], told["low"]) == (0.5, 7, 2**64 - 1, -(2**63))
    assert len(told["text"]) <= 500
    assert all(type(value) in (int, float, str, bool) for value in told.values())
    assert max(map(len, told)) <= 200


def test_reports_of_one_name_again_and_again_do_not_add_up(tier):
    def train(worker, batches):
        for epoch in range(1000):
            worker.report(epoch=epoch, text="x" * 400)
        return worker.counters()["epoch"]

    assert pickle.loads(run(tier(), train)[1]) == 999


def test_a_successor_does_not_train_again_for_a_result_that_was_too_large(tier):
    t = tier()
    t.session.shard.update(clock=3, state=b"x")
    assert run(t, lambda worker, batches: pytest.fail("trained again")) == (LOST_RESULT, None)


def test_a_rank_s_session_ends_with_its_task(tier, monkeypatch):
    ended = []
    monkeypatch.setattr(task_module, "disconnect", ended.append)
    t = tier()
    run(t, lambda worker, batches: None)
    assert ended == [t.session.address]


def test_the_end_of_a_rank_does_not_wait_long_for_a_silent_coordinator(tier, monkeypatch):
    t = tier()
    limits = []
    asked = t.coordinator.request

    def request(message, timeout=None):
        if isinstance(message, c.FinishRank):
            limits.append(timeout)
        return asked(message, timeout)

    monkeypatch.setattr(t.coordinator, "request", request)
    run(t, lambda worker, batches: None)
    assert limits == [5.0]
