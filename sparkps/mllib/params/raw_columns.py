"""Params that make raw columns the features: which ones, and what their values become."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Self

from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import HasInputCols

from sparkps.mllib.errors import InvalidParam


def _lists_of_names(value: Any) -> list[list[str]]:
    if not TypeConverters._can_convert_to_list(value):
        raise TypeError(f"Could not convert {value!r} to a list of lists of strings")
    return [TypeConverters.toListString(list(each) if isinstance(each, tuple) else each) for each in TypeConverters.toList(value)]


def _names(name: str, doc: str, converter: Callable[[Any], Any] = TypeConverters.toListString) -> Any:
    return Param(Params._dummy(), name, doc, typeConverter=converter)


class HasRawColumns(HasInputCols):
    """Raw columns in place of `featuresCol`: where `inputCols` or `crosses` are set, features are read from these.

    Columns may hold strings, booleans, integers, floats and decimals, and arrays of these. A string, boolean or integer is a category:
    each value of a column is a feature of its own, whose value is 1. A float or decimal is an amount: the column is one feature, or, of
    an array, each position is; 0 is left out. Of an array of categories each element is an entry. A text is cut into words: runs of
    letters, digits and underscores, in lower case (of each character for itself); the words of an array are its elements as they are.
    Each run of 1 to `ngrams` words is a feature, and its value how often the row has it.

    Features are known by a hash of column and value: of 63 bits, or, where `numFeatures` is set, of so many buckets. A null is no
    entry; a number that is not finite makes its row wrong (see `handleInvalid`).
    """

    crosses: Param[list[list[str]]] = _names(
        "crosses",
        "lists of two or more columns: each combination of their values in a row is a feature, too (of arrays every pair). These need not"
        " be inputCols. The value is the product of those of the columns",
        _lists_of_names,
    )
    textCols: Param[list[str]] = _names(
        "textCols",
        "columns of inputCols or crosses that are text, or arrays of words; if not set: all of strings where ngrams is above 1, else none",
    )
    ngrams: Param[int] = Param(
        Params._dummy(), "ngrams", "most words of one feature of a text (>= 1)", typeConverter=TypeConverters.toInt
    )
    categoricalCols: Param[list[str]] = _names("categoricalCols", "columns of floats or decimals whose values are categories, not amounts")
    numericCols: Param[list[str]] = _names("numericCols", "columns of integers or booleans whose values are amounts, not categories")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._setDefault(ngrams=1)

    def setInputCols(self, value: list[str]) -> Self:
        """Sets the value of `inputCols`."""
        return self._set(inputCols=value)

    def setCrosses(self, value: Iterable[Iterable[str]]) -> Self:
        """Sets the value of `crosses`."""
        return self._set(crosses=value)

    def setTextCols(self, value: list[str]) -> Self:
        """Sets the value of `textCols`."""
        return self._set(textCols=value)

    def setNgrams(self, value: int) -> Self:
        """Sets the value of `ngrams`."""
        return self._set(ngrams=value)

    def setCategoricalCols(self, value: list[str]) -> Self:
        """Sets the value of `categoricalCols`."""
        return self._set(categoricalCols=value)

    def setNumericCols(self, value: list[str]) -> Self:
        """Sets the value of `numericCols`."""
        return self._set(numericCols=value)

    def getCrosses(self) -> list[list[str]]:
        """Gets the value of `crosses`."""
        return self.getOrDefault(self.crosses)

    def getTextCols(self) -> list[str]:
        """Gets the value of `textCols`."""
        return self.getOrDefault(self.textCols)

    def getNgrams(self) -> int:
        """Gets the value of `ngrams`."""
        return self.getOrDefault(self.ngrams)

    def getCategoricalCols(self) -> list[str]:
        """Gets the value of `categoricalCols`."""
        return self.getOrDefault(self.categoricalCols)

    def getNumericCols(self) -> list[str]:
        """Gets the value of `numericCols`."""
        return self.getOrDefault(self.numericCols)

    def _listed(self, name: str) -> tuple[Any, ...]:
        param = self.getParam(name)
        return tuple(self.getOrDefault(param)) if self.isDefined(param) else ()

    @property
    def _has_raw_columns(self) -> bool:
        return bool(self._listed("inputCols") or self._listed("crosses"))

    def _raw_params(self) -> dict[str, Any]:
        """Arguments of `RawColumns` but for its buckets and kinds, with what contradicts itself refused."""
        inputs, crosses = self._listed("inputCols"), tuple(tuple(cross) for cross in self._listed("crosses"))
        _distinct("inputCols", inputs)
        for cross in crosses:
            _distinct("crosses", cross)
            if len(cross) < 2:
                raise InvalidParam(f"`crosses` must have at least two columns each. Got {list(cross)}.", param="crosses")
        used = {*inputs, *(name for cross in crosses for name in cross)}
        kinds = {name: self._listed(name) for name in ("textCols", "categoricalCols", "numericCols")}
        for param, names in kinds.items():
            _distinct(param, names)
            if strange := [name for name in names if name not in used]:
                raise InvalidParam(f"`{param}` must be of `inputCols` or `crosses`. Got {strange[0]!r}, which is in neither.", param=param)
        if both := set(kinds["categoricalCols"]) & set(kinds["numericCols"]):
            raise InvalidParam(f"A column must not be in `categoricalCols` and in `numericCols`. Got {min(both)!r}.", param="numericCols")
        return {
            "inputs": inputs,
            "crosses": crosses,
            "text": kinds["textCols"] if self.isDefined(self.textCols) else None,
            "ngrams": self.getNgrams(),
            "categorical": kinds["categoricalCols"],
            "numeric": kinds["numericCols"],
        }


def _distinct(param: str, names: tuple[str, ...]) -> None:
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidParam(f"`{param}` must not name a column twice. Got {twice!r} twice in {list(names)}.", param=param)


__all__ = ["HasRawColumns"]
