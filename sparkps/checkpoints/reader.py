"""Tables of a checkpoint as arrays, without a tier and without Spark."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.checkpoints.files import url_of
from sparkps.checkpoints.format import BucketRecord, index_segment, table_segment
from sparkps.checkpoints.loading import load, table_named
from sparkps.checkpoints.manifest import Manifest
from sparkps.checkpoints.store import CheckpointStore, Skipped, none_sound
from sparkps.errors import CheckpointDamaged, InvalidInput
from sparkps.specs import TableSpec
from sparkps.wire.encodings import NAMED, decoded
from sparkps.wire.placement import dense_range

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class TableContents:
    """What a checkpoint holds of a table."""

    spec: TableSpec
    #: Sparse: keys by bucket, in slot order. Dense: positions in the flattened table. ndarray of shape (n,), int64.
    keys: NDArray[np.int64]
    #: Sparse: ndarray of shape (n, dim). Dense: of the table's shape.
    rows: Array
    #: The optimizer's state, each as `rows`.
    state: tuple[Array, ...]


@dataclass(frozen=True, eq=False)
class CheckpointContents(Mapping[str, TableContents]):
    """A checkpoint that was read: its tables by their names."""

    manifest: Manifest
    tables: Mapping[str, TableContents]

    @property
    def id(self) -> str:
        """Of the checkpoint."""
        return self.manifest.id

    @property
    def clocks(self) -> Mapping[str, int]:
        """By worker group: the last clock in it."""
        return self.manifest.clocks

    def __getitem__(self, table: str) -> TableContents:
        return self.tables[table]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tables)

    def __len__(self) -> int:
        return len(self.tables)


def read_checkpoint(
    url: str | os.PathLike[str],
    id: str | None = None,  # noqa: A002 - as in `Checkpoint`
    tables: Iterable[str] | None = None,
) -> CheckpointContents:
    """Tables of a checkpoint.

    Parameters
    ----------
    url : str or os.PathLike
        Where checkpoints were written to.
    id : str, optional
        By default the newest one that is sound.
    tables : iterable of str, optional
        Names of tables to read, by default all.

    Raises
    ------
    ConfigError
        It is no URL of a file system that can be opened.
    NoCheckpoint
        There is none, or none that is sound.
    CheckpointDamaged
        The one of that `id` is not sound.
    InvalidInput
        It has no such table.

    Examples
    --------
    >>> weights = read_checkpoint("/data/checkpoints")["weights"]  # doctest: +SKIP
    >>> weights.keys[:2], weights.rows[:2]  # doctest: +SKIP
    (array([17, 4]), array([[0.25], [-1.5]], dtype=float32))
    """
    url = url_of(url)
    store = CheckpointStore(url)
    if isinstance(tables, str):
        raise InvalidInput(f"`tables` must be names of tables, as ['bias']. Got the str {tables!r} instead.")
    wanted = None if tables is None else list(tables)
    if id is not None:
        manifest = store.read(id)
        store.verify(manifest)
        return _contents(url, manifest, wanted)
    skipped: list[Skipped] = []
    for manifest in store.sound(skipped=skipped):
        try:
            return _contents(url, manifest, wanted)
        except CheckpointDamaged as error:
            store.skip(manifest.id, error, skipped)
    raise none_sound(store.url, skipped)


def _contents(url: str, manifest: Manifest, tables: list[str] | None) -> CheckpointContents:
    specs = manifest.tables if tables is None else [table_named(manifest, name) for name in tables]
    return CheckpointContents(manifest, {spec.name: _table(url, manifest, spec) for spec in specs})


def _table(url: str, manifest: Manifest, spec: TableSpec) -> TableContents:
    parts = list(table_parts(url, manifest, spec, range(manifest.num_buckets)))
    keys = np.concatenate([keys for keys, _ in parts])
    planes = [np.concatenate(each) for each in zip(*(planes for _, planes in parts), strict=True)]
    if spec.kind == "dense":
        planes = [plane.reshape(spec.shape) for plane in planes]
    return TableContents(spec, keys, planes[0], tuple(planes[1:]))


def table_parts(
    url: str, manifest: Manifest, spec: TableSpec, buckets: Iterable[int]
) -> Iterator[tuple[NDArray[np.int64], tuple[Array, ...]]]:
    """Keys and planes of a table, bucket by bucket.

    Parameters
    ----------
    url : str
    manifest : Manifest
    spec : TableSpec
        One of the manifest's.
    buckets : iterable of int

    Yields
    ------
    keys : ndarray of shape (n,), int64
        Of a dense table positions.
    planes : tuple of ndarray of shape (n, dim)
        Rows, then the optimizer's state, of the table's dtype.
    """
    names = {table_segment(spec.table)} | ({index_segment(spec.index)} if spec.kind == "sparse" else set())
    for record in load(url, manifest, buckets, names=names):
        planes = record.tables[spec.table].planes
        rows = decoded(planes[0], NAMED[spec.storage]) if spec.storage else planes[0]
        yield _keys(spec, record)[: len(rows)], (rows, *planes[1:])


def _keys(spec: TableSpec, record: BucketRecord) -> NDArray[np.int64]:
    if spec.kind == "sparse":
        return record.indexes[spec.index]
    return np.arange(*dense_range(spec.size, record.bucket), dtype=np.int64)


__all__ = ["CheckpointContents", "TableContents", "read_checkpoint", "table_parts"]
