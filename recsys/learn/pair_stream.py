"""Bring numbers from Spark straight into NumPy arrays, so that they are never there twice."""

from collections.abc import Iterator
from typing import IO, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark import serializers
from pyspark.errors import PySparkRuntimeError
from pyspark.errors.exceptions.captured import unwrap_spark_exception
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.serializers import ArrowStreamSerializer
from pyspark.storagelevel import StorageLevel
from pyspark.util import _load_from_socket

from recsys.errors import OutputError
from recsys.runtime.memory import result_limit

_spark: Any = serializers  # which has no types

BYTES_PER_PAIR = 17  # what Spark counts: two ints, a byte and two floats


class _Unordered(ArrowStreamSerializer):
    """Reads batches as they come, and then throws away in which order they would be.

    `DataFrame.toArrow` keeps all of them to bring them into that order.
    """

    def load_stream(self, stream: IO[bytes]) -> Iterator[pa.RecordBatch]:
        yield from super().load_stream(stream)
        n = _spark.read_int(stream)
        if n == -1:  # the job has failed
            raise PySparkRuntimeError(
                errorClass="ERROR_OCCURRED_WHILE_CALLING",
                messageParameters={
                    "func_name": "recsys.learn.pair_stream",
                    "error_msg": _spark.UTF8Deserializer().loads(stream),
                },
            )
        for _ in range(n):
            _spark.read_int(stream)


def collect_columns(
    frame: DataFrame, types: dict[str, type[np.generic]], n_rows: int, spread_by: str
) -> dict[str, NDArray[Any]]:
    """Collect columns of numbers into arrays, rows in any order.

    Where all rows would be more than half of spark.driver.maxResultSize, they are collected in
    several parts, from a copy on the executors' disks.

    Args:
        frame: has the columns, without nulls.
        types: the type of each array, by the name of its column.
        n_rows: how many rows there are.
        spread_by: a column of integers that says which part a row is in.

    Returns:
        `(n_rows,)` of each type, by name.

    Raises:
        OutputError: there are not as many rows.
    """
    arrays = {name: np.empty(n_rows, kind) for name, kind in types.items()}
    limit, _ = result_limit(frame.sparkSession)
    n_parts = -(-n_rows * BYTES_PER_PAIR // (limit // 2)) if limit else 1
    found, start = frame.select(*types), 0
    if n_parts > 1:
        found = found.persist(StorageLevel.DISK_ONLY)
    try:
        for number in range(max(1, n_parts)):
            part = (
                found.where(F.pmod(spread_by, F.lit(n_parts)) == number) if n_parts > 1 else found
            )
            for batch in _batches(part):
                stop = start + batch.num_rows
                if stop > n_rows:
                    raise _changed(n_rows, f"more than {n_rows:,}")
                for name, array in arrays.items():
                    array[start:stop] = batch.column(name).to_numpy()
                start = stop
    finally:
        if n_parts > 1:
            found.unpersist()
    if start != n_rows:
        raise _changed(n_rows, f"{start:,}")
    return arrays


def _changed(n_rows: int, found: str) -> OutputError:
    return OutputError(
        f"expected {n_rows:,} pairs to learn from, as were counted, found {found}; the "
        "interactions have changed meanwhile, so run again with another run id"
    )


def _batches(frame: DataFrame) -> Iterator[pa.RecordBatch]:
    """Yield the rows as Arrow batches, each as soon as it comes; see `DataFrame.toArrow`."""
    port, secret, server = frame._jdf.collectAsArrowToPython()
    try:
        with _load_from_socket((port, secret), _Unordered()) as batches:
            yield from batches
    finally:
        with unwrap_spark_exception():
            server.getResult()
