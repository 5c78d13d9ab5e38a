"""Raw rows to judged rows: converted, or rejected with a reason.

Every function takes and returns DataFrames. No result depends on the order of rows or the number
of partitions.
"""

import datetime as dt
import math
from collections.abc import Iterable
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, NumericType, StringType

from recsys.columns import (
    ITEM,
    MISREAD,
    QUOTED,
    RATING,
    RAW_ITEM,
    RAW_LINE,
    RAW_RATING,
    RAW_TIMESTAMP,
    RAW_USER,
    REASON,
    TIMESTAMP,
    USER,
    IdTypes,
)
from recsys.config.sections import Input, RowChecks
from recsys.errors import ConfigError
from recsys.ingest.ids import BLANK, convert_id, id_type, not_blank
from recsys.ingest.timestamps import convert_timestamp, later_than

# A hundred million of them can still be added up, and be a float32 weight.
_LARGEST_RATING = 1e30
# Converted columns, beside those that they are made from.
_RATING, _TIMESTAMP, _FIRST = "converted_rating", "converted_timestamp", "first_of_timestamp"


def judge(raw: DataFrame, source: Input, rules: RowChecks, began: dt.datetime) -> DataFrame:
    """Convert every row, and give those that cannot be used a reason.

    Plain casts fail the whole job in Spark's ANSI mode, so every conversion is a `try_` one.

    Args:
        raw: what `source.read_ratings` returns.
        source: names, id types and the timestamp format.
        rules: the range of the ratings, and how far in the future timestamps may be.
        began: when the run began, in UTC.

    Returns:
        `user_id`, `item_id`, `rating` (double), `timestamp`; `reason` (null where the row is good);
        where it is not, the values as they were found: `user`, `item`, `raw_rating`,
        `raw_timestamp`, `line`; and `quoted`, as it came.

    Raises:
        ConfigError: a column has a type that cannot be what the configuration says it is.
    """
    types = {field.name: field.dataType for field in raw.schema}
    ids = id_types(raw, source)
    parts = {
        USER: _id(RAW_USER, types[RAW_USER], USER, ids.user),
        ITEM: _id(RAW_ITEM, types[RAW_ITEM], ITEM, ids.item),
    }
    if RATING in types:
        parts[_RATING] = _rating(types[RATING], rules, source.decimal)
    if TIMESTAMP in types:
        parts[_TIMESTAMP] = _timestamp(
            types[TIMESTAMP], source.timestamp_format, rules.future_days, began
        )
    firsts = [part.first.alias(_FIRST) for part in parts.values() if part.first is not None]
    values = {name: part.value for name, part in parts.items()}
    values.setdefault(_RATING, F.lit(1.0))
    values.setdefault(_TIMESTAMP, F.lit(None).cast("timestamp"))

    def found(name: str) -> Column:
        text = F.col(name).cast("string") if name in types else F.lit(None).cast("string")
        return F.when(F.col(REASON).isNotNull(), text)

    # One step after the other, so that Spark converts once what several columns refer to.
    converted = raw.select("*", *firsts).select(
        "*", *[value.alias(name) for name, value in values.items()]
    )
    return converted.select("*", _first_reason(parts.values()).alias(REASON)).select(
        USER,
        ITEM,
        F.col(_RATING).alias(RATING),
        F.col(_TIMESTAMP).alias(TIMESTAMP),
        REASON,
        found(RAW_USER).alias(RAW_USER),
        found(RAW_ITEM).alias(RAW_ITEM),
        found(RATING).alias(RAW_RATING),
        found(TIMESTAMP).alias(RAW_TIMESTAMP),
        RAW_LINE,
        QUOTED,
    )


@dataclass(frozen=True)
class _Part:
    """How one column is judged.

    Attributes:
        value: the converted column.
        fine: where this is true, none of the reasons holds. It looks at the converted column, and
            costs little. Where it is false or null, the reasons decide.
        reasons: what may be wrong, in the order in which it is said.
        first: a column that `value` refers to as `_FIRST`, if it needs one.
    """

    value: Column
    fine: Column
    reasons: list[tuple[Column, str]]
    first: Column | None = None


def _first_reason(parts: Iterable[_Part]) -> Column:
    """Return why a row cannot be used, else null. Few rows have to be looked at closely."""
    fine = F.col(MISREAD).isNull()
    reasons = []
    for part in parts:
        fine = fine & part.fine
        reasons += [F.when(wrong, F.lit(name)) for wrong, name in part.reasons]
    return F.when(fine, F.lit(None).cast("string")).otherwise(F.coalesce(MISREAD, *reasons))


def rejects(judged: DataFrame) -> DataFrame:
    """Return the rows that cannot be used, as text, with their reasons (REJECTS_SCHEMA)."""
    return judged.where(F.col(REASON).isNotNull()).select(
        REASON,
        RAW_USER,
        RAW_ITEM,
        F.col(RAW_RATING).alias(RATING),
        F.col(RAW_TIMESTAMP).alias(TIMESTAMP),
        RAW_LINE,
    )


def accepted(judged: DataFrame) -> DataFrame:
    """Return the rows that can be used: `user_id`, `item_id`, `rating`, `timestamp`."""
    return judged.where(F.col(REASON).isNull()).select(USER, ITEM, RATING, TIMESTAMP)


def id_types(raw: DataFrame, source: Input) -> IdTypes:
    """Return the types that the ids of the input get.

    Args:
        raw: what `source.read_ratings` returns.
        source: the configured id types.

    Raises:
        ConfigError: a column has a type that no id has.
    """
    return IdTypes(
        user=id_type(raw.schema[RAW_USER].dataType, source.id_types.user, RAW_USER),
        item=id_type(raw.schema[RAW_ITEM].dataType, source.id_types.item, RAW_ITEM),
    )


def _id(name: str, found: DataType, converted: str, target: str) -> _Part:
    value, missing = convert_id(F.col(name), found, target, f"input.columns.{name}")
    there = F.col(converted).isNotNull()
    return _Part(value, there, [(missing, f"{name}_missing"), (~there, f"{name}_invalid")])


def _rating(found: DataType, rules: RowChecks, decimal: str) -> _Part:
    column, converted = F.col(RATING), F.col(_RATING)
    missing, plain = column.isNull(), F.lit(True)
    if isinstance(found, StringType) and decimal == ",":
        # A point is no number then: in 1.234 it may separate thousands.
        column = F.when(~column.contains("."), F.replace(column, F.lit(","), F.lit(".")))
    # -0.0 equals 0.0 but has other bits; adding zero makes them the same.
    value = column.try_cast("double") + F.lit(0.0)
    unparsable = converted.isNull()
    if isinstance(found, StringType):
        plain = _plain_number(column)
        missing = missing | F.col(RATING).rlike(BLANK)
        # Java reads 1d and 0x1p3 as numbers. NaN and Infinity are judged as not finite.
        not_plain = column.rlike(r"[^0-9eE+.\s-]") & ~F.isnan(converted)
        unparsable = unparsable | (not_plain & (F.abs(converted) != float("inf")))
    elif not isinstance(found, NumericType):
        raise ConfigError(
            f"input.columns.rating: found a column of type {found.simpleString()}, expected a "
            "number or text; choose another column"
        )
    low = max(-_LARGEST_RATING, -math.inf if rules.rating_min is None else rules.rating_min)
    high = min(_LARGEST_RATING, math.inf if rules.rating_max is None else rules.rating_max)
    inside = converted.between(low, high)  # NaN is above all numbers
    reasons = [
        (missing, "rating_missing"),
        (unparsable, "rating_unparsable"),
        (F.isnan(converted) | (F.abs(converted) == float("inf")), "rating_not_finite"),
        (~inside, "rating_out_of_range"),
    ]
    return _Part(value, plain & inside, reasons)


def _plain_number(text: Column) -> Column:
    """Return true where text that can be a double is surely written as a plain number.

    Java reads 1d, 0x1p3 and NaN as numbers as well. Those end in a letter or have an x.
    """
    begins = (text >= "+") & (text < ":")  # one of + , - . / and the digits
    ends = F.right(text, F.lit(1)).isin(*"0123456789.")
    return begins & ends & ~text.contains("x") & ~text.contains("X")


def _timestamp(
    found: DataType, layout: str, future_days: float | None, began: dt.datetime
) -> _Part:
    column, converted = F.col(TIMESTAMP), F.col(_TIMESTAMP)
    missing, fine = column.isNull(), converted.isNotNull()
    if isinstance(found, StringType):
        missing = missing | column.rlike(BLANK)
        fine = fine & not_blank(column)  # some patterns make a time of nothing
    reasons = [(missing, "timestamp_missing"), (converted.isNull(), "timestamp_unparsable")]
    if future_days is not None:
        later = later_than(converted, began, future_days)
        fine = fine & ~later
        reasons.append((later, "timestamp_in_future"))
    first, value = convert_timestamp(column, found, layout, _FIRST)
    return _Part(value, fine, reasons, first)
