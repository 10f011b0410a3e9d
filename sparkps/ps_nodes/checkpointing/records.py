"""Buckets as checkpoints hold them, from and to what tables give and take."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sparkps.checkpoints.format import BucketRecord, TableChange, TableRecord
from sparkps.checkpoints.manifest import Manifest
from sparkps.checkpoints.parts import ShardTime, encoded
from sparkps.ps_nodes.tables.bucket_rows import BucketRows, TableRows
from sparkps.ps_nodes.tables.taken_buckets import TakenBucket
from sparkps.specs import TableSpec
from sparkps.wire.messages.control import TableInto


def record_of(copy: TakenBucket, tables: Sequence[TableSpec], times: list[ShardTime]) -> BucketRecord:
    """What is written of a bucket: what there is of some tables, and logical time."""
    rows = copy.whole
    found = {}
    for spec in tables:
        if spec.table in rows.tables:
            part = rows.tables[spec.table]
            found[spec.table] = TableRecord(tuple(plane.reshape(-1, spec.dim) for plane in part.planes), part.step)
    changes = {table: TableChange(part.slots, TableRecord(part.planes, part.step)) for table, part in copy.tables.items()}
    return BucketRecord(rows.bucket, rows.keys, found, encoded(times), changes=changes, more_keys=copy.keys)


def rows_of(record: BucketRecord, manifest: Manifest, into: Sequence[TableInto]) -> BucketRows:
    """What was written of a bucket, under the ids that its tables have now."""
    kinds = {spec.table: spec.kind for spec in manifest.tables}
    keys = {to.index: record.indexes[to.old_index] for to in into if kinds[to.old_table] == "sparse"}
    tables = {}
    for to in into:
        part, dense = record.tables[to.old_table], kinds[to.old_table] == "dense"
        planes = tuple(plane.reshape(-1) if dense else plane for plane in part.planes)
        tables[to.table] = TableRows(0 if dense else to.index, part.step, planes)
    return BucketRows(record.bucket, keys, tables)


def with_others(rows: BucketRows, here: BucketRows, begin: Callable[[BucketRows], BucketRows]) -> BucketRows:
    """The bucket with what is here of tables that `rows` lacks.

    Where such a table shares an index with one of `rows`, keys that `rows` lacks stay, too, behind those of `rows`: in its tables they
    read as their first rows, as they did before anybody wrote to them; and so do its keys in the others' tables.

    Parameters
    ----------
    rows : BucketRows
        What is loaded.
    here : BucketRows
        What there is.
    begin : callable
        Puts keys into the bucket, and gives it with the first rows of all tables that are here.
    """
    others = {number: table for number, table in here.tables.items() if number not in rows.tables}
    keys = {**here.keys, **rows.keys}
    tables = {**others, **{number: table for number, table in rows.tables.items() if number in here.tables}}
    shared = {table.index for table in others.values()}.intersection(rows.keys)
    for index in shared:
        keys[index] = np.concatenate([rows.keys[index], np.setdiff1d(here.keys[index], rows.keys[index])])
    if any(not np.array_equal(rows.keys[index], here.keys[index]) for index in shared):
        first = begin(BucketRows(rows.bucket, keys, {}))
        for number in [number for number, table in tables.items() if table.index in shared]:
            source = rows if number in rows.tables else here
            tables[number] = _among(first.tables[number], tables[number], source.keys[tables[number].index], keys)
    return BucketRows(rows.bucket, keys, tables)


def _among(first: TableRows, table: TableRows, its_keys: NDArray[np.int64], keys: Mapping[int, NDArray[np.int64]]) -> TableRows:
    """A table's rows at the places of its keys, and first rows elsewhere."""
    every = keys[table.index]
    order = np.argsort(every)
    places = order[np.searchsorted(every, its_keys, sorter=order)]
    planes = tuple(plane.copy() for plane in first.planes)
    for plane, own in zip(planes, table.planes, strict=True):
        plane[places] = own
    return TableRows(table.index, table.step, planes)


__all__ = ["record_of", "rows_of", "with_others"]
