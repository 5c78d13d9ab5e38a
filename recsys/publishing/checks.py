"""What lists are like, found in the lists themselves, for `recsys.publishing.gates` to judge.

Nothing here goes through the code that made the lists: items seen are looked up in the
interactions, and what may be recommended in its own sources (`recsys.publishing.items`). Every
count comes with an example, the smallest id, so that nothing depends on where a row lies.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys.columns import (
    COLD,
    ITEM,
    LIKED,
    N_ITEMS,
    RANK,
    REQUESTED,
    SCORE,
    STATUS,
    USER,
)
from recsys.publishing.faults import (
    ENTRIES,
    Fault,
    count_pairs,
    finite,
    is_personal,
    list_faults,
    source_faults,
    sources,
)

DESCRIBED = "described"
_WITH_A_LIST = ("scored", "folded_in", DESCRIBED, "fell_back")
_PERSONAL, _ROWS, _CATALOGUE = "personal", "rows", "catalogue"
_DESCRIBED = "described"
_ASKED, _TOLD, _LISTED, _FEWEST, _MOST = "asked", "told", "listed", "fewest", "most"


@dataclass(frozen=True)
class ByUser:
    """What a pass over all users found.

    Attributes:
        users: distinct valid ids that were asked for.
        full: those of them with at least k rows.
        personal: lists that were made with the model.
        described: those of them of users who have nothing but features. Such users with the same
            features have the same list.
        statuses: faults of the statuses by kind; the example is the request.
        lists: faults of lists by kind; the example is the user.
        not_finite: rows with a score that is no finite number; the example is the user.
    """

    users: int
    full: int
    personal: int
    described: int
    statuses: dict[str, Fault]
    lists: dict[str, Fault]
    not_finite: Fault

    @property
    def own(self) -> int:
        """Lists that were made with a vector by what the user has done."""
        return self.personal - self.described


def by_user(
    lists: DataFrame,
    statuses: DataFrame,
    asked: DataFrame,
    k: int,
    *,
    cold: DataFrame | None = None,
    apart: bool = False,
) -> ByUser:
    """Compare requests, statuses and lists, and look at each list, in one pass over all three.

    Args:
        lists: `user_id`, `rank`, `item_id`, `score` and `source`.
        statuses: OUTCOMES_SCHEMA.
        asked: REQUESTS_SCHEMA.
        k: length of a list.
        cold: `item_id` of items that have nothing but features; None: none may be in a list.
        apart: whether these stand at the end of each list, in places of their own.
    """
    faulty = list_faults(k, apart=apart) | ({} if cold is None else source_faults())
    per_list = _per_list(lists, faulty, cold, apart=apart)
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
    broken = {name: (F.when(F.col(name), 1), user) for name in faulty}
    odd = {"not_finite": (F.col("not_finite"), user)}
    faults = {**wrong, **broken, **odd}
    valid = F.col(USER).isNotNull() & _is_asked()
    counts = found.agg(
        F.count_if(valid).alias("users"),
        F.count_if(valid & (rows >= k)).alias("full"),
        F.count_if(_PERSONAL).alias("personal"),
        F.count_if(F.col(_PERSONAL) & (F.col(_DESCRIBED) > 0)).alias("described"),
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
        described=int(counts["described"]),
        statuses={name: fault(name) for name in wrong},
        lists={name: fault(name) for name in broken},
        not_finite=fault("not_finite"),
    )


def _per_list(
    lists: DataFrame, faulty: Mapping[str, Column], cold: DataFrame | None, *, apart: bool
) -> DataFrame:
    """Return a row for each list: whether it is personal, its length, and what is wrong with it."""
    if cold is not None:
        lists = lists.join(F.broadcast(cold.withColumn(COLD, F.lit(True))), on=ITEM, how="left")
        lists = lists.withColumn(COLD, F.coalesce(COLD, F.lit(False)))
    entry = F.struct(RANK, ITEM, SCORE, *([COLD] if apart else []))
    bad_scores = F.size(F.filter(f"{ENTRIES}.{SCORE}", lambda score: ~finite(score)))
    return (
        lists.groupBy(USER)
        .agg(
            F.sort_array(F.collect_list(entry)).alias(ENTRIES),
            F.bool_or(is_personal()).alias(_PERSONAL),
            *([] if cold is None else sources()),
        )
        .select(
            USER,
            _PERSONAL,
            F.size(ENTRIES).alias(_ROWS),
            *[fault.alias(name) for name, fault in faulty.items()],
            bad_scores.alias("not_finite"),
        )
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
            F.count_if(F.col(STATUS) == DESCRIBED).alias(_DESCRIBED),
            F.min(N_ITEMS).alias(_FEWEST),
            F.max(N_ITEMS).alias(_MOST),
        )
        .groupBy(USER)
        .agg(
            F.sum(_ASKED).alias(_ASKED),
            F.sum(_TOLD).alias(_TOLD),
            F.sum(_LISTED).alias(_LISTED),
            F.sum(_DESCRIBED).alias(_DESCRIBED),
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
    lists: DataFrame,
    asked: DataFrame,
    seen: DataFrame | None,
    k: int,
    n_catalogue: int,
    *,
    n_popular: int,
) -> int:
    """Count the users who got k items, or all that was left of the catalogue for them.

    Items that a user has seen outside the catalogue count as if they were in it. That errs on the
    user's side, and has no effect where the catalogue is larger than any history plus k. Lists of
    popular items are made of `n_popular` of the catalogue's items.
    """
    lengths = lists.groupBy(USER).agg(
        F.count(F.lit(1)).alias(_ROWS), F.bool_or(is_personal()).alias(_PERSONAL)
    )
    users = asked.where(F.col(USER).isNotNull()).select(USER).distinct()
    got = users.join(lengths, on=USER, how="left").select(
        USER,
        F.coalesce(_ROWS, F.lit(0)).alias(_ROWS),
        F.when(~F.col(_PERSONAL), n_popular).otherwise(n_catalogue).alias(_CATALOGUE),
    )
    wanted = F.least(F.lit(k), F.col(_CATALOGUE))
    if seen is not None:
        short = got.where(F.col(_ROWS) < wanted).select(USER)
        done = seen.join(short, on=USER, how="left_semi").groupBy(USER)
        got = got.join(done.agg(F.count_distinct(ITEM).alias("done")), on=USER, how="left")
        wanted = F.least(wanted, F.col(_CATALOGUE) - F.coalesce("done", F.lit(0)))
    return got.where(F.col(_ROWS) >= wanted).count()


def among(lists: DataFrame, others: DataFrame) -> Fault:
    """Count the users' items, each once, that are among other pairs of a user and an item.

    The lists are on the right side of the join, which Spark keeps in memory or broadcasts, because
    they are much smaller.
    """
    listed = lists.select(USER, ITEM)
    return count_pairs(others.join(listed, on=[USER, ITEM], how="left_semi").distinct())
