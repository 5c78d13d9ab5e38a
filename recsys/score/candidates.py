"""Items that are candidates for one user alone: pairs of ids in, lists of item indices out."""

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys.columns import CANDIDATES, ITEM, ITEM_INDEX, USER
from recsys.config.sections import CandidateList
from recsys.ingest.ids import convert_id
from recsys.ingest.source import find_column, read_source, reading


def read_candidates(
    spark: SparkSession,
    wanted: CandidateList,
    item_index: DataFrame,
    place: str,
    *,
    user_type: str,
    item_type: str,
) -> tuple[DataFrame, dict[str, int]]:
    """Return each user's candidates, and what was found.

    Args:
        spark: the session.
        wanted: the table of pairs.
        item_index: `item_id` and `item_index` of the model's items.
        place: where to write them down, so that lists and counts are of the same pairs.
        user_type: Spark's name of the type of the model's user ids.
        item_type: and of its item ids.

    Returns:
        `user_id` and `candidates` (item indices in ascending order, each once); and counts of
        `rows`, of rows without a valid user id (`invalid_users`), of rows with one whose item is no
        id or not in the model (`unknown_items`), and of repeats (`repeated`). The rest are `pairs`.

    Raises:
        InputError: the table cannot be read or lacks a column.
        ConfigError: the condition or a column's type cannot be used.
    """
    key = "items.candidates"
    frame = read_source(spark, wanted, where=wanted.where, key=key)
    raw = frame.select(
        find_column(frame, wanted.user, f"{key}.user", wanted).alias(USER),
        find_column(frame, wanted.item, f"{key}.item", wanted).alias(ITEM),
    )
    user, _ = convert_id(F.col(USER), raw.schema[USER].dataType, user_type, f"{key}.user")
    item, _ = convert_id(F.col(ITEM), raw.schema[ITEM].dataType, item_type, f"{key}.item")
    found_rows = raw.select(user.alias(USER), item.alias(ITEM))
    with reading(wanted):
        found_rows.join(item_index, on=ITEM, how="left").write.parquet(place)
    rows = spark.read.parquet(place)
    no_user, no_item = F.col(USER).isNull(), F.col(ITEM_INDEX).isNull()
    counts = rows.agg(
        F.count(F.lit(1)).alias("rows"),
        F.count_if(no_user).alias("invalid_users"),
        F.count_if(~no_user & no_item).alias("unknown_items"),
        F.count_distinct(USER, ITEM_INDEX).alias("pairs"),
    ).collect()[0]
    found = {name: int(value) for name, value in counts.asDict().items()}
    usable = found["rows"] - found["invalid_users"] - found["unknown_items"]
    found["repeated"] = usable - found["pairs"]
    lists = (
        rows.where(~no_user & ~no_item)
        .groupBy(USER)
        .agg(F.sort_array(F.collect_set(ITEM_INDEX)).alias(CANDIDATES))
    )
    return lists, found
