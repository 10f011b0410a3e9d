"""Buckets as checkpoints hold them, from and to what tables give and take."""

from __future__ import annotations

from collections.abc import Sequence

from sparkps.checkpoints.format import BucketRecord, TableRecord
from sparkps.checkpoints.manifest import Manifest
from sparkps.checkpoints.parts import ShardTime, encoded
from sparkps.ps_nodes.tables.bucket_rows import BucketRows, TableRows
from sparkps.specs import TableSpec
from sparkps.wire.messages.control import TableInto


def record_of(rows: BucketRows, tables: Sequence[TableSpec], times: list[ShardTime]) -> BucketRecord:
    """What is written of a bucket: what there is of some tables, and logical time."""
    found = {}
    for spec in tables:
        if spec.table in rows.tables:
            part = rows.tables[spec.table]
            found[spec.table] = TableRecord(tuple(plane.reshape(-1, spec.dim) for plane in part.planes), part.step)
    return BucketRecord(rows.bucket, rows.keys, found, encoded(times))


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


def with_others(rows: BucketRows, here: BucketRows) -> BucketRows:
    """The bucket with what is here of tables that `rows` lacks; those that share an index with one of `rows` begin anew."""
    keys = {**{index: mine for index, mine in here.keys.items() if index not in rows.keys}, **rows.keys}
    others = {n: t for n, t in here.tables.items() if n not in rows.tables and (t.index == 0 or t.index not in rows.keys)}
    return BucketRows(rows.bucket, keys, {**others, **rows.tables})


__all__ = ["record_of", "rows_of", "with_others"]
