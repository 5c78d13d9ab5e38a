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
        sampled = kind == USERS and model.manifest.sample is not None
        raise InputError(
            f"{key}: none of the {counts.requested:,} {kind} asked for is in the model "
            f"({counts.invalid:,} are no ids of its type); check {key}.column and "
            f"{key}.where, and that the list and the model are of the same data"
            f"{'; it has the users of its sample alone (training.sample_users)' if sampled else ''}"
        )
    return Asked(np.sort(known), counts)


@dataclass(frozen=True)
class Spread:
    """The directions of the rows of one table, on the executors.

    Attributes:
        shared: Spark's broadcast of them.
        directed: `(n,)` bool; the others are all zeros, so they are near nothing.
        id_type: Spark's name of the type of the ids.
    """

    shared: Any
    directed: NDArray[np.bool_]
    id_type: str


def spread(
    spark: SparkSession,
    key: str,
    ids: NDArray[np.generic],
    embeddings: NDArray[np.float32],
    id_type: str,
) -> Spread:
    """Broadcast the directions of a table's rows, once.

    Args:
        spark: the session.
        key: names the model, the table and the choice of its rows.
        ids: `(n,)` in ascending order: int32, int64 or objects (str).
        embeddings: `(n, d)` float32.
        id_type: Spark's name of the type of the ids.
    """
    units = kernel.unit_vectors(embeddings)
    shared = spark.sparkContext.broadcast(kernel.Directions(key, ids, units))
    return Spread(shared, kernel.with_direction(units), id_type)


def spread_vectors(
    spark: SparkSession, model: Model, kind: str, vectors: Vectors, *, cold: bool
) -> Spread:
    """Broadcast what `vectors_of` returned, with the same `kind` and `cold`."""
    key = f"{model.uri}/{kind}{'' if cold else '-trained'}"
    id_type = model.id_types.item if kind == ITEMS else model.id_types.user
    return spread(spark, key, ids_for_pandas(vectors.ids), vectors.embeddings, id_type)


def nearest(
    scratch: Scratch,
    among: Spread,
    rows: NDArray[np.integer],
    *,
    k: int,
    rows_per_file: int,
    asked: Spread | None = None,
) -> DataFrame:
    """Find the nearest neighbours of some rows by cosine, on the executors.

    Args:
        scratch: brings the rows to the executors; what comes to a Python worker are rows alone.
        among: where neighbours are looked for.
        rows: `(m,)`, ascending, of the table that is asked about; each has a direction.
        k: how many for each; fewer where there are no more.
        rows_per_file: how many to answer in a task, and so in a file when this is written.
        asked: the table that is asked about; None: the same, and no row is its own neighbour.

    Returns:
        NEIGHBOURS_SCHEMA, within a partition in order of id and rank.
    """
    tasks = max(1, -(-len(rows) // rows_per_file))
    ordered = (
        scratch.frame(pa.table({_ROW: pa.array(rows, pa.int32())}), f"{_ROW} int")
        .repartitionByRange(tasks, _ROW)
        .sortWithinPartitions(_ROW)
    )
    find: partial[Iterator[pd.DataFrame]] = partial(
        kernel.neighbours,
        shared=among.shared,
        k=k,
        asked=None if asked is None else asked.shared,
    )
    id_type = (asked or among).id_type
    return ordered.mapInPandas(find, NEIGHBOURS_SCHEMA.format(id=id_type, near=among.id_type))


def similar(
    scratch: Scratch, among: Spread, asked: Asked, *, kind: str, k: int, rows_per_file: int
) -> tuple[DataFrame, SimilarCounts]:
    """Find the nearest neighbours of those that are asked for.

    Args:
        scratch: brings the rows to the executors.
        among: what `spread_vectors` returned.
        asked: what `asked_for` returned.
        kind: `items` or `users`, for the log.
        k: how many neighbours for each; fewer where there are no more.
        rows_per_file: how many to answer in a task, and so in a file when this is written.

    Returns:
        NEIGHBOURS_SCHEMA, within a partition in order of id and rank; and the counts of `asked`,
        with those `without_direction` (their embedding is zero: they have no neighbours), those
        `answered`, and how many `neighbours` each of these has.
    """
    rows = asked.rows[among.directed[asked.rows]]
    counts = asked.counts.model_copy(
        update={
            "without_direction": len(asked.rows) - len(rows),
            "answered": len(rows),
            "neighbours": max(0, min(k, int(among.directed.sum()) - 1)),
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
    return nearest(scratch, among, rows, k=k, rows_per_file=rows_per_file), counts
