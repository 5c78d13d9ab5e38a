"""Which pairs are held out to judge models by. NumPy alone; on the driver."""

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.config.sections import EarlyStopping
from recsys.errors import TrainingError


def hold_out(
    labels: sp.coo_matrix,
    settings: EarlyStopping,
    seed: int,
    ages: NDArray[np.float32] | None = None,
) -> NDArray[np.bool_]:
    """Choose some of the positive pairs, the same for the same labels, ages and seed.

    Negatives are never held out. With `random`, of each item at least one pair stays in training,
    so that every item that is judged was trained. With `last`, of each user.

    Args:
        labels: `(n_users, n_items)` COO, sorted by user and item, each pair once.
        settings: which pairs, and the share.
        seed: of the draw, for `random`.
        ages: `(n_pairs,)` days, for `last`.

    Returns:
        `(n_pairs,)`, True for the pairs that are held out.

    Raises:
        TrainingError: there is nothing to hold out, or no age.
    """
    if settings.hold_out == "last":
        held_out = _last(labels, settings, ages)
    else:
        held_out = _random(labels, settings, seed)
    if not held_out.any():
        raise nothing_held_out()
    return held_out


def _random(labels: sp.coo_matrix, settings: EarlyStopping, seed: int) -> NDArray[np.bool_]:
    """Choose a share of each item's positive pairs."""
    positive = labels.data > 0
    draw = np.random.default_rng(seed).random(len(labels.data))
    draw[~positive] = -1.0  # sorts negatives first, where pairs stay in training
    order = np.lexsort((draw, labels.col))
    items = labels.col[order]
    counts = np.bincount(items, minlength=labels.shape[1])
    negatives = np.bincount(labels.col[~positive], minlength=labels.shape[1])
    starts = np.cumsum(counts) - counts
    position = np.arange(len(items)) - starts[items]
    stay = negatives + np.maximum(np.rint((counts - negatives) * (1 - settings.share)), 1)
    held_out = np.zeros(len(items), np.bool_)
    held_out[order[position >= stay[items]]] = True
    return held_out


def _last(
    labels: sp.coo_matrix, settings: EarlyStopping, ages: NDArray[np.float32] | None
) -> NDArray[np.bool_]:
    """Choose each user's latest positive pairs."""
    if ages is None:
        raise TrainingError(
            "training.early_stopping.hold_out: 'last' needs timestamps, found none; set it to "
            "random"
        )
    positive = np.flatnonzero(labels.data > 0)
    users = labels.row[positive]
    # The latest first.
    order = np.lexsort((-labels.col[positive], ages[positive], users))
    counts = np.bincount(users, minlength=labels.shape[0])
    starts = np.cumsum(counts) - counts
    position = np.arange(len(order)) - starts[users[order]]
    most = np.minimum(np.minimum(np.rint(counts * settings.share), settings.k), counts - 1)
    held_out = np.zeros(len(labels.data), np.bool_)
    held_out[positive[order[position < most[users[order]]]]] = True
    return held_out


def nothing_held_out() -> TrainingError:
    """Return what to raise where no pair is there to judge epochs by."""
    return TrainingError(
        "training.early_stopping: expected items with several positive pairs to hold some of them "
        "out, found none; set training.early_stopping to null, which trains for training.epochs"
    )
