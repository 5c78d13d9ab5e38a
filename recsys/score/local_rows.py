"""The rows of a file, read without Spark; a CSV file means what it means to Spark."""

import csv
import difflib
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds

from recsys.errors import ConfigError, InputError

CSV_OPTIONS = ("header", "sep", "delimiter", "quote", "escape", "encoding")
# Stands for a separator of several characters, which Python's csv module does not take.
_ONE = "\x1f"

Row = Sequence[str | None]


def read_rows(
    path: Path, kind: str, options: Mapping[str, object], wanted: Mapping[str, str], key: str
) -> Iterator[Row]:
    """Yield some columns of each row as text, None where there is no value.

    Args:
        path: a file, or a directory of such files.
        kind: `csv` or `parquet`.
        options: Spark's, of those in CSV_OPTIONS.
        wanted: names of columns by what they are for, which a message says.
        key: the place in the configuration, for messages.

    Raises:
        ConfigError: an option is not known here.
        InputError: the file cannot be read, or lacks a column.
    """
    try:
        yield from (_csv if kind == "csv" else _parquet)(path, options, wanted, key)
    except (OSError, csv.Error, pa.ArrowException) as error:
        raise InputError(f"{key}: cannot read {path} as {kind}: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _parquet(
    path: Path, options: Mapping[str, object], wanted: Mapping[str, str], key: str
) -> Iterator[Row]:
    _refuse(options, (), "parquet", key)
    data = ds.dataset(path, format="parquet")
    places = _find(data.schema.names, wanted, path, key)
    table = data.to_table(columns=[data.schema.names[place] for place in dict.fromkeys(places)])
    columns = [
        table.column(data.schema.names[place]).cast(pa.string()).to_pylist() for place in places
    ]
    return zip(*columns, strict=True)


def _csv(
    path: Path, options: Mapping[str, object], wanted: Mapping[str, str], key: str
) -> Iterator[Row]:
    _refuse(options, CSV_OPTIONS, "csv", key)
    given = {key.lower(): str(value) for key, value in options.items()}
    header = given.get("header", "false").lower() == "true"
    # A directory, as Spark writes tables, has several files, each with its header.
    files = [path] if path.is_file() else _parts(path)
    for file in files:
        rows = _lines(file, given, key)
        first = next(rows, None)
        if first is None:
            continue
        columns = [(one if header else "") or f"_c{n}" for n, one in enumerate(first)]
        places = _find(columns, wanted, path, key)
        for row in rows if header else _with_first(first, rows):
            yield [row[place] if place < len(row) else None for place in places]


def _with_first(first: list[str], rows: Iterator[list[str]]) -> Iterator[list[str]]:
    yield first
    yield from rows


def _parts(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.iterdir() if path.is_file())
    return [path for path in found if not path.name.startswith((".", "_"))]


def _lines(file: Path, options: Mapping[str, str], key: str) -> Iterator[list[str]]:
    """Yield the values of each line; like Spark, a line is a row, whatever its quotes say."""
    separator = options.get("sep", options.get("delimiter", ",")).replace("\\t", "\t")
    quote = options.get("quote", '"')
    escape = options.get("escape", quote or "\\")
    encoding = options.get("encoding", "utf-8").lower()
    for name, value, most in (("sep", separator, 99), ("quote", quote, 1), ("escape", escape, 1)):
        if len(value) > most or (name == "sep" and not value):
            raise ConfigError(
                f"{key}.options.{name}: found {value!r}, expected "
                + ("some text" if name == "sep" else "a single character, or none")
            )
    with pa.input_stream(str(file), compression="detect") as stream:
        content = stream.read()
    try:
        # With a byte order mark, which is none of the first column's name.
        text = content.decode("utf-8-sig" if encoding in ("utf-8", "utf8") else encoding, "replace")
    except LookupError as error:
        raise ConfigError(
            f"{key}.options.encoding: found {encoding!r}, expected the name of an encoding "
            "such as utf-8 or iso-8859-1"
        ) from error
    # Python knows a quote within quotes by its doubling alone.
    escaped = re.compile(re.escape(escape) + f"([{re.escape(escape + quote)}])")
    doubled = {escape: escape, quote: quote * 2}
    several = len(separator) > 1
    for line in io.StringIO(text, newline=None):
        if not line.strip():
            continue
        line = line.rstrip("\n")
        if escape and quote and escape != quote:
            line = escaped.sub(lambda found: doubled[found[1]], line)
        if several:
            line = line.replace(separator, _ONE)
        row = next(
            csv.reader(
                [line],
                delimiter=_ONE if several else separator,
                quotechar=quote or None,
                quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
            )
        )
        yield [value.replace(_ONE, separator) for value in row] if several else row


def _refuse(options: Iterable[str], known: Sequence[str], kind: str, key: str) -> None:
    for name in options:
        if name.lower() not in known:
            what = "titles are" if key.endswith("titles") else "this is"
            expected = f"one of {', '.join(known)}" if known else f"no options for {kind}"
            raise ConfigError(
                f"{key}.options.{name}: {what} read without Spark, which takes "
                f"{expected}; remove it"
            )


def _find(columns: Sequence[str], wanted: Mapping[str, str], path: Path, key: str) -> list[int]:
    """Return the places of columns by their names; an exact match goes first, as with Spark."""
    lower = [name.lower() for name in columns]
    places = []
    for role, name in wanted.items():
        if name in columns:
            places.append(list(columns).index(name))
        elif name.lower() in lower:
            places.append(lower.index(name.lower()))
        else:
            close = difflib.get_close_matches(name, columns, n=1, cutoff=0.6)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise InputError(
                f"{key}.{role.split()[0]}: {path} has no column '{name}'{hint}; it has "
                f"{', '.join(columns)}"
            )
    return places
