"""A model's items as they were, new ones by their features, and its users folded in again.

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
from recsys.learn.matrices import Interactions
from recsys.model.arrays import FeatureVectors, Vectors
from recsys.model.learned import Learned

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
    """

    items: Vectors
    fold_in: FoldIn
    id_types: IdTypes
    mean_user_bias: float
    user_features: FeatureVectors | None = None
    item_features: FeatureVectors | None = None


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
    """

    learned: Learned
    pairs: int
    users: int
    users_left_out: int
    new_items: int
    waiting_items: int
    waiting_pairs: int

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
        items = _with_new(items, item_features, described_items)
        fitted = base.fold_in
        if items.history is not None:  # of new items, too
            fitted = replace(fitted, second=SecondView(history=items.history))
        at = pc.index_in(liked.item_ids, value_set=items.ids)
        known = np.asarray(at.is_valid().to_numpy(zero_copy_only=False))
        columns = at.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int32)
        kept = known[liked.labels.col]
        pairs = sp.csr_matrix(
            (
                np.ones(int(kept.sum()), np.float32),
                (liked.labels.row[kept], columns[liked.labels.col[kept]]),
            ),
            shape=(len(liked.user_ids), len(items.ids)),
        )
        pairs.sort_indices()
        positives = np.bincount(pairs.indices, minlength=len(items.ids)).astype(np.int32)
        items = replace(items, positives=positives)
        some = np.flatnonzero(np.diff(pairs.indptr) > 0)
        users = _folded(
            base, fitted, items, liked.user_ids.take(pa.array(some)), pairs[some], described_users
        )
        users = _with_new(users, base.user_features, described_users)
        learned = Learned(
            users,
            items,
            replace(fitted, bias_scale=1.0),
            base.id_types,
            _as_learned(base.user_features),
            _as_learned(item_features),
        )
        return cls(
            learned=learned,
            pairs=int(pairs.nnz),
            users=len(some),
            users_left_out=len(liked.user_ids) - len(some),
            new_items=len(items.ids) - before,
            waiting_items=int(np.count_nonzero(~known)),
            waiting_pairs=int(np.count_nonzero(~kept)),
        )


def item_ids(base: BaseModel, described: Described | None) -> pa.Array:
    """Return the ids of the items that a refreshed model has, ascending.

    Args:
        base: the model that is refreshed.
        described: what describes items; None where nothing does.
    """
    return _with_new(base.items, base.item_features, described).ids


def _folded(
    base: BaseModel,
    fitted: FoldIn,
    items: Vectors,
    ids: pa.Array,
    pairs: sp.csr_matrix,
    described: Described | None,
) -> Vectors:
    """Fold users in, as an executor does with someone new."""
    indptr = pairs.indptr.astype(np.int64)
    vectors = fold_in(fitted, items.embeddings, indptr, pairs.indices.astype(np.int32))
    if base.user_features is not None and described is not None:
        own, _, there = by_features(base.user_features, described, ids)
        both = with_features(vectors, own, indptr, np.ones(pairs.nnz, np.float32))
        vectors = np.where(there[:, None], both, vectors)
    biases = np.full(len(ids), base.mean_user_bias, np.float32)
    return Vectors(ids, vectors, biases, np.ones(len(ids), np.bool_))


def by_features(
    features: FeatureVectors, described: Described, ids: pa.Array
) -> tuple[F32, F32, NDArray[np.bool_]]:
    """Return the embeddings and biases that features alone make, and who has any.

    Args:
        features: what a model has learned of features.
        described: what describes users or items; features that the model does not have count for
            nothing.
        ids: whose are wanted.

    Returns:
        `(n, n_components)` float32, `(n,)` float32 and `(n,)` bool; zeros for those without.
    """
    row = {name: n for n, name in enumerate(features.names)}
    columns = [n for n, feature in enumerate(described.features) if feature.name in row]
    rows = np.array([row[described.features[n].name] for n in columns], np.int64)
    scale = [features.about.weights[described.features[n].group] for n in columns]
    found = described.rows_of(ids).tocsc()[:, columns].astype(np.float64)
    weights = sp.csr_matrix(found @ sp.diags(np.array(scale, np.float64)))
    there = np.diff(weights.indptr) > 0
    if features.about.normalised:
        sums = np.asarray(weights.sum(axis=1)).ravel() + float(features.about.identity)
        shares = np.divide(1.0, sums, out=np.zeros_like(sums), where=there)
        weights = sp.csr_matrix(sp.diags(shares) @ weights)
    weights = weights.astype(np.float32)
    weights.sort_indices()
    return weights @ features.embeddings[rows], weights @ features.biases[rows], there


def _with_new(
    known: Vectors, features: FeatureVectors | None, described: Described | None
) -> Vectors:
    """Add those who are described and not there, and keep the order of the ids."""
    if features is None or described is None:
        return known
    others = described.ids.filter(pc.invert(pc.is_in(described.ids, value_set=known.ids)))
    embeddings, biases, there = by_features(features, described, others)
    if not there.any():
        return known
    ids = pa.concat_arrays([known.ids, others.filter(pa.array(there))])
    order = pc.sort_indices(ids)
    at, new = order.to_numpy(), np.zeros(int(there.sum()), np.int32)
    positives, history = known.positives, known.history
    if history is not None:  # nobody had them, so nothing is known of what they add
        nothing = np.zeros((len(new), history.shape[1]), np.float32)
    return Vectors(
        ids.take(order),
        np.concatenate([known.embeddings, embeddings[there]])[at],
        np.concatenate([known.biases, biases[there]])[at],
        np.concatenate([known.trained, new.astype(np.bool_)])[at],
        None if positives is None else np.concatenate([positives, new])[at],
        None if history is None else np.concatenate([history, nothing])[at],
    )


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
