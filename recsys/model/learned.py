"""What a training gives a model: its items and users, with those that have nothing but features."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.columns import IdTypes
from recsys.kernel.fold_in import FoldIn
from recsys.kernel.second_view import SecondView
from recsys.learn.cold import LearnedFeatures
from recsys.learn.embeddings import Embeddings
from recsys.learn.matrices import Interactions
from recsys.learn.warm_start import Kept
from recsys.model.arrays import Vectors


@dataclass(frozen=True)
class Learned:
    """What a training gives a model.

    Attributes:
        users, items: in ascending order of the ids.
        fold_in: makes vectors of users who were not there.
        id_types: of the ids.
        user_features, item_features: None where there are none.
        kept: what a training needs to go on; None where it is not kept.
    """

    users: Vectors
    items: Vectors
    fold_in: FoldIn
    id_types: IdTypes
    user_features: LearnedFeatures | None = None
    item_features: LearnedFeatures | None = None
    kept: Kept | None = None

    @property
    def rows(self) -> int:
        """How many users and items it has, each of which is a row."""
        return len(self.users.ids) + len(self.items.ids)

    @classmethod
    def of(
        cls,
        interactions: Interactions,
        embeddings: Embeddings,
        fold_in: FoldIn,
        id_types: IdTypes,
        *,
        user_features: LearnedFeatures | None = None,
        item_features: LearnedFeatures | None = None,
        kept: Kept | None = None,
        cold: bool = True,
        positives: NDArray[np.int32] | None = None,
    ) -> Self:
        """Put together what was learned.

        Args:
            interactions: what the model was trained on.
            embeddings: of its users and items.
            fold_in: makes vectors of users who were not there.
            id_types: of the ids.
            user_features: of its users, None where there are none.
            item_features: of its items, likewise.
            kept: what a training needs to go on from this one; None where it is not kept.
            cold: whether to add users and items that have nothing but features.
            positives: `(n_items,)`, how many users like each item; None: as many as are in the
                training.
        """
        labels = interactions.labels
        if positives is None:
            liked = labels.col[labels.data > 0]
            positives = np.bincount(liked, minlength=labels.shape[1]).astype(np.int32)
        users = Vectors(
            interactions.user_ids,
            embeddings.user_embeddings,
            embeddings.user_biases,
            np.ones(labels.shape[0], np.bool_),
        )
        items = Vectors(
            interactions.item_ids,
            embeddings.item_embeddings,
            embeddings.item_biases,
            np.ones(labels.shape[1], np.bool_),
            positives,
            None if fold_in.second is None else fold_in.second.history,
        )
        if cold:
            users = _with_cold(users, user_features)
            items = _with_cold(items, item_features)
        if items.history is not None:  # of cold items, too
            fold_in = replace(fold_in, second=SecondView(history=items.history))
        return cls(users, items, fold_in, id_types, user_features, item_features, kept)


def _with_cold(trained: Vectors, features: LearnedFeatures | None) -> Vectors:
    """Add those that have nothing but features, and keep the order of the ids."""
    if features is None or len(features.cold_ids) == 0:
        return trained
    ids = pa.concat_arrays([trained.ids, features.cold_ids])
    order = pc.sort_indices(ids)
    at = order.to_numpy()
    new = np.zeros(len(features.cold_ids), np.int32)
    positives, history = trained.positives, trained.history
    if history is not None:  # nobody has them, so nothing is known of what they add
        nothing = np.zeros((len(new), history.shape[1]), np.float32)
        history = np.concatenate([history, nothing])[at]
    return Vectors(
        ids.take(order),
        np.concatenate([trained.embeddings, features.cold_embeddings])[at],
        np.concatenate([trained.biases, features.cold_biases])[at],
        np.concatenate([trained.trained, new.astype(np.bool_)])[at],
        None if positives is None else np.concatenate([positives, new])[at],
        history,
    )
