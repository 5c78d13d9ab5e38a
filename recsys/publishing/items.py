"""What the items of lists are like, for `recsys.publishing.gates` to judge.

As in `recsys.publishing.checks`, nothing here goes through the code that made the lists.
"""

from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys.columns import COLD, ITEM, STATUS, USER, IdTypes
from recsys.config.sections import CandidateList, ItemList
from recsys.ingest.failures import reading
from recsys.publishing.checks import DESCRIBED
from recsys.publishing.faults import Fault, count_pairs, is_personal, pair
from recsys.score.candidates import read_pairs
from recsys.score.ranking import read_items

_ROWS, _PERSONAL, _OWN = "rows", "personal", "own"


@dataclass(frozen=True)
class ByItem:
    """What a pass over all items found.

    Attributes:
        personal_rows: rows of lists that were made with the model.
        cold_rows: those of them whose item has nothing but features.
        own_items: distinct items of the lists that were made with a vector by what users have done.
        own_rows: rows of these lists.
        top: in how many of these rows the most frequent item is.
        top_item: which that is; of several the largest id.
        cold: rows of all lists whose item has nothing but features.
    """

    personal_rows: int
    cold_rows: int
    own_items: int
    own_rows: int
    top: int
    top_item: str | None
    cold: Fault


def described_users(statuses: DataFrame) -> DataFrame:
    """Return `user_id` of those who have nothing but features, each once."""
    return statuses.where(F.col(STATUS) == DESCRIBED).select(USER).distinct()


def per_item(lists: DataFrame, described: DataFrame | None) -> DataFrame:
    """Return what there is of each item, a row for each: small, and to be kept for some passes.

    Args:
        lists: as in `Subject`.
        described: `user_id` of users who have nothing but features; None for none.
    """
    own = is_personal()
    if described is not None:
        lists = lists.join(described.withColumn(DESCRIBED, F.lit(True)), on=USER, how="left")
        own &= F.col(DESCRIBED).isNull()
    return lists.groupBy(ITEM).agg(
        F.count(F.lit(1)).alias(_ROWS),
        F.count_if(is_personal()).alias(_PERSONAL),
        F.count_if(own).alias(_OWN),
        F.min(USER).alias(USER),
    )


def by_item(items: DataFrame, cold: DataFrame | None, *, cold_on_top: bool) -> ByItem:
    """Sum up what `per_item` returned.

    Args:
        items: that.
        cold: `item_id` of items that have nothing but features; None: there are none.
        cold_on_top: whether one of these may be the most frequent item.
    """
    if cold is None:
        items = items.withColumn(COLD, F.lit(False))
    else:
        items = items.join(cold.withColumn(COLD, F.lit(True)), on=ITEM, how="left")
    is_cold = F.coalesce(COLD, F.lit(False))
    on_top = F.lit(True) if cold_on_top else ~is_cold
    row = items.agg(
        F.sum(_PERSONAL).alias("personal"),
        F.sum(F.when(is_cold, F.col(_PERSONAL))).alias("cold_personal"),
        F.count_if(F.col(_OWN) > 0).alias("own_items"),
        F.sum(_OWN).alias("own"),
        F.max(F.when(on_top, F.struct(_OWN, ITEM))).alias("top"),
        F.sum(F.when(is_cold, F.col(_ROWS))).alias("cold"),
        F.min(F.when(is_cold, F.struct(USER, ITEM))).alias("one"),
    ).collect()[0]
    top = row["top"]
    return ByItem(
        personal_rows=int(row["personal"] or 0),
        cold_rows=int(row["cold_personal"] or 0),
        own_items=int(row["own_items"]),
        own_rows=int(row["own"] or 0),
        top=0 if top is None else int(top[_OWN]),
        top_item=None if top is None else str(top[ITEM]),
        cold=Fault(int(row["cold"] or 0), row["one"] and pair(row["one"])),
    )


def outside_list(
    spark: SparkSession,
    items: DataFrame,
    chosen: ItemList,
    key: str,
    *,
    item_type: str,
    denied: bool,
) -> Fault:
    """Count the rows whose item is not in a list of items, or, where that denies, the others.

    Args:
        spark: the session.
        items: what `per_item` returned.
        chosen: the list, read again.
        key: its place in the configuration.
        item_type: Spark's name of the type of item ids.
        denied: whether the list has what may not be there.
    """
    listed = read_items(spark, chosen, key, item_type)
    wrong = items.join(listed.distinct(), on=ITEM, how="left_semi" if denied else "left_anti")
    with reading(chosen):
        row = wrong.agg(
            F.sum(_ROWS).alias("n"), F.min(F.struct(USER, ITEM)).alias("one")
        ).collect()[0]
    return Fault(int(row["n"] or 0), row["one"] and pair(row["one"]))


def outside_candidates(
    spark: SparkSession, lists: DataFrame, wanted: CandidateList, id_types: IdTypes
) -> Fault:
    """Count the rows of lists that are not among the pairs that users have for candidates."""
    own = read_pairs(spark, wanted, id_types)
    with reading(wanted):
        return count_pairs(lists.select(USER, ITEM).join(own, on=[USER, ITEM], how="left_anti"))
