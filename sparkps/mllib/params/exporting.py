"""Params of a model that is saved as it learns."""

from __future__ import annotations

from typing import Any, Self

from pyspark.ml.param import Param, Params, TypeConverters


class HasExport(Params):
    """Where and when a model that learns is saved."""

    exportDir: Param[str] = Param(
        Params._dummy(),
        "exportDir",
        "URL of a directory where the model is saved as it learns from a stream, as batch-N after batch N; if not set or empty, nowhere",
        typeConverter=TypeConverters.toString,
    )
    exportInterval: Param[int] = Param(
        Params._dummy(), "exportInterval", "batches of a stream from one export to the next (>= 1)", typeConverter=TypeConverters.toInt
    )

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._setDefault(exportInterval=1)

    def setExportDir(self, value: str) -> Self:
        """Sets the value of `exportDir`."""
        return self._set(exportDir=value)

    def getExportDir(self) -> str:
        """Gets the value of `exportDir`."""
        return self.getOrDefault(self.exportDir)

    def setExportInterval(self, value: int) -> Self:
        """Sets the value of `exportInterval`."""
        return self._set(exportInterval=value)

    def getExportInterval(self) -> int:
        """Gets the value of `exportInterval`."""
        return self.getOrDefault(self.exportInterval)


__all__ = ["HasExport"]
