"""How times are written: a unit since 1970, ISO 8601, or a pattern of Spark's."""

import datetime as dt
from itertools import product

import numpy as np
import pandas as pd

_ISO = r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d)?)?"
_UNITS = {"seconds": 1, "milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}
# Patterns of Spark's, and of Python's. A single letter of Spark's takes one digit or two.
_DAYS = {
    "yyyy/M/d": "%Y/%m/%d",
    "yyyy.M.d": "%Y.%m.%d",
    "d.M.yyyy": "%d.%m.%Y",
    "M/d/yyyy": "%m/%d/%Y",
    "d/M/yyyy": "%d/%m/%Y",
    "M/d/yy": "%m/%d/%y",
    "d-M-yyyy": "%d-%m-%Y",
    "M-d-yyyy": "%m-%d-%Y",
    "M d, yyyy": "%m %d, %Y",
    "d MMM yyyy": "%d %b %Y",
    "MMM d, yyyy": "%b %d, %Y",
    "yyyy-M-d": "%Y-%m-%d",
}
_HOURS = {"": "", " H:mm": " %H:%M", " H:mm:ss": " %H:%M:%S"}
_DIGITS = {8: ("yyyyMMdd", "%Y%m%d"), 14: ("yyyyMMddHHmmss", "%Y%m%d%H%M%S")}
# The same days with day and month the other way round.
_EITHER = {"M/d/yyyy": "d/M/yyyy", "d-M-yyyy": "M-d-yyyy"}
_SOME = 300


def time_format(text: pd.Series, numbers: np.ndarray) -> tuple[str | None, str]:
    """Return what `timestamp_format` should be for some values, and why that may be wrong.

    Args:
        text: the values, without missing ones.
        numbers: the same as numbers; empty where they are none.

    Returns:
        None where they are no times.
    """
    if text.empty:
        return None, ""
    if len(numbers):
        return _of_numbers(text, numbers), ""
    some = text.iloc[np.linspace(0, len(text) - 1, min(_SOME, len(text))).astype(int)]
    if some.str.fullmatch(_ISO).mean() >= 0.98:
        return "iso", ""
    if not some.str.contains(r"\d.*\d").all():
        return None, ""
    for (days, python), (hours, of_day) in product(_DAYS.items(), _HOURS.items()):
        if _all_parse(some, python + of_day):
            other = _EITHER.get(days)
            if other is None or not _all_parse(some, _DAYS[other] + of_day):
                return days + hours, ""
            return days + hours, f"days and months may be the other way round ({other}{hours})"
    return None, ""


def _all_parse(some: pd.Series, pattern: str) -> bool:
    failed = 0
    for value in some:
        try:
            dt.datetime.strptime(value, pattern)
        except ValueError:
            failed += 1
            if failed > 0.02 * len(some):
                return False
    return True


def _of_numbers(text: pd.Series, numbers: np.ndarray) -> str | None:
    first = dt.datetime(1990, 1, 1, tzinfo=dt.UTC).timestamp()
    last = dt.datetime.now(dt.UTC).timestamp() + 366 * 86_400
    for unit, scale in _UNITS.items():
        if np.mean((numbers >= first * scale) & (numbers <= last * scale)) >= 0.98:
            return unit
    length = text.str.len()
    if length.nunique() == 1 and int(length.iloc[0]) in _DIGITS:
        pattern, python = _DIGITS[int(length.iloc[0])]
        if _all_parse(text.iloc[:_SOME], python) and numbers.min() > 19 * 10 ** (
            length.iloc[0] - 2
        ):
            return pattern
    return None
