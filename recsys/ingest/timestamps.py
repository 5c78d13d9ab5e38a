"""Timestamps: how they are read, and whether their range looks as if they were read rightly."""

import datetime as dt
import difflib
from collections.abc import Iterator

from pyspark.errors import PySparkException
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import (
    DataType,
    DateType,
    DecimalType,
    IntegralType,
    NumericType,
    StringType,
    TimestampNTZType,
    TimestampType,
)

from recsys.errors import ConfigError

_MICROS = 1_000_000
# How many of each unit make a second.
_EPOCH_UNITS = {
    "seconds": 1,
    "milliseconds": 1_000,
    "microseconds": 1_000_000,
    "nanoseconds": 1_000_000_000,
}
# 0001-01-01 and 9999-12-31 in microseconds since 1970: what Spark, pandas' readers and SQL share.
_FIRST_MICROS, _LAST_MICROS = -62_135_596_800_000_000, 253_402_300_799_999_999
_DAY_MICROS = 86_400 * _MICROS
# Days and times that are written as one number, by their number of digits.
_DIGITS = {8: "yyyyMMdd", 12: "yyyyMMddHHmm", 14: "yyyyMMddHHmmss"}
_EPOCH = dt.datetime(1970, 1, 1)  # in UTC
_EARLIEST_LIKELY = dt.datetime(1990, 1, 1)
_FEW_ROWS = 100  # may well be of the same minute


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


def convert_timestamp(
    column: Column, found: DataType, layout: str, first: str
) -> tuple[Column, Column]:
    """Return a column as a timestamp, null where it cannot be one of the years 1 to 9999.

    In two steps, so that Spark computes the first, to which the second refers several times, once.

    Args:
        column: a timestamp, a date, text or a number.
        found: its type.
        layout: `input.timestamp_format`, for text and numbers.
        first: the name that the first step's column gets.

    Returns:
        The first step's column, and the timestamp, which is made from it and the given column.

    Raises:
        ConfigError: the column has another type.
    """
    epoch = isinstance(found, NumericType | StringType) and layout in _EPOCH_UNITS
    converted = _convert(column, found, layout)
    if not epoch:
        return converted, _readable(F.col(first))
    factor, rest = divmod(_MICROS, _EPOCH_UNITS[layout])
    if rest or isinstance(found, DecimalType):
        return converted, _readable(F.col(first))
    # Nearly all are whole numbers, for which long integers do: decimals take ten times as long.
    whole = F.col(first)
    fits = whole.between(-(-_FIRST_MICROS // factor), _LAST_MICROS // factor)
    given = column if isinstance(found, IntegralType) else column.cast("string")
    return given.try_cast("bigint"), F.when(fits, F.timestamp_micros(whole * factor)).otherwise(
        _readable(converted)
    )


def _readable(converted: Column) -> Column:
    """Return timestamps that readers can hold: of the years 1 to 9999, although Spark has more."""
    return F.when(F.unix_micros(converted).between(_FIRST_MICROS, _LAST_MICROS), converted)


def _convert(column: Column, found: DataType, layout: str) -> Column:
    """Convert a column, whatever its year; see `convert_timestamp`."""
    if isinstance(found, TimestampType | TimestampNTZType | DateType):
        return column.cast("timestamp")
    if not isinstance(found, NumericType | StringType):
        raise ConfigError(
            f"input.columns.timestamp: found a column of type {found.simpleString()}, expected a "
            "timestamp, a date, text, or a number"
        )
    if layout in _EPOCH_UNITS:
        exact = column if isinstance(found, DecimalType) else F.trim(column.cast("string"))
        # Unlike a double, a decimal does not take Java's names such as NaN.
        number = exact.try_cast("decimal(30,6)")
        micros = F.floor(number * _MICROS / _EPOCH_UNITS[layout]).try_cast("bigint")
        return F.timestamp_micros(F.when(micros.between(_FIRST_MICROS, _LAST_MICROS), micros))
    text = F.trim(column.cast("string"))
    if isinstance(found, NumericType):
        whole = column.try_cast("decimal(38,0)")
        text = F.when(column == whole, whole.cast("string"))
    if layout == "iso":  # Spark would take a time without a date for today's
        return F.when(text.rlike(r"^\d{4}-"), F.try_to_timestamp(text))
    return F.try_to_timestamp(text, F.lit(layout))


def later_than(column: Column, moment: dt.datetime, days: float) -> Column:
    """Return whether a timestamp is later than a moment and some days.

    Args:
        column: timestamps.
        moment: in UTC.
        days: how many are allowed.
    """
    last = min(_micros(moment) + days * _DAY_MICROS, _LAST_MICROS)
    return F.unix_micros(column) > int(last)


def as_text(micros: int) -> str:
    """Write microseconds since 1970 as a day and a time in UTC, which may be in the year 9999."""
    return (_EPOCH + dt.timedelta(microseconds=micros)).isoformat(sep=" ") + " UTC"


def fitting_format(value: str | None, now: dt.datetime) -> str | None:
    """Return the `input.timestamp_format` that makes a likely time of a number, None without one.

    Args:
        value: a number, as text.
        now: in UTC; likely is a time from 1990 to a day after it.
    """
    try:
        number = float(value or "")
    except ValueError:
        return None
    first, last = (_EARLIEST_LIKELY - _EPOCH).total_seconds(), _micros(now) / _MICROS + 86_400
    for unit, scale in _EPOCH_UNITS.items():
        if first <= number / scale <= last:
            return unit
    digits = f"{number:.0f}"
    year_first = digits[:4].isdigit() and 1900 <= int(digits[:4]) <= now.year + 1
    return _DIGITS.get(len(digits)) if year_first and number == int(number) else None


def warnings(
    rows: int, first: int, last: int, layout: str, now: dt.datetime, *, numbers: bool
) -> Iterator[str]:
    """Say what looks wrong with the range of the timestamps.

    Args:
        rows: how many have one.
        first: of them, in microseconds since 1970.
        last: of them, likewise.
        layout: `input.timestamp_format`.
        now: in UTC.
        numbers: whether they were read from numbers, or text of numbers.
    """
    old = first < (_EARLIEST_LIKELY - _EPOCH).total_seconds() * _MICROS
    future = last > _micros(now) + _DAY_MICROS
    same = rows >= _FEW_ROWS and last - first < 60 * _MICROS
    if not (old or future or same):
        return
    what = [
        *(["before 1990"] if old else []),
        *(["in the future"] if future else []),
        *(["all within a minute"] if same else []),
    ]
    wrong = first if old else last
    better = None
    if numbers and layout in _EPOCH_UNITS:
        better = fitting_format(str(wrong * _EPOCH_UNITS[layout] / _MICROS), now)
    hint = f": {better} would fit" if better not in (None, layout) else ""
    yield (
        f"the timestamps are from {as_text(first)} to {as_text(last)} ({', '.join(what)}); if that "
        f"is wrong, change input.timestamp_format ({layout}){hint}"
    )


def _micros(moment: dt.datetime) -> int:
    since = moment.astimezone(dt.UTC).replace(tzinfo=None) - _EPOCH
    return since // dt.timedelta(microseconds=1)
