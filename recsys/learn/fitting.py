"""Fit a model: train it for the number of epochs that does best on pairs held out for it.

It runs on the driver. A labelled pair of user and item, with its rating and its age, goes through
these steps. (Pairs whose weight is 0 were left out before, by `matrices.without_weightless`.)

1. `search` holds the pair out or not (`early_stopping.hold_out`). Only positives are held out.
2. A pair that is not held out gets a weight from its rating, its age and the number of its user's
   pairs (`sample_weights`), and is trained on (`training`).
3. After each epoch the average of the model's states ranks items for users with held-out pairs,
   which are to be found (`early_stopping.Search`). This tells the best epoch.
4. `refit` trains a second model on all pairs, those that were held out too, for as many epochs as
   were best and a share more.
"""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.config.sections import EarlyStopping, Training
from recsys.learn import negatives
from recsys.learn.early_stopping import (
    Search,
    Validator,
    hold_out,
    nothing_held_out,
    refit_epochs,
)
from recsys.learn.embeddings import Embeddings
from recsys.learn.features import IDENTITIES, Sides
from recsys.learn.sample_weights import Labelled
from recsys.learn.state import State
from recsys.learn.training import train_on

log = logging.getLogger(__name__)

# A learning rate with which the logistic loss does well on drawn negatives. With the default, which
# suits WARP, validation rises so late that early stopping ends the training before.
_LOGISTIC_RATE = 0.1


@dataclass(frozen=True)
class Fitted:
    """A trained model, and how it was trained.

    Attributes:
        learned: the embeddings of features.
        embeddings: those of users and items; without features the same.
        epochs: for how many epochs this model was trained.
        report: of early stopping, in plain JSON values; empty without early stopping.
        negatives: what the model learned from as negatives, in plain JSON values; see
            `negatives.report`.
        state: what a training needs to go on; None unless `settings.resumable`.
    """

    learned: Embeddings
    embeddings: Embeddings
    epochs: int
    report: dict[str, Any]
    negatives: dict[str, int] | None
    state: State | None = None


def fit(
    labels: sp.coo_matrix,
    settings: Training,
    *,
    threads: int,
    ratings: NDArray[np.float32] | None = None,
    ages: NDArray[np.float32] | None = None,
    features: Sides = IDENTITIES,
) -> Fitted:
    """Train for the number of epochs that does best on pairs held out for it.

    Without `early_stopping` that is `settings.epochs`. With it, a first model is trained without a
    part of the pairs, until its nDCG on that part has not risen for `patience` epochs (see
    `early_stopping.Search`). With `refit` a second model is trained on all pairs, for
    `refit_epochs`. Without `refit` the model is the first one's state after its best epoch, which
    has not seen the held-out pairs.

    Args:
        labels: `(n_users, n_items)` COO, float32, 1 or -1, sorted by user and item.
        settings: hyperparameters.
        threads: CPU threads for the epochs.
        ratings: `(n_pairs,)` for `sample_weights.rating`.
        ages: `(n_pairs,)` days, for `sample_weights.half_life_days`.
        features: of the users and items.

    Raises:
        TrainingError: it cannot run as configured, the model diverged, or nothing can be held out.
    """
    pairs = Labelled(labels, ratings, ages)
    if settings.early_stopping is None:
        return refit(pairs, settings, settings.epochs, threads, features, {})
    found = search(pairs, settings, settings.early_stopping, threads, features)
    report = found.report()
    log_search(report, pairs, settings)
    if settings.early_stopping.refit:
        epochs = refit_epochs(found.epoch, settings.early_stopping.share)
        report = {**report, "refit_epochs": epochs}
        return refit(pairs, settings, epochs, threads, features, report)
    assert found.best is not None  # noqa: S101 - there was at least one epoch
    return Fitted(
        found.best,
        features.represent(found.best),
        found.epoch,
        {**report, "refit_epochs": None},
        negatives.report(labels, settings),
    )


def refit(
    pairs: Labelled,
    settings: Training,
    epochs: int,
    threads: int,
    features: Sides,
    report: dict[str, Any],
) -> Fitted:
    """Train on all pairs for a given number of epochs; `report` says where the number is from."""
    settings = settings.model_copy(update={"epochs": epochs})
    return _fitted(pairs, settings, threads, features, report)


def go_on(pairs: Labelled, settings: Training, start: State, threads: int) -> Fitted:
    """Train for `settings.epochs_from` epochs more, on all pairs.

    Args:
        pairs: all that there are.
        settings: hyperparameters.
        start: where an earlier training stopped, with a row for each user and item; it is changed.
        threads: CPU threads for the epochs.

    Raises:
        TrainingError: as `training.train`.
    """
    settings = settings.model_copy(update={"epochs": settings.epochs_from})
    return _fitted(pairs, settings, threads, IDENTITIES, {}, start)


def _fitted(
    pairs: Labelled,
    settings: Training,
    threads: int,
    features: Sides,
    report: dict[str, Any],
    start: State | None = None,
) -> Fitted:
    learned, state = _train(pairs, settings, threads, features, start=start)
    return Fitted(
        learned,
        features.represent(learned),
        state.epochs,
        report,
        negatives.report(pairs.labels, settings),
        state if settings.resumable else None,
    )


def _train(
    pairs: Labelled,
    settings: Training,
    threads: int,
    features: Sides,
    search: Search | None = None,
    start: State | None = None,
) -> tuple[Embeddings, State]:
    """Weigh the pairs and train on them."""
    return train_on(
        start,
        pairs.labels,
        settings,
        threads=threads,
        weights=pairs.weights(settings.sample_weights),
        features=features,
        stop=search,
    )


def search(
    pairs: Labelled,
    settings: Training,
    stopping: EarlyStopping,
    threads: int,
    features: Sides,
    *,
    keep: bool = False,
) -> Search:
    """Train without the held-out pairs and judge the epochs by them.

    Without the held-out pairs the mean of the weights is another one. Very small weights can become
    0 then, although they are not in the training on all pairs. An item that has no other pairs left
    is not trained, so nothing is judged by it.

    Args:
        pairs: all that there are.
        settings: of the training.
        stopping: what is held out, and when to stop.
        threads: CPU threads for the epochs.
        features: of the users and items.
        keep: whether to keep the best epoch's model, as is done without `stopping.refit`.

    Raises:
        TrainingError: nothing can be held out, or as `training.train`.
    """
    held_out = hold_out(pairs.labels, stopping, settings.seed)
    kept = ~held_out
    kept[kept] = pairs.only(kept).with_weight(settings.sample_weights)
    trained = np.bincount(pairs.labels.col[kept], minlength=pairs.labels.shape[1]) > 0
    judged = held_out & trained[pairs.labels.col]
    if not judged.any():
        raise nothing_held_out()
    validator = Validator(pairs.labels, judged, stopping, settings.seed)
    watching = Search(
        validator,
        stopping.model_copy(update={"refit": False}) if keep else stopping,
        settings.epochs,
        features.represent,
    )
    _train(pairs.only(kept), settings, threads, features, watching)
    return watching


def log_search(report: dict[str, Any], pairs: Labelled, settings: Training) -> None:
    """Log what the search found, and warn if the settings do not suit it."""
    ndcg, popularity = report["ndcg"], report["popularity_ndcg"]
    used_negatives = negatives.report(pairs.labels, settings)
    log.info(
        "validation %s %.4f at epoch %d of %d (popularity %.4f)",
        report["metric"],
        ndcg,
        report["kept_epoch"],
        report["epochs"][-1],
        popularity,
    )
    if report["kept_epoch"] == settings.epochs:
        log.warning("the last epoch was the best: training.epochs (%d) is low", settings.epochs)
    drawn = used_negatives is not None and used_negatives["drawn_per_epoch"] > 0
    slow = settings.learning_schedule == "adagrad" and settings.learning_rate < _LOGISTIC_RATE
    if drawn and slow and ndcg < 1.1 * popularity:
        log.warning(
            "the logistic model is hardly better than popular items: with drawn negatives it "
            "learns slowly; raise training.learning_rate (now %g), %g is good",
            settings.learning_rate,
            _LOGISTIC_RATE,
        )
