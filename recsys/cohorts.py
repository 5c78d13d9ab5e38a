"""Who is scored: everyone asked for, each by a way, and afterwards what became of each."""

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys.columns import (
    BIAS,
    EMBEDDING,
    ITEM,
    ITEM_INDEX,
    N_ITEMS,
    REASON,
    REQUESTED,
    SEEN,
    SOURCE,
    STATUS,
    STATUS_SCHEMA,
    TIMES_REQUESTED,
    USER,
    names,
)
from recsys.config import Cohort, UserList
from recsys.kernel.worker import MODEL, POPULAR
from recsys.ratings import BLANK, convert_id
from recsys.source import find_column, read_source

NONE = "none"

REQUESTS_SCHEMA = "requested string, user_id {user}, times_requested bigint"
_STATUS = {MODEL: "scored", POPULAR: "fell_back", NONE: "none"}
_REASONS = {
    MODEL: "scored with the model",
    POPULAR: "not in the model: popular items",
    NONE: "not in the model, and scoring.fallback is none",
}


def requests(spark: SparkSession, cohort: Cohort, user_type: str, pairs: DataFrame) -> DataFrame:
    """Return one row for each id that is asked for, valid or not (REQUESTS_SCHEMA).

    Args:
        spark: the session.
        cohort: a list, or everyone; and how many of them.
        user_type: Spark's name of the type of the model's user ids.
        pairs: the interactions, for everyone.

    Returns:
        `requested`: the id as given, text, null where it was; `user_id`: null where that is no id
        of the type; `times_requested`.

    Raises:
        InputError: the list cannot be read or lacks the column.
        ConfigError: the condition or the column's type cannot be used.
    """
    if cohort.users is None:
        once = F.lit(1).cast("bigint").alias(TIMES_REQUESTED)
        users = pairs.select(USER).distinct()
        asked = users.select(F.col(USER).cast("string").alias(REQUESTED), USER, once)
    else:
        asked = _listed(spark, cohort.users, user_type)
    if cohort.sample is None:
        return asked
    # By a hash of the id, so that the draw does not depend on where a row lies.
    drawn = F.sha2(F.concat_ws(":", F.lit(str(cohort.seed)), F.col(REQUESTED)), 256)
    return asked.orderBy(drawn, REQUESTED).limit(cohort.sample)


def _listed(spark: SparkSession, users: UserList, user_type: str) -> DataFrame:
    frame = read_source(spark, users, where=users.where, key="cohort.users")
    column = find_column(frame, users.column, "cohort.users.column", users)
    raw = frame.select(column.alias(REQUESTED))
    user, _ = convert_id(
        F.col(REQUESTED), raw.schema[REQUESTED].dataType, user_type, "cohort.users.column"
    )
    return (
        raw.select(F.col(REQUESTED).cast("string"), user.alias(USER))
        .groupBy(REQUESTED, USER)
        .agg(F.count(F.lit(1)).alias(TIMES_REQUESTED))
    )


def ways(
    asked: DataFrame,
    model_users: DataFrame,
    pairs: DataFrame,
    item_index: DataFrame,
    fallback: str,
) -> DataFrame:
    """Decide for each user by which way a list is made, and bring together what that needs.

    Args:
        asked: what `requests` returned.
        model_users: the model's users table.
        pairs: the interactions: what users have seen whom the model does not know.
        item_index: `item_id` and `item_index` of the model's items.
        fallback: `popular` or `none`.

    Returns:
        One row a user with a valid id: `user_id`, `source`, `embedding` and `bias` (null outside
        of the model), `seen`.
    """
    users = asked.where(F.col(USER).isNotNull()).select(USER).distinct()
    known = model_users.select(USER, EMBEDDING, BIAS, SEEN)
    unknown = users.join(known, on=USER, how="left_anti")
    history = (
        pairs.select(USER, ITEM)
        .join(unknown, on=USER, how="left_semi")
        .join(item_index, on=ITEM, how="inner")
        .groupBy(USER)
        .agg(F.sort_array(F.collect_list(ITEM_INDEX)).alias("history"))
    )
    way = F.when(F.col(EMBEDDING).isNotNull(), MODEL)
    return (
        users.join(known, on=USER, how="left")
        .join(history, on=USER, how="left")
        .select(
            USER,
            way.otherwise(POPULAR if fallback == "popular" else NONE).alias(SOURCE),
            EMBEDDING,
            BIAS,
            F.coalesce(SEEN, "history", F.array().cast("array<int>")).alias(SEEN),
        )
    )


def statuses(asked: DataFrame, routed: DataFrame, ranked: DataFrame, user_type: str) -> DataFrame:
    """Say of every request what became of it.

    Args:
        asked: what `requests` returned.
        routed: what `ways` returned.
        ranked: the lists that were written.
        user_type: Spark's name of the type of the model's user ids.

    Returns:
        STATUS_SCHEMA, as many rows as `asked`.
    """
    lengths = ranked.groupBy(USER).agg(F.count(F.lit(1)).cast("int").alias(N_ITEMS))
    n_items = F.coalesce(N_ITEMS, F.lit(0))
    source = F.col(SOURCE)
    invalid = F.col(USER).isNull()
    empty = (n_items == 0) & (source != NONE)
    no_id = F.col(REQUESTED).isNull() | F.col(REQUESTED).rlike(BLANK)

    def told(texts: dict[str, str]) -> Column:
        return F.coalesce(*[F.when(source == way, text) for way, text in texts.items()])

    return (
        asked.join(routed.select(USER, SOURCE), on=USER, how="left")
        .join(lengths, on=USER, how="left")
        .select(
            REQUESTED,
            USER,
            TIMES_REQUESTED,
            F.when(invalid, "invalid").when(empty, "empty").otherwise(told(_STATUS)).alias(STATUS),
            n_items.alias(N_ITEMS),
            F.when(invalid & no_id, "invalid id: there is none")
            .when(invalid, f"invalid id: not of the type {user_type}")
            .when(empty, "nothing left after the filters")
            .otherwise(told(_REASONS))
            .alias(REASON),
        )
        .select(*names(STATUS_SCHEMA.format(user=user_type)))
    )
