"""Raw rows to judged rows: converted, or rejected with a reason.

Every function takes and returns DataFrames. No result depends on the order of rows or the number
of partitions.
"""

import datetime as dt

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
from recsys.ingest.ids import BLANK, convert_id, id_type
from recsys.ingest.timestamps import convert_timestamp, later_than

# A hundred million of them can still be added up, and be a float32 weight.
_LARGEST_RATING = 1e30


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
    user, user_reasons = _id(RAW_USER, types[RAW_USER], ids.user)
    item, item_reasons = _id(RAW_ITEM, types[RAW_ITEM], ids.item)
    reasons = [*user_reasons, *item_reasons]
    if RATING in types:
        rating, rating_reasons = _rating(types[RATING], rules, source.decimal)
        reasons += rating_reasons
    else:
        rating = F.lit(1.0)
    if TIMESTAMP in types:
        timestamp, time_reasons = _timestamp(
            types[TIMESTAMP], source.timestamp_format, rules.future_days, began
        )
        reasons += time_reasons
    else:
        timestamp = F.lit(None).cast("timestamp")

    first_reason = F.coalesce(MISREAD, *[F.when(wrong, F.lit(name)) for wrong, name in reasons])

    def found(name: str) -> Column:
        text = F.col(name).cast("string") if name in types else F.lit(None).cast("string")
        return F.when(first_reason.isNotNull(), text)

    return raw.select(
        user.alias(USER),
        item.alias(ITEM),
        rating.alias(RATING),
        timestamp.alias(TIMESTAMP),
        first_reason.alias(REASON),
        found(RAW_USER).alias(RAW_USER),
        found(RAW_ITEM).alias(RAW_ITEM),
        found(RATING).alias(RAW_RATING),
        found(TIMESTAMP).alias(RAW_TIMESTAMP),
        RAW_LINE,
        QUOTED,
    )


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


_Reasons = list[tuple[Column, str]]


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


def _id(name: str, found: DataType, target: str) -> tuple[Column, _Reasons]:
    converted, missing = convert_id(F.col(name), found, target, f"input.columns.{name}")
    return converted, [(missing, f"{name}_missing"), (converted.isNull(), f"{name}_invalid")]


def _rating(found: DataType, rules: RowChecks, decimal: str) -> tuple[Column, _Reasons]:
    column = F.col(RATING)
    missing = column.isNull()
    if isinstance(found, StringType) and decimal == ",":
        # A point is no number then: in 1.234 it may separate thousands.
        column = F.when(~column.contains("."), F.replace(column, F.lit(","), F.lit(".")))
    converted = column.try_cast("double")
    unparsable = converted.isNull()
    if isinstance(found, StringType):
        missing = missing | F.col(RATING).rlike(BLANK)
        # Java reads 1d and 0x1p3 as numbers. NaN and Infinity are judged as not finite.
        not_plain = column.rlike(r"[^0-9eE+.\s-]") & ~F.isnan(converted)
        unparsable = unparsable | (not_plain & (F.abs(converted) != float("inf")))
    elif not isinstance(found, NumericType):
        raise ConfigError(
            f"input.columns.rating: found a column of type {found.simpleString()}, expected a "
            "number or text; choose another column"
        )
    reasons: _Reasons = [
        (missing, "rating_missing"),
        (unparsable, "rating_unparsable"),
        (F.isnan(converted) | (F.abs(converted) == float("inf")), "rating_not_finite"),
    ]
    outside = F.abs(converted) > _LARGEST_RATING
    if rules.rating_min is not None:
        outside = outside | (converted < rules.rating_min)
    if rules.rating_max is not None:
        outside = outside | (converted > rules.rating_max)
    reasons.append((outside, "rating_out_of_range"))
    # -0.0 equals 0.0 but has other bits; adding zero makes them the same.
    return converted + F.lit(0.0), reasons


def _timestamp(
    found: DataType, layout: str, future_days: float | None, began: dt.datetime
) -> tuple[Column, _Reasons]:
    column = F.col(TIMESTAMP)
    missing = column.isNull()
    if isinstance(found, StringType):
        missing = missing | column.rlike(BLANK)
    converted = convert_timestamp(column, found, layout)
    reasons = [(missing, "timestamp_missing"), (converted.isNull(), "timestamp_unparsable")]
    if future_days is not None:
        reasons.append((later_than(converted, began, future_days), "timestamp_in_future"))
    return converted, reasons
