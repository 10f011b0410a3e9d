"""Compiled passes over raw columns against their slow twins."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sparkps.mllib.data import hashing, raw_kernels
from sparkps.mllib.data.raw_features import word_characters
from tests import naive_mllib as naive

TEXTS = ["", "a", "eight by", "nine byte", "Ünï cödé — 漢字 x", "a_b c1\t-- d", " lead and trail ", "\U0001f600emoji\U0001d7d8 two"]


def buffers(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    parts = [text.encode() for text in texts]
    return np.cumsum([0, *map(len, parts)]), np.frombuffer(b"".join(parts), np.uint8)


def test_hashes_of_strings() -> None:
    rng = np.random.default_rng(1)
    texts = TEXTS + ["".join(map(chr, rng.integers(1, 300, n))) for n in range(3, 43)]
    out = np.empty(len(texts), np.uint64)
    raw_kernels.hash_strings(*buffers(texts), out)
    assert out.tolist() == [naive.hash_of(text.encode()) for text in texts] == [hashing.hash_of_bytes(text.encode()) for text in texts]
    assert len(set(out.tolist())) == len(texts)


def test_values_of_a_column_are_seeded() -> None:
    rng = np.random.default_rng(2)
    hashes = rng.integers(0, 2**64, 50, np.uint64)
    expected = [naive.mix(17 ^ h) for h in hashes.tolist()]
    raw_kernels.seeded(np.uint64(17), hashes)
    assert hashes.tolist() == expected


@pytest.mark.parametrize("most", [1, 2, 3])
def test_words_and_their_runs(most: int) -> None:
    offsets, data = buffers(TEXTS)
    at, hashes = np.empty(len(TEXTS) + 1, np.int64), np.empty(len(data), np.uint64)
    count = raw_kernels.words(offsets, data, word_characters(plain=False), at, hashes)
    words = [[naive.hash_of(word.encode()) for word in naive.words_of(text)] for text in TEXTS]
    assert [hashes[a:b].tolist() for a, b in itertools.pairwise(at)] == words
    out_at, out = np.empty(len(at), np.int64), np.empty(count * most, np.uint64)
    raw_kernels.grams(at, hashes[:count], most, np.uint64(5), out_at, out)
    assert [out[a:b].tolist() for a, b in itertools.pairwise(out_at)] == [naive.grams_of(row, most, 5) for row in words]


@pytest.mark.parametrize("seed", range(5))
def test_bytes_that_are_no_utf8_are_read_within_bounds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 256, 500).astype(np.uint8)
    offsets = np.sort(np.append(rng.integers(0, 500, 40), [0, 500]))
    at, hashes = np.empty(len(offsets), np.int64), np.empty(500, np.uint64)
    count = raw_kernels.words(offsets, data, word_characters(plain=False), at, hashes)
    assert 0 < at[-1] == count <= 500
    assert (np.diff(at) >= 0).all()


def random_entries(rng: np.random.Generator, rows: int, valued: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    at = np.concatenate(([0], np.cumsum(rng.integers(0, 4, rows))))
    return at, rng.integers(0, 2**64, at[-1], np.uint64), rng.normal(size=at[-1] if valued else 0)


@pytest.mark.parametrize("valued", [(False, False), (True, False), (False, True), (True, True)])
def test_all_pairs_of_entries(valued: tuple[bool, bool]) -> None:
    rng = np.random.default_rng(3)
    (at, a, x), (other_at, b, y) = (random_entries(rng, 30, each) for each in valued)
    expected, products = [], []
    for r in range(30):
        for i in range(at[r], at[r + 1]):
            for j in range(other_at[r], other_at[r + 1]):
                expected.append(naive.mix(int(a[i]) ^ int(b[j])))
                products.append((x[i] if valued[0] else 1.0) * (y[j] if valued[1] else 1.0))
    out, values = np.empty(len(expected), np.uint64), np.empty(len(expected) if any(valued) else 0)
    raw_kernels.all_pairs(at, a, x, other_at, b, y, out, values)
    assert out.tolist() == expected
    assert values.tolist() == (products if any(valued) else [])


@pytest.mark.parametrize("buckets", [0, 7, 64])
def test_columns_become_rows_in_which_each_key_is_once(buckets: int) -> None:
    rng = np.random.default_rng(4)
    columns = [random_entries(rng, 50, valued) for valued in (False, True, False)]
    columns[2] = columns[0]  # all of its keys are there already
    starts = sum(at for at, _, _ in columns)
    total = int(starts[-1])
    hashes, values, fields, ends = np.empty(total, np.uint64), np.empty(total), np.empty(total, np.int32), starts[:-1].copy()
    for number, column in enumerate(columns):
        raw_kernels.place_entries(*column, number, ends, hashes, values, fields)
    assert ends.tolist() == starts[1:].tolist()
    rows = [(hashes[a:b].tolist(), values[a:b].tolist()) for a, b in itertools.pairwise(starts)]
    expected = [naive.row_of_keys(*row, buckets) for row in rows]
    indptr, keys, seen = np.empty(51, np.int32), np.empty(total, np.int64), np.zeros((32, 2), np.int64)
    count = raw_kernels.rows_of_keys(starts, hashes, np.uint64(buckets), seen, indptr, keys, values, fields)
    spans = list(itertools.pairwise(indptr))
    assert [list(zip(keys[a:b].tolist(), values[a:b].tolist(), strict=True)) for a, b in spans] == [list(each.items()) for each in expected]
    assert indptr[-1] == count
    assert set(fields[:count].tolist()) <= {0, 1}


def test_letters_digits_and_underscores_are_those_of_python() -> None:
    import re

    points = [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000]
    table = word_characters(plain=False)
    assert all(table[ord(point)] == bool(re.match(r"\w", point)) for point in points)
    assert word_characters(plain=True).tolist() == table[:128].tolist()
