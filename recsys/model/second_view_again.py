"""A model's second view, learned again from pairs of today; what LightFM knows of items stays.

The factors of a second view have a closed form, so they take a small part of a training. Where a
second view helps, much of what new pairs say is in the items, and folding users in cannot give it.

LightFM's items do not know the new pairs, so they count for less beside factors that do. With n the
share of the pairs that are new, the odds of LightFM's share are multiplied by `(1 - n) ** 7`. On a
validation part of goodbooks with a tenth of new pairs the best share was .3, after .5.
"""

import logging
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.kernel.fold_in import FoldIn, fold_in
from recsys.learn import ease, feature_map, second_view
from recsys.learn.embeddings import Embeddings
from recsys.learn.features import Described
from recsys.learn.known_users import histories
from recsys.learn.second_view import Factors, Second
from recsys.model.arrays import FeatureVectors, Vectors
from recsys.model.by_features import by_features, weights_of

log = logging.getLogger(__name__)

F32 = NDArray[np.float32]
Counts = NDArray[np.int32]

_STALE = 7.0
_MOST_NEW = 0.1  # more was not measured


@dataclass(frozen=True)
class Before:
    """A second view as it was, to be learned again.

    Attributes:
        second: as it was chosen; its share is what LightFM has counted since.
        seed: of the model's training.
        bytes_allowed: memory that EASE's inverse may take.
        users_share: the share of the users whom LightFM has learned from.
    """

    second: Second
    seed: int
    bytes_allowed: int
    users_share: float = 1.0


@dataclass(frozen=True)
class Again:
    """A model's items, with what makes users of them.

    Attributes:
        items: with their factors in the last columns.
        fold_in: makes users' vectors for these items.
        users: `(n_users, d)` float32, vectors from what they like.
        share: how much LightFM counts; None where no second view was learned again.
    """

    items: Vectors
    fold_in: FoldIn
    users: F32
    share: float | None = None


@dataclass(frozen=True)
class Sides:
    """Features of a model, and what describes items and users today; None where nothing is."""

    item_features: FeatureVectors | None
    described_items: Described | None
    user_features: FeatureVectors | None
    described_users: Described | None


def learn_again(
    items: Vectors, fitted: FoldIn, likes: sp.csr_matrix, counts: Counts, before: Before
) -> Again | None:
    """Learn a second view from today's pairs.

    Items that nobody likes today have no part in it, as they have none in a training. They get
    zeros, and `with_features_again` gives them what their features say.

    Args:
        items: with the factors and `positives` of before.
        fitted: makes users' vectors; its first part stays.
        likes: `(n_users, n_items)` CSR of ones; everyone likes something.
        counts: `(n_items,)`, how many like each item.
        before: what to learn.

    Returns:
        None, with a warning, where it cannot be learned.
    """
    liked = np.flatnonzero(counts)
    some = sp.csr_matrix(likes[:, liked])
    second = replace(
        before.second, way=ease.way(some.shape[0], some.shape[1], before.bytes_allowed)
    )
    factors = _factors(some, second, before.seed)
    if factors is None:
        return None
    width = len(fitted.intercept)
    first = np.ascontiguousarray(items.embeddings[:, :width])
    users = fold_in(replace(fitted, second=None), first, *histories(likes))
    none = np.zeros(len(users), np.float32)
    model = Embeddings(users, none, first[liked], items.biases[liked])
    assert items.positives is not None  # noqa: S101 - of items
    share = share_of_older(second.share, before.users_share * items.positives, counts)
    made, view = second_view.beside(model, factors, share, some, before.seed)
    embeddings = np.hstack([first, np.zeros((len(first), second.rank), np.float32)])
    embeddings[liked] = made.item_embeddings
    history = None
    if view.history is not None:
        history = np.zeros((len(first), second.rank), np.float32)
        history[liked] = view.history
        view = replace(view, history=history)
    items = replace(items, embeddings=embeddings, history=history)
    fitted = replace(fitted, second=view)
    # Not the factors of `learn`: these are what an executor makes of the same history, to the bit.
    return Again(items, fitted, fold_in(fitted, embeddings, *histories(likes)), share)


def _factors(likes: sp.csr_matrix, second: Second, seed: int) -> Factors | None:
    try:
        factors = second_view.learn(likes, second, seed)
    except np.linalg.LinAlgError as error:
        log.warning("the second view cannot be learned again, and stays as it is: %s", error)
        return None
    found = factors.items.shape[1]
    if found != second.rank:
        log.warning(
            "the second view stays as it is: today's pairs give %d factors, and the model has %d",
            found,
            second.rank,
        )
        return None
    return factors


def share_of_older(
    share: float, before: NDArray[np.floating] | NDArray[np.integer], counts: NDArray[np.integer]
) -> float:
    """Return how much LightFM counts beside factors that know more pairs.

    Pairs that came while as many of the same item went, as in a window of days, are not seen.

    Args:
        share: how much it counts beside factors of the same pairs.
        before: `(n_items,)`, how many positive pairs of each item it has learned from.
        counts: `(n_items,)`, how many there are now.
    """
    new = float(np.maximum(counts - before.astype(np.float64), 0).sum()) / max(int(counts.sum()), 1)
    odds: float = share / (1 - share) * (1 - min(new, _MOST_NEW)) ** _STALE
    return odds / (1 + odds)


def with_features_again(
    made: Again, sides: Sides, ids: pa.Array, likes: sp.csr_matrix, counts: Counts, seed: int
) -> tuple[Again, Sides]:
    """Let features make the new factors, of items that nobody likes as well.

    A model with a second view has the embeddings of features by a map (`feature_map`), which finds
    each column apart. So the columns of LightFM stay.

    Args:
        made: what `learn_again` returned.
        sides: the features; those of the model have the factors of before.
        ids: of the users.
        likes: as in `learn_again`.
        counts: likewise.
        seed: of the folds by which the penalty of a map is chosen.
    """
    width = len(made.fold_in.intercept)
    of_items, described = sides.item_features, sides.described_items
    if of_items is not None and described is not None:
        items = made.items
        of_items = _mapped(of_items, described, items.ids, items.embeddings, counts, width, seed)
        nobody = np.flatnonzero(counts == 0)
        own, _, there = by_features(of_items, described, items.ids.take(pa.array(nobody)))
        embeddings = items.embeddings.copy()
        embeddings[nobody[there], width:] = own[there, width:]
        made = replace(made, items=replace(items, embeddings=embeddings))
    of_users, described = sides.user_features, sides.described_users
    if of_users is not None and described is not None:
        of_each = np.diff(likes.indptr)
        of_users = _mapped(of_users, described, ids, made.users, of_each, width, seed)
    return made, replace(sides, item_features=of_items, user_features=of_users)


def _mapped(
    features: FeatureVectors,
    described: Described,
    ids: pa.Array,
    vectors: F32,
    counts: NDArray[np.integer],
    width: int,
    seed: int,
) -> FeatureVectors:
    known, rows = weights_of(features, described, ids)
    n_features, n_factors = len(features.names), vectors.shape[1] - width
    # With all features of the model: those that nobody has today get the mean.
    weights = sp.csr_matrix((known.data, rows[known.indices], known.indptr), (len(ids), n_features))
    second = np.zeros((n_features, n_factors), np.float32)
    if feature_map.usable(weights, counts).any():
        none = np.zeros(len(ids), np.float32)
        second = feature_map.fit(weights, vectors[:, width:], none, counts, seed).embeddings
    return replace(features, embeddings=np.hstack([features.embeddings[:, :width], second]))
