"""The pairs of each epoch: those of the data, and for the logistic loss drawn negatives if need be.

The logistic loss needs negatives. In explicit ratings these are the pairs below the threshold. Data
without negatives (implicit feedback) only says which pairs were observed, so unobserved pairs serve
as negatives. They are far too many to train on all of them, so some are drawn for each positive:
`training.negatives_per_positive` (as He et al. 2017, "Neural Collaborative Filtering", 3.1.1, do).
The ranking losses do not need this: LightFM samples their negatives itself.

**What is drawn.** For each positive, items that its user has no pair with in the matrix that is
trained on, uniformly and with replacement. Each epoch draws anew. A held-out pair is not in that
matrix, so it can be drawn, just as items can that the user is going to like in the future. If
held-out pairs were never drawn, they would be the only ones besides the positives that the model
never sees as negatives, and validation would show too high an nDCG.

**What a drawn negative weighs.** As much as the positive that it is drawn for. It is the same with
the ranking losses, where LightFM multiplies the step for a positive and its sampled negative by the
positive's weight. So each user has the same balance of positives and negatives, whatever the sample
weights are.

**What becomes of the penalty.** LightFM shrinks all embeddings at each step, by `item_alpha` and
`user_alpha`. The steps for drawn negatives would multiply the penalty, so `training.train` divides
both by the number of steps for each positive. (On goodbooks, with 5 negatives for each positive,
validation nDCG@10 is 0.02 otherwise, and 0.07 so.)

A user who has a pair with every item gets no negatives. The draws depend on the matrix, the seed
and the number of the epoch alone.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.config.sections import Training
from recsys.errors import TrainingError

log = logging.getLogger(__name__)

_PAIRS_AT_ONCE = 2**20  # drawn together; their temporary arrays are about 40 MB


@dataclass(frozen=True)
class Examples:
    """What LightFM learns from in one epoch.

    Attributes:
        labels: `(n_users, n_items)` COO, float32, 1 or -1.
        weights: `(n_users, n_items)` COO, float32, the same cells in the same order; None: all
            count the same.
    """

    labels: sp.coo_matrix
    weights: sp.coo_matrix | None


def examples(
    labels: sp.coo_matrix, weights: NDArray[np.float32] | None, per_positive: int, seed: int
) -> Callable[[int], Examples]:
    """Return a function from the number of an epoch to what LightFM learns from in it.

    Args:
        labels: `(n_users, n_items)` COO, float32, 1 or -1, sorted by user and item, each pair once.
        weights: `(n_pairs,)` or None.
        per_positive: how many negatives to draw for each positive; 0: none.
        seed: of the draws.

    Raises:
        TrainingError: negatives are needed and none can be drawn.
    """
    if per_positive:
        return _Drawing(labels, weights, per_positive, seed).draw
    matrix = None
    if weights is not None:
        matrix = sp.coo_matrix((weights, (labels.row, labels.col)), shape=labels.shape)
    the_same = Examples(labels, matrix)
    return lambda epoch: the_same


def drawn_per_positive(settings: Training, n_negatives: int) -> int:
    """Return how many negatives are drawn for each positive, given how many are in the data."""
    if settings.loss == "logistic" and n_negatives == 0:
        return settings.negatives_per_positive
    return 0


def count(labels: sp.coo_matrix) -> int:
    """Return how many pairs are negatives."""
    return int(np.count_nonzero(labels.data < 0))


def report(labels: sp.coo_matrix, settings: Training) -> dict[str, int] | None:
    """Say what the negatives are, for a manifest; None for the ranking losses.

    Returns:
        `in_data`: how many pairs of the data are negatives; `drawn_per_positive` and
        `drawn_per_epoch`: how many unobserved pairs are drawn, 0 if the data has negatives.
    """
    if settings.loss != "logistic":
        return None
    in_data = count(labels)
    n = drawn_per_positive(settings, in_data)
    drawn = n * int(np.count_nonzero(_n_unobserved(labels)[labels.row]))
    if n:
        log.info("the data has no negatives: drawing %s unobserved pairs an epoch", f"{drawn:,}")
    return {"in_data": in_data, "drawn_per_positive": n, "drawn_per_epoch": drawn}


def _n_unobserved(positives: sp.coo_matrix) -> NDArray[np.int64]:
    """Return how many items each user has no pair with, `(n_users,)`."""
    n_users, n_items = positives.shape
    return np.asarray(n_items - np.bincount(positives.row, minlength=n_users))


class _Drawing:
    """All positives of the data, and negatives that are drawn for each epoch."""

    def __init__(
        self,
        positives: sp.coo_matrix,
        weights: NDArray[np.float32] | None,
        per_positive: int,
        seed: int,
    ) -> None:
        self._unobserved = _n_unobserved(positives)
        drawn_for = np.flatnonzero(self._unobserved[positives.row])
        if not len(drawn_for):
            raise TrainingError(
                "training.loss: logistic needs negatives, found none in the data, and none can be "
                "drawn, since every user has a pair with every item; set filters.rating_threshold "
                "so that low ratings are negatives"
            )
        self._seed, self._shape, self._n_positives = seed, positives.shape, len(positives.row)
        counts = self._shape[1] - self._unobserved
        self._first = np.cumsum(counts) - counts
        # For the j-th observed item of a user, counted from 0: how many unobserved items come
        # before it. The user's row stands in the upper half, so the keys ascend.
        before = positives.col - (np.arange(self._n_positives) - self._first[positives.row])
        self._keys = positives.row.astype(np.int64) << 32 | before
        # An epoch's cells: the positives, then the negatives. Only the negatives' items change.
        self._rows = _extended(positives.row, drawn_for, per_positive)
        self._cols = _extended(positives.col, drawn_for, per_positive)
        self._weights = None if weights is None else _extended(weights, drawn_for, per_positive)
        self._labels = np.ones(len(self._rows), np.float32)
        self._labels[self._n_positives :] = -1

    def draw(self, epoch: int) -> Examples:
        """Return the positives and the negatives of an epoch; the next call overwrites them."""
        rng = np.random.default_rng([self._seed, epoch])
        for start in range(self._n_positives, len(self._rows), _PAIRS_AT_ONCE):
            part = slice(start, start + _PAIRS_AT_ONCE)
            users = self._rows[part].astype(np.int64)
            nth = rng.integers(0, self._unobserved[users])
            # Before the n-th unobserved item, counted from 0, are n unobserved items, and those
            # observed ones that have at most n unobserved items before themselves.
            upto = np.searchsorted(self._keys, users << 32 | nth, side="right")
            self._cols[part] = nth + upto - self._first[users]
        labels = self._matrix(self._labels)
        return Examples(labels, None if self._weights is None else self._matrix(self._weights))

    def _matrix(self, values: NDArray[np.float32]) -> sp.coo_matrix:
        return sp.coo_matrix((values, (self._rows, self._cols)), shape=self._shape)


def _extended(values: NDArray[Any], which: NDArray[np.int64], times: int) -> NDArray[Any]:
    """Return the values, followed by some of them a number of times."""
    return np.concatenate([values, np.tile(values[which], times)])
