"""The features that weigh most in a model, as rows and as a picture; of large models the nodes choose them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sparkps.driver_bridge.input.scan import quoted
from sparkps.errors import InvalidInput
from sparkps.mllib.coefficients import Coefficients
from sparkps.mllib.data.raw_columns import RawColumns
from sparkps.mllib.data.raw_plain import labels_of

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

Array = NDArray[Any]

#: Most features whose names a model keeps.
MOST_NAMES = 1 << 16

#: Of weights above 0, and of those below.
_ABOVE, _BELOW = "#1f5fa8", "#d1661f"


class FeatureWeight(NamedTuple):
    """A feature of a model, and what it weighs."""

    #: Its index, or the 64-bit key of a value of a raw column.
    key: int
    #: Its name, where one is known; else its key as text.
    name: str
    #: Its coefficient; of a model with several values a feature the Euclidean norm of them.
    weight: float
    #: All its values.
    weights: tuple[float, ...]


def top_features(coefficients: Coefficients, k: int, names: Mapping[int, str] | None = None) -> list[FeatureWeight]:
    """The `k` features with the largest weights by magnitude, the largest first, ties by smaller key.

    Parameters
    ----------
    coefficients : Coefficients
    k : int
    names : mapping, optional
        Names of features by key.

    Raises
    ------
    InvalidInput
        `k` is no int of at least 1.

    Examples
    --------
    >>> from sparkps.mllib.coefficients import LocalCoefficients
    >>> held = LocalCoefficients(np.array([3, 5, 9]), np.array([[0.5], [-2.0], [1.0]]))
    >>> [(each.name, each.weight) for each in top_features(held, 2, {5: "age"})]
    [('age', -2.0), ('9', 1.0)]
    """
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise InvalidInput(f"`k` must be an int of at least 1. Got {k!r} instead.", param="k")
    known = names or {}
    keys, rows = coefficients.top(int(k))
    sizes = rows[:, 0] if rows.shape[1] == 1 else np.linalg.norm(rows, axis=1)
    return [
        FeatureWeight(key, known.get(key, str(key)), float(size), tuple(row.tolist()))
        for key, size, row in zip(keys.tolist(), sizes, rows, strict=True)
    ]


def names_in(metadata: Mapping[str, Any]) -> list[str]:
    """Names of the elements of a column of vectors, by index, out of its metadata; empty where not all have one, or there are too many.

    Examples
    --------
    >>> numeric, nominal = [{"idx": 1, "name": "age"}], [{"idx": 0, "name": "city", "vals": ["Paris"]}]
    >>> names_in({"ml_attr": {"attrs": {"numeric": numeric, "nominal": nominal}, "num_attrs": 2}})
    ['city', 'age']
    """
    attributes = [each for kind in metadata.get("ml_attr", {}).get("attrs", {}).values() for each in kind]
    named = {each["idx"]: each["name"] for each in attributes if "idx" in each and "name" in each}
    if len(named) > MOST_NAMES or set(named) != set(range(len(named))):
        return []
    return [str(named[index]) for index in range(len(named))]


def names_among(dataset: DataFrame, source: RawColumns, keys: Sequence[int]) -> dict[int, str]:
    """Names of keys that raw columns were hashed to: what the first row that has a key says.

    Parameters
    ----------
    dataset : DataFrame
        Rows with the columns of `source`.
    source : RawColumns
    keys : sequence of int
    """

    def look(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        missing = set(keys)
        for batch in batches:
            found = labels_in(batch, source, missing)
            missing -= found.keys()
            yield pa.RecordBatch.from_pydict({"key": pa.array(found, pa.int64()), "name": pa.array(found.values(), pa.string())})

    from pyspark.sql import functions as sf

    columns = dataset.select(*(sf.col(quoted(name)) for name in source.names))
    return {row.key: row.name for row in columns.mapInArrow(look, "key bigint, name string").collect()}


def labels_in(batch: pa.RecordBatch, source: RawColumns, wanted: set[int]) -> dict[int, str]:
    """Labels of the `wanted` keys that rows of a batch have."""
    found: dict[int, str] = {}
    if not wanted:
        return found
    features = source.read(batch.columns)
    entries = np.flatnonzero(np.isin(features.indices, np.array(sorted(wanted), np.int64)))
    _, firsts = np.unique(features.indices[entries], return_index=True)
    for row in np.unique(np.searchsorted(features.indptr, entries[firsts], side="right") - 1):
        labels = labels_of(source, batch.slice(int(row), 1))
        found.update({key: label for key, label in labels.items() if key in wanted})
    return found


def draw_features(ax: Any, features: Sequence[FeatureWeight]) -> None:
    """A bar for each feature, the first one on top, on axes that somebody else made."""
    places = np.arange(len(features))[::-1]
    widths = [each.weight for each in features]
    ax.barh(places, widths, color=[_ABOVE if width >= 0 else _BELOW for width in widths])
    ax.set_yticks(places, [_shortened(each.name) for each in features])
    ax.axvline(0.0, color="black", linewidth=0.8)
    ax.set_xlabel("norm of coefficients" if features and len(features[0].weights) > 1 else "coefficient")
    ax.grid(visible=False, axis="y")
    ax.set_title(f"Largest {len(features)} features")


def _shortened(name: str, most: int = 40) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


__all__ = ["MOST_NAMES", "FeatureWeight", "draw_features", "labels_in", "names_among", "names_in", "top_features"]
