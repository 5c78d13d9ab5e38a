"""Scoring on the executors: a thin adapter round the kernel."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession

from recsys.columns import BIAS, EMBEDDING, RANKED_SCHEMA, SEEN, USER, USER_INDEX
from recsys.kernel import worker
from recsys.model_store import Model


def recommend(
    spark: SparkSession,
    model: Model,
    users: DataFrame,
    *,
    k: int,
    exclude_seen: bool,
    users_per_file: int,
) -> DataFrame:
    """Rank a model's items for users of the model.

    The items are broadcast once; users come to a Python worker in Arrow batches and are neither
    grouped nor joined with items.

    Args:
        spark: the session.
        model: whose items are ranked.
        users: rows of the model's users table, one a user.
        k: length of a list; shorter where fewer items are left.
        exclude_seen: leave out what the user has interacted with.
        users_per_file: users per task, and so per file when this is written.

    Returns:
        RANKED_SCHEMA; within a partition in order of user and rank.
    """
    catalogue = spark.sparkContext.broadcast(
        worker.Catalogue(
            key=model.uri,
            ids=ids_for_pandas(model.items.ids),
            embeddings=model.items.embeddings,
            biases=model.items.biases,
        )
    )
    columns = [USER, EMBEDDING, BIAS] + ([SEEN] if exclude_seen else [])
    tasks = max(1, -(-users.count() // users_per_file))
    ordered = users.repartitionByRange(tasks, USER_INDEX).sortWithinPartitions(USER_INDEX)
    score: partial[Iterator[pd.DataFrame]] = partial(
        worker.score, shared=catalogue, k=k, exclude_seen=exclude_seen
    )
    schema = RANKED_SCHEMA.format(user=model.user_type, item=model.item_type)
    return ordered.select(*columns).mapInPandas(score, schema)


def ids_for_pandas(ids: pa.Array) -> NDArray[np.generic]:
    """Return ids as an array that pandas takes as it is: integers, or str objects."""
    values: NDArray[np.generic] = ids.to_numpy(zero_copy_only=False)
    return values
