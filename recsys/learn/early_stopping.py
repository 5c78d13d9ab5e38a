"""Which epoch to keep: a part of the pairs is held out, and lists for it are judged. Driver only.

Users and held-out pairs are fixed for a run, so that epochs differ by the model alone.
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.config.sections import EarlyStopping, Training
from recsys.errors import TrainingError
from recsys.kernel.topk import ItemMatrix, Ranked, top_k
from recsys.learn.embeddings import Embeddings


@dataclass(frozen=True)
class Holdout:
    """Which of the pairs that were labelled are trained on, and which are to be found.

    Attributes:
        trained: `(n_pairs,)` bool, positions in the labels.
        validation: `(n_pairs,)` bool; positives only.
    """

    trained: NDArray[np.bool_]
    validation: NDArray[np.bool_]


def hold_out(labels: sp.coo_matrix, settings: EarlyStopping, seed: int) -> Holdout:
    """Hold out a share of each item's positives, the same for the same labels and seed.

    The first of an item's pairs always stays, so that no item is judged that was never trained.

    Args:
        labels: `(n_users, n_items)`, sorted by user and item, each pair once.
        settings: the share.
        seed: of the draw.

    Raises:
        TrainingError: there is nothing to hold out.
    """
    positive = labels.data > 0
    draw = np.random.default_rng(seed).random(len(labels.data))
    draw[~positive] = -1.0  # negatives are never held out
    order = np.lexsort((draw, labels.col))
    items = labels.col[order]
    counts = np.bincount(items, minlength=labels.shape[1])
    negatives = np.bincount(labels.col[~positive], minlength=labels.shape[1])
    starts = np.cumsum(counts) - counts
    position = np.arange(len(items)) - starts[items]
    stays = negatives + np.maximum(np.rint((counts - negatives) * (1 - settings.share)), 1)
    validation = np.zeros(len(items), np.bool_)
    validation[order[position >= stays[items]]] = True
    if not validation.any():
        raise TrainingError(
            "training.early_stopping: expected items with several positive pairs to hold some of "
            "them out, found none; set training.early_stopping to null, which trains for "
            "training.epochs"
        )
    return Holdout(~validation, validation)


class Validator:
    """Judges embeddings on held-out pairs, on a fixed sample of the users who have any."""

    def __init__(
        self, labels: sp.coo_matrix, held_out: Holdout, settings: EarlyStopping, seed: int
    ) -> None:
        wanted = _rows(labels, held_out.validation)
        users = np.flatnonzero(np.diff(wanted.indptr))
        if len(users) > settings.max_users:
            draw = np.random.default_rng(seed).permutation(len(users))[: settings.max_users]
            users = np.sort(users[draw])
        self.users = users
        self.k = settings.k
        seen = _rows(labels, held_out.trained)[users]
        self.seen = seen.indptr.astype(np.int64), seen.indices.astype(np.int32)
        self._wanted = wanted[users]
        self._popularity = np.bincount(
            labels.col[held_out.trained], minlength=labels.shape[1]
        ).astype(np.float32)

    def ndcg(
        self,
        user_embeddings: NDArray[np.float32],
        user_biases: NDArray[np.float32],
        item_embeddings: NDArray[np.float32],
        item_biases: NDArray[np.float32],
    ) -> float:
        """Return the mean nDCG@k of the users: what was trained on is left out of their lists."""
        items = ItemMatrix(item_embeddings, item_biases)
        ranked = top_k(
            items, user_embeddings[self.users], user_biases[self.users], self.k, *self.seen
        )
        return self.of_lists(ranked)

    def popularity_ndcg(self) -> float:
        """Return what the most popular items reach on the same users."""
        n_items = len(self._popularity)
        items = ItemMatrix(np.zeros((n_items, 1), np.float32), self._popularity)
        nothing = np.zeros((len(self.users), 1), np.float32)
        ranked = top_k(items, nothing, nothing[:, 0], self.k, *self.seen)
        return self.of_lists(ranked)

    def of_lists(self, ranked: Ranked) -> float:
        """Return the mean nDCG@k of lists, one for each of `users`."""
        n, n_items = self._wanted.shape
        lengths = np.diff(ranked.indptr)
        rows = np.repeat(np.arange(n), lengths)
        rank = np.arange(len(rows)) - np.repeat(ranked.indptr[:-1], lengths)
        counts = np.diff(self._wanted.indptr)
        relevant = np.repeat(np.arange(n), counts) * n_items + self._wanted.indices
        hits = np.isin(rows * n_items + ranked.items, relevant)
        discounts = 1 / np.log2(np.arange(2, self.k + 2))
        found = np.bincount(rows, weights=hits * discounts[rank], minlength=n)
        ideal = np.cumsum(discounts)[np.minimum(counts, self.k) - 1]
        return float(np.mean(found / ideal))


def _rows(labels: sp.coo_matrix, chosen: NDArray[np.bool_]) -> sp.csr_matrix:
    ones = np.ones(int(chosen.sum()), np.float32)
    made = sp.csr_matrix((ones, (labels.row[chosen], labels.col[chosen])), shape=labels.shape)
    made.sort_indices()
    return made


def refit_epochs(kept: int, share: float) -> int:
    """Return how many epochs on everything are as good as `kept` were without a share of the pairs.

    The more pairs there are, the longer it takes until a model learns them by heart, so that the
    number of epochs grows as the number of pairs does.
    """
    return round(kept / (1 - share))


class Search:
    """Looks at some epochs: whether one is the best so far, and whether to go on."""

    def __init__(self, validator: Validator, settings: Training) -> None:
        assert settings.early_stopping is not None  # noqa: S101 - who calls this has looked
        self._validator, self._settings = validator, settings.early_stopping
        self._last = settings.epochs
        self._now = 0
        self.epochs: list[int] = []
        self.curve: list[float] = []
        self.epoch = 0
        self._highest, self._ndcg = -1.0, 0.0
        self.best: Embeddings | None = None
        self.seconds = 0.0

    def __call__(self, current: Embeddings) -> bool:
        """Judge an epoch where it is its turn, and say whether to stop."""
        self._now += 1
        if self._now % self._settings.every and self._now < self._last:
            return False
        start = time.perf_counter()
        value = self._validator.ndcg(
            current.user_embeddings,
            current.user_biases,
            current.item_embeddings,
            current.item_biases,
        )
        self.epochs.append(self._now)
        self.curve.append(value)
        smooth = float(np.mean(self.curve[-self._settings.smoothing :]))
        if smooth > self._highest:
            self.epoch, self._highest, self._ndcg = self._now, smooth, value
            if not self._settings.refit:
                self.best = current.copy()
        self.seconds += time.perf_counter() - start
        return self._now - self.epoch >= self._settings.patience

    def report(self) -> dict[str, Any]:
        """Return the curve and what was kept, in plain JSON values."""
        return {
            "metric": f"ndcg@{self._validator.k}",
            "users": len(self._validator.users),
            "kept_epoch": self.epoch,
            "ndcg": self._ndcg,
            "popularity_ndcg": self._validator.popularity_ndcg(),
            "epochs": self.epochs,
            "curve": self.curve,
            "seconds": round(self.seconds, 3),
        }
