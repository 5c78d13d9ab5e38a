"""Scoring on the executors: a thin adapter round the kernel."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys.columns import (
    BIAS,
    CANDIDATES,
    DONE,
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
    USER,
    WEIGHTS,
)
from recsys.config.configuration import digest
from recsys.config.sections import ItemList, Items
from recsys.errors import InputError
from recsys.ingest.ids import convert_id, index_frame
from recsys.ingest.source import find_column, read_source, reading
from recsys.kernel import worker
from recsys.model.arrays import ids_for_pandas
from recsys.model.tables import Model

_FEWEST_USERS = 1000  # in a part: starting a worker costs as much as scoring so many


def allowed_items(spark: SparkSession, model: Model, items: Items) -> NDArray[np.bool_] | None:
    """Return which of a model's items may be recommended: `(n_items,)`, or None for all.

    Raises:
        InputError: a list cannot be read or lacks a column, or nothing may be recommended.
    """
    if items.allow is None and items.deny is None:
        return None
    allowed = np.ones(len(model.items.ids), np.bool_)
    if items.allow is not None:
        allowed &= _listed(spark, model, items.allow, "items.allow")
    if items.deny is not None:
        allowed &= ~_listed(spark, model, items.deny, "items.deny")
    if not allowed.any():
        raise InputError(
            "items.allow and items.deny leave none of the model's "
            f"{len(allowed):,} items; check their columns and conditions"
        )
    return allowed


def _listed(spark: SparkSession, model: Model, chosen: ItemList, key: str) -> NDArray[np.bool_]:
    frame = read_source(spark, chosen, where=chosen.where, key=key)
    column = find_column(frame, chosen.column, f"{key}.column", chosen)
    found = frame.select(column.alias(ITEM)).schema[ITEM].dataType
    ids, _ = convert_id(column, found, model.item_type, f"{key}.column")
    index = index_frame(spark, model.items.ids, ITEM, ITEM_INDEX)
    rows = frame.select(ids.alias(ITEM)).distinct().join(index, on=ITEM, how="inner")
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
) -> DataFrame:
    """Rank a model's items for users.

    The items are broadcast once; users come to a Python worker in Arrow batches and are neither
    grouped nor joined with items. Their vectors move once, to the part that `number_parts` chose: a
    range partitioning here would read and join everything a second time, to find the ranges.

    Args:
        spark: the session.
        model: whose items are ranked.
        users: ROUTED_SCHEMA, as staged; who has no way is left out.
        k: length of a list; shorter where fewer items are left.
        exclude_seen: leave out what the user has interacted with.
        tasks: how many parts to score, and so files when this is written.
        allowed: `(n_items,)`; what may be recommended, default all.
        only_candidates: whether users have candidates of their own.

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
    )
    schema = RANKED_SCHEMA.format(user=model.user_type, item=model.item_type)
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

    To be staged: the number says where a row is just now.
    """
    ranged = users.repartitionByRange(tasks, USER).sortWithinPartitions(USER)
    return ranged.withColumn(PART, F.spark_partition_id())


def n_tasks(n_users: int, users_per_file: int, cores: int) -> int:
    """Return in how many parts to score: enough for the files and, where it pays, for all cores."""
    return max(1, -(-n_users // users_per_file), min(cores, n_users // _FEWEST_USERS))


def probability(training: Mapping[str, Any]) -> Column:
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
        training: of the model's manifest: `loss`, and `mean_user_bias` with the logistic loss.
    """
    if training["loss"] != "logistic":
        return F.lit(None).cast("float")
    score, source = F.col(SCORE).cast("double"), F.col(SOURCE)
    typical = score + F.lit(float(training["mean_user_bias"]))
    logit = F.when(source == worker.MODEL, score).when(source == worker.FOLD_IN, typical)
    return (1 / (1 + F.exp(-logit))).cast("float")


def broadcast_model(
    spark: SparkSession, model: Model, allowed: NDArray[np.bool_] | None = None
) -> Any:
    """Send a model's items to the executors once; `allowed` as in `recommend`."""
    filtered = "" if allowed is None else "-" + digest(np.packbits(allowed).tobytes().hex())[:8]
    items = model.items
    return spark.sparkContext.broadcast(
        worker.BroadcastModel(
            key=model.uri + filtered,
            ids=ids_for_pandas(items.ids),
            embeddings=items.embeddings,
            biases=items.biases,
            positives=np.zeros(0, np.int32) if items.positives is None else items.positives,
            allowed=allowed,
            fold_in=model.fold_in,
        )
    )


def with_vectors(users: DataFrame, model_users: DataFrame) -> DataFrame:
    """Bring users together with what the model has of them: `embedding`, `bias` and `seen`.

    `users` has `source`, `known` and `done`, as in ROUTED_SCHEMA; other columns are handed on.

    Not one left join: the users are small and the vectors large, and Spark can hand out the small
    side of an inner join only.
    """
    nothing = {
        EMBEDDING: F.lit(None).cast("array<float>"),
        BIAS: F.lit(None).cast("float"),
        SEEN: F.array().cast("array<int>"),
    }
    served = users.where(F.col(SOURCE).isin(worker.MODEL, worker.FOLD_IN, worker.POPULAR))
    vectors = model_users.select(USER, *nothing)
    known = vectors.join(served.where(KNOWN), on=USER, how="inner")
    unknown = served.where(~F.col(KNOWN)).withColumns(nothing)
    # The kernel minds no repeats.
    seen = F.when(F.col(DONE).isNull(), F.col(SEEN)).otherwise(F.concat(SEEN, DONE))
    return known.unionByName(unknown).withColumn(SEEN, seen)
