"""Choose whole users to train on, where not all of them fit. With Spark; numbers alone come back.

Users are put into strata by the length of their histories: 1, 2 to 3, 4 to 7, 8 to 15 pairs and so
on. In each stratum a hash of the id puts them in order, and the first of them are taken, the same
share of each stratum. So the sample is the same for any partitioning, and that of a smaller share
is a part of that of a larger one.

Users who are rare would take items with them that only they have. So each item that has at least
ENOUGH pairs keeps at least LEAST: users are added who have most of the items that lack some.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

import pyarrow as pa
import scipy.sparse as sp
from py4j.protocol import Py4JError
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recsys.columns import ID, ITEM, POSITION, USER
from recsys.errors import MemoryLimitError
from recsys.learn.sizes import Sizes

log = logging.getLogger(__name__)

STEPS = (0.75, 0.5, 0.35, 0.25, 0.15, 0.1, 0.05, 0.02, 0.01)  # of `auto`, the largest first
LEAST, ENOUGH = 5, 20
N_PAIRS, N_NEGATIVES, N_BYTES = "n_pairs", "n_negatives", "n_bytes"
_N_FEATURES, _TAKEN = "n_features", "taken"

Check = Callable[[Sizes], None]
Sample = tuple[float, int]  # the share of the users, and how many pairs each item keeps


@dataclass(frozen=True)
class Everyone:
    """All users, some of whom are taken.

    Attributes:
        used: labelled pairs.
        users: `user_id`, `n_pairs`, `n_negatives` and `n_bytes`, each user once.
        items: `item_id` and `n_pairs`, each item once.
        sizes: how much all of them have.
        described: `id`, a row for each feature of a user; None where there are none.
    """

    used: DataFrame
    users: DataFrame
    items: DataFrame
    sizes: Sizes
    described: DataFrame | None = None


@dataclass(frozen=True)
class Chosen:
    """Which users are trained on.

    Attributes:
        share: of the users of each stratum.
        least: how many pairs each item keeps that has enough; 0: any number.
        users: `user_id`, each once.
        added: how many of them were added for the items.
        sizes: what they have; of items those of all users.
        judged: `user_id` of some who are left out: those who would be the next of the sample.
    """

    share: float
    least: int
    users: DataFrame
    added: int
    sizes: Sizes
    judged: DataFrame


@dataclass(frozen=True)
class Sampled:
    """Which users were taken of all, and some of the others.

    Attributes:
        share: of the users.
        least: how many pairs each item keeps that has enough; 0: any number.
        added: users who were added for items.
        taken, everyone: how much the sample and all users have.
        judged_ids: some users who are left out, in ascending order; None where nobody is judged.
        judged: `(n_judged, n_items)` COO, float32, 1 or -1: their pairs with items of the sample.
        reason: why not all were taken: the first limit that all users exceed, the numbers, and
            what to change; None where a share was asked for, or is that of an earlier model.
    """

    share: float
    least: int
    added: int
    taken: Sizes
    everyone: Sizes
    judged_ids: pa.Array | None = None
    judged: sp.coo_matrix | None = None
    reason: str | None = None


def possible(wanted: str | float) -> tuple[Sample, ...]:
    """Return which samples `training.sample_users` allows, the first that fits is taken.

    Those without a minimum of items come last: for where items cannot keep it in any share.

    Args:
        wanted: `auto`, a share, or `refuse`, which allows none, as a share of 1 does.
    """
    if wanted in ("refuse", 1):
        return ()
    shares = STEPS if isinstance(wanted, str) else (wanted,)
    return (*((share, LEAST) for share in shares), *((share, 0) for share in shares))


@contextmanager
def chosen(
    everyone: Everyone, samples: Sequence[Sample], n_judged: int, check: Check
) -> Iterator[Chosen]:
    """Give the first sample of the users that fits, kept by Spark while it is used.

    Args:
        everyone: all users.
        samples: those that may be taken.
        n_judged: about how many of those who are left out are judged.
        check: refuses what does not fit.

    Raises:
        MemoryLimitError: none of the samples fits.
    """
    with ExitStack() as kept:
        ranked = kept.enter_context(kept_by_spark(ranking(_with_features(everyone))))
        shares = sorted({share for share, _ in samples})
        judged = n_judged / max(1, everyone.sizes.users)
        drawn = [(F.col(POSITION) < share, _next(share, judged)) for share in shares]
        sizes = dict(zip(shares, _measured(ranked, drawn, everyone.sizes), strict=True))
        for share, least in samples:
            tried = sizes[share]
            if refusal(check, tried) is not None:
                continue
            if least == 0:
                yield _drawn(ranked, share, judged, tried)
                return
            with ExitStack() as mine:
                users = mine.enter_context(
                    kept_by_spark(_with_rare(everyone, ranked, share, least))
                )
                marked = _marked(ranked, users)
                who = F.col(_TAKEN), ~F.col(_TAKEN) & _next(share, judged)
                (tried,) = _measured(marked, [who], everyone.sizes)
                if refusal(check, tried) is None:
                    added = tried.users - sizes[share].users
                    others = marked.where(who[1]).select(USER)
                    yield Chosen(share, least, users, added, tried, others)
                    return
        check(tried)
        raise AssertionError  # the last does not fit, so the line before has said so


@contextmanager
def kept_by_spark(frame: DataFrame) -> Iterator[DataFrame]:
    """Let Spark keep a frame for a while."""
    kept = frame.persist()
    try:
        yield kept
    finally:
        with suppress(Py4JError, OSError):  # where the JVM is gone, the first error says it
            kept.unpersist()


def ranking(users: DataFrame) -> DataFrame:
    """Return users with their `position`: which share of their stratum comes before them.

    A stratum is put in order by one task. Its rows are users, not pairs: an id and a few numbers.
    Of 100 million users about a third have histories of one stratum. These are some 2 GB, which
    Spark sorts in runs and spills. A driver with room for a part of so many users is there for
    longer than that takes.

    Args:
        users: `user_id`, `n_pairs` and any other columns.
    """
    stratum = F.length(F.bin(N_PAIRS))
    alike = Window.partitionBy(stratum)
    before = F.row_number().over(alike.orderBy(F.xxhash64(USER), USER)) - 1
    return users.withColumn(POSITION, share_of(before, F.count(F.lit(1)).over(alike)))


def share_of(part: Column, whole: Column) -> Column:
    """Return a quotient, double. As Spark's int a product of millions would overflow."""
    return part.cast("double") / whole.cast("double")


def _with_features(everyone: Everyone) -> DataFrame:
    """Add how many features each user has that a sample leaves out with the user.

    Those of users who like nothing stay (`all_pairs.without_left_out`). So do those of users who
    like only items that the sample does not have, or whose liked pairs have no sample weight. That
    is not known yet. Before features are collected, they are counted and checked once more
    (`described.check_of_users`).
    """
    if everyone.described is None:
        return everyone.users.withColumn(_N_FEATURES, F.lit(0).cast("bigint"))
    each = everyone.described.groupBy(F.col(ID).alias(USER)).agg(F.count(F.lit(1)).alias("n"))
    likes = F.col(N_PAIRS) > F.col(N_NEGATIVES)
    n_features = F.when(likes, F.col("n")).otherwise(None)
    return (
        everyone.users.join(each, on=USER, how="left")
        .withColumn(_N_FEATURES, F.coalesce(n_features, F.lit(0)))
        .drop("n")
    )


def _next(share: float, judged: float) -> Column:
    """Return who would be the next of a sample: the same share of each stratum."""
    return (F.col(POSITION) >= share) & (F.col(POSITION) < share + judged)


def _drawn(ranked: DataFrame, share: float, judged: float, sizes: Sizes) -> Chosen:
    """Return a sample in which items may have any number of pairs."""
    log.warning("training.sample_users: items may have any number of pairs in the sample")
    users = ranked.where(F.col(POSITION) < share).select(USER)
    others = ranked.where(_next(share, judged)).select(USER)
    return Chosen(share, 0, users, 0, sizes, others)


def _marked(ranked: DataFrame, users: DataFrame) -> DataFrame:
    """Return all users with `taken`, whether they are in a sample."""
    taken = users.withColumn(_TAKEN, F.lit(True))
    found = ranked.join(taken, on=USER, how="left")
    return found.withColumn(_TAKEN, F.coalesce(_TAKEN, F.lit(False)))


def refusal(check: Check, sizes: Sizes) -> str | None:
    """Return why these users do not fit; None if they do.

    It names the first limit that they exceed, with the numbers and what to change.
    """
    try:
        check(sizes)
    except MemoryLimitError as error:
        return str(error)
    return None


def _with_rare(everyone: Everyone, ranked: DataFrame, share: float, least: int) -> DataFrame:
    """Return the users of a share, and those who are added for items that would have too few.

    Of those who have such an item, those are added who have most of such items, so that few are.
    """
    used, drawn = everyone.used, ranked.where(F.col(POSITION) < share).select(USER)
    left = (
        used.join(drawn, on=USER, how="left_semi").groupBy(ITEM).agg(F.count(F.lit(1)).alias("has"))
    )
    lacking = (
        everyone.items.where(F.col(N_PAIRS) >= ENOUGH)
        .join(left, on=ITEM, how="left")
        .select(ITEM, (least - F.coalesce("has", F.lit(0))).alias("lacks"))
        .where(F.col("lacks") > 0)
    )
    others = ranked.where(F.col(POSITION) >= share).select(USER, POSITION)
    candidates = used.select(USER, ITEM).join(lacking, on=ITEM).join(others, on=USER)
    each = candidates.groupBy(USER).agg(F.count(F.lit(1)).alias("n_rare"))
    order = Window.partitionBy(ITEM).orderBy(F.desc("n_rare"), POSITION, USER)
    added = (
        candidates.join(each, on=USER)
        .withColumn("place", F.row_number().over(order))
        .where(F.col("place") <= F.col("lacks"))
        .select(USER)
        .distinct()
    )
    return drawn.unionByName(added)


def _measured(
    users: DataFrame, parts: Sequence[tuple[Column, Column]], everyone: Sizes
) -> list[Sizes]:
    """Measure several samples at once.

    Args:
        users: all of them, with their numbers.
        parts: of each sample, who is taken and who is judged.
        everyone: how much all of them have.
    """
    columns = [column for taken, judged in parts for column in _totals(taken, judged)]
    row = list(users.agg(*columns).collect()[0])
    n = len(row) // len(parts)
    return [_as_sizes(row[at : at + n], everyone) for at in range(0, len(row), n)]


def _totals(taken: Column, judged: Column) -> list[Column]:
    features = F.col(_N_FEATURES)
    parts = [
        (taken, F.lit(1).cast("bigint")),
        (taken, F.col(N_PAIRS)),
        (taken, F.col(N_NEGATIVES)),
        (taken, F.col(N_BYTES)),
        (judged, F.col(N_PAIRS)),
        (~taken, features),
        (~taken, (features > 0).cast("bigint")),
    ]
    return [F.coalesce(F.sum(F.when(who, what)), F.lit(0)) for who, what in parts]


def _as_sizes(row: list[int], everyone: Sizes) -> Sizes:
    users, pairs, negatives, n_bytes, judged, features, described = row
    return Sizes(
        pairs,
        negatives,
        users,
        everyone.items,
        n_bytes,
        everyone.item_bytes,
        everyone.features.without(features, described),
        judged,
    )
