"""What has changed since a checkpoint is all that has: laid over what that one took, it is the content, bit by bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sparkps.ps_nodes.tables import images, taken_buckets
from sparkps.ps_nodes.tables.changes import ChangedRows
from sparkps.ps_nodes.tables.directory import Tables
from sparkps.ps_nodes.tables.images import NodeImage
from sparkps.wire.buckets import buckets_in
from tests.unit.ps_nodes.tables.test_images import SOME, anything, image_of
from tests.unit.ps_nodes.tables.test_images import registered as registered
from tests.unit.ps_nodes.tables.test_moves import DENSE, SPARSE, WIDE, made, specs, train
from tests.unit.ps_nodes.tables.test_optimizers import OPTIMIZERS

TABLES = [SPARSE, WIDE, DENSE]


class Taken:
    """The checkpoints of one bucket: the whole of each table and index, by the number of its content, as files would hold them."""

    def __init__(self) -> None:
        self.tables: dict[int, tuple[int, Any]] = {}
        self.keys: tuple[int, Any] = (0, None)
        self.deltas = 0

    def take(self, image: NodeImage, bucket: int) -> tuple[dict[int, Any], Any]:
        """Take what is needed, and put together what is then there: planes and step of each table, and keys."""
        (numbers, of_keys), (since, since_keys) = image.versions(bucket), image.since(bucket)
        changes = [number for number in TABLES if since[number] and since[number] == self.tables.get(number, (0, None))[0]]
        more = [1] if since_keys[1] and since_keys[1] == self.keys[0] else []
        copy = image.take(bucket, TABLES, [1], changes, more)
        found = {}
        for number in TABLES:
            if number in copy.tables:
                change, whole = copy.tables[number], self.tables[number][1]
                count = max([len(whole[0][0]), *(change.slots + 1)])
                planes = [np.concatenate([plane, np.zeros((count - len(plane), plane.shape[1]), plane.dtype)]) for plane in whole[0]]
                for plane, own in zip(planes, change.planes, strict=True):
                    plane[change.slots] = own
                found[number] = planes, change.step
                self.deltas += 1
            else:
                rows = copy.whole.tables[number]
                found[number] = rows.planes, rows.step
                self.tables[number] = numbers[number], found[number]
        if 1 in copy.keys:
            keys = np.concatenate([self.keys[1], copy.keys[1]])
        else:
            keys = copy.whole.keys[1]
            self.keys = of_keys[1], keys
        return found, keys


def content(tables: Tables, bucket: int) -> list[Any]:
    rows = tables.copy_bucket(bucket)
    return [(rows.tables[n].step, [plane.tobytes() for plane in rows.tables[n].planes]) for n in TABLES] + [rows.keys[1].tobytes()]


def change(tables: Tables, rng: np.random.Generator) -> None:
    """One change of any kind; now and then a bucket comes anew, from elsewhere."""
    if rng.random() < 0.15:
        bucket = int(rng.choice(list(buckets_in(SOME))))
        rows = tables.copy_bucket(bucket)
        for plane in rows.tables[WIDE].planes:
            plane *= 2
        if rng.random() < 0.5:
            tables.let_go(1 << bucket)
            tables.hold(1 << bucket)
        if rng.random() < 0.7:
            tables.adopt_bucket(rows)
    else:
        anything(tables, rng)


@pytest.mark.parametrize("optimizer", OPTIMIZERS[:3], ids=repr)
def test_changes_over_the_whole_are_the_content(optimizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints one after the other, some given up halfway; writes before, between and while buckets are taken."""
    deltas = 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        monkeypatch.setattr(images, "is_little", lambda changed, whole, rng=rng: rng.random() < 0.8)
        tables = made(SOME | 1 << 40, specs(optimizer, "float32"))
        train(tables, SOME, seed)
        taken = {bucket: Taken() for bucket in buckets_in(SOME)}
        for _ in range(12):
            for _ in range(rng.integers(4)):
                change(tables, rng)
            expected = {bucket: content(tables, bucket) for bucket in taken}
            image = image_of(tables)
            for bucket in rng.permutation(list(taken)).tolist():
                for _ in range(rng.integers(3)):
                    anything(tables, rng)
                if rng.random() < 0.05:
                    break
                found, keys = taken[bucket].take(image, bucket)
                got = [(found[n][1], [plane.tobytes() for plane in found[n][0]]) for n in TABLES]
                assert [*got, keys.tobytes()] == expected[bucket], (seed, bucket)
            image.end()
        deltas += sum(each.deltas for each in taken.values())
    assert deltas > 100


def test_much_is_taken_as_a_whole_and_little_is_not() -> None:
    assert [taken_buckets.is_little(*sizes) for sizes in ((0, 2048), (0, 2047), (50, 1000), (40_000, 100_000), (50_000, 100_000))] == [
        True, False, False, True, False,
    ]  # fmt: skip


def test_a_cut_that_is_not_the_last_one_settles_nothing() -> None:
    rows, one = ChangedRows(), (np.array([3], np.int32), np.array([0, 1]))
    first = rows.cut(3, 10)
    second = rows.cut(3, 10)
    rows.taken_whole(3, first, 7)
    assert rows.cut(3, 10).since == 0
    rows.taken_whole(3, second, 8)
    third = rows.cut(3, 10)
    assert third.since == 0
    rows.taken_whole(3, third, 9)
    rows.mark(np.array([4], np.int32), one)
    rows.forget(np.array([3], np.int32))
    assert rows.cut(3, 10).since == 0
