"""Items like an item and users like a user: a thin adapter of Spark's round `kernel.neighbours`."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys.columns import (
    BIAS,
    EMBEDDING,
    ITEM,
    ITEM_INDEX,
    NEIGHBOURS_SCHEMA,
    TRAINED,
    USER,
    USER_INDEX,
)
from recsys.config.sections import ItemList, UserIds
from recsys.errors import InputError
from recsys.ingest.ids import IdColumn, read_ids
from recsys.kernel import neighbours as kernel
from recsys.model.arrays import ITEMS, USERS, Vectors, ids_for_pandas, vectors_from_table
from recsys.model.tables import Model, check_vectors
from recsys.score.manifest import SimilarCounts
from recsys.store.tables import Scratch

log = logging.getLogger(__name__)

_ID, _ROW = "id", "row"


@dataclass(frozen=True)
class Asked:
    """Whose neighbours are wanted.

    Attributes:
        rows: `(n,)` int32, ascending: rows of the model's table.
        counts: what was asked for.
    """

    rows: NDArray[np.int32]
    counts: SimilarCounts


def vectors_of(model: Model, kind: str, *, cold: bool) -> Vectors:
    """Return a model's `items` or `users` as arrays on the driver.

    Args:
        model: the model.
        kind: `items` or `users`.
        cold: whether those that have nothing but features keep their embeddings. All with the same
            features have the same one, so they would be the nearest neighbours of each other.

    Raises:
        ModelError: the table does not fit the model's manifest.
        MemoryLimitError: the users are more than Spark may collect.
    """
    if kind == ITEMS:
        return model.items if cold else _without_cold(model.items)
    check_vectors(model.users, model.manifest, USERS)
    columns = (USER_INDEX, USER, TRAINED, BIAS, EMBEDDING)
    table = model.users.select(*columns).orderBy(USER_INDEX).toArrow()
    users = vectors_from_table(table, model.manifest, USERS)
    return users if cold else _without_cold(users)


def _without_cold(vectors: Vectors) -> Vectors:
    """Give those that have nothing but features an embedding without a direction."""
    if vectors.trained.all():
        return vectors
    return replace(vectors, embeddings=vectors.embeddings * vectors.trained[:, None])


def index_of(model: Model, kind: str) -> DataFrame:
    """Return the ids of a model's `items` or `users` and their rows: `id` and `row`."""
    if kind == ITEMS:
        return model.item_index.select(F.col(ITEM).alias(_ID), F.col(ITEM_INDEX).alias(_ROW))
    return model.users.select(F.col(USER).alias(_ID), F.col(USER_INDEX).alias(_ROW))


def asked_for(
    spark: SparkSession, model: Model, chosen: ItemList | UserIds | None, kind: str
) -> Asked:
    """Find the rows of those whose neighbours are wanted: of a list, or all.

    Raises:
        InputError: the list cannot be read, lacks the column, or has none that the model knows.
        ConfigError: the condition or the column's type cannot be used.
    """
    if chosen is None:
        n = model.manifest.n_items if kind == ITEMS else model.manifest.n_users
        counts = SimilarCounts(requested=n, repeated=0, invalid=0, unknown=0)
        return Asked(np.arange(n, dtype=np.int32), counts)
    key = f"similar.{kind}"
    index = index_of(model, kind)
    column = IdColumn(chosen.column, f"{key}.column", index.schema[_ID].dataType.simpleString())
    ids = read_ids(spark, chosen, {_ID: column}, key=key, where=chosen.where)
    # Null stays among the ids, so that one pass over the list counts the invalid ones too.
    per_id = (
        ids.groupBy(_ID)
        .agg(F.count(F.lit(1)).alias("times"))
        .join(index, on=_ID, how="left")
        .select(F.col(_ID).isNull().alias("invalid"), "times", _ROW)
        .toArrow()
    )
    invalid = per_id.column("invalid").to_numpy().astype(np.bool_)
    times = per_id.column("times").to_numpy()
    known = per_id.column(_ROW).drop_null().to_numpy().astype(np.int32)
    n_ids = int((~invalid).sum())
    counts = SimilarCounts(
        requested=int(times.sum()),
        repeated=int(times[~invalid].sum()) - n_ids,
        invalid=int(times[invalid].sum()),
        unknown=n_ids - len(known),
    )
    if len(known) == 0:
        raise InputError(
            f"{key}: none of the {counts.requested:,} {kind} asked for is in the model "
            f"({counts.invalid:,} are no ids of its type); check {key}.column and "
            f"{key}.where, and that the list and the model are of the same data"
        )
    return Asked(np.sort(known), counts)


def similar(
    spark: SparkSession,
    scratch: Scratch,
    model: Model,
    kind: str,
    vectors: Vectors,
    asked: Asked,
    *,
    k: int,
    rows_per_file: int,
) -> tuple[DataFrame, SimilarCounts]:
    """Find the nearest neighbours by cosine, on the executors.

    The unit vectors are broadcast once; what comes to a Python worker are rows of them.

    Args:
        spark: the session.
        scratch: brings the rows to the executors.
        model: whose embeddings are compared.
        kind: `items` or `users`.
        vectors: what `vectors_of` returned.
        asked: what `asked_for` returned.
        k: how many neighbours for each; fewer where there are no more.
        rows_per_file: how many to answer in a task, and so in a file when this is written.

    Returns:
        NEIGHBOURS_SCHEMA, within a partition in order of id and rank; and the counts of `asked`,
        with those `without_direction` (their embedding is zero: they have no neighbours), those
        `answered`, and how many `neighbours` each of these has.
    """
    units = kernel.unit_vectors(vectors.embeddings)
    directed = kernel.with_direction(units)
    rows = asked.rows[directed[asked.rows]]
    counts = asked.counts.model_copy(
        update={
            "without_direction": len(asked.rows) - len(rows),
            "answered": len(rows),
            "neighbours": max(0, min(k, int(directed.sum()) - 1)),
        }
    )
    lost = {name: getattr(counts, name) for name in ("invalid", "unknown", "without_direction")}
    if any(lost.values()):
        log.warning(
            "of %s %s asked for, some get no neighbours: %s",
            f"{counts.requested:,}",
            kind,
            ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in lost.items()),
        )
    directions: Any = spark.sparkContext.broadcast(
        kernel.Directions(f"{model.uri}/{kind}", ids_for_pandas(vectors.ids), units)
    )
    tasks = max(1, -(-len(rows) // rows_per_file))
    ordered = (
        scratch.frame(pa.table({_ROW: rows}), f"{_ROW} int")
        .repartitionByRange(tasks, _ROW)
        .sortWithinPartitions(_ROW)
    )
    find: partial[Iterator[pd.DataFrame]] = partial(kernel.neighbours, shared=directions, k=k)
    id_type = model.id_types.item if kind == ITEMS else model.id_types.user
    return ordered.mapInPandas(find, NEIGHBOURS_SCHEMA.format(id=id_type)), counts
