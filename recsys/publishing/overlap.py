"""How much users' lists have in common with the ones that were published before."""

import math
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.columns import ITEM, USER
from recsys.publishing.faults import is_personal


@dataclass(frozen=True)
class Overlap:
    """What users' lists have in common with their earlier ones.

    Attributes:
        users: who have a list made with the model in both.
        mean: over these, of the share of the shorter list that is in the other; None without any.
    """

    users: int
    mean: float | None


def overlap(lists: DataFrame, earlier: DataFrame, apart: DataFrame | None = None) -> Overlap:
    """Compare two publications, user by user; the order of the items has no effect.

    apart: `item_id` of items that have places of their own, and are not compared; None for none.
    """
    if apart is not None:
        lists, earlier = (frame.join(apart, on=ITEM, how="left_anti") for frame in (lists, earlier))
    both = _items_of(lists, "now").join(_items_of(earlier, "then"), on=USER, how="inner")
    common = F.size(F.array_intersect("now", "then"))
    shorter = F.least(F.size("now"), F.size("then"))
    counted = both.groupBy(common.alias("common"), shorter.alias("shorter")).count().collect()
    users = sum(row["count"] for row in counted)
    # Summed without rounding, so that the order in which the groups come has no effect.
    total = math.fsum(row["common"] / row["shorter"] * row["count"] for row in counted)
    return Overlap(users, total / users if users else None)


def _items_of(lists: DataFrame, name: str) -> DataFrame:
    personal = lists.where(is_personal() & F.col(ITEM).isNotNull())
    return personal.groupBy(USER).agg(F.collect_set(ITEM).alias(name))
