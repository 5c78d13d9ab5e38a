"""How well users are served who were left out of a sample. NumPy alone; on the driver.

A part of their pairs is held out, and they are folded in from the others, as they are where lists
are made.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from recsys.config.sections import EarlyStopping, Training
from recsys.kernel import bootstrap
from recsys.kernel.fold_in import FoldIn, fold_in
from recsys.learn.assembly import Assembled
from recsys.learn.early_stopping import Validator
from recsys.learn.fitting import Fitted
from recsys.learn.known_users import histories

_RESAMPLES = 1000


@dataclass(frozen=True)
class LeftOut:
    """What was measured on users who were left out.

    Attributes:
        users: how many.
        metric: such as `ndcg@10`.
        ndcg, low, high: its mean, and its 95 % interval.
        cost: by how much it is below that of the users of the sample; None where that is not known.
    """

    users: int
    metric: str
    ndcg: float
    low: float
    high: float
    cost: float | None


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
    positive, n_users = judged.data > 0, judged.shape[0]
    drawn = np.random.default_rng(settings.seed).random(judged.nnz) < stopping.share
    # Who has nothing left to be folded in from would get popular items.
    left = np.bincount(judged.row[positive & ~drawn], minlength=n_users)
    held_out = positive & drawn & (left[judged.row] > 0)
    if not held_out.any():
        return None
    validator = Validator(judged, held_out, stopping, settings.seed)
    items = made.embeddings
    operations = 2.0 * len(validator.users) * items.item_embeddings.size
    if not made.budget.affords(operations, "measuring the users who are left out", 0.0):
        return None
    given = positive & ~held_out
    ones = np.ones(int(given.sum()), np.float32)
    likes = sp.csr_matrix((ones, (judged.row[given], judged.col[given])), shape=judged.shape)
    likes.sort_indices()
    vectors = fold_in(mapped, items.item_embeddings, *histories(likes[validator.users]))
    biases = np.float32(mapped.bias_scale) * items.item_biases
    values = validator.of_vectors(vectors, items.item_embeddings, biases)
    found = bootstrap.estimate(
        validator.users, values[:, None], resamples=_RESAMPLES, seed=settings.seed
    )
    ndcg, other = float(found.value[0]), validated(fitted, made)
    return LeftOut(
        users=len(values),
        metric=f"ndcg@{stopping.k}",
        ndcg=ndcg,
        low=float(found.low[0]),
        high=float(found.high[0]),
        cost=None if other is None else other - ndcg,
    )


def validated(fitted: Fitted, made: Assembled) -> float | None:
    """Return the nDCG of the users of the training on pairs held out of theirs; None: not known.

    It is that of the model of the best epoch, put together as this one.
    """
    recipe, compared = made.recipe, made.recipe.report
    found: float | None = fitted.report.get("ndcg")
    if "user_vectors" in compared:
        name = "trained_ndcg" if recipe.known.map is None else "best_ndcg"
        found = compared["user_vectors"][name]
    if "second_view" in compared:
        name = "without_ndcg" if recipe.second is None else "best_ndcg"
        found = compared["second_view"][name]
    return found
