"""Turn labelled pairs into dense ids and sparse matrices. On the driver."""

import datetime as dt
import logging
from dataclasses import dataclass, replace
from functools import partial

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
from recsys.config.sections import EarlyStopping, SampleWeights, Training
from recsys.errors import InputError
from recsys.ingest.ids import index_frame, index_ids
from recsys.learn import user_sample
from recsys.learn.counting import LOWEST, id_type, measure, per_id
from recsys.learn.negatives import drawn_per_positive
from recsys.learn.pair_stream import collect_columns
from recsys.learn.sample_weights import Labelled, check_lowest
from recsys.learn.sizes import NO_FEATURES, FeatureSizes, Sizes, check_collectable
from recsys.learn.user_sample import Everyone, Sample, Sampled, possible
from recsys.store.tables import Scratch

log = logging.getLogger(__name__)

_SECONDS_PER_DAY = 86_400
_TYPES: dict[str, type[np.generic]] = {
    USER_INDEX: np.int32,
    ITEM_INDEX: np.int32,
    LABEL: np.int8,
    RATING: np.float32,
    AGE: np.float32,
}


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
        sample: which users were taken; None: all.
    """

    user_ids: pa.Array
    item_ids: pa.Array
    labels: sp.coo_matrix
    ratings: NDArray[np.float32] | None
    ages: NDArray[np.float32] | None = None
    weightless_pairs: int = 0
    sample: Sampled | None = None


def collect(
    spark: SparkSession,
    scratch: Scratch,
    pairs: DataFrame,
    settings: Training,
    run_date: dt.date,
    *,
    max_share: float,
    features: FeatureSizes = NO_FEATURES,
    user_features: DataFrame | None = None,
    base: Sample | None = None,
    judging: bool = False,
) -> Interactions:
    """Collect labelled pairs with Arrow into sparse matrices.

    Pairs whose sample weight is 0 are left out, and with them users and items that have no other
    pair. (Their vectors would stay as they were drawn.) Where `training.sample_users` says so, the
    pairs are those of a sample of the users.

    Args:
        spark: the session.
        scratch: brings the ids' indices to the executors.
        pairs: INTERACTIONS_SCHEMA; rows with label 0 are left out.
        settings: say how pairs are weighed, whose are taken, and how much memory training takes.
        run_date: up to whose end (UTC) ages count.
        max_share: the share of the driver's memory that may be used.
        features: how many there are beside the pairs.
        user_features: `id`, a row for each feature of a user; None where there are none.
        base: the sample of the model that the training goes on from, which is taken again; a share
            of 1 for all users. None: as the settings say.
        judging: whether to collect the pairs of some users who are left out, too.

    Raises:
        InputError: nothing is left to learn from.
        MemoryLimitError: it would not fit; nothing was collected.
        TrainingError: the pairs cannot be weighed as configured.
    """
    used = pairs.where(F.col(LABEL) != 0)
    weights = settings.sample_weights
    advice = settings.sample_users != "auto" and base is None
    check = partial(check_sizes, spark, settings=settings, max_share=max_share, advice=advice)
    stopping = settings.early_stopping or EarlyStopping()
    with per_id(used, weights) as (users, items):
        sizes, lowest = measure(users, items)
        check_lowest(lowest)  # of all users, before anything is collected of some
        sizes = replace(sizes, features=features)
        everyone = Everyone(used, users.drop(LOWEST), items, sizes, user_features)
        samples = possible(settings.sample_users) if base is None else _again(base)
        reason = None
        if base is None and settings.sample_users == "auto":
            reason = user_sample.refusal(check, sizes)
            samples = () if reason is None else samples
        n_judged = stopping.max_users * judging
        ids, n_pairs, sample = _ids(everyone, samples, n_judged, check, reason)
    columns = [USER_INDEX, ITEM_INDEX, LABEL]
    if weights.by_rating:
        columns.append(RATING)
    if weights.half_life_days is not None:
        used = used.withColumn(AGE, age(run_date))
        columns.append(AGE)
    found = without_weightless(_matrices(scratch, used, ids, columns, n_pairs), weights)
    if sample is None or sample.judged_ids is None:
        return replace(found, sample=sample)
    judged_ids = sample.judged_ids, found.item_ids
    judged = _matrices(scratch, used, judged_ids, [USER_INDEX, ITEM_INDEX, LABEL]).labels
    return replace(found, sample=replace(sample, judged=judged))


def _again(base: Sample) -> tuple[Sample, ...]:
    return () if base[0] == 1 else (base,)


def _ids(
    everyone: Everyone,
    samples: tuple[Sample, ...],
    n_judged: int,
    check: user_sample.Check,
    reason: str | None,
) -> tuple[tuple[pa.Array, pa.Array], int, Sampled | None]:
    """Return the ids of the users and items that are trained on, and how many pairs they have."""
    sizes = everyone.sizes
    if not samples:
        check(sizes)
        ids = index_ids(everyone.users, USER), index_ids(everyone.items, ITEM)
        return ids, sizes.pairs, None
    with user_sample.chosen(everyone, samples, n_judged, check) as found:
        mine = everyone.used.join(found.users, on=USER, how="left_semi")
        ids = index_ids(found.users, USER), index_ids(mine.select(ITEM).distinct(), ITEM)
        judged = index_ids(found.judged, USER) if n_judged else None
    log.warning(
        "training.sample_users: %g of the users are trained on, %s of %s (%s of them added for "
        "rare items), with %s of %s pairs; the others are folded in where lists are made%s",
        found.share,
        f"{found.sizes.users:,}",
        f"{sizes.users:,}",
        f"{found.added:,}",
        f"{found.sizes.pairs:,}",
        f"{sizes.pairs:,}",
        "" if reason is None else f". Not all users fit: {reason}",
    )
    taken = replace(found.sizes, items=len(ids[1]))
    sample = Sampled(found.share, found.least, found.added, taken, sizes, judged, reason=reason)
    return ids, taken.pairs, sample


def check_sizes(
    spark: SparkSession, sizes: Sizes, *, settings: Training, max_share: float, advice: bool
) -> None:
    """Refuse too little and too much.

    Args:
        spark: the session.
        sizes: what is to be collected.
        settings: say how much memory training takes.
        max_share: the share of the driver's memory that may be used.
        advice: whether to say that a sample of the users, or a smaller one, is another way.

    Raises:
        InputError: there is nothing to learn from.
        MemoryLimitError: it would not fit.
    """
    weights = settings.sample_weights
    if sizes.pairs == 0:
        zeros = "; with training.sample_weights.rating, ratings of 0 are left out, too"
        raise InputError(
            "no interactions are left to learn from; loosen filters.rating_threshold and the date "
            f"window, or check input.columns{zeros if weights.by_rating else ''}"
        )
    check_collectable(
        spark,
        sizes,
        settings.widest,
        max_share,
        n_drawn=sizes.pairs * drawn_per_positive(settings, sizes.negatives),
        features=sizes.features,
        or_else=", or train on fewer users (training.sample_users)" if advice else "",
    )


def _matrices(
    scratch: Scratch,
    used: DataFrame,
    ids: tuple[pa.Array, pa.Array],
    columns: list[str],
    n_pairs: int | None = None,
) -> Interactions:
    """Collect the pairs of these users and items; how many there are is counted if not known."""
    types = [id_type(used, name) for name in (USER, ITEM)]
    user_ids, item_ids = ids
    indexed = (
        used.join(index_frame(scratch, user_ids, types[0], USER, USER_INDEX), on=USER, how="inner")
        .join(index_frame(scratch, item_ids, types[1], ITEM, ITEM_INDEX), on=ITEM, how="inner")
        # The matrices have floats anyway.
        .withColumn(RATING, F.col(RATING).cast("float"))
    )
    found = collect_columns(
        indexed,
        {name: _TYPES[name] for name in columns},
        indexed.count() if n_pairs is None else n_pairs,
        spread_by=USER_INDEX,
    )
    shape = len(user_ids), len(item_ids)
    order = _order(found[USER_INDEX], found[ITEM_INDEX], shape)
    # One column at a time, so that only one is there twice.
    rows, cols, values = (found.pop(name)[order] for name in (USER_INDEX, ITEM_INDEX, LABEL))
    labels = sp.coo_matrix((values.astype(np.float32), (rows, cols)), shape=shape)
    ratings, ages = (found.pop(name)[order] if name in columns else None for name in (RATING, AGE))
    return Interactions(user_ids, item_ids, labels, ratings, ages)


def _order(
    rows: NDArray[np.int32], cols: NDArray[np.int32], shape: tuple[int, int]
) -> NDArray[np.int32]:
    """Return the order by user and item: Spark gives pairs in any order. Each is there once.

    SciPy's conversions put the pairs into their rows and columns by counting, which takes a fifth
    of the time of a sort.
    """
    places = np.arange(len(rows), dtype=np.int32)  # fewer than LightFM can number
    by_item = sp.csr_matrix((places, (cols, rows)), shape=shape[::-1])
    order: NDArray[np.int32] = by_item.tocsc().data
    return order


def age(run_date: dt.date) -> Column:
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
