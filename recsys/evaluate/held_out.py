"""How good a model is on what was held out of its training, beside plain popularity.

Lists are made and measured on the executors; `results` brings a few numbers a user back.

Relevant to a user are the pairs of the test fold with label 1. Left out of the lists is what the
user has a pair of in train or validation, whatever its label. A relevant item that is not in the
model's catalogue counts as missed. Popularity is that of the train fold.
"""

from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys.columns import (
    ALSO_SEEN,
    BIAS,
    EMBEDDING,
    EVALUATED_SCHEMA,
    FOLD,
    HISTORY,
    ITEM,
    ITEM_INDEX,
    KNOWN,
    LABEL,
    LIKED,
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
from recsys.errors import InputError
from recsys.evaluate.manifest import EvaluationCounts, SplitCounts
from recsys.evaluate.splits import TEST, TRAIN
from recsys.ingest.ids import IdColumn, id_column
from recsys.ingest.naming import find_column
from recsys.ingest.pairing import liked
from recsys.ingest.source import read_source
from recsys.kernel import metrics
from recsys.kernel.evaluate import Traits, evaluate
from recsys.kernel.worker import FOLD_IN, MODEL, POPULAR
from recsys.learn.matrices import Interactions
from recsys.model.tables import Model
from recsys.score import ranking
from recsys.store.tables import Scratch


def lengths_of_histories(
    scratch: Scratch, interactions: Interactions, train: DataFrame
) -> DataFrame:
    """Return how many pairs of each user there are to learn from: `user_id`, `history` and `known`.

    Labels do not say so: pairs without sample weight have one, and are left out all the same. For
    users who are not in a sample they do.

    Args:
        scratch: brings the numbers to the executors.
        interactions: what was learned from.
        train: the pairs of the train fold.
    """
    lengths = np.bincount(interactions.labels.row, minlength=len(interactions.user_ids))
    columns = {USER: interactions.user_ids, HISTORY: lengths.astype(np.int32)}
    user_type = train.schema[USER].dataType.simpleString()
    mine = scratch.frame(pa.table(columns), f"{USER} {user_type}, {HISTORY} int")
    mine = mine.withColumn(KNOWN, F.lit(True))
    if interactions.sample is None:
        return mine
    length, known = F.count(F.lit(1)).cast("int").alias(HISTORY), F.lit(False).alias(KNOWN)
    every = train.where(F.col(LABEL) != 0).groupBy(USER).agg(length).withColumn(KNOWN, known)
    return mine.unionByName(every.join(mine, on=USER, how="left_anti"))


def users_to_test(
    spark: SparkSession,
    parts: DataFrame,
    model: Model,
    histories: DataFrame,
    segments: UserSegments | None,
) -> DataFrame:
    """Say who is to be tested on what.

    Args:
        spark: the session.
        parts: all pairs (SPLIT_SCHEMA).
        model: trained on the train fold.
        histories: what `lengths_of_histories` returned.
        segments: where groups of users are, if wanted.

    Returns:
        TEST_USERS_SCHEMA without `part`, one row for each user with something relevant.
        `also_seen`: what is left out, for users whom the model does not know; `liked`: what users
        whom a sample left out are folded in from; `outside`: how many
        relevant items are not in the catalogue; `history`: how many pairs of the user
        there were to train on.

    Raises:
        InputError, ConfigError: the table of segments cannot be read or lacks a column.
    """
    place, fold, label = F.col(ITEM_INDEX), F.col(FOLD), F.col(LABEL)
    relevant = (fold == TEST) & (label == 1)
    rules = model.manifest.pair_rules
    like = liked(rules.rating_threshold, weighed_by_rating=rules.weighed_by_rating)

    def gathered(which: Column) -> Column:
        return F.sort_array(F.collect_list(F.when(which, place))).cast("array<int>")

    users = (
        parts.join(model.item_index, on=ITEM, how="left")
        .groupBy(USER)
        .agg(
            gathered(relevant).alias(RELEVANT),
            F.count_if(relevant & place.isNull()).cast("int").alias(OUTSIDE),
            gathered(fold != TEST).alias(ALSO_SEEN),
            gathered((fold == TRAIN) & like).alias(LIKED),
        )
        .where((F.size(RELEVANT) > 0) | (F.col(OUTSIDE) > 0))
        .join(histories, on=USER, how="left")
        .withColumns(
            {
                HISTORY: F.coalesce(HISTORY, F.lit(0)),
                KNOWN: F.coalesce(KNOWN, F.lit(False)),
            }
        )
    )
    if segments is None:
        users = users.withColumn(SEGMENT, F.lit(None).cast("string"))
    else:
        users = users.join(read_segments(spark, segments, model.id_types.user), on=USER, how="left")
    known = F.col(KNOWN)
    # As `recsys.score.cohorts.route` decides it.
    folded = F.lit(model.manifest.sample is not None) & (F.size(LIKED) > 0)
    return users.withColumns(
        {
            SOURCE: F.when(known, MODEL).when(folded, FOLD_IN).otherwise(POPULAR),
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
        F.count_if(F.col(SOURCE) == POPULAR).alias("users_by_popularity_alone"),
        F.count_if(F.col(SOURCE) == FOLD_IN).alias("users_folded_in"),
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


def item_traits(holders: NDArray[np.integer], n_users: int) -> Traits:
    """Describe the items by who has them in the train fold.

    Args:
        holders: `(n_items,)`, how many users have each.
        n_users: how many users there are.
    """
    return Traits(metrics.self_information(holders, n_users), metrics.most_popular(holders))


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
    columns = (USER, SOURCE, EMBEDDING, BIAS, SEEN, LIKED, RELEVANT, OUTSIDE, HISTORY, SEGMENT)
    return (
        ranking.with_vectors(users, model.users)
        .repartitionById(tasks, PART)
        .sortWithinPartitions(USER)
        .select(*columns)
        .mapInPandas(work, schema)
    )
