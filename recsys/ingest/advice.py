"""What helps with rejected rows: said with an example, in the log and in errors."""

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from recsys.columns import RAW_ITEM, RAW_LINE, RAW_RATING, RAW_TIMESTAMP, RAW_USER, IdTypes
from recsys.config.sections import Input
from recsys.ingest.timestamps import fitting_format

_LONGEST = 60
_BEYOND = {"int": (2**31, "32 bits", "long"), "bigint": (2**63, "64 bits", "string")}
_THOUSANDS = re.compile(r"\s*[+-]?\d{1,3}[.,]\d{3}\s*")
# Which value of a row a reason is about, by its first word.
_ABOUT = {
    "user": RAW_USER,
    "item": RAW_ITEM,
    "rating": RAW_RATING,
    "timestamp": RAW_TIMESTAMP,
}


@dataclass(frozen=True)
class Rejected:
    """Rows that were rejected for one reason.

    Attributes:
        reason: why.
        rows: how many.
        example: one of the values that were rejected, the first in order; None for none.
        advice: what would help; None where that is not known.
    """

    reason: str
    rows: int
    example: str | None
    advice: str | None

    def __str__(self) -> str:
        """Say it in one line."""
        text = f"{self.reason}: {self.rows:,}"
        if self.example:
            shown = self.example if len(self.example) <= _LONGEST else self.example[:_LONGEST] + "…"
            text += f", such as {shown!r}"
        return f"{text} ({self.advice})" if self.advice else text


def rejected(
    rows: Mapping[str, tuple[int, Mapping[str, str | None]]],
    source: Input,
    types: IdTypes,
    now: dt.datetime,
) -> list[Rejected]:
    """Describe what was rejected, the most frequent reason first.

    Args:
        rows: for each reason the number of rows, and the first of their values by column.
        source: how the input was read.
        types: of the ids.
        now: in UTC.
    """
    found = []
    for reason, (n, values) in sorted(rows.items(), key=lambda entry: (-entry[1][0], entry[0])):
        example = values.get(_ABOUT.get(reason.split("_")[0], RAW_LINE))
        advice = None if example is None else _advice(reason, example, source, types, now)
        found.append(Rejected(reason, n, example, advice))
    return found


def in_words(rejects: Iterable[Rejected]) -> str:
    """Put all reasons in one line."""
    return "; ".join(map(str, rejects))


def _advice(
    reason: str, example: str, source: Input, types: IdTypes, now: dt.datetime
) -> str | None:
    if reason in ("user_invalid", "item_invalid"):
        kind = reason.split("_")[0]
        return _id_advice(example, types.user if kind == "user" else types.item, kind)
    if reason == "rating_unparsable" and _THOUSANDS.fullmatch(example):
        return "if it separates thousands, remove it; if decimals, set input.decimal to it"
    if reason == "rating_unparsable" and re.fullmatch(r"\s*[+-]?\d*,\d+\s*", example):
        return "a decimal comma: set input.decimal to ','"
    if reason == "rating_unparsable" and re.fullmatch(r"\s*[+-]?\d*\.\d+\s*", example):
        return "a decimal point: set input.decimal to '.'"
    if reason in ("timestamp_unparsable", "timestamp_in_future"):
        fits = fitting_format(example, now)
        if fits and fits != source.timestamp_format:
            return f"{fits} would fit: set input.timestamp_format to it"
        if re.match(r"\s*\d{4}-\d\d-\d\d", example) and source.timestamp_format != "iso":
            return "iso would fit: set input.timestamp_format to it"
    if reason == "timestamp_in_future":
        return "later than row_checks.future_days allows"
    return None


def _id_advice(example: str, type_: str, kind: str) -> str | None:
    key = f"input.id_types.{kind}"
    if "\ufffd" in example:
        return "no valid text: set input.options.encoding to the file's encoding"
    number = re.fullmatch(r"\s*([+-]?\d+)(?:\.0+)?\s*", example)
    if type_ not in _BEYOND:
        return None
    limit, bits, wider = _BEYOND[type_]
    if number is None:
        return f"not a whole number: set {key} to string"
    if not -limit <= int(number[1][:100]) < limit:
        return f"more than {bits}: set {key} to {wider}"
    return None
