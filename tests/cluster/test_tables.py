"""Tables on real node processes: what the handles promise."""

from __future__ import annotations

import gc
import pickle
import threading

import numpy as np
import pytest

from sparkps.errors import FunctionFailed, InvalidInput, NonFiniteValues, TableMismatch, UnknownTable
from sparkps.initializers import Constant, Uniform
from sparkps.optim import SGD, Adagrad
from tests.cluster.conftest import Tier
from tests.harness.waiting import wait_until

EXTREMES = np.array([-(2**63), 2**63 - 1, -1, 0, 1], np.int64)


def test_rows_of_any_key_come_back(tier: Tier) -> None:
    w = tier.sparse("any", dim=3)
    w.add(EXTREMES, np.arange(15).reshape(5, 3))
    assert np.array_equal(w.pull(EXTREMES), np.arange(15, dtype=np.float32).reshape(5, 3))
    assert np.array_equal(w.pull([7]), np.zeros((1, 3)))


def test_a_key_never_written_reads_as_its_initial_row_and_is_not_stored(tier: Tier) -> None:
    e = tier.sparse("initial", dim=4, init=Uniform(-1, 1), seed=5)
    keys = np.arange(1000)
    first = e.pull(keys)
    assert (np.abs(first) <= 1).all()
    assert len(np.unique(first)) > 3900
    assert tier.rows("initial") == 0
    e.add(keys[::2], np.zeros((500, 4)))
    assert np.array_equal(e.pull(keys), first), "an initial row depends on nothing but seed and key"
    assert tier.rows("initial") == 500


@pytest.mark.parametrize("n", [0, 1, 1000, 300_000])
@pytest.mark.parametrize("dim", [1, 5])
def test_pushes_and_pulls_of_all_sizes(tier: Tier, n: int, dim: int) -> None:
    rng = np.random.default_rng(n + dim)
    w = tier.sparse(f"sizes_{n}_{dim}", dim=dim, optimizer=SGD(0.5), dtype="float64")
    keys = rng.permutation(n * 3)[:n].astype(np.int64)
    grads = rng.integers(-8, 8, (n, dim)).astype(np.float64)
    w.push(keys, grads)
    w.push(keys, grads)
    assert np.array_equal(w.pull(keys), -grads)


def test_duplicate_keys_are_summed_first(tier: Tier) -> None:
    w = tier.sparse("duplicates", dim=1, optimizer=Adagrad(1.0, initial_accumulator=0.0, epsilon=1e-12))
    w.push([3, 4, 3, 3], [[1.0], [2.0], [1.0], [1.0]])
    assert np.allclose(w.pull([4, 3, 4]), [[-1.0], [-1.0], [-1.0]]), "one optimizer step on the sum"
    w.assign([3, 3], [[5.0], [6.0]])
    assert w.pull([3])[0, 0] == 6.0


def test_registered_keys_carry_values_alone(tier: Tier) -> None:
    w = tier.sparse("registered", dim=2, init=Constant(1.0))
    keys = np.random.default_rng(0).permutation(400_000)[:150_000].astype(np.int64)
    ks = w.register(keys)
    assert tier.rows("registered") == 0
    assert np.array_equal(ks.pull(), np.ones((150_000, 2)))
    values = np.random.default_rng(1).integers(0, 9, (150_000, 2)).astype(np.float32)
    ks.add(values)
    assert np.array_equal(ks.pull(), values + 1)
    assert np.array_equal(w.pull(keys[:100]), values[:100] + 1)
    out = np.empty((150_000, 2), np.float32)
    assert ks.pull(out) is out
    assert np.array_equal(out, values + 1)
    twice = w.register([5, 5, 6])
    twice.add([[1, 1], [1, 1], [1, 1]])
    assert twice.pull()[:, 0].tolist() == (w.pull([5, 5, 6])[:, 0]).tolist()
    ks.drop()
    assert np.array_equal(ks.pull(), w.pull(keys)), "a dropped key set registers again"


def test_dense_tables(tier: Tier) -> None:
    for shape in [(1000, 64), (3,), (2, 2, 2)]:
        d = tier.dense(f"dense_{len(shape)}", shape=shape, optimizer=SGD(1.0), init=Constant(2.0))
        assert np.array_equal(d.pull(), np.full(shape, 2.0))
        grads = np.random.default_rng(1).random(shape, np.float32)
        d.push(grads)
        assert np.allclose(d.pull(), 2 - grads)
        d.assign(grads)
        d.add(grads)
        assert np.array_equal(d.pull(), grads * 2)


def test_tables_of_a_group_share_their_keys(tier: Tier) -> None:
    a = tier.sparse("a", dim=1, group="pair", dtype="float64")
    b = tier.sparse("b", dim=3, group="pair", init=Constant(7.0), dtype="float64")
    a.add([1, 2], [[1.0], [2.0]])
    assert tier.rows("b") == 2
    assert np.array_equal(b.pull([1, 2, 9]), np.full((3, 3), 7.0))
    ks = a.register([1, 2, 9])
    assert np.array_equal(ks.on(b).pull(), np.full((3, 3), 7.0))


def test_server_functions_do_not_depend_on_the_number_of_nodes(tier: Tier) -> None:
    rng = np.random.default_rng(3)
    x = tier.sparse("fx", dim=1, group="f", dtype="float64")
    y = tier.sparse("fy", dim=1, group="f", dtype="float64")
    keys, a, b = np.arange(5000), rng.normal(size=(5000, 1)), rng.normal(size=(5000, 1))
    x.assign(keys, a)
    y.assign(keys, b)
    assert np.isclose(x.call("dot", other="fy"), float((a * b).sum()))
    assert np.isclose(x.call("dot", other=y), float((a * b).sum()))
    assert np.isclose(x.call("sum"), a.sum())
    assert np.isclose(x.call("norm2"), np.linalg.norm(a))
    assert np.isclose(x.call("norm1"), np.abs(a).sum())
    assert (x.call("min"), x.call("max")) == (a.min(), a.max())
    assert x.call("nnz") == 5000
    top, values = x.call("topk", k=3)
    assert np.array_equal(np.ravel(values), np.sort(a.ravel())[::-1][:3]) or np.array_equal(
        np.abs(np.ravel(values)), np.sort(np.abs(a.ravel()))[::-1][:3]
    )
    assert np.array_equal(x.pull(top).ravel(), np.ravel(values))
    x.call("axpy", alpha=2.0, x="fy")
    assert np.allclose(x.pull(keys), a + 2 * b)
    x.call("scale", alpha=0.5)
    assert np.allclose(x.pull(keys), (a + 2 * b) / 2)
    x.call("fill", value=1.5)
    assert np.array_equal(x.pull(keys), np.full((5000, 1), 1.5))


def test_a_function_that_does_not_exist_or_fails_says_so(tier: Tier) -> None:
    w = tier.sparse("functions", dim=1)
    with pytest.raises((FunctionFailed, InvalidInput), match="median"):
        w.call("median")


def test_handles_are_picklable_and_usable_from_other_threads(tier: Tier) -> None:
    w = tier.sparse("threads", dim=1, dtype="float64")
    handle = pickle.loads(pickle.dumps(w))
    keys = np.arange(2000)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            ks = handle.register(keys)
            for _ in range(20):
                handle.add(keys, np.ones((2000, 1)))
                ks.add(np.ones((2000, 1)))
        except BaseException as error:
            failures.append(error)
        finally:
            tier.disconnect()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert np.array_equal(w.pull(keys), np.full((2000, 1), 4 * 20 * 2.0)), "sums of concurrent writes are exact"


def test_asynchronous_calls(tier: Tier) -> None:
    w = tier.sparse("async", dim=1)
    keys = np.arange(100_000)
    futures = [w.add_async(keys, np.ones((100_000, 1))) for _ in range(5)]
    rows = w.pull_async(keys)
    assert np.array_equal(rows.result(timeout=90), np.full((100_000, 1), 5.0)), "calls of one session run in order"
    assert all(f.done() for f in futures)
    assert rows.result() is rows.result()


def test_a_table_is_created_once_however_many_callers_race(tier: Tier) -> None:
    specs = []
    threads = [threading.Thread(target=lambda: specs.append(tier.sparse("raced", dim=2).spec)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({spec.table for spec in specs}) == 1
    with pytest.raises(TableMismatch, match="raced"):
        tier.sparse("raced", dim=3)


def test_a_dropped_table_is_gone_and_its_name_free(tier: Tier) -> None:
    w = tier.sparse("dropped", dim=1)
    ks = w.register([1, 2, 3])
    ks.add([[1], [1], [1]])
    w.drop()
    with pytest.raises(UnknownTable):
        w.pull([1])
    with pytest.raises(UnknownTable):
        ks.pull()
    again = tier.sparse("dropped", dim=4)
    assert np.array_equal(again.pull([1]), np.zeros((1, 4)))


@pytest.mark.parametrize(
    ("keys", "values", "error", "says"),
    [
        ([1, 2], [[np.nan], [1.0]], NonFiniteValues, "key 1"),
        ([1, 2], [[1.0], [np.inf]], NonFiniteValues, "key 2"),
        ([1, 2], [[1.0], [1e60]], NonFiniteValues, "key 2"),
        ([1, 2], [[1.0]], InvalidInput, r"\(2, 1\)"),
        ([1, 2], [[1.0, 2.0], [1.0, 2.0]], InvalidInput, r"\(2, 1\)"),
        ([1.5, 2], [[1.0], [1.0]], InvalidInput, "integers"),
        ([[1], [2]], [[1.0], [1.0]], InvalidInput, "one-dimensional"),
        (["a", "b"], [[1.0], [1.0]], InvalidInput, "integers"),
        ([1, 2], [["x"], ["y"]], InvalidInput, "real numbers"),
        ([1, 2], [[1.0], [1.0, 2.0]], InvalidInput, "array of numbers"),
        ([1, 2], [[1j], [1.0]], InvalidInput, "real numbers"),
        (np.array([2**64 - 1, 1], np.uint64), [[1.0], [1.0]], InvalidInput, "2\\*\\*63"),
        (None, [[1.0]], InvalidInput, "keys"),
    ],
)
@pytest.mark.parametrize("call", ["push", "add", "assign"])
def test_bad_writes_are_refused_and_change_nothing(
    tier: Tier, keys: object, values: object, error: type[Exception], says: str, call: str
) -> None:
    w = tier.sparse("bad", dim=1)
    before = w.pull([1, 2])
    with pytest.raises(error, match=says) as caught:
        getattr(w, call)(keys, values)
    assert caught.value.table == "bad"
    assert np.array_equal(w.pull([1, 2]), before)


def test_bad_dense_writes_are_refused(tier: Tier) -> None:
    d = tier.dense("bad_dense", shape=(2, 3))
    with pytest.raises(InvalidInput, match=r"\(2, 3\)"):
        d.push(np.zeros((3, 2)))
    with pytest.raises(NonFiniteValues, match=r"\(1, 2\)"):
        d.push([[0, 0, 0], [0, 0, np.nan]])
    assert np.array_equal(d.pull(), np.zeros((2, 3)))


def test_a_thread_that_ends_leaves_no_session_behind(tier: Tier) -> None:
    w = tier.sparse("thread_end", dim=1)
    before = [report["sessions"] for report in tier.reports()]
    thread = threading.Thread(target=lambda: w.add([1], [[1.0]]))
    thread.start()
    thread.join()
    gc.collect()
    assert wait_until(lambda: [report["sessions"] for report in tier.reports()] == before, 120.0)
