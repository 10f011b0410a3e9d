"""Sparse tables and their key index against dictionaries, under growth and under many threads."""

from __future__ import annotations

import subprocess
import sys
import threading
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparkps.errors import InvalidInput
from sparkps.initializers import Normal, Uniform
from sparkps.optim import FTRL, SGD, Adagrad
from sparkps.ps_nodes.tables.buffers import GrowthSeries, allocate
from sparkps.ps_nodes.tables.index import KeyIndex
from sparkps.ps_nodes.tables.sparse import SparseShards
from sparkps.specs import TableSpec
from sparkps.wire.messages.data import OpCode
from tests import naive
from tests.unit.ps_nodes.tables.given import grouped

EXTREMES = [0, -1, 1, -(1 << 63), (1 << 63) - 1]


def made(index: KeyIndex, name: str = "t", dim: int = 2, dtype: str = "float64", **fields: object) -> SparseShards:
    table = SparseShards(TableSpec(name, "sparse", dim, dtype, **fields), index)  # type: ignore[arg-type]
    index.attach(table)
    return table


keys_strategy = st.lists(
    st.one_of(st.integers(-(1 << 63), (1 << 63) - 1), st.integers(0, 30), st.sampled_from(EXTREMES)),
    min_size=1,
    max_size=60,
)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["push", "add", "assign"]), keys_strategy), max_size=12),
    st.sampled_from(["float32", "float64"]),
)
def test_any_sequence_of_writes_equals_a_dictionary(writes: list[tuple[str, list[int]]], dtype: str) -> None:
    index = KeyIndex(range(256))
    table = made(index, dtype=dtype, init=Uniform(-1, 1), optimizer=SGD(0.5))
    law = table.spec.init.law(2, 2)
    twin = naive.Table(SGD(0.5), dtype, lambda key: [naive.draw(law, 0, key, column) for column in range(2)])
    for number, (verb, some) in enumerate(writes):
        keys = grouped(np.array(some))
        values = np.random.default_rng(number).normal(size=(len(keys), 2)).astype(dtype)
        runs = index.runs(keys)
        getattr(table, verb)(index.resolve(keys, runs), runs, values)
        getattr(twin, verb)(keys.tolist(), values)
        index.validate()
    for key in {*EXTREMES, *(key for _, some in writes for key in some)}:
        one = np.array([key], np.int64)
        runs = index.runs(one)
        slots = index.find(one, runs)
        assert (slots[0] >= 0) == (key in twin.rows)
        assert table.gather(one, slots, runs)[0] == pytest.approx(twin.read(key), rel=1e-5, abs=1e-6)


def test_slots_count_up_and_stay_through_growth() -> None:
    index = KeyIndex(range(256))
    first = made(index, init=Normal(0, 1))
    rng = np.random.default_rng(1)
    slots_of: dict[int, int] = {}
    for size in (10, 1000, 40_000, 3):
        keys = grouped(rng.integers(-(1 << 62), 1 << 62, size))
        runs = index.runs(keys)
        slots = index.resolve(keys, runs)
        assert np.array_equal(slots, index.find(keys, runs))
        for bucket, begin, end in zip(runs[0], runs[1][:-1], runs[1][1:], strict=True):
            assert np.array_equal(index.keys_of(bucket)[slots[begin:end]], keys[begin:end])
        slots_of.update(zip(keys.tolist(), slots.tolist(), strict=True))
        index.validate()
    every = grouped(np.array(list(slots_of)))
    runs = index.runs(every)
    slots = index.find(every, runs)
    assert slots.tolist() == [slots_of[key] for key in every.tolist()]
    assert index.counts().sum() == len(slots_of)
    law = first.spec.init.law(2, 2)
    rows = first.gather(None, slots, runs)
    for i in range(0, len(every), 997):
        assert rows[i] == pytest.approx([naive.draw(law, 0, int(every[i]), column) for column in range(2)], rel=1e-12)


def test_a_table_attached_later_has_the_rows_it_would_have_had() -> None:
    keys = grouped(np.arange(5000))
    one, other = KeyIndex(range(256)), KeyIndex(range(256))
    fields = {"init": Normal(0, 1), "optimizer": FTRL(0.1, l1=0.5), "dim": 3}
    before = [made(one, "a", **fields), made(one, "b", dtype="float32")]  # type: ignore[arg-type]
    runs = one.runs(keys)
    one.resolve(keys, runs)
    made(other, "b", dtype="float32")
    other.resolve(keys, runs)
    late = made(other, "a", **fields)  # type: ignore[arg-type]
    for plane in range(3):
        for bucket in range(256):
            assert np.array_equal(before[0].plane_of(bucket, plane), late.plane_of(bucket, plane))
    other.validate()


def test_a_detached_table_gets_no_more_rows() -> None:
    index = KeyIndex(range(256))
    kept, gone = made(index, "kept"), made(index, "gone")
    keys = grouped(np.arange(10_000))
    index.resolve(keys[:0].copy(), index.runs(keys[:0].copy()))
    gone.free()
    index.detach(gone)
    index.resolve(keys, index.runs(keys))
    assert gone.nbytes() < 20_000 < 10_000 * 16 <= kept.nbytes()


@pytest.mark.parametrize(
    "keys",
    [grouped(np.arange(50))[::-1].copy(), np.concatenate([grouped(np.arange(50))] * 2)],
    ids=["reversed", "twice"],
)
def test_keys_out_of_order_are_refused(keys: np.ndarray) -> None:
    with pytest.raises(InvalidInput, match="grouped by ascending buckets"):
        KeyIndex(range(256)).runs(keys)


def test_keys_of_another_node_are_refused() -> None:
    keys = grouped(np.arange(5000))
    with pytest.raises(InvalidInput) as error:
        KeyIndex(range(100)).runs(keys)
    assert naive.bucket_of(error.value.key) >= 100


def test_read_only_arrays_are_accepted() -> None:
    index = KeyIndex(range(256))
    table = made(index)
    keys, values = grouped(np.arange(100)), np.ones((100, 2))
    keys.flags.writeable = values.flags.writeable = False
    runs = index.runs(keys)
    slots = index.resolve(keys, runs)
    for verb in (table.push, table.add, table.assign):
        verb(slots, runs, values)
    assert np.array_equal(table.gather(keys, slots, runs), values)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("mode", [OpCode.ADD, OpCode.ASSIGN])
def test_sum_of_adds_and_last_of_assigns(mode: OpCode, dtype: str) -> None:
    rng = np.random.default_rng(3)
    index = KeyIndex(range(256))
    table = made(index, dtype=dtype)
    parts = []
    for count in (500, 700, 1):
        keys = grouped(rng.choice(900, count, replace=False))
        parts.append((keys, rng.normal(size=(count, 2)).astype(dtype)))
    resolved = [(index.resolve(keys, index.runs(keys)), index.runs(keys), values) for keys, values in parts]
    table.apply_sum(resolved, mode, 0)
    expected = naive.sum_of_parts([(keys.tolist(), values) for keys, values in parts], last=mode == OpCode.ASSIGN)
    keys = grouped(np.array(list(expected)))
    runs = index.runs(keys)
    assert np.array_equal(
        table.gather(None, index.find(keys, runs), runs), np.array([expected[key] for key in keys.tolist()])
    )


def run_threads(targets: list[threading.Thread]) -> None:
    for thread in targets:
        thread.start()
    for thread in targets:
        thread.join(50)
        assert not thread.is_alive()


def test_concurrent_adds_and_growth_lose_nothing() -> None:
    """Four threads add whole numbers to overlapping, growing key sets while one reads: every sum is exact."""
    index = KeyIndex(range(256))
    table = made(index, dim=1, optimizer=Adagrad(0.1))
    rounds, failures = 30, []

    def add(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for number in range(rounds):
            keys = grouped(np.concatenate([np.arange(300), rng.integers(0, 1 << 40, 2000)]))
            runs = index.runs(keys)
            table.add(index.resolve(keys, runs), runs, np.ones((len(keys), 1)))
            if number == 0:
                made(index, f"late{seed}", dim=1)

    def look() -> None:
        keys = grouped(np.arange(300))
        runs = index.runs(keys)
        while any(thread.is_alive() for thread in writers):
            rows = table.gather(keys, index.find(keys, runs), runs)
            if not (np.isin(rows, np.arange(4 * rounds + 1))).all():
                failures.append(rows)

    writers = [threading.Thread(target=add, args=(seed,)) for seed in range(4)]
    run_threads([*writers, threading.Thread(target=look)])
    assert not failures
    index.validate()
    keys = grouped(np.arange(300))
    runs = index.runs(keys)
    assert (table.gather(None, index.find(keys, runs), runs) == 4 * rounds).all()
    total = sum(table.rows_of(bucket).sum() for bucket in range(256))
    expected = sum(
        len(grouped(np.concatenate([np.arange(300), rng.integers(0, 1 << 40, 2000)])))
        for rng in map(np.random.default_rng, range(4))
        for _ in range(rounds)
    )
    assert total == expected


def test_memory_per_key_stays_below_the_promise() -> None:
    """Dim 1 and one plane of state: under 40 bytes per key, whatever the size within a growth period."""
    index = KeyIndex(range(256))
    table = made(index, dim=1, dtype="float32", optimizer=Adagrad(0.1))
    rng = np.random.default_rng(0)
    for _ in range(12):
        keys = grouped(rng.integers(-(1 << 62), 1 << 62, 60_000))
        index.resolve(keys, index.runs(keys))
        count = int(index.counts().sum())
        assert (index.nbytes() + table.nbytes() - 2 * 16_384) / count < 34


def test_capacities_grow_by_their_factor_and_at_different_times() -> None:
    series = GrowthSeries(16, 1.5)
    for bucket in (0, 100, 255):
        capacities = sorted({series.at_least(bucket, need) for need in range(1, 5000)})
        assert all(a < b <= 1.5 * a + 2 for a, b in pairwise(capacities))
        assert all(series.at_least(bucket, need) >= need for need in range(1, 5000))
    assert len({series.at_least(bucket, 1000) for bucket in range(256)}) > 200


def test_large_arrays_are_mapped_and_writeable() -> None:
    tracemalloc.start()
    array = allocate(1 << 20, np.float64)
    traced = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    array[:] = 1
    assert traced < 1 << 20
    assert array.flags.writeable


#: In a process of its own, where nothing else is freed or loaded meanwhile: fills and drops a table twice, and prints the bytes
#: that the second one held, and those that stayed.
_FILLED_AND_DROPPED = """
import mmap, pathlib
import numpy as np
from sparkps.ps_nodes.tables.buffers import keep_message_buffers, return_freed_memory
from sparkps.ps_nodes.tables.index import KeyIndex
from tests.unit.ps_nodes.tables.test_sparse import grouped, made

def resident():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

keep_message_buffers()
keys = grouped(np.random.default_rng(5).integers(-(1 << 62), 1 << 62, 200_000))
for _ in range(2):
    before = resident()
    index = KeyIndex(range(256))
    table = made(index, dim=16)
    index.resolve(keys, index.runs(keys))
    held = resident() - before
    table.free()
    del table, index
    return_freed_memory()
print(held, resident() - before)
"""


def test_memory_of_a_dropped_table_goes_back_to_the_system() -> None:
    ran = subprocess.run([sys.executable, "-c", _FILLED_AND_DROPPED], capture_output=True, text=True, check=True)
    held, left = map(int, ran.stdout.split())
    assert held > 200_000 * 16 * 8
    assert left < 0.2 * held
