"""Reading raw ratings from any source that Spark reads.

Nothing is converted here; `recsys.ingest.judging.judge` does that.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from recsys.columns import (
    MISREAD,
    QUOTED,
    RATING,
    RAW_ITEM,
    RAW_LINE,
    RAW_USER,
    TIMESTAMP,
)
from recsys.config.sections import IdList, Input, QueriedSource, Source
from recsys.errors import ConfigError, InputError
from recsys.ingest import csv_text, json_text, parquet_types
from recsys.ingest.csv_text import column
from recsys.ingest.failures import reading
from recsys.ingest.listing import list_files, table_files
from recsys.ingest.manifest import InputFile
from recsys.ingest.naming import CORRUPT, find_column, has_malformed, no_columns
from recsys.ingest.query import ask
from recsys.runtime.spark_errors import spark_reason

MALFORMED = "malformed_line"


@dataclass(frozen=True)
class Opened:
    """A source that can be read.

    Attributes:
        rows: the source's columns as it has them; with CSV and JSON also `_corrupt_record`, the
            text of a malformed line.
        columns: the names of the columns without that one.
        files: what it consists of.
        source: what was opened.
        key: its place in the configuration, for messages.
        own: the names of the columns that stand in lines of CSV, not in the names of folders.
    """

    rows: DataFrame
    columns: list[str]
    files: list[InputFile]
    source: Source
    key: str
    own: list[str]

    @property
    def line(self) -> Column:
        """A malformed line as text; null for all other rows."""
        return F.col(CORRUPT) if has_malformed(self.source) else F.lit(None).cast("string")

    @property
    def misread(self) -> Column:
        """The reason of a row that is none: a malformed line, a header. Null for all others."""
        malformed = F.when(self.line.isNotNull(), MALFORMED)
        if self.source.format != "csv":
            return malformed
        return F.coalesce(malformed, csv_text.wrong_with(self.source, self.own))

    @property
    def quoted(self) -> Column:
        """Whether a row has quotes, so that it may have been read wrongly."""
        if self.source.format != "csv":
            return F.lit(False)
        return csv_text.quoted(self.source, self.columns, CORRUPT)


def open_source(spark: SparkSession, source: Source, key: str = "input") -> Opened:
    """Open any source as it is, without reading its rows (but for JSON, to find the columns).

    Args:
        spark: the session.
        source: what to read.
        key: its place in the configuration, for messages.

    Raises:
        InputError: it cannot be read, has no files, or one would be read twice or not at all.
    """
    with reading(source):
        if source.format == "table":
            rows = spark.table(source.table or "")
            files = table_files(spark, source, rows)
            return Opened(rows, rows.columns, files, source, key, rows.columns)
        files = list_files(spark, source, key)
        rows, columns, own = _open(spark, source, key)
        if source.format == "parquet":
            rows = parquet_types.check_and_convert(spark, rows, files)
    return Opened(rows, columns, files, source, key, own)


@dataclass(frozen=True)
class Columns:
    """Columns of a source, one row for each of its rows, or of its query's.

    Attributes:
        rows: the columns that were asked for, as the source or the query's result has them; `line`:
            a malformed line as text, else null; `misread`: the reason of a row that is none, else
            null; `quoted`: whether it has quotes (of the rows of a query, nobody knows).
        opened: where they come from.
    """

    rows: DataFrame
    opened: Opened


def read_ratings(spark: SparkSession, source: Input) -> Columns:
    """Open the configured source of the ratings: `user`, `item`, and if named the other two.

    Raises:
        InputError: the source does not exist or lacks a column.
        ConfigError: the query cannot be used.
    """
    mapping = {
        RAW_USER: source.columns.user,
        RAW_ITEM: source.columns.item,
        RATING: source.columns.rating,
        TIMESTAMP: source.columns.timestamp,
    }
    named = {name: (at, f"input.columns.{name}") for name, at in mapping.items() if at is not None}
    return read_columns(spark, source, named, key="input")


def read_columns(
    spark: SparkSession,
    source: QueriedSource,
    named: Mapping[str, tuple[str, str]],
    *,
    key: str,
    where: str | None = None,
) -> Columns:
    """Open a source and choose columns.

    Args:
        spark: the session.
        source: what to read.
        named: for each column, by the name that it gets: its name in the source or the query's
            result, and the key that names it.
        key: the source's place in the configuration, for messages.
        where: an SQL condition on the source's columns. Rows that are none are kept.

    Raises:
        InputError: the source does not exist or lacks a column.
        ConfigError: the condition or the query cannot be used.
    """
    opened = open_source(spark, source, key)
    chosen = opened
    if where is not None:
        with _of_condition(key):
            rows = opened.rows.where(opened.misread.isNotNull() | F.expr(where))
        chosen = replace(opened, rows=rows)
    if source.query is not None:
        return Columns(_asked(spark, chosen, source.query, named), opened)
    found = _named(chosen.rows, named, source)
    marks = chosen.line.alias(RAW_LINE), chosen.misread.alias(MISREAD), chosen.quoted.alias(QUOTED)
    return Columns(chosen.rows.select(*found, *marks), opened)


def _named(frame: DataFrame, named: Mapping[str, tuple[str, str]], source: Source) -> list[Column]:
    return [find_column(frame, at, key, source).alias(name) for name, (at, key) in named.items()]


def _asked(
    spark: SparkSession, opened: Opened, query: str, named: Mapping[str, tuple[str, str]]
) -> DataFrame:
    """Return the rows of the query, and those of the source that are none."""
    source = opened.source
    plain = opened.rows
    if has_malformed(source):
        # Spark refuses to read nothing but malformed lines, so this refers to another column as
        # well, in a condition that always holds and that Spark does not see through.
        always = F.hash(column(opened.own[0])) >= F.lit(-(2**31))
        plain = plain.where(opened.misread.isNull() & always).drop(CORRUPT)
    result = ask(spark, plain, query, f"{opened.key}.query")
    none = F.lit(None).cast("string")
    marks = none.alias(RAW_LINE), none.alias(MISREAD), F.lit(False).alias(QUOTED)
    asked = result.select(*_named(result, named, source), *marks)
    if not has_malformed(source):
        return asked
    kinds = asked.schema.fields[: len(named)]
    nothing = [F.lit(None).cast(field.dataType).alias(field.name) for field in kinds]
    line = opened.line
    misread = opened.rows.where(opened.misread.isNotNull() & always).select(
        *nothing, line.alias(RAW_LINE), opened.misread.alias(MISREAD), F.lit(False).alias(QUOTED)
    )
    return asked.unionByName(misread)


def read_source(
    spark: SparkSession, source: Source, *, where: str | None = None, key: str
) -> DataFrame:
    """Read a list: its columns as it has them, without headers among its rows.

    Args:
        spark: the session.
        source: what to read.
        where: an SQL condition on its columns.
        key: its place in the configuration, for messages.

    Raises:
        InputError: it cannot be read, or its quotes cannot be read as configured.
        ConfigError: the condition is not one on these columns.
    """
    if isinstance(source, IdList) and source.ids is not None:
        schema = StructType([StructField(source.column, StringType())])
        frame = spark.createDataFrame([(str(one),) for one in source.ids], schema)
    else:
        opened = open_source(spark, source, key)
        frame = opened.rows
        if source.format == "csv":
            look_at_text(spark, opened)
            frame = frame.where(csv_text.wrong_with(source, opened.own).isNull())
    with _of_condition(key):
        return frame if where is None else frame.where(where)


@contextmanager
def _of_condition(key: str) -> Iterator[None]:
    """Name the key of a condition that cannot be used."""
    try:
        yield
    except PySparkException as error:
        reason = spark_reason(error).partition(" SQLSTATE")[0]  # the plan follows
        raise ConfigError(f"{key}.where: {reason}") from error


def look_at_text(spark: SparkSession, opened: Opened) -> None:
    """Refuse CSV whose quotes or headers make other rows of its lines; this reads all of it.

    Raises:
        InputError: they do.
    """
    with reading(opened.source):
        headers = csv_text.wrong_with(opened.source, opened.own)
        looked = opened.rows.agg(F.bool_or(opened.quoted), F.collect_set(headers))
        found = looked.collect()[0]
    csv_text.refuse_reordered(found[1], opened.key)
    if found[0]:
        csv_text.check_quotes(spark, opened.source, [f.path for f in opened.files], opened.key)


def _open(spark: SparkSession, source: Source, key: str) -> tuple[DataFrame, list[str], list[str]]:
    """Return a source as Spark reads it, the names of its columns, and which CSV and JSON have."""
    reader = spark.read.format(source.format).options(**source.options)
    if source.format == "csv":
        # Text, whatever it looks like: 007 is not 7. Inference would also read everything twice.
        names = csv_text.column_names(spark, source, key)
        own = names.own
        reader = reader.options(**csv_text.options(source))
        schema = StructType([StructField(name, StringType()) for name in own + names.folders])
    elif source.format == "json":
        json_text.check_documents(spark, source, key)
        inferred = reader.option("columnNameOfCorruptRecord", CORRUPT).load(source.paths)
        folders = _folder_columns(inferred, key)
        schema = StructType([field for field in inferred.schema if field.name != CORRUPT])
        own = [name for name in schema.fieldNames() if name not in folders]
    else:
        typed = reader.load(source.paths)
        _folder_columns(typed, key)
        return typed, typed.columns, []
    if not own:
        raise InputError(no_columns(key, source))
    if reserved := [name for name in schema.fieldNames() if name.lower() == CORRUPT]:
        raise InputError(
            f"{key} has a column {reserved[0]}, a name that stands for malformed lines here; "
            "rename it in the files"
        )
    # By default Spark parses only the columns that are asked for, and misses malformed lines; it
    # also trusts that every file has its columns in the order of the first.
    rows = (
        reader.schema(StructType([*schema, StructField(CORRUPT, StringType())]))
        .option("mode", "PERMISSIVE")
        .option("columnNameOfCorruptRecord", CORRUPT)
        .option("columnPruning", False)
        .option("enforceSchema", False)
        .load(source.paths)
    )
    return rows, schema.fieldNames(), own


def _folder_columns(rows: DataFrame, key: str) -> list[str]:
    """Return the columns whose values are in the names of folders.

    Raises:
        InputError: the files have a column of the same name, whose values Spark would not read.
    """
    plan: Any = rows._jdf.queryExecution().analyzed()
    if plan.getClass().getSimpleName() != "LogicalRelation":
        return []
    relation = plan.relation()
    folders = list(relation.partitionSchema().fieldNames())
    own = {name.lower() for name in relation.dataSchema().fieldNames()}
    if both := [name for name in folders if name.lower() in own]:
        raise InputError(
            f"{key}.path: folders such as {both[0]}=... are columns, and the files have a column "
            f"{both[0]} as well, expected one of them; rename the folders, or set "
            f"{key}.options.recursiveFileLookup to true to read the files' own"
        )
    return folders
