"""Find the best epoch: hold out some pairs, and judge each epoch's lists by them. On the driver.

The held-out pairs and the users whose lists are judged are chosen once, so that two epochs differ
by the model alone.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.config.sections import EarlyStopping
from recsys.errors import TrainingError
from recsys.kernel.metrics import accuracy
from recsys.kernel.topk import ItemMatrix, Ranked, top_k
from recsys.learn.budget import Budget, Pace
from recsys.learn.embeddings import Embeddings

# How much better than popular items the first epoch from a spectral start has to be.
_AHEAD = 1.1


def hold_out(labels: sp.coo_matrix, settings: EarlyStopping, seed: int) -> NDArray[np.bool_]:
    """Choose a share of each item's positive pairs, the same for the same labels and seed.

    Of each item at least one pair stays in training, so that every item that is judged was trained.
    Negatives are never held out.

    Args:
        labels: `(n_users, n_items)` COO, sorted by user and item, each pair once.
        settings: the share.
        seed: of the draw.

    Returns:
        `(n_pairs,)`, True for the pairs that are held out.

    Raises:
        TrainingError: there is nothing to hold out.
    """
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
    if not held_out.any():
        raise nothing_held_out()
    return held_out


def nothing_held_out() -> TrainingError:
    """Return what to raise where no pair is there to judge epochs by."""
    return TrainingError(
        "training.early_stopping: expected items with several positive pairs to hold some of them "
        "out, found none; set training.early_stopping to null, which trains for training.epochs"
    )


class Validator:
    """Judges embeddings by held-out pairs, on a fixed sample of the users who have any.

    Attributes:
        users: `(n,)` rows of the users who are judged, ascending.
        k: the length of a list.
        items: `(n_items,)`, True for the items of held-out pairs, of all users.
        seen: as `top_k` takes it, the items that each of these users was trained with; they are
            left out of the user's list.
    """

    def __init__(
        self,
        labels: sp.coo_matrix,
        held_out: NDArray[np.bool_],
        settings: EarlyStopping,
        seed: int,
    ) -> None:
        """Choose the users.

        Args:
            labels: `(n_users, n_items)` COO, all pairs.
            held_out: `(n_pairs,)`, from `hold_out`.
            settings: k, and the largest number of users.
            seed: of the sample of users.
        """
        wanted = _rows(labels, held_out)
        users = np.flatnonzero(np.diff(wanted.indptr))
        if len(users) > settings.max_users:
            draw = np.random.default_rng(seed).permutation(len(users))[: settings.max_users]
            users = np.sort(users[draw])
        self.users = users
        self.k = settings.k
        self.items = np.bincount(labels.col[held_out], minlength=labels.shape[1]) > 0
        seen = _rows(labels, ~held_out)[users]
        self.seen = seen.indptr.astype(np.int64), seen.indices.astype(np.int32)
        self._wanted = wanted[users]
        self._popularity = np.bincount(labels.col[~held_out], minlength=labels.shape[1]).astype(
            np.float32
        )

    def ndcg(self, model: Embeddings) -> float:
        """Return the mean nDCG@k of the users' lists by a model."""
        return float(np.mean(self.by_user(model)))

    def by_user(self, model: Embeddings) -> NDArray[np.float64]:
        """Return the nDCG@k of each user's list by a model."""
        vectors = model.user_embeddings[self.users]
        return self.of_vectors(vectors, model.item_embeddings, model.item_biases)

    def of_vectors(
        self,
        users: NDArray[np.float32],
        items: NDArray[np.float32],
        biases: NDArray[np.float32],
        rows: NDArray[np.int64] | None = None,
    ) -> NDArray[np.float64]:
        """Return the nDCG@k of each user's list by vectors.

        Args:
            users: `(n, d)` float32, one for each of `self.users`, or of those in `rows`.
            items: `(n_items, d)` float32.
            biases: `(n_items,)` float32, of the items. Those of users change no list.
            rows: positions in `self.users`, ascending; None: all.
        """
        rows = np.arange(len(self.users)) if rows is None else rows
        matrix = ItemMatrix(np.ascontiguousarray(items), biases)
        indptr, seen = self.seen
        lengths = np.diff(indptr)[rows]
        own = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        at = np.repeat(indptr[rows] - own[:-1], lengths) + np.arange(own[-1])
        nothing = np.zeros(len(users), np.float32)
        ranked = top_k(matrix, np.ascontiguousarray(users), nothing, self.k, own, seen[at])
        wanted = self._wanted[rows]
        return accuracy(ranked.indptr, ranked.items, wanted.indptr, wanted.indices, [self.k])[
            self.k
        ]["ndcg"]

    def popularity_ndcg(self) -> float:
        """Return the mean nDCG@k of the same users' lists of the most popular items."""
        n_items = len(self._popularity)
        items = ItemMatrix(np.zeros((n_items, 1), np.float32), self._popularity)
        nothing = np.zeros((len(self.users), 1), np.float32)
        ranked = top_k(items, nothing, nothing[:, 0], self.k, *self.seen)
        return float(np.mean(self.of_lists(ranked)))

    def of_lists(self, ranked: Ranked) -> NDArray[np.float64]:
        """Return the nDCG@k of lists, one for each of `users`."""
        wanted = self._wanted.indptr, self._wanted.indices
        return accuracy(ranked.indptr, ranked.items, *wanted, [self.k])[self.k]["ndcg"]


def _rows(labels: sp.coo_matrix, chosen: NDArray[np.bool_]) -> sp.csr_matrix:
    """Return the chosen pairs by user."""
    ones = np.ones(int(chosen.sum()), np.float32)
    made = sp.csr_matrix((ones, (labels.row[chosen], labels.col[chosen])), shape=labels.shape)
    made.sort_indices()
    return made


def refit_epochs(kept: int, share: float) -> int:
    """Return how many epochs to train on all pairs, if `kept` were best without a share of them.

    With more pairs a model overfits later, so the number of epochs grows as the number of pairs.
    """
    return round(kept / (1 - share))


class _Clock:
    """Measures time and the processor's time since it was made, without the pauses."""

    def __init__(self) -> None:
        self._start = self._now()
        self._paused = np.zeros(2)

    @staticmethod
    def _now() -> NDArray[np.float64]:
        return np.array([time.perf_counter(), time.process_time()])

    @property
    def paused_seconds(self) -> float:
        return float(self._paused[0])

    def running(self) -> tuple[float, float]:
        """Return the seconds, and those of the processor, without the pauses."""
        seconds, cpu = self._now() - self._start - self._paused
        return float(seconds), float(cpu)

    @contextmanager
    def paused(self) -> Iterator[None]:
        start = self._now()
        yield
        self._paused += self._now() - start


class Search:
    """Watches a training: which epoch is the best so far, and whether to stop.

    Attributes:
        validator: judges models.
        epoch: the best epoch so far, counted from 1; 0 before the first one that was judged.
        best: what was learned until that epoch; None before the first one that was judged.
        labels: the pairs that are trained on.
        pace: how long an epoch takes, and whether time has ended the search.
        growth: how many times as many pairs there are as are trained on.
        sampled: whether some users are left out altogether.
        epochs: the epochs that were judged.
        curve: their nDCG.
        training_seconds: since this was made, without the judging, for each of them.
        training_cpu: likewise in seconds of the processor, of all threads together.
        seconds: the time that judging took.
        start: how the training begins: `random`, or `spectral` once `accept` or the caller has said
            so.
    """

    def __init__(
        self,
        validator: Validator,
        settings: EarlyStopping,
        last_epoch: int,
        represent: Callable[[Embeddings], Embeddings] = lambda learned: learned,
        labels: sp.coo_matrix | None = None,
        pace: Pace | None = None,
        watch: Callable[[int, float], bool] | None = None,
    ) -> None:
        """Begin before the first epoch.

        Args:
            validator: judges models.
            settings: when to stop.
            last_epoch: how many epochs there may be.
            represent: makes the users and items that are judged of what was learned.
            labels: the pairs that are trained on.
            pace: says whether there is time for another epoch; None: there is.
            watch: called with the number of each epoch that was judged and its nDCG; returns
                whether to stop.
        """
        self.growth, self.sampled = 1.0, False
        self.pace = pace or Pace(Budget(), last_epoch, 0.0)
        self.represent, self.labels, self._watch = represent, labels, watch
        self.validator, self._settings, self._last = validator, settings, last_epoch
        self._now = 0
        self._highest, self._ndcg = -1.0, 0.0
        self.epoch = 0
        self.best: Embeddings | None = None
        self.epochs: list[int] = []
        self.curve: list[float] = []
        self.training_seconds: list[float] = []
        self.training_cpu: list[float] = []
        self.seconds = 0.0
        self._clock = _Clock()
        self.start = "random"
        self._popularity: float | None = None

    def accept(self, current: Embeddings) -> bool:
        """Take the model after the first epoch from a spectral start, say whether to go on from it.

        It has to be better than lists of popular items by `_AHEAD`. Where popularity says most of
        what there is to say, the decomposition says little more, and what it says wrongly is
        not unlearned.
        """
        with self._clock.paused():
            found = self.validator.ndcg(self.represent(current))
            accepted = found > _AHEAD * self.popularity_ndcg()
            self.start = "spectral" if accepted else "random"
        self.seconds = self._clock.paused_seconds
        return accepted

    def popularity_ndcg(self) -> float:
        """Return what popular items reach on the validator's users."""
        if self._popularity is None:
            self._popularity = self.validator.popularity_ndcg()
        return self._popularity

    def __call__(self, current: Embeddings) -> bool:
        """Take the model after the next epoch, judge it if it is its turn, say whether to stop.

        Every `every`-th epoch is judged, and the last one. What is compared is the mean of the last
        `smoothing` values.
        """
        self._now += 1
        out_of_time = self.pace()
        if self._now % self._settings.every and self._now < self._last and not out_of_time:
            return False
        seconds, cpu = self._clock.running()
        with self._clock.paused():
            value = self.validator.ndcg(self.represent(current))
            self.epochs.append(self._now)
            self.curve.append(value)
            self.training_seconds.append(seconds)
            self.training_cpu.append(cpu)
            smooth = float(np.mean(self.curve[-self._settings.smoothing :]))
            if smooth > self._highest:
                self.epoch, self._highest, self._ndcg = self._now, smooth, value
                self.best = current.copy()
        self.seconds = self._clock.paused_seconds
        if self._watch is not None and self._watch(self._now, value):
            return True
        return out_of_time or self._now - self.epoch >= self._settings.patience

    def model(self) -> Embeddings:
        """Return the users and items of the best epoch; there has to be one."""
        assert self.best is not None  # noqa: S101 - an epoch was judged
        return self.represent(self.best)

    @property
    def ndcg(self) -> float:
        """The nDCG of the best epoch so far; 0 before the first one that was judged."""
        return self._ndcg

    def report(self) -> dict[str, Any]:
        """Return the curve and the best epoch, in plain JSON values."""
        return {
            "metric": f"ndcg@{self.validator.k}",
            "users": len(self.validator.users),
            "kept_epoch": self.epoch,
            "ndcg": self._ndcg,
            "popularity_ndcg": self.popularity_ndcg(),
            "start": self.start,
            "epochs": self.epochs,
            "curve": self.curve,
            "training_seconds": [round(seconds, 6) for seconds in self.training_seconds],
            "seconds": round(self.seconds, 3),
        }
