"""What a node says of the load of its buckets."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from sparkps.optim import Adagrad
from sparkps.ps_nodes.load import EVERY, MOST_SETS, Load
from sparkps.ps_nodes.tables.directory import Tables
from sparkps.specs import TableSpec
from sparkps.wire.buckets import mask_of_range


def test_every_request_counts_and_its_buckets_share_it() -> None:
    load = Load()
    for _ in range(40 * EVERY):
        if load.count():
            load.took(0b1011)
    for _ in range(6 * EVERY):
        if load.count():
            load.took(0b1000)
    report = load.report(0b1011, ())
    assert load.requests == 46 * EVERY
    assert report["buckets"] == [0, 1, 3]
    assert report["requests"] == pytest.approx([40 * EVERY / 3, 40 * EVERY / 3, 40 * EVERY / 3 + 6 * EVERY], abs=1)


def test_requests_that_come_by_turns_are_looked_at_by_turns() -> None:
    load = Load()
    for number in range(26 * EVERY):
        if load.count():
            load.took(1 << number % 2)
    assert load.report(0b11, ())["requests"] == [13 * EVERY, 13 * EVERY]


def test_no_request_of_many_threads_is_missed() -> None:
    load = Load()

    def run() -> None:
        for _ in range(1000 * EVERY):
            if load.count():
                load.took(1)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert load.report(1, ())["requests"] == [4000 * EVERY]


def test_many_sets_of_buckets_are_added_up_in_time() -> None:
    load = Load()
    for number in range(3 * MOST_SETS):
        load.took(0b1 | number << 1)
        assert len(load._seen) <= MOST_SETS
    expected = EVERY * sum(1 / (0b1 | number << 1).bit_count() for number in range(3 * MOST_SETS))
    assert load.report(1, ())["requests"] == [round(expected)]


def test_a_request_without_buckets_loads_none() -> None:
    load = Load()
    load.took(0)
    assert sum(load.report(mask_of_range(0, 256), ())["requests"]) == 0


def test_bytes_are_those_of_rows_and_of_the_optimizer_in_the_buckets_asked_for() -> None:
    tables = Tables(range(256))
    dense = TableSpec("b", "dense", 1, shape=(256, 100), table=2, dtype="float64")
    tables.create(dense)
    tables.create(TableSpec("w", "sparse", 4, table=1, index=1, dtype="float32", optimizer=Adagrad(0.1)))
    table = tables.table(1)
    report = Load().report(0b110, [tables.table(2), table])
    assert report == {"buckets": [1, 2], "bytes": [800, 800], "requests": [0, 0]}
    assert table.sizes(np.array([1], np.int32)).tolist() == [0]
