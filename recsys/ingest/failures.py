"""What Spark says when it cannot read a source, as an error of one line with its cause."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from recsys.config.redaction import redact
from recsys.config.sections import Input, Source
from recsys.errors import InputError, OutputError
from recsys.runtime.spark_errors import spark_reason

# What Spark says where a value cannot be what a query wants of it, without how to switch that off.
_AT_RUN_TIME = re.compile(
    r"\[(?:CAST_\w+|CANNOT_PARSE_TIMESTAMP|DIVIDE_BY_ZERO|ARITHMETIC_OVERFLOW|NUMERIC_\w+|"
    r"BINARY_ARITHMETIC_OVERFLOW|INVALID_\w+)(?:\.\w+)?\] [^.\n]*"
)
_PATTERN = re.compile(r"(?<!\\)[*?\[\]{}]")


@contextmanager
def reading(source: Source | None) -> Iterator[None]:
    """Turn what Spark says when it cannot read the source into an InputError of one line.

    Without a source, errors pass.
    """
    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        if source is None:
            raise
        text = str(error)
        if getattr(source, "query", None) is not None and (failed := _AT_RUN_TIME.search(text)):
            raise InputError(
                f"{'input.query' if isinstance(source, Input) else 'query'}: a conversion or a "
                f"calculation of the query failed: {failed[0]}; use try_cast in place of cast, or "
                "another function with try_"
            ) from error
        if "TASK_WRITE_FAILED" in text and "FAILED_READ_FILE" not in text:
            raise OutputError(f"cannot write what was read: {spark_reason(error)}") from error
        name = source.table if source.format == "table" else ", ".join(source.paths)
        raise InputError(
            f"cannot read {redact(name)} as {source.format}: {_cause(text, spark_reason(error))}"
            f"{_remedy(text, source)}"
        ) from error


def _cause(text: str, reason: str) -> str:
    """Name the file where Spark names it."""
    found = re.search(r"[Ee]rror while reading file (\S+?)\.(?:\s|$)", text)
    if found is None or found[1] in reason:
        return reason
    mismatch = re.search(r"(Data type mismatches .+?)(?:\. SQLSTATE|\n|$)", text)
    return f"in the file {redact(found[1])}: {mismatch[1] if mismatch else reason}"


def _remedy(text: str, source: Source) -> str:
    """Say what helps, where that is known; empty where it is not."""
    if "PATH_NOT_FOUND" in text and any(map(_PATTERN.search, source.paths)):
        return (
            "; * ? [ ] { } in a path are patterns, and a backslash before one makes it an ordinary "
            "character"
        )
    if "COLUMN_DATA_TYPE_MISMATCH" in text or "CANNOT_MERGE_SCHEMAS" in text:
        return (
            "; the files have different types for one column: write them with one type, or read "
            "them through a table whose column has the wider one"
        )
    if "CHARSET" in text:
        return "; set options.encoding to the encoding's name in Java, such as ISO-8859-1"
    if any(sign in text for sign in ("EOFException", "ZipException", "not in GZIP format")):
        return (
            "; the file is cut short or damaged: write it again, or leave it out with "
            "options.pathGlobFilter"
        )
    return ""
