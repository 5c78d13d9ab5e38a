"""Ids of users and items: how they are read, converted to their type, and indexed."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ByteType,
    DataType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    NumericType,
    ShortType,
    StringType,
)

from recsys.config.sections import IdType, Source
from recsys.errors import ConfigError
from recsys.ingest.naming import find_column
from recsys.ingest.source import read_source
from recsys.store.tables import Scratch

BLANK = r"(?U)^\s*$"
LARGEST_EXACT_INTEGER = 2.0**53


@dataclass(frozen=True)
class IdColumn:
    """A column of ids in a source.

    Attributes:
        name: the column's.
        key: where the configuration names it, for messages.
        type: the ids' type in the model, Spark's name.
    """

    name: str
    key: str
    type: str


def read_ids(
    spark: SparkSession,
    source: Source,
    columns: Mapping[str, IdColumn],
    *,
    key: str,
    where: str | None = None,
) -> DataFrame:
    """Read columns of ids from a source, one row for each of its rows.

    Args:
        spark: the session.
        source: what to read.
        columns: what to read, by the names that they get.
        key: the source's place in the configuration, for messages.
        where: an SQL condition on the source's columns.

    Returns:
        The columns; null where there is no id, or it cannot be one of the type.

    Raises:
        InputError: the source cannot be read or lacks a column.
        ConfigError: the condition or a column's type cannot be used.
    """
    frame = read_source(spark, source, where=where, key=key)
    return frame.select(
        *[id_column(frame, source, column).alias(name) for name, column in columns.items()]
    )


def id_column(frame: DataFrame, source: Source, column: IdColumn) -> Column:
    """Find a column of ids in a frame that was read from a source, and convert it.

    Raises:
        InputError: the frame lacks the column.
        ConfigError: the column's type cannot be used.
    """
    found = find_column(frame, column.name, column.key, source)
    ids, _ = convert_id(found, frame.select(found).schema[0].dataType, column.type, column.key)
    return ids


def id_type(found: DataType, wanted: IdType, name: str) -> str:
    """Return the type that the ids of the input get, Spark's name.

    Args:
        found: the type of the column.
        wanted: what `input.id_types` says.
        name: `user` or `item`, for the message.

    Raises:
        ConfigError: no type is wanted and the column's own is none that ids have.
    """
    if wanted != "source":
        return {"string": "string", "int": "int", "long": "bigint"}[wanted]
    if isinstance(found, StringType):
        return "string"
    if isinstance(found, ByteType | ShortType | IntegerType):
        return "int"
    if isinstance(found, LongType):
        return "bigint"
    raise ConfigError(
        f"input.columns.{name}: found a column of type {found.simpleString()}, expected "
        f"string, int or bigint; set input.id_types.{name} to convert it"
    )


def convert_id(column: Column, found: DataType, target: str, key: str) -> tuple[Column, Column]:
    """Convert ids of any type to Spark's `int`, `bigint` or `string`.

    Args:
        column: the ids.
        found: their type.
        target: Spark's name of the type that is wanted.
        key: where the configuration names the column, for the message.

    Returns:
        The ids, null where there is none or it cannot be one of this type; and whether there is
        none (null or blank).

    Raises:
        ConfigError: the column has a type that no id has.
    """
    if isinstance(found, StringType):
        return _convert_text(column, target)
    missing = column.isNull()
    if isinstance(found, FloatType | DoubleType):
        missing = missing | F.isnan(column)
        whole = (column == F.rint(column)) & (F.abs(column) <= LARGEST_EXACT_INTEGER)
        column = F.when(whole, column.try_cast("bigint"))
    elif isinstance(found, DecimalType):
        column = F.when(column == F.floor(column), column.try_cast("decimal(38,0)"))
    elif not isinstance(found, NumericType):
        raise ConfigError(
            f"{key}: found a column of type {found.simpleString()}, which cannot "
            "be an id; choose another column"
        )
    return F.when(~missing, column.try_cast(target)), missing


def not_blank(text: Column) -> Column:
    """Return true where text has more than blanks: it begins with a printable ASCII character."""
    return (text >= "!") & (text < "\x7f")


def _convert_text(text: Column, target: str) -> tuple[Column, Column]:
    """Convert text, with regular expressions only where something simpler does not do."""
    missing = text.isNull() | (~not_blank(text) & text.rlike(BLANK))
    if target == "string":
        # Spark reads this character for bytes that are not text: different ids would become one.
        return F.when(~missing & ~text.contains("\ufffd"), text), missing
    # pandas writes whole numbers as 17850.0 in a column with missing values.
    whole = F.regexp_replace(F.trim(text), r"^([+-]?\d+)\.0+$", "$1")
    return F.coalesce(text.try_cast(target), whole.try_cast(target)), missing


def id_bytes(column: str, id_type: str) -> Column:
    """Return how many bytes an id takes where ids are collected with Arrow.

    Args:
        column: the ids.
        id_type: Spark's name of their type.
    """
    if id_type == "string":
        return F.octet_length(column) + 4  # and where the text ends
    return F.lit({"int": 4, "bigint": 8}[id_type])


def index_ids(distinct: DataFrame, column: str) -> pa.Array:
    """Return a column's ids in ascending order.

    They are sorted here, since a sort in Spark would look for them twice. Arrow, like Spark,
    compares strings by their UTF-8 bytes, whatever the locale.

    Args:
        distinct: has each id once.
        column: has the ids.
    """
    return distinct.select(column).toArrow().column(0).combine_chunks().sort()


def index_frame(
    scratch: Scratch, ids: pa.Array, id_type: str, id_name: str, index_name: str
) -> DataFrame:
    """Return ids and their indices as a DataFrame.

    Args:
        scratch: brings them to the executors.
        ids: in the order of their indices.
        id_type: Spark's name of their type.
        id_name: what their column is called.
        index_name: what the column of the indices (int) is called.
    """
    index = pa.array(np.arange(len(ids), dtype=np.int32))
    schema = f"{id_name} {id_type}, {index_name} int"
    return scratch.frame(pa.table({id_name: ids, index_name: index}), schema)
