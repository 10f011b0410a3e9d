"""Models in the formats that pyspark.ml can write besides its own."""

from __future__ import annotations

from typing import Any, Self

from sparkps.mllib.models.persistence import ModelWriter


class ExportingWriter(ModelWriter):
    """Writes a model as `ModelWriter` does, or by pyspark.ml in one of its formats.

    Parameters
    ----------
    model : LinearModel
        With a `toSpark`.

    Examples
    --------
    >>> model.write().format("pmml").save(path)    # doctest: +SKIP
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self._format = "internal"

    def format(self, source: str) -> Self:
        """Sets the format: "internal", which can be loaded, or one of pyspark.ml, such as "pmml"."""
        self._format = source
        return self

    def saveImpl(self, path: str) -> None:
        """See `ModelWriter`."""
        if self._format == "internal":
            super().saveImpl(path)
        else:
            self.model.toSpark().write().format(self._format).save(path)


__all__ = ["ExportingWriter"]
