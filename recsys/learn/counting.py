"""How many pairs there are of each user and each item, before any is collected. With Spark."""

from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys.columns import ITEM, LABEL, RATING, USER
from recsys.config.sections import SampleWeights
from recsys.ingest.ids import id_bytes
from recsys.learn.sizes import Sizes
from recsys.learn.user_sample import N_BYTES, N_NEGATIVES, N_PAIRS, kept_by_spark

LOWEST = "lowest"


@contextmanager
def per_id(used: DataFrame, policy: SampleWeights) -> Iterator[tuple[DataFrame, DataFrame]]:
    """Give a row for each user and for each item, kept by Spark while they are looked at.

    Two aggregates, each by one column: a single one with two distinct counts would multiply the
    rows, and could not say how long the ids are.

    Args:
        used: labelled pairs (INTERACTIONS_SCHEMA).
        policy: how they are weighed.

    Yields:
        `user_id`, `n_pairs`, `n_negatives`, `n_bytes` and `lowest` (the lowest rating that has to
        be a weight, float; null: none); and `item_id` and `n_pairs`.
    """
    n_pairs = F.count(F.lit(1)).alias(N_PAIRS)
    weighed = (F.col(LABEL) > 0) & F.lit(policy.by_rating)
    lowest = F.min(F.when(weighed, F.col(RATING).cast("float"))).alias(LOWEST)
    users = (
        used.groupBy(USER)
        .agg(n_pairs, F.count_if(F.col(LABEL) < 0).alias(N_NEGATIVES), lowest)
        .withColumn(N_BYTES, id_bytes(USER, id_type(used, USER)))
    )
    with kept_by_spark(users) as users, kept_by_spark(used.groupBy(ITEM).agg(n_pairs)) as items:
        yield users, items


def measure(per_user: DataFrame, per_item: DataFrame) -> tuple[Sizes, float]:
    """Measure by one row for each user and for each item, as `per_id` gives them.

    Returns:
        How much there is; and the lowest rating that has to be a weight, 0 where none has to.
    """
    totals = [_total(F.col(name)) for name in (N_BYTES, N_PAIRS, N_NEGATIVES)]
    lowest = F.coalesce(F.min(LOWEST), F.lit(0.0))
    of_users = per_user.agg(F.count(F.lit(1)), *totals, lowest).collect()[0]
    n_users, user_bytes, n_pairs, n_negatives, found = of_users
    item_bytes = _total(id_bytes(ITEM, id_type(per_item, ITEM)))
    n_items, item_bytes = per_item.agg(F.count(F.lit(1)), item_bytes).collect()[0]
    return Sizes(n_pairs, n_negatives, n_users, n_items, user_bytes, item_bytes), found


def _total(column: Column) -> Column:
    return F.coalesce(F.sum(column), F.lit(0))


def id_type(frame: DataFrame, name: str) -> str:
    """Return the type of a column of ids, as Spark writes it."""
    return frame.schema[name].dataType.simpleString()
