"""Raw rows to judged rows: converted, or rejected with a reason.

Every function takes and returns DataFrames. No result depends on the order of rows or the number
of partitions.
"""

import difflib

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import (
    DataType,
    DateType,
    DecimalType,
    NumericType,
    StringType,
    TimestampNTZType,
    TimestampType,
)

from recsys.columns import (
    ITEM,
    RATING,
    RAW_ITEM,
    RAW_LINE,
    RAW_USER,
    REASON,
    TIMESTAMP,
    USER,
    IdTypes,
)
from recsys.config.sections import Input, RowChecks
from recsys.errors import ConfigError
from recsys.ingest.ids import BLANK, convert_id, id_type

_EPOCH_UNITS = {"seconds": 1_000_000, "milliseconds": 1_000, "microseconds": 1}
# 0001-01-01 and 9999-12-31 in microseconds since 1970: what Spark, pandas' readers and SQL share.
_FIRST_MICROS, _LAST_MICROS = -62_135_596_800_000_000, 253_402_300_799_999_999
# A hundred million of them can still be added up, and be a float32 weight.
_LARGEST_RATING = 1e30


def check_timestamp_format(spark: SparkSession, layout: str) -> None:
    """Refuse a pattern that Spark does not understand, before anything is read.

    Raises:
        ConfigError: it is neither a unit, nor iso, nor a pattern.
    """
    known = [*_EPOCH_UNITS, "iso"]
    if layout in known:
        return
    try:
        spark.range(1).select(F.try_to_timestamp(F.lit("x"), F.lit(layout))).collect()
    except PySparkException as error:
        close = difflib.get_close_matches(layout, known, n=1, cutoff=0.6)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ConfigError(
            f"input.timestamp_format: found '{layout}', expected {', '.join(known)}, or a pattern "
            f"of Spark's such as yyyy-MM-dd HH:mm:ss{hint}"
        ) from error


def judge(raw: DataFrame, source: Input, rules: RowChecks) -> DataFrame:
    """Convert every row, and give those that cannot be used a reason.

    Plain casts fail the whole job in Spark's ANSI mode, so every conversion is a `try_` one.

    Args:
        raw: what `source.read_ratings` returns.
        source: names, id types and the timestamp format.
        rules: the range of the ratings.

    Returns:
        `user_id`, `item_id`, `rating` (double), `timestamp`; `reason` (null where the row is good);
        and, where it is not, the values as they were found: `user`, `item`, `raw_rating`,
        `raw_timestamp`, `line`.

    Raises:
        ConfigError: a column has a type that cannot be what the configuration says it is.
    """
    types = {field.name: field.dataType for field in raw.schema}
    ids = id_types(raw, source)
    user, user_reasons = _id(RAW_USER, types[RAW_USER], ids.user)
    item, item_reasons = _id(RAW_ITEM, types[RAW_ITEM], ids.item)
    reasons = [(F.col(RAW_LINE).isNotNull(), "malformed_line"), *user_reasons, *item_reasons]
    if RATING in types:
        rating, rating_reasons = _rating(types[RATING], rules)
        reasons += rating_reasons
    else:
        rating = F.lit(1.0)
    if TIMESTAMP in types:
        timestamp, time_reasons = _timestamp(types[TIMESTAMP], source.timestamp_format)
        reasons += time_reasons
    else:
        timestamp = F.lit(None).cast("timestamp")

    first_reason = F.coalesce(*[F.when(wrong, F.lit(name)) for wrong, name in reasons])

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
        found(RATING).alias("raw_rating"),
        found(TIMESTAMP).alias("raw_timestamp"),
        F.col(RAW_LINE),
    )


def rejects(judged: DataFrame) -> DataFrame:
    """Return the rows that cannot be used, as text, with their reasons (REJECTS_SCHEMA)."""
    return judged.where(F.col(REASON).isNotNull()).select(
        REASON,
        RAW_USER,
        RAW_ITEM,
        F.col("raw_rating").alias(RATING),
        F.col("raw_timestamp").alias(TIMESTAMP),
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


def _rating(found: DataType, rules: RowChecks) -> tuple[Column, _Reasons]:
    column = F.col(RATING)
    missing = column.isNull()
    converted = column.try_cast("double")
    unparsable = converted.isNull()
    if isinstance(found, StringType):
        missing = missing | column.rlike(BLANK)
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


def _timestamp(found: DataType, layout: str) -> tuple[Column, _Reasons]:
    column = F.col(TIMESTAMP)
    missing = column.isNull()
    if isinstance(found, TimestampType | TimestampNTZType | DateType):
        converted = column.cast("timestamp")
    elif layout in _EPOCH_UNITS and isinstance(found, NumericType | StringType):
        exact = column if isinstance(found, DecimalType) else F.trim(column.cast("string"))
        # Unlike a double, a decimal does not take Java's names such as NaN.
        micros = (exact.try_cast("decimal(25,6)") * _EPOCH_UNITS[layout]).try_cast("bigint")
        converted = F.timestamp_micros(F.when(micros.between(_FIRST_MICROS, _LAST_MICROS), micros))
    elif isinstance(found, StringType):
        text = F.trim(column)
        if layout == "iso":  # Spark would take a time without a date for today's
            converted = F.when(text.rlike(r"^\d{4}-"), F.try_to_timestamp(text))
        else:
            converted = F.try_to_timestamp(text, F.lit(layout))
    else:
        raise ConfigError(
            f"input.columns.timestamp: found a column of type {found.simpleString()}, which "
            f"input.timestamp_format '{layout}' cannot read; expected a timestamp, a date, text, "
            f"or a number with {', '.join(_EPOCH_UNITS)}"
        )
    if isinstance(found, StringType):
        missing = missing | column.rlike(BLANK)
    # Readers cannot hold years beyond 1 to 9999, although Spark can.
    in_range = F.unix_micros(converted).between(_FIRST_MICROS, _LAST_MICROS)
    converted = F.when(in_range, converted)
    return converted, [
        (missing, "timestamp_missing"),
        (converted.isNull(), "timestamp_unparsable"),
    ]
