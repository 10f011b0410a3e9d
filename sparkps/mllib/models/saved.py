"""Saved models in plain Python: what they predict of rows, in numpy alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparkps.errors import InvalidInput
from sparkps.mllib.data.raw_columns import RawColumns
from sparkps.mllib.data.raw_plain import rows_of, rows_with_fields
from sparkps.mllib.models.classes import class_of, class_of_two
from sparkps.mllib.models.links import LINKS, PROBABILITIES, link_named
from sparkps.mllib.models.machines import field_machine_margins, fields_of, machine_margins

Array = NDArray[Any]

#: Columns of a matrix for which a table of all coefficients is made: one look-up each then, instead of a search.
_TABLE_COLUMNS = 1 << 24


class Coefficients(NamedTuple):
    """Coefficients that are not 0."""

    #: Indices of features, int64 (n,), ascending.
    keys: Array
    #: float64 (n,), or (n, K) of a model with a margin for each of K classes.
    values: Array


@dataclass(frozen=True, repr=False)
class SavedLinearModel:
    """A saved linear model.

    Rows are given as a matrix of numpy or scipy (any of its sparse formats), of shape (n, features); or, with indices of any size, as
    ``(indices, values)`` of one row, or as ``(indptr, indices, values)`` of many, as CSR has them. Terms are added in the order in which
    our executors add them, to the same bits; where Spark's own model scores in our stead, it rounds otherwise.

    Rows for a model of raw columns may also be these columns by their names: a mapping to sequences, a table of pyarrow, or a DataFrame of
    pandas (see `data.raw_plain.rows_of`).

    Attributes
    ----------
    coefficients : Coefficients
    intercept : float, or ndarray of shape (K,)
    num_features : int
    width : int
        Features that every row must have; 0: any number.
    link : str
        What margins mean, by its name in `models.links.LINKS`. "sigmoid": the logarithm of the odds of label 1; "softmax": those of each
        class to each other; of a regression its link function. Empty: the margin is the prediction.
    threshold : float
        Label 1 is predicted where its probability is above; or its margin, of a classifier without probabilities.
    name, uid : str
        Class and id of the model that was saved.
    kind : str
        "regression", "binary", "multinomial", "side" (two classes without probabilities) or "mixture". Empty: as `link` tells it.
    thresholds : sequence of K floats, optional
        What the probabilities of a multinomial model are divided by before the largest is chosen.
    raw : RawColumns, optional
        The raw columns that are its features.

    Examples
    --------
    >>> model = SavedLinearModel(Coefficients(np.array([1, 10**12]), np.array([2.0, 0.5])), intercept=-1.0, link="sigmoid")
    >>> model.decision_function(np.array([[9.0, 1.0], [0.0, 0.0]])).tolist()
    [1.0, -1.0]
    >>> model.predict(([1, 10**12], [1.0, 4.0])).tolist()
    [1.0]
    """

    coefficients: Coefficients
    intercept: float | Array
    num_features: int = 0
    width: int = 0
    link: str = ""
    threshold: float = 0.5
    name: str = ""
    uid: str = ""
    kind: str = ""
    thresholds: Sequence[float] | None = None
    raw: RawColumns | None = None

    def __post_init__(self) -> None:
        if not self.kind:
            object.__setattr__(self, "kind", {"sigmoid": "binary", "softmax": "multinomial"}.get(self.link, "regression"))

    def __repr__(self) -> str:
        width = self.width or self.num_features
        of = f"{width} features" if width else "any features"
        return f"<{self.name or 'SavedLinearModel'} {self.uid}: {len(self.coefficients.keys)} coefficients of {of}>".replace(" :", ":")

    def decision_function(self, rows: Any) -> Array:
        """Margins of each row, intercept + Σ x·w: float64 (n,), or (n, K) of a model with a margin for each class.

        Of a mixture, and of other models with several margins for two classes, the logarithm of the odds of label 1, (n,).
        """
        margins = self._margins(rows)
        if self.kind == "mixture":
            with np.errstate(divide="ignore"):
                logs = np.log(self._probabilities(margins))
            return logs[:, 1] - logs[:, 0]
        return margins[:, 0] if margins.shape[1] == 1 else margins

    def predict_proba(self, rows: Any) -> Array:
        """Probabilities of the labels of each row, float64 (n, 2), or (n, K) of a model with a margin for each class.

        Raises
        ------
        InvalidInput
            The model's margins mean none.
        """
        return self._probabilities(self._margins(rows))

    def predict(self, rows: Any) -> Array:
        """What is predicted of each row, float64 (n,): a label, or a number."""
        margins = self._margins(rows)
        if self.kind in ("binary", "mixture"):
            return class_of_two(self._probabilities(margins)[:, 1], self.threshold)
        if self.kind == "multinomial":
            return class_of(margins, self._probabilities(margins), self.thresholds)
        if self.kind == "side":
            return class_of_two(margins[:, 0], self.threshold)
        return link_named(self.link)(margins[:, 0])

    def _probabilities(self, margins: Array) -> Array:
        if self.link not in PROBABILITIES:
            raise InvalidInput(
                f"The margins of a model must mean probabilities, by one of {sorted(PROBABILITIES)}. Those of {self.name or 'this model'}"
                f" mean {self.link or 'predictions'!r}: use `decision_function`."
            )
        found = LINKS[self.link](margins)
        return found if self.kind in ("multinomial", "mixture") else np.hstack([1.0 - found, found])

    def _margins(self, rows: Any) -> Array:
        """Float64 (n, K)."""
        if self.raw is not None and _has_columns(rows):
            return self._of_entries(*rows_of(self.raw, rows))
        if isinstance(rows, np.ndarray):
            return self._of_matrix(rows)
        if isinstance(rows, tuple):
            return self._of_entries(*_entries_of(rows))
        matrix = rows.tocsr() if hasattr(rows, "tocsr") else None
        if matrix is None:
            return self._of_matrix(np.asarray(rows))
        self._check_width(matrix.shape[1])
        return self._of_entries(matrix.indptr, matrix.indices, matrix.data)

    @property
    def _values(self) -> Array:
        """Float64 (n, K)."""
        values = self.coefficients.values
        return values if values.ndim == 2 else values[:, None]

    def _of_matrix(self, rows: Array) -> Array:
        """Column by column, in the order in which the entries of one row are added."""
        self._check_width(_matrix_of_numbers(rows).shape[1])
        keys, values = self.coefficients.keys, self._values
        total = np.repeat(np.array(self.intercept, np.float64).reshape(1, -1), len(rows), axis=0)
        for key, value in zip(keys.tolist(), values, strict=True):  # float64 of numpy: products are, too
            if key >= rows.shape[1]:
                break
            if key >= 0:
                total += rows[:, key, None] * value
        return total

    def _of_entries(self, indptr: Array, indices: Array, values: Array) -> Array:
        """Row by row, in the order of entries; the intercept is the first of them."""
        lengths = np.diff(indptr)
        count = len(lengths)
        found = self._coefficients_of(np.asarray(indices, np.int64))
        starts = np.arange(count) + indptr[:-1] - indptr[0]
        is_entry = np.ones(len(found) + count, bool)
        is_entry[starts] = False
        rows = np.repeat(np.arange(count), lengths + 1)
        margins = np.empty((count, found.shape[1]))
        for output, intercept in enumerate(np.ravel(self.intercept)):
            terms, own = np.empty(len(is_entry)), found[:, output]
            terms[starts] = intercept
            # What has no coefficient adds nothing, be it infinite.
            terms[is_entry] = np.multiply(values, own, where=own != 0, out=np.zeros(len(own)))
            margins[:, output] = np.bincount(rows, weights=terms, minlength=count)
        return margins

    def _coefficients_of(self, indices: Array) -> Array:
        """Float64 (n, K) of n indices."""
        keys, values = self.coefficients.keys, self._values
        if not len(keys) or not len(indices):
            return np.zeros((len(indices), values.shape[1]))
        top = int(indices.max()) + 1
        if indices.min() >= 0 and top <= min(_TABLE_COLUMNS, 16 * len(indices)):
            table = np.zeros((top, values.shape[1]))
            inside = (keys >= 0) & (keys < top)
            table[keys[inside]] = values[inside]
            return table[indices]
        at = np.minimum(np.searchsorted(keys, indices), len(keys) - 1)
        return np.where((keys[at] == indices)[:, None], values[at], 0.0)

    def _check_width(self, columns: int) -> None:
        if self.width and columns != self.width:
            raise InvalidInput(f"Rows must have {self.width} features, as those of the training had. Got {columns}.")


@dataclass(frozen=True, repr=False)
class SavedMachine(SavedLinearModel):
    """A saved factorization machine, or a field-aware one.

    Rows are given as to a `SavedLinearModel`; for fields that are raw columns, as these columns. Scores are those of executors but for
    the order in which terms are added.

    Attributes
    ----------
    coefficients : Coefficients
        Of each feature its linear one, then its factors; of a field-aware machine those for each field.
    linear : bool
        Whether linear coefficients count.
    factors : int
        Of a field-aware machine, those for one field; 0: it is a plain one.
    starts : tuple of int
        First feature of each field; empty: fields are raw columns.
    normal : bool
        Whether a sum over pairs is divided by the sum of squares of a row's values.

    Examples
    --------
    >>> model = SavedMachine(Coefficients(np.array([0, 1]), np.array([[1.0, 0.5], [0.0, 2.0]])), intercept=0.25)
    >>> model.predict(np.array([[3.0, 1.0]])).tolist()
    [6.25]
    """

    linear: bool = True
    factors: int = 0
    starts: tuple[int, ...] = ()
    normal: bool = False

    def predict(self, rows: Any) -> Array:
        """What is predicted of each row, float64 (n,): a label, or a number."""
        if self.link != "sigmoid":
            return super().predict(rows)
        margins = self._margins(rows)
        return class_of(np.hstack([-margins, margins]), self._probabilities(margins), self.thresholds)

    def _margins(self, rows: Any) -> Array:
        if self.factors and not self.starts:
            if self.raw is None or not _has_columns(rows):
                raise InvalidInput(f"Rows must be raw columns by their names: each is a field of {self.name or 'the machine'}.")
            return self._of_fields(*rows_with_fields(self.raw, rows))
        return super()._margins(rows)

    def _of_matrix(self, rows: Array) -> Array:
        at, keys = np.nonzero(_matrix_of_numbers(rows))
        self._check_width(rows.shape[1])
        indptr = np.concatenate(([0], np.cumsum(np.bincount(at, minlength=len(rows)))))
        return self._of_entries(indptr, keys, rows[at, keys])

    def _of_entries(self, indptr: Array, indices: Array, values: Array) -> Array:
        keys, at = np.asarray(indices, np.int64), indptr - indptr[0]
        if self.factors:
            return self._of_fields(at, keys, values, fields_of(keys, self.starts))
        return self.intercept + machine_margins(at, self._coefficients_of(keys), values, linear=self.linear)[:, None]

    def _of_fields(self, indptr: Array, keys: Array, values: Array, fields: Array) -> Array:
        found = self._coefficients_of(keys)
        margins = field_machine_margins(indptr, found, values, fields, self.factors, linear=self.linear, normal=self.normal)
        return self.intercept + margins[:, None]


def _has_columns(rows: Any) -> bool:
    return isinstance(rows, Mapping) or hasattr(rows, "columns")


def _matrix_of_numbers(rows: Array) -> Array:
    if rows.ndim != 2 or rows.dtype.kind not in "fiub":
        raise InvalidInput(f"Rows must be a matrix of numbers, of shape (n, features). Got {rows.dtype} of shape {rows.shape}.")
    return rows


def _entries_of(rows: tuple[Any, ...]) -> tuple[Array, Array, Array]:
    """Rows given as tuples, as CSR has them."""
    if len(rows) == 2:
        indices, values = np.asarray(rows[0]), np.asarray(rows[1])
        indptr = np.array([0, len(indices)]) if indices.ndim else np.zeros(0)
    elif len(rows) == 3:
        indptr, indices, values = (np.asarray(part) for part in rows)
    else:
        raise InvalidInput(f"Rows must be a matrix, (indices, values), or (indptr, indices, values). Got a tuple of {len(rows)}.")
    if not len(indices):
        indices, values = indices.astype(np.int64), values.astype(np.float64)
    ends = indptr.ndim == 1 and len(indptr) > 0 and indptr[0] == 0 and indptr[-1] == len(indices) and bool((np.diff(indptr) >= 0).all())
    if not ends or indices.ndim != 1 or indices.shape != values.shape or indices.dtype.kind not in "iu" or values.dtype.kind not in "fiub":
        raise InvalidInput(
            "Rows must be (indices, values) of one row, or (indptr, indices, values) of many: integers, and as many numbers; indptr"
            f" ascending from 0 to their count. Got {[str(part)[:40] for part in rows]}."
        )
    return indptr, indices, values


__all__ = ["Coefficients", "SavedLinearModel", "SavedMachine"]
