"""A whole model in a local directory: its items, some of its users and what they have seen.

pyarrow alone reads it.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.columns import BIAS, EMBEDDING, SEEN, TRAINED, USER
from recsys.kernel.fold_in import FoldIn
from recsys.kernel.worker import Ragged
from recsys.model.arrays import USERS, Vectors, load_fold_in, load_items, load_table
from recsys.model.manifest import ModelManifest

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class SomeUsers:
    """What a model has of the users that are asked for, in their order.

    Attributes:
        known: `(n,)` bool, whether it has them.
        trained: `(n,)` bool, whether it has learned from them; the other known ones have nothing
            but features.
        embeddings: `(n, d)` float32, zeros where it has none.
        biases: `(n,)` float32, likewise.
        seen: rows of the items that each has interacted with.
    """

    known: NDArray[np.bool_]
    trained: NDArray[np.bool_]
    embeddings: F32
    biases: F32
    seen: Ragged

    @classmethod
    def nobody(cls, n: int, width: int) -> "SomeUsers":
        """Return n users whom a model does not have."""
        no, none = np.zeros(n, np.bool_), Ragged(np.zeros(n + 1, np.int64), np.empty(0, np.int32))
        return cls(no, no, np.zeros((n, width), np.float32), np.zeros(n, np.float32), none)


@dataclass(frozen=True)
class WholeModel:
    """A model as arrays.

    Attributes:
        folder: where it is.
        manifest: what is said of it.
        items: all of its items.
        fold_in: makes vectors of users.
        users: those that were asked for.
    """

    folder: Path
    manifest: ModelManifest
    items: Vectors
    fold_in: FoldIn
    users: SomeUsers

    @classmethod
    def load(cls, folder: Path, users: pa.Array) -> "WholeModel":
        """Load a model's items, and what it has of some users.

        Args:
            folder: its directory.
            users: their ids, each once.

        Raises:
            ModelError: the model is missing, incomplete or damaged.
        """
        items = load_items(folder)
        columns = [USER, TRAINED, BIAS, EMBEDDING, SEEN]
        manifest, table = load_table(folder, USERS, columns)
        found = some_users(table, users, manifest.no_components)
        return cls(folder, manifest, items, load_fold_in(folder, items), found)


def some_users(table: pa.Table, users: pa.Array, width: int) -> SomeUsers:
    """Return what a model's table of users has of some of them, in their order.

    Args:
        table: `user_id`, `trained`, `bias`, `embedding` and `seen`.
        users: their ids, each once.
        width: of an embedding.
    """
    ids = table.column(USER).combine_chunks()
    at = pc.index_in(users.cast(ids.type), value_set=ids)
    known = np.asarray(at.is_valid().to_numpy(zero_copy_only=False))
    rows = table.take(at.drop_null())
    n = len(users)
    embeddings, biases = np.zeros((n, width), np.float32), np.zeros(n, np.float32)
    trained, lengths = np.zeros(n, np.bool_), np.zeros(n, np.int64)
    vectors = rows.column(EMBEDDING).combine_chunks().flatten().to_numpy(zero_copy_only=False)
    embeddings[known] = vectors.reshape(len(rows), width)
    biases[known] = rows.column(BIAS).to_numpy()
    trained[known] = rows.column(TRAINED).to_numpy(zero_copy_only=False)
    seen = rows.column(SEEN).combine_chunks()
    lengths[known] = pc.list_value_length(seen).fill_null(0).to_numpy(zero_copy_only=False)
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    values = seen.flatten().to_numpy(zero_copy_only=False).astype(np.int32)
    return SomeUsers(known, trained, embeddings, biases, Ragged(indptr, values))
