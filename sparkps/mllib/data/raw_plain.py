"""Raw columns to sparse rows in plain Python, value by value: for scoring where there is no numba. Gives what `raw_features` gives."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.errors import InvalidInput
from sparkps.mllib.data.hashing import CROSS, hash_of_bytes, hash_of_float, key_of, mix, seed_of
from sparkps.mllib.data.raw_columns import CATEGORY, INTEGER, NUMBER, TEXT, RawColumns

Array = NDArray[Any]

#: An entry: its hash, before it is a key, and its value.
Entry = tuple[int, float]

_WORD = re.compile(r"\w+")

_hash_of_word = lru_cache(maxsize=1 << 18)(lambda word: hash_of_bytes(word.encode()))


def rows_of(source: RawColumns, columns: Any) -> tuple[Array, Array, Array]:
    """Rows as CSR has them: indptr, int64; keys, int64; values, float64.

    Parameters
    ----------
    source : RawColumns
        With kinds.
    columns : mapping of str to sequence, pyarrow.Table, pyarrow.RecordBatch or pandas.DataFrame
        Values of each column by its name: as Python has them, None for null.

    Raises
    ------
    InvalidInput
        A column is missing, or a value is not of the kind that the column had in training, or not finite.

    Examples
    --------
    >>> source = RawColumns(("city", "age"), kinds=("string", "number"))
    >>> indptr, keys, values = rows_of(source, {"city": ["Oslo", None], "age": [31.0, 0.0]})
    >>> indptr.tolist(), values.tolist()
    ([0, 2, 2], [1.0, 31.0])
    """
    return rows_with_fields(source, columns)[:3]


def rows_with_fields(source: RawColumns, columns: Any) -> tuple[Array, Array, Array, Array]:
    """As `rows_of`, and the raw column that each entry came from, int32: inputs from 0, crosses after them."""
    given = [values_of(columns, name) for name in source.names]
    if len({len(values) for values in given}) > 1:
        raise InvalidInput(f"Columns must be of one length. Got {dict(zip(source.names, map(len, given), strict=True))}.")
    lower = {name: _lower_case(values) for name, kind, values in _each(source, given) if kind == TEXT}
    indptr = [0]
    keys: list[int] = []
    found: list[tuple[float, int]] = []
    for number in range(len(given[0])):
        row = {name: lower.get(name, values)[number] for name, _, values in _each(source, given)}
        entries = _entries_of_row(source, row)
        keys += entries.keys()
        found += entries.values()
        indptr.append(len(keys))
    sums, fields = zip(*found, strict=True) if found else ((), ())
    return np.array(indptr, np.int64), np.array(keys, np.int64), np.array(sums, np.float64), np.array(fields, np.int32)


def labels_of(source: RawColumns, columns: Any) -> dict[int, str]:
    """What each key of one row stands for, as people would write it; of several with one key the first.

    Parameters
    ----------
    source : RawColumns
        With kinds.
    columns : mapping of str to sequence, pyarrow.Table, pyarrow.RecordBatch or pandas.DataFrame
        As for `rows_of`, of one row.

    Examples
    --------
    >>> source = RawColumns(("city", "age"), crosses=(("city", "age"),), kinds=("string", "number"))
    >>> list(labels_of(source, {"city": ["Oslo"], "age": [31.0]}).values())
    ['city=Oslo', 'age', 'city=Oslo × age']
    """
    given = [values_of(columns, name) for name in source.names]
    row = {name: (_lower_case(values) if kind == TEXT else values)[0] for name, kind, values in _each(source, given)}
    named: dict[str, list[tuple[int, str]]] = {}
    for name, kind, _ in _each(source, given):
        what = name, kind, row[name], source.ngrams
        named[name] = [(h, label) for (h, _), label in zip(_entries(*what), _labels(*what), strict=True)]
    found: dict[int, str] = {}
    for name in source.inputs:
        for h, label in named[name]:
            found.setdefault(key_of(h, source.buckets), label)
    for cross in source.crosses:
        for parts in itertools.product(*(named[name] for name in cross)):
            ((h, _),) = _cross([[(h, 1.0)] for h, _ in parts])
            found.setdefault(key_of(h, source.buckets), " × ".join(label for _, label in parts))
    return found


def _labels(name: str, kind: str, value: Any, ngrams: int) -> Iterator[str]:
    """Of the entries that `_entries` gives, in their order."""
    if _is_null(value, kind):
        return
    is_array = isinstance(value, (list, tuple, np.ndarray))
    elements = list(value) if is_array else [value]
    if kind == TEXT:
        words = [each for each in elements if not _is_null(each, kind)] if is_array else _WORD.findall(value)
        for first in range(len(words)):
            for last in range(first + 1, min(first + ngrams, len(words)) + 1):
                yield f"{name}={' '.join(words[first:last])}"
        return
    for position, each in enumerate(elements):
        if _is_null(each, kind) or (kind == NUMBER and not each):
            continue
        yield f"{name}={each}" if kind != NUMBER else f"{name}[{position}]" if is_array else name


def _each(source: RawColumns, given: Sequence[Sequence[Any]]) -> Iterator[tuple[str, str, Sequence[Any]]]:
    return zip(source.names, source.kinds, given, strict=True)


def category_keys(vocabulary: str, kind: str, value: Any) -> list[int]:
    """Keys of a value, or of those of an array: without those of nulls.

    Parameters
    ----------
    vocabulary : str
        What its column hashes with: the column's name, as a rule.
    kind : {"string", "integer", "category"}
    value : object
        As Python has it.

    Raises
    ------
    InvalidInput
        It is of another kind.
    """
    return [key_of(h) for h, _ in _entries(vocabulary, kind, value, 1)]


def values_of(columns: Any, name: str) -> Sequence[Any]:
    """The values of one of some columns, as Python has them."""
    try:
        found = columns.column(name) if hasattr(columns, "column") and hasattr(columns, "schema") else columns[name]
    except (KeyError, IndexError):
        raise InvalidInput(f"Column {name!r} must be given: the model was trained on it.", column=name) from None
    return found.to_pylist() if hasattr(found, "to_pylist") else list(found)


def _lower_case(texts: Sequence[Any]) -> Sequence[Any]:
    """Texts in lower case, as Arrow has it: each character for itself."""
    import pyarrow as pa
    import pyarrow.compute as pc

    plain = [text if isinstance(text, str) else None for text in texts]
    lower = pc.utf8_lower(pa.array(plain, pa.string())).to_pylist()
    return [text if low is None else low for text, low in zip(texts, lower, strict=True)]


def _entries_of_row(source: RawColumns, row: dict[str, Any]) -> dict[int, tuple[float, int]]:
    """Of each key its value, and the first column that it comes from; in the order in which they come."""
    hashed = {
        name: list(_entries(name, kind, row[name], source.ngrams)) for name, kind in zip(source.names, source.kinds, strict=True)
    }
    found: dict[int, tuple[float, int]] = {}
    parts = itertools.chain(
        (hashed[name] for name in source.inputs), (_cross([hashed[name] for name in cross]) for cross in source.crosses)
    )
    for column, entries in enumerate(parts):
        for h, value in entries:
            key = key_of(h, source.buckets)
            total, first = found.get(key, (0.0, column))
            found[key] = total + value, first
    return found


def _entries(name: str, kind: str, value: Any, ngrams: int) -> Iterator[Entry]:
    if _is_null(value, kind):
        return
    seed, is_array = seed_of(name), isinstance(value, (list, tuple, np.ndarray))
    elements = [value] if not is_array else list(value)
    try:
        if kind == TEXT:
            words = [each for each in elements if not _is_null(each, kind)] if is_array else _WORD.findall(value)
            yield from _grams(words, ngrams, seed)
            return
        for position, each in enumerate(elements):
            if _is_null(each, kind):
                continue
            if kind == NUMBER:
                h = mix(seed ^ mix(position + 1)) if is_array else mix(seed)
                if number := _finite(float(each)):
                    yield h, number
            else:
                yield mix(seed ^ _hash_of(each, kind)), 1.0
    except (TypeError, ValueError, AttributeError) as error:
        must = f"a value must be finite and of the kind {kind!r}, or an array of such"
        raise InvalidInput(f"Column {name!r}: {must}. Got {value!r}.", column=name) from error


def _is_null(value: Any, kind: str) -> bool:
    """None, and NaN where pandas has put it in the place of None."""
    return value is None or (kind not in (NUMBER, CATEGORY) and isinstance(value, float) and math.isnan(value))


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise ValueError("it is not finite")
    return number


def _hash_of(value: Any, kind: str) -> int:
    if kind == CATEGORY:
        return hash_of_float(float(value))
    if kind == INTEGER:
        if int(value) != value:
            raise ValueError("it is no whole number")
        return mix(int(value))
    return int(_hash_of_word(value))


def _grams(words: Iterable[str], most: int, seed: int) -> Iterator[Entry]:
    hashes = [_hash_of_word(word) for word in words]
    for first in range(len(hashes)):
        g = seed
        for h in hashes[first : first + most]:
            g = mix(g ^ h)
            yield g, 1.0


def _cross(columns: Sequence[Sequence[Entry]]) -> Iterator[Entry]:
    for entries in itertools.product(*columns):
        g, product = CROSS, 1.0
        for h, value in entries:
            g, product = mix(g ^ h), product * value
        yield g, product


__all__ = ["category_keys", "labels_of", "rows_of", "rows_with_fields", "values_of"]
