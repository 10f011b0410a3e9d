"""ONNX models: the package that makes them, and where they are written."""

from __future__ import annotations

import os
from typing import Any

from sparkps.errors import ConfigError


def onnx_package() -> Any:
    """The package onnx.

    Raises
    ------
    ConfigError
        It is not installed.
    """
    try:
        import onnx
    except ImportError as missing:
        raise ConfigError("`to_onnx` needs the package onnx: pip install 'sparkps[onnx]'.") from missing
    return onnx


def write_onnx(made: Any, path: Any) -> None:
    """Write a model to a path, a string or a binary file; nowhere where that is None."""
    if path is not None:
        onnx_package().save_model(made, os.fspath(path) if isinstance(path, os.PathLike) else path)


__all__ = ["onnx_package", "write_onnx"]
