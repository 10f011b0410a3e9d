"""Saved models in plain Python: loaded from where `model.save` has put them, and scored without Spark, Java, numba or a tier.

Examples
--------
>>> from sparkps.mllib.scoring import load_model                       # doctest: +SKIP
>>> model = load_model("hdfs://namenode:8020/models/clicks")           # doctest: +SKIP
>>> model.predict_proba(rows)[:, 1]    # rows: scipy's CSR or numpy    # doctest: +SKIP
array([0.03, 0.71])
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from sparkps.arrow import numbers
from sparkps.errors import InvalidInput
from sparkps.filesystems.opening import open_filesystem
from sparkps.mllib.data.raw_columns import RawColumns
from sparkps.mllib.models.saved import Coefficients, SavedLinearModel, SavedMachine

#: How models predict; what was saved when all were binary classifiers or regressions has none.
KINDS = ("", "regression", "binary", "multinomial", "side", "mixture", "machine", "field machine")


def load_model(url: str | os.PathLike[str]) -> SavedLinearModel:
    """A model that was saved, of any estimator, from any file system that Python opens; Spark is not needed.

    Parameters
    ----------
    url : str or PathLike
        What was given to `save`: a path, or a URL (see `sparkps.filesystems.opening`).

    Raises
    ------
    InvalidInput
        There is no such model.
    ConfigError
        Nobody knows such a URL, or what it needs is not installed or not set.
    """
    import pyarrow as pa

    place = os.fspath(url) if isinstance(url, os.PathLike) else url
    if not isinstance(place, str) or not place:
        raise InvalidInput(f"`url` must be the path or URL that a model was saved to. Got {url!r} instead.")
    local = place if "://" in place else f"file://{os.path.abspath(place)}"  # noqa: PTH100 - as text
    filesystem, path = _opened(local)
    try:
        metadata = _metadata(filesystem, path)
        facts = metadata.get("sparkps")
        is_model = isinstance(facts, dict) and facts.get("kind", "") in KINDS
        coefficients = _coefficients(filesystem, path, metadata["sparkps"].get("dim", 1)) if is_model else None
    except (OSError, ValueError, pa.ArrowException) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise InvalidInput(f"A model must be read from a path where one was saved. Got {said!r} for {place!r}.", path=place) from error
    if coefficients is None:
        raise InvalidInput(
            f"{place!r} must hold a model of sparkps. Got a {metadata.get('class')}; the models of a pipeline are below 'stages'.",
            path=place,
        )
    return _made(metadata, coefficients)


def _made(metadata: dict[str, Any], coefficients: Coefficients) -> SavedLinearModel:
    facts = metadata["sparkps"]
    intercepts = facts.get("intercepts", [facts.get("intercept", 0.0)])  # one `intercept`, where all models had one output
    made, more = (SavedMachine, _machine(metadata)) if facts.get("kind", "").endswith("machine") else (SavedLinearModel, {})
    return made(
        coefficients,
        float(intercepts[0]) if len(intercepts) == 1 else np.array(intercepts, np.float64),
        int(facts["numFeatures"]),
        int(facts.get("width") or 0),
        facts.get("link", ""),
        _threshold(metadata),
        metadata["class"].rpartition(".")[2],
        metadata["uid"],
        facts.get("kind", ""),
        metadata.get("paramMap", {}).get("thresholds"),
        RawColumns.of(facts["source"]) if "source" in facts else None,
        **more,
    )


def _machine(metadata: dict[str, Any]) -> dict[str, Any]:
    """What a `SavedMachine` has besides."""
    params, facts = _params(metadata), metadata["sparkps"]
    found: dict[str, Any] = {"linear": bool(params.get("fitLinear", True))}
    if facts["kind"] == "field machine":
        starts = () if "source" in facts else tuple(params["fieldStarts"])
        found |= {"factors": int(params["factorSize"]), "starts": starts, "normal": bool(params.get("normalizeRows"))}
    return found


def _params(metadata: dict[str, Any]) -> dict[str, Any]:
    return {**metadata.get("defaultParamMap", {}), **metadata.get("paramMap", {})}


def _opened(url: str) -> tuple[Any, str]:
    if url.startswith("file://"):
        from pyarrow.fs import LocalFileSystem

        return LocalFileSystem(), url.removeprefix("file://")
    return open_filesystem(url, "The path of a model")


def _metadata(filesystem: Any, path: str) -> dict[str, Any]:
    """The one line of JSON that Spark has written."""
    for name in _parts_of(filesystem, f"{path}/metadata"):
        with filesystem.open_input_stream(name) as file:
            if text := file.read():
                found = json.loads(text)
                if isinstance(found, dict):
                    return found
    raise ValueError("its metadata are empty")


def _coefficients(filesystem: Any, path: str, dim: int) -> Coefficients:
    """Keys and values, of `dim` values a key."""
    import pyarrow.parquet as pq

    column, tables = "weight" if dim == 1 else "weights", []
    for name in _parts_of(filesystem, f"{path}/data"):
        with filesystem.open_input_file(name) as file:
            tables.append(pq.ParquetFile(file, pre_buffer=True).read(["key", column]))
    keys = np.concatenate([np.empty(0, np.int64), *(numbers(chunk) for table in tables for chunk in table.column("key").chunks)])
    chunks = [chunk for table in tables for chunk in table.column(column).chunks]
    flat = np.concatenate([np.empty(0), *(numbers(chunk if dim == 1 else chunk.flatten()) for chunk in chunks)])
    order = np.argsort(keys, kind="stable")
    return Coefficients(keys[order], flat[order] if dim == 1 else flat.reshape(-1, dim)[order])


def _parts_of(filesystem: Any, folder: str) -> Sequence[str]:
    """Files of a folder, without those that Spark keeps for itself."""
    from pyarrow.fs import FileSelector, FileType

    found = filesystem.get_file_info(FileSelector(folder))
    return sorted(one.path for one in found if one.type == FileType.File and one.base_name[0] not in "._")


def _threshold(metadata: dict[str, Any]) -> float:
    """Of label 1; pyspark.ml takes two `thresholds` for one, too."""
    if len(pair := metadata.get("paramMap", {}).get("thresholds") or []) == 2:
        return float(pair[1] / (pair[0] + pair[1]))
    return float(_params(metadata).get("threshold", 0.5))


__all__ = ["KINDS", "Coefficients", "SavedLinearModel", "SavedMachine", "load_model"]
