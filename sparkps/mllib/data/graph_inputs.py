"""Raw values as the graphs of deep models take them: in numpy alone, without torch, numba and Spark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.errors import InvalidInput
from sparkps.mllib.data.raw_plain import category_keys, values_of

Array = NDArray[Any]

#: The key of no category.
_NONE = -1


def graph_inputs(columns: Mapping[str, Any], rows: Any) -> dict[str, Array]:
    """The inputs of a model's graph, which `to_torchscript` and `to_onnx` of deep models give.

    Parameters
    ----------
    columns : mapping
        What the model reads: ``json.loads`` of "columns" in the metadata of an ONNX model, or of "columns.json" in a TorchScript archive.
    rows : mapping of str to sequence, pyarrow.Table, pyarrow.RecordBatch or pandas.DataFrame
        Values of each column by its name: as Python has them, None for null. A vector is one of pyspark.ml, (indices, values), or its
        numbers.

    Returns
    -------
    dict of str to ndarray
        Of a column of one category int64 (n,), its hash of 63 bits (see `hashing`), -1 for null; of arrays int64 (entries,) and
        "<name>.offsets", int64 (n + 1,); of vectors these, and "<name>.weights", float32 (entries,); of numbers float32 (n,).

    Raises
    ------
    InvalidInput
        A column is missing or of another length, or a value is not of the kind that the column had in training, or not finite.

    Examples
    --------
    >>> columns = {"categorical": ["town", "seen"], "kinds": ["string", "integer"], "bags": ["seen"], "numeric": ["age"]}
    >>> found = graph_inputs(columns, {"town": ["Oslo", None], "seen": [[7, 9], []], "age": [31.0, 5.5]})
    >>> found["town"].tolist(), found["seen.offsets"].tolist(), found["age"].tolist()
    ([9222592106868711990, -1], [0, 2, 2], [31.0, 5.5])
    """
    names = [*columns["categorical"], *columns["numeric"], *filter(None, [columns.get("features")])]
    given = {name: values_of(rows, name) for name in names}
    if len({len(values) for values in given.values()}) > 1:
        raise InvalidInput(f"Columns must be of one length. Got { {name: len(values) for name, values in given.items()} }.")
    vocabularies = dict(columns.get("vocabularies", ()))
    found: dict[str, Array] = {}
    for name, kind in zip(columns["categorical"], columns["kinds"], strict=True):
        keys = _keys(name, vocabularies.get(name, name), kind, given[name])
        found |= _bag(name, keys) if name in columns["bags"] else {name: _scalars(name, keys)}
    for name in columns["numeric"]:
        found[name] = _numbers(name, given[name])
    if features := columns.get("features"):
        found |= _vectors(features, given[features])
    return found


def _keys(name: str, vocabulary: str, kind: str, values: Sequence[Any]) -> list[list[int]]:
    try:
        return [category_keys(vocabulary, kind, value) for value in values]
    except InvalidInput as error:
        raise InvalidInput(error.message.replace(repr(vocabulary), repr(name), 1), column=name) from error


def _scalars(name: str, keys: Sequence[Sequence[int]]) -> Array:
    if any(len(each) > 1 for each in keys):
        raise InvalidInput(f"Column {name!r} must hold one category a row, as in training. Got an array.", column=name)
    return np.array([each[0] if each else _NONE for each in keys], np.int64)


def _bag(name: str, keys: Sequence[Sequence[int]]) -> dict[str, Array]:
    lengths = np.array([0, *map(len, keys)], np.int64)
    return {name: np.array([key for each in keys for key in each], np.int64), f"{name}.offsets": lengths.cumsum()}


def _numbers(name: str, values: Sequence[Any]) -> Array:
    with np.errstate(over="ignore"):
        found = np.array([np.nan if value is None else value for value in values], np.float64).astype(np.float32)
    if not np.isfinite(found).all():
        wrong = values[int(np.flatnonzero(~np.isfinite(found))[0])]
        raise InvalidInput(f"Column {name!r}: a number must not be null, and finite as a float32. Got {wrong!r}.", column=name)
    return found


def _vectors(name: str, values: Sequence[Any]) -> dict[str, Array]:
    parts = [_entries_of(name, value) for value in values]
    lengths = np.array([0, *(len(indices) for indices, _ in parts)], np.int64)
    indices = np.concatenate([np.empty(0, np.int64), *(indices for indices, _ in parts)])
    weights = np.concatenate([np.empty(0, np.float32), *(weights for _, weights in parts)])
    return {name: indices, f"{name}.offsets": lengths.cumsum(), f"{name}.weights": weights}


def _entries_of(name: str, vector: Any) -> tuple[Array, Array]:
    """Indices and values: of a dense vector those that are not 0."""
    if isinstance(vector, Mapping) and vector.get("values") is not None:  # as Arrow has them
        vector = np.asarray(vector["values"]) if vector.get("indices") is None else (vector["indices"], vector["values"])
    if isinstance(vector, tuple) and len(vector) == 2:
        indices, values = (np.asarray(part) for part in vector)
    elif hasattr(vector, "indices"):
        indices, values = np.asarray(vector.indices), np.asarray(vector.values)
    elif hasattr(vector, "toArray") or isinstance(vector, (list, np.ndarray)):
        dense = np.asarray(vector.toArray() if hasattr(vector, "toArray") else vector, np.float64)
        indices = np.flatnonzero(dense)
        values = dense[indices]
    else:
        raise InvalidInput(f"Column {name!r}: a row must be a vector, or (indices, values). Got {vector!r}.", column=name)
    if len(indices) != len(values) or not np.isfinite(values).all() or (indices < 0).any() or len(set(indices.tolist())) < len(indices):
        raise InvalidInput(
            f"Column {name!r}: values must be finite, and indices distinct and not negative. Got {vector!r}.", column=name
        )
    return indices.astype(np.int64), values.astype(np.float32)


__all__ = ["graph_inputs"]
