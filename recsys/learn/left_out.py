"""How well users are served who were left out of a sample. NumPy alone; on the driver.

Each of their liked pairs is held out with the same probability, whatever its item, and they are
folded in from the others, as they are where lists are made.

What that costs is measured with another model: the one of the best epoch in the search for it,
which has not seen what was held out of the sample's own pairs. Only so one model has learned
equally little of what both groups are asked for. The model that is published has been trained again
on all pairs of the sample.

The search holds pairs out by item, and an item of few pairs keeps them all. Some items it has not
trained at all. So for the cost both groups are asked for those items alone that the search has
trained and has held pairs out of.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.config.sections import EarlyStopping, Training
from recsys.kernel import bootstrap
from recsys.kernel.fold_in import FoldIn, fold_in
from recsys.learn.assembly import Assembled, fold_in_of, likes_of
from recsys.learn.early_stopping import Search, Validator
from recsys.learn.embeddings import Embeddings
from recsys.learn.fitting import Fitted
from recsys.learn.known_users import histories

_RESAMPLES = 1000


@dataclass(frozen=True)
class LeftOut:
    """What was measured on users who were left out.

    Attributes:
        users: how many.
        metric: such as `ndcg@10`.
        ndcg: its mean.
        low: lower end of its 95 % interval.
        high: upper end.
        cost: by how much it is below that of the users of the sample, both by the model of the
            search; None where there was no search.
    """

    users: int
    metric: str
    ndcg: float
    low: float
    high: float
    cost: float | None


@dataclass(frozen=True)
class _Part:
    """Users who are left out, with a part of their pairs held out.

    Attributes:
        validator: judges by what was held out.
        likes: `(n, n_items)` CSR of ones: what its users are folded in from.
    """

    validator: Validator
    likes: sp.csr_matrix

    def values(self, mapped: FoldIn, items: Embeddings) -> NDArray[np.float64]:
        """Return the nDCG of each user's list, when folded in."""
        vectors = fold_in(mapped, items.item_embeddings, *histories(self.likes))
        biases = np.float32(mapped.bias_scale) * items.item_biases
        return self.validator.of_vectors(vectors, items.item_embeddings, biases)


def judge(
    judged: sp.coo_matrix, fitted: Fitted, made: Assembled, mapped: FoldIn, settings: Training
) -> LeftOut | None:
    """Fold in users from a part of their pairs, and look for the rest in their lists.

    Args:
        judged: `(n_judged, n_items)` COO, float32, 1 or -1, sorted by user and item: their pairs.
        fitted: the training.
        made: the model.
        mapped: makes vectors of them.
        settings: which share of the pairs is held out, and the seed.

    Returns:
        None where nothing can be held out, or there is no time left for it.
    """
    stopping = settings.early_stopping or EarlyStopping()
    held_out = hold_out_pairs(judged, stopping.share, settings.seed)
    every = np.ones(judged.shape[1], np.bool_)
    part = _part(judged, held_out, settings, every, every)
    if part is None:
        return None
    users, items = part.validator.users, made.embeddings
    operations = 2.0 * len(users) * items.item_embeddings.size
    if not made.budget.affords(operations, "measuring the users who are left out", 0.0):
        return None
    values = part.values(mapped, items)
    found = bootstrap.estimate(users, values[:, None], resamples=_RESAMPLES, seed=settings.seed)
    cost, search = None, fitted.found
    # The map of the search's model takes another while, so a limited time is not spent on it.
    if search is not None and made.budget.seconds is None:
        cost = _cost(judged, held_out, search, settings)
    return LeftOut(
        users=len(values),
        metric=f"ndcg@{part.validator.k}",
        ndcg=float(found.value[0]),
        low=float(found.low[0]),
        high=float(found.high[0]),
        cost=cost,
    )


def hold_out_pairs(labels: sp.coo_matrix, share: float, seed: int) -> NDArray[np.bool_]:
    """Choose positive pairs with the same probability each, whatever their item.

    Args:
        labels: `(n_users, n_items)` COO, 1 or -1, sorted by user and item, each pair once.
        share: the probability.
        seed: of the draw. The same pairs in the same order and the same seed give the same choice.

    Returns:
        `(n_pairs,)`, True for the pairs that are held out.
    """
    draw = np.random.default_rng(seed).random(len(labels.data))
    held_out: NDArray[np.bool_] = (labels.data > 0) & (draw < share)
    return held_out


def _part(
    labels: sp.coo_matrix,
    held_out: NDArray[np.bool_],
    settings: Training,
    known: NDArray[np.bool_],
    asked: NDArray[np.bool_],
) -> _Part | None:
    """Return what users are folded in from and asked for; None where nobody is asked for anything.

    Args:
        labels: `(n_users, n_items)` COO, 1 or -1, sorted by user and item.
        held_out: `(n_pairs,)`, True for the pairs that are held out.
        settings: how long lists are, and the seed.
        known: `(n_items,)`, True for the items that users can be folded in from.
        asked: `(n_items,)`, True for the items by which users are judged.
    """
    given = (labels.data > 0) & ~held_out & known[labels.col]
    # Who has nothing left to be folded in from would get popular items.
    judged = (np.bincount(labels.row[given], minlength=labels.shape[0]) > 0)[labels.row]
    judged &= held_out & asked[labels.col]
    if not judged.any():
        return None
    ones, cells = np.ones(int(given.sum()), np.float32), (labels.row[given], labels.col[given])
    likes = sp.csr_matrix((ones, cells), shape=labels.shape)
    likes.sort_indices()
    stopping = settings.early_stopping or EarlyStopping()
    validator = Validator(labels, judged, stopping, settings.seed)
    return _Part(validator, likes[validator.users])


def _cost(
    labels: sp.coo_matrix, held_out: NDArray[np.bool_], search: Search, settings: Training
) -> float | None:
    """Return by how much users who are left out are served worse than those of the sample.

    Both by the model of the search's best epoch: those by the map that is fitted to it, these by
    their vectors. Both are asked for the same items, and of both those alone count who have a liked
    pair left. None where nobody of one of the two is asked for anything.
    """
    assert search.labels is not None  # noqa: S101 - a search of `fitting` has them
    likes, validator = likes_of(search.labels), search.validator
    known = np.bincount(likes.indices, minlength=likes.shape[1]) > 0
    part = _part(labels, held_out, settings, known, known & validator.items)
    mine = np.diff(likes.indptr)[validator.users] > 0
    if part is None or not mine.any():
        return None
    model = search.model()
    mapped, _ = fold_in_of(Assembled(model, model), likes, settings.seed)
    return float(validator.by_user(model)[mine].mean() - part.values(mapped, model).mean())
