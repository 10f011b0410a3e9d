"""Whole-table arithmetic, bucket by bucket: reductions, all pairs of dot products, linear combinations, and copies.

Tables are given as rows of (address of the pointer table, bytes per value). Each kernel passes over the memory once, in
blocks that stay in the cache, and sums in float64 in an order that depends on the bucket's rows alone. No kernel checks
what it is given: the caller sees to it that every table has room for all `elements` of a bucket.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from sparkps.kernels.compiled import HEADS, array, given, inlined, kernel
from sparkps.kernels.intrinsics import address_of, copy_bytes, data, dot, float32_at, float64_at, int64_at, lock, unlock
from sparkps.kernels.layout import COUNT, LOCK, MAX, MIN, NONZERO, NORM1, PLANE, ROOM, SQUARES, SUM, WIDTH
from sparkps.kernels.lookup import lock_word

#: Values of one table per block: 20 tables of float64 take 80 KiB.
BLOCK = 512

#: Types of what most kernels take: tables, buckets, and how many values of each bucket.
TABLES = given(types.int64, 2)
BUCKETS = given(types.int32)
ELEMENTS = given(types.int64)


@inlined
def rows_address(tables: Any, table: int, bucket: int) -> int:
    """Address of the rows of a table in one bucket."""
    return int64_at(tables[table, 0])[np.int64(bucket) * WIDTH + PLANE]


@inlined
def load_block(address: int, size: int, begin: int, count: int, room: Any) -> int:
    """Address of `count` float64 from element `begin` on; float32 are converted into `room`."""
    if size == 8:
        return address_of(float64_at(address), begin)
    rows = float32_at(address)
    for i in range(count):
        room[i] = np.float64(rows[begin + i])
    return address_of(room, 0)


@inlined
def _load_blocks(tables: Any, bucket: int, begin: int, count: int, room: Any, blocks: Any) -> None:
    """Addresses of the values of all tables from `begin` on, as float64."""
    for t in range(tables.shape[0]):
        place = float64_at(address_of(data(room), t * BLOCK))
        blocks[t] = load_block(rows_address(tables, t, bucket), tables[t, 1], begin, count, place)


@inlined
def _reduce_block(kind: int, values: Any, ones: Any, count: int, total: float) -> float:
    if kind == SUM:
        return total + dot(values, ones, count)
    if kind == SQUARES:
        return total + dot(values, values, count)
    if kind == NORM1:
        for i in range(count):
            total += abs(values[i])
    elif kind == MIN:
        for i in range(count):
            total = values[i] if values[i] < total else total
    elif kind == MAX:
        for i in range(count):
            total = values[i] if values[i] > total else total
    elif kind == NONZERO:
        found = 0
        for i in range(count):
            found += values[i] != 0.0
        total += found
    return total


@kernel(lambda _: (types.int64, TABLES, HEADS, BUCKETS, ELEMENTS, array(types.float64)))
def reduce_buckets(kind: int, tables: Any, index: Any, buckets: Any, elements: Any, out: Any) -> None:
    """One reduction (`layout.SUM` ...) of each bucket's values; an empty bucket has the sum 0, min inf, max -inf."""
    room = np.empty(BLOCK)
    ones = np.ones(BLOCK)
    for run in range(buckets.shape[0]):
        word = lock_word(index, buckets[run])
        lock(word)
        address = rows_address(tables, 0, buckets[run])
        total = np.inf if kind == MIN else (-np.inf if kind == MAX else 0.0)
        for begin in range(0, elements[run], BLOCK):
            count = min(BLOCK, elements[run] - begin)
            block = float64_at(load_block(address, tables[0, 1], begin, count, data(room)))
            total = _reduce_block(kind, block, data(ones), count, total)
        out[run] = total
        unlock(word)


@kernel(
    lambda _: (TABLES, types.int64, types.int64, HEADS, BUCKETS, ELEMENTS, array(types.float64, 3)),
)
def gram_buckets(tables: Any, left: int, symmetric: int, index: Any, buckets: Any, elements: Any, out: Any) -> None:
    """Dot products of the first `left` tables with the others, for each bucket.

    With `symmetric` there are no others: the tables with themselves, one half computed and copied to the other.
    """
    total = tables.shape[0]
    first = 0 if symmetric != 0 else left
    room = np.empty((total, BLOCK))
    blocks = np.empty(total, np.int64)
    out[:] = 0.0
    for run in range(buckets.shape[0]):
        bucket = buckets[run]
        word = lock_word(index, bucket)
        lock(word)
        for begin in range(0, elements[run], BLOCK):
            count = min(BLOCK, elements[run] - begin)
            _load_blocks(tables, bucket, begin, count, room, blocks)
            for i in range(left):
                for j in range(i if symmetric != 0 else 0, total - first):
                    out[run, i, j] += dot(float64_at(blocks[i]), float64_at(blocks[first + j]), count)
        unlock(word)
        if symmetric != 0:
            for i in range(left):
                for j in range(i):
                    out[run, i, j] = out[run, j, i]


@kernel(lambda _: (TABLES, HEADS, BUCKETS, ELEMENTS, array(types.float64)))
def weighted_norm1_buckets(tables: Any, index: Any, buckets: Any, elements: Any, out: Any) -> None:
    """Sum of abs(value · weight) of each bucket; table 0 has the values, table 1 the weights."""
    room = np.empty((2, BLOCK))
    blocks = np.empty(2, np.int64)
    for run in range(buckets.shape[0]):
        word = lock_word(index, buckets[run])
        lock(word)
        total = 0.0
        for begin in range(0, elements[run], BLOCK):
            count = min(BLOCK, elements[run] - begin)
            _load_blocks(tables, buckets[run], begin, count, room, blocks)
            values, weights = float64_at(blocks[0]), float64_at(blocks[1])
            for i in range(count):
                total += abs(values[i] * weights[i])
        out[run] = total
        unlock(word)


@kernel(lambda _: (TABLES, types.int64, HEADS, BUCKETS, ELEMENTS, array(types.float64, 3)))
def weighted_gram_buckets(tables: Any, left: int, index: Any, buckets: Any, elements: Any, out: Any) -> None:
    """Sums of weight · value · value: table 0 has the weights, `left` tables follow, then those that they are multiplied with."""
    right = tables.shape[0] - 1 - left
    room = np.empty((tables.shape[0], BLOCK))
    blocks = np.empty(tables.shape[0], np.int64)
    weighted = np.empty(BLOCK)
    out[:] = 0.0
    for run in range(buckets.shape[0]):
        word = lock_word(index, buckets[run])
        lock(word)
        for begin in range(0, elements[run], BLOCK):
            count = min(BLOCK, elements[run] - begin)
            _load_blocks(tables, buckets[run], begin, count, room, blocks)
            for i in range(left):
                values, weights = float64_at(blocks[1 + i]), float64_at(blocks[0])
                for k in range(count):
                    weighted[k] = values[k] * weights[k]
                for j in range(right):
                    out[run, i, j] += dot(data(weighted), float64_at(blocks[1 + left + j]), count)
        unlock(word)


@inlined
def _add_block(rows: Any, begin: int, count: int, coefficient: float, sums: Any) -> None:
    for i in range(count):
        sums[i] += coefficient * np.float64(rows[begin + i])


@inlined
def _set_block(rows: Any, begin: int, count: int, coefficient: float, sums: Any) -> None:
    for i in range(count):
        sums[i] = coefficient * np.float64(rows[begin + i])


@inlined
def store_block(rows: Any, begin: int, count: int, sums: Any) -> None:
    """Write `count` values to the rows, from element `begin` on."""
    for i in range(count):
        rows[begin + i] = sums[i]


@kernel(lambda _: (TABLES, given(types.float64), types.float64, HEADS, BUCKETS, ELEMENTS))
def combine_buckets(tables: Any, coefficients: Any, constant: float, index: Any, buckets: Any, elements: Any) -> None:
    """Table 0 becomes the sum of coefficient i times table i + 1, or `constant` where no table is given.

    Table 0 may be among the others. Terms are added in their order.
    """
    sums = np.empty(BLOCK)
    terms = coefficients.shape[0]
    for run in range(buckets.shape[0]):
        bucket = buckets[run]
        word = lock_word(index, bucket)
        lock(word)
        for begin in range(0, elements[run], BLOCK):
            count = min(BLOCK, elements[run] - begin)
            if terms == 0:
                sums[:] = constant
            for term in range(terms):
                address = rows_address(tables, term + 1, bucket)
                if tables[term + 1, 1] == 4 and term == 0:
                    _set_block(float32_at(address), begin, count, coefficients[term], data(sums))
                elif tables[term + 1, 1] == 4:
                    _add_block(float32_at(address), begin, count, coefficients[term], data(sums))
                elif term == 0:
                    _set_block(float64_at(address), begin, count, coefficients[term], data(sums))
                else:
                    _add_block(float64_at(address), begin, count, coefficients[term], data(sums))
            target = rows_address(tables, 0, bucket)
            if tables[0, 1] == 4:
                store_block(float32_at(target), begin, count, data(sums))
            else:
                store_block(float64_at(target), begin, count, data(sums))
        unlock(word)


@kernel(lambda _: (TABLES, HEADS, BUCKETS, ELEMENTS, array(types.float64, 2)))
def column_dots_buckets(tables: Any, index: Any, buckets: Any, elements: Any, out: Any) -> None:
    """Sums of the products of tables 0 and 1, each column apart, for each bucket."""
    dim = out.shape[1]
    block = max(BLOCK // dim, 1) * dim
    room = np.empty((2, block))
    out[:] = 0.0
    for run in range(buckets.shape[0]):
        bucket = buckets[run]
        word = lock_word(index, bucket)
        lock(word)
        first, second = rows_address(tables, 0, bucket), rows_address(tables, 1, bucket)
        for begin in range(0, elements[run], block):
            count = min(block, elements[run] - begin)
            left = float64_at(load_block(first, tables[0, 1], begin, count, float64_at(address_of(data(room), 0))))
            right = float64_at(load_block(second, tables[1, 1], begin, count, float64_at(address_of(data(room), block))))
            if dim == 1:
                out[run, 0] += dot(left, right, count)
                continue
            for row in range(0, count, dim):
                for column in range(dim):
                    out[run, column] += left[row + column] * right[row + column]
        unlock(word)


@inlined
def _axpy_columns(target: Any, source: Any, alphas: Any, dim: int, count: int) -> None:
    for row in range(0, count, dim):
        for column in range(dim):
            target[row + column] += alphas[column] * source[row + column]


@kernel(lambda _: (TABLES, given(types.float64), HEADS, BUCKETS, ELEMENTS))
def column_axpy_buckets(tables: Any, alphas: Any, index: Any, buckets: Any, elements: Any) -> None:
    """Adds alphas[k] times column k of table 1 to column k of table 0."""
    dim = alphas.shape[0]
    for run in range(buckets.shape[0]):
        bucket = buckets[run]
        word = lock_word(index, bucket)
        lock(word)
        target, source = rows_address(tables, 0, bucket), rows_address(tables, 1, bucket)
        if tables[0, 1] == 4 and tables[1, 1] == 4:
            _axpy_columns(float32_at(target), float32_at(source), alphas, dim, elements[run])
        elif tables[0, 1] == 4:
            _axpy_columns(float32_at(target), float64_at(source), alphas, dim, elements[run])
        elif tables[1, 1] == 4:
            _axpy_columns(float64_at(target), float32_at(source), alphas, dim, elements[run])
        else:
            _axpy_columns(float64_at(target), float64_at(source), alphas, dim, elements[run])
        unlock(word)


@inlined
def _take(target: Any, source: Any, column: int, width: int, dim: int, count: int) -> None:
    for row in range(count):
        for k in range(width):
            target[row * width + k] = source[row * dim + column + k]


@kernel(lambda _: (TABLES, types.int64, types.int64, types.int64, HEADS, BUCKETS, ELEMENTS))
def take_column_buckets(tables: Any, column: int, width: int, dim: int, index: Any, buckets: Any, elements: Any) -> None:
    """Copies the columns of table 1, which has `dim`, from `column` on to table 0, which has `width`; `elements` are rows."""
    for run in range(buckets.shape[0]):
        bucket = buckets[run]
        word = lock_word(index, bucket)
        lock(word)
        target, source = rows_address(tables, 0, bucket), rows_address(tables, 1, bucket)
        if tables[0, 1] == 4 and tables[1, 1] == 4:
            _take(float32_at(target), float32_at(source), column, width, dim, elements[run])
        elif tables[0, 1] == 4:
            _take(float32_at(target), float64_at(source), column, width, dim, elements[run])
        elif tables[1, 1] == 4:
            _take(float64_at(target), float32_at(source), column, width, dim, elements[run])
        else:
            _take(float64_at(target), float64_at(source), column, width, dim, elements[run])
        unlock(word)


@kernel(lambda _: (TABLES, given(types.int64), types.int64, types.int64, given(types.int64)))
def copy_bucket(tables: Any, locks: Any, bucket: int, most: int, targets: Any) -> int:
    """Copies the rows of all tables in one bucket, as they are at one moment; returns how many rows each has.

    `tables` holds bytes per row here, `locks` the addresses of the pointer tables with the bucket's lock words, each once, and
    `targets` where each table's rows go: room for `most`. Nothing is copied where there are more.
    """
    head = bucket * WIDTH
    for i in range(locks.shape[0]):
        lock(int64_at(locks[i] + 8 * (head + LOCK)))
    count = int64_at(locks[0])[head + COUNT]
    for t in range(tables.shape[0]):
        count = min(count, int64_at(tables[t, 0])[head + ROOM])
    if count <= most:
        for t in range(tables.shape[0]):
            copy_bytes(targets[t], rows_address(tables, t, bucket), count * tables[t, 1])
    for i in range(locks.shape[0]):
        unlock(int64_at(locks[i] + 8 * (head + LOCK)))
    return count
