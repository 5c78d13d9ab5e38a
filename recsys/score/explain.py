"""Why an item has its score and its place for one user: the score split, and what took it out."""

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.kernel.contributions import Parts, history_parts
from recsys.kernel.fold_in import fold_in, with_features
from recsys.kernel.worker import FEATURES, FOLD_IN, MODEL, POPULAR
from recsys.score.histories import Histories
from recsys.score.replay import NONE, Situation

F64 = NDArray[np.float64]

# Where the rest of a vector is smaller than this share of it, rounding alone explains it.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class Split:
    """A score as a sum; all numbers are float64 and add up to the score.

    Attributes:
        user_bias, item_bias: as they count in the score.
        intercept: of the fold-in map.
        features: what is known of the user beside the history.
        items: rows of the history's items, those that add most first.
        contributions: `(n,)`, what each of them adds.
        rest: the part of the user's vector that this does not explain.
        exact: whether the rest is rounding alone.
        cosine: between the user's vector and the explained one; None where the vector is zero.
    """

    user_bias: float
    item_bias: float
    intercept: float
    features: float
    items: NDArray[np.int32]
    contributions: F64
    rest: float
    exact: bool
    cosine: float | None

    @property
    def total(self) -> float:
        """The sum of all parts."""
        own = self.user_bias + self.item_bias + self.intercept + self.features + self.rest
        return float(own + self.contributions.sum())


def split_score(
    situation: Situation, user: int, item: int, vector: NDArray[np.float32], likes: Histories
) -> Split | None:
    """Split the score of an item for a user; None where the list has no scores of a model.

    Args:
        situation: what the list was made of.
        user: the position of the user.
        item: the row of the item.
        vector: `(d,)` float32, the user's, from `vector_of`.
        likes: what the vector came from: of a user of the training, the positive pairs.
    """
    way = situation.ways[user]
    if way in (POPULAR, NONE):
        return None
    model = situation.model
    embedding = model.items.embeddings[item].astype(np.float64)
    parts = _parts(situation, user, likes, vector)
    scale = np.float32(model.fold_in.bias_scale) if way == FOLD_IN else np.float32(1)
    rest = vector.astype(np.float64) - parts.vector
    norm, left = float(np.linalg.norm(vector)), float(np.linalg.norm(rest))
    explained = float(np.linalg.norm(parts.vector))
    contributions = parts.of_items @ embedding
    order = np.argsort(-contributions, kind="stable")
    cosine = None
    if norm and explained:
        cosine = float(vector.astype(np.float64) @ parts.vector) / (norm * explained)
    return Split(
        user_bias=0.0 if way == FOLD_IN else float(model.users.biases[user]),
        item_bias=float(np.float32(model.items.biases[item] * scale)),
        intercept=float(parts.intercept @ embedding),
        features=float(parts.features @ embedding),
        items=parts.items[order],
        contributions=contributions[order],
        rest=float(rest @ embedding),
        exact=left <= _ROUNDING * max(norm, 1e-30),
        cosine=cosine,
    )


def _parts(situation: Situation, user: int, likes: Histories, vector: NDArray[np.float32]) -> Parts:
    """Return the parts of a vector: as it was made, or as fold-in would have made it."""
    model, way = situation.model, situation.ways[user]
    items, weights = likes.liked[user], likes.weights_of(user).astype(np.float32)
    own = model.users.embeddings[user]
    if way == FEATURES:
        nothing = np.zeros(len(own))
        return Parts(items[:0], np.zeros((0, len(own))), nothing, own.astype(np.float64))
    described = way == FOLD_IN and bool(model.users.known[user] & ~model.users.trained[user])
    embeddings = model.items.embeddings
    parts = history_parts(model.fold_in, embeddings, items, weights, own if described else None)
    features = model.manifest.features
    with_features = features is not None and features.users is not None
    if way == MODEL and model.manifest.refresh_of is not None and with_features:
        # Everybody was folded in; whoever is described, with the features.
        rest = vector.astype(np.float64) - parts.vector
        if np.linalg.norm(rest) > _ROUNDING * np.linalg.norm(vector):
            zero = np.zeros(len(own), np.float32)
            parts = history_parts(model.fold_in, embeddings, items, weights, zero)
            left = vector.astype(np.float64) - parts.vector
            parts = Parts(parts.items, parts.of_items, parts.intercept, left)
    return parts


def vector_of(situation: Situation, user: int) -> NDArray[np.float32]:
    """Return the vector that a user's list is made with, `(d,)` float32.

    A user who is folded in gets it from the same function as on an executor.
    """
    model, done = situation.model, situation.histories
    had = model.users
    if situation.ways[user] != FOLD_IN:
        own: NDArray[np.float32] = had.embeddings[user]
        return own
    indptr = np.array([0, len(done.liked[user])], np.int64)
    weights = done.weights_of(user).astype(np.float32)
    made = fold_in(model.fold_in, model.items.embeddings, indptr, done.liked[user], weights)
    if had.known[user] and not had.trained[user]:
        made = with_features(made, had.embeddings[user][None], indptr, weights)
    vector: NDArray[np.float32] = made[0]
    return vector


@dataclass(frozen=True)
class Place:
    """Where an item stands for a user among all that may be in the list.

    Attributes:
        rank: in a full sort by score and id, from 1; None where it is ranked nowhere.
        score: float32; None likewise.
        of: how many items may be in the list, with this one.
        below: the score of the last item of the list; None without a full list.
    """

    rank: int | None
    score: np.float32 | None
    of: int
    below: np.float32 | None


def place_of(situation: Situation, user: int, item: int) -> Place:
    """Return the place of an item as if no filter took it, in a full sort of all scores."""
    opened = situation.letting(user, item)
    at = np.array([user], np.int64)
    n_items = len(situation.model.items.ids)
    full = opened.lists(at, k=n_items, reserved=0)
    mine = np.flatnonzero(full.items == item)
    k = situation.rules.k
    below = full.scores[k - 1] if len(full.scores) >= k else None
    if not len(mine):
        return Place(None, None, len(full.items), below)
    return Place(int(full.ranks[mine[0]]), full.scores[mine[0]], len(full.items), below)


def what_took(situation: Situation, user: int, item: int) -> list[str]:
    """Return the filters that keep an item from a user: all that do, in words."""
    found, filters, model = [], situation.filters, situation.model
    one = model.items.ids[item]
    if situation.rules.exclude_seen and item in situation.histories.seen[user]:
        found.append("seen: the user has interacted with it (scoring.exclude_seen)")
    if filters.deny is not None and pc.index(filters.deny, one).as_py() >= 0:
        found.append("denied: it is in items.deny")
    if filters.allow is not None and pc.index(filters.allow, one).as_py() < 0:
        found.append("not allowed: it is not in items.allow")
    if situation.candidates is not None and item not in situation.candidates[user]:
        found.append("no candidate: it is not among the user's in items.candidates")
    if not model.items.trained[item]:
        if situation.rules.cold_items == "exclude":
            found.append("cold: the model knows nothing but its features (features.cold_items)")
        elif situation.ways[user] == POPULAR:
            found.append("cold: nobody has liked it yet, and the list is of popular items")
    return found
