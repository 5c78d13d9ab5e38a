"""Choose whole users to train on, where not all of them fit. With Spark; numbers alone come back.

Users are put into strata by the length of their histories: 1, 2 to 3, 4 to 7, 8 to 15 pairs and so
on. In each stratum a hash of the id puts them in order, and the first of them are taken, the same
share of each stratum. So the sample is the same for any partitioning, and that of a smaller share
is a part of that of a larger one.

Users who are rare would take items with them that only they have. So each item that has at least
ENOUGH pairs keeps at least LEAST: users are added who have most of the items that lack some.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import pyarrow as pa
import scipy.sparse as sp
from py4j.protocol import Py4JError
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recsys.columns import ITEM, POSITION, USER
from recsys.errors import MemoryLimitError
from recsys.learn.sizes import Sizes

log = logging.getLogger(__name__)

STEPS = (0.75, 0.5, 0.35, 0.25, 0.15, 0.1, 0.05, 0.02, 0.01)  # of `auto`, the largest first
LEAST, ENOUGH = 5, 20
N_PAIRS, N_NEGATIVES, N_BYTES = "n_pairs", "n_negatives", "n_bytes"

Check = Callable[[Sizes], None]


@dataclass(frozen=True)
class Chosen:
    """Which users are trained on.

    Attributes:
        share: of the users of each stratum.
        least: how many pairs each item keeps that has enough; 0: any number.
        users: `user_id`, each once.
        added: how many of them were added for the items.
        sizes: what they have; of items those of all users.
        others: `user_id` and `position` of those who are left out.
    """

    share: float
    least: int
    users: DataFrame
    added: int
    sizes: Sizes
    others: DataFrame


@dataclass(frozen=True)
class Sampled:
    """Which users were taken of all, and some of the others.

    Attributes:
        share: of the users.
        least: how many pairs each item keeps that has enough; 0: any number.
        added: users who were added for items.
        taken, everyone: how much the sample and all users have.
        judged_ids: some users who are left out, in ascending order.
        judged: `(n_judged, n_items)` COO, float32, 1 or -1: their pairs with items of the sample.
    """

    share: float
    least: int
    added: int
    taken: Sizes
    everyone: Sizes
    judged_ids: pa.Array
    judged: sp.coo_matrix | None = None


@contextmanager
def chosen(
    used: DataFrame,
    users: DataFrame,
    items: DataFrame,
    everyone: Sizes,
    wanted: float | None,
    check: Check,
) -> Iterator[Chosen]:
    """Give a sample of the users, kept by Spark while it is used.

    Args:
        used: labelled pairs.
        users: `user_id`, `n_pairs`, `n_negatives` and `n_bytes`, each user once.
        items: `item_id` and `n_pairs`, each item once.
        everyone: how much all of them have.
        wanted: the share; None: the largest of STEPS that fits.
        check: refuses what does not fit.

    Raises:
        MemoryLimitError: no share fits, or the one that is wanted does not.
    """
    ranked = ranking(users).persist()
    kept = [ranked]
    try:
        yield _choose(used, ranked, items, everyone, wanted, check, kept)
    finally:
        for frame in kept:
            with suppress(Py4JError, OSError):  # where the JVM is gone, the first error says it
                frame.unpersist()


def ranking(users: DataFrame) -> DataFrame:
    """Return users with their `position`: which share of their stratum comes before them.

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


def _choose(
    used: DataFrame,
    ranked: DataFrame,
    items: DataFrame,
    everyone: Sizes,
    wanted: float | None,
    check: Check,
    kept: list[DataFrame],
) -> Chosen:
    shares = STEPS if wanted is None else (wanted,)
    sizes = dict(zip(shares, _drawn_sizes(ranked, shares, everyone), strict=True))
    for share in shares:
        if wanted is None and not _fits(check, sizes[share]):
            continue
        users = _with_rare(used, ranked, items, share).persist()
        found = _sizes(ranked.join(users, on=USER, how="left_semi"), everyone)
        if wanted is None and not _fits(check, found):
            users.unpersist()
            continue
        kept.append(users)
        check(found)
        return _of(share, LEAST, users, ranked, found, found.users - sizes[share].users)
    # Where items cannot keep their minimum, the largest sample that fits without it.
    for share in shares:
        if _fits(check, sizes[share]):
            log.warning("no sample fits in which each item keeps %d pairs", LEAST)
            users = ranked.where(F.col(POSITION) < share).select(USER)
            return _of(share, 0, users, ranked, sizes[share], 0)
    check(sizes[shares[-1]])
    raise AssertionError  # the smallest does not fit, so the line before has said so


def _of(
    share: float, least: int, users: DataFrame, ranked: DataFrame, sizes: Sizes, added: int
) -> Chosen:
    others = ranked.join(users, on=USER, how="left_anti").select(USER, POSITION)
    return Chosen(share, least, users, added, sizes, others)


def _fits(check: Check, sizes: Sizes) -> bool:
    try:
        check(sizes)
    except MemoryLimitError:
        return False
    return True


def _with_rare(used: DataFrame, ranked: DataFrame, items: DataFrame, share: float) -> DataFrame:
    """Return the users of a share, and those who are added for items that would have too few.

    Of those who have such an item, those are added who have most of such items, so that few are.
    """
    drawn = ranked.where(F.col(POSITION) < share).select(USER)
    left = (
        used.join(drawn, on=USER, how="left_semi").groupBy(ITEM).agg(F.count(F.lit(1)).alias("has"))
    )
    lacking = (
        items.where(F.col(N_PAIRS) >= ENOUGH)
        .join(left, on=ITEM, how="left")
        .select(ITEM, (LEAST - F.coalesce("has", F.lit(0))).alias("lacks"))
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


def _drawn_sizes(ranked: DataFrame, shares: tuple[float, ...], everyone: Sizes) -> list[Sizes]:
    """Measure the samples of several shares at once, without anybody who is added."""
    columns = [
        column for share in shares for column in _totals(F.when(F.col(POSITION) < share, F.lit(1)))
    ]
    row = list(ranked.agg(*columns).collect()[0])
    return [_as_sizes(row[n : n + 4], everyone) for n in range(0, len(row), 4)]


def _sizes(users: DataFrame, everyone: Sizes) -> Sizes:
    return _as_sizes(list(users.agg(*_totals(F.lit(1))).collect()[0]), everyone)


def _totals(counted: Column) -> list[Column]:
    parts = [F.lit(1).cast("bigint"), F.col(N_PAIRS), F.col(N_NEGATIVES), F.col(N_BYTES)]
    return [F.coalesce(F.sum(counted * part), F.lit(0)) for part in parts]


def _as_sizes(row: list[int], everyone: Sizes) -> Sizes:
    users, pairs, negatives, n_bytes = row
    return Sizes(pairs, negatives, users, everyone.items, n_bytes, everyone.item_bytes)
