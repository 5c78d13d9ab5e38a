"""Columns by their names, as sources have them."""

import difflib
import re
from collections.abc import Iterator

from pyspark.sql import Column, DataFrame
from pyspark.sql.types import DataType, StructType

from recsys.config.sections import Source
from recsys.errors import InputError
from recsys.ingest.csv_text import column

CORRUPT = "_corrupt_record"  # the text of a malformed line of CSV or JSON


def has_malformed(source: Source) -> bool:
    """Whether Spark gives malformed lines of the source, in the column `CORRUPT`.

    Other formats may have a column of that name, which is one like any other.
    """
    return source.format in ("csv", "json")


def no_columns(key: str, source: Source) -> str:
    """Return what is wrong with a source that has no columns.

    Args:
        key: its place in the configuration.
        source: what it is.
    """
    hint = ""
    if source.format == "json" and source.option("multiLine") != "true":
        hint = f"; if its documents go over several lines, set {key}.options.multiLine to true"
    return f"{key} has no columns; it is empty or wholly malformed{hint}"


def find_column(frame: DataFrame, name: str, key: str, source: Source) -> Column:
    """Return a column by its name, whatever characters that has, or a field of one (`user.id`).

    A column whose name is the very text goes first, and an exact match before one that differs in
    upper and lower case. Backticks may quote a part of a name.

    Raises:
        InputError: there is none; the message has `key`, the nearest and all there are.
    """
    names = {field.name: field.dataType for field in frame.schema}
    if has_malformed(source):
        names.pop(CORRUPT, None)
    found = _match(name, names)
    if found is not None:
        return column(found)
    parts = [quoted or plain for quoted, plain in re.findall(r"`([^`]+)`|([^.`]+)", name)]
    path, fields = [], names
    for part in parts:
        found = _match(part, fields)
        if found is None:
            raise InputError(_missing_column(key, name, names, source))
        path.append(found)
        kind = fields[found]
        fields = {f.name: f.dataType for f in kind} if isinstance(kind, StructType) else {}
    if not path:
        raise InputError(_missing_column(key, name, names, source))
    chosen = column(path[0])
    for part in path[1:]:
        chosen = chosen.getField(part)
    return chosen


def _match(name: str, fields: dict[str, DataType]) -> str | None:
    lower = {field.lower(): field for field in fields}
    return name if name in fields else lower.get(name.lower())


def _missing_column(key: str, name: str, present: dict[str, DataType], source: Source) -> str:
    where = key.rpartition(".columns.")[0] or key.rpartition(".")[0]
    if not present:
        return f"{key}: {no_columns(where, source)}"
    known = list(_all_names(present))
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f"; did you mean {close[0]}?" if close else ""
    if source.format == "csv" and source.option("header") is None:
        hint += " (the option header is not set, so the columns have no names of their own)"
    return f"{key}: {where} has no column '{name}'{hint}; it has {', '.join(known)}"


def _all_names(fields: dict[str, DataType], above: str = "") -> Iterator[str]:
    for name, kind in fields.items():
        yield above + name
        if isinstance(kind, StructType):
            yield from _all_names({f.name: f.dataType for f in kind}, f"{above}{name}.")
