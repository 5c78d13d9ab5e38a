"""How well users are served who were left out of a sample. NumPy alone; on the driver.

A part of their pairs is held out, and they are folded in from the others, as they are where lists
are made.

What that costs is measured with another model: the one of the best epoch in the search for it,
which has not seen what was held out of the sample's own pairs. Only so one model has learned
equally little of what both groups are asked for. The model that is published has been trained again
on all pairs of the sample.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.config.sections import EarlyStopping, Training
from recsys.errors import TrainingError
from recsys.kernel import bootstrap
from recsys.kernel.fold_in import FoldIn, fold_in
from recsys.learn.assembly import Assembled, fold_in_of, likes_of
from recsys.learn.early_stopping import Search, Validator, hold_out
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
    part = _held_out(judged, settings)
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
        cost = _cost(part, search, settings.seed)
    return LeftOut(
        users=len(values),
        metric=f"ndcg@{part.validator.k}",
        ndcg=float(found.value[0]),
        low=float(found.low[0]),
        high=float(found.high[0]),
        cost=cost,
    )


def _held_out(judged: sp.coo_matrix, settings: Training) -> _Part | None:
    """Hold pairs out as the search for the best epoch does; None where nothing can be."""
    stopping = settings.early_stopping or EarlyStopping()
    try:
        held_out = hold_out(judged, stopping, settings.seed)
    except TrainingError:
        return None
    given = (judged.data > 0) & ~held_out
    # Who has nothing left to be folded in from would get popular items.
    held_out &= (np.bincount(judged.row[given], minlength=judged.shape[0]) > 0)[judged.row]
    if not held_out.any():
        return None
    ones, cells = np.ones(int(given.sum()), np.float32), (judged.row[given], judged.col[given])
    likes = sp.csr_matrix((ones, cells), shape=judged.shape)
    likes.sort_indices()
    validator = Validator(judged, held_out, stopping, settings.seed)
    return _Part(validator, likes[validator.users])


def _cost(part: _Part, search: Search, seed: int) -> float:
    """Return by how much users who are left out are served worse than those of the sample.

    Both by the model of the search's best epoch: those by the map that is fitted to it, these by
    their vectors. Of the sample, too, those alone count who have something left.
    """
    model, validator = search.model(), search.validator
    assert search.labels is not None  # noqa: S101 - a search of `fitting` has them
    mapped, _ = fold_in_of(Assembled(model, model), likes_of(search.labels), seed)
    trained = np.bincount(search.labels.row, minlength=search.labels.shape[0])[validator.users] > 0
    own = validator.by_user(model)[trained]
    return float(own.mean() - part.values(mapped, model).mean())
