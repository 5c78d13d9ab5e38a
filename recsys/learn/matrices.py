"""Labelled pairs to dense ids and sparse matrices on the driver."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys.columns import (
    AGE,
    ITEM,
    ITEM_INDEX,
    LABEL,
    RATING,
    TIMESTAMP,
    USER,
    USER_INDEX,
)
from recsys.errors import InputError
from recsys.ingest.ids import index_frame, index_ids
from recsys.runtime.memory import check_fits, check_result
from recsys.store.tables import Scratch

# Peak on the driver for each pair: the Arrow columns (13), their NumPy copies (12), a CSR copy
# while sorting (12), the matrices (12 and 4), LightFM's shuffled order and its lookup of positives
# (4 and 12), and as much again for what is freed late.
_BYTES_PER_PAIR = 140
# Parameters, gradients and momentum, float32, and either their float64 copies while they are
# initialised or the average of the epochs with what moves it.
_BYTES_PER_PARAMETER = 24
# What Spark counts against spark.driver.maxResultSize: two ints, a byte, a double and a float.
_RESULT_BYTES_PER_PAIR = 21


@dataclass(frozen=True)
class Interactions:
    """What LightFM learns from.

    Attributes:
        user_ids, item_ids: ids in ascending order (numbers, or UTF-8 bytes); an id's position is
            its index. Arrow arrays of int32, int64 or string.
        labels: `(n_users, n_items)` COO, float32, 1 or -1, sorted by user and item.
        ratings: the ratings of the same pairs in the same order, float32, or None.
        ages: days before the newest pair, in the same order, float32, or None.
    """

    user_ids: pa.Array
    item_ids: pa.Array
    labels: sp.coo_matrix
    ratings: NDArray[np.float32] | None
    ages: NDArray[np.float32] | None = None


def collect(
    spark: SparkSession,
    scratch: Scratch,
    pairs: DataFrame,
    *,
    no_components: int,
    with_ratings: bool,
    max_share: float,
    with_ages: bool = False,
) -> Interactions:
    """Collect labelled pairs with Arrow into sparse matrices.

    Args:
        spark: the session.
        scratch: brings the ids' indices to the executors.
        pairs: INTERACTIONS_SCHEMA; rows with label 0 are left out.
        no_components: size of the embeddings to come, for the estimate of memory.
        with_ratings: whether the ratings are wanted too.
        max_share: the share of the driver's memory that may be used.
        with_ages: whether the pairs' ages are wanted too.

    Raises:
        InputError: nothing is left to learn from.
        MemoryLimitError: it would not fit; nothing was collected.
    """
    used = pairs.where(F.col(LABEL) != 0)
    counts = used.agg(F.count(F.lit(1)), F.count_distinct(USER), F.count_distinct(ITEM)).collect()[
        0
    ]
    n_pairs, n_users, n_items = (int(value) for value in counts)
    if n_pairs == 0:
        raise InputError(
            "no interactions are left to learn from; loosen filters.rating_threshold and the date "
            "window, or check input.columns"
        )
    check_collectable(spark, n_pairs, n_users, n_items, no_components, max_share)
    user_ids, item_ids = index_ids(used, USER), index_ids(used, ITEM)
    types = [pairs.schema[name].dataType.simpleString() for name in (USER, ITEM)]
    columns = [USER_INDEX, ITEM_INDEX, LABEL] + ([RATING] if with_ratings else [])
    if with_ages:
        newest = used.agg(F.max(TIMESTAMP)).collect()[0][0]
        seconds = F.unix_seconds(F.lit(newest)) - F.unix_seconds(TIMESTAMP)
        used = used.withColumn(AGE, (seconds / 86_400).cast("float"))
        columns.append(AGE)
    table = (
        used.join(index_frame(scratch, user_ids, types[0], USER, USER_INDEX), on=USER, how="inner")
        .join(index_frame(scratch, item_ids, types[1], ITEM, ITEM_INDEX), on=ITEM, how="inner")
        .select(*columns)
        .toArrow()
    )
    rows = table.column(USER_INDEX).to_numpy()
    cols = table.column(ITEM_INDEX).to_numpy()
    # One pass in C, since the keys are dense and unique; the order of rows in Spark means nothing.
    order = np.lexsort((cols, rows))
    shape = (len(user_ids), len(item_ids))
    labels = sp.coo_matrix(
        (
            table.column(LABEL).to_numpy()[order].astype(np.float32),
            (rows[order], cols[order]),
        ),
        shape=shape,
    )
    ratings = table.column(RATING).to_numpy()[order].astype(np.float32) if with_ratings else None
    ages = table.column(AGE).to_numpy()[order] if with_ages else None
    return Interactions(user_ids, item_ids, labels, ratings, ages)


def check_collectable(
    spark: SparkSession,
    n_pairs: int,
    n_users: int,
    n_items: int,
    no_components: int,
    max_share: float,
) -> None:
    """Refuse what would not fit, before anything is collected.

    Raises:
        MemoryLimitError: with the numbers and what to change.
    """
    check_result(
        spark,
        f"{n_pairs:,} interactions",
        n_pairs * _RESULT_BYTES_PER_PAIR,
        "raise it, or raise the minimum numbers of interactions in filters",
    )
    jvm: Any = spark.sparkContext._jvm
    check_fits(
        what=f"{n_pairs:,} interactions of {n_users:,} users and {n_items:,} items with "
        f"{no_components} components",
        needed=n_pairs * _BYTES_PER_PAIR
        + (n_users + n_items) * (no_components + 1) * _BYTES_PER_PARAMETER,
        heap=int(jvm.java.lang.Runtime.getRuntime().maxMemory()),
        max_share=max_share,
        remedy="take a larger machine, lower spark.driver.memory or training.no_components, or "
        "raise the minimum numbers of interactions in filters",
    )
