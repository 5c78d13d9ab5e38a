"""What the values of a column look like."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recsys.guess.times import time_format

_MOST_ROWS = 20_000
_NEARLY = 0.98
_WHOLE = r"[+-]?\d{1,19}(?:\.0+)?"
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_COMMA = r"[+-]?\d+(?:,\d+)?"

Kind = Literal["empty", "whole", "number", "time", "text", "list", "other"]


@dataclass(frozen=True)
class Column:
    """A column, by some of its values.

    Attributes:
        name: the column's.
        kind: `whole` and `number` for numbers, also in text; `time`; `text`; `list` for arrays.
        values: some values as text, without missing ones and without blanks around them.
        missing: the share of rows without a value.
        distinct: how many of the values differ.
        numbers: the values as numbers, without those that are none; empty for other kinds.
        typed: whether the file says the type itself.
        format: for `time` and for numbers that may be one: what `timestamp_format` should be.
        unsure: why the format may be wrong, or empty.
        comma: whether a comma separates decimals.
        type: the column's own, of Arrow.
    """

    name: str
    kind: Kind
    values: pd.Series
    missing: float
    distinct: int
    numbers: np.ndarray = field(repr=False)
    typed: bool
    format: str | None
    unsure: str
    comma: bool
    type: pa.DataType

    @property
    def unique(self) -> float:
        """The share of values that differ from one another."""
        return self.distinct / max(len(self.values), 1)

    @property
    def numeric(self) -> bool:
        """Whether it has numbers."""
        return self.kind in ("whole", "number")


def look(table: pa.Table) -> dict[str, Column]:
    """Return what each column of a table looks like, fields of structs as `user.id`."""
    rows = table.num_rows
    if rows > _MOST_ROWS:
        table = table.take(np.linspace(0, rows - 1, _MOST_ROWS).astype(np.int64))
    return {name: _column(name, values) for name, values in _flat(table)}


def _flat(table: pa.Table, above: str = "") -> Iterator[tuple[str, pa.ChunkedArray]]:
    for name, values in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_struct(values.type):
            fields = [f.name for f in values.type]
            inner = pa.table([pc.struct_field(values, f) for f in fields], names=fields)
            yield from _flat(inner, f"{above}{name}.")
        else:
            yield f"{above}{name}", values


def _column(name: str, values: pa.ChunkedArray) -> Column:
    kind = values.type
    if pa.types.is_dictionary(kind):
        values = values.cast(kind.value_type)
        kind = kind.value_type
    typed = not (pa.types.is_string(kind) or pa.types.is_large_string(kind))
    if pa.types.is_nested(kind) or pa.types.is_binary(kind):
        listed = pa.types.is_list(kind) or pa.types.is_large_list(kind)
        return _made(name, "list" if listed else "other", _none(), values, kind, typed=True)
    text = pd.Series(values.cast(pa.string()).to_pylist(), dtype=object).dropna().str.strip()
    text = text[text != ""]
    if pa.types.is_temporal(kind):
        return _made(name, "time", text, values, kind, typed=True)
    if text.empty:
        return _made(name, "empty", text, values, kind, typed=typed)
    return _of_text(name, text, values, typed=typed)


def _of_text(name: str, text: pd.Series, values: pa.ChunkedArray, *, typed: bool) -> Column:
    comma = False
    kind: Kind = "text"
    for one, pattern in (("whole", _WHOLE), ("number", _NUMBER), ("number", _COMMA)):
        if text.str.fullmatch(pattern).mean() >= _NEARLY:
            kind, comma = one, pattern == _COMMA  # type: ignore[assignment]
            break
    numbers = np.empty(0)
    if kind != "text":
        plain = text.str.replace(",", ".", regex=False) if comma else text
        numbers = pd.to_numeric(plain, errors="coerce").dropna().to_numpy(dtype=float)
    found, unsure = time_format(text, numbers)
    if kind == "text" and found is not None:
        kind = "time"
    return _made(
        name, kind, text, values, values.type, typed=typed, numbers=numbers, format=found,
        unsure=unsure, comma=comma,
    )  # fmt: skip


def _none() -> pd.Series:
    return pd.Series([], dtype=object)


def _made(
    name: str,
    kind: Kind,
    text: pd.Series,
    values: pa.ChunkedArray,
    found: pa.DataType,
    *,
    typed: bool,
    numbers: np.ndarray | None = None,
    format: str | None = None,
    unsure: str = "",
    comma: bool = False,
) -> Column:
    missing = 1 - len(text) / max(len(values), 1) if kind not in ("list", "other") else 0.0
    none = np.empty(0) if numbers is None else numbers
    return Column(
        name, kind, text, missing, text.nunique(), none, typed, format, unsure, comma, found
    )


def pieces(column: Column) -> str | None:
    """Return what separates several values in the text of a column, None where there is one."""
    if column.kind not in ("text", "whole", "number") or (column.typed and column.numeric):
        return None
    text = column.values.iloc[:2000]
    for separator in ("|", ";", ",", " "):
        parts = text.str.split(re.escape(separator), regex=True)
        several = (parts.str.len() > 1).mean()
        flat = parts.explode().str.strip()
        flat = flat[flat != ""]
        short = not flat.empty and flat.str.len().median() <= 30
        if separator == " " and not flat.str.fullmatch(r"[A-Za-z_-]{0,12}\d+").all():
            continue
        if several >= 0.2 and short and flat.nunique() < 0.7 * len(flat):
            return separator
    return None
