"""Who is scored, how each user is served, and what became of each request."""

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DataType, NumericType

from recsys.columns import (
    ALSO_SEEN,
    CANDIDATES,
    ITEM,
    ITEM_INDEX,
    KNOWN,
    LIKED,
    LIKES_TYPE,
    N_ITEMS,
    OUTCOMES_SCHEMA,
    REASON,
    REQUESTED,
    SOURCE,
    STATUS,
    TIMES_REQUESTED,
    TRAINED,
    USER,
    WEIGHT,
    WEIGHTS,
    IdTypes,
    names,
)
from recsys.config.sections import Cohort, UserList
from recsys.errors import ConfigError
from recsys.ingest.ids import BLANK, IdColumn, convert_id, id_column
from recsys.ingest.naming import find_column
from recsys.ingest.pairing import liked
from recsys.ingest.source import read_source
from recsys.kernel.worker import FEATURES, FOLD_IN, MODEL, POPULAR
from recsys.model.manifest import PairRules

NONE = "none"

_STATUS = {
    MODEL: "scored",
    FOLD_IN: "folded_in",
    FEATURES: "described",
    POPULAR: "fell_back",
    NONE: "none",
}
_REASONS = {
    MODEL: "scored with the model",
    FOLD_IN: "folded in from what the user likes",
    FEATURES: "not in the training: scored by the user's features",
    POPULAR: "not in the model, nothing to fold in: popular items",
    NONE: "not in the model, and neither scoring.fold_in nor scoring.fallback applies",
}


def requests(
    spark: SparkSession,
    cohort: Cohort,
    id_types: IdTypes,
    pairs: DataFrame,
    candidates: DataFrame | None = None,
) -> DataFrame:
    """Return one row for each id that is asked for, valid or not (REQUESTS_SCHEMA).

    Args:
        spark: the session.
        cohort: a list, or everyone; and how many of them.
        id_types: the model's.
        pairs: the interactions, for everyone.
        candidates: what `stage_candidates` returned: who is asked for where the cohort has no list.

    Returns:
        `requested`: the id as given, text, null where it was; `user_id`: null where that is no id
        of the type; `times_requested`; `liked`: what the list says that they like, in no order.

    Raises:
        InputError: the list cannot be read or lacks the column.
        ConfigError: the condition or the column's type cannot be used.
    """
    nothing = F.lit(None).cast(LIKES_TYPE).alias(LIKED)
    if cohort.users is not None:
        asked = _each_once(read_list(spark, cohort.users, id_types))
    elif candidates is not None:
        asked = _each_once(candidates.select(REQUESTED, USER, nothing))
    else:
        once = F.lit(1).cast("bigint").alias(TIMES_REQUESTED)
        everyone = pairs.select(USER).distinct()
        asked = everyone.select(F.col(USER).cast("string").alias(REQUESTED), USER, once, nothing)
    if cohort.sample is None:
        return asked
    # By a hash of the id, so that the draw does not depend on where a row lies.
    drawn = F.sha2(F.concat_ws(":", F.lit(str(cohort.seed)), F.col(REQUESTED)), 256)
    return asked.orderBy(drawn, REQUESTED).limit(cohort.sample)


def read_list(spark: SparkSession, users: UserList, id_types: IdTypes) -> DataFrame:
    """Read the cohort's list: `requested`, `user_id` and `liked`, one row for each of its rows.

    Raises:
        InputError: the list cannot be read or lacks a column.
        ConfigError: the condition or a column's type cannot be used.
    """
    key = "cohort.users"
    frame = read_source(spark, users, where=users.where, key=key)
    column = IdColumn(users.column, f"{key}.column", id_types.user)
    likes = (
        F.lit(None).cast(LIKES_TYPE) if users.liked is None else _likes(frame, users, id_types.item)
    )
    return frame.select(
        find_column(frame, column.name, column.key, users).cast("string").alias(REQUESTED),
        id_column(frame, users, column).alias(USER),
        likes.alias(LIKED),
    )


def _each_once(rows: DataFrame) -> DataFrame:
    """Make one request of all rows with the same id, and put their likes together."""
    return rows.groupBy(REQUESTED, USER).agg(
        F.count(F.lit(1)).alias(TIMES_REQUESTED),
        F.flatten(F.collect_list(LIKED)).cast(LIKES_TYPE).alias(LIKED),
    )


def _likes(frame: DataFrame, users: UserList, item_type: str) -> Column:
    """Pair the ids of a list's liked items with their weights, ones where it has none."""
    key = "cohort.users.liked"
    liked = find_column(frame, users.liked or "", key, users)
    element = _expect_array(frame, liked, key, DataType, "item ids")

    def converted(item: Column) -> Column:
        return convert_id(item, element, item_type, key)[0].cast("string")

    items = F.transform(liked, converted)
    alike = F.transform(items, lambda item: _like(item, F.lit(1.0)))
    if users.liked_weights is None:
        return alike
    weights = find_column(frame, users.liked_weights, f"{key}_weights", users)
    _expect_array(frame, weights, f"{key}_weights", NumericType, "numbers")
    weighed = F.zip_with(items, weights.cast("array<double>"), _like)
    return F.when(weights.isNull(), alike).otherwise(weighed)


def _like(item: Column, weight: Column) -> Column:
    return F.struct(item.alias(ITEM), weight.alias(WEIGHT))


def _expect_array(
    frame: DataFrame, column: Column, key: str, element: type[DataType], what: str
) -> DataType:
    found = frame.select(column).schema[0].dataType
    if not (isinstance(found, ArrayType) and isinstance(found.elementType, element)):
        raise ConfigError(
            f"{key}: found a column of type {found.simpleString()}, expected an array of {what}"
        )
    return found.elementType


def route(
    asked: DataFrame,
    model_users: DataFrame,
    pairs: DataFrame,
    item_index: DataFrame,
    *,
    fold_in: str,
    fallback: str,
    rules: PairRules,
    candidates: DataFrame | None = None,
    newer: bool = False,
    left_out: DataFrame | None = None,
) -> DataFrame:
    """Decide how each user's list is made, and gather what the model does not know of them.

    Args:
        asked: what `requests` returned.
        model_users: the model's users table.
        pairs: the interactions: what users have done whom the model does not know.
        item_index: `item_id` and `item_index` of the model's items.
        fold_in: `new`, `all` or `none`.
        fallback: `popular` or `none`.
        rules: of the model: which of the interactions are likes.
        newer: whether `pairs` are not those that the model learned from, so that they count for
            users whom it knows, too.
        left_out: `user_id`, each once, of those whom a sample left out of the model; None: nobody.
            They are folded in with `none`, too: the model stands for them.
        candidates: `user_id` and `candidates` (item indices), where users have some of their own.

    Returns:
        ROUTED_SCHEMA but for `part`, one row a user with a valid id. `known`: whether the model has
        a vector of the user. `also_seen`: items that they have seen and that the model may not know
        of; `liked` and `weights`: null where nothing is known to be liked.
    """
    valid = asked.where(F.col(USER).isNotNull())
    users = valid.select(USER).distinct()
    known = model_users.select(USER, F.lit(True).alias(KNOWN), TRAINED)
    trained = known.where(TRAINED).select(USER)
    likes = liked(rules.rating_threshold, weighed_by_rating=rules.weighed_by_rating)
    done = _history(valid, users, trained, pairs, item_index, newer or fold_in == "all", likes)
    known_to_model = F.coalesce(KNOWN, F.lit(False)).alias(KNOWN)
    way = F.when(F.col(TRAINED), MODEL)
    if fold_in == "all":
        way = F.when(F.col(LIKED).isNotNull(), FOLD_IN).when(F.col(TRAINED), MODEL)
    elif fold_in == "new":
        way = way.when(F.col(LIKED).isNotNull(), FOLD_IN)
    elif left_out is not None:
        done = done.join(left_out.select(USER, F.lit(True).alias("left_out")), USER, "left")
        way = way.when(F.col("left_out") & F.col(LIKED).isNotNull(), FOLD_IN)
    way = way.when(known_to_model, FEATURES)
    routed = users.join(known, on=USER, how="left").join(done, on=USER, how="left")
    if candidates is None:
        routed = routed.withColumn(CANDIDATES, F.lit(None).cast("array<int>"))
    else:
        routed = routed.join(candidates, on=USER, how="left")
    source = way.otherwise(POPULAR if fallback == "popular" else NONE).alias(SOURCE)
    # Spark knows that the arrays hold no nulls, which a schema as text cannot say.
    items = [F.col(name).cast("array<int>").alias(name) for name in (ALSO_SEEN, LIKED, CANDIDATES)]
    weights = F.col(WEIGHTS).cast("array<double>").alias(WEIGHTS)
    return routed.select(USER, source, known_to_model, *items, weights)


def together(newer: DataFrame, older: DataFrame) -> DataFrame:
    """Return two tables of interactions as one; of a pair that is in both the newer row."""
    only_older = older.join(newer.select(USER, ITEM), on=[USER, ITEM], how="left_anti")
    return newer.unionByName(only_older.select(*newer.columns))


def _history(
    valid: DataFrame,
    users: DataFrame,
    trained: DataFrame,
    pairs: DataFrame,
    item_index: DataFrame,
    everyone: bool,
    positive: Column,
) -> DataFrame:
    """Return what users have seen and liked: `user_id`, `also_seen`, `liked`, `weights`.

    Of the interactions only those of users whom the model has not learned from, or everyone's; of
    the cohort's list always.
    """
    kind = item_index.schema[ITEM].dataType.simpleString()
    like = F.explode(LIKED).alias("like")
    given = valid.select(USER, like).select(
        USER, F.col(f"like.{ITEM}").try_cast(kind).alias(ITEM), F.col(f"like.{WEIGHT}")
    )
    wanted = users if everyone else users.join(trained, on=USER, how="left_anti")
    found = pairs.join(wanted, on=USER, how="left_semi").select(
        USER, ITEM, F.when(positive, 1.0).alias(WEIGHT)
    )
    # As the float that executors work with: a number too small for it is no weight.
    single = F.col(WEIGHT).cast("float")
    weight = F.max(F.when((single > 0) & (single < float("inf")), F.col(WEIGHT)))
    per_item = (
        given.unionByName(found)
        .join(item_index, on=ITEM, how="inner")
        .groupBy(USER, ITEM_INDEX)
        .agg(weight.alias(WEIGHT))
    )
    likes = F.collect_list(F.when(F.col(WEIGHT).isNotNull(), F.struct(ITEM_INDEX, WEIGHT)))
    gathered = per_item.groupBy(USER).agg(
        F.sort_array(F.collect_list(ITEM_INDEX)).alias(ALSO_SEEN),
        F.sort_array(likes).alias("likes"),
    )
    some = F.size("likes") > 0
    return gathered.select(
        USER,
        ALSO_SEEN,
        F.when(some, F.col(f"likes.{ITEM_INDEX}")).alias(LIKED),
        F.when(some, F.col(f"likes.{WEIGHT}")).alias(WEIGHTS),
    )


def statuses(
    asked: DataFrame,
    routed: DataFrame,
    ranked: DataFrame,
    user_type: str,
    *,
    only_candidates: bool = False,
) -> DataFrame:
    """Say of every request what became of it.

    Args:
        asked: what `requests` returned.
        routed: what `route` returned.
        ranked: the lists that were written.
        user_type: Spark's name of the type of the model's user ids.
        only_candidates: whether users have candidates of their own.

    Returns:
        OUTCOMES_SCHEMA, as many rows as `asked`.
    """
    lengths = ranked.groupBy(USER).agg(F.count(F.lit(1)).cast("int").alias(N_ITEMS))
    n_items = F.coalesce(N_ITEMS, F.lit(0))
    source = F.col(SOURCE)
    invalid = F.col(USER).isNull()
    empty = (n_items == 0) & (source != NONE)
    without = empty & F.lit(only_candidates) & F.col(CANDIDATES).isNull()
    no_id = F.col(REQUESTED).isNull() | F.col(REQUESTED).rlike(BLANK)

    def told(texts: dict[str, str]) -> Column:
        return F.coalesce(*[F.when(source == way, text) for way, text in texts.items()])

    return (
        asked.join(routed.select(USER, SOURCE, CANDIDATES), on=USER, how="left")
        .join(lengths, on=USER, how="left")
        .select(
            REQUESTED,
            USER,
            TIMES_REQUESTED,
            F.when(invalid, "invalid").when(empty, "empty").otherwise(told(_STATUS)).alias(STATUS),
            n_items.alias(N_ITEMS),
            F.when(invalid & no_id, "invalid id: there is none")
            .when(invalid, f"invalid id: not of the type {user_type}")
            .when(without, "no candidates: none of the model's items was given")
            .when(empty, "nothing left after the filters")
            .otherwise(told(_REASONS))
            .alias(REASON),
        )
        .select(*names(OUTCOMES_SCHEMA.format(user=user_type)))
    )
