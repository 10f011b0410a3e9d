"""What estimators and models raise where pyspark.ml raises something: errors of sparkps that are those of pyspark, too.

::

    InvalidInput (ValueError)
    ├── InvalidParam     (pyspark's IllegalArgumentException)  a Param out of its range, or at odds with another
    ├── InvalidColumn    (pyspark's IllegalArgumentException)  a column that is missing, or of a type that cannot be read
    └── InvalidRow       (pyspark's SparkRuntimeException)     a label, a weight or features that cannot be trained on

A program written for pyspark.ml catches them as it did, one written for sparkps as `InvalidInput`. Raised at the driver alone: workers and
nodes do without pyspark's errors.

Examples
--------
>>> from pyspark.errors import IllegalArgumentException
>>> try:
...     raise InvalidParam("The `regParam` must be a float in [0, inf). Got -1.0 instead.", param="regParam")
... except IllegalArgumentException as error:
...     print(error, error.getCondition())
The `regParam` must be a float in [0, inf). Got -1.0 instead. None
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyspark.errors import IllegalArgumentException, PySparkException, SparkRuntimeException

from sparkps.errors import InvalidInput


class _InvalidForSpark(InvalidInput, PySparkException):
    """Is made as errors of sparkps are, and can be asked what those of pyspark can."""

    def __init__(self, message: str = "", /, **attributes: Any) -> None:
        InvalidInput.__init__(self, message, **attributes)
        PySparkException.__init__(self, message=message)

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, (type(self), self.message, self.attributes)


class InvalidParam(_InvalidForSpark, IllegalArgumentException):
    """A Param is out of its range, or at odds with another; ``param`` names it."""


class InvalidColumn(_InvalidForSpark, IllegalArgumentException):
    """A column is missing, or of a type that cannot be read; ``column`` names it."""


class InvalidRow(_InvalidForSpark, SparkRuntimeException):
    """A row cannot be trained on; ``column``, ``rank`` and ``row`` tell which."""


def _made(cls: type[_InvalidForSpark], message: str, attributes: Mapping[str, Any]) -> _InvalidForSpark:
    return cls(message, **attributes)


__all__ = ["InvalidColumn", "InvalidParam", "InvalidRow"]
