"""CSV as pandas, R, Spark and spreadsheets write it: its columns, its headers and its quotes.

A quote within quotes is doubled (RFC 4180) unless the option `escape` says otherwise.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys.config.sections import Source
from recsys.errors import InputError
from recsys.ingest.failures import reading
from recsys.ingest.listing import literal_paths

_NO_QUOTE = "\x00"  # what Spark takes for "there are no quotes"
_BYTE_ORDER_MARK = "\ufeff"
_MOST_SHOWN = 80  # characters of a line
_MOST_BESIDE_A_NAME = 16  # blanks, quotes and the byte order mark


def options(source: Source) -> Mapping[str, Any]:
    """Return the options of Spark's reader for a CSV source, with the default of `escape`."""
    given = {key: value for key, value in source.options.items() if key.lower() != "escape"}
    return {**given, "escape": source.option("escape") or quote(source) or "\\"}


def quote(source: Source) -> str:
    """Return the character that quotes values; empty where there is none."""
    given = source.option("quote")
    return '"' if given is None else given.strip(_NO_QUOTE)


def has_header(source: Source) -> bool:
    """Whether the first line of each file has the names of the columns."""
    return source.option("header") == "true"


@dataclass(frozen=True)
class Names:
    """The names of the columns of CSV.

    Attributes:
        own: of those in the files, in order; empty for those without one.
        folders: of those whose values are in the names of folders.
    """

    own: list[str]
    folders: list[str]


def column_names(spark: SparkSession, source: Source, key: str) -> Names:
    """Return the names of the columns, as the files have them.

    Spark makes up names for columns without a name and for repeated ones. The check that every file
    has the same header compares the files' own names.

    Raises:
        InputError: a name is there more than once, or several columns have none.
    """
    reader = spark.read.format("csv").options(**options(source))
    plain = reader.option("header", False).option("inferSchema", False).load(source.paths)
    # Behind the files' own columns are those whose values are in the names of folders.
    n_own = sum(name == f"_c{n}" for n, name in enumerate(plain.columns))
    folders = plain.columns[n_own:]
    if not has_header(source):
        return Names(plain.columns[:n_own], folders)
    first = plain.head()
    if first is None:
        return Names([], [])
    own = [value or "" for value in first[:n_own]]
    own[0] = own[0].removeprefix(_BYTE_ORDER_MARK)
    lower = [name.lower() for name in own]
    if twice := sorted(name for name in folders if name.lower() in lower):
        raise InputError(
            f"{key}: the header has the name {twice[0]}, and so have folders ({twice[0]}=...), "
            "expected it in one of them; rename the column, or name the files instead of the folder"
        )
    repeated = sorted({name for name in own if name and lower.count(name.lower()) > 1})
    if repeated:
        raise InputError(
            f"the header of {key} has a name more than once: {repeated[0]}; rename one, or set the "
            f"option {key}.options.header to false and name the columns _c0, _c1, ..."
        )
    if (nameless := own.count("")) > 1:
        raise InputError(
            f"the header of {key} has {nameless} columns without a name; name them, or set the "
            f"option {key}.options.header to false and name the columns _c0, _c1, ..."
        )
    return Names(own, folders)


# What `wrong_with` says of a line; both are headers, and the second is refused.
HEADER_LINE, HEADER_REORDERED = "header_line", "header_reordered"


def wrong_with(source: Source, own: list[str]) -> Column:
    """Return whether a row is a header that stands among the rows: which kind, else null.

    Files that were put one behind the other have their headers in the middle. As for columns, small
    and capital letters are the same, and so are blanks around a name.

    Args:
        source: what is read.
        own: the names of the columns in the files.
    """
    if not has_header(source) or not own:
        return F.lit(None).cast("string")
    values = [F.lower(F.trim(column(name))) for name in own]
    # Behind a byte order mark quotes are ordinary characters.
    values[0] = F.regexp_replace(values[0], f'^{_BYTE_ORDER_MARK}("?)(.*)\\1$', "$2")
    names = [name.strip().lower() for name in own]
    same = F.lit(True)
    for name, value in zip(names, values, strict=True):
        same = same & (value == name if name else value.isNull())
    found = F.when(same, HEADER_LINE)
    if len(own) > 1 and "" not in names:
        others = F.sort_array(F.array(*values)) == F.array(*map(F.lit, sorted(names)))
        found = found.when(values[0].isin(names[1:]) & others, HEADER_REORDERED)
    # All of this for every row would make reading a tenth slower. Few values are as long as names.
    length = F.coalesce(F.length(column(own[0])), F.lit(0))
    as_long = length.between(min(map(len, names)), max(map(len, own)) + _MOST_BESIDE_A_NAME)
    return F.when(as_long, found)


def column(name: str) -> Column:
    """Return a column by its name, whatever characters that has."""
    return F.col("`" + name.replace("`", "``") + "`")


def quoted(source: Source, columns: list[str], line: str) -> Column:
    """Return whether a row may have been read wrongly because of quotes: it has one in a value.

    Args:
        source: what is read.
        columns: the names of all its columns.
        line: the column of malformed lines.
    """
    mark = quote(source)
    if not mark:
        return F.lit(False)
    found = F.lit(False)
    for name in [*columns, line]:
        # With multiLine a quote that does not close goes on reading at the next line.
        for sign in ("\n", "\r") if source.option("multiLine") == "true" else (mark,):
            found = found | F.coalesce(column(name).contains(sign), F.lit(False))
    return found


def refuse_reordered(reasons: Iterable[str | None], key: str) -> None:
    """Refuse a source in which a header among the rows has the columns in another order.

    Args:
        reasons: what `wrong_with` said of its rows.
        key: its place in the configuration, for messages.

    Raises:
        InputError: there is one; the rows behind it have their values in other columns.
    """
    if HEADER_REORDERED in reasons:
        raise InputError(
            f"{key}: found a second header in the middle of a file, with the columns in another "
            "order, expected one order in a file; split the file, or write it again"
        )


@dataclass(frozen=True)
class Quotes:
    """How many lines have quotes that cannot be read as configured, each with an example.

    Attributes:
        unclosed: lines with a quote that opens and does not close.
        closing: lines with a quote that closes and was not opened.
        escaped: lines with a quote, inside of quotes, behind a backslash.
        doubled: lines with a doubled quote inside of quotes, where another escape is set.
    """

    unclosed: tuple[int, str | None]
    closing: tuple[int, str | None]
    escaped: tuple[int, str | None]
    doubled: tuple[int, str | None]


def check_quotes(spark: SparkSession, source: Source, paths: Iterable[str], key: str) -> None:
    """Refuse files whose quotes mean something else than the configuration says.

    For files in which `quoted` has found something. Lines are read as text: what a quote did to its
    line, the values do not tell.

    Args:
        spark: the session.
        source: what is read.
        paths: its files.
        key: its place in the configuration, for messages.

    Raises:
        InputError: quoted text goes over several lines, or quotes are escaped otherwise.
    """
    mark = quote(source)
    if source.format != "csv" or not mark:
        return
    literal = literal_paths(paths)
    if source.option("multiLine") == "true":
        if not _odd_quotes(spark, source, literal) and not _quotes_fail(spark, source, literal):
            return
        raise InputError(
            f"{key}: a quote does not close, or one inside of quotes is not doubled, so that text "
            f"may have taken the next lines with it, since {key}.options.multiLine is true; mend "
            f"the quotes in the file, or set {key}.options.quote to '' if they are ordinary "
            "characters"
        )
    found = _quotes(spark, source, literal)
    if found.escaped[0]:
        raise InputError(
            f"{key}: {found.escaped[0]:,} lines have a quote behind a backslash inside of quotes, "
            f"such as {found.escaped[1]!r}, expected a doubled one; set {key}.options.escape to "
            "'\\' (Spark writes files like this)"
        )
    if found.doubled[0]:
        raise InputError(
            f"{key}: {found.doubled[0]:,} lines have a doubled quote inside of quotes, such as "
            f"{found.doubled[1]!r}, and {key}.options.escape is {source.option('escape')!r}; "
            "remove that option"
        )
    # A line with nothing but a closing quote looks like one that opens.
    if found.unclosed[0] + found.closing[0] > 1 and found.unclosed[0]:
        closing = f", and {found.closing[0]:,} close one, such as {found.closing[1]!r}"
        raise InputError(
            f"{key}: {found.unclosed[0]:,} lines open a quote that does not close on them, such as "
            f"{found.unclosed[1]!r}{closing if found.closing[0] else ''}"
            "; if quoted text goes over several lines, set "
            f"{key}.options.multiLine to true; if quotes are ordinary characters, set "
            f"{key}.options.quote to ''"
        )


def _odd_quotes(spark: SparkSession, source: Source, paths: list[str]) -> bool:
    """Whether a file has an odd number of quotes, so that one of them does not close.

    Of what has two bytes or four for a letter, the lines are no text here; it is not looked at.
    """
    if source.wide:
        return False
    mark, line = quote(source), F.col("value")
    escape = source.option("escape") or mark
    if escape != mark:
        line = F.regexp_replace(line, f"{re.escape(escape)}.", "")
    n_quotes = F.sum(F.length(F.regexp_replace(line, f"[^{re.escape(mark)}]", "")))
    with reading(source):
        lines = _lines(spark, source, paths).groupBy("_metadata.file_path")
        return lines.agg((n_quotes % 2).alias("odd")).where("odd = 1").head() is not None


def _quotes_fail(spark: SparkSession, source: Source, paths: list[str]) -> bool:
    """Whether Spark finds a quote inside of quotes that is not escaped, in whole files."""
    strict = {**options(source), "unescapedQuoteHandling": "RAISE_ERROR", "columnPruning": False}
    try:
        rows = spark.read.format("csv").options(**strict).load(paths)
        rows.write.format("noop").mode("overwrite").save()
    except (PySparkException, Py4JJavaError):
        return True
    return False


def _quotes(spark: SparkSession, source: Source, paths: list[str]) -> Quotes:
    mark = quote(source)
    escape = source.option("escape") or mark
    separator = source.option("sep") or source.option("delimiter") or ","
    separator = {"\\t": "\t"}.get(separator, separator)
    q, e, s = (re.escape(text) for text in (mark, escape, separator))
    inside = f"(?:[^{q}]++|{q}{q})*+" if e == q else f"(?:[^{q}{e}]++|{e}.)*+"
    plain = f"(?!{q})[^{s}]*+" if len(separator) == 1 else f"(?!{q})(?:(?!{s}).)*+"
    field = f"(?:{q}{inside}{q}|{plain})(?={s}|$)"
    ordinary = f"^{field}(?:{s}{field})*+$"
    open_ = f"^(?:{field}{s})*+{q}{inside}$"
    line = F.col("value")
    comment = source.option("comment")
    with reading(source):
        lines = _lines(spark, source, paths).where(line.contains(mark))
    if comment:
        lines = lines.where(~line.startswith(comment))
    unescaped = line if e == q else F.regexp_replace(line, f"{e}.", "")
    odd = F.length(F.regexp_replace(unescaped, f"[^{q}]", "")) % 2 == 1
    fits, opens = line.rlike(ordinary), line.rlike(open_)
    neither = ~fits & ~opens
    kinds = {
        "unclosed": opens,
        "closing": fits & odd,
        "escaped": (neither | opens) & line.contains("\\" + mark) if e == q else F.lit(False),
        "doubled": neither & line.contains(mark + mark) if e != q else F.lit(False),
    }
    with reading(source):
        row = lines.agg(
            *[F.count_if(kind).alias(f"n_{name}") for name, kind in kinds.items()],
            *[F.min(F.when(kind, F.substring(line, 1, _MOST_SHOWN))).alias(name)
              for name, kind in kinds.items()],
        ).collect()[0]  # fmt: skip
    return Quotes(**{name: (row[f"n_{name}"], row[name]) for name in kinds})


def _lines(spark: SparkSession, source: Source, paths: list[str]) -> DataFrame:
    """Return the lines of the files; an encoding only makes other letters of the same quotes."""
    reader = spark.read
    ending = source.option("lineSep")
    return (reader if ending is None else reader.option("lineSep", ending)).text(paths)
