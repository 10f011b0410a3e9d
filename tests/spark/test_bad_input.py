"""What goes wrong in a run reaches the driver as its first cause, and the tier stays as it was."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest

from sparkps import BSP, SSP
from sparkps.errors import ConfigError, InvalidInput, NonFiniteValues, NotEnoughSlots, UnknownTable, WorkerFailed
from sparkps.optim import SGD


@pytest.fixture(scope="module")
def w(ps):
    handle = ps.sparse_table("w", dim=2, optimizer=SGD(1.0))
    handle.assign([1, 2], [[1.0, 2.0], [3.0, 4.0]])
    yield handle
    np.testing.assert_array_equal(handle.pull([1, 2]), [[1.0, 2.0], [3.0, 4.0]])
    handle.drop()


def on_rank_1(act):
    """A train function of which rank 1 does `act`, while rank 0 waits for it on the tier."""

    def train(worker, batches):
        table = worker.table("w")
        if worker.rank == 1:
            act(worker, table)
        worker.tick()
        table.pull([1])
        worker.tick()
        return worker.rank

    return train


def nan(worker, table):
    table.push([1, 7], [[0.0, 1.0], [float("nan"), 1.0]])


def wrong_shape(worker, table):
    table.push([1, 2], np.zeros((2, 3)))


def float_keys(worker, table):
    table.push(np.array([1.0, 2.0]), np.zeros((2, 2)))


def words(worker, table):
    table.push([1], [["a", "b"]])


def no_such_table(worker, table):
    worker.table("nowhere").pull([1])


@pytest.mark.parametrize(
    ("act", "kind", "table"),
    [
        (nan, NonFiniteValues, "w"),
        (wrong_shape, InvalidInput, "w"),
        (float_keys, InvalidInput, "w"),
        (words, InvalidInput, "w"),
        (no_such_table, UnknownTable, "nowhere"),
    ],
)
def test_bad_push_names_rank_and_table_at_the_driver(spark, ps, w, act, kind, table):
    with pytest.raises(WorkerFailed, match=r"[Rr]ank 1 .*" + kind.__name__) as caught:
        ps.run(spark.range(100), on_rank_1(act), num_workers=2)
    assert caught.value.rank == 1
    assert isinstance(caught.value.__cause__, kind)
    assert caught.value.table == table
    assert act.__name__ in caught.value.traceback
    assert ps.run(spark.range(100), on_rank_1(lambda worker, table: None), num_workers=2) == [0, 1]


def test_nan_names_the_key(spark, ps, w):
    with pytest.raises(WorkerFailed) as caught:
        ps.run(spark.range(100), on_rank_1(nan), num_workers=2)
    assert caught.value.key == 7


def divides(worker, table):
    return 1 / 0


def exits(worker, table):
    sys.exit("no more")


def interrupts(worker, table):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("act", "cause"), [(divides, "ZeroDivisionError"), (exits, "SystemExit"), (interrupts, "KeyboardInterrupt")]
)
def test_an_exception_of_a_worker_is_the_cause_at_the_driver(spark, ps, w, act, cause):
    with pytest.raises(WorkerFailed, match=rf"[Rr]ank 1 .*{cause}") as caught:
        ps.run(spark.range(100).repartition(2), on_rank_1(act), num_workers=2)
    assert (caught.value.rank, caught.value.cause) == (1, cause)
    assert ps.run(spark.range(100), on_rank_1(lambda worker, table: None), num_workers=2) == [0, 1]


def test_a_result_that_cannot_be_pickled_names_its_rank(spark, ps):
    with pytest.raises(WorkerFailed, match=r"[Rr]ank [01] .*pickle"):
        ps.run(spark.range(10), lambda worker, batches: threading.Lock(), num_workers=2)


def test_large_results_come_back(spark, ps):
    results = ps.run(spark.range(10), lambda worker, batches: np.full(300_000, worker.rank, np.float64), num_workers=2)
    assert [result.sum() for result in results] == [0, 300_000]


def test_a_result_that_the_jvm_has_no_room_for_is_refused_and_the_session_lives(spark, ps):
    with pytest.raises(WorkerFailed, match=r"must have at most 67108864 bytes, pickled \(`spark.sparkps.maxResultBytes`\). Got 73"):
        ps.run(spark.range(10), lambda worker, batches: bytes(70 << 20) if worker.rank else None, num_workers=2)
    assert ps.run(spark.range(10), lambda worker, batches: worker.rank, num_workers=2) == [0, 1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda worker: worker.tick(state={"a": 1}), "bytes"),
        (lambda worker: worker.report(loss=[1.0]), "numbers"),
    ],
)
def test_misused_worker_says_what_it_takes(spark, ps, call, message):
    with pytest.raises(WorkerFailed, match=message) as caught:
        ps.run(spark.range(10), lambda worker, batches: call(worker), num_workers=1)
    assert isinstance(caught.value.__cause__, InvalidInput)


def test_more_workers_than_slots(spark, ps):
    with pytest.raises(NotEnoughSlots, match=r"2 task slots, 3 workers .*spark\.master") as caught:
        ps.run(spark.range(10), on_rank_1(nan), num_workers=3)
    assert (caught.value.slots, caught.value.asked) == (2, 3)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"num_workers": 0}, InvalidInput),
        ({"consistency": "bsp"}, ConfigError),
        ({"train": 5}, InvalidInput),
        ({"df": [1, 2]}, InvalidInput),
    ],
)
def test_arguments_are_checked_before_anything_starts(spark, ps, options, kind):
    given = {"df": spark.range(4), "train": on_rank_1(nan), "num_workers": 2, "consistency": BSP, **options}
    with pytest.raises(kind):
        ps.run(given.pop("df"), given.pop("train"), **given)
    assert ps.status()["groups"] == []


def test_staleness_must_be_positive():
    with pytest.raises(ConfigError, match="staleness"):
        SSP(0)


def test_idle_timeout_is_refused_by_name(spark, ps):
    spark.conf.set("spark.sql.execution.pyspark.udf.killOnIdleTimeout", "true")
    spark.conf.set("spark.sql.execution.pyspark.udf.idleTimeoutSeconds", "5")
    try:
        with pytest.raises(ConfigError, match="killOnIdleTimeout"):
            ps.run(spark.range(4), on_rank_1(nan), num_workers=2)
    finally:
        spark.conf.unset("spark.sql.execution.pyspark.udf.killOnIdleTimeout")
        spark.conf.unset("spark.sql.execution.pyspark.udf.idleTimeoutSeconds")
