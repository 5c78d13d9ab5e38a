"""Scoring on the executors: a thin adapter round the kernel."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession

from recsys.columns import (
    BIAS,
    EMBEDDING,
    ITEM,
    ITEM_INDEX,
    LIKED,
    RANKED_SCHEMA,
    SEEN,
    SOURCE,
    USER,
    WEIGHTS,
)
from recsys.config import ItemList, Items, digest
from recsys.errors import InputError
from recsys.interactions import index_frame
from recsys.kernel import worker
from recsys.model import ids_for_pandas
from recsys.model_store import Model
from recsys.ratings import convert_id
from recsys.source import find_column, read_source


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
) -> DataFrame:
    """Rank a model's items for users.

    The items are broadcast once; users come to a Python worker in Arrow batches and are neither
    grouped nor joined with items.

    Args:
        spark: the session.
        model: whose items are ranked.
        users: what `cohorts.ways` returns.
        k: length of a list; shorter where fewer items are left.
        exclude_seen: leave out what the user has interacted with.
        tasks: how many parts to score, and so files when this is written.
        allowed: `(n_items,)`; what may be recommended, default all.

    Returns:
        RANKED_SCHEMA; within a partition in order of user and rank.
    """
    filtered = "" if allowed is None else "-" + digest(np.packbits(allowed).tobytes().hex())[:8]
    items = model.items
    catalogue: Any = spark.sparkContext.broadcast(
        worker.Catalogue(
            key=model.uri + filtered,
            ids=ids_for_pandas(items.ids),
            embeddings=items.embeddings,
            biases=items.biases,
            positives=np.zeros(0, np.int32) if items.positives is None else items.positives,
            allowed=allowed,
            fold_in=model.fold_in,
        )
    )
    ordered = users.repartitionByRange(tasks, USER).sortWithinPartitions(USER)
    score: partial[Iterator[pd.DataFrame]] = partial(
        worker.score, shared=catalogue, k=k, exclude_seen=exclude_seen
    )
    schema = RANKED_SCHEMA.format(user=model.user_type, item=model.item_type)
    columns = (USER, SOURCE, EMBEDDING, BIAS, SEEN, LIKED, WEIGHTS)
    return ordered.select(*columns).mapInPandas(score, schema)
