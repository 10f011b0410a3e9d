"""Whether a DataFrame is nothing but columns of Parquet files that ranks reach, so that ranks may read the files themselves.

Deliberately narrow: columns of numbers, booleans and strings, and of lists and structs of these, whose type in every file is the one
that Spark gives them, selected, renamed or made doubles, without filter, partition column or cache. Everything else is left to Spark.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sparkps.driver_bridge.input.parquet import ParquetInput, RowGroup, row_groups, share_out
from sparkps.driver_bridge.input.scan import elements
from sparkps.driver_bridge.spark.master import Master
from sparkps.filesystems.opening import can_be_shared, path_of_uri
from sparkps.filesystems.webhdfs_http import Limits

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

#: Limits of the look at files: where a file system does not answer soon, Spark reads.
_GLANCE = Limits(connect=3.0, silence=10.0, tries=1)

#: More files than this are left to Spark: their footers are read here.
MOST_FILES = 1000

_SQL = "org.apache.spark.sql."
_PROJECT = _SQL + "catalyst.plans.logical.Project"
_RELATION = _SQL + "execution.datasources.LogicalRelation"
_FILES = _SQL + "execution.datasources.HadoopFsRelation"
_INDEX = _SQL + "execution.datasources.InMemoryFileIndex"
_PARQUET = _SQL + "execution.datasources.parquet.ParquetFileFormat"
_ATTRIBUTE = _SQL + "catalyst.expressions.AttributeReference"
_ALIAS = _SQL + "catalyst.expressions.Alias"
_CAST = _SQL + "catalyst.expressions.Cast"


@dataclass(frozen=True)
class NotPlain:
    """Why the ranks cannot read a DataFrame's files themselves."""

    reason: str


@dataclass(frozen=True)
class _Column:
    """One column of the DataFrame: the attribute of the relation that it is, and whether it was made a double."""

    attribute: int
    to_double: bool


def plain_parquet(df: DataFrame, schema: pa.Schema, num_workers: int, reader: str = "auto") -> ParquetInput | NotPlain:
    """The files beneath `df`, shared out over `num_workers` ranks, or why Spark must read them. Runs no job.

    Parameters
    ----------
    df : DataFrame
    schema : pyarrow.Schema
        Of the record batches of `df`.
    num_workers : int
    reader : str
        "auto": files of a path are the ranks' only where these are on this host. "files": the user says that every executor has them.
    """
    found = _selected_columns(df)
    if isinstance(found, NotPlain):
        return found
    columns, relation = found
    names = {_id(attribute): attribute.name() for attribute in elements(relation.output())}
    if any(column.attribute not in names for column in columns):
        return NotPlain("a column is none of the files' own")
    files = relation.relation().location().inputFiles()
    if len(files) > MOST_FILES:
        return NotPlain(f"it has more than {MOST_FILES} files")
    sources = tuple(names[column.attribute] for column in columns)
    wanted = dict.fromkeys(
        (source, column.to_double, field.type) for source, column, field in zip(sources, columns, schema, strict=True)
    )
    here = reader == "files" or Master(df.sparkSession.sparkContext.master or "").on_this_host
    if not here and not all(can_be_shared(url) for url in files):
        return NotPlain("the files may be on another host")
    try:
        footers = row_groups([_place(url) for url in sorted(files)], _GLANCE)
    except OSError as error:
        return NotPlain(str(error))  # Spark tells the user, or was told to ignore it, or knows a way that Python does not
    groups: list[RowGroup] = []
    for url, (mine, held) in zip(sorted(files), footers, strict=True):
        for name, to_double, kind in wanted:
            at = held.get_all_field_indices(name)
            if len(at) != 1 or "." in name or not _fits(held.field(at[0]).type, kind, to_double):
                return NotPlain(f"{url} holds column {name!r} in another form")
        groups += mine
    return ParquetInput(schema, sources, share_out(groups, num_workers))


def _place(url: str) -> str:
    """A file's path on this host, or its URL."""
    return path_of_uri(url) if url.startswith("file:") else url


def _selected_columns(df: DataFrame) -> tuple[list[_Column], Any] | NotPlain:
    """The columns of `df` by the attributes of the one Parquet relation beneath it."""
    plan = df._jdf.queryExecution().optimizedPlan()
    columns = [_Column(_id(attribute), False) for attribute in elements(plan.output())]
    while _class(plan) == _PROJECT:
        made = {}
        for expression in elements(plan.projectList()):
            source = _source(expression)
            if source is None:
                return NotPlain("a column is computed")
            made[_id(expression)] = source
        columns = [
            _Column(made[column.attribute].attribute, column.to_double or made[column.attribute].to_double)
            for column in columns
        ]
        plan = plan.child()
    if _class(plan) != _RELATION or _class(plan.relation()) != _FILES:
        return NotPlain(f"its plan has {plan.nodeName()}")
    if _class(plan.relation().fileFormat()) != _PARQUET or _class(plan.relation().location()) != _INDEX:
        return NotPlain("it does not read plain Parquet files")
    return columns, plan


def _source(expression: Any) -> _Column | None:
    """What a projected expression is, if it is a column or a number made a double."""
    if _class(expression) == _ALIAS:
        expression = expression.child()
    if _class(expression) == _CAST and expression.dataType().simpleString() == "double":
        inner = expression.child()
        return _Column(_id(inner), True) if _class(inner) == _ATTRIBUTE else None
    return _Column(_id(expression), False) if _class(expression) == _ATTRIBUTE else None


def _fits(held: pa.DataType, wanted: pa.DataType, to_double: bool) -> bool:
    """Whether a file's column gives what Spark would give."""
    if to_double:
        return pa.types.is_signed_integer(held) or held in (pa.float32(), pa.float64())
    return _alike(held, wanted)


def _alike(held: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether two types of values, lists and structs are the same but for the names of list elements, nullability and width of offsets."""
    if pa.types.is_struct(wanted):
        return bool(
            pa.types.is_struct(held)
            and [field.name for field in held] == [field.name for field in wanted]
            and all(_alike(mine.type, theirs.type) for mine, theirs in zip(held, wanted, strict=True))
        )
    if _is_list(wanted):
        return bool(_is_list(held) and _alike(held.value_type, wanted.value_type))
    if _is_string(wanted):
        return _is_string(held)
    plain = pa.types.is_signed_integer(wanted) or pa.types.is_boolean(wanted) or wanted in (pa.float32(), pa.float64())
    return bool(plain and held == wanted)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _class(instance: Any) -> str:
    return str(instance.getClass().getName())


def _id(expression: Any) -> int:
    return int(expression.exprId().id())


__all__ = ["MOST_FILES", "NotPlain", "plain_parquet"]
