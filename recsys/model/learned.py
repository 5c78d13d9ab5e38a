"""What a training gives a model: its items and users, with those that have nothing but features."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.columns import IdTypes
from recsys.kernel.fold_in import FoldIn
from recsys.learn.embeddings import Embeddings
from recsys.learn.features import IDENTITIES, Feature, Side, Sides
from recsys.learn.matrices import Interactions
from recsys.model.arrays import Vectors


@dataclass(frozen=True)
class LearnedFeatures:
    """The features of users or of items, with what was learned of them.

    Attributes:
        features: in order of group and value.
        embeddings: `(n_features, n_components)` float32.
        biases: `(n_features,)` float32.
    """

    features: list[Feature]
    embeddings: NDArray[np.float32]
    biases: NDArray[np.float32]


@dataclass(frozen=True)
class Learned:
    """What a training gives a model.

    Attributes:
        users, items: in ascending order of the ids.
        fold_in: makes vectors of users who were not there.
        id_types: of the ids.
        user_features, item_features: None where there are none.
    """

    users: Vectors
    items: Vectors
    fold_in: FoldIn
    id_types: IdTypes
    user_features: LearnedFeatures | None = None
    item_features: LearnedFeatures | None = None

    @classmethod
    def of(
        cls,
        interactions: Interactions,
        embeddings: Embeddings,
        fold_in: FoldIn,
        id_types: IdTypes,
        *,
        features: Sides = IDENTITIES,
        learned: Embeddings | None = None,
        cold: bool = True,
    ) -> Self:
        """Put together what was learned.

        Args:
            interactions: what the model was trained on.
            embeddings: of its users and items.
            fold_in: makes vectors of users who were not there.
            id_types: of the ids.
            features: of its users and items.
            learned: the embeddings of these features; None without features.
            cold: whether to add users and items that have nothing but features.
        """
        labels = interactions.labels
        positives = np.bincount(labels.col[labels.data > 0], minlength=labels.shape[1])
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
            positives.astype(np.int32),
        )
        if learned is None:
            return cls(users, items, fold_in, id_types)
        of_users = learned.user_embeddings, learned.user_biases
        of_items = learned.item_embeddings, learned.item_biases
        if cold:
            users = _with_cold(users, features.users, *of_users)
            items = _with_cold(items, features.items, *of_items)
        return cls(
            users,
            items,
            fold_in,
            id_types,
            _features(features.users, *of_users),
            _features(features.items, *of_items),
        )


def _features(
    side: Side | None, embeddings: NDArray[np.float32], biases: NDArray[np.float32]
) -> LearnedFeatures | None:
    if side is None:
        return None
    n = side.n_identities
    return LearnedFeatures(side.features, embeddings[n:], biases[n:])


def _with_cold(
    trained: Vectors,
    side: Side | None,
    embeddings: NDArray[np.float32],
    biases: NDArray[np.float32],
) -> Vectors:
    """Add those that have nothing but features, and keep the order of the ids."""
    if side is None or len(side.cold_ids) == 0:
        return trained
    ids = pa.concat_arrays([trained.ids, side.cold_ids])
    order = pc.sort_indices(ids)
    at = order.to_numpy()
    new = np.zeros(len(side.cold_ids), np.int32)
    positives = trained.positives
    return Vectors(
        ids.take(order),
        np.concatenate([trained.embeddings, side.cold @ embeddings])[at],
        np.concatenate([trained.biases, side.cold @ biases])[at],
        np.concatenate([trained.trained, new.astype(np.bool_)])[at],
        None if positives is None else np.concatenate([positives, new])[at],
    )
