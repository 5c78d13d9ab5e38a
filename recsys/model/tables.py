"""A model's tables, written and read through Spark, wherever that can write."""

from dataclasses import dataclass

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.columns import (
    BIAS,
    EMBEDDING,
    FOLD_IN_SCHEMA,
    GROUP,
    ITEM,
    ITEM_INDEX,
    ITEMS_SCHEMA,
    MODEL_FEATURES_SCHEMA,
    N_IDS,
    NAME,
    SEEN,
    TRAINED,
    USER,
    USER_INDEX,
    USERS_SCHEMA,
    VALUE,
    IdTypes,
)
from recsys.errors import ModelError
from recsys.ingest.ids import id_bytes, index_frame
from recsys.kernel.fold_in import FoldIn
from recsys.learn.cold import LearnedFeatures
from recsys.model.arrays import (
    FEATURES,
    ITEM_FEATURES,
    ITEMS,
    USER_FEATURES,
    USERS,
    FeatureVectors,
    Vectors,
    embedding_column,
    features_from_table,
    vectors_from_table,
    vectors_to_table,
)
from recsys.model.fold_in_table import FOLD_IN_TABLE, fold_in_from_table, fold_in_to_table
from recsys.model.learned import Learned
from recsys.model.manifest import ModelManifest, ModelOrigin, ModelTables, read_model_manifest
from recsys.model.state import STATES, state_frames, state_schemas
from recsys.runtime.memory import check_result
from recsys.store.checksums import compare_files
from recsys.store.manifest import MANIFEST
from recsys.store.tables import Scratch, Store

_LOCAL_USERS_SCHEMA = (
    "user_index int, user_id {user}, trained boolean, bias float, embedding array<float>"
)


@dataclass(frozen=True)
class Model:
    """A model: its items on the driver, its tables where they lie.

    Attributes:
        uri: its directory.
        manifest: what is said of it.
        items: ids, embeddings and biases of its items.
        fold_in: makes vectors of users whom it does not know.
        users: USERS_SCHEMA.
        item_index: `item_id` and `item_index`.
    """

    uri: str
    manifest: ModelManifest
    items: Vectors
    fold_in: FoldIn
    users: DataFrame
    item_index: DataFrame

    @property
    def model_id(self) -> str:
        """The model's id."""
        return self.manifest.model_id

    @property
    def id_types(self) -> IdTypes:
        """The types of the ids."""
        return self.manifest.id_types


def write_model(
    store: Store,
    scratch: Scratch,
    uri: str,
    learned: Learned,
    pairs: DataFrame,
    origin: ModelOrigin,
    *,
    rows_per_file: int,
) -> ModelManifest:
    """Write a model's tables and, last, its manifest.

    Args:
        store: where it goes.
        scratch: brings the vectors to the executors.
        uri: the directory to write, which does not exist yet.
        learned: what to write.
        pairs: all pairs (INTERACTIONS_SCHEMA), whatever their label: the seen items.
        origin: where the model comes from.
        rows_per_file: users per file.
    """
    types, n_users, n_items = learned.id_types, len(learned.users.ids), len(learned.items.ids)
    users = _users(scratch, learned, pairs)
    frames = {
        ITEMS: scratch.frame(vectors_to_table(learned.items, ITEMS), types.fill(ITEMS_SCHEMA))
        .coalesce(1)
        .sortWithinPartitions(ITEM_INDEX),
        USERS: users.repartitionByRange(
            -(-n_users // rows_per_file), USER_INDEX
        ).sortWithinPartitions(USER_INDEX),
        FOLD_IN_TABLE: scratch.frame(fold_in_to_table(learned.fold_in), FOLD_IN_SCHEMA).coalesce(1),
    }
    for kind, found in (
        (ITEM_FEATURES, learned.item_features),
        (USER_FEATURES, learned.user_features),
    ):
        if found is not None:
            frames[kind] = (
                scratch.frame(_feature_table(found), MODEL_FEATURES_SCHEMA)
                .coalesce(1)
                .sortWithinPartitions(NAME)
            )
    if learned.kept is not None:
        frames |= state_frames(scratch, learned.kept, types, rows_per_file)
    schemas = _schemas(types)
    tables = {
        name: store.write_table(frame, f"{uri}/{name}", schemas[name])
        for name, frame in frames.items()
    }
    manifest = ModelManifest(
        **dict(origin),
        schema_version=ModelManifest.SCHEMA_VERSION,
        id_types=types,
        n_users=n_users,
        n_items=n_items,
        no_components=int(learned.items.embeddings.shape[1]),
        tables=ModelTables(**tables),
    )
    store.files.replace(f"{uri}/{MANIFEST}", manifest.to_json())
    return manifest


def written_model(store: Store, uri: str, learned: Learned, manifest: ModelManifest) -> Model:
    """Return a model that this process has just written, without reading its files again.

    Args:
        store: the root.
        uri: where it lies now.
        learned: what was written.
        manifest: what `write_model` returned.
    """
    return _model(store, uri, manifest, learned.items, learned.fold_in)


def load_model(store: Store, uri: str) -> Model:
    """Load a model from wherever Spark can read, after checking every file of it.

    Raises:
        ModelError: it is missing, incomplete or damaged; the message names what.
        MemoryLimitError: its items are more than Spark may collect.
    """
    manifest = read_manifest(store, uri)
    for table, written in manifest.written():
        if table in STATES:
            continue  # which nothing but a warm start reads
        place = f"{uri}/{table}"
        found = store.data_files(place) if store.exists(place) else []
        compare_files(f"model {manifest.model_id}", table, written.files, found)
    schemas = _schemas(manifest.id_types)
    items = store.read_table(f"{uri}/{ITEMS}", schemas[ITEMS])
    check_vectors(items, manifest, ITEMS)
    vectors = vectors_from_table(items.orderBy(ITEM_INDEX).toArrow(), manifest, ITEMS)
    row = store.read_table(f"{uri}/{FOLD_IN_TABLE}", FOLD_IN_SCHEMA).toArrow()
    return _model(store, uri, manifest, vectors, fold_in_from_table(row, manifest, vectors.history))


def check_vectors(table: DataFrame, manifest: ModelManifest, kind: str) -> None:
    """Refuse to collect a model's `items` or `users` where they are more than Spark may collect.

    Raises:
        MemoryLimitError: with the numbers and what to change.
    """
    n = manifest.n_items if kind == ITEMS else manifest.n_users
    name, id_type = (
        (ITEM, manifest.id_types.item) if kind == ITEMS else (USER, manifest.id_types.user)
    )
    # An embedding and where it ends, a bias, and at most two more numbers.
    second = manifest.training.assembly.second_view
    history = second.rank if second is not None and kind == ITEMS else 0
    numbers = n * (manifest.no_components + history + 4) * 4
    text = id_type == "string"  # only then is there anything to add up
    ids = table.agg(F.sum(id_bytes(name, id_type))).collect()[0][0] if text else n * 8
    check_result(
        table.sparkSession,
        f"{n:,} {kind} with {manifest.no_components} components",
        numbers + (ids or 0),
        "raise it, or train with fewer training.no_components",
    )


def read_features(store: Store, model: Model, kind: str) -> FeatureVectors | None:
    """Bring the features of a model's `items` or `users` to the driver; None without any.

    Args:
        store: the root.
        model: what `load_model` returned, which has looked at the files.
        kind: `items` or `users`.

    Raises:
        ModelError: the table does not fit the model's manifest.
        MemoryLimitError: they are more than Spark may collect.
    """
    about, width = model.manifest.described(kind), model.manifest.no_components
    if about is None:
        return None
    table = store.read_table(f"{model.uri}/{FEATURES[kind]}", MODEL_FEATURES_SCHEMA).select(
        NAME, GROUP, VALUE, N_IDS, BIAS, EMBEDDING
    )
    texts = sum((id_bytes(name, "string") for name in (NAME, GROUP, VALUE)), F.lit(0))
    found = table.agg(F.sum(texts)).collect()[0][0] or 0
    check_result(
        table.sparkSession,
        f"{about.features:,} features of {kind} with {width} components",
        about.features * (width + 4) * 4 + found,
        "raise it, or train with a larger min_count of the groups in features",
    )
    return features_from_table(table.toArrow(), model.manifest, kind)


def _schemas(types: IdTypes) -> dict[str, str]:
    return {
        ITEMS: types.fill(ITEMS_SCHEMA),
        USERS: types.fill(USERS_SCHEMA),
        FOLD_IN_TABLE: FOLD_IN_SCHEMA,
        ITEM_FEATURES: MODEL_FEATURES_SCHEMA,
        USER_FEATURES: MODEL_FEATURES_SCHEMA,
        **state_schemas(types),
    }


def _model(
    store: Store, uri: str, manifest: ModelManifest, items: Vectors, fold_in: FoldIn
) -> Model:
    schemas = _schemas(manifest.id_types)
    table = store.read_table(f"{uri}/{ITEMS}", schemas[ITEMS])
    return Model(
        uri=uri,
        manifest=manifest,
        items=items,
        fold_in=fold_in,
        users=store.read_table(f"{uri}/{USERS}", schemas[USERS]),
        item_index=table.select(ITEM, ITEM_INDEX),
    )


def _users(scratch: Scratch, learned: Learned, pairs: DataFrame) -> DataFrame:
    """Return the users with their vectors and what they have interacted with (USERS_SCHEMA)."""
    types = learned.id_types
    users = scratch.frame(vectors_to_table(learned.users, USERS), types.fill(_LOCAL_USERS_SCHEMA))
    index = index_frame(scratch, learned.items.ids, types.item, ITEM, ITEM_INDEX)
    seen = (
        pairs.join(index, on=ITEM, how="inner")
        .groupBy(USER)
        .agg(F.sort_array(F.collect_list(ITEM_INDEX)).alias(SEEN))
    )
    return users.join(seen, on=USER, how="left").select(
        USER_INDEX,
        USER,
        TRAINED,
        BIAS,
        EMBEDDING,
        F.coalesce(SEEN, F.array().cast("array<int>")).alias(SEEN),
    )


def _feature_table(found: LearnedFeatures) -> pa.Table:
    """Return features as a table (MODEL_FEATURES_SCHEMA)."""
    text, features = pa.string(), found.features
    return pa.table(
        {
            NAME: pa.array([feature.name for feature in features], text),
            GROUP: pa.array([feature.group for feature in features], text),
            VALUE: pa.array([feature.found for feature in features], text),
            N_IDS: pa.array([feature.ids for feature in features], pa.int64()),
            BIAS: pa.array(found.biases),
            EMBEDDING: embedding_column(found.embeddings),
        }
    )


def read_manifest(store: Store, uri: str) -> ModelManifest:
    """Read the manifest of a model, and none of its tables.

    Raises:
        ModelError: it is missing or damaged.
    """
    directory = uri.rsplit("/", 1)[-1]
    try:
        content = store.files.read(f"{uri}/{MANIFEST}")
    except FileNotFoundError as error:
        raise ModelError(
            f"model {directory} is missing or incomplete: there is no {uri}/{MANIFEST}; train it"
        ) from error
    return read_model_manifest(content, directory)
