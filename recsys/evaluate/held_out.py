"""How good a model is on what was held out of its training, beside plain popularity.

Lists are made and measured on the executors; a few numbers a user come back, and the driver makes
means and intervals of them.

Relevant to a user are the pairs of the test fold with label 1. Left out of the lists is what the
user has a pair of in train or validation, whatever its label. A relevant item that is not in the
model's catalogue counts as missed. Popularity is that of the train fold.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys.columns import (
    ALSO_SEEN,
    BIAS,
    COMPARED_MODEL,
    CUT,
    EMBEDDING,
    EVALUATED_SCHEMA,
    FOLD,
    HISTORY,
    ITEM,
    ITEM_INDEX,
    KNOWN,
    LABEL,
    LISTED,
    OUTSIDE,
    PART,
    RELEVANT,
    SEEN,
    SEGMENT,
    SOURCE,
    TEST_USERS_SCHEMA,
    USER,
    names,
)
from recsys.config.sections import Evaluation, UserSegments
from recsys.errors import ConfigError, InputError
from recsys.evaluate import bootstrap
from recsys.evaluate.manifest import EvaluationCounts, Metric, SplitCounts
from recsys.evaluate.splits import TEST, TRAIN
from recsys.ingest.ids import IdColumn, id_column
from recsys.ingest.source import find_column, read_source
from recsys.kernel import metrics
from recsys.kernel.evaluate import COMPARED, POPULARITY, Traits, evaluate
from recsys.kernel.worker import MODEL, POPULAR
from recsys.model.tables import Model
from recsys.runtime.memory import check_fits
from recsys.score import ranking

DIFFERENCE = "difference"
ALL = "all"
COVERAGE = "catalogue_coverage"
AT_K = (*metrics.ACCURACY, *metrics.OF_LISTS)

_HISTORIES = ((0, 0), (1, 4), (5, 9), (10, 19), (20, 49), (50, None))
_NOWHERE = "(none)"  # users whom the table of segments does not have
_MOST_SEGMENTS = 100
# Arrow's columns, pandas' and a sorted copy of them: 12 doubles, ids and text.
_BYTES_PER_ROW = 3 * (12 * 8 + 100)


def users_to_test(
    spark: SparkSession, parts: DataFrame, model: Model, segments: UserSegments | None
) -> DataFrame:
    """Say who is to be tested on what.

    Args:
        spark: the session.
        parts: all pairs (SPLIT_SCHEMA).
        model: trained on the train fold.
        segments: where groups of users are, if wanted.

    Returns:
        TEST_USERS_SCHEMA without `part`, one row for each user with something relevant.
        `also_seen`: what is left out, for users whom the model does not know; `outside`: how many
        relevant items are not in the catalogue; `history`: how many pairs of the user the model
        was trained on.

    Raises:
        InputError, ConfigError: the table of segments cannot be read or lacks a column.
    """
    place, fold, label = F.col(ITEM_INDEX), F.col(FOLD), F.col(LABEL)
    relevant = (fold == TEST) & (label == 1)

    def gathered(which: Column) -> Column:
        return F.sort_array(F.collect_list(F.when(which, place))).cast("array<int>")

    users = (
        parts.join(model.item_index, on=ITEM, how="left")
        .groupBy(USER)
        .agg(
            gathered(relevant).alias(RELEVANT),
            F.count_if(relevant & place.isNull()).cast("int").alias(OUTSIDE),
            F.count_if((fold == TRAIN) & (label != 0)).cast("int").alias(HISTORY),
            gathered(fold != TEST).alias(ALSO_SEEN),
        )
        .where((F.size(RELEVANT) > 0) | (F.col(OUTSIDE) > 0))
    )
    if segments is None:
        users = users.withColumn(SEGMENT, F.lit(None).cast("string"))
    else:
        users = users.join(read_segments(spark, segments, model.id_types.user), on=USER, how="left")
    known = F.col(HISTORY) > 0
    return users.withColumns(
        {
            SOURCE: F.when(known, MODEL).otherwise(POPULAR),
            KNOWN: known,
            ALSO_SEEN: F.when(~known, F.col(ALSO_SEEN)),
        }
    ).select(*[name for name in names(TEST_USERS_SCHEMA) if name != PART])


def read_segments(spark: SparkSession, settings: UserSegments, user_type: str) -> DataFrame:
    """Read groups of users: `user_id`, `segment`; of several of a user the first in order.

    Raises:
        InputError, ConfigError: the table cannot be read or lacks a column.
    """
    key = "evaluation.segment"
    frame = read_source(spark, settings, key=key)
    column = IdColumn(settings.column, f"{key}.column", user_type)
    group = find_column(frame, settings.by, f"{key}.by", settings)
    return (
        frame.select(
            id_column(frame, settings, column).alias(USER), group.cast("string").alias(SEGMENT)
        )
        .groupBy(USER)
        .agg(F.min(SEGMENT).alias(SEGMENT))
    )


def counts(users: DataFrame, split: SplitCounts) -> EvaluationCounts:
    """Count who is tested.

    Args:
        users: what `users_to_test` returned.
        split: what `splits.counts` returned.

    Raises:
        InputError: nobody is.
    """
    row = users.agg(
        F.count(F.lit(1)).alias("users_evaluated"),
        F.count_if(~F.col(KNOWN)).alias("users_by_popularity_alone"),
        F.coalesce(F.sum(F.size(RELEVANT) + F.col(OUTSIDE)), F.lit(0)).alias("relevant_pairs"),
        F.coalesce(F.sum(OUTSIDE), F.lit(0)).alias("relevant_pairs_outside_catalogue"),
    ).collect()[0]
    counted = {name: int(value) for name, value in row.asDict().items()}
    if counted["users_evaluated"] == 0:
        raise InputError(
            "evaluation: found no positive pair in test, expected at least one; hold out more with "
            "evaluation.split, or lower filters.rating_threshold"
        )
    return EvaluationCounts(
        **dict(split),
        **counted,
        users_not_evaluated=split.users - counted["users_evaluated"],
    )


def item_traits(model: Model, labels: Any) -> Traits:
    """Describe the items by who has them in training.

    labels: `(n_users, n_items)` COO, what the model learned from.
    """
    holders = np.bincount(labels.col, minlength=labels.shape[1])
    return Traits(metrics.self_information(holders, labels.shape[0]), metrics.most_popular(holders))


def evaluated(
    spark: SparkSession,
    model: Model,
    traits: Traits,
    users: DataFrame,
    settings: Evaluation,
    *,
    tasks: int,
) -> DataFrame:
    """Make and measure the lists of the test users on the executors.

    Args:
        spark: the session.
        model: whose items are ranked.
        traits: of these items.
        users: TEST_USERS_SCHEMA, as staged.
        settings: where to cut the lists, and whether to rank the whole catalogue.
        tasks: how many parts there are.

    Returns:
        EVALUATED_SCHEMA, a row for each user, compared model and k.
    """
    work: partial[Iterator[pd.DataFrame]] = partial(
        evaluate,
        shared=ranking.broadcast_model(spark, model),
        traits=spark.sparkContext.broadcast(traits),
        ks=sorted(set(settings.k)),
        whole_catalogue=settings.auc,
    )
    schema = model.id_types.fill(EVALUATED_SCHEMA)
    columns = (USER, SOURCE, EMBEDDING, BIAS, SEEN, RELEVANT, OUTSIDE, HISTORY, SEGMENT)
    return (
        ranking.with_vectors(users, model.users)
        .repartitionById(tasks, PART)
        .sortWithinPartitions(USER)
        .select(*columns)
        .mapInPandas(work, schema)
    )


def collect_values(spark: SparkSession, rows: DataFrame, max_share: float) -> pd.DataFrame:
    """Bring the users' values to the driver, in order of k, model and user id.

    Raises:
        MemoryLimitError: they would not fit.
    """
    jvm: Any = spark.sparkContext._jvm
    n_rows = rows.count()
    check_fits(
        what=f"the metrics of {n_rows:,} lists",
        needed=n_rows * _BYTES_PER_ROW,
        heap=int(jvm.java.lang.Runtime.getRuntime().maxMemory()),
        max_share=max_share,
        remedy="hold out fewer users' pairs with evaluation.split, or judge fewer evaluation.k",
    )
    found: pd.DataFrame = rows.drop(LISTED).toArrow().to_pandas()
    return found.sort_values([CUT, COMPARED_MODEL, USER], ignore_index=True)


def coverage(rows: DataFrame, n_items: int) -> dict[tuple[str, int], float]:
    """Return the share of the catalogue in the lists of each compared model at each k."""
    listed = rows.select(COMPARED_MODEL, CUT, F.explode(LISTED).alias(ITEM_INDEX))
    distinct = listed.groupBy(COMPARED_MODEL, CUT).agg(F.count_distinct(ITEM_INDEX).alias("n"))
    return {(row[0], row[1]): row[2] / n_items for row in distinct.collect()}


def results(
    values: pd.DataFrame, covered: Mapping[tuple[str, int], float], settings: Evaluation
) -> list[Metric]:
    """Make means with intervals of the users' values, for all users and for each segment.

    Args:
        values: what `collect_values` returned.
        covered: what `coverage` returned.
        settings: the number of resamples, their seed, and what the segments are by.

    Raises:
        ConfigError: there are too many segments to report on.
    """
    ks = sorted(values[CUT].unique().tolist())
    columns = [(metric, k) for k in ks for metric in AT_K]
    blocks = {
        model: np.column_stack([_block(values, model, k)[list(AT_K)].to_numpy() for k in ks])
        for model in COMPARED
    }
    if settings.auc:
        columns += [(metric, None) for metric in metrics.OF_RANKS]
        for model, block in blocks.items():
            whole = _block(values, model, ks[0])[list(metrics.OF_RANKS)].to_numpy()
            blocks[model] = np.column_stack([block, whole])
    users = _block(values, MODEL, ks[0])
    both = np.column_stack([blocks[MODEL], blocks[POPULARITY], blocks[MODEL] - blocks[POPULARITY]])
    found = []
    for segment, chosen in _chosen(users, settings.segment):
        means = bootstrap.estimate(
            users[USER].to_numpy()[chosen],
            both[chosen],
            resamples=settings.bootstrap,
            seed=settings.seed,
        )
        for i, model in enumerate((*COMPARED, DIFFERENCE)):
            for j, (metric, k) in enumerate(columns, start=i * len(columns)):
                low, high = _number(means.low[j]), _number(means.high[j])
                value, n_users = _number(means.value[j]), int(means.n_users[j])
                found.append(_metric(model, segment, metric, k, value, low, high, n_users))
    for k in ks:
        shares = {model: covered.get((model, k), 0.0) for model in COMPARED}
        shares[DIFFERENCE] = shares[MODEL] - shares[POPULARITY]
        found += [
            _metric(model, ALL, COVERAGE, k, share, None, None, len(users))
            for model, share in shares.items()
        ]
    return found


def _block(values: pd.DataFrame, model: str, k: int) -> pd.DataFrame:
    return values[(values[COMPARED_MODEL] == model) & (values[CUT] == k)]


def _chosen(
    users: pd.DataFrame, segments: UserSegments | None
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Name the groups of users that are reported on, and say who is in each."""
    yield ALL, np.ones(len(users), np.bool_)
    history = users[HISTORY].to_numpy()
    for first, last in _HISTORIES:
        chosen = (history >= first) & (history <= (np.inf if last is None else last))
        if chosen.any():
            span = (
                f"{first}+" if last is None else str(first) if first == last else f"{first}-{last}"
            )
            yield f"{HISTORY} {span}", chosen
    if segments is None:
        return
    groups = users[SEGMENT].fillna(_NOWHERE)
    distinct = sorted(groups.unique())
    if len(distinct) > _MOST_SEGMENTS:
        raise ConfigError(
            f"evaluation.segment.by: found {len(distinct):,} values in {segments.by}, expected at "
            f"most {_MOST_SEGMENTS}; choose a column with fewer, or put them into groups"
        )
    for group in distinct:
        yield f"{segments.by} {group}", (groups == group).to_numpy()


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _metric(
    model: str,
    segment: str,
    metric: str,
    k: int | None,
    value: float | None,
    low: float | None,
    high: float | None,
    n_users: int,
) -> Metric:
    return Metric(
        model=model,
        segment=segment,
        metric=metric,
        k=k,
        value=value,
        low=low,
        high=high,
        n_users=n_users,
    )
