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
from importlib import import_module
from typing import Any

import numpy as np

from sparkps.arrow import numbers
from sparkps.errors import ConfigError, InvalidInput
from sparkps.filesystems.opening import open_filesystem
from sparkps.mllib.data.graph_inputs import graph_inputs
from sparkps.mllib.data.raw_columns import RawColumns
from sparkps.mllib.models.layers import layers_of
from sparkps.mllib.models.saved import Coefficients, SavedLinearModel, SavedMachine
from sparkps.mllib.models.saved_layers import SavedMultilayer

#: How models predict; what was saved when all were binary classifiers or regressions has none.
KINDS = ("", "regression", "binary", "multinomial", "side", "mixture", "machine", "field machine", "multilayer")


def load_model(url: str | os.PathLike[str], *, trusted: bool = False) -> Any:
    """A model that was saved, of any estimator, from any file system that Python opens; Spark is not needed.

    Parameters
    ----------
    url : str or PathLike
        What was given to `save`: a path, or a URL (see `sparkps.filesystems.opening`).
    trusted : bool
        Whether a pickle may be read, which is a program: a `TorchModel` is one. All other models have none.

    Returns
    -------
    SavedLinearModel, SavedMachine, SavedMultilayer or sparkps.mllib.deep.saved.SavedDeepModel
        A deep model needs torch, and keeps all of its embeddings in memory.

    Raises
    ------
    InvalidInput
        There is no such model, or it is a pickle that is not `trusted`.
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
        if isinstance(facts, dict) and "columns" in facts:
            return _deep(metadata, filesystem, path, trusted=trusted)
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


def _deep(metadata: dict[str, Any], filesystem: Any, path: str, *, trusted: bool) -> Any:
    """A deep model; its package, and torch, are imported here alone."""
    try:
        saved: Any = import_module("sparkps.mllib.deep.saved")
    except ModuleNotFoundError as missing:
        raise ConfigError(f"A deep model needs torch: pip install 'sparkps[torch]'. Got {str(missing)!r} for {path!r}.") from missing

    def read(name: str) -> bytes:
        with filesystem.open_input_stream(f"{path}/{name}") as file:
            return bytes(file.read())

    return saved.loaded(metadata, read, lambda table: _keys_and_values(filesystem, f"{path}/rows/{table}", "row"), trusted=trusted)


def _made(metadata: dict[str, Any], coefficients: Coefficients) -> SavedLinearModel:
    facts = metadata["sparkps"]
    intercepts = facts.get("intercepts", [facts.get("intercept", 0.0)])  # one `intercept`, where all models had one output
    made, more = _kind_of(metadata)
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


def _kind_of(metadata: dict[str, Any]) -> tuple[type[SavedLinearModel], dict[str, Any]]:
    """The class of the model, and what it has besides."""
    facts = metadata["sparkps"]
    kind = facts.get("kind", "")
    if kind == "multilayer":
        return SavedMultilayer, {"layers": layers_of(np.array(facts.get("scalars", []), np.float64), facts["layers"][1:])}
    return (SavedMachine, _machine(metadata)) if kind.endswith("machine") else (SavedLinearModel, {})


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
    keys, flat = _keys_and_values(filesystem, f"{path}/data", "weight" if dim == 1 else "weights")
    order = np.argsort(keys, kind="stable")
    return Coefficients(keys[order], flat[order] if dim == 1 else flat.reshape(-1, dim)[order])


def _keys_and_values(filesystem: Any, folder: str, column: str) -> tuple[Any, Any]:
    """Keys, int64 (n,), and the values of a column of numbers, or of arrays, one after the other."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    keys: list[Any] = [np.empty(0, np.int64)]
    values: list[Any] = []
    for name in _parts_of(filesystem, folder):
        with filesystem.open_input_file(name) as file:
            table = pq.ParquetFile(file, pre_buffer=True).read(["key", column])
        keys += [numbers(chunk) for chunk in table.column("key").chunks]
        values += [numbers(chunk.flatten() if pa.types.is_list(chunk.type) else chunk) for chunk in table.column(column).chunks]
    return np.concatenate(keys), np.concatenate(values) if values else np.empty(0)


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


__all__ = ["KINDS", "Coefficients", "SavedLinearModel", "SavedMachine", "SavedMultilayer", "graph_inputs", "load_model"]
