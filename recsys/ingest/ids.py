"""Ids of users and items: conversion to their type, and dense indices."""

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import (
    DataType,
    DecimalType,
    DoubleType,
    FloatType,
    NumericType,
    StringType,
)

from recsys.errors import ConfigError

BLANK = r"(?U)^\s*$"


_LARGEST_EXACT_INTEGER = 2.0**53


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
    missing = column.isNull()
    if isinstance(found, StringType):
        missing = missing | column.rlike(BLANK)
        if target != "string":
            # What pandas makes of whole numbers beside missing ones: 17850.0
            column = F.regexp_replace(F.trim(column), r"^([+-]?\d+)\.0+$", "$1")
    elif isinstance(found, FloatType | DoubleType):
        missing = missing | F.isnan(column)
        whole = (column == F.rint(column)) & (F.abs(column) <= _LARGEST_EXACT_INTEGER)
        column = F.when(whole, column.try_cast("bigint"))
    elif isinstance(found, DecimalType):
        column = F.when(column == F.floor(column), column.try_cast("decimal(38,0)"))
    elif not isinstance(found, NumericType):
        raise ConfigError(
            f"{key}: found a column of type {found.simpleString()}, which cannot "
            "be an id; choose another column"
        )
    converted = column.try_cast(target)
    invalid = converted.isNull()
    if isinstance(found, StringType):
        # What Spark reads for bytes that are no text: different ids would become one.
        invalid = invalid | column.contains("\ufffd")
    return F.when(~missing & ~invalid, converted), missing


def index_ids(pairs: DataFrame, column: str) -> pa.Array:
    """Return a column's distinct ids in ascending order.

    Spark compares strings by their UTF-8 bytes, whatever the locale.
    """
    table = pairs.select(column).distinct().orderBy(column).toArrow()
    return table.column(0).combine_chunks()


def index_frame(spark: SparkSession, ids: pa.Array, id_name: str, index_name: str) -> DataFrame:
    """Return ids and their indices as a DataFrame."""
    index = pa.array(np.arange(len(ids), dtype=np.int32))
    return spark.createDataFrame(pa.table({id_name: ids, index_name: index}))
