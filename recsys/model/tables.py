"""A model's tables, written and read through Spark, wherever that can write."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys.columns import (
    BIAS,
    EMBEDDING,
    FOLD_IN_SCHEMA,
    ITEM,
    ITEM_INDEX,
    ITEMS_SCHEMA,
    SEEN,
    USER,
    USER_INDEX,
    USERS_SCHEMA,
)
from recsys.errors import ModelError
from recsys.ingest.ids import index_frame
from recsys.kernel.fold_in import FoldIn
from recsys.learn.embeddings import Embeddings
from recsys.learn.matrices import Interactions
from recsys.model.arrays import (
    FOLD_IN_TABLE,
    ITEMS,
    USERS,
    Vectors,
    check_manifest,
    fold_in_from_table,
    fold_in_to_table,
    vectors_from_table,
    vectors_to_table,
)
from recsys.runs.run import FORMAT_VERSION
from recsys.store.checksums import MANIFEST, compare_files, sealed
from recsys.store.tables import Store


@dataclass(frozen=True)
class Model:
    """A verified model: its items on the driver, its users where they lie."""

    model_id: str
    uri: str
    manifest: Mapping[str, Any]
    items: Vectors
    users: DataFrame
    fold_in: FoldIn

    @property
    def user_type(self) -> str:
        """Spark's name of the type of the users' ids."""
        return str(self.manifest["user_type"])

    @property
    def item_type(self) -> str:
        """Spark's name of the type of the items' ids."""
        return str(self.manifest["item_type"])


def write_model(
    spark: SparkSession,
    store: Store,
    uri: str,
    *,
    interactions: Interactions,
    embeddings: Embeddings,
    fold_in: FoldIn,
    pairs: DataFrame,
    types: Mapping[str, str],
    rows_per_file: int,
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """Write a model's tables and, last, its manifest.

    Args:
        spark: the session.
        store: where it goes.
        uri: the directory to write, which does not exist yet.
        interactions: ids in order of their indices.
        embeddings: what was learned.
        fold_in: makes vectors of users who were not there.
        pairs: all pairs (INTERACTIONS_SCHEMA), whatever their label: the seen items.
        types: Spark's names of the `user` and `item` ids' types.
        rows_per_file: users per file.
        about: the rest of the manifest.

    Returns:
        The manifest.
    """
    n_users, n_items = interactions.labels.shape
    liked = interactions.labels.col[interactions.labels.data > 0]
    items = spark.createDataFrame(
        vectors_to_table(
            Vectors(
                interactions.item_ids,
                embeddings.item_embeddings,
                embeddings.item_biases,
                np.bincount(liked, minlength=n_items).astype(np.int32),
            ),
            ITEMS,
        )
    )
    users = spark.createDataFrame(
        vectors_to_table(
            Vectors(interactions.user_ids, embeddings.user_embeddings, embeddings.user_biases),
            USERS,
        )
    )
    seen = (
        pairs.join(
            index_frame(spark, interactions.item_ids, ITEM, ITEM_INDEX), on=ITEM, how="inner"
        )
        .groupBy(USER)
        .agg(F.sort_array(F.collect_list(ITEM_INDEX)).alias(SEEN))
    )
    users = users.join(seen, on=USER, how="left").select(
        USER_INDEX,
        USER,
        BIAS,
        EMBEDDING,
        F.coalesce(SEEN, F.array().cast("array<int>")).alias(SEEN),
    )
    schemas = {
        ITEMS: ITEMS_SCHEMA.format(**types),
        USERS: USERS_SCHEMA.format(**types),
        FOLD_IN_TABLE: FOLD_IN_SCHEMA,
    }
    frames = {
        ITEMS: items.coalesce(1).sortWithinPartitions(ITEM_INDEX),
        USERS: users.repartitionByRange(
            -(-n_users // rows_per_file), USER_INDEX
        ).sortWithinPartitions(USER_INDEX),
        FOLD_IN_TABLE: spark.createDataFrame(fold_in_to_table(fold_in)).coalesce(1),
    }
    tables = {
        name: store.write_table(frame, f"{uri}/{name}", schemas[name])
        for name, frame in frames.items()
    }
    manifest = sealed(
        {
            "format_version": FORMAT_VERSION,
            **about,
            "user_type": types["user"],
            "item_type": types["item"],
            "n_users": n_users,
            "n_items": n_items,
            "no_components": int(embeddings.item_embeddings.shape[1]),
            "tables": tables,
        }
    )
    store.write_json(f"{uri}/{MANIFEST}", manifest)
    return manifest


def load_model(spark: SparkSession, store: Store, uri: str) -> Model:
    """Load a model from wherever Spark can read, after checking every file of it.

    Raises:
        ModelError: it is missing, incomplete or damaged; the message names what.
    """
    manifest = _read_manifest(store, uri)
    name = f"model {manifest['model_id']}"
    for table in (ITEMS, USERS, FOLD_IN_TABLE):
        place = f"{uri}/{table}"
        found = store.data_files(place) if store.exists(place) else []
        compare_files(name, table, manifest["tables"][table]["files"], found)
    types = {"user": manifest["user_type"], "item": manifest["item_type"]}
    items = store.read_table(f"{uri}/{ITEMS}", ITEMS_SCHEMA.format(**types))
    users = store.read_table(f"{uri}/{USERS}", USERS_SCHEMA.format(**types))
    vectors = vectors_from_table(items.orderBy(ITEM_INDEX).toArrow(), manifest, ITEMS)
    row = store.read_table(f"{uri}/{FOLD_IN_TABLE}", FOLD_IN_SCHEMA).toArrow()
    fold_in = fold_in_from_table(row, manifest)
    return Model(str(manifest["model_id"]), uri, manifest, vectors, users, fold_in)


def _read_manifest(store: Store, uri: str) -> dict[str, Any]:
    name = f"model {uri.rsplit('/', 1)[-1]}"
    try:
        manifest = store.read_json(f"{uri}/{MANIFEST}")
    except FileNotFoundError as error:
        raise ModelError(
            f"{name} is missing or incomplete: there is no {uri}/{MANIFEST}; train it"
        ) from error
    except ValueError as error:
        raise ModelError(f"{name} is damaged: {MANIFEST} is not valid JSON; train again") from error
    return check_manifest(manifest, name)
