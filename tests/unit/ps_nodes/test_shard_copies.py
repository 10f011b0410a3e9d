"""Users' functions: they see one moment, change everything or nothing, and hold no lock."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import cloudpickle
import numpy as np
import pytest

from sparkps.errors import DeadlineExceeded, FunctionFailed, InvalidInput, SparkPSError
from sparkps.kernels import layout
from sparkps.optim import FTRL
from sparkps.ps_nodes import functions
from sparkps.ps_nodes.shard_copies import Outcome, copy_rows
from sparkps.ps_nodes.user_functions import UserThreads
from sparkps.wire.functions import build_call
from sparkps.wire.hashing import buckets_of
from sparkps.wire.messages.data import FunctionCall
from tests.unit.ps_nodes.tables.given import grouped
from tests.unit.ps_nodes.tier import IDS, KEYS, Tier


@pytest.fixture(params=["sparse", "dense"])
def tier(request: pytest.FixtureRequest) -> Tier:
    return Tier(request.param, [100])


def compute(tier: Tier, function: Callable[..., Any], read_only: bool = False, **args: Any) -> Outcome:
    """Of the first node."""
    functions.register("mine", cloudpickle.dumps(function))
    call = build_call("mine", 1, args, IDS.__getitem__)
    return functions.prepare([call], tier.nodes[0]).compute(tier.parts[0], read_only)


def of_first_node(tier: Tier, table: str) -> np.ndarray:
    return np.concatenate([tier.nodes[0][IDS[table]].rows_of(bucket) for bucket in tier.parts[0]])


def test_user_function_reads_and_writes_rows(tier: Tier) -> None:
    def shift(shard: Any, by: float) -> Any:
        shard.rows()[:] += by * shard.rows("b")
        return np.array([len(shard.keys), shard.rows("b").sum()])

    a, b = tier.values("a"), tier.values("b")
    functions.register("shift", cloudpickle.dumps(shift))
    result = tier.call("shift", tables=["b"], by=2.0)
    assert np.array_equal(tier.values("a"), a + 2.0 * b)
    assert result == pytest.approx([len(b), b.sum()], rel=1e-11)


def test_user_function_that_returns_nothing_or_fails(tier: Tier) -> None:
    functions.register("quiet", cloudpickle.dumps(lambda shard: None))
    assert tier.call("quiet") == 0.0
    functions.register("broken", cloudpickle.dumps(lambda shard: 1 / 0))
    with pytest.raises(FunctionFailed, match="ZeroDivisionError on bucket 0"):
        tier.call("broken")
    functions.register("stranger", cloudpickle.dumps(lambda shard: shard.rows("c")))
    with pytest.raises(FunctionFailed, match="name it in `tables`"):
        tier.call("stranger")


def test_function_that_fails_on_its_last_bucket_changes_nothing(tier: Tier) -> None:
    def late(shard: Any) -> None:
        shard.rows()[:] = 7.0
        if shard.bucket == 99:
            raise ValueError("too late")

    before = tier.values("a")
    functions.register("late", cloudpickle.dumps(late))
    with pytest.raises(FunctionFailed, match="too late"):
        tier.call("late")
    assert np.array_equal(tier.values("a"), before)


def test_partials_that_do_not_fit_together_change_nothing(tier: Tier) -> None:
    def uneven(shard: Any) -> Any:
        shard.rows()[:] = 7.0
        return np.zeros(shard.bucket % 2 + 1)

    before = tier.values("a")
    functions.register("uneven", cloudpickle.dumps(uneven))
    with pytest.raises(FunctionFailed, match="one shape"):
        tier.call("uneven")
    assert np.array_equal(tier.values("a"), before)


def test_tables_change_at_the_commit_and_only_where_something_differs(tier: Tier) -> None:
    def some(shard: Any) -> int:
        rows = shard.rows("c")
        rows[:] = rows + 0.0  # the same bytes
        shard.rows()[1:2] = np.nan
        return len(rows)

    before = tier.values("a")
    outcome = compute(tier, some, tables=["c"])
    assert np.array_equal(tier.values("a"), before)
    assert {change.table.spec.name for change in outcome.changes} == {"a"}
    assert all(change.slots.tolist() == [1] for change in outcome.changes)
    outcome.commit()
    changed = np.isnan(tier.values("a")).any(axis=1)
    assert changed.sum() == len(outcome.changes) > 90
    assert np.array_equal(tier.values("a")[~changed], before[~changed])
    again = compute(tier, some, tables=["c"])
    assert again.changes == []  # NaN where NaN was
    again.commit()


def test_function_sees_what_it_wrote_itself_and_the_first_table_by_its_name(tier: Tier) -> None:
    def twice(shard: Any) -> bool:
        shard.rows()[:] = 1.0
        shard.rows("a")[:] += 1.0
        return bool((shard.rows() == 2.0).all())

    outcome = compute(tier, twice, tables=["a"])
    assert outcome.arrays[1].all()
    outcome.commit()
    assert (of_first_node(tier, "a") == 2.0).all()


def test_what_a_function_keeps_cannot_change_a_table_later(tier: Tier) -> None:
    kept: list[Any] = []
    functions._users["keeps"] = lambda shard: kept.append(shard.rows()) or shard.rows().sum(axis=0)
    before = tier.values("a")
    call = FunctionCall("keeps", [1], {"tables": 0})
    outcome = functions.prepare([call], tier.nodes[0]).compute(tier.parts[0], read_only=False)
    answer = outcome.arrays[1].copy()
    for rows in kept:
        rows[:] = -1.0
    outcome.commit()
    assert np.array_equal(tier.values("a"), before)
    assert np.array_equal(outcome.arrays[1], answer)


@pytest.mark.parametrize("write", ["rows[:] = 0", "rows += 1", "rows.sort(axis=0)", "np.add(rows, 1, out=rows)"])
def test_function_of_a_rank_may_only_read(tier: Tier, write: str) -> None:
    def writes(shard: Any, write: str) -> None:
        exec(write, {"rows": shard.rows(), "np": np})

    before = tier.values("a")
    with pytest.raises(FunctionFailed, match=r"'mine' must only read.*bucket 0.*`push`, `add` or `assign`.*driver"):
        compute(tier, writes, read_only=True, write=write)
    assert np.array_equal(tier.values("a"), before)
    outcome = compute(tier, lambda shard: shard.rows().sum(), read_only=True)
    assert outcome.changes == []
    assert outcome.arrays[1].sum() == pytest.approx(of_first_node(tier, "a").sum())


def test_function_cannot_make_its_rows_writeable() -> None:
    def force(shard: Any) -> None:
        shard.rows().flags.writeable = True

    with pytest.raises(FunctionFailed, match="WRITEABLE"):
        compute(Tier("sparse", []), force, read_only=True)


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), Exception("\udcff"), InvalidInput("no", column="x")])
def test_whatever_a_function_raises_names_function_table_and_bucket(tier: Tier, error: BaseException) -> None:
    functions._users["raises"] = lambda shard: (_ for _ in ()).throw(error)
    with pytest.raises(FunctionFailed) as caught:
        tier.call("raises")
    assert (caught.value.function, caught.value.table, caught.value.bucket) == ("raises", "a", 0)
    assert f"raised {type(error).__name__} on bucket 0" in caught.value.message
    caught.value.message.encode()


@pytest.mark.parametrize("when", ["before", "after"])
def test_keys_and_rows_are_of_one_moment_while_keys_are_inserted(when: str) -> None:
    tier = Tier("sparse", [])
    table = tier.nodes[0][1]
    fresh = grouped(np.random.default_rng(3).integers(1 << 62, (1 << 63) - 1, 20_000))
    fresh_of = {bucket: iter(fresh[buckets_of(fresh) == bucket].reshape(-1, 1)) for bucket in range(8)}
    listed = table.keys_of

    def keys_of(bucket: int) -> Any:
        """One more key comes before, or after, the keys are listed."""
        if when == "before":
            key = next(fresh_of[bucket])
            table.index.resolve(key, table.index.runs(key))
        keys = listed(bucket)
        if when == "after":
            key = next(fresh_of[bucket])
            table.index.resolve(key, table.index.runs(key))
        return keys

    def agree(shard: Any) -> bool:
        return len(shard.rows() * shard.keys[:, None]) == len(shard.rows("c")) == len(shard.keys)

    table.keys_of = keys_of
    functions.register("agree", cloudpickle.dumps(agree))
    for _ in range(3):
        assert functions.run([FunctionCall("agree", [1, 3], {"tables": 1})], tier.nodes[0], range(8))[1].all()
    assert len(listed(0)) == len(table.rows_of(0)) == sum(buckets_of(KEYS) == 0) + 3


def test_keys_and_rows_agree_under_a_stream_of_insertions() -> None:
    tier = Tier("sparse", [])
    table, other = tier.nodes[0][1], tier.nodes[0][2]
    index, stop = table.index, threading.Event()
    stream = np.random.default_rng(5).integers(-(1 << 62), 1 << 62, (60, 500))

    def insert() -> None:
        for keys in stream:
            if stop.is_set():
                return
            some = grouped(keys)
            index.resolve(some, index.runs(some))

    functions.register("sum_of_products", cloudpickle.dumps(lambda shard: (shard.rows() * shard.keys[:, None] * shard.rows("b")).sum()))
    inserting = threading.Thread(target=insert)
    inserting.start()
    try:
        while inserting.is_alive():
            functions.run([FunctionCall("sum_of_products", [1, 2], {"tables": 1})], tier.nodes[0], range(256))
    finally:
        stop.set()
        inserting.join()
    index.validate()
    keys = [table.keys_of(bucket) for bucket in range(256)]
    assert sorted(np.concatenate(keys)) == np.union1d(KEYS, stream).tolist(), "every key is there, once"
    wanted = [(table.rows_of(b) * mine[:, None] * other.rows_of(b)).sum() for b, mine in enumerate(keys)]
    last = functions.run([FunctionCall("sum_of_products", [1, 2], {"tables": 1})], tier.nodes[0], range(256))[1]
    assert last == pytest.approx(np.array(wanted), rel=1e-9)


def test_copies_have_room_for_rows_that_came_while_they_were_made() -> None:
    tier = Tier("sparse", [])
    table, other = tier.nodes[0][1], tier.nodes[0][3]
    sizes, table.sizes = table.sizes, lambda buckets: np.minimum(sizes(buckets), 2)  # as many as there were a moment ago
    rows, others = copy_rows(7, [table, other])
    assert np.array_equal(rows, table.rows_of(7))
    assert np.array_equal(others, other.rows_of(7))
    assert len(rows) > 5


def test_no_lock_is_held_while_a_function_runs(tier: Tier) -> None:
    tables, held = tier.nodes[0], []
    functions._users["looks"] = lambda shard: held.extend(
        int(table.lock_heads[shard.bucket, layout.LOCK]) for table in tables.values()
    )
    functions.run([FunctionCall("looks", [1, 2, 3], {"tables": 2})], tables, tier.parts[0])
    assert held == [0] * 300


@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_ftrl_goes_on_from_rows_that_a_users_function_wrote_and_keeps_the_others(kind: str) -> None:
    tier = Tier(kind, [], optimizer=FTRL(0.1, l1=50.0))
    table = tier.nodes[0][1]

    def push(grad: float) -> None:
        if kind == "dense":
            table.push(table.held, np.full(777, grad))
        else:
            runs = table.index.runs(KEYS)
            table.push(table.index.find(KEYS, runs), runs, np.full((len(KEYS), 2), grad))

    def duals() -> list[np.ndarray]:
        return [table.plane_of(bucket, 1).copy() for bucket in range(256)]

    def set_first(shard: Any) -> None:
        shard.rows()[:1] = 0.75

    push(3.0)
    before = duals()
    functions.register("reads", cloudpickle.dumps(lambda shard: shard.rows().sum()))
    tier.call("reads")
    assert all(map(np.array_equal, duals(), before))
    functions.register("set_first", cloudpickle.dumps(set_first))
    tier.call("set_first")
    assert all(np.array_equal(now[1:], then[1:]) for now, then in zip(duals(), before, strict=True))
    push(0.0)
    firsts = np.concatenate([table.rows_of(bucket)[:1] for bucket in range(256)])
    assert firsts == pytest.approx(np.full_like(firsts, 0.75))


def test_user_function_is_the_only_call_of_its_request(tier: Tier) -> None:
    functions.register("quiet", cloudpickle.dumps(lambda shard: None))
    fill, quiet = FunctionCall("fill", [1], {"value": 1.0}), FunctionCall("quiet", [1], {"tables": 0})
    before = tier.values("a")
    for calls in ([fill, quiet], [quiet, fill], [quiet, quiet]):
        with pytest.raises(InvalidInput, match="request of its own"):
            functions.prepare(calls, tier.nodes[0])
    assert np.array_equal(tier.values("a"), before)
    prepared = functions.prepare([quiet], tier.nodes[0])
    assert (prepared.users, prepared.writes, prepared.written) == (True, False, [])
    assert [table.spec.name for table in prepared.tables] == ["a"]


def test_function_that_is_replaced_after_it_was_prepared_still_runs(tier: Tier) -> None:
    functions.register("version", cloudpickle.dumps(lambda shard: 1))
    prepared = functions.prepare([FunctionCall("version", [1], {"tables": 0})], tier.nodes[0])
    functions.register("version", cloudpickle.dumps(lambda shard: 2))
    assert prepared.compute([0, 5], read_only=False).arrays[1].tolist() == [1, 1]


def test_function_stops_between_buckets_when_nobody_waits_for_it_any_more(tier: Tier) -> None:
    first, released, ended, seen = threading.Event(), threading.Event(), threading.Event(), []
    now = [0.0]
    threads = UserThreads(1, lambda: now[0])

    def slow(shard: Any) -> None:
        seen.append(shard.bucket)
        shard.rows()[:] = 9.0
        first.set()
        assert released.wait(20)

    functions._users["slow"] = slow
    prepared = functions.prepare([FunctionCall("slow", [1], {"tables": 0})], tier.nodes[0])
    answers: list[Any] = []
    answered = threading.Event()

    def done(outcome: Outcome | None, error: SparkPSError | None) -> None:
        if outcome is not None:
            outcome.commit()
        answers.append(error)
        answered.set()

    before = tier.values("a")
    threads.start(lambda: prepared.compute(tier.parts[0], False), 5.0, done, ended.set, name="slow")
    assert first.wait(20)
    now[0] = 5.0
    with threads._changed:
        threads._changed.notify_all()
    assert answered.wait(20)
    released.set()
    assert ended.wait(20)
    threads.close()
    assert seen == [0]
    assert len(answers) == 1
    assert isinstance(answers[0], DeadlineExceeded)
    assert np.array_equal(tier.values("a"), before)


def test_what_cannot_be_called_is_not_registered() -> None:
    with pytest.raises(FunctionFailed, match="must be callable. Got int"):
        functions.register("number", cloudpickle.dumps(7))


def test_function_whose_import_exits_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions.cloudpickle, "loads", lambda blob: (_ for _ in ()).throw(SystemExit(4)))
    with pytest.raises(FunctionFailed, match="importable on the nodes.*SystemExit"):
        functions.register("exits", b"")
