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
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.config.sections import EarlyStopping, Training
from recsys.learn import negatives
from recsys.learn.budget import NO_REFIT, Budget, Pace
from recsys.learn.early_stopping import (
    Search,
    Validator,
    hold_out,
    nothing_held_out,
    refit_epochs,
)
from recsys.learn.embeddings import Embeddings
from recsys.learn.features import IDENTITIES, Sides
from recsys.learn.penalty import Penalties, of_part, penalties
from recsys.learn.sample_weights import Labelled
from recsys.learn.search_log import log_search
from recsys.learn.state import State
from recsys.learn.training import train_on

log = logging.getLogger(__name__)


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
        penalties: that it was trained with.
        found: the search for the best epoch, with that epoch's model; None without early stopping.
        state: what a training needs to go on; None unless `settings.resumable`.
    """

    learned: Embeddings
    embeddings: Embeddings
    epochs: int
    report: dict[str, Any]
    negatives: dict[str, int] | None
    penalties: Penalties
    found: Search | None = None
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

    It is `find`, and then `finish`.

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
    pairs, budget = Labelled(labels, ratings, ages), Budget()
    found = find(pairs, settings, threads, features, settings.seed, budget)
    return finish(pairs, settings, found, threads, features, budget)


def find(
    pairs: Labelled,
    settings: Training,
    threads: int,
    features: Sides,
    part_seed: int,
    budget: Budget,
    *,
    kept_back: float | None = None,
    shared_by: int = 1,
) -> Search | None:
    """Find the best epoch by a training without a part of the pairs; see `early_stopping.Search`.

    Args:
        pairs: all that there are.
        settings: hyperparameters.
        threads: CPU threads for the epochs.
        features: of the users and items.
        part_seed: decides what is held out.
        budget: ends the search where the time is needed for what follows.
        kept_back: seconds that have to be left; None: the budget's reserve.
        shared_by: among how many searches what is left is to be shared.

    Returns:
        The search, with the best epoch's model; None without early stopping.

    Raises:
        TrainingError: nothing can be held out, or as `training.train`.
    """
    stopping = settings.early_stopping
    if stopping is None:
        return None
    # The second training has as many more epochs; `search` adds that it has more pairs.
    again = 1 / (1 - stopping.share) if stopping.refit else 0.0
    kept_back = budget.reserve if kept_back is None else kept_back
    pace = Pace(budget, settings.epochs, kept_back, again=again, shared_by=shared_by)
    found = search(pairs, settings, stopping, threads, features, part_seed=part_seed, pace=pace)
    log_search(found.report(), pairs, settings)
    return found


def seconds_to_finish(found: Search | None, settings: Training) -> float:
    """Return how long the second training will take, by what an epoch of the search took."""
    stopping = settings.early_stopping
    if found is None or stopping is None or not (stopping.refit and found.pace.refits):
        return 0.0
    epochs = refit_epochs(found.epoch, stopping.share)
    return epochs * found.pace.per_epoch * found.growth


def finish(
    pairs: Labelled,
    settings: Training,
    found: Search | None,
    threads: int,
    features: Sides,
    budget: Budget,
    kept_back: float | None = None,
    shared_by: int = 1,
) -> Fitted:
    """Train on all pairs for as many epochs as were best and a share more.

    Without early stopping it is `settings.epochs`. Without `early_stopping.refit`, or where there
    is no time for at least half of the epochs, the model is that of the search's best epoch, which
    has not seen the held-out pairs.

    Args:
        pairs: all that there are.
        settings: hyperparameters.
        found: what `find` returned.
        threads: CPU threads for the epochs.
        features: of the users and items.
        budget: ends the training.
        kept_back: seconds that have to be left; None: the budget's reserve.
        shared_by: among how many trainings what is left is to be shared, without early stopping.

    Raises:
        TrainingError: as `training.train`.
    """
    kept_back = budget.reserve if kept_back is None else kept_back
    stopping = settings.early_stopping
    if found is None or stopping is None:
        pace = Pace(budget, settings.epochs, kept_back, shared_by=shared_by)
        return refit(pairs, settings, settings.epochs, threads, features, {}, pace)
    report = found.report()
    epochs = refit_epochs(found.epoch, stopping.share)
    seconds = seconds_to_finish(found, settings)
    enough = found.pace.refits and seconds / 2 <= budget.left() - kept_back
    # Who was not drawn for the search has to be trained, however short the time is.
    enough = enough or found.sampled
    if stopping.refit and enough:
        report = {**report, "refit_epochs": epochs}
        settings = settings.model_copy(update={"start": found.start})
        pace = Pace(budget, epochs, kept_back)
        return replace(refit(pairs, settings, epochs, threads, features, report, pace), found=found)
    if stopping.refit:
        budget.give_up(NO_REFIT)
    assert found.best is not None  # noqa: S101 - there was at least one epoch
    return Fitted(
        found.best,
        features.represent(found.best),
        found.epoch,
        {**report, "refit_epochs": None},
        negatives.report(pairs.labels, settings),
        penalties(_of_search(settings, stopping, found.labels, pairs.labels), found.labels),
        found,
    )


def refit(
    pairs: Labelled,
    settings: Training,
    epochs: int,
    threads: int,
    features: Sides,
    report: dict[str, Any],
    pace: Pace,
) -> Fitted:
    """Train on all pairs for a given number of epochs; `report` says where the number is from."""
    settings = settings.model_copy(update={"epochs": epochs})
    learned, state = _train(pairs, settings, threads, features, lambda current: pace())
    return _fitted(pairs, settings, features, report, learned, state)


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
    learned, state = _train(pairs, settings, threads, IDENTITIES, None, start)
    return _fitted(pairs, settings, IDENTITIES, {}, learned, state)


def _fitted(
    pairs: Labelled,
    settings: Training,
    features: Sides,
    report: dict[str, Any],
    learned: Embeddings,
    state: State,
) -> Fitted:
    return Fitted(
        learned,
        features.represent(learned),
        state.epochs,
        report,
        negatives.report(pairs.labels, settings),
        penalties(settings, pairs.labels),
        state=state if settings.resumable else None,
    )


def _train(
    pairs: Labelled,
    settings: Training,
    threads: int,
    features: Sides,
    stop: Callable[[Embeddings], bool] | None,
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
        stop=stop,
        accept=stop.accept if isinstance(stop, Search) else None,
    )


def _of_search(
    settings: Training, stopping: EarlyStopping, part: sp.coo_matrix, labels: sp.coo_matrix
) -> Training:
    """Return the settings of a search, which trains on a part of the pairs."""
    # Without a second training the search's model is the model, and trains as configured.
    return of_part(settings, part, labels) if stopping.refit else settings


def search(
    pairs: Labelled,
    settings: Training,
    stopping: EarlyStopping,
    threads: int,
    features: Sides,
    *,
    part_seed: int | None = None,
    pace: Pace | None = None,
    watch: Callable[[int, float], bool] | None = None,
) -> Search:
    """Train without the held-out pairs and judge the epochs by them.

    Without the held-out pairs the mean of the weights is another one. Very small weights can become
    0 then, although they are not in the training on all pairs. An item that has no other liked pair
    left is not trained as one that is liked, so nothing is judged by it.

    Args:
        pairs: all that there are.
        settings: of the training.
        stopping: what is held out, and when to stop.
        threads: CPU threads for the epochs.
        features: of the users and items.
        part_seed: decides what is held out; None: `settings.seed`.
        pace: says whether there is time for another epoch; None: there is.
        watch: as `Search` takes it.

    Returns:
        The search, with the best epoch's model.

    Raises:
        TrainingError: nothing can be held out, or as `training.train`.
    """
    seed = settings.seed if part_seed is None else part_seed
    whole = pairs.labels
    if stopping.refit:  # else this training's model is the model, and everybody is to be in it
        pairs = pairs.of_some_users(stopping.max_pairs, seed)
    held_out = hold_out(pairs.labels, stopping, seed)
    kept = ~held_out
    kept[kept] = pairs.only(kept).with_weight(settings.sample_weights)
    liked = pairs.labels.col[kept & (pairs.labels.data > 0)]
    trained = np.bincount(liked, minlength=pairs.labels.shape[1]) > 0
    judged = held_out & trained[pairs.labels.col]
    if not judged.any():
        raise nothing_held_out()
    validator = Validator(pairs.labels, judged, stopping, seed)
    part = pairs.only(kept)
    settings = _of_search(settings, stopping, part.labels, whole)
    pace = pace or Pace(Budget(), settings.epochs, 0.0)
    watching = Search(
        validator, stopping, settings.epochs, features.represent, part.labels, pace, watch
    )
    watching.growth = len(whole.data) / len(part.labels.data)
    watching.sampled = len(pairs.labels.data) < len(whole.data)
    pace.again *= watching.growth
    if settings.start == "spectral":
        watching.start = settings.start
    _train(part, settings, threads, features, watching)
    return watching
