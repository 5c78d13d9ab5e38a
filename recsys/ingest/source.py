"""Reading raw ratings from any source that Spark reads.

Nothing is converted here; `recsys.ingest.judging.judge` does that.
"""

import difflib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from recsys.columns import RATING, RAW_ITEM, RAW_LINE, RAW_USER, TIMESTAMP
from recsys.config.configuration import digest
from recsys.config.redaction import redact
from recsys.config.sections import Input, Source
from recsys.errors import ConfigError, InputError, OutputError
from recsys.ingest.manifest import InputFile, InputState
from recsys.runtime.spark_errors import spark_reason

_CORRUPT = "_corrupt_record"
_MOST_FILES_LISTED = 20


def read_ratings(spark: SparkSession, source: Input) -> DataFrame:
    """Read the configured source.

    Returns:
        `user`, `item`, and where the configuration names them `rating` and `timestamp`, as the
        source has them, and `line`: a malformed line as text, else null.

    Raises:
        InputError: the source does not exist or lacks a column.
    """
    frame = read_source(spark, source)
    mapping = {
        RAW_USER: source.columns.user,
        RAW_ITEM: source.columns.item,
        RATING: source.columns.rating,
        TIMESTAMP: source.columns.timestamp,
    }
    selected = [
        find_column(frame, column, f"input.columns.{name}", source).alias(name)
        for name, column in mapping.items()
        if column is not None
    ]
    line = F.col(_CORRUPT) if _CORRUPT in frame.columns else F.lit(None).cast("string")
    return frame.select(*selected, line.alias(RAW_LINE))


def read_source(
    spark: SparkSession, source: Source, *, where: str | None = None, key: str = "input"
) -> DataFrame:
    """Read any source as it is; of CSV and JSON, `_corrupt_record` has malformed lines as text.

    Args:
        spark: the session.
        source: what to read.
        where: an SQL condition on its columns.
        key: its place in the configuration, for messages.

    Raises:
        InputError: it cannot be read.
        ConfigError: the condition is not one on these columns.
    """
    with reading(source):
        frame = _read(spark, source)
    try:
        return frame if where is None else frame.where(where)
    except PySparkException as error:
        raise ConfigError(f"{key}.where: {spark_reason(error)}") from error


def find_column(frame: DataFrame, column: str, key: str, source: Source) -> Column:
    """Return a column by its name, whatever characters that has.

    Raises:
        InputError: there is none; the message has `key`, the nearest and all there are.
    """
    present = {name.lower(): name for name in frame.columns if name != _CORRUPT}
    present |= {name: name for name in present.values()}  # an exact match goes first
    found = present.get(column) or present.get(column.lower())
    if found is None:
        raise InputError(_missing_column(key, column, frame.columns, source))
    return _quoted(found)


def _read(spark: SparkSession, source: Source) -> DataFrame:
    if source.format == "table":
        return spark.table(source.table or "")
    reader = spark.read.format(source.format)
    for key, value in source.options.items():
        reader = reader.option(key, value)
    if source.format not in ("csv", "json"):
        return reader.load(source.paths)
    if source.format == "csv":
        # Text, whatever it looks like: 007 is not 7. Inference would also read everything twice.
        columns = reader.option("inferSchema", False).load(source.paths).columns
        schema = StructType(
            [StructField(name, StringType()) for name in _own_names(columns, source)]
        )
    else:
        inferred = reader.load(source.paths).schema
        schema = StructType([field for field in inferred if field.name != _CORRUPT])
    # By default Spark parses only the columns that are asked for, and misses malformed lines; it
    # also trusts that every file has its columns in the order of the first.
    return (
        reader.schema(StructType([*schema, StructField(_CORRUPT, StringType())]))
        .option("mode", "PERMISSIVE")
        .option("columnNameOfCorruptRecord", _CORRUPT)
        .option("columnPruning", False)
        .option("enforceSchema", False)
        .load(source.paths)
    )


def _own_names(columns: list[str], source: Source) -> list[str]:
    """Undo the names that Spark makes up for columns without one (`_c0`).

    The check that every file has the same header compares them with the files' own.
    """
    header = next((v for k, v in source.options.items() if k.lower() == "header"), False)
    if str(header).lower() != "true":
        return columns
    # Of a repeated name Spark makes name0, name4: the name and the position.
    stems = [
        name.removesuffix(str(n)).lower() if name.endswith(str(n)) else name.lower()
        for n, name in enumerate(columns)
    ]
    repeated = {s for s in stems if s and stems.count(s) > 1} - {c.lower() for c in columns}
    if repeated:
        raise InputError(
            f"the header of the input has a name more than once: {min(repeated)}; rename one, or "
            "set the option header to false and name the columns _c0, _c1, ..."
        )
    nameless = [n for n, name in enumerate(columns) if name == f"_c{n}"]
    if len(nameless) > 1:
        raise InputError(
            f"the header of the input has {len(nameless)} columns without a name; name them, or "
            "set the option header to false and name the columns _c0, _c1, ..."
        )
    return ["" if n in nameless else name for n, name in enumerate(columns)]


def _quoted(name: str) -> Column:
    return F.col("`" + name.replace("`", "``") + "`")


def _missing_column(key: str, column: str, present: list[str], source: Source) -> str:
    present = [name for name in present if name != _CORRUPT]
    if not present:
        return f"{key}: the input has no columns; it is empty or wholly malformed"
    close = difflib.get_close_matches(column, present, n=1, cutoff=0.6)
    hint = f"; did you mean {close[0]}?" if close else ""
    if source.format == "csv" and "header" not in map(str.lower, source.options):
        hint += " (the option header is not set, so the columns have no names of their own)"
    return f"{key}: the input has no column '{column}'{hint}; it has {', '.join(present)}"


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
        if "TASK_WRITE_FAILED" in str(error) and "FAILED_READ_FILE" not in str(error):
            raise OutputError(f"cannot write what was read: {spark_reason(error)}") from error
        name = source.table if source.format == "table" else ", ".join(source.paths)
        raise InputError(
            f"cannot read {redact(name)} as {source.format}: {spark_reason(error)}"
        ) from error


def identify(spark: SparkSession, source: Input, frame: DataFrame) -> InputState:
    """Return what tells one state of the input from another: its files' sizes and times.

    A catalogue table that does not consist of files has only its name.
    """
    files = frame.inputFiles()
    found = []
    if files:
        with reading(source):
            found = sorted(
                (redact(row.path), row.length, row.modified)
                for row in spark.read.format("binaryFile")
                .load([_as_literal_path(file) for file in files])
                .select("path", "length", F.unix_micros("modificationTime").alias("modified"))
                .collect()
            )
    listing = [
        InputFile(path=path, bytes=size, modified_micros=modified) for path, size, modified in found
    ]
    return InputState(
        format=source.format,
        name=source.table or redact(source.paths),
        files=len(found),
        bytes=sum(size for _, size, _ in found),
        sha256_of_listing=digest([list(file) for file in found]),
        listing=listing if len(found) <= _MOST_FILES_LISTED else None,
    )


def _as_literal_path(uri: str) -> str:
    """Turn one of Spark's encoded URIs into a path that its readers do not take for a pattern."""
    return re.sub(r"([\[\]{}*?\\])", r"\\\1", unquote(uri))
