"""`PSContext.run`: what workers get, what they leave on the tier, what comes back."""

from __future__ import annotations

import threading

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import functions as sf

from sparkps import ASP, BSP, SSP
from sparkps.optim import SGD, Adagrad
from tests.conftest import wait_until

COUNT = 0


def count_rows(worker, batches):
    return worker.rank, sum(batch.num_rows for batch in batches), batches.schema.names


@pytest.fixture(scope="module")
def scan(spark, tmp_path_factory):
    """A Parquet scan of several partitions: read directly by up to four workers."""
    path = str(tmp_path_factory.mktemp("scan") / "rows")
    spark.range(0, 1000, 1, 4).withColumn("x", sf.col("id") * 0.5).write.parquet(path)
    return spark.read.parquet(path)


@pytest.fixture
def table(ps, request):
    """Creates tables that go with the test."""
    made = []

    def create(name="t", **options):
        options = {"dim": 1, "dtype": "float64", "optimizer": SGD(1.0), **options}
        made.append(ps.sparse_table(f"{name}_{request.node.name.replace('[', '_').replace(']', '')}"[:120], **options))
        return made[-1]

    yield create
    for handle in made:
        handle.drop()


# ---- rows --------------------------------------------------------------------------------------------------------------


def test_one_result_a_rank_in_the_order_of_ranks(spark, ps, scan):
    results = ps.run(scan, count_rows, num_workers=2)
    assert [rank for rank, _, _ in results] == [0, 1]
    assert sum(rows for _, rows, _ in results) == 1000
    assert [names for _, _, names in results] == [["id", "x"]] * 2
    assert results.report.staged == ""


def test_default_number_of_workers_is_what_can_run_at_once(ps, scan):
    assert len(ps.run(scan, count_rows)) == 2


def test_rows_behind_a_shuffle_are_staged(ps, scan):
    results = ps.run(scan.repartition(5), count_rows, num_workers=2)
    assert [rows for _, rows, _ in results] == [500, 500]
    assert "shuffle" in results.report.staged
    assert results.report.staging_seconds > 0


@pytest.mark.parametrize("where", ["1 = 0", "id < 0"])
def test_no_rows_still_have_every_rank_and_the_schema(ps, scan, where):
    assert ps.run(scan.where(where), count_rows, num_workers=2) == [(0, 0, ["id", "x"]), (1, 0, ["id", "x"])]


def test_fewer_rows_than_workers(spark, ps):
    results = ps.run(spark.range(0, 1, 1, 1), count_rows, num_workers=2)
    assert sorted(rows for _, rows, _ in results) == [0, 1]


def read_three_times(worker, batches):
    first = pa.Table.from_batches(list(batches), batches.schema)
    return [pa.Table.from_batches(list(batches), batches.schema).equals(first) for _ in range(2)], first.num_rows


@pytest.mark.parametrize("staged", [False, True])
def test_rows_can_be_read_again(ps, scan, staged):
    results = ps.run(scan.repartition(3) if staged else scan, read_three_times, num_workers=2)
    assert [same for same, _ in results] == [[True, True]] * 2
    assert sum(rows for _, rows in results) == 1000


def never_read(worker, batches):
    return worker.rank


def test_rows_need_not_be_read(ps, scan):
    assert ps.run(scan, never_read, num_workers=2) == [0, 1]


# ---- pushes ------------------------------------------------------------------------------------------------------------


def push_every_row(name, steps):
    def train(worker, batches):
        counts = worker.table(name)
        for _ in range(steps):
            for batch in batches:
                keys = batch.column("id").to_numpy() % 50
                counts.add(keys, np.ones((len(keys), 1)))
            worker.tick()
        return worker.clock

    return train


@pytest.mark.parametrize("consistency", [BSP(), SSP(2), ASP()], ids=["bsp", "ssp", "asp"])
def test_sums_of_concurrent_pushes_are_exact(ps, scan, table, consistency):
    counts = table()
    assert ps.run(scan, push_every_row(counts.name, 4), num_workers=2, consistency=consistency) == [4, 4]
    np.testing.assert_array_equal(counts.pull(np.arange(50)), np.full((50, 1), 80.0))


def adagrad_steps(name, steps):
    def train(worker, batches):
        weights = worker.table(name)
        random = np.random.default_rng(worker.rank)
        for _ in range(steps):
            for batch in batches:
                keys = batch.column("id").to_numpy()
                rows = weights.pull(keys)
                noise = random.normal(size=rows.shape)
                weights.push(keys, (rows - batch.column("x").to_numpy()[:, None] + noise).astype(np.float32))
            worker.tick()

    return train


def trained(ps, df, weights, **options):
    ps.run(df, adagrad_steps(weights.name, 5), num_workers=2, consistency=BSP, **options)
    return weights.pull(np.arange(1000))


def cancelling_steps(name, steps):
    """Both ranks push to the same keys, twice a clock, values whose float64 sum is another one in every order."""

    def train(worker, batches):
        weights = worker.table(name)
        random = np.random.default_rng(worker.rank)
        keys = np.arange(50)
        for _ in range(steps):
            rows = weights.pull(keys)
            for _ in range(2):
                weights.push_async(keys, random.choice([1e16, 1.0, -1e16, 0.1], rows.shape) + 0.5 * rows)
            worker.tick()

    return train


def test_bsp_twice_is_bit_equal(ps, scan, table):
    runs = []
    for i in range(2):
        weights = table(f"w{i}", dim=3, dtype="float64", optimizer=SGD(0.5))
        ps.run(scan, cancelling_steps(weights.name, 5), num_workers=2, consistency=BSP)
        runs.append(weights.pull(np.arange(50)))
    assert len(np.unique(runs[0])) > 10
    np.testing.assert_array_equal(*runs)


def test_deterministic_result_depends_on_the_rows_alone(ps, scan, table):
    runs = [
        trained(ps, df, table(f"w{i}", dim=1, dtype="float32", optimizer=Adagrad(0.5)), deterministic=True)
        for i, df in enumerate([scan, scan.repartition(3), scan.orderBy(sf.desc("x"))])
    ]
    np.testing.assert_array_equal(runs[0], runs[1])
    np.testing.assert_array_equal(runs[0], runs[2])


def uneven(name):
    def train(worker, batches):
        counts = worker.table(name)
        for _ in range(2 + 5 * worker.rank):
            counts.pull([0])
            counts.add([0], [[1.0]])
            worker.tick()
        return worker.clock

    return train


@pytest.mark.parametrize("consistency", [BSP(), SSP(1)], ids=["bsp", "ssp"])
def test_uneven_numbers_of_steps_end_cleanly(ps, scan, table, consistency):
    counts = table()
    assert ps.run(scan, uneven(counts.name), num_workers=2, consistency=consistency) == [2, 7]
    assert counts.pull([0]).item() == 9


def with_closure(handle):
    def train(worker, batches):
        handle.add([worker.rank], [[1.0]])  # the handle of the closure speaks for the rank, too
        worker.tick()
        return handle.pull([0, 1]).ravel().tolist()

    return train


def test_handles_of_the_closure_are_under_the_clock(ps, scan, table):
    assert ps.run(scan, with_closure(table()), num_workers=2) == [[1.0, 1.0], [1.0, 1.0]]


def keeps_state(worker, batches):
    before = worker.state
    worker.tick(state=b"one")
    return before, worker.state, worker.clock, worker.num_workers, worker.device


def test_state_of_a_rank(ps, scan):
    assert ps.run(scan, keeps_state, num_workers=2) == [(None, b"one", 1, 2, None)] * 2


# ---- handles elsewhere -------------------------------------------------------------------------------------------------


def test_pickled_handle_in_a_udf_and_in_foreach_partition(spark, table):
    counts = table()

    def push(rows):
        keys = np.array([row.id for row in rows], dtype=np.int64)
        counts.add(keys, np.ones((len(keys), 1)))

    spark.range(0, 100, 1, 2).foreachPartition(push)
    look_up = sf.udf(lambda key: float(counts.pull([key])[0, 0]), "double")
    rows = spark.range(0, 200, 1, 2).where("id % 50 = 0").select("id", look_up("id").alias("count")).collect()
    assert {row.id: row["count"] for row in rows} == {0: 1.0, 50: 1.0, 100: 0.0, 150: 0.0}


# ---- figures -----------------------------------------------------------------------------------------------------------


def run_ahead(name):
    def train(worker, batches):
        counts = worker.table(name)
        pause = threading.Event()
        for step in range(12):
            counts.pull([0])
            counts.add([worker.rank], [[1.0]])
            if worker.rank == 0:
                pause.wait(0.01)
            worker.tick()
            worker.report({"loss": np.float32(1 / (1 + step))}, epoch=step + 1, epochs=12)
        return worker.clock

    return train


@pytest.mark.parametrize("staleness", [1, 3])
def test_measured_staleness_keeps_to_the_bound(ps, scan, table, staleness):
    report = ps.run(scan, run_ahead(table().name), num_workers=2, consistency=SSP(staleness)).report
    assert [rank.staleness is not None and rank.staleness <= staleness for rank in report.ranks] == [True, True]
    assert report.staleness > 0
    assert [rank.clock for rank in report.ranks] == [12, 12]
    assert report.ranks[1].waited_seconds > 0
    assert report.ranks[0].progress["epoch"] == 12
    assert report.ranks[0].progress["loss"] == pytest.approx(1 / 12)
    assert report.train_seconds > 0


def gated(gate):
    def train(worker, batches):
        pause = threading.Event()
        worker.tick()
        while gate.pull([0]).item() == 0:
            pause.wait(0.02)
            worker.tick()

    return train


def test_status_shows_a_running_group(ps, scan, table):
    gate = table("gate")
    done = threading.Event()

    def run():
        ps.run(scan, gated(gate), num_workers=2, consistency=ASP(), name="shown")
        done.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert wait_until(
            lambda: [len(g["ranks"]) for g in ps.status()["groups"] if g["name"].startswith("shown")] == [2], 30
        )
        [group] = ps.status()["groups"]
        for entry in group["ranks"]:
            assert {"rank", "clock", "staleness", "waited_seconds"} <= set(entry)
    finally:
        gate.add([0], [[1.0]])
        thread.join()
    assert done.is_set()
    assert not [group for group in ps.status()["groups"] if group["name"].startswith("shown")]
