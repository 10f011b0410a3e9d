"""Raw columns out of Arrow as sparse rows, whole batches at a time: no Python for a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sparkps.arrow import numbers, valid
from sparkps.errors import InvalidInput
from sparkps.mllib.data import hashing, kernels, raw_kernels
from sparkps.mllib.data.features import Features, mark, numbers_of
from sparkps.mllib.data.raw_columns import CATEGORY, INTEGER, NUMBER, STRING, TEXT, RawColumns, plain_kind
from sparkps.wire.hashing import mix

Array = NDArray[Any]

#: Entries of one batch must be numbered by an int32.
MOST_ENTRIES = (1 << 31) - 1

_ONES = np.empty(0, np.float64)
_NO_FIELDS = np.empty(0, np.int32)


@dataclass(frozen=True)
class Hashed:
    """Entries of one column, or of a cross. Row r has ``hashes[at[r]:at[r + 1]]``."""

    #: int64 (n + 1,), from 0.
    at: Array
    #: uint64 (entries,).
    hashes: Array
    #: float64 (entries,), or empty where all are 1.
    values: Array


def read_raw(source: RawColumns, columns: Sequence[pa.Array], *, fields: bool = False) -> Features:
    """The features of rows.

    Parameters
    ----------
    source : RawColumns
        With kinds.
    columns : sequence of pyarrow.Array
        Those of ``source.names``.
    fields : bool
        Whether to say which column each entry came from: inputs are numbered from 0, crosses after them.
    """
    codes = np.zeros(len(columns[0]), np.int8)
    hashed = {
        name: _hash_column(column, name, kind, source.ngrams, codes)
        for name, kind, column in zip(source.names, source.kinds, columns, strict=True)
    }
    parts = [hashed[name] for name in source.inputs] + [_cross([hashed[name] for name in cross]) for cross in source.crosses]
    return _together(parts, source.buckets, codes, fields=fields)


# ---- columns -----------------------------------------------------------------------------------------------------------


def _hash_column(column: pa.Array, name: str, kind: str, ngrams: int, codes: Array) -> Hashed:
    offsets, elements, keep = _elements(column)
    seed = np.uint64(hashing.seed_of(name))
    if kind == TEXT:
        return _text(column, offsets, elements, keep, name, ngrams, seed)
    if kind == NUMBER:
        return _numbers(column, offsets, elements, keep, seed, codes)
    return _categories(offsets, elements, keep, kind, seed)


def hash_categories(column: pa.Array, kind: str, vocabulary: str) -> Hashed:
    """Entries of a column of categories: each value's hash is one of the `vocabulary`, whichever columns have that.

    Parameters
    ----------
    column : pyarrow.Array
        Strings, integers, booleans, numbers, or arrays of these.
    kind : {"string", "integer", "category"}
    vocabulary : str
        Columns hash with their own name as a rule.
    """
    offsets, elements, keep = _elements(column)
    return _categories(offsets, elements, keep, kind, np.uint64(hashing.seed_of(vocabulary)))


def _categories(offsets: Array, elements: pa.Array, keep: Array | None, kind: str, seed: np.uint64) -> Hashed:
    hashes = _category_hashes(elements, kind)
    raw_kernels.seeded(seed, hashes)
    return _kept(offsets, hashes, _ONES, keep)


def _elements(column: pa.Array) -> tuple[Array, pa.Array, Array | None]:
    """Values of a column, or elements of its arrays: their places by row, int64 (n + 1,), and which are no null; None: all."""
    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        return np.arange(len(column) + 1), column, valid(column) if column.null_count else None
    offsets = np.asarray(numbers(column.offsets), np.int64)
    elements = column.values.slice(offsets[0], offsets[-1] - offsets[0])
    offsets = offsets - offsets[0]
    keep = valid(elements) if elements.null_count else None
    if column.null_count:  # beneath a null there may be elements
        there = np.repeat(valid(column), np.diff(offsets))
        keep = there if keep is None else keep & there
    return offsets, elements, keep


def _kept(offsets: Array, hashes: Array, values: Array, keep: Array | None) -> Hashed:
    """The entries where `keep` is true."""
    if keep is None or keep.all():
        return Hashed(offsets, hashes, values)
    before = np.concatenate(([0], np.cumsum(keep)))
    return Hashed(before[offsets], hashes[keep], values[keep] if len(values) else values)


def _category_hashes(elements: pa.Array, kind: str) -> Array:
    """H of each value, uint64 (n,); of a null something."""
    if kind == STRING:
        offsets, data = _bytes_of(elements)
        hashes = np.empty(len(elements), np.uint64)
        raw_kernels.hash_strings(offsets, data, hashes)
        return hashes
    if kind == CATEGORY:
        return mix((numbers_of(elements, np.float64) + 0.0).view(np.int64))
    assert kind == INTEGER, kind
    return mix(_bits(elements) if pa.types.is_boolean(elements.type) else np.asarray(numbers(elements), np.int64))


def _bits(elements: pa.Array) -> Array:
    """Booleans as int64: 1 and 0."""
    if not len(elements):
        return np.empty(0, np.int64)
    each = np.unpackbits(np.frombuffer(elements.buffers()[1], np.uint8), bitorder="little")
    return each[elements.offset : elements.offset + len(elements)].astype(np.int64)


def _bytes_of(strings: pa.Array) -> tuple[Array, Array]:
    """Offsets, int64 (n + 1,), and bytes of strings, uint8."""
    if not len(strings):
        return np.zeros(1, np.int64), np.empty(0, np.uint8)
    _, offsets, data = strings.buffers()
    dtype = np.int64 if pa.types.is_large_string(strings.type) else np.int32
    places = np.frombuffer(offsets, dtype)[strings.offset : strings.offset + len(strings) + 1]
    return places.astype(np.int64), np.empty(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)


def _numbers(column: pa.Array, offsets: Array, elements: pa.Array, keep: Array | None, seed: np.uint64, codes: Array) -> Hashed:
    """Numbers that are not 0; rows with one that is not finite are marked."""
    values = numbers_of(elements, np.float64)  # 0 for null
    there = values != 0.0
    if keep is not None:
        there &= keep
    wrong = there & ~np.isfinite(values)
    if wrong.any():
        before = np.concatenate(([0], np.cumsum(wrong)))
        mark(codes, before[offsets[1:]] > before[offsets[:-1]], kernels.NOT_FINITE)
    if elements is column:
        hashes = np.full(len(values), mix(np.array([seed]).view(np.int64))[0])
    else:
        hashes = mix(np.arange(1, len(values) + 1) - np.repeat(offsets[:-1], np.diff(offsets)))
        raw_kernels.seeded(seed, hashes)
    return _kept(offsets, hashes, values, there)


def has_infinite(column: pa.Array) -> bool:
    """Whether a column of numbers has one that is not finite."""
    _, elements, _ = _elements(column)
    return plain_kind(column.type) == NUMBER and not bool(np.isfinite(numbers_of(elements, np.float64)).all())


# ---- text --------------------------------------------------------------------------------------------------------------


def _text(
    column: pa.Array, offsets: Array, elements: pa.Array, keep: Array | None, name: str, ngrams: int, seed: np.uint64
) -> Hashed:
    """Runs of 1 to `ngrams` words. Elements of arrays are words as they are; a text is cut into them."""
    if elements is column:
        at, hashes = _words(column.drop_null() if keep is not None else column, name)
        if keep is not None:
            at = at[np.concatenate(([0], np.cumsum(keep)))]
    else:
        found = _kept(offsets, _category_hashes(elements, STRING), _ONES, keep)
        at, hashes = found.at, found.hashes
    out_at, out = np.empty(len(at), np.int64), np.empty(len(hashes) * ngrams, np.uint64)
    count = raw_kernels.grams(at, hashes, ngrams, seed, out_at, out)
    return Hashed(out_at, out[:count], _ONES)


def _words(texts: pa.Array, name: str) -> tuple[Array, Array]:
    """Hashes of the words of texts without nulls, and where those of each begin."""
    places, data, table = _lower_case(texts, name)
    at, hashes = np.zeros(len(places), np.int64), np.empty((int(places[-1] - places[0]) + len(places)) // 2 + 1, np.uint64)
    return at, hashes[: raw_kernels.words(places, data, table, at, hashes)]


def _lower_case(texts: pa.Array, name: str) -> tuple[Array, Array, Array]:
    """Offsets and bytes of texts in lower case, and which of their code points are letters, digits or underscores."""
    import pyarrow.compute as pc

    places, data = _bytes_of(texts)
    plain = not (data[places[0] : places[-1]] >= 0x80).any()
    try:
        lower = (pc.ascii_lower if plain else pc.utf8_lower)(texts)
    except pa.ArrowInvalid as error:
        raise InvalidInput(f"Column {name!r} must hold text in UTF-8. Got bytes that are none: {error}.", column=name) from None
    return *_bytes_of(lower), word_characters(plain=plain)


@cache
def word_characters(*, plain: bool) -> Array:
    """uint8: 1 for the code points of letters, digits and underscore, as Python's ``\\w`` has them; all of them, or those of ASCII."""
    return np.array([chr(point).isalnum() or point == 0x5F for point in range(0x80 if plain else 0x110000)], np.uint8)


# ---- rows --------------------------------------------------------------------------------------------------------------


def _cross(columns: Sequence[Hashed]) -> Hashed:
    """Every combination of their entries."""
    rows = len(columns[0].at)
    found = Hashed(np.arange(rows), np.full(rows - 1, hashing.CROSS, np.uint64), _ONES)
    for other in columns:
        at = np.concatenate(([0], np.cumsum(np.diff(found.at) * np.diff(other.at))))
        _check_room(int(at[-1]))
        hashes = np.empty(at[-1], np.uint64)
        values = np.empty(at[-1] if len(found.values) or len(other.values) else 0)
        raw_kernels.all_pairs(found.at, found.hashes, found.values, other.at, other.hashes, other.values, hashes, values)
        found = Hashed(at, hashes, values)
    return found


def _together(parts: Sequence[Hashed], buckets: int, codes: Array, *, fields: bool) -> Features:
    """Entries of all parts row by row, each key once a row."""
    lengths = sum((np.diff(part.at) for part in parts), np.zeros(len(codes), np.int64))
    starts = np.concatenate(([0], np.cumsum(lengths)))
    total = int(starts[-1])
    _check_room(total)
    hashes, values = np.empty(total, np.uint64), np.empty(total)
    from_columns = np.empty(total, np.int32) if fields else _NO_FIELDS
    ends = starts[:-1].copy()
    for number, part in enumerate(parts):
        raw_kernels.place_entries(part.at, part.hashes, part.values, number, ends, hashes, values, from_columns)
    seen = np.zeros((1 << int(2 * max(1, lengths.max(initial=1)) - 1).bit_length(), 2), np.int64)
    indptr, keys = np.empty(len(codes) + 1, np.int32), np.empty(total, np.int64)
    count = raw_kernels.rows_of_keys(starts, hashes, np.uint64(buckets), seen, indptr, keys, values, from_columns)
    return Features(indptr, keys[:count], values[:count], codes, buckets, from_columns[:count])


def _check_room(entries: int) -> None:
    if entries > MOST_ENTRIES:
        raise InvalidInput(
            f"The rows of a batch must have at most {MOST_ENTRIES} entries together. Got {entries}: leave out crosses of columns with many"
            " values a row, or set `spark.sql.execution.arrow.maxRecordsPerBatch` lower."
        )


__all__ = ["MOST_ENTRIES", "Hashed", "has_infinite", "hash_categories", "read_raw", "word_characters"]
