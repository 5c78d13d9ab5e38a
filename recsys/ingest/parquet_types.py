"""Timestamps of Parquet that Spark does not know: pandas writes nanoseconds."""

from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import LongType

from recsys.errors import InputError
from recsys.ingest.csv_text import column
from recsys.ingest.manifest import InputFile

_UTC, _LOCAL = "TIMESTAMP(NANOS,true)", "TIMESTAMP(NANOS,false)"


def convert_nanoseconds(spark: SparkSession, rows: DataFrame, files: list[InputFile]) -> DataFrame:
    """Turn nanoseconds since 1970, which the session reads as numbers, into timestamps.

    Microseconds are kept; what is below them is cut off.

    Args:
        spark: the session, with `spark.sql.legacy.parquet.nanosAsLong`.
        rows: of Parquet files.
        files: the same files.

    Raises:
        InputError: one file has nanoseconds where another has a number.
    """
    first = _nanoseconds(spark, files[0].path)
    numbers = {field.name for field in rows.schema if isinstance(field.dataType, LongType)}
    if not first.keys() & numbers:
        return rows
    # Spark took the types from one file, and reads the numbers of the others as they are.
    for file in files[1:]:
        if _nanoseconds(spark, file.path) != first:
            raise InputError(
                f"{file.path} has other columns of nanoseconds than {files[0].path}, expected the "
                "same in all files; write them with one type of timestamp"
            )
    converted = {}
    for name, kind in first.items():
        if name in numbers:
            micros = F.floor(column(name).cast("decimal(20,0)") / 1000).cast("bigint")
            at = F.timestamp_micros(micros)
            # A time without a zone is one of the session's.
            converted[name] = at if kind == _UTC else F.to_utc_timestamp(at, F.current_timezone())
    return rows.select(*[converted.get(name, column(name)).alias(name) for name in rows.columns])


def _nanoseconds(spark: SparkSession, path: str) -> dict[str, str]:
    """Return the columns of nanoseconds of a file, and whether they are in UTC."""
    jvm: Any = spark.sparkContext._jvm
    conf = spark.sparkContext._jsc.hadoopConfiguration()
    file = jvm.org.apache.parquet.hadoop.util.HadoopInputFile.fromPath(
        jvm.org.apache.hadoop.fs.Path(path), conf
    )
    reader = jvm.org.apache.parquet.hadoop.ParquetFileReader.open(file)
    try:
        schema = reader.getFileMetaData().getSchema()
    finally:
        reader.close()
    fields = [schema.getType(n) for n in range(schema.getFieldCount())]
    return {
        field.getName(): kind
        for field in fields
        if (kind := str(field.getLogicalTypeAnnotation())) in (_UTC, _LOCAL)
    }
