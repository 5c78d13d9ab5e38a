"""Scoring on the executors: a thin adapter round the kernel."""

import logging
from collections.abc import Iterator
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
    CANDIDATES,
    COLD,
    EMBEDDING,
    ITEM,
    ITEM_INDEX,
    KNOWN,
    LIKED,
    PART,
    RANKED_SCHEMA,
    SCORE,
    SEEN,
    SOURCE,
    TRAINED,
    USER,
    WEIGHTS,
)
from recsys.config.configuration import Config, digest
from recsys.config.sections import ItemList
from recsys.errors import InputError
from recsys.ingest.failures import reading
from recsys.ingest.ids import IdColumn, read_ids
from recsys.kernel import worker
from recsys.model.arrays import ids_for_pandas
from recsys.model.manifest import TrainingReport
from recsys.model.tables import Model

log = logging.getLogger(__name__)

_FEWEST_USERS = 1000  # in a part: starting a worker costs as much as scoring so many


def allowed_items(spark: SparkSession, model: Model, config: Config) -> NDArray[np.bool_] | None:
    """Return which of a model's items may be recommended: `(n_items,)`, or None for all.

    Args:
        spark: the session.
        model: whose items they are.
        config: what is allowed and denied, and what becomes of items that have nothing but
            features.

    Raises:
        InputError: a list cannot be read or lacks a column, or nothing may be recommended.
    """
    items, cold = config.items, config.features.lists_cold
    allowed = np.ones(len(model.items.ids), np.bool_) if cold else model.items.trained.copy()
    if items.allow is None and items.deny is None:
        return None if allowed.all() else allowed
    if items.allow is not None:
        allowed &= _listed(spark, model, items.allow, "items.allow")
    if items.deny is not None:
        allowed &= ~_listed(spark, model, items.deny, "items.deny")
    if not allowed.any():
        raise InputError(
            "items.allow and items.deny leave none of the model's "
            f"{int(model.items.trained.sum()) if not cold else len(allowed):,} items; check their "
            "columns and conditions, and features.cold_items if new items are meant"
        )
    return allowed


def read_items(spark: SparkSession, chosen: ItemList, key: str, item_type: str) -> DataFrame:
    """Read a list of items: `item_id`, one row for each of its rows.

    Raises:
        InputError: the list cannot be read or lacks the column.
        ConfigError: the condition or the column's type cannot be used.
    """
    column = IdColumn(chosen.column, f"{key}.column", item_type)
    return read_ids(spark, chosen, {ITEM: column}, key=key, where=chosen.where)


def _listed(spark: SparkSession, model: Model, chosen: ItemList, key: str) -> NDArray[np.bool_]:
    ids = read_items(spark, chosen, key, model.id_types.item)
    rows = ids.distinct().join(model.item_index, on=ITEM, how="inner")
    listed = np.zeros(len(model.items.ids), np.bool_)
    with reading(chosen):
        listed[rows.select(ITEM_INDEX).toArrow().column(0).to_numpy()] = True
    return listed


def recommend(
    spark: SparkSession,
    model: Model,
    users: DataFrame,
    *,
    k: int,
    exclude_seen: bool,
    tasks: int,
    allowed: NDArray[np.bool_] | None = None,
    only_candidates: bool = False,
    reserved: int = 0,
) -> DataFrame:
    """Rank a model's items for users.

    The items are broadcast once; users come to a Python worker in Arrow batches and are neither
    grouped nor joined with items. Their vectors move once, to the part that `number_parts` chose: a
    range partitioning here would read and join everything a second time, to find the ranges.

    Args:
        spark: the session.
        model: whose items are ranked.
        users: ROUTED_SCHEMA, as staged; users whose source is `none` are left out.
        k: length of a list; shorter where fewer items are left.
        exclude_seen: leave out what the user has interacted with.
        tasks: how many parts to score, and so files when this is written.
        allowed: `(n_items,)`; what may be recommended, default all.
        only_candidates: whether users have candidates of their own.
        reserved: how many places at the end of each list are for items that have nothing but
            features; 0: these are ranked among all others.

    Returns:
        RANKED_SCHEMA; within a partition in order of user and rank.
    """
    shared = broadcast_model(spark, model, allowed)
    score: partial[Iterator[pd.DataFrame]] = partial(
        worker.score,
        shared=shared,
        k=k,
        exclude_seen=exclude_seen,
        only_candidates=only_candidates,
        reserved=reserved,
    )
    schema = model.id_types.fill(RANKED_SCHEMA)
    columns = (USER, SOURCE, EMBEDDING, BIAS, SEEN, LIKED, WEIGHTS, CANDIDATES)
    return (
        with_vectors(users, model.users)
        .repartitionById(tasks, PART)
        .sortWithinPartitions(USER)
        .select(*columns)
        .mapInPandas(score, schema)
    )


def number_parts(users: DataFrame, tasks: int) -> DataFrame:
    """Number the parts to score, ranges of user ids: `part`, from 0 to tasks - 1.

    Write the result down before using it: the number depends on where a row lies at this moment.
    """
    ranged = users.repartitionByRange(tasks, USER).sortWithinPartitions(USER)
    return ranged.withColumn(PART, F.spark_partition_id())


def n_tasks(n_users: int, users_per_file: int, cores: int) -> int:
    """Return in how many parts to score: enough for the files and, where it pays, for all cores."""
    return max(1, -(-n_users // users_per_file), min(cores, n_users // _FEWEST_USERS))


def probability(training: TrainingReport) -> Column:
    """Return the probability that the user likes the item, float; null unless it is known.

    With the logistic loss it is the sigmoid of the score (Kula 2015, equation 2). Other losses only
    rank, and popular items have no score by the model: null for both.

    What it means depends on the negatives that the model was trained on. With negatives in the data
    (pairs below `filters.rating_threshold`), it is the probability that a rating of this item by
    this user would reach the threshold. With drawn negatives, it is the probability that the pair
    would be a positive among its kind, and not one of the `training.negatives_per_positive` drawn
    ones. It then falls as more negatives are drawn, so it compares users and items, and says
    nothing of how often users take an item.

    The score of a folded-in user has no user bias, since nothing is known of it, but the users of
    the model have one. With drawn negatives it is far below 0 for all of them, because most of
    their pairs are negatives. So the mean of the users' biases is added before the sigmoid; the
    score and the order of a list stay as they are. The probability of a folded-in user is still a
    rougher one: the map is chosen by how well it ranks, and may scale the items' biases.

    Args:
        training: how the model was trained.

    Returns:
        A column of RANKED_SCHEMA.
    """
    if training.loss != "logistic":
        return F.lit(None).cast("float")
    score, source = F.col(SCORE).cast("double"), F.col(SOURCE)
    typical = score + F.lit(training.mean_user_bias)
    logit = F.when(source.isin(worker.MODEL, worker.FEATURES), score).when(
        source == worker.FOLD_IN, typical
    )
    return (1 / (1 + F.exp(-logit))).cast("float")


def source_of_row() -> Column:
    """Return how a row of RANKED_SCHEMA was made: as the user's list, or by the item's features."""
    return F.when(F.col(COLD), worker.FEATURES).otherwise(F.col(SOURCE))


def cold_items(model: Model, allowed: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
    """Return which allowed items have nothing but features: `(n_items,)`; None for none."""
    cold = ~model.items.trained if allowed is None else ~model.items.trained & allowed
    return cold if cold.any() else None


def broadcast_model(
    spark: SparkSession, model: Model, allowed: NDArray[np.bool_] | None = None
) -> Any:
    """Send a model's items to the executors once; `allowed` as in `recommend`."""
    filtered = "" if allowed is None else "-" + digest(np.packbits(allowed).tobytes().hex())[:8]
    items = model.items
    made = worker.BroadcastModel(
        key=model.uri + filtered,
        ids=ids_for_pandas(items.ids),
        embeddings=items.embeddings,
        biases=items.biases,
        positives=np.zeros(0, np.int32) if items.positives is None else items.positives,
        allowed=allowed,
        fold_in=model.fold_in,
        cold=cold_items(model, allowed),
    )
    log.info("%s", worker.sizes(made))
    return spark.sparkContext.broadcast(made)


def with_vectors(users: DataFrame, model_users: DataFrame) -> DataFrame:
    """Bring users together with what the model has of them: `embedding`, `bias` and `seen`.

    `users` has `source`, `known` and `also_seen`, as in ROUTED_SCHEMA; other columns are handed on.

    A left join would not do: Spark can broadcast the small side of an inner join only, and here the
    users are small and the vectors are large.
    """
    nothing = {
        EMBEDDING: F.lit(None).cast("array<float>"),
        BIAS: F.lit(None).cast("float"),
        SEEN: F.array().cast("array<int>"),
    }
    served = users.where(F.col(SOURCE).isin(*worker.WAYS))
    vectors = model_users.select(USER, *nothing, TRAINED)
    known = vectors.join(served.where(KNOWN), on=USER, how="inner")
    # Whoever is folded in brings what their features say, but not what the model had learned.
    stays = (F.col(SOURCE) != worker.FOLD_IN) | ~F.col(TRAINED)
    known = known.withColumn(EMBEDDING, F.when(stays, F.col(EMBEDDING))).drop(TRAINED)
    unknown = served.where(~F.col(KNOWN)).withColumns(nothing)
    # The kernel accepts repeated items.
    seen = F.when(F.col(ALSO_SEEN).isNull(), F.col(SEEN)).otherwise(F.concat(SEEN, ALSO_SEEN))
    return known.unionByName(unknown).withColumn(SEEN, seen)
