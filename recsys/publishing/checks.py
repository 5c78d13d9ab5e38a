"""What lists are like, found in the lists themselves, for `recsys.publishing.gates` to judge.

Nothing here goes through the code that made the lists: items seen are looked up in the
interactions, and what may be recommended in its own sources. Every count comes with an example, the
smallest id, so that nothing depends on where a row lies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys.columns import (
    ITEM,
    LIKED,
    N_ITEMS,
    RANK,
    REQUESTED,
    SCORE,
    SOURCE,
    STATUS,
    USER,
    IdTypes,
)
from recsys.config.sections import CandidateList, ItemList
from recsys.ingest.failures import reading
from recsys.kernel.worker import FEATURES, FOLD_IN, MODEL
from recsys.score.candidates import read_pairs
from recsys.score.ranking import read_items

_WITH_A_LIST = ("scored", "folded_in", "described", "fell_back")
_ENTRIES, _PERSONAL, _ROWS = "entries", "personal", "rows"
_ASKED, _TOLD, _LISTED, _FEWEST, _MOST = "asked", "told", "listed", "fewest", "most"


@dataclass(frozen=True)
class Fault:
    """How often something is wrong, and where for example."""

    count: int
    example: str | None = None


@dataclass(frozen=True)
class ByUser:
    """What a pass over all users found.

    Attributes:
        users: distinct valid ids that were asked for.
        full: those of them with at least k rows.
        personal: lists that were made with the model.
        statuses: faults of the statuses by kind; the example is the request.
        lists: faults of lists by kind; the example is the user.
        not_finite: rows with a score that is no finite number; the example is the user.
    """

    users: int
    full: int
    personal: int
    statuses: dict[str, Fault]
    lists: dict[str, Fault]
    not_finite: Fault


def by_user(lists: DataFrame, statuses: DataFrame, asked: DataFrame, k: int) -> ByUser:
    """Compare requests, statuses and lists, and look at each list, in one pass over all three."""
    lengths = F.size(_ENTRIES)
    bad_scores = F.size(F.filter(f"{_ENTRIES}.{SCORE}", lambda score: ~_finite(score)))
    per_list = (
        lists.groupBy(USER)
        .agg(
            F.sort_array(F.collect_list(F.struct(RANK, ITEM, SCORE))).alias(_ENTRIES),
            F.bool_or(is_personal()).alias(_PERSONAL),
        )
        .select(
            USER,
            _PERSONAL,
            lengths.alias(_ROWS),
            *[fault.alias(name) for name, fault in _list_faults(k).items()],
            bad_scores.alias("not_finite"),
        )
    )
    found = _requests_by_user(asked, statuses).join(per_list, on=USER, how="full")
    rows = F.coalesce(_ROWS, F.lit(0))
    # The statuses of a user's requests must all say what there is.
    agree = (
        (F.col(_FEWEST) == rows)
        & (F.col(_MOST) == rows)
        & (F.col(_LISTED) == F.when(rows > 0, F.col(_TOLD)).otherwise(0))
    )
    user = F.coalesce(F.col(USER).cast("string"), F.lit("null"))
    wrong = _request_faults(rows, agree, user)
    broken = {name: (F.when(F.col(name), 1), user) for name in _list_faults(k)}
    odd = {"not_finite": (F.col("not_finite"), user)}
    faults = {**wrong, **broken, **odd}
    valid = F.col(USER).isNotNull() & _is_asked()
    counts = found.agg(
        F.count_if(valid).alias("users"),
        F.count_if(valid & (rows >= k)).alias("full"),
        F.count_if(_PERSONAL).alias("personal"),
        *[F.sum(count).alias(f"n {name}") for name, (count, _) in faults.items()],
        *[
            F.min(F.when(count > 0, who)).alias(f"who {name}")
            for name, (count, who) in faults.items()
        ],
    ).collect()[0]

    def fault(name: str) -> Fault:
        return Fault(int(counts[f"n {name}"] or 0), counts[f"who {name}"])

    return ByUser(
        users=int(counts["users"]),
        full=int(counts["full"]),
        personal=int(counts["personal"]),
        statuses={name: fault(name) for name in wrong},
        lists={name: fault(name) for name in broken},
        not_finite=fault("not_finite"),
    )


def _request_faults(rows: Column, agree: Column, user: Column) -> dict[str, tuple[Column, Column]]:
    """Say what may be wrong between requests, statuses and lists: a count and an example each."""
    return {
        "requests without a status": (F.col("missing"), F.col("missing_example")),
        "statuses without a request of their own": (F.col("extra"), F.col("extra_example")),
        "users whose status disagrees with their list": (
            F.when((F.col(_TOLD) > 0) & ~F.coalesce(agree, F.lit(False)), 1),
            user,
        ),
        "lists without a request": (F.when((rows > 0) & ~_is_asked(), 1), user),
    }


def _is_asked() -> Column:
    return F.coalesce(F.col(_ASKED) > 0, F.lit(False))


def is_personal() -> Column:
    """Whether a row is of a list that was made with the model."""
    return F.col(SOURCE).isin(MODEL, FOLD_IN, FEATURES)


def _finite(score: Column) -> Column:
    infinite = F.abs(score) == float("inf")
    return score.isNotNull() & ~F.isnan(score) & ~infinite


def _list_faults(k: int) -> dict[str, Column]:
    """Say what may be wrong with `entries`: rank, item and score, in order of rank."""
    entries, length = F.col(_ENTRIES), F.size(_ENTRIES)
    items, ranks = entries[ITEM], entries[RANK]
    scores = F.transform(entries[SCORE], lambda score: F.when(_finite(score), score))
    rises = F.zip_with(F.slice(scores, 2, length), scores, lambda after, before: after > before)
    return {
        f"lists of more than {k} items": length > k,
        "lists with a repeated item": F.size(F.array_distinct(items)) < length,
        "lists with a row without an item": F.exists(items, lambda item: item.isNull()),
        "lists whose ranks are not 1, 2, 3 and so on": ranks != F.sequence(F.lit(1), length),
        "lists whose scores rise": F.coalesce(F.exists(rises, lambda rise: rise), F.lit(False)),
    }


def _requests_by_user(asked: DataFrame, statuses: DataFrame) -> DataFrame:
    """Bring requests and statuses together by request and user, both of which may be null.

    Returns:
        One row a user, null for all requests without a valid id.
    """
    requests = asked.select(
        REQUESTED,
        USER,
        F.lit(1).alias(_ASKED),
        F.lit(0).alias(_TOLD),
        F.lit(None).cast("string").alias(STATUS),
        F.lit(None).cast("int").alias(N_ITEMS),
    )
    answers = statuses.select(
        REQUESTED, USER, F.lit(0).alias(_ASKED), F.lit(1).alias(_TOLD), STATUS, N_ITEMS
    )
    missing, extra = F.col(_ASKED) > F.col(_TOLD), F.col(_TOLD) > F.col(_ASKED)
    request = F.coalesce(REQUESTED, F.lit("null"))
    return (
        requests.unionByName(answers)
        .groupBy(REQUESTED, USER)
        .agg(
            F.sum(_ASKED).alias(_ASKED),
            F.sum(_TOLD).alias(_TOLD),
            F.count_if(F.col(STATUS).isin(*_WITH_A_LIST)).alias(_LISTED),
            F.min(N_ITEMS).alias(_FEWEST),
            F.max(N_ITEMS).alias(_MOST),
        )
        .groupBy(USER)
        .agg(
            F.sum(_ASKED).alias(_ASKED),
            F.sum(_TOLD).alias(_TOLD),
            F.sum(_LISTED).alias(_LISTED),
            F.min(_FEWEST).alias(_FEWEST),
            F.max(_MOST).alias(_MOST),
            F.count_if(missing).alias("missing"),
            F.min(F.when(missing, request)).alias("missing_example"),
            F.count_if(extra).alias("extra"),
            F.min(F.when(extra, request)).alias("extra_example"),
        )
    )


def seen_pairs(pairs: Sequence[DataFrame], asked: DataFrame, item_type: str) -> DataFrame:
    """Return `user_id` and `item_id` of everything that users have seen, with repeats.

    Args:
        pairs: interactions (INTERACTIONS_SCHEMA).
        asked: requests, whose likes count as well.
        item_type: Spark's name of the type of item ids.
    """
    liked = asked.select(USER, F.explode(f"{LIKED}.{ITEM}").alias(ITEM))
    frames = [frame.select(USER, ITEM) for frame in pairs]
    frames.append(liked.select(USER, F.col(ITEM).try_cast(item_type).alias(ITEM)))
    return reduce(DataFrame.unionByName, frames)


def complete(
    lists: DataFrame, asked: DataFrame, seen: DataFrame | None, k: int, n_catalogue: int
) -> int:
    """Count the users who got k items, or all that was left of the catalogue for them.

    Items that a user has seen outside the catalogue count as if they were in it. That errs on the
    user's side, and has no effect where the catalogue is larger than any history plus k.
    """
    lengths = lists.groupBy(USER).agg(F.count(F.lit(1)).alias(_ROWS))
    users = asked.where(F.col(USER).isNotNull()).select(USER).distinct()
    got = users.join(lengths, on=USER, how="left").select(
        USER, F.coalesce(_ROWS, F.lit(0)).alias(_ROWS)
    )
    wanted = F.lit(min(k, n_catalogue))
    if seen is not None:
        short = got.where(F.col(_ROWS) < wanted).select(USER)
        done = seen.join(short, on=USER, how="left_semi").groupBy(USER)
        got = got.join(done.agg(F.count_distinct(ITEM).alias("done")), on=USER, how="left")
        wanted = F.least(wanted, F.lit(n_catalogue) - F.coalesce("done", F.lit(0)))
    return got.where(F.col(_ROWS) >= wanted).count()


def among(lists: DataFrame, others: DataFrame) -> Fault:
    """Count the users' items, each once, that are among other pairs of a user and an item.

    The lists are on the right side of the join, which Spark keeps in memory or broadcasts, because
    they are much smaller.
    """
    listed = lists.select(USER, ITEM)
    return _count_pairs(others.join(listed, on=[USER, ITEM], how="left_semi").distinct())


def outside_candidates(
    spark: SparkSession, lists: DataFrame, wanted: CandidateList, id_types: IdTypes
) -> Fault:
    """Count the rows of lists that are not among the pairs that users have for candidates."""
    own = read_pairs(spark, wanted, id_types)
    with reading(wanted):
        return _count_pairs(lists.select(USER, ITEM).join(own, on=[USER, ITEM], how="left_anti"))


def _count_pairs(rows: DataFrame) -> Fault:
    found = rows.agg(F.count(F.lit(1)).alias("n"), F.min(F.struct(USER, ITEM)).alias("one"))
    row = found.collect()[0]
    return Fault(int(row["n"]), row["one"] and _pair(row["one"]))


def _pair(example: Any) -> str:
    return f"item {example[ITEM]} for user {example[USER]}"


@dataclass(frozen=True)
class ByItem:
    """What a pass over all items found.

    Attributes:
        personal_items: distinct items of the lists that were made with the model.
        personal_rows: rows of these lists.
        top: in how many of these rows the most frequent item is.
        top_item: which that is; of several the largest id.
    """

    personal_items: int
    personal_rows: int
    top: int
    top_item: str | None


def per_item(lists: DataFrame) -> DataFrame:
    """Return what there is of each item, a row for each: small, and to be kept for some passes."""
    return lists.groupBy(ITEM).agg(
        F.count(F.lit(1)).alias(_ROWS),
        F.count_if(is_personal()).alias(_PERSONAL),
        F.min(USER).alias(USER),
    )


def by_item(items: DataFrame) -> ByItem:
    """Sum up what `per_item` returned."""
    row = items.agg(
        F.count_if(F.col(_PERSONAL) > 0).alias("items"),
        F.sum(_PERSONAL).alias("rows"),
        F.max(F.struct(_PERSONAL, ITEM)).alias("top"),
    ).collect()[0]
    top = row["top"]
    return ByItem(
        personal_items=int(row["items"]),
        personal_rows=int(row["rows"] or 0),
        top=0 if top is None else int(top[_PERSONAL]),
        top_item=None if top is None else str(top[ITEM]),
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
    return Fault(int(row["n"] or 0), row["one"] and _pair(row["one"]))
