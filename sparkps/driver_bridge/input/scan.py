"""How the rows of a DataFrame reach the ranks: from its files, directly from its scan, or staged first.

A training stage never reads a shuffle: with one upstream, a lost executor makes Spark run a second attempt of the *whole*
stage, with a copy of every healthy rank. So an input is read *directly* only where its plan and its lineage hold no shuffle
and it has enough partitions; any other is *staged* by an ordinary job (see `staged`). Columns of plain Parquet files are read
by the ranks themselves (see `choice`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from sparkps.errors import ConfigError, InvalidInput

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.resource import ResourceProfile
    from pyspark.sql import DataFrame
    from pyspark.sql.types import StructType

#: Output of a rank's task: `outcome` is one of worker.OUTCOMES.
OUTPUT_COLUMNS = {"rank": "int", "outcome": "string", "result": "binary"}

#: Names of the columns that staging adds and removes.
RANK_COLUMN = "__sparkps_rank"
HASH_COLUMN = "__sparkps_hash"

#: A rank's function over the rows of its partition.
Run = Callable[[Iterator["pa.RecordBatch"]], Iterator["pa.RecordBatch"]]


class RankRows(Protocol):
    """Rows that the ranks fetch themselves, whatever Spark's partitions. Picklable."""

    @property
    def schema(self) -> pa.Schema:
        """Of the record batches."""

    @property
    def rereadable(self) -> bool:
        """Whether a second `read` costs next to nothing."""

    def read(self, rank: int) -> Iterator[pa.RecordBatch]:
        """Rows of `rank`, one record batch at a time."""

    def remove(self) -> None:
        """Remove what was made for this input."""


@dataclass(frozen=True)
class Shuffle:
    """Why an input cannot be read directly."""

    reason: str


def check_input(df: Any) -> DataFrame:
    """`df`, if it is a DataFrame of a classic session with columns of its own names.

    Raises
    ------
    ConfigError
        A Spark Connect DataFrame.
    InvalidInput
        Something else, or a DataFrame that no task can read.
    """
    from pyspark.sql import DataFrame

    if not isinstance(df, DataFrame):
        raise InvalidInput(
            f"`df` must be a pyspark.sql.DataFrame. Got {type(df).__module__}.{type(df).__name__} instead."
        )
    if not hasattr(df, "_jdf"):
        raise ConfigError(
            "A Spark Connect session has no SparkContext, so sparkps does not support it. Use a classic session."
        )
    if df.isStreaming:
        raise InvalidInput("`df` must be a batch DataFrame. Got a streaming one; call run() in its `foreachBatch`.")
    if not df.columns:
        raise InvalidInput("`df` must have at least one column. Got none.")
    seen: set[str] = set()
    for name in df.columns:
        if name in seen:
            raise InvalidInput(f"The columns of `df` must have distinct names. Got {name!r} twice.", column=name)
        seen.add(name)
    return df


def arrow_schema(df: DataFrame) -> pa.Schema:
    """Schema of the record batches that a rank gets, also where it has no rows.

    Raises
    ------
    InvalidInput
        A column has a type that Spark cannot hand to Python as Arrow.
    """
    import pyarrow as pa
    from pyspark.sql.pandas.types import to_arrow_type

    conf = df.sparkSession.conf
    large = (conf.get("spark.sql.execution.arrow.useLargeVarTypes", "false") or "").lower() == "true"
    zone = conf.get("spark.sql.session.timeZone")
    fields = []
    for column in df.schema.fields:
        try:
            kind = to_arrow_type(column.dataType, timezone=zone, prefers_large_types=large)
        except Exception as error:
            raise InvalidInput(
                f"Column {column.name!r} of `df` must have a type that Spark can hand to Python. Got {column.dataType.simpleString()}:"
                f" {error}",
                column=column.name,
            ) from None
        fields.append(pa.field(column.name, kind, column.nullable))
    return pa.schema(fields)


def read_directly(
    df: DataFrame, num_workers: int, run: Run, *, again: bool = False, profile: ResourceProfile | None = None
) -> DataFrame | Shuffle:
    """The DataFrame that runs `run` once per rank over the scan of `df`, or why there is none.

    Runs no job. The partitions are those of this very plan: what `collect` runs is what was looked at. With `again` the plan
    was looked at before, with another `run`, and only the number of partitions is. Its tasks run in `profile`; None: in Spark's
    default one.
    """
    ranked = df.coalesce(num_workers).mapInArrow(run, schema_of(OUTPUT_COLUMNS), profile=profile)
    reason = "" if again else shuffle_in_plan(ranked)
    if reason:
        return Shuffle(reason)
    rdd = ranked._jdf.queryExecution().toRdd()
    reason = "" if again else shuffle_in_lineage(rdd)
    if reason:
        return Shuffle(reason)
    partitions = rdd.getNumPartitions()
    if partitions != num_workers:
        return Shuffle(f"its scan has {partitions} partitions for {num_workers} workers")
    return ranked


def schema_of(columns: Mapping[str, str]) -> StructType:
    """The schema of columns of the types int, bigint, string and binary, made here.

    A schema in words is parsed by the JVM: the first one of a session for half a second of its processor time.
    """
    from pyspark.sql.types import BinaryType, DataType, IntegerType, LongType, StringType, StructField, StructType

    types: dict[str, DataType] = {"int": IntegerType(), "bigint": LongType(), "string": StringType(), "binary": BinaryType()}
    return StructType([StructField(name, types[kind]) for name, kind in columns.items()])


def shuffle_in_plan(df: DataFrame) -> str:
    """The first part of the physical plan that runs a job or reads a shuffle, in words; empty if there is none."""
    return _shuffle_in(df._jdf.queryExecution().executedPlan())


def _shuffle_in(plan: Any) -> str:
    waiting = [plan]
    while waiting:
        node = waiting.pop()
        name = node.getClass().getSimpleName()
        if name.startswith("AdaptiveSparkPlan") or "Exchange" in name or "QueryStage" in name:
            return f"its plan has a shuffle or a broadcast ({name})"
        if name.startswith("InMemoryTableScan"):
            reason = _shuffle_in(node.relation().cachedPlan())
            if reason:
                return f"it is cached, and {reason}"
        if node.subqueries().nonEmpty():
            return "its plan has a subquery"
        waiting += elements(node.children())
    return ""


def shuffle_in_lineage(rdd: Any) -> str:
    """The first RDD beneath `rdd` (a Java RDD) that reads a shuffle, in words; empty if there is none."""
    seen = {rdd.id()}
    waiting = [rdd]
    while waiting:
        current = waiting.pop()
        for dependency in elements(current.dependencies()):
            if "ShuffleDependency" in dependency.toString():  # one call to the JVM; a subclass keeps the word
                return f"it reads a shuffle ({current.getClass().getSimpleName()} {current.id()})"
            parent = dependency.rdd()
            if parent.id() not in seen:
                seen.add(parent.id())
                waiting.append(parent)
    return ""


def elements(sequence: Any) -> list[Any]:
    """Elements of a Scala sequence."""
    return [sequence.apply(i) for i in range(sequence.size())]


def order_by_content(df: DataFrame, num_workers: int) -> DataFrame:
    """`df` with `RANK_COLUMN`: rank = xxhash64(row) mod W, one partition per rank, sorted by content inside it.

    What a rank gets, and in which order, is a function of the rows alone: rows with one hash are ordered by their values, and
    rows that are alike in all of them can change places unseen.

    Raises
    ------
    InvalidInput
        A column's type has no hash or no order (variant, interval, nested map).
    """
    from pyspark.errors import AnalysisException
    from pyspark.sql import functions as sf

    content = [_comparable(df, name) for name in df.columns]
    try:
        row_hash = sf.xxhash64(*content)
        ranked = df.withColumns(
            {HASH_COLUMN: row_hash, RANK_COLUMN: sf.pmod(row_hash, sf.lit(num_workers)).cast("int")}
        )
        return (
            ranked.repartitionById(num_workers, RANK_COLUMN)
            .sortWithinPartitions(RANK_COLUMN, HASH_COLUMN, *content)
            .drop(HASH_COLUMN)
        )
    except AnalysisException as error:
        raise InvalidInput(
            "deterministic=True orders rows by their content: every column must have a type with a hash and an order (no variant, no"
            f" interval, no map inside another type). {str(error).splitlines()[0]}"
        ) from None


def quoted(name: str) -> str:
    """The name of a column as Spark's expressions take it, whatever is in it.

    Examples
    --------
    >>> quoted("a.b"), quoted("a`b")
    ('`a.b`', '`a``b`')
    """
    return f"`{name.replace('`', '``')}`"


def plainly_named(df: DataFrame) -> DataFrame:
    """`df`, with other names where a column has one that would need quoting: pyspark's `mapInArrow` does not quote."""
    if all(name.isidentifier() for name in df.columns):
        return df
    return df.toDF(*(f"column{number}" for number in range(len(df.columns))))


def with_names(batches: Iterator[pa.RecordBatch], names: list[str]) -> Iterator[pa.RecordBatch]:
    """Batches of a DataFrame that `plainly_named` gave, with the names of its columns as they were."""
    for batch in batches:
        yield batch if batch.schema.names == names else batch.rename_columns(names)


def _comparable(df: DataFrame, name: str) -> Any:
    """The column as a value with a hash and an order: a map as its sorted entries."""
    from pyspark.sql import functions as sf
    from pyspark.sql.types import MapType

    column = df[quoted(name)]
    return sf.array_sort(sf.map_entries(column)) if isinstance(df.schema[name].dataType, MapType) else column


__all__ = [
    "OUTPUT_COLUMNS",
    "RANK_COLUMN",
    "RankRows",
    "Run",
    "Shuffle",
    "arrow_schema",
    "check_input",
    "elements",
    "order_by_content",
    "plainly_named",
    "quoted",
    "read_directly",
    "schema_of",
    "shuffle_in_lineage",
    "shuffle_in_plan",
    "with_names",
]
