"""Columns of rows for deep models: which hold categories, numbers, features, labels, and what their values become."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Self

import pyarrow as pa

from sparkps.driver_bridge.input.scan import quoted
from sparkps.errors import InvalidInput
from sparkps.mllib.data.raw_columns import CATEGORY, NUMBER, plain_kind
from sparkps.mllib.data.selection import (
    arrow_types,
    check_features_type,
    check_indicator_type,
    check_number_type,
    check_present,
)
from sparkps.mllib.errors import InvalidColumn

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


@dataclass(frozen=True)
class InputColumns:
    """What a deep model reads of a row. Picklable, and JSON has all of it.

    Examples
    --------
    >>> columns = InputColumns(("town", "words"), ("age",)).resolved({"town": pa.string(), "words": pa.list_(pa.int64())})
    >>> columns.kinds, columns.bags, columns.scalars
    (('string', 'integer'), ('words',), ('town',))
    >>> InputColumns.of(columns.facts()) == columns
    True
    """

    #: Columns of strings, integers, booleans or numbers whose values are categories, or arrays of these: bags.
    categorical: tuple[str, ...] = ()
    #: Columns of numbers.
    numeric: tuple[str, ...] = ()
    #: A column of vectors, each of whose non-zeros is a category with a weight; empty: there is none.
    features: str = ""
    #: Of each of `categorical`, see `raw_columns.KINDS`; empty: not `resolved` yet.
    kinds: tuple[str, ...] = ()
    #: Those of `categorical` that are arrays.
    bags: tuple[str, ...] = ()
    #: By column of `categorical`, the name that its values are hashed under, where it is not its own: equal values of columns with the
    #: same name have the same key.
    vocabularies: tuple[tuple[str, str], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The columns to read, in the order in which batches carry them."""
        return (*self.categorical, *self.numeric, *([self.features] if self.features else ()))

    @property
    def scalars(self) -> tuple[str, ...]:
        """Those of `categorical` with at most one value a row."""
        return tuple(name for name in self.categorical if name not in self.bags)

    @property
    def numbers(self) -> int:
        """Numbers of a row."""
        return len(self.numeric)

    def vocabulary(self, name: str) -> str:
        """The name that values of a column are hashed under."""
        return dict(self.vocabularies).get(name, name)

    def part(self, categorical: Sequence[str], numeric: Sequence[str] = (), *, features: bool = False) -> Self:
        """Those of some columns, in the order that they have here; of resolved ones resolved.

        Examples
        --------
        >>> both = InputColumns(("town", "words"), ("age",), kinds=("string", "integer"), bags=("words",))
        >>> both.part(["words"], ["age"]).names, both.part(["words"]).kinds
        (('words', 'age'), ('integer',))
        """
        kept = [place for place, name in enumerate(self.categorical) if name in categorical]
        names = tuple(self.categorical[place] for place in kept)
        return replace(
            self,
            categorical=names,
            numeric=tuple(name for name in self.numeric if name in numeric),
            features=self.features if features else "",
            kinds=tuple(self.kinds[place] for place in kept if self.kinds),
            bags=tuple(name for name in self.bags if name in names),
            vocabularies=tuple(each for each in self.vocabularies if each[0] in names),
        )

    def resolved(self, types: Mapping[str, pa.DataType]) -> Self:
        """The same with the kinds that types of columns have.

        Raises
        ------
        InvalidInput
            A column's type holds no categories.
        """
        if len(self.kinds) == len(self.categorical):
            return self
        kinds = []
        for name in self.categorical:
            kind = plain_kind(types[name])
            if not kind:
                raise InvalidInput(
                    f"Column {name!r} must hold strings, booleans, integers or numbers, or arrays of these, to be categorical. Got"
                    f" {types[name]}; cast it to one of these.",
                    column=name,
                )
            kinds.append(CATEGORY if kind == NUMBER else kind)
        return replace(self, kinds=tuple(kinds), bags=tuple(name for name in self.categorical if is_list(types[name])))

    def resolved_in(self, df: DataFrame) -> Self:
        """As `resolved`, with the types of a DataFrame.

        Raises
        ------
        InvalidColumn
            A column is missing, or of a type that cannot be read.
        """
        check_present(df, self.names)
        check_distinct(self.names)
        try:
            found = self.resolved(arrow_types(df, self.categorical))
        except InvalidInput as error:
            raise InvalidColumn(error.message, **error.attributes) from None
        found.check_types(df)
        return found

    def check_types(self, df: DataFrame) -> None:
        """Raise `InvalidColumn` unless columns are there, of types that can be read, and like those of the training."""
        check_present(df, self.names)
        for name in self.numeric:
            check_numeric(name, df.schema[name].dataType)
        if self.features:
            check_features_type(self.features, df.schema[self.features].dataType)
        types = arrow_types(df, self.categorical)
        for name, kind in zip(self.categorical, self.kinds, strict=False):
            got = plain_kind(types[name])
            if (got != kind and not (kind == CATEGORY and got == NUMBER)) or is_list(types[name]) != (name in self.bags):
                was = f"{'an array of ' if name in self.bags else ''}{kind}"
                raise InvalidColumn(
                    f"Column {name!r} must be of a type like that of the training, which was {was}. Got {types[name]}.", column=name
                )

    def facts(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        return {
            name: [list(each) if isinstance(each, tuple) else each for each in value] if isinstance(value, tuple) else value
            for name, value in self.__dict__.items()
        }

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Self:
        """What gave `facts`; what models that were saved earlier say besides counts for nothing."""
        facts = {name: value for name, value in facts.items() if name in cls.__dataclass_fields__}
        lists = {name: tuple(tuple(e) if isinstance(e, list) else e for e in v) for name, v in facts.items() if isinstance(v, list)}
        return cls(**{**facts, **lists})


@dataclass(frozen=True)
class DeepColumns:
    """The columns of rows to train on."""

    inputs: InputColumns
    #: One, or several of a model with several tasks.
    labels: tuple[str, ...]
    weight: str = ""
    #: Whether a row is set aside to measure on.
    validation: str = ""
    handle_invalid: Literal["error", "skip"] = "error"

    @property
    def beside(self) -> dict[str, str]:
        """By role, the columns behind labels and inputs, in the order in which batches carry them."""
        roles = {"weight": self.weight, "validation": self.validation}
        return {role: name for role, name in roles.items() if name}

    @property
    def names(self) -> list[str]:
        """The columns to read, in the order in which batches carry them."""
        return [*self.labels, *self.inputs.names, *self.beside.values()]

    def resolved(self, df: DataFrame) -> DeepColumns:
        """The same, its inputs with the kinds of the DataFrame's columns.

        Raises
        ------
        InvalidColumn
            A column is missing, of a type that cannot be read, or has two parts to play.
        """
        check_present(df, self.names)
        check_distinct(self.names)
        for name in filter(None, (*self.labels, self.weight)):
            check_number_type(name, df.schema[name].dataType)
        if self.validation:
            check_indicator_type(self.validation, df.schema[self.validation].dataType)
        return replace(self, inputs=self.inputs.resolved_in(df))

    def selected(self, df: DataFrame) -> DataFrame:
        """The columns in the order of `names`."""
        from pyspark.sql import functions as sf

        return df.select(*(as_read(df, name, sf.col(quoted(name)), self) for name in self.names))


def as_read(df: DataFrame, name: str, column: Any, columns: DeepColumns) -> Any:
    """A column as ranks read it: labels and weights as doubles, and so decimals that are numbers."""
    doubles = {*columns.labels, columns.weight, *columns.inputs.numeric}
    return column.cast("double").alias(name) if name in doubles and df.schema[name].dataType.typeName() != "double" else column


def check_numeric(name: str, kind: Any) -> None:
    """Raise `InvalidColumn` unless a column of Spark type `kind` holds numbers or booleans."""
    from pyspark.sql.types import BooleanType

    if not isinstance(kind, BooleanType):
        check_number_type(name, kind)


def check_distinct(names: Sequence[str]) -> None:
    """Raise `InvalidColumn` where a column is named twice."""
    if twice := [name for name in names if names.count(name) > 1]:
        raise InvalidColumn(f"A column must have one part to play. Got {twice[0]!r} twice in {', '.join(names)}.", column=twice[0])


def is_list(kind: pa.DataType) -> bool:
    """Whether values of a type are arrays."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


__all__ = ["DeepColumns", "InputColumns"]
