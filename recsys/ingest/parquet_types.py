"""Types of Parquet that Spark does not know or takes for others, and that differ between files."""

from collections import defaultdict
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import LongType

from recsys.errors import InputError
from recsys.ingest.csv_text import column
from recsys.ingest.manifest import InputFile

_UTC, _LOCAL = "TIMESTAMP(NANOS,true)", "TIMESTAMP(NANOS,false)"
_NONE = ("UNKNOWN", "NULL")  # the type of a column without any values
_AT_ONCE = 16  # footers that are read at the same time


def check_and_convert(spark: SparkSession, rows: DataFrame, files: list[InputFile]) -> DataFrame:
    """Turn nanoseconds since 1970, which the session reads as numbers, into timestamps.

    pandas writes them. Microseconds are kept; what is below them is cut off.

    Args:
        spark: the session, with `spark.sql.legacy.parquet.nanosAsLong`.
        rows: of Parquet files.
        files: the same files.

    Raises:
        InputError: one file has nanoseconds where another has a number, or a column that is
            wholly empty where another has values.
    """
    found = _types(spark, files)
    numbers = {f.name for f in rows.schema if isinstance(f.dataType, LongType)}
    converted = {}
    for name in rows.columns:
        kinds = found.get(name.lower(), {})
        _check(name, kinds)
        nanoseconds = kinds.keys() & {_UTC, _LOCAL}
        if name in numbers and nanoseconds:
            micros = F.floor(column(name).cast("decimal(20,0)") / 1000).cast("bigint")
            at = F.timestamp_micros(micros)
            # A time without a zone is one of the session's.
            utc = nanoseconds == {_UTC}
            converted[name] = at if utc else F.to_utc_timestamp(at, F.current_timezone())
    return rows.select(*[converted.get(name, column(name)).alias(name) for name in rows.columns])


def _check(name: str, kinds: dict[str, str]) -> None:
    """Refuse a column whose types, each with the first file that has it, Spark would mix up."""
    others = [kind for kind in kinds if kind not in _NONE]
    first = next(iter(kinds), None)
    # Spark takes the types from the first file.
    if first in _NONE and others:
        raise InputError(
            f"{kinds[first]} has no values and no type in the column {name}, expected that of "
            f"{kinds[others[0]]}; leave that file out, or write it with the type (pandas writes "
            "such files of frames without rows)"
        )
    if len(others) > 1 and {_UTC, _LOCAL} & set(others):
        raise InputError(
            f"{kinds[others[1]]} has another type than {kinds[others[0]]} in the column {name}, "
            "and one of them has nanoseconds, expected the same in all files; write them with one "
            "type of timestamp"
        )


def _types(spark: SparkSession, files: list[InputFile]) -> dict[str, dict[str, str]]:
    """Return for each column, in lower case, its types and the first file that has each.

    The types are Parquet's logical ones, or the physical ones where there are none.
    """
    jvm: Any = spark.sparkContext._jvm
    hadoop = jvm.org.apache.hadoop
    conf = hadoop.conf.Configuration(spark.sparkContext._jsc.hadoopConfiguration())
    conf.setInt("parquet.metadata.read.parallelism", _AT_ONCE)
    listed = jvm.java.util.ArrayList()
    for file in files:
        path = hadoop.fs.Path(file.path)
        at = file.modified_micros // 1000
        listed.add(hadoop.fs.FileStatus(file.bytes, False, 1, 0, at, path))
    reader = jvm.org.apache.parquet.hadoop.ParquetFileReader
    footers = reader.readAllFootersInParallel(conf, listed, True)
    schemas: dict[str, str] = {}
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for file, footer in zip(files, footers, strict=True):
        schema = footer.getParquetMetadata().getFileMetaData().getSchema()
        if schemas.setdefault(str(schema.toString()), file.path) != file.path:
            continue  # most files have the same
        for n in range(schema.getFieldCount()):
            field = schema.getType(n)
            kind = str(field.getLogicalTypeAnnotation() or _physical(field))
            found[field.getName().lower()].setdefault(kind, file.path)
    return found


def _physical(field: Any) -> str:
    """Return the type of a column that has no logical one."""
    return str(field.asPrimitiveType().getPrimitiveTypeName()) if field.isPrimitive() else "group"
