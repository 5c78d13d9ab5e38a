"""Accepted ratings to deduplicated, labelled pairs of user and item."""

import datetime as dt
from collections.abc import Callable

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys.columns import (
    CONFLICTING,
    ITEM,
    LABEL,
    RATING,
    ROWS,
    TIMESTAMP,
    USER,
)
from recsys.config.sections import POLICIES_BY_TIME, Deduplication, Filters
from recsys.errors import InputError

# Below all timestamps, in microseconds since 1970.
_NEVER = -(2**63)


def deduplicate(rows: DataFrame, rule: Deduplication, *, parts: int) -> DataFrame:
    """Make one pair of all rows with the same user and item.

    Equal timestamps are broken by the higher rating. Sums and means add the ratings in ascending
    order, since adding doubles depends on the order.

    Args:
        rows: `user_id`, `item_id`, `rating`, `timestamp`.
        rule: the policy.
        parts: into how many parts the pairs are spread.

    Returns:
        The same columns, and `rows` (how many became one) and `conflicting` (whether their ratings
        differed).
    """
    spread = rows.repartition(parts, USER, ITEM)
    # Most pairs have one row, so that grouping before rows are sent elsewhere would only cost. The
    # aggregates are of numbers alone: for a struct or text Spark would sort all rows.
    if rule.policy in POLICIES_BY_TIME:
        return _at_one_time(spread, rule.policy)
    rating, n_rows = F.col(RATING), F.count(F.lit(1))
    ascending = F.sort_array(F.collect_list(rating))
    total = F.aggregate(ascending, F.lit(0.0), lambda sum_, value: sum_ + value)
    chosen = {
        "max": F.max(rating),
        "min": F.min(rating),
        "sum": total,
        "mean": total / n_rows,
        "count": n_rows.cast("double"),
    }[rule.policy]
    return spread.groupBy(USER, ITEM).agg(
        chosen.alias(RATING),
        F.max(TIMESTAMP).alias(TIMESTAMP),
        n_rows.alias(ROWS),
        (F.min(rating) != F.max(rating)).alias(CONFLICTING),
    )


def _at_one_time(rows: DataFrame, policy: str) -> DataFrame:
    """Take the rating of the latest or the earliest row; of equal timestamps the highest."""
    at_once = rows.groupBy(USER, ITEM, TIMESTAMP).agg(
        F.max(RATING).alias("highest"), F.min(RATING).alias("lowest"), F.count(F.lit(1)).alias(ROWS)
    )
    order = F.coalesce(F.unix_micros(TIMESTAMP), F.lit(_NEVER))
    rating, when = (
        (F.min_by("highest", order), F.min(TIMESTAMP))
        if policy == "first"
        else (F.max_by("highest", order), F.max(TIMESTAMP))
    )
    return at_once.groupBy(USER, ITEM).agg(
        rating.alias(RATING),
        when.alias(TIMESTAMP),
        F.sum(ROWS).alias(ROWS),
        (F.min("lowest") != F.max("highest")).alias(CONFLICTING),
    )


def liked(threshold: float | None, *, weighed_by_rating: bool) -> Column:
    """Return whether a pair's rating makes it a like.

    Args:
        threshold: ratings from here on are likes; None: all are.
        weighed_by_rating: whether ratings are sample weights. A rating of 0 is no like then, since
            nothing can be learned from a pair without weight.
    """
    return _reached(threshold) & (F.col(RATING) != 0) if weighed_by_rating else _reached(threshold)


def _reached(threshold: float | None) -> Column:
    return F.lit(True) if threshold is None else F.col(RATING) >= threshold


def label(
    pairs: DataFrame,
    filters: Filters,
    window: tuple[dt.date | None, dt.date | None],
    *,
    keep_negatives: bool,
    weighed_by_rating: bool,
) -> DataFrame:
    """Decide what each pair is to training: 1 positive, -1 negative, 0 left out.

    Args:
        pairs: what `deduplicate` returns.
        filters: the threshold.
        window: first and last day (UTC, both included), each may be None.
        keep_negatives: whether pairs below the threshold are negatives or left out.
        weighed_by_rating: whether ratings are sample weights. A rating of 0 that reaches the
            threshold is then left out, and is no negative either.

    Returns:
        The columns of INTERACTIONS_SCHEMA.
    """
    inside = F.lit(True)
    since, until = window
    if since is not None:
        inside = inside & (F.col(TIMESTAMP) >= _midnight(since, 0))
    if until is not None:
        inside = inside & (F.col(TIMESTAMP) < _midnight(until, 1))
    below = -1 if keep_negatives else 0
    positive = liked(filters.rating_threshold, weighed_by_rating=weighed_by_rating)
    decided = (
        F.when(~inside, 0)
        .when(positive, 1)
        .when(_reached(filters.rating_threshold), 0)
        .otherwise(below)
        .cast("tinyint")
    )
    return pairs.select(USER, ITEM, RATING, TIMESTAMP, decided.alias(LABEL), ROWS, CONFLICTING)


def _midnight(day: dt.date, later: int) -> Column:
    """Return the beginning (UTC) of a day, or of one some days later, past 9999 too."""
    days = day.toordinal() - dt.date(1970, 1, 1).toordinal() + later
    return F.timestamp_seconds(F.lit(days * 86_400))


def drop_rare(
    labelled: DataFrame, filters: Filters, checkpoint: Callable[[DataFrame], DataFrame]
) -> DataFrame:
    """Leave out users and items with too few labelled pairs, until all that are left have enough.

    The result is the largest such set (a core of the bipartite graph), so it does not depend on the
    order in which they are left out.

    Args:
        labelled: what `label` returns; read several times.
        filters: the minimum numbers of pairs.
        checkpoint: materialises a DataFrame and cuts its lineage. Each round joins the one before
            with itself twice, so that without it the plan would grow exponentially.

    Returns:
        The same pairs, with label 0 where the user or the item was left out.

    Raises:
        InputError: nobody is left.
    """
    minimums = {USER: filters.min_user_interactions, ITEM: filters.min_item_interactions}
    active = {name: least for name, least in minimums.items() if least > 1}
    if not active:
        return labelled
    kept = checkpoint(labelled.where(F.col(LABEL) != 0).select(USER, ITEM))
    before = kept.count()
    while True:
        thinned = kept
        for name, least in active.items():
            enough = thinned.groupBy(name).count().where(F.col("count") >= least).select(name)
            thinned = thinned.join(enough, on=name, how="left_semi")
        kept = checkpoint(thinned.select(USER, ITEM))
        after = kept.count()
        if after == before:
            break
        before = after
    if before == 0:
        raise InputError(
            "nothing is left after filters.min_user_interactions "
            f"({filters.min_user_interactions}) and filters.min_item_interactions "
            f"({filters.min_item_interactions}); lower them"
        )
    mark = kept.withColumn("kept", F.lit(True))
    return labelled.join(mark, on=[USER, ITEM], how="left").select(
        USER,
        ITEM,
        RATING,
        TIMESTAMP,
        F.when(F.col("kept"), F.col(LABEL)).otherwise(F.lit(0).cast("tinyint")).alias(LABEL),
        ROWS,
        CONFLICTING,
    )
