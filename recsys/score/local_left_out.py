"""Users whom a sample left out of a model, from the interactions beside it; without Spark."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.columns import BIAS, EMBEDDING, ITEM, RATING, SEEN, TRAINED, USER
from recsys.errors import ModelError
from recsys.ingest.local_pairs import read_local_pairs
from recsys.kernel.worker import Lists
from recsys.model.arrays import USERS, Vectors, load_table, read_local_manifest
from recsys.model.manifest import ModelManifest
from recsys.model.whole import SomeUsers, WholeModel, some_users
from recsys.score.histories import Histories, find_histories
from recsys.score.local_ids import LocalIds
from recsys.score.representation import Representation, known

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LeftOut:
    """Finds what users have done on whom a model of a sample was not trained.

    These are not in the model, or have nothing but features there. As in a batch job, the latter
    are folded in as well where they like something: what they like has no weight in the training.

    Attributes:
        folder: the model's.
        manifest: what is said of it.
        items: its items.
        lists: makes vectors and lists of users.
    """

    folder: Path
    manifest: ModelManifest
    items: Vectors
    lists: Lists

    @classmethod
    def of(cls, folder: Path, items: Vectors, lists: Lists) -> Self | None:
        """Look at a model; None where it was trained on all users.

        Raises:
            ModelError: its manifest is missing or damaged.
        """
        manifest = read_local_manifest(folder)
        if manifest.sample is None:
            return None
        return cls(folder, manifest, items, lists)

    @staticmethod
    def may_like(had: SomeUsers) -> NDArray[np.bool_]:
        """Say who may like something that the model was not trained on, `(n_users,)` bool.

        Of users who have nothing but features the model says whether they have seen any item.
        """
        return ~had.known | (~had.trained & (np.diff(had.seen.indptr) > 0))

    def histories(self, ids: pa.Array, had: SomeUsers) -> Histories | None:
        """Return what those have done who `may_like` something; the pairs of others are not read.

        None where the interactions are not beside the model and it has features of all of these:
        then they are served by those, and a warning says so.

        Args:
            ids: of the users, each once.
            had: what the model has of them.

        Raises:
            ModelError: the interactions are damaged; or they are not beside the model, and are
                needed for somebody whom it does not have.
        """
        wanted = self.may_like(had)
        if had.known[wanted].all() and not self._place.is_dir():
            log.warning(
                "model %s is without its interactions %s: %s of the users who are asked for have "
                "seen something and are served by features alone, whatever they like; copy the "
                "interactions with the model, as in its root",
                self.folder.name,
                self.manifest.interactions_id,
                f"{int(wanted.sum()):,}",
            )
            return None
        model = WholeModel(self.folder, self.manifest, self.items, self.lists.model.fold_in, had)
        pairs = self._pairs(ids.filter(pa.array(wanted)))
        return find_histories(model, ids, pairs, wanted, self.manifest.pair_rules)

    @property
    def _place(self) -> Path:
        """Where the interactions are expected, as in a root."""
        return self.folder.parent.parent / "interactions" / self.manifest.interactions_id

    def _pairs(self, users: pa.Array) -> pa.Table:
        """Read what some users have done: `user_id`, `item_id` and `rating`."""
        if not self._place.is_dir():
            raise ModelError(
                f"model {self.folder.name} was trained on a sample of the users, and what the "
                f"others have done is in interactions {self._place.name}; expected them in "
                f"{self._place}, found none; copy them with the model, as in its root, or use "
                "recommend_likes"
            )
        return read_local_pairs(self._place, users).select([USER, ITEM, RATING])

    def user(self, users: Vectors, given: object) -> Representation | None:
        """Fold in one user; None for who was trained on, or likes nothing that the model has.

        Args:
            users: all that the model has; what they have seen is read of this one alone.
            given: an id, as a number or text.

        Raises:
            ModelError: as `histories`; or the model's table of users is damaged.
        """
        kind = users.ids.type
        found = LocalIds(users.ids).convert(given)
        if found is None:
            return None
        ids = pa.array([found], kind)
        row = pc.index(users.ids, ids[0]).as_py()
        if row < 0:
            had = SomeUsers.nobody(1, self.items.embeddings.shape[1])
        elif users.trained[row]:
            return None
        else:
            columns = [USER, TRAINED, BIAS, EMBEDDING, SEEN]
            table = load_table(self.folder, USERS, columns, pc.field(USER) == ids[0])[1]
            had = some_users(table, ids, self.items.embeddings.shape[1])
        if not self.may_like(had).any():
            return None
        done = self.histories(ids, had)
        if done is None or not len(done.liked.values):
            return None
        vector = self.lists.folded(to_fold_in(np.array([0]), had, done))[0]
        return Representation(USERS, vector, np.float32(0), id=found)


def to_fold_in(rows: NDArray[np.int64], had: SomeUsers, done: Histories) -> pd.DataFrame:
    """Return users as `Lists.by_fold_in` takes them.

    Args:
        rows: which of the users.
        had: what the model has of them; where that comes of features it is averaged with the rest.
        done: what they have done.

    Returns:
        `embedding` (null for who is not in the model), `liked` and `weights`.
    """
    columns = {
        "embedding": [had.embeddings[i] if had.known[i] else None for i in rows],
        "liked": [done.liked[i] for i in rows],
        "weights": [done.weights_of(i) for i in rows],
    }
    return pd.DataFrame({name: pd.Series(found, dtype=object) for name, found in columns.items()})


def known_or_folded(users: Vectors, left_out: LeftOut | None, given: object) -> Representation:
    """Return one of a model's users, or one whom a sample left out, folded in.

    Raises:
        ConfigError: it cannot be an id of the model's type, or is neither.
        ModelError: as `LeftOut.user`.
    """
    folded = None if left_out is None else left_out.user(users, given)
    return known(users, USERS, given) if folded is None else folded
