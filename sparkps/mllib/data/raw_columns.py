"""Raw columns as a source of features: which ones, and what each of their values becomes. Without numba and without Spark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa

from sparkps.errors import InvalidInput
from sparkps.mllib.data.hashing import ALL_KEYS

if TYPE_CHECKING:
    from sparkps.mllib.data.features import Features

#: What values of a column become, and the types that can. Arrays have the kind of their elements.
STRING, INTEGER, NUMBER, CATEGORY, TEXT = KINDS = ("string", "integer", "number", "category", "text")

_HOLDS = "must hold strings, booleans, integers, floats or decimals, or arrays of these"


@dataclass(frozen=True)
class RawColumns:
    """Columns of strings, numbers, booleans, and arrays of these, hashed to keys (see `hashing`). Picklable.

    A null is no entry, and neither is the number 0. A number that is not finite makes its row wrong.

    Examples
    --------
    >>> types = {"city": pa.string(), "age": pa.float64(), "day": pa.int32()}
    >>> source = RawColumns(("city", "age"), crosses=(("city", "day"),)).resolved(types)
    >>> source.names, source.kinds
    (('city', 'age', 'day'), ('string', 'number', 'integer'))
    >>> RawColumns.of(source.facts()).names
    ('city', 'age', 'day')
    """

    #: Columns that have entries of their own.
    inputs: tuple[str, ...]
    #: Columns whose values have entries in all combinations; need not be among the inputs.
    crosses: tuple[tuple[str, ...], ...] = ()
    #: Columns of words; None: all of strings where `ngrams` is above 1, else none.
    text: tuple[str, ...] | None = None
    #: Most words of an entry of a text.
    ngrams: int = 1
    #: Columns of floats whose values are names, and columns of integers whose values are amounts.
    categorical: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    #: Keys are folded to [0, buckets); 0: they are in [0, 2^63).
    buckets: int = 0
    #: Of each of `names`; empty: not `resolved` yet.
    kinds: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The columns to read."""
        return tuple(dict.fromkeys([*self.inputs, *(name for cross in self.crosses for name in cross)]))

    @property
    def size(self) -> int:
        """Number of keys that there can be."""
        return self.buckets or ALL_KEYS

    def resolved(self, types: Mapping[str, pa.DataType]) -> Self:
        """The same columns with their `kinds`.

        Raises
        ------
        InvalidInput
            A column is of a type that cannot be hashed, or that its Param does not take.
        """
        return self if self.kinds else replace(self, kinds=tuple(self._kind(name, types[name]) for name in self.names))

    def _kind(self, name: str, kind: pa.DataType) -> str:
        found = plain_kind(kind)
        as_text = name in self.text if self.text is not None else found == STRING and self.ngrams > 1
        wanted = {"textCols": as_text, "categoricalCols": name in self.categorical, "numericCols": name in self.numeric}
        allowed = {"textCols": (STRING,), "categoricalCols": (STRING, INTEGER, NUMBER), "numericCols": (INTEGER, NUMBER)}
        if not found:
            raise InvalidInput(f"Column {name!r} {_HOLDS}. Got {kind}; cast it to one of these.", column=name)
        for param in wanted:
            if wanted[param] and found not in allowed[param]:
                what = "strings" if param == "textCols" else "numbers"
                raise InvalidInput(
                    f"Column {name!r} must hold {what}, or arrays of them, to be one of `{param}`. Got {kind}.", column=name, param=param
                )
        if as_text:
            return TEXT
        if wanted["numericCols"]:
            return NUMBER
        return CATEGORY if found == NUMBER and wanted["categoricalCols"] else found

    def check_types(self, types: Mapping[str, pa.DataType]) -> None:
        """Raise unless columns are of types that give the keys of their kinds: those of the training, or others that are as good."""
        for name, kind in zip(self.names, self.kinds, strict=True):
            if plain_kind(types[name]) not in _GOOD_FOR[kind]:
                raise InvalidInput(
                    f"Column {name!r} must be of a type like that of the training, which was {_SAYS[kind]}. Got {types[name]}.", column=name
                )

    def read(self, columns: Sequence[pa.Array], width: int = 0, *, fields: bool = False) -> Features:
        """See `FeatureSource`."""
        from sparkps.mllib.data.raw_features import read_raw  # compiled code, which `mllib.scoring` does without

        types = dict(zip(self.names, (column.type for column in columns), strict=True))
        source = self.resolved(types)
        source.check_types(types)
        return read_raw(source, columns, fields=fields)

    def culprit(self, columns: Sequence[pa.Array], row: int) -> str:
        """See `FeatureSource`: the first column that has a number which is not finite."""
        from sparkps.mllib.data.raw_features import has_infinite

        infinite = (name for name, column in zip(self.names, columns, strict=False) if has_infinite(column.slice(row, 1)))
        return next(infinite, self.names[0])

    def facts(self) -> dict[str, Any]:
        """See `FeatureSource`; of columns that are resolved."""
        return {
            "inputCols": list(self.inputs),
            "crosses": [list(cross) for cross in self.crosses],
            "ngrams": self.ngrams,
            "buckets": self.buckets,
            "kinds": list(self.kinds),
        }

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Self:
        """The columns that gave `facts`."""
        return cls(
            tuple(facts["inputCols"]),
            tuple(tuple(cross) for cross in facts["crosses"]),
            ngrams=int(facts["ngrams"]),
            buckets=int(facts["buckets"]),
            kinds=tuple(facts["kinds"]),
        )


#: By kind of the training, what else can be hashed to the same keys.
_GOOD_FOR = {STRING: (STRING,), TEXT: (STRING,), INTEGER: (INTEGER,), NUMBER: (INTEGER, NUMBER), CATEGORY: (INTEGER, NUMBER)}
_SAYS = {STRING: "strings", TEXT: "text", INTEGER: "integers or booleans", NUMBER: "numbers", CATEGORY: "numbers"}


def plain_kind(kind: pa.DataType) -> str:
    """What values of a type are where nothing else is said, or elements of arrays; empty: they cannot be hashed.

    Examples
    --------
    >>> [plain_kind(kind) for kind in (pa.string(), pa.list_(pa.int64()), pa.bool_(), pa.decimal128(9, 2), pa.date32())]
    ['string', 'integer', 'integer', 'number', '']
    """
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return STRING
    if pa.types.is_boolean(kind) or pa.types.is_signed_integer(kind):
        return INTEGER
    return NUMBER if pa.types.is_floating(kind) or pa.types.is_decimal(kind) else ""


__all__ = ["CATEGORY", "INTEGER", "KINDS", "NUMBER", "STRING", "TEXT", "RawColumns", "plain_kind"]
