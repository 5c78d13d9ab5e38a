"""What LightFM knows of a model's items, new items by their features, and users folded in again.

A second view is learned again (`second_view_again`), unless a sample of the users alone is there.

The model's own fold-in map makes all users, so they are what someone new with the same history
would be. The map has a factor for the items' biases, `bias_scale`, and the model's own users have
none. So that all users of the refreshed model are ranked alike, its items have their biases
multiplied by that factor, and its map has the factor 1: whoever is folded in later gets the same
scores.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.columns import IdTypes
from recsys.kernel.fold_in import FoldIn, fold_in, with_features
from recsys.kernel.second_view import SecondView
from recsys.learn.cold import LearnedFeatures
from recsys.learn.features import Described, Feature
from recsys.learn.known_users import histories
from recsys.learn.matrices import Interactions
from recsys.model.arrays import FeatureVectors, Vectors
from recsys.model.by_features import by_features, with_new
from recsys.model.learned import Learned
from recsys.model.second_view_again import (
    Again,
    Before,
    Sides,
    learn_again,
    with_features_again,
)

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class BaseModel:
    """What a refresh takes from a model.

    Attributes:
        items: ids, embeddings and biases.
        fold_in: makes vectors of users.
        id_types: of the ids.
        mean_user_bias: stands in for the biases of folded-in users.
        user_features, item_features: None where there are none.
        second: the second view; None where there is none, or where it stays.
    """

    items: Vectors
    fold_in: FoldIn
    id_types: IdTypes
    mean_user_bias: float
    user_features: FeatureVectors | None = None
    item_features: FeatureVectors | None = None
    second: Before | None = None


@dataclass(frozen=True)
class Refreshed:
    """A refreshed model, and what was found.

    Attributes:
        learned: what is written.
        pairs: positive pairs that users were folded in from.
        users: how many users were folded in.
        users_left_out: users of positive pairs who like nothing that the model has.
        new_items: items that have come in by their features.
        waiting_items: items of positive pairs that the model does not have.
        waiting_pairs: pairs of those.
        second_view_share: how much LightFM counts beside a second view that was learned again;
            None where none was.
    """

    learned: Learned
    pairs: int
    users: int
    users_left_out: int
    new_items: int
    waiting_items: int
    waiting_pairs: int
    second_view_share: float | None = None

    @classmethod
    def of(
        cls,
        base: BaseModel,
        liked: Interactions,
        described_items: Described | None = None,
        described_users: Described | None = None,
    ) -> Self:
        """Fold all users in again.

        Args:
            base: the model.
            liked: positive pairs alone.
            described_items: what describes items; None where nothing does.
            described_users: what describes users, likewise.

        Raises:
            KernelError: a user's vector is not finite.
        """
        scale = np.float32(base.fold_in.bias_scale)
        item_features = _scaled(base.item_features, scale)
        items = replace(base.items, biases=base.items.biases * scale)
        before = len(items.ids)
        items = with_new(items, item_features, described_items)
        fitted = base.fold_in
        if items.history is not None:  # of new items, too
            fitted = replace(fitted, second=SecondView(history=items.history))
        pairs, known, kept = _pairs(liked, items.ids)
        positives = np.bincount(pairs.indices, minlength=len(items.ids)).astype(np.int32)
        some = np.flatnonzero(np.diff(pairs.indptr) > 0)
        ids, likes = liked.user_ids.take(pa.array(some)), pairs[some]
        sides = Sides(item_features, described_items, base.user_features, described_users)
        made = None
        if base.second is not None and len(some):
            made = learn_again(items, fitted, likes, positives, base.second)
        if base.second is None or made is None:
            vectors = fold_in(fitted, items.embeddings, *histories(likes))
            made = Again(items, fitted, vectors)
        else:
            made, sides = with_features_again(made, sides, ids, likes, positives, base.second.seed)
        items = replace(made.items, positives=positives)
        users = _users(made.users, base.mean_user_bias, ids, likes, sides)
        learned = Learned(
            users,
            items,
            replace(made.fold_in, bias_scale=1.0),
            base.id_types,
            _as_learned(sides.user_features),
            _as_learned(sides.item_features),
        )
        return cls(
            learned=learned,
            pairs=int(pairs.nnz),
            users=len(some),
            users_left_out=len(liked.user_ids) - len(some),
            new_items=len(items.ids) - before,
            waiting_items=int(np.count_nonzero(~known)),
            waiting_pairs=int(np.count_nonzero(~kept)),
            second_view_share=made.share,
        )


def _pairs(
    liked: Interactions, item_ids: pa.Array
) -> tuple[sp.csr_matrix, NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the pairs of items that are there, which items of `liked` these are, and pairs."""
    at = pc.index_in(liked.item_ids, value_set=item_ids)
    known = np.asarray(at.is_valid().to_numpy(zero_copy_only=False))
    columns = at.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int32)
    kept = known[liked.labels.col]
    pairs = sp.csr_matrix(
        (
            np.ones(int(kept.sum()), np.float32),
            (liked.labels.row[kept], columns[liked.labels.col[kept]]),
        ),
        shape=(len(liked.user_ids), len(item_ids)),
    )
    pairs.sort_indices()
    return pairs, known, kept


def item_ids(base: BaseModel, described: Described | None) -> pa.Array:
    """Return the ids of the items that a refreshed model has, ascending.

    Args:
        base: the model that is refreshed.
        described: what describes items; None where nothing does.
    """
    return with_new(base.items, base.item_features, described).ids


def _users(vectors: F32, bias: float, ids: pa.Array, likes: sp.csr_matrix, sides: Sides) -> Vectors:
    """Add to vectors of users what their features say, as an executor does with someone new."""
    features, described = sides.user_features, sides.described_users
    if features is not None and described is not None:
        own, _, there = by_features(features, described, ids)
        ones = np.ones(likes.nnz, np.float32)
        both = with_features(vectors, own, likes.indptr.astype(np.int64), ones)
        vectors = np.where(there[:, None], both, vectors)
    biases = np.full(len(ids), bias, np.float32)
    users = Vectors(ids, vectors, biases, np.ones(len(ids), np.bool_))
    return with_new(users, features, described)


def _scaled(features: FeatureVectors | None, scale: np.float32) -> FeatureVectors | None:
    return None if features is None else replace(features, biases=features.biases * scale)


def _as_learned(features: FeatureVectors | None) -> LearnedFeatures | None:
    """Return a model's features as they are written; those who have nothing else are there."""
    if features is None:
        return None
    found = zip(features.names, features.groups, features.values, features.ids, strict=True)
    none = np.zeros((0, features.embeddings.shape[1]), np.float32)
    return LearnedFeatures(
        way=features.about.way,
        features=[
            Feature(group, name.removeprefix(f"{group}="), value, ids)
            for name, group, value, ids in found
        ],
        embeddings=features.embeddings,
        biases=features.biases,
        identity=features.about.identity,
        identities=features.about.identities,
        normalised=features.about.normalised,
        cold_ids=pa.nulls(0, pa.string()),
        cold_embeddings=none,
        cold_biases=none[:, 0],
        untrained_features=features.about.untrained_features,
        undescribed=features.about.undescribed,
        explained=features.about.explained,
    )
