"""Bring numbers from Spark into NumPy arrays, part by part, so that pairs are never held twice."""

from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray
from py4j.protocol import Py4JError
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.storagelevel import StorageLevel

from recsys.errors import OutputError
from recsys.runtime.memory import result_limit

BYTES_PER_PAIR = 17  # what Spark counts: two ints, a byte and two floats
# `toArrow` holds a part as Arrow until it is copied into the arrays. So what is there twice is one
# part, about 140 MB, however many pairs there are.
_ROWS_OF_A_PART = 8_000_000


def collect_columns(
    frame: DataFrame, types: dict[str, type[np.generic]], n_rows: int, spread_by: str
) -> dict[str, NDArray[Any]]:
    """Collect columns of numbers into arrays, rows in any order.

    A part has at most about _ROWS_OF_A_PART rows and half of spark.driver.maxResultSize. Where
    there are several, they come from a copy on the executors' disks.

    Args:
        frame: has the columns, without nulls.
        types: the type of each array, by the name of its column.
        n_rows: how many rows there are.
        spread_by: a column of integers that says which part a row is in; the same for the same
            rows, whatever their order.

    Returns:
        `(n_rows,)` of each type, by name.

    Raises:
        OutputError: there are not as many rows.
    """
    arrays = {name: np.empty(n_rows, kind) for name, kind in types.items()}
    n_parts, found, start = _n_parts(frame, n_rows), frame, 0
    if n_parts > 1:
        found = frame.select(*dict.fromkeys([*types, spread_by])).persist(StorageLevel.DISK_ONLY)
    try:
        for number in range(n_parts):
            part = (
                found if n_parts == 1 else found.where(F.pmod(spread_by, F.lit(n_parts)) == number)
            )
            # Without a name: the part is gone when the loop ends, before the next one comes.
            for batch in part.select(*types).toArrow().to_batches():
                stop = start + batch.num_rows
                if stop > n_rows:
                    raise _changed(n_rows, f"more than {n_rows:,}")
                for name, array in arrays.items():
                    array[start:stop] = batch.column(name).to_numpy()
                start = stop
    finally:
        if n_parts > 1:
            with suppress(Py4JError, OSError):  # where the JVM is gone, the first error says it
                found.unpersist()
    if start != n_rows:
        raise _changed(n_rows, f"{start:,}")
    return arrays


def _n_parts(frame: DataFrame, n_rows: int) -> int:
    limit, _ = result_limit(frame.sparkSession)
    by_limit = -(-n_rows * BYTES_PER_PAIR // (limit // 2)) if limit else 1
    return max(1, by_limit, -(-n_rows // _ROWS_OF_A_PART))


def _changed(n_rows: int, found: str) -> OutputError:
    return OutputError(
        f"expected {n_rows:,} pairs to learn from, as were counted, found {found}; the "
        "interactions have changed meanwhile, so run again with another run id"
    )
