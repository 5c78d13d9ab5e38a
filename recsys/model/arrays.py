"""A model as arrays, and how it lies on disk.

A model is a directory of Parquet tables and a manifest, all written through Spark (see
`recsys.model.tables`):

- `items`: `item_index`, `item_id`, `positives` (how many users liked it), `trained` (whether the
  model has learned from it), `bias`, `embedding`, `history` (what the item adds to the second part
  of a user's vector; null without a second view, or if that makes it from `embedding`)
- `users`: `user_index`, `user_id`, `trained`, `bias`, `embedding`, `seen` (indices of the items
  that the user has interacted with, ascending)
- `item_features`, `user_features`, where there are any: `name`, `group`, `value` (as found), `ids`
  (how many have it), `bias`, `embedding`
- `fold_in`: one row, the map that makes vectors of new users (see `recsys.kernel.fold_in`)
- `manifest.json`: configuration, input, versions, timings, shapes, size and SHA-256 of the files

On a local path pyarrow alone can read it: `load_items` and `load_users` need no Spark.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.columns import (
    BIAS,
    EMBEDDING,
    GROUP,
    HISTORY,
    ITEM,
    ITEM_INDEX,
    N_IDS,
    NAME,
    POSITIVES,
    TRAINED,
    USER,
    USER_INDEX,
    VALUE,
)
from recsys.errors import ModelError
from recsys.kernel.fold_in import FoldIn
from recsys.model.features_report import DescribedCounts
from recsys.model.fold_in_table import FOLD_IN_TABLE, fold_in_from_table
from recsys.model.manifest import ModelManifest, read_model_manifest
from recsys.store.checksums import compare_files, local_files
from recsys.store.files import require_local
from recsys.store.manifest import MANIFEST, File

ITEMS, USERS = "items", "users"
ITEM_FEATURES, USER_FEATURES = "item_features", "user_features"
FEATURES = {ITEMS: ITEM_FEATURES, USERS: USER_FEATURES}
_NAMES = {ITEMS: (ITEM_INDEX, ITEM), USERS: (USER_INDEX, USER)}


@dataclass(frozen=True)
class Vectors:
    """Ids with their embeddings and biases, in ascending order of the ids.

    Attributes:
        ids: `(n,)` Arrow array of int32, int64 or string.
        embeddings: `(n, n_components)` float32.
        biases: `(n,)` float32.
        trained: `(n,)` bool; the others have nothing but features.
        positives: `(n,)` int32, how many users liked each item; None for users.
        history: `(n, r)` float32, what each item adds to the second part of a user's vector; None
            for users, and for models without such a part.
    """

    ids: pa.Array
    embeddings: NDArray[np.float32]
    biases: NDArray[np.float32]
    trained: NDArray[np.bool_]
    positives: NDArray[np.int32] | None = None
    history: NDArray[np.float32] | None = None


def ids_for_pandas(ids: pa.Array) -> NDArray[np.generic]:
    """Return ids as an array that pandas takes as it is: integers, or str objects."""
    values: NDArray[np.generic] = ids.to_numpy(zero_copy_only=False)
    return values


def vectors_to_table(vectors: Vectors, kind: str) -> pa.Table:
    """Return items or users as a table of index, id, bias and embedding."""
    index_name, id_name = _NAMES[kind]
    n = len(vectors.ids)
    columns = {index_name: pa.array(np.arange(n, dtype=np.int32)), id_name: vectors.ids}
    if vectors.positives is not None:
        columns[POSITIVES] = pa.array(vectors.positives)
    columns[TRAINED] = pa.array(vectors.trained)
    columns[BIAS] = pa.array(vectors.biases)
    columns[EMBEDDING] = embedding_column(vectors.embeddings)
    if kind == ITEMS:
        history, empty = vectors.history, pa.nulls(n, pa.list_(pa.float32()))
        columns[HISTORY] = empty if history is None else embedding_column(history)
    return pa.table(columns)


def embedding_column(embeddings: NDArray[np.float32]) -> pa.Array:
    """Return embeddings, `(n, n_components)`, as a column of lists."""
    n, width = embeddings.shape
    offsets = np.arange(0, (n + 1) * width, width, dtype=np.int64)
    lists = pa.LargeListArray.from_arrays(offsets, pa.array(embeddings.reshape(-1)))
    return lists.cast(pa.list_(pa.float32()))


def vectors_from_table(table: pa.Table, manifest: ModelManifest, kind: str) -> Vectors:
    """Turn a table of items or users, in order of index, into arrays.

    Raises:
        ModelError: its shape is not the manifest's, or a value is not finite.
    """
    index_name, id_name = _NAMES[kind]
    n = manifest.n_items if kind == ITEMS else manifest.n_users
    index = table.column(index_name).to_numpy()
    if not np.array_equal(index, np.arange(n)):
        raise ModelError(
            f"model {manifest.model_id} is damaged: {kind} has no dense {index_name} up to {n - 1}"
        )
    ids = table.column(id_name).combine_chunks()
    positives = table.column(POSITIVES).to_numpy() if kind == ITEMS else None
    history = _history(table, manifest) if kind == ITEMS else None
    return Vectors(
        ids,
        *_learned(table, manifest, kind),
        table.column(TRAINED).to_numpy(zero_copy_only=False),
        positives,
        history,
    )


def _history(table: pa.Table, manifest: ModelManifest) -> NDArray[np.float32] | None:
    """Return what items add to the second part of a user's vector, if they do."""
    second = manifest.training.assembly.second_view
    if second is None or second.kind != "ease":
        return None
    return _numbers(table, manifest, ITEMS, HISTORY, second.rank)


def _numbers(
    table: pa.Table, manifest: ModelManifest, name: str, column: str, width: int
) -> NDArray[np.float32]:
    """Return a column of lists of the same length, `(n, width)`."""
    damaged = f"model {manifest.model_id} is damaged: {name} has"
    lists = table.column(column).combine_chunks()
    if lists.null_count or not (np.diff(lists.offsets.to_numpy()) == width).all():
        raise ModelError(f"{damaged} a column {column} that is not of size {width}")
    found = lists.flatten().to_numpy(zero_copy_only=False).reshape(len(table), width)
    if not np.isfinite(found).all():
        raise ModelError(f"{damaged} values that are not finite")
    made: NDArray[np.float32] = found.astype(np.float32)
    return made


def _learned(
    table: pa.Table, manifest: ModelManifest, name: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the embeddings, `(n, n_components)`, and biases, `(n,)`, of a table of a model."""
    embeddings = _numbers(table, manifest, name, EMBEDDING, manifest.no_components)
    biases = table.column(BIAS).to_numpy()
    if not np.isfinite(biases).all():
        damaged = f"model {manifest.model_id} is damaged: {name}"
        raise ModelError(f"{damaged} has values that are not finite")
    return embeddings, biases.astype(np.float32)


def load_items(folder: str | Path) -> Vectors:
    """Load a model's items from a local directory with pyarrow alone.

    Raises:
        ConfigError: it is no local path.
        ModelError: the table does not fit the manifest.
    """
    return _load_local(folder, ITEMS)


def load_fold_in(folder: str | Path, items: Vectors | None = None) -> FoldIn:
    """Load a model's fold-in map from a local directory with pyarrow alone.

    Args:
        folder: the model's.
        items: what `load_items` returned; None: it is read.

    Raises:
        ConfigError: it is no local path.
        ModelError: the table does not fit the manifest.
    """
    manifest, table = load_table(folder, FOLD_IN_TABLE, None)
    if items is None and manifest.training.assembly.second_view is not None:
        items = load_items(folder)
    return fold_in_from_table(table, manifest, None if items is None else items.history)


@dataclass(frozen=True)
class FeatureVectors:
    """The features of users or of items, as a model has learned them.

    Attributes:
        names: `(n,)` what they are called, `group=value`; ascending, by their UTF-8 bytes.
        groups: `(n,)` the group of each.
        values: `(n,)` the value of each, as most rows have it.
        ids: `(n,)` how many have each.
        embeddings: `(n, n_components)` float32.
        biases: `(n,)` float32.
        about: how much groups count, and where ranges end.
    """

    names: list[str]
    groups: list[str]
    values: list[str]
    ids: list[int]
    embeddings: NDArray[np.float32]
    biases: NDArray[np.float32]
    about: DescribedCounts

    def represent(
        self, features: Mapping[str, float]
    ) -> tuple[NDArray[np.float32], np.float32] | None:
        """Return the embedding and the bias of somebody, or something, with these features.

        Args:
            features: weights by names; names that the model does not have count for nothing.

        Returns:
            `(n_components,)` float32 and a float32; None if the model has none of them.
        """
        rows = {name: row for row, name in enumerate(self.names)}
        known = {rows[name]: weight for name, weight in features.items() if name in rows}
        if not known:
            return None
        at = np.array(sorted(known))
        weighed = [known[row] * self.about.weights[self.groups[row]] for row in at]
        weights = np.array(weighed, np.float64)
        if self.about.normalised:
            weights /= weights.sum() + float(self.about.identity)
        shares = weights.astype(np.float32)
        return shares @ self.embeddings[at], np.float32(shares @ self.biases[at])


def features_from_table(
    table: pa.Table, manifest: ModelManifest, kind: str
) -> FeatureVectors | None:
    """Turn a table of the features of `items` or `users`, in any order, into arrays.

    Returns:
        None if the model has none of these.

    Raises:
        ModelError: its shape is not the manifest's, or a value is not finite.
    """
    about = manifest.described(kind)
    if about is None:
        return None
    if len(table) != about.features:
        raise ModelError(
            f"model {manifest.model_id} is damaged: {FEATURES[kind]} has {len(table):,} rows, "
            f"expected {about.features:,}"
        )
    found = table.sort_by(NAME)
    return FeatureVectors(
        found.column(NAME).to_pylist(),
        found.column(GROUP).to_pylist(),
        found.column(VALUE).to_pylist(),
        found.column(N_IDS).to_pylist(),
        *_learned(found, manifest, FEATURES[kind]),
        about,
    )


def load_features(folder: str | Path, kind: str) -> FeatureVectors | None:
    """Load the features of a model's `items` or `users` with pyarrow alone; None without any.

    Raises:
        ConfigError: it is no local path.
        ModelError: a file is damaged.
    """
    if read_local_manifest(require_local(folder, "model")).described(kind) is None:
        return None
    manifest, table = load_table(folder, FEATURES[kind], None)
    return features_from_table(table, manifest, kind)


def configured_cold_items(folder: str | Path) -> str | int:
    """Return `features.cold_items` of a model's own configuration."""
    manifest = read_local_manifest(require_local(folder, "model"))
    found: str | int = manifest.configuration.get("features", {}).get("cold_items", "exclude")
    return found


def load_users(folder: str | Path) -> Vectors:
    """Load a model's users from a local directory with pyarrow alone.

    Raises:
        ConfigError: it is no local path.
        ModelError: the table does not fit the manifest.
    """
    return _load_local(folder, USERS)


def _checked(folder: Path, kind: str) -> tuple[ModelManifest, list[File]]:
    """Return a model's manifest and the files of one of its tables, after a look at each."""
    name, manifest = f"model {folder.name}", read_local_manifest(folder)
    expected = manifest.table(kind).files
    compare_files(name, kind, expected, local_files(folder / kind))
    return manifest, expected


def read_local_manifest(folder: Path) -> ModelManifest:
    """Read the manifest of a model in a local directory.

    Raises:
        ModelError: it is missing or damaged.
    """
    name = f"model {folder.name}"
    try:
        content = (folder / MANIFEST).read_bytes()
    except FileNotFoundError as error:
        raise ModelError(f"{name} is missing or incomplete: no {folder / MANIFEST}") from error
    except OSError as error:
        raise ModelError(f"cannot read {folder / MANIFEST}: {error.strerror}") from error
    return read_model_manifest(content, folder.name)


def _load_local(folder: str | Path, kind: str) -> Vectors:
    index_name, id_name = _NAMES[kind]
    more = [POSITIVES, HISTORY] if kind == ITEMS else []
    columns = [index_name, id_name, TRAINED, BIAS, EMBEDDING, *more]
    manifest, table = load_table(folder, kind, columns)
    return vectors_from_table(table.sort_by(index_name), manifest, kind)


def load_table(
    folder: str | Path, kind: str, columns: list[str] | None, only: pc.Expression | None = None
) -> tuple[ModelManifest, pa.Table]:
    """Return a model's manifest and columns of one of its tables, in any order of the rows.

    `only`: which rows, so that the others are never held; None: all.
    """
    place = require_local(folder, "model")
    manifest, expected = _checked(place, kind)
    # Whatever the directories above are called, they are no columns.
    parts = [
        pq.read_table(place / kind / file.path, columns=columns, partitioning=None, filters=only)
        for file in expected
    ]
    return manifest, pa.concat_tables(parts)
