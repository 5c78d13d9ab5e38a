"""What a model keeps so that a training can go on from it, as tables. Scoring never reads them."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.columns import (
    ITEM,
    ITEM_STATE_SCHEMA,
    POSITION,
    TRAINING_STATE_SCHEMA,
    USER,
    USER_STATE_SCHEMA,
    IdTypes,
)
from recsys.errors import ModelError
from recsys.ingest.ids import id_bytes
from recsys.learn.state import Parameters, State
from recsys.learn.warm_start import Kept
from recsys.model.arrays import embedding_column
from recsys.model.manifest import ModelManifest
from recsys.runtime.memory import check_result
from recsys.store.checksums import compare_files
from recsys.store.tables import Scratch, Store

ITEM_STATE, USER_STATE, TRAINING_STATE = STATES = ("item_state", "user_state", "training_state")
_MATRICES = (
    "embeddings",
    "embedding_gradients",
    "embedding_momentum",
    "average_embeddings",
)
_NUMBERS = ("biases", "bias_gradients", "bias_momentum", "average_biases")
_SIDES = ((USER_STATE, USER), (ITEM_STATE, ITEM))


def state_schemas(types: IdTypes) -> dict[str, str]:
    """Return the schemas of these tables, by name."""
    return {
        ITEM_STATE: types.fill(ITEM_STATE_SCHEMA),
        USER_STATE: types.fill(USER_STATE_SCHEMA),
        TRAINING_STATE: TRAINING_STATE_SCHEMA,
    }


def state_frames(
    scratch: Scratch, kept: Kept, types: IdTypes, rows_per_file: int
) -> dict[str, DataFrame]:
    """Return what is to be written, by table.

    Args:
        scratch: brings it to the executors.
        kept: what was kept.
        types: of the ids.
        rows_per_file: of users and items.
    """
    schemas, state = state_schemas(types), kept.state
    sides = (kept.user_ids, state.users), (kept.item_ids, state.items)
    frames = {}
    for (table, name), (ids, parameters) in zip(_SIDES, sides, strict=True):
        frame = scratch.frame(_parameters_table(name, ids, parameters), schemas[table])
        files = -(-len(ids) // rows_per_file)
        frames[table] = frame.repartitionByRange(files, POSITION).sortWithinPartitions(POSITION)
    whole = pa.table(
        {
            "epochs": pa.array([state.epochs], pa.int32()),
            "averaged": pa.array([state.averaged], pa.int32()),
            "random": pa.array([state.random.astype(np.int64)], pa.list_(pa.int64())),
        }
    )
    return {**frames, TRAINING_STATE: scratch.frame(whole, TRAINING_STATE_SCHEMA).coalesce(1)}


def _parameters_table(name: str, ids: pa.Array, found: Parameters) -> pa.Table:
    columns = {POSITION: pa.array(np.arange(len(ids), dtype=np.int32)), name: ids}
    columns |= {key: pa.array(getattr(found, key)) for key in _NUMBERS}
    columns |= {key: embedding_column(getattr(found, key)) for key in _MATRICES}
    return pa.table(columns)


def read_state(store: Store, uri: str, manifest: ModelManifest) -> Kept:
    """Bring to the driver what a training needs to go on, after checking every file of it.

    Args:
        store: the root.
        uri: the model's directory.
        manifest: of the model.

    Raises:
        ModelError: it was not kept, or is damaged.
        MemoryLimitError: it is more than Spark may collect.
    """
    schemas = state_schemas(manifest.id_types)
    for table, written in manifest.written():
        if table in STATES:
            place = f"{uri}/{table}"
            found = store.data_files(place) if store.exists(place) else []
            compare_files(f"model {manifest.model_id}", table, written.files, found)
    if manifest.tables.training_state is None:
        raise ModelError(f"model {manifest.model_id} was trained without training.resumable")
    whole = store.read_table(f"{uri}/{TRAINING_STATE}", schemas[TRAINING_STATE]).collect()[0]
    users, items = (
        _read(store, uri, manifest, table, name, schemas[table]) for table, name in _SIDES
    )
    random = np.array(whole["random"], np.int64).astype(np.uint32)
    state = State(users[1], items[1], whole["epochs"], whole["averaged"], random)
    return Kept(users[0], items[0], state)


def _read(
    store: Store, uri: str, manifest: ModelManifest, table: str, name: str, schema: str
) -> tuple[pa.Array, Parameters]:
    frame = store.read_table(f"{uri}/{table}", schema)
    rows, width = manifest.table(table).rows, manifest.configuration["training"]["no_components"]
    kind = frame.schema[name].dataType.simpleString()
    ids = frame.agg(F.sum(id_bytes(name, kind))).collect()[0][0] or 0
    numbers = rows * (len(_MATRICES) * (width + 1) + len(_NUMBERS) + 1) * 4
    advice = "raise it, or train from nothing"
    check_result(frame.sparkSession, f"the state of {rows:,} {name}s", numbers + ids, advice)
    found = frame.orderBy(POSITION).toArrow()
    arrays = {key: found.column(key).to_numpy().astype(np.float32) for key in _NUMBERS}
    arrays |= {key: _matrix(found, key, width, manifest) for key in _MATRICES}
    return found.column(name).combine_chunks(), Parameters(**arrays)


def _matrix(table: pa.Table, key: str, width: int, manifest: ModelManifest) -> NDArray[np.float32]:
    lists = table.column(key).combine_chunks()
    values = lists.flatten().to_numpy(zero_copy_only=False)
    if len(values) != len(table) * width:
        raise ModelError(
            f"model {manifest.model_id} is damaged: the state has {key} that are not of size "
            f"{width}; train from nothing"
        )
    return np.array(values, np.float32).reshape(len(table), width)  # a copy: it will be changed
