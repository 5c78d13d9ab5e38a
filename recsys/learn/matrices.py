"""Turn labelled pairs into dense ids and sparse matrices. On the driver."""

import datetime as dt
import logging
from dataclasses import dataclass, replace

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
from recsys.config.sections import SampleWeights, Training
from recsys.errors import InputError, MemoryLimitError
from recsys.ingest.ids import id_bytes, index_frame, index_ids
from recsys.learn.negatives import drawn_per_positive
from recsys.learn.sample_weights import Labelled
from recsys.runtime.memory import check_fits, check_result, heap_bytes
from recsys.store.tables import Scratch

log = logging.getLogger(__name__)

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
RESULT_BYTES_PER_PAIR = 21  # what Spark counts: two ints, a byte, a double and a float
# For each feature of a user or an item: as it is collected (group, value, id and weight as Python's
# objects for a moment), and the matrices with their copies.
_BYTES_PER_FEATURE = 250
# Embeddings by features, sorted, and written for the executors.
_BYTES_PER_COLD_PARAMETER = 12
_BYTES_PER_TRIAL_PAIR = 24  # in a trial of features: the pairs without those held out
# Ids as they are collected, sorted, and written for the executors.
_COPIES_OF_IDS = 3
_SECONDS_PER_DAY = 86_400


@dataclass(frozen=True)
class Interactions:
    """What LightFM learns from.

    Attributes:
        user_ids, item_ids: Arrow arrays of int32, int64 or string, in ascending order (of numbers,
            or of UTF-8 bytes). An id's position is its index.
        labels: `(n_users, n_items)` COO, float32, 1 or -1, sorted by user and item.
        ratings: the ratings of the same pairs in the same order, float32, or None.
        ages: days before the end of the run date, in the same order, float32, or None.
        weightless_pairs: how many other pairs were left out, since they have no sample weight.
    """

    user_ids: pa.Array
    item_ids: pa.Array
    labels: sp.coo_matrix
    ratings: NDArray[np.float32] | None
    ages: NDArray[np.float32] | None = None
    weightless_pairs: int = 0


@dataclass(frozen=True)
class FeatureSizes:
    """How many features there are.

    Attributes:
        rows: one for each feature of a user or an item.
        columns: different features.
        ids: users and items that have some; those that are not trained get embeddings, too.
    """

    rows: int = 0
    columns: int = 0
    ids: int = 0


NO_FEATURES = FeatureSizes()


@dataclass(frozen=True)
class Sizes:
    """How much there is to learn from.

    Attributes:
        pairs: how many labelled pairs.
        negatives: how many of them are negative.
        users, items: how many different ones they have.
        user_bytes, item_bytes: what their ids take where they are collected.
    """

    pairs: int
    negatives: int
    users: int
    items: int
    user_bytes: int = 0
    item_bytes: int = 0


def collect(
    spark: SparkSession,
    scratch: Scratch,
    pairs: DataFrame,
    settings: Training,
    run_date: dt.date,
    *,
    max_share: float,
    features: FeatureSizes = NO_FEATURES,
) -> Interactions:
    """Collect labelled pairs with Arrow into sparse matrices.

    Pairs whose sample weight is 0 are left out, and with them users and items that have no other
    pair. (Their vectors would stay as they were drawn.)

    Args:
        spark: the session.
        scratch: brings the ids' indices to the executors.
        pairs: INTERACTIONS_SCHEMA; rows with label 0 are left out.
        settings: say how pairs are weighed, and how much memory training takes.
        run_date: up to whose end (UTC) ages count.
        max_share: the share of the driver's memory that may be used.
        features: how many there are beside the pairs.

    Raises:
        InputError: nothing is left to learn from.
        MemoryLimitError: it would not fit; nothing was collected.
        TrainingError: the pairs cannot be weighed as configured.
    """
    used = pairs.where(F.col(LABEL) != 0)
    sizes = measure(used)
    weights = settings.sample_weights
    if sizes.pairs == 0:
        zeros = "; with training.sample_weights.rating, ratings of 0 are left out, too"
        raise InputError(
            "no interactions are left to learn from; loosen filters.rating_threshold and the date "
            f"window, or check input.columns{zeros if weights.by_rating else ''}"
        )
    n_drawn = sizes.pairs * drawn_per_positive(settings, sizes.negatives)
    check_collectable(spark, sizes, settings.widest, max_share, n_drawn=n_drawn, features=features)
    columns = [USER_INDEX, ITEM_INDEX, LABEL]
    if weights.by_rating:
        columns.append(RATING)
    if weights.half_life_days is not None:
        used = used.withColumn(AGE, _age(run_date))
        columns.append(AGE)
    return without_weightless(_matrices(scratch, used, columns), weights)


def measure(used: DataFrame) -> Sizes:
    """Measure what is to be collected.

    Two aggregates, each by one column: a single one with two distinct counts would multiply the
    rows, and could not say how long the ids are.

    Args:
        used: labelled pairs.
    """
    per_user = used.groupBy(USER).agg(
        F.count(F.lit(1)).alias("n_pairs"), F.count_if(F.col(LABEL) < 0).alias("n_negatives")
    )
    n_users, user_bytes, n_pairs, n_negatives = per_user.agg(
        *_count_ids(per_user, USER), *[_total(F.col(name)) for name in ("n_pairs", "n_negatives")]
    ).collect()[0]
    per_item = used.select(ITEM).distinct()
    n_items, item_bytes = per_item.agg(*_count_ids(per_item, ITEM)).collect()[0]
    return Sizes(n_pairs, n_negatives, n_users, n_items, user_bytes, item_bytes)


def _count_ids(distinct: DataFrame, name: str) -> tuple[Column, Column]:
    """Return how many ids there are, and how many bytes they take together."""
    return F.count(F.lit(1)), _total(id_bytes(name, _id_type(distinct, name)))


def _total(column: Column) -> Column:
    return F.coalesce(F.sum(column), F.lit(0))


def _id_type(frame: DataFrame, name: str) -> str:
    return frame.schema[name].dataType.simpleString()


def _matrices(scratch: Scratch, used: DataFrame, columns: list[str]) -> Interactions:
    """Collect ids and pairs."""
    types = [_id_type(used, name) for name in (USER, ITEM)]
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


def _age(run_date: dt.date) -> Column:
    """Return how many days a pair is older than the end of a day (UTC), 0 if it is younger.

    In numbers alone: Python has no datetime for all of Spark's timestamps.
    """
    days = run_date.toordinal() - dt.date(1970, 1, 1).toordinal() + 1
    micros = F.lit(days * _SECONDS_PER_DAY * 10**6) - F.unix_micros(TIMESTAMP)
    return (F.greatest(micros, F.lit(0)) / (_SECONDS_PER_DAY * 10**6)).cast("float")


def without_weightless(found: Interactions, policy: SampleWeights) -> Interactions:
    """Leave out pairs whose sample weight is 0, and users and items that have no other pair.

    Args:
        found: what was collected.
        policy: how pairs are weighed.

    Returns:
        The same, or fewer pairs with the indices of those users and items that are left.

    Raises:
        InputError: no pair has a weight.
        TrainingError: the pairs cannot be weighed.
    """
    labelled = Labelled(found.labels, found.ratings, found.ages)
    kept = labelled.with_weight(policy)
    n_lost = int(np.count_nonzero(~kept))
    if n_lost == 0:
        return found
    left = labelled.only(kept)
    users, rows = np.unique(left.labels.row, return_inverse=True)
    items, cols = np.unique(left.labels.col, return_inverse=True)
    n_users, n_items = found.labels.shape
    log.warning(
        "%s of %s interactions have no sample weight and are left out, and with them %s users and "
        "%s items that have no others",
        f"{n_lost:,}",
        f"{len(kept):,}",
        f"{n_users - len(users):,}",
        f"{n_items - len(items):,}",
    )
    cells = rows.astype(np.int32), cols.astype(np.int32)
    return replace(
        found,
        user_ids=found.user_ids.take(pa.array(users)),
        item_ids=found.item_ids.take(pa.array(items)),
        labels=sp.coo_matrix((left.labels.data, cells), shape=(len(users), len(items))),
        ratings=left.ratings,
        ages=left.ages,
        weightless_pairs=n_lost,
    )


def driver_bytes(
    sizes: Sizes, no_components: int, n_drawn: int = 0, features: FeatureSizes = NO_FEATURES
) -> dict[str, int]:
    """Return the bytes that training takes on the driver, by what takes them."""
    n, width = sizes.users + sizes.items, no_components + 1
    return {
        "matrix": sizes.pairs * _BYTES_PER_PAIR + n_drawn * _BYTES_PER_DRAWN_PAIR,
        "ids": (sizes.user_bytes + sizes.item_bytes) * _COPIES_OF_IDS,
        "model and averaged states": (n + features.columns) * width * _BYTES_PER_PARAMETER,
        # Users and items are made of the parameters after each epoch, and the best are kept.
        "features": (n * width * 12 if features.rows else 0)
        + features.rows * _BYTES_PER_FEATURE
        + features.ids * width * _BYTES_PER_COLD_PARAMETER,
        "validation": sizes.pairs * _BYTES_PER_TRIAL_PAIR if features.rows else 0,
    }


def check_collectable(
    spark: SparkSession,
    sizes: Sizes,
    no_components: int,
    max_share: float,
    *,
    n_drawn: int = 0,
    features: FeatureSizes = NO_FEATURES,
) -> None:
    """Refuse what would not fit, before anything is collected.

    Args:
        spark: the session.
        sizes: what is to be collected.
        no_components: the largest size that the embeddings may have.
        max_share: the share of the driver's memory that may be used.
        n_drawn: how many negatives are going to be drawn for each epoch.
        features: how many there are beside the pairs.

    Raises:
        MemoryLimitError: with the numbers and what to change.
    """
    n_pairs = sizes.pairs
    drawn = f" and {n_drawn:,} drawn negatives" if n_drawn else ""
    described = f", {features.rows:,} features of them" if features.rows else ""
    if n_pairs + n_drawn > _MAX_PAIRS:
        fewer = "training.negatives_per_positive, or " if n_drawn else ""
        raise MemoryLimitError(
            f"{n_pairs:,} interactions{drawn} are more than the {_MAX_PAIRS:,} that LightFM can "
            f"train on; lower {fewer}filters.last_days, or raise the minimum numbers of "
            "interactions in filters"
        )
    # Each is a result of its own.
    for what, n_bytes in (
        (f"{n_pairs:,} interactions", n_pairs * RESULT_BYTES_PER_PAIR),
        (f"{sizes.users:,} user ids", sizes.user_bytes),
        (f"{sizes.items:,} item ids", sizes.item_bytes),
    ):
        check_result(
            spark,
            what,
            n_bytes,
            "raise it, or raise the minimum numbers of interactions in filters",
        )
    check_fits(
        what=f"{n_pairs:,} interactions{drawn} of {sizes.users:,} users and {sizes.items:,} items "
        f"with {no_components} components{described}",
        needed=sum(driver_bytes(sizes, no_components, n_drawn, features).values()),
        heap=heap_bytes(spark),
        max_share=max_share,
        remedy="take a larger machine, lower spark.driver.memory, training.no_components or "
        f"training.second_view_rank"
        f"{' or training.negatives_per_positive' if n_drawn else ''}, or raise the minimum numbers "
        "of interactions in filters",
    )
