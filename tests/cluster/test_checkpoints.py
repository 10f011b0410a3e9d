"""Checkpoints of a running tier: taken during pushes, restored onto other numbers of nodes, damaged, of a tier that has lost buckets."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from sparkps.checkpoints.reader import read_checkpoint
from sparkps.config import Settings
from sparkps.driver_bridge import checkpointing
from sparkps.driver_bridge.launchers import local
from sparkps.errors import CheckpointDamaged, CheckpointError, ConfigError, NoCheckpoint, ShardLost, TableMismatch
from sparkps.initializers import Normal
from sparkps.optim import FTRL, SGD, Adagrad, Adam
from sparkps.specs import TableSpec
from sparkps.wire.messages.control import CreateTable
from tests.cluster.conftest import Tier
from tests.harness.waiting import wait_until

KEYS = np.random.default_rng(0).choice(1 << 40, 3000, replace=False)
MANY = np.arange(50_000)


@contextlib.contextmanager
def tier_of(num_nodes: int, **settings) -> Iterator[Tier]:
    running = local.launch(Settings(num_nodes=num_nodes, **settings))
    try:
        made = Tier(running)
        yield made
        made.disconnect()
    finally:
        running.stop()


def tables_of(tier: Tier):
    """Sparse and dense tables, two of them with one index, with every kind of state."""
    return (
        tier.sparse("linear", dim=1, optimizer=FTRL(0.1, l1=0.01), group="fm"),
        tier.sparse("factors", dim=3, dtype="float64", init=Normal(0, 0.1), optimizer=Adam(0.05), group="fm", seed=7),
        tier.sparse("alone", dim=2, optimizer=Adagrad(0.1)),
        tier.dense("bias", (700,), dtype="float64", optimizer=Adam(0.1)),
        tier.sparse("brains", dim=4, init=Normal(0, 0.1), optimizer=Adagrad(0.1), group="fm", storage="bfloat16"),
    )


def train(tables, steps, seed) -> None:
    random = np.random.default_rng(seed)
    for _ in range(steps):
        keys = random.choice(KEYS, 500, replace=False)
        for table in tables:
            if table.spec.kind == "sparse":
                table.push(keys, random.normal(size=(len(keys), table.spec.dim)))
            else:
                table.push(random.normal(size=table.spec.shape))


def rows(tables) -> list[np.ndarray]:
    return [table.pull(KEYS) if table.spec.kind == "sparse" else table.pull() for table in tables]


def same(one, other) -> bool:
    return all(a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in zip(one, other, strict=True))


@pytest.fixture(scope="module")
def taken(tmp_path_factory):
    """A checkpoint of three nodes, the rows then, and what further training makes of them."""
    url = str(tmp_path_factory.mktemp("checkpoints"))
    with tier_of(3) as tier:
        tables = tables_of(tier)
        train(tables, 5, seed=1)
        made = checkpointing.take(tier.control, url)
        before = rows(tables)
        train(tables, 5, seed=2)
        assert tier.status()["checkpoint"]["id"] == made.id
        return url, made, before, rows(tables)


@pytest.mark.parametrize("num_nodes", [1, 2, 5])
def test_restored_onto_any_number_of_nodes_with_rows_and_state(taken, num_nodes):
    url, made, before, after = taken
    with tier_of(num_nodes) as tier:
        assert checkpointing.restore(tier.control, url).id == made.id
        tables = tables_of(tier)
        assert same(rows(tables), before)
        train(tables, 5, seed=2)
        assert same(rows(tables), after), "optimizer state and steps are as they were"


def test_restored_with_replicas_which_then_have_it_too(taken):
    url, _, before, after = taken
    with tier_of(2, replication=2) as tier:
        tables = tables_of(tier)
        train(tables, 2, seed=3)
        checkpointing.restore(tier.control, url)
        kill(tier, 0)
        assert same(rows(tables), before)
        train(tables, 5, seed=2)
        assert same(rows(tables), after)


def kill(tier: Tier, node: int) -> None:
    (pid,) = [each["pid"] for each in tier.status()["nodes"] if each["id"] == node]
    os.kill(pid, signal.SIGKILL)


def test_what_is_there_is_replaced_and_other_tables_stay(taken):
    url, _, before, _ = taken
    with tier_of(2) as tier:
        other = tier.sparse("other", dim=1, optimizer=SGD(1.0))
        other.push(KEYS, np.ones((len(KEYS), 1)))
        tables = tables_of(tier)
        train(tables, 3, seed=9)
        keyset = tables[2].register(KEYS)
        assert tables[2].pull(keyset).shape == (len(KEYS), 2)
        checkpointing.restore(tier.control, url)
        assert same(rows(tables), before)
        assert tables[2].pull(keyset).tobytes() == before[2].tobytes()
        assert (other.pull(KEYS) == -1).all()


def test_tables_that_stay_keep_their_rows_where_they_share_an_index_with_one_that_is_replaced(taken):
    url, _, before, after = taken
    options = {"dim": 2, "dtype": "float64", "optimizer": Adam(0.1), "init": Normal(0, 1), "seed": 3}
    new = np.arange(2, 1000, dtype=np.int64) << 41
    mine = np.concatenate([new, KEYS[::2]])
    with tier_of(2) as tier:
        tables = tables_of(tier)
        first = [table.pull(new) for table in tables[:2]]
        train(tables, 3, seed=9)
        sharing, alone = tier.sparse("sharing", group="fm", **options), tier.sparse("twin", **options)
        for table in (sharing, alone):
            table.push(mine, np.ones((len(mine), 2)))
        checkpointing.restore(tier.control, url)
        assert same(rows(tables), before)
        assert same([table.pull(new) for table in tables[:2]], first), "nobody had written them"
        every = np.concatenate([KEYS, new])
        assert same([sharing.pull(every)], [alone.pull(every)])
        train(tables, 5, seed=2)
        for table in (sharing, alone):
            table.push(every[::3], np.full((len(every[::3]), 2), 0.5))
        assert same(rows(tables), after)
        assert same([sharing.pull(every)], [alone.pull(every)]), "optimizer state has stayed, too"


def test_rows_can_be_read_without_a_tier(taken):
    url, made, before, _ = taken
    found = read_checkpoint(url, made.id)["alone"]
    place = {key: number for number, key in enumerate(found.keys.tolist())}
    known = np.array([key in place for key in KEYS.tolist()])
    order = [place[key] for key in KEYS[known].tolist()]
    assert known.any()
    assert (found.rows[order] == before[2][known]).all()


def test_pushes_go_on_meanwhile_and_each_shard_is_of_one_moment(tmp_path):
    with tier_of(3) as tier:
        table = tier.sparse("t", dim=1, dtype="float64", optimizer=SGD(1.0))
        over = threading.Event()

        def push() -> None:
            mine = tier.sparse("t", dim=1, dtype="float64", optimizer=SGD(1.0))
            while not over.is_set():
                mine.push(KEYS, -np.ones((len(KEYS), 1)))
            tier.disconnect()

        table.push(KEYS, -np.ones((len(KEYS), 1)))
        pushing = threading.Thread(target=push)
        pushing.start()
        try:
            made = [checkpointing.take(tier.control, str(tmp_path)) for _ in range(3)]
        finally:
            over.set()
            pushing.join()
        for each in made:
            values = read_checkpoint(str(tmp_path), each.id)["t"]
            counts: dict[int, set[float]] = {}
            for key, value in zip(values.keys.tolist(), values.rows[:, 0].tolist(), strict=True):
                counts.setdefault(tier.bucket(key), set()).add(value)
            assert len(values.keys) == len(KEYS)
            assert all(len(seen) == 1 for seen in counts.values()), "a push is in all of a bucket or in nothing of it"


# ---- what is wrong -----------------------------------------------------------------------------------------------------


def test_damage_is_named_and_the_newest_sound_one_is_used(tier, tmp_path, caplog):
    table = tier.sparse("damaged", dim=1, optimizer=SGD(1.0))
    url = str(tmp_path)
    table.push([1], [[-1.0]])
    sound = checkpointing.take(tier.control, url)
    table.push([1], [[-1.0]])
    newest = checkpointing.take(tier.control, url)
    (data, *_) = sorted(pathlib.Path(url, f"data-{newest.id}").iterdir(), key=lambda path: -path.stat().st_size)
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 0xFF
    data.write_bytes(content)
    table.push([1], [[-1.0]])
    assert checkpointing.restore(tier.control, url).id == sound.id
    assert table.pull([1]) == [[1.0]]
    assert data.name in caplog.text
    with pytest.raises(CheckpointDamaged, match=data.name):
        checkpointing.restore(tier.control, url, newest.id)
    data.unlink()
    assert checkpointing.restore(tier.control, url).id == sound.id
    for path in pathlib.Path(url).glob(f"manifest-{sound.id}*"):
        path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(NoCheckpoint, match=sound.id):
        checkpointing.restore(tier.control, url)


def test_places_that_hold_nothing(tier, tmp_path):
    with pytest.raises(NoCheckpoint, match="none"):
        checkpointing.restore(tier.control, str(tmp_path))
    with pytest.raises(NoCheckpoint, match="00000009"):
        checkpointing.restore(tier.control, str(tmp_path), "00000009-00000000")
    for wrong in ("", "nonsense://x/y", None):
        with pytest.raises(ConfigError, match="URL"):
            checkpointing.take(tier.control, wrong)
        with pytest.raises(ConfigError, match="URL"):
            checkpointing.restore(tier.control, wrong)


def test_a_table_that_differs_is_not_overwritten(tier, tmp_path):
    table = tier.sparse("differs", dim=1, optimizer=SGD(1.0))
    checkpointing.take(tier.control, str(tmp_path))
    table.drop()
    other = tier.sparse("differs", dim=2, optimizer=SGD(1.0))
    other.push([1], [[1.0, 1.0]])
    with pytest.raises(TableMismatch, match="differs"):
        checkpointing.restore(tier.control, str(tmp_path))
    assert (other.pull([1]) == -1).all()
    other.drop()
    checkpointing.restore(tier.control, str(tmp_path))
    assert tier.spec_of("differs").dim == 1
    tier.sparse("differs", dim=1, optimizer=SGD(1.0)).drop()


def test_a_disk_that_fails_is_told_and_nothing_else_changes(tier, tmp_path):
    table = tier.sparse("fails", dim=1, optimizer=SGD(1.0))
    table.push([1], [[-1.0]])
    (tmp_path / "file").write_text("")
    with pytest.raises(Exception, match="file"):
        checkpointing.take(tier.control, str(tmp_path / "file" / "below"))
    table.push([1], [[-1.0]])
    assert checkpointing.take(tier.control, str(tmp_path / "good")).bytes > 0
    assert table.pull([1]) == [[2.0]]
    table.drop()


# ---- lost buckets ------------------------------------------------------------------------------------------------------


def test_a_tier_that_has_lost_buckets_is_whole_again(taken):
    url, _, before, after = taken
    with tier_of(3) as tier:
        tables = tables_of(tier)
        train(tables, 1, seed=5)
        kill(tier, 1)
        assert wait_until(lambda: tier.status()["state"] == "degraded", 120.0)
        with pytest.raises(ShardLost):
            train(tables, 1, seed=5)
        checkpointing.restore(tier.control, url)
        assert tier.status()["state"] == "ready"
        assert tier.status()["lost_buckets"] == 0
        assert same(rows(tables), before)
        train(tables, 5, seed=2)
        assert same(rows(tables), after)
        tier.control.request(CreateTable(0, TableSpec("more", "sparse", 1)))


def damage(url: str, checkpoint: str, file: int = -1) -> None:
    """One byte in the middle of one of its files is another one."""
    data = sorted(pathlib.Path(url, f"data-{checkpoint}").iterdir())[file]
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 0xFF
    data.write_bytes(content)


def is_degraded(tier: Tier) -> bool:
    return tier.status()["state"] == "degraded"


@pytest.mark.parametrize("file", [0, -1])
def test_a_restore_that_is_refused_has_changed_nothing(tmp_path, file):
    with tier_of(2) as tier:
        table = tier.sparse("t", dim=4, dtype="float64")
        table.add(MANY, np.ones((len(MANY), 4)))
        made = checkpointing.take(tier.control, str(tmp_path))
        table.add(MANY, np.ones((len(MANY), 4)))
        gone = tier.sparse("gone", dim=1)
        damage(str(tmp_path), made.id, file)
        with pytest.raises(NoCheckpoint, match=made.id):
            checkpointing.restore(tier.control, str(tmp_path))
        assert np.unique(table.pull(MANY)).tolist() == [2.0]
        assert tier.status()["state"] == "ready"
        gone.drop()


def test_nobody_reads_or_writes_what_is_not_restored_yet(tmp_path):
    url, ones = str(tmp_path), np.ones((len(MANY), 8))
    with tier_of(3) as tier:
        table = tier.sparse("t", dim=8, dtype="float64")
        table.add(MANY, 7 * ones)
        checkpointing.take(tier.control, url)
        table.add(MANY, ones)
        kill(tier, 2)
        assert wait_until(lambda: is_degraded(tier), 120.0)
        over, seen = threading.Event(), []

        def look() -> None:
            while not over.is_set():
                try:
                    seen.append(sorted(set(np.unique(table.pull(MANY)).tolist())))
                except ShardLost:
                    seen.append([])
                tier.disconnect()

        looking = threading.Thread(target=look)
        looking.start()
        try:
            checkpointing.restore(tier.control, url)
            count = len(seen)
            assert wait_until(lambda: len(seen) > count + 1, 120.0)
        finally:
            over.set()
            looking.join()
        assert [7.0] in seen
        assert all(each in ([], [7.0]) for each in seen), seen


def test_a_place_where_nobody_can_write_is_refused_before_anything_begins(tmp_path):
    (tmp_path / "file").write_text("no directory")
    for url in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(CheckpointError, match="Give another directory"):
            checkpointing.writable_store_at(url)
    assert checkpointing.writable_store_at(tmp_path / "new").ids() == []
    assert list((tmp_path / "new").iterdir()) == []


def test_a_checkpoint_whose_coordinator_is_killed_is_taken_again_and_is_sound(tmp_path):
    """Killed as soon as nodes write: its driver waits for the next one, and asks again."""
    url = str(tmp_path)
    with tier_of(2) as tier:
        table = tier.sparse("t", dim=4)
        table.add(MANY, np.ones((len(MANY), 4)))
        for step in (1, 2):
            pid = tier.status()["coordinator"]["pid"]
            files = len(list(tmp_path.rglob("*")))
            made: list[str] = []
            taking = threading.Thread(target=lambda made=made: made.append(checkpointing.take(tier.control, url).id))
            taking.start()
            wait_until(lambda files=files: len(list(tmp_path.rglob("*"))) > files, 120.0)
            os.kill(pid, signal.SIGKILL)
            taking.join(40)
            assert made, "it is taken"
            assert tier.status()["coordinator"]["restarts"] == step
            table.add(MANY, np.ones((len(MANY), 4)))
        checkpointing.restore(tier.control, url)
        assert (table.pull(MANY) == 2).all()
