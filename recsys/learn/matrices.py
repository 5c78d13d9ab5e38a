"""Turn labelled pairs into dense ids and sparse matrices. On the driver."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame, SparkSession
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
from recsys.config.sections import Training
from recsys.errors import InputError, MemoryLimitError
from recsys.ingest.ids import index_frame, index_ids
from recsys.learn.negatives import drawn_per_positive
from recsys.runtime.memory import check_fits, check_result
from recsys.store.tables import Scratch

# Peak on the driver for each pair: the Arrow columns (13), their NumPy copies (12), a CSR copy
# while sorting (12), the matrices (12 and 4), LightFM's shuffled order and its lookup of positives
# (4 and 12), and as much again for what is freed late.
_BYTES_PER_PAIR = 140
# For each drawn negative: user, item, label and weight (16), LightFM's shuffled order (4), and a
# byte for the comparison of matrices; 23 to 28 were measured.
_BYTES_PER_DRAWN_PAIR = 28
# LightFM numbers the pairs of an epoch with int32.
_MAX_PAIRS = 2**31 - 1
# Parameters, gradients and momentum, float32, and either their float64 copies while they are
# initialised, or the average of the epochs and the change to it.
_BYTES_PER_PARAMETER = 24
# What Spark counts against spark.driver.maxResultSize: two ints, a byte, a double and a float.
_RESULT_BYTES_PER_PAIR = 21


@dataclass(frozen=True)
class Interactions:
    """What LightFM learns from.

    Attributes:
        user_ids, item_ids: Arrow arrays of int32, int64 or string, in ascending order (of numbers,
            or of UTF-8 bytes). An id's position is its index.
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
    settings: Training,
    *,
    max_share: float,
) -> Interactions:
    """Collect labelled pairs with Arrow into sparse matrices.

    Args:
        spark: the session.
        scratch: brings the ids' indices to the executors.
        pairs: INTERACTIONS_SCHEMA; rows with label 0 are left out.
        settings: say whether ratings and ages are needed, and how much memory training takes.
        max_share: the share of the driver's memory that may be used.

    Raises:
        InputError: nothing is left to learn from.
        MemoryLimitError: it would not fit; nothing was collected.
    """
    used = pairs.where(F.col(LABEL) != 0)
    n_pairs, n_users, n_items, n_negatives = used.agg(
        F.count(F.lit(1)),
        F.count_distinct(USER),
        F.count_distinct(ITEM),
        F.count_if(F.col(LABEL) < 0),
    ).collect()[0]
    if n_pairs == 0:
        raise InputError(
            "no interactions are left to learn from; loosen filters.rating_threshold and the date "
            "window, or check input.columns"
        )
    n_drawn = n_pairs * drawn_per_positive(settings, n_negatives)
    check_collectable(
        spark, n_pairs, n_users, n_items, settings.no_components, max_share, n_drawn=n_drawn
    )
    types = [pairs.schema[name].dataType.simpleString() for name in (USER, ITEM)]
    columns = [USER_INDEX, ITEM_INDEX, LABEL]
    if settings.sample_weights.rating != "none":
        columns.append(RATING)
    if settings.sample_weights.half_life_days is not None:
        used = used.withColumn(AGE, _age(used))
        columns.append(AGE)
    user_ids, item_ids = index_ids(used, USER), index_ids(used, ITEM)
    table = (
        used.join(index_frame(scratch, user_ids, types[0], USER, USER_INDEX), on=USER, how="inner")
        .join(index_frame(scratch, item_ids, types[1], ITEM, ITEM_INDEX), on=ITEM, how="inner")
        .select(*columns)
        .toArrow()
    )
    rows = table.column(USER_INDEX).to_numpy()
    cols = table.column(ITEM_INDEX).to_numpy()
    # Sorted by user and item, since Spark gives rows in any order. Each pair is there once.
    order = np.lexsort((cols, rows))
    labels = sp.coo_matrix(
        (
            table.column(LABEL).to_numpy()[order].astype(np.float32),
            (rows[order], cols[order]),
        ),
        shape=(len(user_ids), len(item_ids)),
    )
    ratings, ages = (
        table.column(name).to_numpy()[order].astype(np.float32) if name in columns else None
        for name in (RATING, AGE)
    )
    return Interactions(user_ids, item_ids, labels, ratings, ages)


def _age(pairs: DataFrame) -> Column:
    """Return how many days each pair is older than the newest one, as float."""
    newest = pairs.agg(F.max(TIMESTAMP)).collect()[0][0]
    seconds = F.unix_seconds(F.lit(newest)) - F.unix_seconds(TIMESTAMP)
    return (seconds / 86_400).cast("float")


def check_collectable(
    spark: SparkSession,
    n_pairs: int,
    n_users: int,
    n_items: int,
    no_components: int,
    max_share: float,
    *,
    n_drawn: int = 0,
) -> None:
    """Refuse what would not fit, before anything is collected.

    Args:
        spark: the session.
        n_pairs: how many pairs are to be collected.
        n_users: how many users they have.
        n_items: how many items.
        no_components: the size of the embeddings to be trained.
        max_share: the share of the driver's memory that may be used.
        n_drawn: how many negatives are going to be drawn for each epoch.

    Raises:
        MemoryLimitError: with the numbers and what to change.
    """
    drawn = f" and {n_drawn:,} drawn negatives" if n_drawn else ""
    fewer = "training.negatives_per_positive, or " if n_drawn else ""
    if n_pairs + n_drawn > _MAX_PAIRS:
        raise MemoryLimitError(
            f"{n_pairs:,} interactions{drawn} are more than the {_MAX_PAIRS:,} that LightFM can "
            f"train on; lower {fewer}filters.last_days, or raise the minimum numbers of "
            "interactions in filters"
        )
    check_result(
        spark,
        f"{n_pairs:,} interactions",
        n_pairs * _RESULT_BYTES_PER_PAIR,
        "raise it, or raise the minimum numbers of interactions in filters",
    )
    jvm: Any = spark.sparkContext._jvm
    check_fits(
        what=f"{n_pairs:,} interactions{drawn} of {n_users:,} users and {n_items:,} items with "
        f"{no_components} components",
        needed=n_pairs * _BYTES_PER_PAIR
        + n_drawn * _BYTES_PER_DRAWN_PAIR
        + (n_users + n_items) * (no_components + 1) * _BYTES_PER_PARAMETER,
        heap=int(jvm.java.lang.Runtime.getRuntime().maxMemory()),
        max_share=max_share,
        remedy="take a larger machine, lower spark.driver.memory or training.no_components"
        f"{' or training.negatives_per_positive' if n_drawn else ''}, or raise the minimum numbers "
        "of interactions in filters",
    )
