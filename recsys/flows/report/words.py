"""How a page writes numbers, times and names."""

import datetime as dt
from typing import Any

from recsys.ingest.manifest import InputState
from recsys.runtime.sizes import size
from recsys.score.causes import IN_WORDS

NOTHING = "-"
_LONGEST = 300
_SHOWN_PLACES = 3


def count(value: int | None) -> str:
    """Return a whole number with its thousands apart."""
    return NOTHING if value is None else f"{value:,}"


def places(value: float | None, signed: bool = False) -> str:
    """Return four places, and fewer of numbers of 10 and more."""
    if value is None:
        return NOTHING
    digits = 4 if abs(value) < 10 else 2
    return f"{value:+,.{digits}f}" if signed else f"{value:,.{digits}f}"


def short(value: float | int | str | None) -> str:
    """Return a number with four digits that count; text stays."""
    if value is None:
        return NOTHING
    if isinstance(value, str):
        return value
    whole = isinstance(value, int) or abs(value) >= 1000
    return f"{value:,.0f}" if whole else f"{value:.4g}"


def share(value: float | None) -> str:
    """Return a share as a percentage."""
    if value is None:
        return NOTHING
    digits = 1 if 0.0005 <= abs(value) < 0.9995 or value in (0, 1) else 2
    text = f"{value * 100:.{0 if value in (0, 1) else digits}f}"
    return f"{text} %"


def seconds(value: float) -> str:
    """Return a duration."""
    if value < 120:
        return f"{value:.1f} s"
    if value < 7200:
        return f"{value / 60:.0f} min"
    return f"{value / 3600:.1f} h"


def moment(value: str) -> str:
    """Return an ISO 8601 time to the minute."""
    return f"{dt.datetime.fromisoformat(value):%Y-%m-%d %H:%M} UTC"


def words(value: str) -> str:
    """Return a name of a column, a status or a job as words."""
    return value.replace("_", " ")


def text(value: Any) -> str:
    """Return a raw value as it was found, cut where it is long."""
    found = NOTHING if value is None else str(value)
    return found if len(found) <= _LONGEST else f"{found[:_LONGEST]}…"


def cause(name: str) -> str:
    """Return a cause of a change in words."""
    return IN_WORDS[name]


def source(state: InputState) -> str:
    """Say what interactions were read from."""
    names = [state.name] if isinstance(state.name, str) else list(state.name)
    shown = ", ".join(names[:_SHOWN_PLACES])
    more = f" and {len(names) - _SHOWN_PLACES} more" if len(names) > _SHOWN_PLACES else ""
    if state.files == 0:
        return f"{shown}{more} ({state.format})"
    many = "1 file" if state.files == 1 else f"{state.files:,} files"
    return f"{shown}{more} ({state.format}, {many}, {size(state.bytes)})"


FILTERS = {
    "count": count,
    "places": places,
    "short": short,
    "share": share,
    "seconds": seconds,
    "bytes": size,
    "moment": moment,
    "words": words,
    "text": text,
    "source": source,
    "cause": cause,
}
