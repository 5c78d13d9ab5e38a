"""Train a LightFM model, for the number of epochs that does best on pairs held out for it.

No other module imports LightFM. It runs on the driver. A labelled pair of user and item, with its
rating and its age, goes through these steps. (Pairs whose weight is 0 were left out before, by
`matrices.without_weightless`.)

1. `fit` holds the pair out or not (`early_stopping.hold_out`). Only positives are held out.
2. A pair that is not held out gets a weight from its rating, its age and the number of its user's
   pairs (`sample_weights`).
3. `train` gives label and weight to LightFM in each epoch. With the logistic loss and no negatives
   in the data, unobserved items of the user join it (`negatives`).
4. After each epoch the model's state is added to the average of the states (`embeddings.Average`),
   and the average ranks items for users with held-out pairs, which are to be found
   (`early_stopping.Search`). This tells the best epoch.
5. `fit` trains a second model on all pairs, those that were held out too, for as many epochs as
   were best and a share more.
"""

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from tqdm import tqdm

from recsys.config.sections import EarlyStopping, Training
from recsys.errors import TrainingError
from recsys.learn import negatives
from recsys.learn.early_stopping import (
    Search,
    Validator,
    hold_out,
    nothing_held_out,
    refit_epochs,
)
from recsys.learn.embeddings import Average, Embeddings
from recsys.learn.features import IDENTITIES, Sides
from recsys.learn.sample_weights import Labelled
from recsys.runtime.signals import interruptible

log = logging.getLogger(__name__)

# A learning rate with which the logistic loss does well on drawn negatives. With the default, which
# suits WARP, validation rises so late that early stopping ends the training before.
_LOGISTIC_RATE = 0.1


def has_openmp() -> bool:
    """Whether LightFM was built with OpenMP; without it, it falls back to one thread."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own warning says no more than this function does
        import lightfm._lightfm_fast as fast

    return "no_openmp" not in str(fast.fit_warp.__module__)


def check_threads(threads: int) -> None:
    """Refuse more threads than LightFM can run.

    Raises:
        TrainingError: LightFM lacks OpenMP and more than one thread is asked for.
    """
    if threads > 1 and not has_openmp():
        raise TrainingError(
            f"training on {threads} threads needs a LightFM with OpenMP, and this one was built "
            "without; set training.threads to 1, or install lightfm-next with a compiler that has "
            "OpenMP (gcc)"
        )


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
    """

    learned: Embeddings
    embeddings: Embeddings
    epochs: int
    report: dict[str, Any]
    negatives: dict[str, int] | None


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
    used_negatives = negatives.report(labels, settings)
    if settings.early_stopping is None:
        learned = _train(pairs, settings, threads, features)
        embeddings = features.represent(learned)
        return Fitted(learned, embeddings, settings.epochs, {}, used_negatives)
    search = _search_epoch(pairs, settings, settings.early_stopping, threads, features)
    report, epochs = search.report(), search.epoch
    _log(report, settings, used_negatives)
    if not settings.early_stopping.refit:
        assert search.best is not None  # noqa: S101 - there was at least one epoch
        embeddings, report = features.represent(search.best), {**report, "refit_epochs": None}
        return Fitted(search.best, embeddings, epochs, report, used_negatives)
    epochs = refit_epochs(epochs, settings.early_stopping.share)
    learned = _train(pairs, settings.model_copy(update={"epochs": epochs}), threads, features)
    embeddings, report = features.represent(learned), {**report, "refit_epochs": epochs}
    return Fitted(learned, embeddings, epochs, report, used_negatives)


def _train(
    pairs: Labelled,
    settings: Training,
    threads: int,
    features: Sides,
    search: Search | None = None,
) -> Embeddings:
    """Weigh the pairs and train on them."""
    weights = pairs.weights(settings.sample_weights)
    return train(
        pairs.labels, settings, threads=threads, weights=weights, features=features, stop=search
    )


def _search_epoch(
    pairs: Labelled,
    settings: Training,
    stopping: EarlyStopping,
    threads: int,
    features: Sides,
) -> Search:
    """Train without the held-out pairs and judge the epochs by them.

    Without the held-out pairs the mean of the weights is another one. Very small weights can become
    0 then, although they are not in the training on all pairs. An item that has no other pairs left
    is not trained, so nothing is judged by it.
    """
    held_out = hold_out(pairs.labels, stopping, settings.seed)
    kept = ~held_out
    kept[kept] = pairs.only(kept).with_weight(settings.sample_weights)
    trained = np.bincount(pairs.labels.col[kept], minlength=pairs.labels.shape[1]) > 0
    judged = held_out & trained[pairs.labels.col]
    if not judged.any():
        raise nothing_held_out()
    validator = Validator(pairs.labels, judged, stopping, settings.seed)
    search = Search(validator, stopping, settings.epochs, features.represent)
    _train(pairs.only(kept), settings, threads, features, search)
    return search


def _log(report: dict[str, Any], settings: Training, used_negatives: dict[str, int] | None) -> None:
    """Log what the search found, and warn if the settings do not suit it."""
    ndcg, popularity = report["ndcg"], report["popularity_ndcg"]
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


def train(
    labels: sp.coo_matrix,
    settings: Training,
    *,
    threads: int,
    weights: NDArray[np.float32] | None = None,
    features: Sides = IDENTITIES,
    stop: Callable[[Embeddings], bool] | None = None,
) -> Embeddings:
    """Train a LightFM model for a given number of epochs, and return the average of its states.

    Args:
        labels: `(n_users, n_items)` COO, float32, 1 or -1, sorted by user and item. With one thread
            the same labels, in the same order, and the same seed give the same bits.
        settings: LightFM's hyperparameters, epochs and seed.
        threads: CPU threads for the epochs.
        weights: `(n_pairs,)` how much each pair counts; None: all the same.
        features: of the users and items; the embeddings that are returned are those of features.
        stop: called with the average after each epoch; returns whether to stop.

    Raises:
        TrainingError: it cannot run as configured, or the model diverged.
    """
    check_threads(threads)
    per_positive = negatives.drawn_per_positive(settings, negatives.count(labels))
    examples = negatives.examples(labels, weights, per_positive, settings.seed)
    model = _lightfm(settings, steps_per_pair=1 + per_positive)
    average = Average(settings.ema_decay)
    progress = tqdm(range(1, settings.epochs + 1), desc="epochs", unit="epoch", disable=None)
    for epoch in progress:
        interruptible(partial(_run_epoch, model, examples, features, epoch, threads, settings))
        _check_converging(model, epoch, settings)
        current = average.add(
            Embeddings(
                user_embeddings=model.user_embeddings,
                user_biases=model.user_biases,
                item_embeddings=model.item_embeddings,
                item_biases=model.item_biases,
            )
        )
        if progress.disable:  # without a terminal there is no progress bar
            log.info("epoch %d of %d", epoch, settings.epochs)
        if stop is not None and interruptible(partial(stop, current)):
            break
    progress.close()
    return current


def _lightfm(settings: Training, steps_per_pair: int) -> Any:
    """Return an untrained model; LightFM applies the penalties once in each step."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lightfm import LightFM
    return LightFM(
        no_components=settings.no_components,
        k=settings.k,
        n=settings.n,
        learning_schedule=settings.learning_schedule,
        loss=settings.loss,
        learning_rate=settings.learning_rate,
        rho=settings.rho,
        epsilon=settings.epsilon,
        item_alpha=settings.item_alpha / steps_per_pair,
        user_alpha=settings.user_alpha / steps_per_pair,
        max_sampled=settings.max_sampled,
        random_state=settings.seed,
    )


def _run_epoch(
    model: Any,
    examples: Callable[[int], negatives.Examples],
    features: Sides,
    epoch: int,
    threads: int,
    settings: Training,
) -> None:
    now = examples(epoch)
    try:
        model.fit_partial(
            now.labels,
            user_features=None if features.users is None else features.users.weights,
            item_features=None if features.items is None else features.items.weights,
            sample_weight=now.weights,
            epochs=1,
            num_threads=threads,
        )
    except ValueError as error:
        if "finite" not in str(error):
            raise
        raise TrainingError(_advice("a parameter is not finite", settings)) from error


def _check_converging(model: Any, epoch: int, settings: Training) -> None:
    """Stop a model that diverges.

    Diverged models need not have numbers that are not finite: WARP with a learning rate of 0.25
    gives finite scores of 4e8.
    """
    for name in ("item", "user"):
        embeddings = getattr(model, f"{name}_embeddings")
        biases = getattr(model, f"{name}_biases")
        longest = float(np.sqrt(np.max(np.einsum("ij,ij->i", embeddings, embeddings))))
        if not (np.isfinite(biases).all() and longest <= settings.max_embedding_norm):
            raise TrainingError(
                _advice(
                    f"after epoch {epoch} the longest {name} embedding is {longest:.3g}, above "
                    f"training.max_embedding_norm ({settings.max_embedding_norm:g})",
                    settings,
                )
            )


def _advice(found: str, settings: Training) -> str:
    advice = (
        f"training.learning_rate {min(settings.learning_rate / 5, 0.05):.3g} (now "
        f"{settings.learning_rate:g})"
        if settings.learning_schedule == "adagrad"
        else "training.learning_schedule adagrad with training.learning_rate 0.05"
    )
    return (
        f"the {settings.loss} model diverged: {found}; try {advice}, or training.item_alpha and "
        "training.user_alpha of 1e-6 to 1e-5"
    )
