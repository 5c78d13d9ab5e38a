"""Candidates of each user's own (`items.candidates`): a table of pairs, read once.

The same rows say who is asked for, where the cohort has no list, and which items each user may get.
"""

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys.columns import (
    CANDIDATE_ROWS_SCHEMA,
    CANDIDATES,
    ITEM,
    ITEM_INDEX,
    REQUESTED,
    USER,
    IdTypes,
    names,
)
from recsys.config.sections import CandidateList
from recsys.ingest.failures import reading
from recsys.ingest.ids import IdColumn, id_column
from recsys.ingest.naming import find_column
from recsys.ingest.source import read_source
from recsys.score.manifest import CandidateCounts

KEY = "items.candidates"


def read_pairs(spark: SparkSession, wanted: CandidateList, id_types: IdTypes) -> DataFrame:
    """Read the table of candidates: `requested`, `user_id` and `item_id`, null where there is none.

    Raises:
        InputError: the table cannot be read or lacks a column.
        ConfigError: the condition or a column's type cannot be used.
    """
    frame = read_source(spark, wanted, where=wanted.where, key=KEY)
    user = IdColumn(wanted.user, f"{KEY}.user", id_types.user)
    item = IdColumn(wanted.item, f"{KEY}.item", id_types.item)
    return frame.select(
        find_column(frame, user.name, user.key, wanted).cast("string").alias(REQUESTED),
        id_column(frame, wanted, user).alias(USER),
        id_column(frame, wanted, item).alias(ITEM),
    )


def stage_candidates(
    spark: SparkSession,
    wanted: CandidateList,
    item_index: DataFrame,
    place: str,
    id_types: IdTypes,
) -> DataFrame:
    """Read the table of candidates, write it down, and return what was written.

    Args:
        spark: the session.
        wanted: the table.
        item_index: `item_id` and `item_index` of the model's items.
        place: where to write, so that requests, lists and counts are of the same rows.
        id_types: the model's.

    Returns:
        CANDIDATE_ROWS_SCHEMA: `requested` is the user id as given, text; `user_id` and `item_index`
        are null where there is no valid id, or no such item.

    Raises:
        InputError: the table cannot be read or lacks a column.
        ConfigError: the condition or a column's type cannot be used.
    """
    rows = read_pairs(spark, wanted, id_types).join(item_index, on=ITEM, how="left")
    schema = id_types.fill(CANDIDATE_ROWS_SCHEMA)
    with reading(wanted):
        rows.select(*names(schema)).write.parquet(place)
    return spark.read.schema(schema).parquet(place)


def count_candidates(rows: DataFrame) -> CandidateCounts:
    """Count what `stage_candidates` returned."""
    no_user, no_item = F.col(USER).isNull(), F.col(ITEM_INDEX).isNull()
    counts = rows.agg(
        F.count(F.lit(1)).alias("rows"),
        F.count_if(no_user).alias("invalid_users"),
        F.count_if(~no_user & no_item).alias("unknown_items"),
        F.count_distinct(USER, ITEM_INDEX).alias("pairs"),
    ).collect()[0]
    found = {name: int(value) for name, value in counts.asDict().items()}
    usable = found["rows"] - found["invalid_users"] - found["unknown_items"]
    return CandidateCounts(**found, repeated=usable - found["pairs"])


def candidate_lists(rows: DataFrame) -> DataFrame:
    """Return `user_id` and `candidates` (item indices in ascending order, each once)."""
    usable = F.col(USER).isNotNull() & F.col(ITEM_INDEX).isNotNull()
    items = F.sort_array(F.collect_set(ITEM_INDEX)).alias(CANDIDATES)
    return rows.where(usable).groupBy(USER).agg(items)
