"""How a file of text is written: its encoding, separator, quotes and header."""

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from recsys.errors import InputError
from recsys.guess.names import is_known

# The first of these that nearly all lines have equally often separates the columns.
_SEPARATORS = ("\t", ";", ",", "::", "|", "\x01", "^", " ")
_ENOUGH, _SURE = 0.9, 0.98
_LINES = 500  # at the beginning, in the middle and at the end
# Stands for a separator of several characters, which neither pyarrow nor Python's csv module takes.
_ONE = "\x1f"
# What stands for a missing value in text, and how many rows are looked at for it.
_MARKS = ("NA", "NULL", "null", "NaN", "nan", "None", "\\N", "N/A")
_FOR_MARKS = 20_000
_NUMBER = re.compile(r"[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?")
_BEGINS_AS_TIME = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}")


@dataclass(frozen=True)
class Layout:
    """How text is written.

    Attributes:
        encoding: Python's name of it.
        separator: what separates columns; None where lines have different numbers of values.
        quote: the character that quotes values; empty where there is none.
        escape: what stands before a quote inside of quotes: the quote itself, or a backslash.
        header: whether the first line has the names of the columns.
        multi_line: whether quoted text goes over several lines.
        unsure: what was guessed and may be wrong.
    """

    encoding: str = "utf-8"
    separator: str | None = ","
    quote: str = '"'
    escape: str = '"'
    header: bool = False
    multi_line: bool = False
    unsure: list[str] = field(default_factory=list)

    @property
    def options(self) -> dict[str, str | bool]:
        """Return the options of Spark's reader for it, without those that are its defaults."""
        found: dict[str, str | bool] = {}
        if self.header:
            found["header"] = True
        if self.separator not in (",", None):
            found["sep"] = self.separator or ""
        if not self.quote:
            found["quote"] = ""
        elif self.escape != self.quote:
            found["escape"] = self.escape
        if self.encoding.startswith("utf-16"):
            found["encoding"] = "UTF-16"
        elif self.encoding != "utf-8":
            found["encoding"] = "windows-1252"
        if self.multi_line or self.encoding.startswith("utf-16"):
            found["multiLine"] = True
        return found


def decode(content: bytes, name: str) -> tuple[str, str]:
    """Return bytes as text, and Python's name of their encoding.

    Raises:
        InputError: they are no text.
    """
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content[: len(content) // 2 * 2].decode("utf-16", "replace"), "utf-16"
    if b"\x00" in content[:4096]:
        raise InputError(
            f"{name}: this is no text, and neither Parquet nor ORC; write the table to CSV, JSON "
            "lines or Parquet"
        )
    try:
        return content.decode("utf-8-sig"), "utf-8"
    except UnicodeDecodeError as error:
        # A sample may end in the middle of a letter.
        if error.start > len(content) - 4:
            return content[: error.start].decode("utf-8-sig"), "utf-8"
    return content.decode("cp1252", "replace"), "cp1252"


def sniff(text: str, encoding: str) -> Layout:
    """Guess how text is written, from its lines.

    Args:
        text: some lines.
        encoding: Python's name of the encoding that it was decoded from.
    """
    lines = some_lines(text)
    unsure = []
    if encoding == "cp1252":
        unsure.append("the encoding: it is not UTF-8, and was taken for windows-1252")
    quoted = any('"' in line for line in lines)
    tried: list[tuple[float, Layout, list[list[str]]]] = []
    for quote in ('"', "") if quoted else ('"',):
        for separator in _SEPARATORS:
            escape = _escape(lines, quote, separator)
            rows = split(lines, separator, quote, escape)
            several = any("\n" in value for row in rows for value in row)
            made = Layout(encoding, separator, quote, escape, multi_line=several, unsure=unsure)
            fit = 1.0 if several or not (quoted and quote) else _well_quoted(lines, made)
            tried.append((_alike(rows) * fit, made, rows))
    best = max(share for share, _, _ in tried)
    least = _SURE if best >= _SURE else best
    if best < _ENOUGH:
        return Layout(encoding, None, unsure=unsure)
    good = [(made, rows) for share, made, rows in tried if share >= least]
    # The first line may be a header without the blanks and signs that text below has.
    found, rows = next((one for one in good if _first_fits(one[1])), good[0])
    return _with_header(found, rows)


def _first_fits(rows: list[list[str]]) -> bool:
    """Whether the first row has as many values as most."""
    return len(rows[0]) == Counter(map(len, rows)).most_common(1)[0][0]


def _well_quoted(lines: list[str], layout: Layout) -> float:
    """Return which share of the lines with quotes has them around whole values alone."""
    separator = re.escape(layout.separator or ",")
    value = f'(?:"(?:[^"]|"")*+"|(?:(?!{separator})[^"])*+)'
    pattern = re.compile(f"{value}(?:{separator}{value})*+")
    some = [line for line in lines if '"' in line][:_LINES]
    if layout.escape != layout.quote:
        some = [re.sub(r"\\.", "", line) for line in some]
    return sum(pattern.fullmatch(line) is not None for line in some) / max(len(some), 1)


def _with_header(layout: Layout, rows: list[list[str]]) -> Layout:
    made = {**vars(layout), "header": has_header(rows)}
    return Layout(**made)


def some_lines(text: str) -> list[str]:
    """Return lines from the beginning, the middle and the end, without empty ones."""
    n = len(text)
    if n <= 3 * 2**16:
        lines = text.splitlines()
        picked = lines[:_LINES] + lines[_LINES:][-_LINES:]
    else:
        picked = text[: 2**16].splitlines()[:-1][:_LINES]
        for at in (n // 2, n - 2**16):
            picked += text[at : at + 2**16].splitlines()[1:-1][:_LINES]
    return [line for line in picked if line.strip()]


def split(lines: Sequence[str], separator: str, quote: str, escape: str) -> list[list[str]]:
    """Return the values of lines."""
    several = len(separator) > 1
    text = "\n".join(lines)
    given = io.StringIO(text.replace(separator, _ONE) if several else text)
    options: dict[str, Any] = {"quotechar": quote} if quote else {"quoting": csv.QUOTE_NONE}
    if quote and escape != quote:
        options |= {"escapechar": escape, "doublequote": False}
    csv.field_size_limit(2**24)
    try:
        rows = csv.reader(given, delimiter=_ONE if several else separator, **options)
        return [row for row in rows if row]
    except csv.Error:
        return []


def _escape(lines: Sequence[str], quote: str, separator: str) -> str:
    escaped = quote and any('\\"' in line and f'\\"{separator}' not in line for line in lines)
    return "\\" if escaped else quote


def _alike(rows: list[list[str]]) -> float:
    """Return which share of rows has as many values as most, if that is more than one."""
    counts = Counter(map(len, rows))
    if not counts or len(rows) < 2:
        return 0.0
    length, times = counts.most_common(1)[0]
    # A quote that does not close takes the lines behind it into one value.
    swallowed = sum("\n" in value and value.count("\n") > 20 for row in rows for value in row)
    return times / (len(rows) + 50 * swallowed) if length > 1 else 0.0


def has_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first of some rows has names, not values."""
    names = [name.strip() for name in rows[0]]
    below = [row for row in rows[1:] if len(row) == len(names)]
    known = sum(map(is_known, names))
    twice = len({name.lower() for name in names}) < len(names)
    if not below or (twice and known < len(names)):
        return False
    values = [name for name in names if _value_like(name)]
    if values:
        # A wide matrix has item ids for names, which may be numbers.
        first_is_name = names[0] == "" or is_known(names[0])
        return first_is_name and len(values) == len(names) - 1 and not _value_like(names[0])
    if known or names[0] == "":
        return True
    for n, name in enumerate(names):
        column = [row[n].strip() for row in below if row[n].strip()]
        if column and sum(map(_value_like, column)) > 0.9 * len(column) and name:
            return True
    # All are text: a name does not come back as a value.
    again = sum(any(row[n].strip() == name for row in below) for n, name in enumerate(names))
    short = all(name and len(name) < 40 and re.fullmatch(r"[\w .()/-]+", name) for name in names)
    long_below = sum(len(value) > 40 for row in below for value in row) > len(below) / 2
    return short and not again and long_below


def _value_like(text: str) -> bool:
    return bool(_NUMBER.fullmatch(text) or _BEGINS_AS_TIME.match(text))


def without_marks(table: pa.Table) -> tuple[pa.Table, str | None]:
    """Return a table of text with nothing where a mark such as `NA` says so, and the mark.

    Only one mark is looked for, since Spark knows one.
    """
    some = table.slice(0, _FOR_MARKS)
    values = pa.chunked_array([chunk for one in some.columns for chunk in one.chunks], pa.string())
    counts = {one["values"]: one["counts"] for one in pc.value_counts(values).to_pylist()}
    found = max(_MARKS, key=lambda mark: counts.get(mark, 0))
    if counts.get(found, 0) < max(some.num_rows / 1000, 2):
        return table, None
    none = pa.scalar(None, pa.string())
    cleaned = [pc.if_else(pc.equal(one, found), none, one) for one in table.columns]
    return pa.table(cleaned, names=table.column_names), found


def read_table(text: str, layout: Layout, name: str) -> tuple[pa.Table, int]:
    """Return the columns of text, all as text, and how many lines have too many or too few values.

    Args:
        text: whole lines.
        layout: how they are written, with a separator.
        name: of the file, for messages.

    Raises:
        InputError: they cannot be read so, or a name of a column is there twice.
    """
    separator = layout.separator or ","
    if len(separator) > 1:
        text, separator = text.replace(separator, _ONE), _ONE
    rows = split([text[: 2**18]], separator, layout.quote, layout.escape)
    if not rows:
        raise InputError(
            f"{name}: cannot be read as CSV; end its lines with a line feed (\\n), not with a "
            "carriage return alone"
        )
    # As Spark calls columns without a name, such as the index that pandas writes.
    names = [(one if layout.header else "") or f"_c{n}" for n, one in enumerate(rows[0])]
    lower = [one.lower() for one in names]
    if twice := [one for one in names if lower.count(one.lower()) > 1]:
        raise InputError(
            f"{name}: the header has the name {twice[0]!r} more than once; rename one of them"
        )
    wrong: list[object] = []

    def skip(row: object) -> str:
        wrong.append(row)
        return "skip"

    content = text.encode("utf-8", "replace")
    try:
        table = pa_csv.read_csv(
            io.BytesIO(content),
            read_options=pa_csv.ReadOptions(
                column_names=names, skip_rows=int(layout.header), block_size=2**23
            ),
            parse_options=pa_csv.ParseOptions(
                delimiter=separator,
                quote_char=layout.quote or False,
                double_quote=layout.escape == layout.quote,
                escape_char=False if layout.escape == layout.quote else layout.escape,
                newlines_in_values=layout.multi_line,
                invalid_row_handler=skip,
            ),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                strings_can_be_null=True,
                null_values=[""],
            ),
        )
    except pa.ArrowInvalid as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{name}: cannot be read as CSV with the separator {layout.separator!r} ({reason}); "
            "write it again as CSV with quotes, or as Parquet"
        ) from error
    return table, len(wrong)
