"""Users whom a sample left out of a model, from the interactions beside it; without Spark."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.columns import ITEM, RATING, USER
from recsys.errors import ModelError
from recsys.ingest.local_pairs import read_local_pairs
from recsys.kernel.fold_in import FoldIn, fold_in
from recsys.kernel.worker import Lists
from recsys.model.arrays import USERS, Vectors, read_local_manifest
from recsys.model.manifest import ModelManifest
from recsys.model.whole import SomeUsers, WholeModel
from recsys.score.histories import Histories, find_histories
from recsys.score.local_ids import LocalIds
from recsys.score.representation import Representation, known


@dataclass(frozen=True)
class LeftOut:
    """Finds what users have done who are not in a model that was trained on a sample.

    Attributes:
        folder: the model's.
        manifest: what is said of it.
        items: its items.
        fold_in: makes vectors of users.
    """

    folder: Path
    manifest: ModelManifest
    items: Vectors
    fold_in: FoldIn

    @classmethod
    def of(cls, folder: Path, items: Vectors, lists: Lists) -> Self | None:
        """Look at a model; None where it was trained on all users.

        Raises:
            ModelError: its manifest is missing or damaged.
        """
        manifest = read_local_manifest(folder)
        if manifest.sample is None:
            return None
        return cls(folder, manifest, items, lists.model.fold_in)

    @cached_property
    def pairs(self) -> pa.Table:
        """What all users have done: `user_id`, `item_id` and `rating`, read when first needed.

        Raises:
            ModelError: the interactions are not beside the model, or damaged.
        """
        name = self.manifest.interactions_id
        place = self.folder.parent.parent / "interactions" / name
        if not place.is_dir():
            raise ModelError(
                f"model {self.folder.name} was trained on a sample of the users, and what the "
                f"others have done is in interactions {name}; expected them in {place}, found "
                "none; copy them with the model, as in its root, or use recommend_likes"
            )
        return read_local_pairs(place).select([USER, ITEM, RATING])

    def histories(self, ids: pa.Array, had: SomeUsers) -> Histories:
        """Return what users have done.

        Args:
            ids: of the users, each once.
            had: what the model has of them.

        Raises:
            ModelError: the interactions are not beside the model, or damaged.
        """
        model = WholeModel(self.folder, self.manifest, self.items, self.fold_in, had)
        wanted = ~had.trained
        users = self.pairs.column(USER)
        whose = ids.filter(pa.array(wanted)).cast(users.type)
        pairs = self.pairs.filter(pc.is_in(users, value_set=whose))
        return find_histories(model, ids, pairs, wanted, self.manifest.pair_rules)

    def user(self, users: Vectors, given: object) -> Representation | None:
        """Fold in one user; None for who is in the model, or likes nothing that it has."""
        kind = users.ids.type
        found = LocalIds(users.ids).convert(given)
        if found is None or pc.index(users.ids, pa.scalar(found, kind)).as_py() >= 0:
            return None
        embeddings = self.items.embeddings
        nothing = SomeUsers.nobody(1, embeddings.shape[1])
        done = self.histories(pa.array([found], kind), nothing)
        if not len(done.liked.values):
            return None
        weights = done.weights.astype(np.float32)
        vector = fold_in(self.fold_in, embeddings, done.liked.indptr, done.liked.values, weights)
        return Representation(USERS, vector[0], np.float32(0), id=found)


def known_or_folded(users: Vectors, left_out: LeftOut | None, given: object) -> Representation:
    """Return one of a model's users, or one whom a sample left out, folded in.

    Raises:
        ConfigError: it cannot be an id of the model's type, or is neither.
        ModelError: the interactions are not beside the model, or damaged.
    """
    folded = None if left_out is None else left_out.user(users, given)
    return known(users, USERS, given) if folded is None else folded
